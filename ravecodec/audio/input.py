"""Audio in: any file or pipe becomes float32 blocks [channels, n] of bounded memory.

The first stop of `encode` and of training. WAV and raw PCM are read by `wav.py`, from files and
pipes alike; everything else by libsndfile (flac, ogg, opus, mp3, aiff, w64, caf, ...), which has to
seek: other containers from a pipe are spooled to a temporary file first. libsndfile believes
headers and estimates; so they are compared with what is there (`iff.py`, `mpeg.py`, `ogg.py`), and
either all of the audio is read or none. What the codec cannot code (NaN, more than two channels) is
refused here, in one sentence.
"""

from __future__ import annotations

import io
import os
import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, suppress
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self

import numpy as np
import soundfile
from numpy.typing import NDArray

from ravecodec.audio import iff, mpeg, ogg, tags
from ravecodec.audio.channels import MOST_SOURCE_CHANNELS, Mix, Mixer, from_mask
from ravecodec.audio.decoders import (
    EXTRA,
    READABLE,
    AvReader,
    Part,
    PcmReader,
    Reader,
    SoundFileReader,
    has_av,
    reason,
)
from ravecodec.audio.tag_reading import read_metadata, read_tags
from ravecodec.audio.tag_set import TagSet
from ravecodec.audio.wav import HeaderReader, PcmLayout, raw_16_bit, read_exactly
from ravecodec.errors import InputError, UsageError
from ravecodec.files import binary_stdin, is_stdio, source_name, temporary_file
from ravecodec.views import Bytes, View

Block = NDArray[np.float32]

MAX_CHANNELS = 2
MIN_RATE, MAX_RATE = 1_000, 768_000
# full scale is 1; music mastered into floats peaks at 2 or 3, integers kept as floats far above
MAX_AMPLITUDE = 10.0
# Of files that are looked for in folders.
AUDIO_SUFFIXES = frozenset(
    (
        ".wav",
        ".flac",
        ".ogg",
        ".oga",
        ".opus",
        ".mp3",
        ".aif",
        ".aiff",
        ".aifc",
        ".w64",
        ".caf",
        ".rf64",
        ".au",
    )
)
IGNORE = "--ignore-length"
# Samples that real files announce too many (104 seen) ...
_TOLERANCE = {
    "OGG": 8192,
    "MP3": 2304,
    "MPEG": 2304,
}
_AV_TOLERANCE = 8192  # ... in whole codec blocks
_PIP = f"more is read after `pip install 'ravecodec[{EXTRA}]'` (PyAV)"
_MASK = b"WAVEFORMATEXTENSIBLE_CHANNEL_MASK="
_MOST_COMMENTS = 1 << 20  # bytes of a FLAC file that are searched for it
_TAG_CHUNKS = {b"LIST", b"bext", b"id3 ", b"ID3 "}  # of RIFF
_LOOK = 1 << 16  # bytes of a pipe that are looked at before it is spooled

# What audio files begin with.
HEADERS = (
    b"RIFF",
    b"RF64",
    b"riff",
    b"FORM",
    b"fLaC",
    b"OggS",
    b"caff",
    b".snd",
)
# Head of FLAC's first metadata block, or its only one.
_STREAMINFO = (
    b"\x00\x00\x00\x22",
    b"\x80\x00\x00\x22",
)
_FOREIGN = {  # what PyAV reads and libsndfile does not: place and bytes -> name
    (4, b"ftyp"): "MPEG-4 (M4A, MP4)",
    (0, b"\x1a\x45\xdf\xa3"): "Matroska or WebM",
    (0, bytes.fromhex("3026b2758e66cf11")): "ASF (WMA)",
    (0, b"MAC "): "Monkey's Audio",
    (0, b"wvpk"): "WavPack",
    (0, b"TTA1"): "True Audio",
    (0, b"MPCK"): "Musepack",
    (0, b"#!AMR"): "AMR",
    (0, b"FLV\x01"): "Flash video",
    (0, b"\x00\x00\x01\xba"): "an MPEG program stream",
    (0, b"\x0b\x77"): "AC-3",
    (0, b"\x7f\xfe\x80\x01"): "DTS",
    (0, b".RMF"): "RealMedia",
    (0, b"Creative Voice"): "VOC",  # libsndfile takes the heads of its blocks for sound
    (4, b"moov"): "QuickTime",
    (4, b"mdat"): "QuickTime",
    (4, b"wide"): "QuickTime",
    (8, b"AVI "): "AVI",
    (0, b"\xff\xf1"): "AAC (ADTS)",
    (0, b"\xff\xf9"): "AAC (ADTS)",
}


