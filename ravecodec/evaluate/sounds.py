"""Audio of an evaluation, in memory and in files: float32 [channels, samples] at 48 kHz."""

from __future__ import annotations

import io
from pathlib import Path
from typing import TypeVar

import numpy as np
import soundfile
from numpy.typing import NDArray

from ravecodec.audio import Audio
from ravecodec.errors import InputError
from ravecodec.evaluate.filters import RATE, Floats
from ravecodec.files import make_folder, write_file

Samples = TypeVar("Samples", bound=np.floating)


def write_sound(path: Path, audio: Floats) -> None:
    """Writes float [channels, samples] at 48 kHz as a 16-bit file of the kind that the path's
    suffix names (`.flac`, `.wav`), whole or not at all. Raises OutputError."""
    samples = np.clip(np.rint(audio.T.astype(np.float64) * 32768), -32768, 32767).astype(np.int16)
    data = io.BytesIO()
    soundfile.write(data, samples, RATE, format=path.suffix[1:].upper(), subtype="PCM_16")
    make_folder(path.parent)
    write_file(path, data.getvalue())


def read_sound(path: Path) -> Audio:
    """Reads what `write_sound` wrote: float32 [channels, samples]. Raises InputError for a file
    that cannot be read, is empty or has another rate."""
    try:
        audio, rate = soundfile.read(path, dtype="float32", always_2d=True)
    except (OSError, soundfile.SoundFileError) as error:
        raise InputError(f"{path}: cannot be read ({error})") from error
    if rate != RATE or not len(audio):
        raise InputError(
            f"{path}: has {len(audio)} samples at {rate} Hz, expected some at {RATE} Hz"
        )
    return np.ascontiguousarray(audio.T)


def fitted(audio: NDArray[Samples], samples: int, delay: int = 0) -> NDArray[Samples]:
    """`audio` [channels, any] from sample `delay` on (negative: before its first), `samples` long,
    with zeros where it has none."""
    late = np.pad(audio, ((0, 0), (max(0, -delay), 0)))[:, max(0, delay) :][:, :samples]
    return np.pad(late, ((0, 0), (0, samples - late.shape[1])))


def repeated(audio: Audio, samples: int) -> Audio:
    """`audio` again and again, or cut, to a length."""
    return np.ascontiguousarray(np.tile(audio, -(-samples // audio.shape[1]))[:, :samples])
