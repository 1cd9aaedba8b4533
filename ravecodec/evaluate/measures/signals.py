"""The two signals that a measure compares, and their spectra: checked, mono, float32, full scale =
1."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ravecodec.errors import InputError

Signal = NDArray[np.float32]  # (samples,)
FRAMES_AT_ONCE = 256


def checked_pair(reference: ArrayLike, decoded: ArrayLike) -> tuple[Signal, Signal]:
    """Both signals as float32 vectors. InputError for other shapes, different lengths, NaN or
    infinity."""
    left, right = np.asarray(reference, dtype=np.float32), np.asarray(decoded, dtype=np.float32)
    if left.ndim != 1 or left.shape != right.shape or left.size == 0:
        raise InputError(
            "scores take two mono signals of one length, "
            f"found shapes {left.shape} and {right.shape}"
        )
    if not (np.isfinite(left).all() and np.isfinite(right).all()):
        raise InputError("scores take finite samples, found NaN or infinity")
    return left, right


def hann(size: int) -> NDArray[np.float64]:
    """A periodic Hann window."""
    return np.hanning(size + 1)[:-1]


def spectra(signal: Signal, size: int, hop: int) -> Iterator[Signal]:
    """Magnitudes (frames, size // 2 + 1) of Hann windows, a sine of amplitude 1 giving 1; blocks of
    256 frames."""
    window = hann(size).astype(np.float32)
    window /= window.sum() / 2
    padded = np.pad(signal, (0, max(0, size - len(signal))))
    frames = np.lib.stride_tricks.sliding_window_view(padded, size)[::hop]
    for start in range(0, len(frames), FRAMES_AT_ONCE):
        block = np.fft.rfft(frames[start : start + FRAMES_AT_ONCE] * window, axis=1)
        yield np.abs(block).astype(np.float32)