class AudioInput:
    """An open source of audio; a context manager. Make one with `open_input`.

    Attributes:
        name: the file's name, or "standard input".
        sample_rate: Hz, MIN_RATE to MAX_RATE. channels: 1 or 2.
        frames: samples per channel as announced, None where only reading to the end can tell. Exact
        for PCM and FLAC; Ogg and MP3 may end some samples earlier, so what counts is what `blocks`
        yields.
        container, subtype: libsndfile's names ("WAV", "PCM_16"); headerless PCM is "RAW".
        remarks: sentences on what is odd but no error; complete when `blocks` has ended.
        tags: texts by name, where they were asked for.

    full_scale: the sample value that stands for full scale; what `blocks` yields is divided by it.
    """

    def __init__(
        self,
        name: str,
        reader: Reader,
        resources: ExitStack,
        *,
        full_scale: float = 1.0,
        ignore_length: bool = False,
        remarks: list[str] | None = None,
        tags: Mapping[str, list[str]] | None = None,
        mix: Mix | None = None,
    ) -> None:
        self.name = name
        self.tags = dict(tags or {})
        self.remarks = remarks if remarks is not None else []
        self._ignore_length = ignore_length
        self._mixer = Mixer(
            name, reader.channels, mix or Mix(), reader.order, known=reader.order_known
        )
        self.remarks += [self._mixer.remark] if self._mixer.remark else []
        self.sample_rate = reader.sample_rate
        self.channels = self._mixer.channels
        self.frames = reader.frames
        self.container = reader.container
        self.subtype = reader.subtype
        self._reader = reader
        self._resources = resources
        self._full_scale = full_scale
        self._position = 0
        self._check_form()

    def blocks(self, size: int) -> Iterator[Block]:
        """Yield the audio once, as float32 [channels, size], full scale +-1.

        The last block may be shorter, and none is empty.

        Raises:
            InputError: NaN, Inf or an absurd amplitude, a damaged file, or fewer samples than the
            header announced.
        """
        frames = self._read(size)
        while len(frames):
            yield np.ascontiguousarray(frames.T)
            frames = self._read(size)
        self._check_end()

    def _check_end(self) -> None:
        tolerance = (
            _AV_TOLERANCE
            if isinstance(self._reader, AvReader)
            else _TOLERANCE.get(self.container, 0)
        )
        if self.frames is not None and self._position < self.frames - tolerance:
            _truncated(
                self.name, self._position, self.frames, "samples", self._ignore_length, self.remarks
            )
        elif not self._position:
            self.remarks.append(f"{self.name}: holds no sound (0 samples)")

    def close(self) -> None:
        """Close the files behind it; standard input stays open."""
        self._resources.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, err: BaseException | None, tb: TracebackType | None
    ) -> None:
        self.close()

    def _read(self, size: int) -> Block:
        try:
            frames = self._reader.read(size)
        except soundfile.LibsndfileError as error:
            raise InputError(
                f"{self.name}: is damaged after sample {self._position} ({reason(error)})"
            ) from error
        except OSError as error:
            raise InputError(f"{self.name}: cannot be read ({error.strerror})") from error
        frames = self._mixer.picked(frames)
        if self._full_scale != 1:
            frames = frames / np.float32(self._full_scale)
        self._check_values(frames)
        self._position += len(frames)
        return self._mixer.mixed(frames)

    def _check_form(self) -> None:
        if not 1 <= self.channels <= MAX_CHANNELS:
            raise InputError(
                f"{self.name}: has {self.channels} channels, expected 1 or 2 (`encode --downmix` "
                "makes stereo of them, `--channels 1,2` takes two)"
            )
        if not MIN_RATE <= self.sample_rate <= MAX_RATE:
            raise InputError(
                f"{self.name}: has a rate of {self.sample_rate} Hz, expected {MIN_RATE} to "
                f"{MAX_RATE} Hz"
            )

    def _check_values(self, frames: Block) -> None:
        if (
            not frames.size or max(frames.max(), -frames.min()) <= MAX_AMPLITUDE
        ):  # False for NaN, which max passes on
            return
        row, channel = (int(i) for i in np.argwhere(~(np.abs(frames) <= MAX_AMPLITUDE))[0])
        at = self._position + row
        number = self._mixer.original(channel) + 1
        where = f"sample {at} ({at / self.sample_rate:.3f} s) of channel {number}"
        value = float(frames[row, channel])
        raise InputError(f"{self.name}: holds {value:g} at {where}, {expected_amplitude(value)}")


