"""Finds the reader for an audio file or pipe, and compares what headers say with what is there.

WAV is read by our own reader; anything else by libsndfile or PyAV, from a spooled copy where the
source cannot seek.
"""

from __future__ import annotations

import io
import os
import re
import shutil
from contextlib import ExitStack, suppress
from dataclasses import replace
from typing import BinaryIO

import soundfile

from ravecodec.audio import iff, mpeg, ogg, tags
from ravecodec.audio.channels import from_mask
from ravecodec.audio.decoders import (
    EXTRA,
    READABLE,
    AvReader,
    Part,
    PcmReader,
    Reader,
    SoundFileReader,
    has_av,
)
from ravecodec.audio.magic import ALSO_RIFF, HEADERS, begins_like_audio, foreign_format
from ravecodec.audio.tag_reading import read_metadata, read_tags
from ravecodec.audio.tag_set import TagSet
from ravecodec.audio.wav import HeaderReader, PcmLayout, read_exactly
from ravecodec.errors import InputError
from ravecodec.files import temporary_file
from ravecodec.views import Bytes, View

MAX_CHANNELS = 2
IGNORE = "--ignore-length"
_PIP = f"more is read after `pip install 'ravecodec[{EXTRA}]'` (PyAV)"
_MASK = b"WAVEFORMATEXTENSIBLE_CHANNEL_MASK="
_MOST_COMMENTS = 1 << 20  # bytes of a FLAC file that are searched for it
_TAG_CHUNKS = {b"LIST", b"bext", b"id3 ", b"ID3 "}  # of RIFF
_LOOK = 1 << 16  # bytes of a pipe that are looked at before it is spooled
# Head of FLAC's first metadata block, or its only one.
_STREAMINFO = (b"\x00\x00\x00\x22", b"\x80\x00\x00\x22")


def truncated(
    name: str, there: int, announced: int, what: str, ignore: bool, remarks: list[str]
) -> None:
    """InputError, or with `ignore` a remark."""
    sentence = f"{name}: is truncated after {there} {what}, expected {announced} as its header says"
    if not ignore:
        raise InputError(f"{sentence}; {IGNORE} takes what is there")
    remarks.append(sentence)


