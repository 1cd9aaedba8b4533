"""Audio in: any file or pipe becomes float32 blocks [channels, n] of bounded memory.

The first stop of `encode` and of training. WAV and raw PCM are read by `wav.py`, from files and pipes alike; everything
else by libsndfile (flac, ogg, opus, mp3, aiff, w64, caf, ...), which has to seek: other containers from a pipe are
spooled to a temporary file first. What the codec cannot code (NaN, more than two channels) is refused here, in one
sentence.
"""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Protocol, Self, cast

import numpy as np
import soundfile
from numpy.typing import NDArray

from ravecodec.errors import InputError, UsageError
from ravecodec.files import STDIN_NAME, binary_stdin, is_stdio
from ravecodec.wav import HeaderReader, PcmLayout, raw_16_bit, read_exactly

Block = NDArray[np.float32]

MAX_CHANNELS = 2
MIN_RATE, MAX_RATE = 1_000, 768_000
MAX_AMPLITUDE = 10.0  # full scale is 1; music mastered into floats peaks at 2 or 3, integers kept as floats far above
AUDIO_SUFFIXES = frozenset(
    (".wav", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".aif", ".aiff", ".aifc", ".w64", ".caf", ".rf64", ".au")
)  # of files that are looked for in folders
READABLE = "WAV, FLAC, Ogg (Vorbis, Opus), MP3, AIFF, CAF, W64, RF64 and AU"
_ESTIMATES = {"OGG": 8192, "MP3": 8192}  # samples that real files announce too many (104 seen), in whole codec blocks
_UNKNOWN_FRAMES = 1 << 62  # libsndfile says 2^63 - 1 for FLAC that was written into a pipe


HEADERS = (b"RIFF", b"RF64", b"riff", b"FORM", b"fLaC", b"OggS", b"caff", b".snd")  # what audio files begin with


class _Reader(Protocol):
    """What is behind an AudioInput: its form, and interleaved samples in order.

    `read(n)` returns float32 [m, channels] with m <= n, and m < n only at the end.
    """

    sample_rate: int
    channels: int
    frames: int | None
    container: str
    subtype: str

    def read(self, n: int) -> Block: ...