def check_full_scale(full_scale: float) -> None:
    """UsageError unless it can stand for full scale."""
    if not (np.isfinite(full_scale) and full_scale > 0):
        raise UsageError(f"full scale is {full_scale}, expected a positive number, such as 32768")


def expected_amplitude(value: float) -> str:
    """What is said about a sample that is above MAX_AMPLITUDE or no number: what was expected, and
    what mends it.
    """
    if not np.isfinite(value):
        return "expected finite samples around +-1"
    over = f"{20 * np.log10(abs(value)):.0f} dB over full scale, expected samples around +-1"
    return f"{over} (16-bit integers kept as floats: encode --full-scale 32768)"


def open_input(
    source: str | Path,
    *,
    raw_rate: int | None = None,
    raw_channels: int | None = None,
    full_scale: float = 1.0,
    ignore_length: bool = False,
    tags: bool = False,
    pictures: bool = False,
    mix: Mix | None = None,
) -> AudioInput:
    """Open a file, a named pipe, or standard input (`-`) for reading.

    With `raw_rate` the source is headerless 16-bit little-endian PCM of that rate and
    `raw_channels` (default 1) channels. `full_scale`: the sample value that stands for full scale;
    blocks are divided by it. With `ignore_length` a header that announces more or less than there
    is, or an end that is missing, is a remark and no error: all that is there is read. With `tags`
    the file's tags are read as well, with `pictures` those in it. `mix`: what is made of more than
    two channels; without it they are refused.

    Raises:
        InputError: missing, unreadable, not audio, truncated, or audio that cannot be coded
        (channels, rate). UsageError: `raw_channels` without `raw_rate`, impossible raw values,
        standard input is a terminal, or `full_scale` is not positive.
        OutputError: the temporary folder cannot hold what comes from a pipe.
    """
    check_full_scale(full_scale)
    _check_raw(raw_rate, raw_channels, mix or Mix())
    name = source_name(source)
    resources = ExitStack()
    try:
        stream = binary_stdin() if is_stdio(source) else resources.enter_context(_open_file(source))
        if raw_rate is not None:
            if not is_stdio(source):
                _refuse_header(name, stream)
            layout = raw_16_bit(raw_rate, 1 if raw_channels is None else raw_channels)
            least = 0 if is_stdio(source) or ignore_length else _size(stream) // layout.frame_bytes
            reader: Reader = PcmReader(name, stream, layout, "RAW", least=least)
            return AudioInput(name, reader, resources, full_scale=full_scale, mix=mix)
        wanted = TagSet(pictures=pictures) if tags else None
        opening = _Opening(name, stream, resources, ignore_length, wanted)
        reader = opening.reader(can_seek=stream.seekable() and not is_stdio(source))
        return AudioInput(
            name,
            reader,
            resources,
            full_scale=full_scale,
            ignore_length=ignore_length,
            remarks=opening.remarks,
            tags=opening.tags,
            mix=mix,
        )
    except OSError as error:
        resources.close()
        raise InputError(f"{name}: cannot be read ({error.strerror})") from error
    except BaseException:
        resources.close()
        raise


def _check_raw(rate: int | None, channels: int | None, mix: Mix) -> None:
    if channels is not None and rate is None:
        raise UsageError(
            "raw channels are given without a raw rate, expected both for headerless PCM"
        )
    if channels is not None and not 1 <= channels <= MOST_SOURCE_CHANNELS:
        raise UsageError(f"raw channels are {channels}, expected 1 to {MOST_SOURCE_CHANNELS}")
    if channels is not None and channels > MAX_CHANNELS and not mix.wished:
        raise UsageError(
            f"raw channels are {channels}, expected 1 or {MAX_CHANNELS} (--downmix makes stereo of "
            "them, --channels 1,2 takes two)"
        )
    if rate is not None and not MIN_RATE <= rate <= MAX_RATE:
        raise UsageError(f"the raw rate is {rate} Hz, expected {MIN_RATE} to {MAX_RATE}")


