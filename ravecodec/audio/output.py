"""Audio out: float32 blocks [channels, n] become a file or a WAV stream on standard output.

The last stop of `decode`. The container follows from the file's extension; WAV is written by
`wav.py` (the same bytes every time, also into a pipe), the others by libsndfile. Samples beyond
full scale are clipped and counted. A file appears when it is complete (`files.AtomicFile`).
"""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Protocol

import numpy as np
import soundfile
from numpy.typing import NDArray

from ravecodec.audio.samples import Audio, Interleaved
from ravecodec.audio.tag_writing import Tags, wav_chunks, why_not, write_tags
from ravecodec.audio.wav import WavWriter
from ravecodec.errors import OutputError, UsageError
from ravecodec.files import is_stdio, open_binary_output, target_name

SOFT_KNEE = 0.9  # the soft clipper passes |x| up to here unchanged
# Samples converted at once; libsndfile's Vorbis encoder overflows its stack on blocks of a million.
_PIECE = 1 << 14
# Bytes of samples where sizes have 32 bits, with room for headers.
_LIMIT_32_BIT = (1 << 32) - (1 << 16)


@dataclass(frozen=True)
class _Container:
    """libsndfile's name, the subtypes allowed (the first is the default), and whether its sizes
    have 32 bits.

    max_rate: Hz; rates above `any_rate` must be multiples of 10.
    """

    name: str
    subtypes: tuple[str, ...]
    sizes_32_bit: bool = False
    max_rate: int = 1 << 31
    any_rate: int = 1 << 31


_LINEAR = ("PCM_16", "PCM_24", "FLOAT")
_CONTAINERS = {
    ".wav": _Container("WAV", _LINEAR, sizes_32_bit=True),
    # RFC 9639, 9.1.2.
    ".flac": _Container("FLAC", ("PCM_16", "PCM_24"), max_rate=655_350, any_rate=65_535),
    ".ogg": _Container("OGG", ("VORBIS",), max_rate=200_000),  # libvorbis overruns its tables above
    ".aiff": _Container("AIFF", _LINEAR, sizes_32_bit=True),
    ".aif": _Container("AIFF", _LINEAR, sizes_32_bit=True),
    ".caf": _Container("CAF", _LINEAR),
    ".w64": _Container("W64", _LINEAR),
    ".rf64": _Container("RF64", _LINEAR),
}
_SAMPLE_BYTES = {"PCM_16": 2, "PCM_24": 3, "FLOAT": 4}
_STDOUT_CONTAINER = _Container("WAV", _LINEAR)  # as a stream it has no size to overflow
WRITABLE = ", ".join(_CONTAINERS)
WRITABLE_SUBTYPES = {
    suffix: (container.name, container.subtypes) for suffix, container in _CONTAINERS.items()
}


@dataclass(frozen=True)
class _Plan:
    """Everything decided before the file is opened.

    `total` is the announced number of samples per channel, or None.
    """

    name: str
    rate: int
    channels: int
    container: _Container
    subtype: str
    soft_clip: bool
    total: int | None
    tags: Tags

    def check_length(self, frames: int) -> None:
        """Raise OutputError where `frames` samples do not fit into the container."""
        if (
            self.container.sizes_32_bit
            and frames * self.channels * _SAMPLE_BYTES[self.subtype] > _LIMIT_32_BIT
        ):
            limit = f"the 4 GiB of {self.container.name}"
            raise OutputError(
                f"{self.name}: {frames} samples exceed {limit}, expected .rf64, .w64, .caf or .flac"
            )


class AudioOutput:
    """An open target for audio, made by `open_output`.

    Attributes:
        name: the file's name, or "standard output". container, subtype: libsndfile's names ("WAV",
        "PCM_16").
        frames: samples per channel written so far.
        clipped: samples, over all channels, that lay beyond +-1 and were limited; 0 for FLOAT
        without soft clipping.
        remarks: sentences on tags that were not written.
    """

    def __init__(self, plan: _Plan, sink: "_Sink") -> None:
        self.name = plan.name
        self.container = plan.container.name
        self.subtype = plan.subtype
        self.frames = 0
        self.clipped = 0
        self.remarks = sink.remarks
        self._plan = plan
        self._sink = sink
        self._clips = plan.soft_clip or plan.subtype != "FLOAT"

    def write(self, block: Audio) -> None:
        """Append float32 [channels, n], full scale +-1.

        Raises:
            ValueError: another number of channels, or a sample that is not finite.
            OutputError: the disk is full, the pipe is closed, or the container cannot hold more.
        """
        if block.ndim != 2 or block.shape[0] != self._plan.channels:
            raise ValueError(f"block of shape {block.shape}, expected [{self._plan.channels}, n]")
        self._plan.check_length(self.frames + block.shape[1])
        for start in range(0, block.shape[1], _PIECE):
            piece = np.ascontiguousarray(block[:, start : start + _PIECE].T, np.float32)
            self._sink.write(self._convert(piece))
            self.frames += len(piece)

    def _convert(self, frames: Interleaved) -> NDArray[np.generic]:
        if not np.isfinite(frames).all():
            raise ValueError(f"a sample after {self.frames} is not finite")
        if self._clips:
            self.clipped += int(np.count_nonzero(np.abs(frames) > 1))
            frames = soft_clip(frames) if self._plan.soft_clip else np.clip(frames, -1, 1)
        return to_integers(frames, self.subtype) if self.subtype in ("PCM_16", "PCM_24") else frames


