"""The scores of one pair of files, without a report: `compare_files`.

Each is an audio file or an .rvc stream, which is decoded first. The scores are those of `eval`
(`measures/scores.py`), of the whole files. torch is loaded only where a stream is decoded.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import soxr

from ravecodec.audio import Audio, match_channels, open_input
from ravecodec.bitstream.container import MAGIC
from ravecodec.errors import InputError, UsageError
from ravecodec.evaluate.filters import RATE
from ravecodec.evaluate.measures.scores import absent, score
from ravecodec.files import check_source, is_stdio

if TYPE_CHECKING:
    from ravecodec.models.package import Model

BLOCK = 1 << 18  # samples read at a time


@dataclass(frozen=True)
class Side:
    """One of the two. samples: per channel; kbps: of a stream, over everything, else None."""

    name: str
    sample_rate: int
    channels: int
    samples: int
    kbps: float | None = None


@dataclass(frozen=True)
class Comparison:
    """What `compare_files` found.

    delay: seconds by which the second is late, as far as waveforms tell; undone before scoring.
    scores: by metric id, those that say something of this pair. absent: packages that are not
    installed and whose scores are therefore missing. remarks: sentences on what had to be made
    alike.
    """

    reference: Side
    decoded: Side
    delay: float
    scores: dict[str, float]
    absent: tuple[str, ...]
    remarks: tuple[str, ...] = ()


def compare_files(
    reference: str | Path,
    decoded: str | Path,
    *,
    speech: bool = False,
    model: str | Path | Model | None = None,
    device: str = "auto",
    threads: int | None = None,
) -> Comparison:
    """Scores `decoded` against `reference`; each is an audio file or an .rvc stream.

    Another rate is resampled to the reference's, mono stands on both sides beside stereo, and the
    longer one is cut; remarks say so. speech: score as speech, too. model, device, threads: for
    streams, as for `decode`.

    Raises:
        UsageError: one of them is a pipe, or scipy is missing. InputError, FormatError,
        CorruptError, ModelError: one cannot be read, or has no samples.
    """
    for source in (reference, decoded):
        check_source(source)
        if is_stdio(source):
            raise UsageError("-: is a pipe, expected files to compare")
    if find_spec("scipy") is None:
        raise UsageError("scipy is not installed; scores need `pip install 'ravecodec[eval]'`")
    x, first = _read(reference, model, device, threads)
    y, second = _read(decoded, model, device, threads)
    for side in (first, second):
        if not side.samples:
            raise InputError(f"{side.name}: holds no sound (0 samples), expected some to compare")
    remarks = list(_differences(first, second))
    y = _at_rate(y, second.sample_rate, first.sample_rate)
    channels = max(len(x), len(y))
    x, y = match_channels(x, channels), match_channels(y, channels)
    missing = _absent(speech)
    skip = ("loudness_error",) if "pyloudnorm" in missing else ()
    values, late = score(x, y, first.sample_rate, speech=speech, skip=skip)
    if not values:
        remarks.append("nothing can be scored: it is silent, or shorter than half a second")
    return Comparison(first, second, late / RATE, values, missing, tuple(remarks))


def _absent(speech: bool) -> tuple[str, ...]:
    """Packages whose scores are left out."""
    names = [name for name in absent() if speech or name != "pystoi"]
    wanted = ("pyloudnorm", *(("pesq",) if speech else ()))
    return (*names, *(name for name in wanted if find_spec(name) is None))


def _read(
    source: str | Path, model: str | Path | Model | None, device: str, threads: int | None
) -> tuple[Audio, Side]:
    """All samples of a file, float32 [channels, samples], and what it is."""
    if _is_stream(source):
        return _decoded(source, model, device, threads)
    with open_input(source) as audio:
        blocks = [np.zeros((audio.channels, 0), np.float32), *audio.blocks(BLOCK)]
        samples, name, rate = np.concatenate(blocks, axis=1), audio.name, audio.sample_rate
    return samples, Side(name, rate, *samples.shape)


def _is_stream(source: str | Path) -> bool:
    try:
        with Path(source).open("rb") as file:
            return file.read(len(MAGIC)) == MAGIC
    except (OSError, ValueError):  # who opens it again will say why
        return False


def _decoded(
    source: str | Path, model: str | Path | Model | None, device: str, threads: int | None
) -> tuple[Audio, Side]:
    """A stream, by way of a temporary file."""
    from ravecodec.decoding import decode_file

    options: dict[str, Any] = {"model": model, "device": device, "threads": threads, "tags": False}
    with tempfile.TemporaryDirectory(prefix="ravecodec-") as folder:
        target = Path(folder) / "decoded.wav"
        done = decode_file(source, target, **options)
        samples, side = _read(target, None, device, None)
    return samples, replace(side, name=str(source), kbps=done.stream.kbps)


def _differences(first: Side, second: Side) -> Iterator[str]:
    """Sentences on what is not alike."""
    if first.sample_rate != second.sample_rate:
        rates = f"{second.sample_rate} Hz is resampled to {first.sample_rate} Hz"
        yield f"{second.name}: {rates}"
    if first.channels != second.channels:
        mono = first if first.channels == 1 else second
        yield f"{mono.name}: is mono, and stands on both sides"
    seconds = [side.samples / side.sample_rate for side in (first, second)]
    if abs(seconds[0] - seconds[1]) > 0.5 / first.sample_rate:
        lengths = f"lasts {seconds[1]:.3f} s, {first.name} {seconds[0]:.3f} s"
        yield f"{second.name}: {lengths}; it is cut or padded with silence to that"


def _at_rate(audio: Audio, rate: int, wanted: int) -> Audio:
    if rate == wanted:
        return audio
    resampled = soxr.resample(audio.T, rate, wanted, quality="VHQ").T
    return np.atleast_2d(resampled).astype(np.float32)
