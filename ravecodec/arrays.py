"""Audio and latents in memory, as they are given: arrays, lists or tensors."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from ravecodec.audio import (
    MAX_AMPLITUDE,
    MAX_CHANNELS,
    MAX_RATE,
    MIN_RATE,
    Audio,
    check_full_scale,
    expected_amplitude,
)
from ravecodec.errors import InputError
from ravecodec.point import real


def as_numpy(array: Any) -> Any:
    """A torch tensor, on any device and with or without a gradient, as an array; anything else as
    it is.

    InputError for a tensor that no array can hold: sparse, quantised, without data.
    """
    if not hasattr(array, "detach"):
        return array
    try:
        array = array.detach().cpu()
        return (array.float() if array.is_floating_point() else array).numpy()
    except (TypeError, RuntimeError) as error:  # NotImplementedError is one
        found = f"{array.dtype} tensor ({array.layout}) on {array.device}"
        raise InputError(
            f"a {found} cannot become an array, expected a dense one with data"
        ) from error


def as_audio(audio: ArrayLike, sample_rate: int, full_scale: float) -> Audio:
    """float32 [channels, samples] within bounds, or InputError, as `encode` takes it."""
    if np.ma.is_masked(audio):
        raise InputError("audio: has masked samples, expected a value for each (`audio.filled(0)`)")
    try:
        given = np.atleast_2d(np.asarray(audio))
    except ValueError as error:  # rows of different lengths
        raise InputError(
            f"audio: is no array ({error}), expected floats [1 or 2 channels, samples]"
        ) from error
    if np.issubdtype(given.dtype, np.integer):
        raise InputError(
            f"audio: {given.dtype}, expected floats with full scale +-1 (int16: divide by 32768)"
        )
    if (
        not np.issubdtype(given.dtype, np.floating)
        or given.ndim != 2
        or not 1 <= len(given) <= MAX_CHANNELS
    ):
        raise InputError(
            f"audio: {given.dtype} of shape {given.shape}, expected floats [1 or 2 channels, "
            "samples]"
        )
    full_scale = real(full_scale, "full scale")
    check_full_scale(full_scale)
    with np.errstate(over="ignore"):  # infinite then, and refused
        samples = (given / full_scale).astype(np.float32)
    if (wrong := ~(np.abs(samples) <= MAX_AMPLITUDE)).any():
        channel, at = (int(i) for i in np.argwhere(wrong)[0])
        value = float(samples[channel, at])
        where = f"sample {at} of channel {channel + 1}"
        raise InputError(f"audio: holds {value:g} at {where}, {expected_amplitude(value)}")
    if not MIN_RATE <= sample_rate <= MAX_RATE:
        raise InputError(
            f"audio: has a rate of {sample_rate} Hz, expected {MIN_RATE} to {MAX_RATE} Hz"
        )
    return samples