def soft_clip(samples: Interleaved) -> Interleaved:
    """Limit to [-1, 1]: identity up to SOFT_KNEE, above it knee + (1 - knee) * tanh((|x| - knee) /
    (1 - knee)).

    Slope and value are continuous at the knee, and no sample looks at another, so the result does
    not depend on blocks.
    """
    room = np.float32(1 - SOFT_KNEE)
    size = np.abs(samples)
    bent = SOFT_KNEE + room * np.tanh((size - np.float32(SOFT_KNEE)) / room)
    return np.where(size > SOFT_KNEE, np.copysign(bent, samples), samples).astype(np.float32)


def to_integers(samples: Interleaved, subtype: str) -> NDArray[np.generic]:
    """float32 in [-1, 1] -> int16 (PCM_16) or int32 with the value in the upper 24 bits (PCM_24).

    Rounded to nearest, not dithered. The scale is 2^(bits-1), the reader's, so that integers read
    and written again are unchanged; +1.0 becomes the largest integer.
    """
    scale = 2.0**15 if subtype == "PCM_16" else 2.0**23
    values = np.minimum(np.rint(samples * np.float32(scale)), np.float32(scale - 1))
    return values.astype(np.int16) if subtype == "PCM_16" else values.astype(np.int32) << 8


def open_output(
    target: str | Path,
    rate: int,
    channels: int,
    *,
    subtype: str | None = None,
    force: bool = False,
    soft_clip: bool = False,
    total: int | None = None,
    tags: Tags | None = None,
) -> AbstractContextManager[AudioOutput]:
    """A context manager that yields an `AudioOutput`; the extension decides the container, `-` is
    WAV on stdout.

    What the container can hold is checked by this call, and `files.check_output`, which is called
    before, tells whether the file may be written. It is created when the `with` block is entered,
    and renamed into place when that ends well.

    Args:
        subtype: PCM_16 (default), PCM_24 or FLOAT; .ogg has none to choose.
        force: overwrite an existing file; write to a terminal.
        soft_clip: bend samples above SOFT_KNEE instead of cutting them off at full scale.
        total: samples per channel, if known: then a WAV stream carries its true size.
        tags: texts by name, for WAV, FLAC, Ogg and AIFF; others get a remark.

    Raises:
        UsageError: an extension or subtype that is not known, or a rate that the container cannot
        hold.
        OutputError: `total` does not fit into the container; within the block as
        `files.AtomicFile`.
    """
    container = _STDOUT_CONTAINER if is_stdio(target) else _container(Path(target))
    if subtype is not None and subtype not in container.subtypes:
        expected = " or ".join(container.subtypes)
        raise UsageError(f"{target}: {container.name} cannot hold {subtype}, expected {expected}")
    _check_rate(target, container, rate)
    name = target_name(target)
    subtype = subtype or container.subtypes[0]
    plan = _Plan(name, rate, channels, container, subtype, soft_clip, total, tags or {})
    plan.check_length(total or 0)
    return _opened(plan, target, force)


def _check_rate(target: str | Path, container: _Container, rate: int) -> None:
    if rate > container.max_rate:
        raise UsageError(
            f"{target}: {container.name} cannot hold {rate} Hz, expected at most "
            f"{container.max_rate} Hz"
        )
    if rate > container.any_rate and rate % 10:
        raise UsageError(
            f"{target}: {container.name} cannot hold {rate} Hz, expected a multiple of 10 Hz"
        )


def _container(path: Path) -> _Container:
    try:
        return _CONTAINERS[path.suffix.lower()]
    except KeyError:
        raise UsageError(
            f"{path}: has the extension '{path.suffix}', expected one of {WRITABLE}"
        ) from None