class Opening:
    """Finds the reader for a stream; what is odd and allowed goes to `remarks`."""

    def __init__(
        self,
        name: str,
        stream: BinaryIO,
        resources: ExitStack,
        ignore_length: bool,
        tags: TagSet | None = None,
    ) -> None:
        self.remarks: list[str] = []
        self._tags = tags
        self._name = name
        self._stream = stream
        self._resources = resources
        self._ignore = ignore_length

    @property
    def tags(self) -> dict[str, list[str]]:
        """The tags that were asked for and found."""
        return self._tags.tags if self._tags is not None else {}

    def reader(self, *, can_seek: bool) -> Reader:
        """WAV by our own reader; anything else by libsndfile, from a spooled copy where the source
        cannot seek.
        """
        header = HeaderReader(self._stream)
        layout = header.layout()
        if layout is not None and not can_seek:
            self._read_tags(io.BytesIO(header.seen))
            return self._pcm_pipe(layout)
        if layout is not None:
            start = self._stream.tell()
            self._read_tags(self._stream)
            return self._pcm_file(layout, start)
        if not header.seen:
            raise InputError(f"{self._name}: is empty (0 bytes), expected audio")
        if not can_seek:
            self._stream = self._spooled(bytes(header.seen))
        self._read_tags(self._stream)
        reader = self._container(Bytes(self._stream))
        if (
            self._tags is not None
            and isinstance(reader, AvReader)
            and reader.container == "MATROSKA"
        ):
            read_metadata(reader.metadata, self._tags)
        return reader

    def _read_tags(self, stream: BinaryIO) -> None:
        """Before a reader is opened, because libsndfile reads where the descriptor stands."""
        if self._tags is not None:
            read_tags(stream, self._tags)
            self.remarks += [f"{self._name}: {remark}" for remark in self._tags.remarks()]

    def _or_remark(self, sentence: str) -> None:
        if not self._ignore:
            raise InputError(f"{self._name}: {sentence}; {IGNORE} takes what is there")
        self.remarks.append(f"{self._name}: {sentence}")

    # ---- WAV ----

    def _pcm_file(self, layout: PcmLayout, start: int) -> Reader:
        """The header's length is compared with the file's. start: the first byte of sound."""
        there = self._stream.seek(0, os.SEEK_END) - start
        layout = self._measured(layout, start, there)
        self._stream.seek(start)
        return PcmReader(self._name, self._stream, layout, "WAV")

    def _measured(self, layout: PcmLayout, start: int, there: int) -> PcmLayout:
        frames = there // layout.frame_bytes
        all_of_it = replace(layout, frames=frames, exact=True)
        if layout.frames is None or (frames <= layout.frames and not layout.exact):
            return all_of_it
        if frames < layout.frames:
            truncated(self._name, frames, layout.frames, "samples", self._ignore, self.remarks)
            return all_of_it
        stop = start + layout.frames * layout.frame_bytes
        if iff.riff_rest_is_chunks(Bytes(self._stream), stop):
            return replace(layout, exact=True)
        if layout.exact:
            self._or_remark(
                _goes_on(layout.frames, f"{there - (stop - start)} bytes that are no chunks")
            )
        return all_of_it

    def _pcm_pipe(self, layout: PcmLayout) -> Reader:
        """What follows the announced samples is looked at when they have been read."""
        if not layout.exact or layout.frames is None or self._ignore:  # tags behind are not seen
            return PcmReader(
                self._name, self._stream, replace(layout, frames=None, exact=False), "WAV"
            )
        frames = layout.frames

        def behind() -> None:
            names: set[bytes] = set()
            if not _only_chunks_follow(self._stream, (frames * layout.frame_bytes) % 2, names):
                self._or_remark(_goes_on(frames, "bytes that are no chunks"))
            if self._tags is not None and names & _TAG_CHUNKS:
                self.remarks.append(
                    f"{self._name}: tags stand behind the sound, where a pipe has them too late; "
                    "they are not carried (a file's are)"
                )

        return PcmReader(self._name, self._stream, layout, "WAV", behind)

    # ---- other containers ----

    def _spooled(self, seen: bytes) -> BinaryIO:
        """A temporary file with `seen` and the rest of the stream, if they begin like audio."""
        seen += read_exactly(self._stream, max(0, _LOOK - len(seen)))
        if not begins_like_audio(seen):
            raise self._no_audio(seen)
        return spool(seen, self._stream, self._resources)

    def _no_audio(self, start: bytes) -> InputError:
        return InputError(
            f"{self._name}: cannot be read as audio (Format not recognised, begins with "
            f"{start[:8].hex(' ')}), "
            f"expected {READABLE}"
        )

    def _container(self, data: Bytes) -> Reader:
        begin, stop = tags.without_tags(data)
        magic = data.at(begin, 4)
        if magic == b"OggS":
            return self._ogg(data, begin, stop)
        if magic == b"fLaC":
            return self._flac(data, begin, stop)
        if foreign := foreign_format(data.at(0, 16), data.at(188, 1)):
            return self._foreign(foreign)
        if magic in HEADERS or data.at(0, 4) in ALSO_RIFF:
            return self._chunks(data)
        if (first := mpeg.find_first(data, begin, stop)) is not None:
            return self._mpeg(data, begin, first, stop)
        try:
            return self._soundfile([Part()])
        except InputError as error:
            raise error if has_av() else InputError(f"{error}; {_PIP}") from error

    def _soundfile_or_av(self, parts: list[Part]) -> Reader:
        """FFmpeg knows codecs that libsndfile does not, in containers that both know."""
        try:
            return self._soundfile(parts)
        except InputError as error:
            if not isinstance(error.__cause__, soundfile.LibsndfileError):
                raise
            if not has_av():
                raise InputError(f"{error}; {_PIP}") from error
            with suppress(InputError):
                return AvReader(self._name, self._stream, self._resources)
            raise

    def _soundfile(self, parts: list[Part]) -> SoundFileReader:
        return SoundFileReader(
            self._name, self._stream, parts, self._resources, ignore_length=self._ignore
        )

    def _foreign(self, what: str) -> Reader:
        if not has_av():
            raise InputError(
                f"{self._name}: is {what}; to read it, `pip install 'ravecodec[{EXTRA}]'` (PyAV)"
            )
        return AvReader(self._name, self._stream, self._resources)

    def _mpeg(self, data: Bytes, begin: int, first: int, stop: int) -> Reader:
        layout = mpeg.scan(data, first, stop)
        pieces = [piece for piece in layout.pieces if piece.frames]
        if not pieces:
            raise InputError(f"{self._name}: is MPEG audio without a whole frame")
        before = [(begin, first)] if first > begin else []
        for low, high in before + layout.junk:
            self.remarks.append(
                f"{self._name}: {high - low} bytes at byte {low} are no MPEG audio, passed over"
            )
        for piece in pieces:
            if piece.missing and piece.announced:
                size = piece.first.samples
                truncated(
                    self._name,
                    piece.samples,
                    piece.announced * size,
                    "samples",
                    self._ignore,
                    self.remarks,
                )
            elif piece.missing:
                self._or_remark(f"ends within a frame, after {piece.samples} samples")
        views = [View(self._stream, piece.stretches, piece.prefix(data)) for piece in pieces]
        least = [piece.samples - mpeg.MOST_TRIMMED for piece in pieces]
        return self._soundfile(
            [Part(view, samples) for view, samples in zip(views, least, strict=True)]
        )

    def _ogg(self, data: Bytes, begin: int, stop: int) -> Reader:
        layout = ogg.scan(data, begin, stop)
        if not layout.links:
            raise InputError(f"{self._name}: is Ogg without the first page of a stream")
        if layout.cut or not layout.links[-1].whole:
            self._or_remark(f"is truncated: its last page is missing, {stop} bytes are there")
        elif not all(link.whole for link in layout.links):
            self._or_remark("is truncated: the last page of one of its streams is missing")
        if layout.junk:
            self.remarks.append(f"{self._name}: {layout.junk} bytes are no Ogg, passed over")
        if lost := sum(link.lost for link in layout.links):
            self._or_remark(f"is damaged: {lost} of its pages are missing")
        if any(link.is_flac for link in layout.links):
            parts = [
                self._flac_part(View(self._stream, _unmapped(link.bodies))) for link in layout.links
            ]
            return self._soundfile(parts)
        return self._soundfile_or_av(
            [Part(View(self._stream, [(link.start, link.stop)])) for link in layout.links]
        )

    def _flac(self, data: Bytes, begin: int, stop: int) -> Reader:
        """FLAC, or several files of it one behind the other."""
        starts = [begin]
        place = begin + 4
        while (place := data.find(b"fLaC", place, stop)) >= 0:
            if data.at(place + 4, 4) in _STREAMINFO:
                starts.append(place)
            place += 4
        ends = [*starts[1:], stop]
        views = (View(self._stream, [stretch]) for stretch in zip(starts, ends, strict=True))
        reader = self._soundfile([self._flac_part(view) for view in views])
        if reader.channels > MAX_CHANNELS:
            named = from_mask(_mask_in_comment(data, begin), reader.channels)
            reader.order = named or reader.order
        return reader

    def _flac_part(self, view: View) -> Part:
        """STREAMINFO's number of samples (RFC 9639, 8.2) is taken out, so that libsndfile reads on
        to the end.
        """
        view.seek(0)
        head = view.read(26)
        if head[:4] != b"fLaC" or len(head) < 26 or head[4] & 0x7F:
            return Part(view)
        form = int.from_bytes(head[18:26], "big")
        total = form & (1 << 36) - 1
        unknown = {18: (form - total).to_bytes(8, "big")}
        whole = View(view, [(0, len(view))], patches=unknown)  # type: ignore[arg-type]
        return Part(whole, announced=total)

    def _chunks(self, data: Bytes) -> Reader:
        """RIFF, AIFF, W64, CAF, AU: every chunk is where it should be, or it is said."""
        sound = iff.find_sound(data)
        if sound is None:
            return self._soundfile_or_av([Part()])
        if sound.cut and sound.announced is not None:
            truncated(
                self._name,
                sound.there,
                sound.announced,
                "bytes of sound",
                self._ignore,
                self.remarks,
            )
        if sound.more:
            self._or_remark(_goes_on(sound.announced or 0, "others that are no chunks", "bytes"))
        if iff.mp3_in_wav(data, sound):
            stop = sound.start + min(sound.there, data.size)
            first = mpeg.find_first(data, sound.start, stop)
            if first is not None:
                return self._mpeg(data, sound.start, first, stop)
        if sound.cut or sound.more:
            patches = iff.true_size(data, sound)
            return self._soundfile_or_av(
                [Part(View(self._stream, [(0, data.size)], patches=patches))]
            )
        return self._soundfile_or_av([Part()])