def _open_file(source: str | Path) -> BinaryIO:
    if not str(source):
        raise InputError("the input's name is empty, expected an audio file")
    path = Path(source)
    try:
        if path.is_dir():
            raise InputError(f"{path}: is a folder, expected an audio file")
        return path.open("rb")
    except OSError as error:
        raise InputError(f"{path}: cannot be opened ({error.strerror})") from error
    except ValueError as error:  # a null character
        raise InputError(f"{str(path)!r}: cannot be opened ({error})") from error


def _refuse_header(name: str, stream: BinaryIO) -> None:
    """InputError if a file that is said to be headerless begins like one of a known format."""
    if stream.seekable():
        if (start := stream.read(4)) in HEADERS:
            raise InputError(
                f"{name}: begins with {start.decode()!r}, a header; expected headerless PCM for a "
                "raw rate"
            )
        stream.seek(0)


def _size(stream: BinaryIO) -> int:
    """Bytes of an open file, 0 of a pipe or a device."""
    return os.fstat(stream.fileno()).st_size if stream.seekable() else 0


def _truncated(
    name: str, there: int, announced: int, what: str, ignore: bool, remarks: list[str]
) -> None:
    """InputError, or with `ignore` a remark."""
    found = f"{name}: is truncated after {there} {what}, expected {announced} as its header says"
    if not ignore:
        raise InputError(f"{found}; {IGNORE} takes what is there")
    remarks.append(found)


class _Opening:
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
            _truncated(self._name, frames, layout.frames, "samples", self._ignore, self.remarks)
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
        if not _begins_like_audio(seen):
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
        if foreign := _foreign(data.at(0, 16), data.at(188, 1)):
            return self._foreign(foreign)
        if magic in HEADERS or data.at(0, 4) in (b"RIFX", b"BW64"):
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
        found = mpeg.scan(data, first, stop)
        pieces = [piece for piece in found.pieces if piece.frames]
        if not pieces:
            raise InputError(f"{self._name}: is MPEG audio without a whole frame")
        for low, high in [(begin, first)] * (first > begin) + found.junk:
            self.remarks.append(
                f"{self._name}: {high - low} bytes at byte {low} are no MPEG audio, passed over"
            )
        for piece in pieces:
            if piece.missing and piece.announced:
                size = piece.first.samples
                _truncated(
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
        found = ogg.scan(data, begin, stop)
        if not found.links:
            raise InputError(f"{self._name}: is Ogg without the first page of a stream")
        if found.cut or not found.links[-1].whole:
            self._or_remark(f"is truncated: its last page is missing, {stop} bytes are there")
        elif not all(link.whole for link in found.links):
            self._or_remark("is truncated: the last page of one of its streams is missing")
        if found.junk:
            self.remarks.append(f"{self._name}: {found.junk} bytes are no Ogg, passed over")
        if lost := sum(link.lost for link in found.links):
            self._or_remark(f"is damaged: {lost} of its pages are missing")
        if any(link.is_flac for link in found.links):
            parts = [
                self._flac_part(View(self._stream, _unmapped(link.bodies))) for link in found.links
            ]
            return self._soundfile(parts)
        return self._soundfile_or_av(
            [Part(View(self._stream, [(link.start, link.stop)])) for link in found.links]
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
            _truncated(
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
    found = re.match(rb"0x([0-9A-Fa-f]{1,8})", digits + b"\0")
    return int(found[1], 16) if found else 0


def _goes_on(announced: int, behind: str, what: str = "samples") -> str:
    return f"announces {announced} {what} of sound, but they are followed by {behind}"


def _unmapped(bodies: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """FLAC in Ogg without what the mapping puts before it."""
    return [(bodies[0][0] + ogg.FLAC_MAPPING, bodies[0][1]), *bodies[1:]]


def _foreign(start: bytes, second_packet: bytes) -> str:
    """The name of a format that only PyAV reads; "" for any other. second_packet: the byte at which
    the second packet of an MPEG transport stream begins.
    """
    if start[:1] == second_packet == b"G":
        return "an MPEG transport stream"
    return next(
        (what for (at, magic), what in _FOREIGN.items() if start[at:].startswith(magic)), ""
    )


def _begins_like_audio(start: bytes) -> bool:
    """Whether a pipe is worth being spooled; everything else would fill the disk before it is
    refused.
    """
    known = (
        start[:4] in (*HEADERS, b"RIFX", b"BW64")
        or start[:3] == b"ID3"
        or bool(_foreign(start, start[188:189]))
    )
    if known:
        return True
    bytes_at = Bytes(io.BytesIO(start))
    return mpeg.find_first(bytes_at, 0, len(start)) is not None


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
