"""Readers behind `input.AudioInput`: PCM, libsndfile on views of a file, and PyAV for what
libsndfile cannot read.

Each has `read(n)`: float32 [m, channels] with m <= n, and m < n only at the end.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any, BinaryIO, Protocol

import numpy as np
import soundfile

from ravecodec.audio.channels import from_mask, usual_order
from ravecodec.audio.samples import Interleaved
from ravecodec.audio.wav import PcmLayout, read_exactly
from ravecodec.errors import InputError
from ravecodec.views import View

READABLE = "WAV, FLAC, Ogg (Vorbis, Opus, FLAC), MP3, AIFF, CAF, W64, RF64 and AU"
EXTRA = "formats"  # the extra of pyproject.toml that reads more
_UNKNOWN_FRAMES = 1 << 62  # libsndfile says 2^63 - 1 for FLAC that was written into a pipe


class Reader(Protocol):
    """What is behind an AudioInput: its form, and interleaved samples in order.

    frames: samples per channel as announced, None where only reading to the end can tell. order:
    names of the channels, None where they cannot even be guessed; order_known: they are not.
    """

    sample_rate: int
    channels: int
    frames: int | None
    container: str
    subtype: str
    order: tuple[str, ...] | None
    order_known: bool

    def read(self, n: int) -> Interleaved:
        """float32 [m, channels]."""
        ...


class PcmReader:
    """Samples of a known layout, straight from the stream. `behind` is called once they are all
    read. `least`: samples per channel that there were when a file without a header was opened."""

    def __init__(
        self,
        name: str,
        stream: BinaryIO,
        layout: PcmLayout,
        container: str,
        behind: Callable[[], None] | None = None,
        least: int = 0,
    ) -> None:
        self.sample_rate = layout.rate
        self.channels = layout.channels
        self.frames = layout.frames if layout.exact else None
        self.container = container
        self.subtype = layout.subtype
        named = from_mask(layout.mask, layout.channels)
        self.order = named or usual_order(container, "", layout.channels)[0]
        self.order_known = named is not None
        self._name = name
        self._stream = stream
        self._layout = layout
        self._left = layout.frames
        self._behind = behind
        self._least = least

    def read(self, n: int) -> Interleaved:
        n = n if self._left is None else min(n, self._left)
        data = read_exactly(self._stream, n * self._layout.frame_bytes)
        frames, extra = divmod(len(data), self._layout.frame_bytes)
        if extra and self.container == "RAW":
            expected = f"16-bit PCM of {self.channels} channel(s)"
            raise InputError(
                f"{self._name}: ends inside a sample ({extra} bytes left), expected {expected}"
            )
        self._least -= frames
        if frames < n and self._least > 0:
            raise InputError(
                f"{self._name}: lost {self._least} samples while it was read, expected a file that "
                "stays"
            )
        if self._left is not None:
            self._left -= frames
        if self._left == 0 and self._behind is not None:
            behind, self._behind = self._behind, None
            behind()
        return self._layout.to_float(data[: len(data) - extra])


class _ForwardSoundFile(soundfile.SoundFile):
    """soundfile seeks to where it already is after every read, unless told that it cannot.

    In libsndfile 1.2.2 that seek replaces samples of Opus by wrong ones, changes the rounding of
    MP3, and fails at the end of FLAC of unknown length; so blocks of another size gave other audio.
    """

    def seekable(self) -> bool:
        return False


@dataclass(frozen=True)
class Part:
    """What libsndfile is to read in one go: the whole file (view None), or a view of it.

    least: samples per channel that it must find, so that an estimate of libsndfile's drops nothing
    unseen.
    announced: FLAC's own number of samples, whose view has it replaced by "unknown"; 0 if FLAC does
    not know it.
    """

    view: View | None = None
    least: int = 0
    announced: int | None = None


class SoundFileReader:
    """Everything that libsndfile knows, one part after the other; `stream` must be a real file."""

    def __init__(
        self,
        name: str,
        stream: BinaryIO,
        parts: list[Part],
        resources: ExitStack,
        *,
        ignore_length: bool = False,
    ) -> None:
        self._name = name
        self._stream = stream
        self._parts = parts
        self._ignore_length = ignore_length
        self._sound: _ForwardSoundFile | None = None
        self._left: int | None = None  # samples up to those that FLAC announces; 0 behind them
        self._next = 0
        resources.callback(self._close)
        self._look()

    def _look(self) -> None:
        """Opens every part once: they must have one form."""
        lengths: list[int | None] = []
        for number, part in enumerate(self._parts):
            sound = self._open(part)
            form = (sound.samplerate, sound.channels, sound.format, sound.subtype)
            if number == 0:
                self.sample_rate, self.channels, self.container, self.subtype = form
            elif form[:2] != (self.sample_rate, self.channels):
                before = f"{self.sample_rate} Hz and {self.channels} channel(s)"
                after = f"{form[0]} Hz and {form[1]}"
                raise InputError(
                    f"{self._name}: goes on with {after} after {before}, expected one form "
                    "throughout"
                )
            lengths.append(self._length(sound, part))
            if len(self._parts) > 1:
                sound.close()
            else:
                self._sound, self._next = sound, 1
                self._left = part.announced or None
        self.order, self.order_known = usual_order(self.container, self.subtype, self.channels)
        known = [length for length in lengths if length is not None]
        self.frames = sum(known) if len(known) == len(lengths) else None

    def _length(self, sound: _ForwardSoundFile, part: Part) -> int | None:
        if part.announced is not None:
            return part.announced or None
        if sound.frames < part.least:
            found = (
                f"{part.least} samples in its frames, of which libsndfile would read {sound.frames}"
            )
            raise InputError(
                f"{self._name}: holds {found}; decode it to WAV with another program first"
            )
        return None if sound.frames >= _UNKNOWN_FRAMES else int(sound.frames)

    def _open(self, part: Part) -> _ForwardSoundFile:
        try:
            if part.view is not None:
                part.view.seek(0)
                return _ForwardSoundFile(part.view)
            # libsndfile starts where the descriptor stands.
            os.lseek(self._stream.fileno(), 0, os.SEEK_SET)
            return _ForwardSoundFile(self._stream.fileno(), closefd=False)
        except soundfile.LibsndfileError as error:
            self._check_view(part)
            raise InputError(
                f"{self._name}: cannot be read as audio ({reason(error)}), expected {READABLE}"
            ) from error

    def read(self, n: int) -> Interleaved:
        pieces: list[Interleaved] = []
        while n:
            if self._sound is None:
                if self._next == len(self._parts):
                    break
                part = self._parts[self._next]
                self._sound, self._next, self._left = (
                    self._open(part),
                    self._next + 1,
                    part.announced or None,
                )
            piece = self._read_part(n)
            pieces.append(piece)
            n -= len(piece)
            if not len(piece):
                self._close()
        return np.concatenate(pieces) if pieces else np.zeros((0, self.channels), np.float32)

    def _read_part(self, n: int) -> Interleaved:
        assert self._sound is not None
        part = self._parts[self._next - 1]
        if self._left is None:
            piece: Interleaved = self._sound.read(n, dtype="float32", always_2d=True)
        elif self._left:
            piece = self._sound.read(min(n, self._left), dtype="float32", always_2d=True)
            self._left -= len(piece)
        else:
            piece = self._behind(n)
        self._check_view(part)
        return piece

    def _behind(self, n: int) -> Interleaved:
        """Samples behind those that FLAC announces: there should be none."""
        assert self._sound is not None
        try:
            piece: Interleaved = self._sound.read(n, dtype="float32", always_2d=True)
        except soundfile.LibsndfileError:  # no audio, then
            return np.zeros((0, self.channels), np.float32)
        if len(piece) and not self._ignore_length:
            announced = self._parts[self._next - 1].announced
            raise InputError(
                f"{self._name}: goes on behind the {announced} samples that its header announces; "
                "--ignore-length takes them all"
            )
        return piece

    def _check_view(self, part: Part) -> None:
        if part.view is not None and part.view.error is not None:
            raise InputError(f"{self._name}: cannot be read ({part.view.error.strerror})")

    def _close(self) -> None:
        if self._sound is not None:
            self._sound.close()
            self._sound = None


def reason(error: soundfile.LibsndfileError) -> str:
    """What libsndfile says, as a part of a sentence."""
    text = error.error_string.strip().rstrip(".").removeprefix("Error : ")
    return text or f"libsndfile error {error.code}"


# ---- PyAV ----------------------------------------------------------------------------------------


def has_av() -> bool:
    """Whether PyAV is installed (extra `formats`)."""
    return find_spec("av") is not None


class AvReader:
    """The first audio stream of anything that FFmpeg reads.

    `frames` is what an MP4 file announces; other containers only estimate it, so it is None.
    metadata: texts that FFmpeg found, those of the stream before those of the container.
    """

    def __init__(self, name: str, stream: BinaryIO, resources: ExitStack) -> None:
        import av

        self._name = name
        self._error: type[Exception] = av.FFmpegError
        stream.seek(0)
        try:
            container: Any = resources.enter_context(av.open(stream))
            audio = next((s for s in container.streams if s.type == "audio"), None)
            if audio is None:
                raise InputError(f"{name}: has no audio in it")
            self._decoded = container.decode(audio)
            first = next(self._decoded, None)
        except (av.FFmpegError, ValueError) as error:
            raise InputError(
                f"{name}: cannot be read as audio ({_av_reason(error)}), expected {READABLE}"
            ) from error
        if first is None:
            raise InputError(f"{name}: has no audio in it")
        self.sample_rate = int(first.sample_rate)
        self.channels = len(first.layout.channels)
        self.container = str(container.format.name).split(",")[0].upper()
        self.subtype = str(audio.codec_context.name).upper()
        self.frames = self._announced(audio) if "mp4" in container.format.name else None
        names = tuple(channel.name for channel in first.layout.channels)
        self.order_known = "NONE" not in names
        self.order = names if self.order_known else usual_order("", "", len(names))[0]
        self.metadata = {**audio.metadata, **container.metadata}
        self._layout = first.layout.name
        self._resampler = av.AudioResampler(
            format="flt", layout=self._layout, rate=self.sample_rate
        )
        self._blocks = self._converted(first)
        self._rest = np.zeros((0, self.channels), np.float32)
        self._given = 0

    def _announced(self, audio: Any) -> int | None:
        if audio.duration is None or audio.time_base is None:
            return None
        return round(audio.duration * audio.time_base * self.sample_rate)

    def _converted(self, first: Any) -> Iterator[Interleaved]:
        """float32 [n, channels] of every frame."""
        for frame in self._frames(first):
            if (frame.sample_rate, frame.layout.name) != (self.sample_rate, self._layout):
                raise InputError(
                    f"{self._name}: changes rate or channels on the way, expected one form "
                    "throughout"
                )
            frame.pts = None
            for out in self._resampler.resample(frame):
                yield self._block(out)
        for out in self._resampler.resample(None):
            yield self._block(out)

    def _block(self, frame: Any) -> Interleaved:
        """Interleaved samples: planar ones of more than two channels crashed PyAV 18."""
        samples: Interleaved = frame.to_ndarray().astype(np.float32).reshape(-1, self.channels)
        return samples

    def _frames(self, first: Any) -> Iterator[Any]:
        yield first
        try:
            yield from self._decoded
        except self._error as error:
            raise InputError(f"{self._name}: is damaged ({_av_reason(error)})") from error

    def read(self, n: int) -> Interleaved:
        parts, count = [self._rest], len(self._rest)
        while count < n and (block := next(self._blocks, None)) is not None:
            parts.append(block)
            count += len(block)
        # Behind the announced samples there is the rest of the last block.
        joined = np.concatenate(parts)
        self._rest = joined[n:]
        left = n if self.frames is None else min(n, self.frames - self._given)
        self._given += min(left, len(joined[:n]))
        return joined[:left]


def _av_reason(error: Exception) -> str:
    return str(getattr(error, "strerror", None) or error).splitlines()[0]
