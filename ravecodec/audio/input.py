"""Audio in: any file or pipe becomes float32 blocks [channels, n] of bounded memory.

The first stop of `encode` and of training. WAV and raw PCM are read by `wav.py`, from files and
pipes alike; everything else by libsndfile (flac, ogg, opus, mp3, aiff, w64, caf, ...), which has to
seek: other containers from a pipe are spooled to a temporary file first. libsndfile believes
headers and estimates; so they are compared with what is there (`iff.py`, `mpeg.py`, `ogg.py`), and
either all of the audio is read or none. What the codec cannot code (NaN, more than two channels) is
refused here, in one sentence.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self

import numpy as np
import soundfile

from ravecodec.audio.channels import MOST_SOURCE_CHANNELS, Mix, Mixer
from ravecodec.audio.decoders import AvReader, PcmReader, Reader, reason
from ravecodec.audio.magic import HEADERS
from ravecodec.audio.opening import MAX_CHANNELS, Opening, truncated
from ravecodec.audio.samples import Audio, Interleaved
from ravecodec.audio.tag_set import TagSet
from ravecodec.audio.wav import raw_16_bit
from ravecodec.errors import InputError, UsageError
from ravecodec.files import binary_stdin, is_stdio, source_name

MIN_RATE, MAX_RATE = 1_000, 768_000
# full scale is 1; music mastered into floats peaks at 2 or 3, integers kept as floats far above
MAX_AMPLITUDE = 10.0
# Of files that are looked for in folders.
_SUFFIXES = ".wav .flac .ogg .oga .opus .mp3 .aif .aiff .aifc .w64 .caf .rf64 .au"
AUDIO_SUFFIXES = frozenset(_SUFFIXES.split())
# Samples that real files announce too many (104 seen) ...
_TOLERANCE = {"OGG": 8192, "MP3": 2304, "MPEG": 2304}
_AV_TOLERANCE = 8192  # ... in whole codec blocks


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

    def blocks(self, size: int) -> Iterator[Audio]:
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
            truncated(
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

    def _read(self, size: int) -> Interleaved:
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

    def _check_values(self, frames: Interleaved) -> None:
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


def audio_files(folder: Path) -> list[Path]:
    """All files below `folder` that are called like audio, sorted."""
    files = (path for path in folder.rglob("*") if path.suffix.lower() in AUDIO_SUFFIXES)
    return sorted(path for path in files if path.is_file())


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
        opening = Opening(name, stream, resources, ignore_length, wanted)
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