@contextmanager
def _opened(plan: _Plan, target: str | Path, force: bool) -> Iterator[AudioOutput]:
    with open_binary_output(target, force=force) as file:
        sink = _open_sink(plan, file, seekable=not is_stdio(target))
        output = AudioOutput(plan, sink)
        try:
            yield output
        except BaseException:
            sink.abandon()
            raise
        sink.close()


class _Sink(Protocol):
    """Takes interleaved samples [n, channels], already of the subtype's type.

    remarks: sentences on tags that are not written.
    """

    remarks: list[str]

    def write(self, frames: NDArray[np.generic]) -> None: ...

    def close(self) -> None:
        """Complete the file."""

    def abandon(self) -> None:
        """Let go of the file, which will be removed; never raises."""


def _open_sink(plan: _Plan, file: BinaryIO, *, seekable: bool) -> _Sink:
    if plan.container.name == "WAV":
        return _WavSink(plan, file, seekable=seekable)
    return _SoundFileSink(plan, file)


class _WavSink:
    """Our own WAV writer."""

    def __init__(self, plan: _Plan, file: BinaryIO, *, seekable: bool) -> None:
        chunks, self.remarks = wav_chunks(plan.tags)
        self._wav = WavWriter(
            file,
            plan.rate,
            plan.channels,
            plan.subtype,
            total=plan.total,
            patch=seekable,
            chunks=chunks,
        )
        self.write = self._wav.write
        self.close = self._wav.close

    def abandon(self) -> None:
        """Nothing is held."""


class _Errors:
    """The file as libsndfile sees it: a failed write is remembered, since nothing can be raised
    through C.

    Without this a full disk would go unnoticed: libsndfile's Ogg writer does not look whether its
    pages were written.
    """

    def __init__(self, file: BinaryIO) -> None:
        self.tell = file.tell
        self.error: OutputError | None = None
        self._file = file

    def write(self, data: bytes) -> int:
        try:
            return self._file.write(data)
        except OutputError as error:
            self.error = error
            return 0

    def seek(self, offset: int, whence: int) -> int:
        try:
            return self._file.seek(offset, whence)  # writes what is still buffered
        except OutputError as error:
            self.error = error
            return -1


class _SoundFileSink:
    """libsndfile, on the temporary file."""

    def __init__(self, plan: _Plan, file: BinaryIO) -> None:
        self._plan = plan
        self._file = file
        self._errors = _Errors(file)
        self._frames = 0
        reason = why_not(plan.container.name, plan.tags)
        self.remarks = [reason] if reason else []
        with self._named():
            self._sound = soundfile.SoundFile(
                self._errors,
                "w",
                samplerate=plan.rate,
                channels=plan.channels,
                subtype=plan.subtype,
                format=plan.container.name,
            )

    def write(self, frames: NDArray[np.generic]) -> None:
        with self._named():
            self._sound.write(frames)
        self._frames += len(frames)

    def close(self) -> None:
        with self._named():
            self._sound.close()
        if (
            self._frames == 0 and self._plan.container.name == "FLAC"
        ):  # libsndfile leaves an empty file then
            self._file.write(empty_flac(self._plan.rate, self._plan.channels, self._plan.subtype))
        if self._plan.tags and not self.remarks:
            write_tags(self._file, self._plan.container.name, self._plan.name, self._plan.tags)

    def abandon(self) -> None:
        """libsndfile must let go of the file; that it may be unable to complete it is why we are
        here.
        """
        with suppress(soundfile.LibsndfileError):
            self._sound.close()

    @contextmanager
    def _named(self) -> Iterator[None]:
        """libsndfile's errors (and soundfile's assertion about short writes) as one sentence with
        the file's name.
        """
        try:
            yield
        except (soundfile.LibsndfileError, AssertionError) as error:
            reason = getattr(error, "error_string", "").strip().rstrip(".")
            container = self._plan.container.name
            raise self._errors.error or OutputError(
                f"{self._plan.name}: cannot be written as {container} ({reason})"
            ) from error
        if self._errors.error is not None:
            raise self._errors.error


def empty_flac(rate: int, channels: int, subtype: str) -> bytes:
    """A FLAC file of no samples: the marker and a STREAMINFO block (RFC 9639, 8.2)."""
    bits = 8 * _SAMPLE_BYTES[subtype]
    block_sizes = (4096).to_bytes(2, "big") * 2
    form = (rate << 44 | (channels - 1) << 41 | (bits - 1) << 36).to_bytes(8, "big")
    md5_of_nothing = bytes.fromhex("d41d8cd98f00b204e9800998ecf8427e")
    return b"fLaC" + bytes([0x80, 0, 0, 34]) + block_sizes + bytes(6) + form + md5_of_nothing
