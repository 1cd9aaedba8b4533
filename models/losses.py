"""Losses of both training stages, as functions of tensors.

Stage 1: multiscale spectral distance + beta * KL (RAVE, eq. 5 and 6, in the form that can be minimised: the second term
is the L1 distance of log magnitudes; eq. 5 as printed has no lower bound). Stage 2: hinge GAN + feature matching (eq.
8). All spectra use hop = window / 4, no padding: what is compared is only what is really there. A full-scale sine has
magnitude 1/2.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

PAPER_WINDOWS = (2048, 1024, 512, 256, 128)
LOG2E = 1.4426950408889634


def spectrum(audio: Tensor, window: int) -> Tensor:
    """Complex spectra [..., frames, window // 2 + 1], Hann, hop = window / 4."""
    shape = torch.hann_window(window, device=audio.device) * (2 / window)
    return torch.fft.rfft(audio.unfold(-1, window, window // 4) * shape)


def _smooth_abs(x: Tensor) -> Tensor:
    """|x| of a complex tensor with a finite gradient at 0 (silence)."""
    return (x.real.square() + x.imag.square() + 1e-14).sqrt()


def mel_weights(window: int, rate: int, device: torch.device) -> Tensor:
    """Weight per bin, mean 1, falling as 1 / (f + 500 Hz): an octave counts about the same wherever it lies.

    Without it five sixths of a 48 kHz spectrum lie above 4 kHz, and harmonics hardly count.
    """
    hertz = torch.arange(window // 2 + 1, device=device) * (rate / window)
    weights = 1 / (hertz + 500)
    return weights / weights.mean()


def spectral_distance(target: Tensor, output: Tensor, floor: float, weights: Tensor | None = None) -> Tensor:
    """One scale of S, a scalar: ||X - Y||_F / ||X||_F, averaged over the batch, plus the mean of |log X - log Y|.

    `target`, `output`: magnitudes [batch, ..., frames, bins]. `floor` keeps silence finite: it is added to magnitudes
    inside the logarithm, and the linear term is measured against at least a tenth of it.
    """
    if weights is None:
        weights = torch.ones(target.shape[-1], device=target.device)
    squared = weights * (target - output).square()
    axes = tuple(range(1, target.dim()))
    error = (squared.mean(axes) + 1e-14).sqrt()
    size = (weights * target.square()).mean(axes).sqrt()
    linear = (error / (size + floor / 10)).mean()
    logarithmic = (weights * ((target + floor).log() - (output + floor).log()).abs()).mean()
    return linear + logarithmic


def multiscale_distance(
    target: Tensor, output: Tensor, windows: Sequence[int] = PAPER_WINDOWS, floor: float = 1e-7
) -> Tensor:
    """S of signals [batch, channels, samples], summed over the scales that fit."""
    total = output.new_zeros(())
    for window in windows:
        if window <= target.shape[-1]:
            real, fake = _smooth_abs(spectrum(target, window)), _smooth_abs(spectrum(output, window))
            total = total + spectral_distance(real, fake, floor)
    return total


def stereo_distance(target: Tensor, output: Tensor, windows: Sequence[int], rate: int, floor: float = 3e-5) -> Tensor:
    """S with octave weights on left, right, mid and side of audio [batch, channels, samples], mean over scales.

    Mid and side come free from the linear transform; for mono there is only the one signal. Without the side term a
    mono output costs nothing where left and right are equally loud.
    """
    total = output.new_zeros(())
    for window in windows:
        weights = mel_weights(window, rate, target.device)
        pair = []
        for audio in (target, output):
            x = spectrum(audio, window)
            if audio.shape[1] == 2:
                x = torch.cat([x, x.mean(1, keepdim=True), x.diff(dim=1) / 2], 1)
            pair.append(_smooth_abs(x))
        total = total + spectral_distance(pair[0], pair[1], floor, weights)
    return total / len(windows)


def kl_bits(mean: Tensor, spread: Tensor) -> Tensor:
    """KL(N(mean, spread^2) || N(0, 1)) in bits, with the 1/2, per dimension: [latent], averaged over batch and frames.

    Summed and multiplied by the frame rate it is the rate in bit/s that the latents cost in the limit.
    """
    return (LOG2E / 2) * (mean.square() + spread.square() - 1 - 2 * spread.log()).mean((0, 2))


def discriminator_hinge(real: Sequence[Tensor], fake: Sequence[Tensor]) -> Tensor:
    """Mean over scales of max(0, 1 - D(x)) + max(0, 1 + D(y))."""
    parts = [F.relu(1 - r).mean() + F.relu(1 + f).mean() for r, f in zip(real, fake, strict=True)]
    return torch.stack(parts).mean()


def generator_hinge(fake: Sequence[Tensor]) -> Tensor:
    """Mean over scales of -D(y)."""
    return torch.stack([-f.mean() for f in fake]).mean()


def feature_matching(real: Sequence[Sequence[Tensor]], fake: Sequence[Sequence[Tensor]]) -> Tensor:
    """Mean over scales and layers of the L1 distance, relative to the mean magnitude of the real features."""
    parts = [
        (r.detach() - f).abs().mean() / (r.detach().abs().mean() + 1e-4)
        for scale_r, scale_f in zip(real, fake, strict=True)
        for r, f in zip(scale_r, scale_f, strict=True)
    ]
    return torch.stack(parts).mean()