class AudioInput:
    """An open source of audio; a context manager. Make one with `open_input`.

    Attributes:
        name: the file's name, or "standard input".
        sample_rate: Hz, MIN_RATE to MAX_RATE. channels: 1 or 2.
        frames: samples per channel as announced, None where only reading to the end can tell. Exact for PCM and FLAC;
            Ogg and MP3 may end some samples earlier, so what counts is what `blocks` yields.
        container, subtype: libsndfile's names ("WAV", "PCM_16"); headerless PCM is "RAW".

    full_scale: the sample value that stands for full scale; what `blocks` yields is divided by it.
    """

    def __init__(self, name: str, reader: _Reader, resources: ExitStack, full_scale: float = 1.0) -> None:
        self.name = name
        self.sample_rate = reader.sample_rate
        self.channels = reader.channels
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
            InputError: NaN, Inf or an absurd amplitude, a damaged file, or fewer samples than the header announced.
        """
        frames = self._read(size)
        while len(frames):
            yield np.ascontiguousarray(frames.T)
            frames = self._read(size)
        if self.frames is not None and self._position < self.frames - _ESTIMATES.get(self.container, 0):
            expected = f"{self.frames} as its header says"
            raise InputError(f"{self.name}: is truncated after {self._position} samples, expected {expected}")

    def close(self) -> None:
        """Close the files behind it; standard input stays open."""
        self._resources.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, err: BaseException | None, tb: TracebackType | None) -> None:
        self.close()

    def _read(self, size: int) -> Block:
        try:
            frames = self._reader.read(size)
        except soundfile.LibsndfileError as error:
            raise InputError(f"{self.name}: is damaged after sample {self._position} ({_reason(error)})") from error
        if self._full_scale != 1:
            frames = frames / np.float32(self._full_scale)
        self._check_values(frames)
        self._position += len(frames)
        return frames

    def _check_form(self) -> None:
        if not 1 <= self.channels <= MAX_CHANNELS:
            raise InputError(f"{self.name}: has {self.channels} channels, expected 1 or 2 (mix it down first)")
        if not MIN_RATE <= self.sample_rate <= MAX_RATE:
            raise InputError(f"{self.name}: has a rate of {self.sample_rate} Hz, expected {MIN_RATE} to {MAX_RATE} Hz")

    def _check_values(self, frames: Block) -> None:
        if not frames.size or max(frames.max(), -frames.min()) <= MAX_AMPLITUDE:  # False for NaN, which max passes on
            return
        row, channel = (int(i) for i in np.argwhere(~(np.abs(frames) <= MAX_AMPLITUDE))[0])
        at = self._position + row
        where = f"sample {at} ({at / self.sample_rate:.3f} s) of channel {channel + 1}"
        value = float(frames[row, channel])
        raise InputError(f"{self.name}: holds {value:g} at {where}, {expected_amplitude(value)}")


def check_full_scale(full_scale: float) -> None:
    """UsageError unless it can stand for full scale."""
    if not (np.isfinite(full_scale) and full_scale > 0):
        raise UsageError(f"full scale is {full_scale}, expected a positive number, such as 32768")


def expected_amplitude(value: float) -> str:
    """What is said about a sample that is above MAX_AMPLITUDE or no number: what was expected, and what mends it."""
    if not np.isfinite(value):
        return "expected finite samples around +-1"
    over = f"{20 * np.log10(abs(value)):.0f} dB over full scale, expected samples around +-1"
    return f"{over} (16-bit integers kept as floats: encode --full-scale 32768)"


def open_input(
    source: str | Path, *, raw_rate: int | None = None, raw_channels: int | None = None, full_scale: float = 1.0
) -> AudioInput:
    """Open a file, a named pipe, or standard input (`-`) for reading.

    With `raw_rate` the source is headerless 16-bit little-endian PCM of that rate and `raw_channels` (default 1)
    channels. `full_scale`: the sample value that stands for full scale; blocks are divided by it.

    Raises:
        InputError: missing, unreadable, not audio, or audio that cannot be coded (channels, rate).
        UsageError: `raw_channels` without `raw_rate`, standard input is a terminal, or `full_scale` is not positive.
    """
    check_full_scale(full_scale)
    if raw_channels is not None and raw_rate is None:
        raise UsageError("raw channels are given without a raw rate, expected both for headerless PCM")
    name = STDIN_NAME if is_stdio(source) else str(source)
    resources = ExitStack()
    try:
        stream = binary_stdin() if is_stdio(source) else resources.enter_context(_open_file(Path(source)))
        if raw_rate is not None:
            if not is_stdio(source):
                _refuse_header(name, stream)
            reader: _Reader = _PcmReader(name, stream, raw_16_bit(raw_rate, raw_channels or 1), "RAW")
        else:
            reader = _detect(name, stream, resources, can_seek=stream.seekable() and not is_stdio(source))
        return AudioInput(name, reader, resources, full_scale)
    except BaseException:
        resources.close()
        raise


def _open_file(path: Path) -> BinaryIO:
    if path.is_dir():
        raise InputError(f"{path}: is a folder, expected an audio file")
    try:
        return path.open("rb")
    except OSError as error:
        raise InputError(f"{path}: cannot be opened ({error.strerror})") from error


def _refuse_header(name: str, stream: BinaryIO) -> None:
    """InputError if a file that is said to be headerless begins like one of a known format."""
    if stream.seekable():
        if (start := stream.read(4)) in HEADERS:
            raise InputError(
                f"{name}: begins with {start.decode()!r}, a header; expected headerless PCM for a raw rate"
            )
        stream.seek(0)


def _detect(name: str, stream: BinaryIO, resources: ExitStack, *, can_seek: bool) -> _Reader:
    """WAV by our own reader; anything else by libsndfile, from a spooled copy where the source cannot seek."""
    header = HeaderReader(stream)
    layout = header.layout()
    if layout is not None:
        return _PcmReader(name, stream, _measured(layout, stream) if can_seek else layout, "WAV")
    if not header.seen:
        raise InputError(f"{name}: is empty (0 bytes), expected audio")
    return _SoundFileReader(name, stream if can_seek else _spool(bytes(header.seen), stream, resources), resources)


def _measured(layout: PcmLayout, stream: BinaryIO) -> PcmLayout:
    """Where the header does not know the length but the file has an end, the rest of the file is audio."""
    if layout.frames is not None:
        return layout
    start = stream.tell()
    frames = (stream.seek(0, os.SEEK_END) - start) // layout.frame_bytes
    stream.seek(start)
    return replace(layout, frames=frames, exact=True)


def _spool(start: bytes, stream: BinaryIO, resources: ExitStack) -> BinaryIO:
    """A temporary file with `start` and the rest of `stream`; it vanishes when `resources` close."""
    file = cast(BinaryIO, tempfile.TemporaryFile())  # noqa: SIM115, closed by `resources`
    resources.callback(file.close)
    file.write(start)
    shutil.copyfileobj(stream, file)
    file.flush()
    return file


class _PcmReader:
    """Samples of a known layout, straight from the stream."""

    def __init__(self, name: str, stream: BinaryIO, layout: PcmLayout, container: str) -> None:
        self.sample_rate = layout.rate
        self.channels = layout.channels
        self.frames = layout.frames if layout.exact else None
        self.container = container
        self.subtype = layout.subtype
        self._name = name
        self._stream = stream
        self._layout = layout
        self._left = layout.frames

    def read(self, n: int) -> Block:
        n = n if self._left is None else min(n, self._left)
        data = read_exactly(self._stream, n * self._layout.frame_bytes)
        frames, extra = divmod(len(data), self._layout.frame_bytes)
        if extra and self.container == "RAW":
            expected = f"16-bit PCM of {self.channels} channel(s)"
            raise InputError(f"{self._name}: ends inside a sample ({extra} bytes left), expected {expected}")
        if self._left is not None:
            self._left -= frames
        return self._layout.to_float(data[: len(data) - extra])


class _ForwardSoundFile(soundfile.SoundFile):
    """soundfile seeks to where it already is after every read, unless told that it cannot.

    In libsndfile 1.2.2 that seek replaces samples of Opus by wrong ones, changes the rounding of MP3, and fails at the
    end of FLAC of unknown length; so blocks of another size gave other audio.
    """

    def seekable(self) -> bool:
        return False


class _SoundFileReader:
    """Everything that libsndfile knows; `stream` must be a real file."""

    def __init__(self, name: str, stream: BinaryIO, resources: ExitStack) -> None:
        os.lseek(stream.fileno(), 0, os.SEEK_SET)  # libsndfile starts where the descriptor stands
        try:
            sound = _ForwardSoundFile(stream.fileno(), closefd=False)
        except soundfile.LibsndfileError as error:
            raise InputError(f"{name}: cannot be read as audio ({_reason(error)}), expected {READABLE}") from error
        resources.callback(sound.close)
        self.sample_rate = sound.samplerate
        self.channels = sound.channels
        self.frames = None if sound.frames >= _UNKNOWN_FRAMES else sound.frames
        self.container = sound.format
        self.subtype = sound.subtype
        self._sound = sound

    def read(self, n: int) -> Block:
        return self._sound.read(n, dtype="float32", always_2d=True)


def _reason(error: soundfile.LibsndfileError) -> str:
    return error.error_string.strip().rstrip(".") or f"libsndfile error {error.code}"