def _mask_in_comment(data: Bytes, begin: int) -> int:
    """The channel mask that FLAC keeps in a Vorbis comment where its own order does not hold; 0 for
    none.
    """
    place = data.find(_MASK, begin, min(data.size, begin + _MOST_COMMENTS))
    digits = data.at(place + len(_MASK), 8) if place >= 0 else b""
    match = re.match(rb"0x([0-9A-Fa-f]{1,8})", digits + b"\0")
    return int(match[1], 16) if match else 0


def _goes_on(announced: int, behind: str, what: str = "samples") -> str:
    return f"announces {announced} {what} of sound, but they are followed by {behind}"


def _unmapped(bodies: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """FLAC in Ogg without what the mapping puts before it."""
    return [(bodies[0][0] + ogg.FLAC_MAPPING, bodies[0][1]), *bodies[1:]]


def _only_chunks_follow(stream: BinaryIO, padding: int, names: set[bytes]) -> bool:
    """`iff.riff_rest_is_chunks` for a pipe: reads it to its end. names: gets those of the
    chunks.
    """
    head = read_exactly(stream, 8)
    if padding and not iff.is_chunk_head(head):
        head = head[1:] + read_exactly(stream, 1)
    while len(head) == 8:
        if tags.starts_tag(head):
            return True
        if not any(head):
            return not any(read_exactly(stream, iff.MOST_PADDING)) and not stream.read(1)
        if not iff.is_chunk_head(head):
            return False
        names.add(head[:4])
        left = int.from_bytes(head[4:], "little")
        left += left % 2
        while left and (part := stream.read(min(left, _LOOK))):
            left -= len(part)
        if left > 1:
            return False
        head = read_exactly(stream, 8)
    return True


def spool(start: bytes, stream: BinaryIO, resources: ExitStack) -> BinaryIO:
    """A temporary file with `start` and the rest of `stream`; it vanishes when `resources`
    close.
    """
    file = resources.enter_context(temporary_file("the input from a pipe"))
    file.write(start)
    shutil.copyfileobj(stream, file)
    file.flush()
    return file
