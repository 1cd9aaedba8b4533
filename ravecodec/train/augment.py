"""Augmentations of crops [frames, channels], float32 tensors on any device; their random draws are
numpy's.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

POLE_RADIUS = 0.99  # of the all-pass; with its frequencies: RAVE, section 4.1
POLE_HERTZ = (20.0, 2000.0)
# samples after which the all-pass has forgotten what was before: POLE_RADIUS ** SETTLING is 1e-18
SETTLING = 4096
# of a crop, up to a semitone slower or faster; most crops are multiples of 64 samples, so that all
# these lengths have small factors and a fast FFT
SPEEDS = np.array([60, 61, 62, 63, 65, 66, 67, 68]) / 64


def place(crop: Tensor, random: np.random.Generator) -> Tensor:
    """Another stereo image of a crop [frames, 2], half of the time one below and another above a
    random frequency.

    Most music is mixed around the middle: without this a network hardly ever sees a sound on one
    side.
    """
    low, high = (torch.from_numpy(_image(random)).to(crop) for _ in range(2))
    corner = 2 ** random.uniform(-7, -2)  # of half the sample rate
    if random.random() < 0.5:
        return crop @ low
    # [bins, real and imaginary, channels].
    spectrum = torch.view_as_real(torch.fft.rfft(crop, dim=0)).transpose(1, 2)
    share = 1 / (1 + (corner / torch.linspace(1e-6, 1, len(spectrum), device=crop.device)) ** 4)
    share = share[:, None, None]
    placed = spectrum @ low * (1 - share) + spectrum @ high * share
    return torch.fft.irfft(
        torch.view_as_complex(placed.transpose(1, 2).contiguous()), len(crop), dim=0
    )


def _image(random: np.random.Generator) -> np.ndarray:
    """A matrix [2, 2] for samples (left, right): side times 0 to 1.5, then the right turned down,
    once in five times to silence; once in ten its polarity is turned as well."""
    width = random.uniform(0, 1.5)
    gain = max(0.0, random.uniform(-0.25, 1))
    if random.random() < 0.1:
        gain = -gain
    return np.array([[1 + width, gain * (1 - width)], [1 - width, gain * (1 + width)]]) / 2


def change_speed(crop: Tensor, length: int) -> Tensor:
    """A crop [n, channels] played in `length` samples, n / `length` times as fast and as high, as
    [length, channels]: band-limited interpolation by FFT, which keeps amplitudes.

    What lies at or above half of the lower of both sample rates is left out and does not fold. The
    crop is resampled as if it were repeated: where its ends do not meet, they ring at the upper end
    of the band.
    """
    spectrum = torch.fft.rfft(crop, dim=0)
    spectrum[(min(len(crop), length) + 1) // 2 :] = 0
    return torch.fft.irfft(spectrum, length, dim=0) * (length / len(crop))


def random_allpass(crop: Tensor, rate: int, random: np.random.Generator) -> Tensor:
    """A crop at `rate` Hz through an all-pass whose frequency is log-uniform in POLE_HERTZ."""
    hertz = np.exp(random.uniform(*np.log(POLE_HERTZ)))
    return turn_phase(crop, 2 * np.pi * hertz / rate)


def turn_phase(crop: Tensor, angle: float) -> Tensor:
    """A crop [frames, channels] through the all-pass of second order with poles of radius r =
    POLE_RADIUS at +-`angle` (radians per sample):

        H(z) = (r^2 - 2 r cos(angle) z^-1 + z^-2) / (1 - 2 r cos(angle) z^-1 + r^2 z^-2)

    The numerator is the denominator D read backwards, so |H| = 1: on the unit circle H = z^-2
    conj(D) / D. It is multiplied with the spectrum of the whole crop, as if the crop were repeated;
    the response lasts SETTLING samples, and as many at the start of the crop hold what came round
    from its end.
    """
    delay = np.exp(-2j * np.pi * np.arange(len(crop) // 2 + 1) / len(crop))  # z^-1 at every bin
    denominator = 1 - 2 * POLE_RADIUS * np.cos(angle) * delay + (POLE_RADIUS * delay) ** 2
    response = torch.from_numpy(
        (delay**2 * denominator.conj() / denominator).astype(np.complex64)
    ).to(crop.device)
    return torch.fft.irfft(torch.fft.rfft(crop, dim=0) * response[:, None], len(crop), dim=0)
