"""Losses of both training stages, as functions of tensors.

Stage 1: multiscale spectral distance + beta * KL (RAVE, eq. 5 and 6, in the form that can be
minimised: the second term is the L1 distance of log magnitudes; eq. 5 as printed has no lower
bound). Stage 2: hinge GAN + feature matching (eq. 8). All spectra use hop = window / 4, no padding:
what is compared is only what is really there. A full-scale sine has magnitude 1/2.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

PAPER_WINDOWS = (2048, 1024, 512, 256, 128)
FAINT_RMS = 0.01  # -40 dBFS
MOST_LIFT = 1000.0  # 60 dB: more would amplify what a 16-bit recording does not hold
LOG2E = 1.4426950408889634
# Complex bins that a CPU works on at a time: what is made of them stays in its second-level cache.
CHUNK = 1 << 15
OCTAVE_WINDOW = 2048  # of the spectra that are compared by octaves
TRANSPORT_FROM = 250.0  # Hz: an octave below has too few bins to move anything
LEVEL_FROM = 62.5  # Hz


def _hann(window: int, device: torch.device) -> Tensor:
    """Scaled so that a full-scale sine has magnitude 1/2."""
    return torch.hann_window(window, device=device) * (2 / window)


def spectrum(audio: Tensor, window: int, shape: Tensor | None = None) -> Tensor:
    """Complex spectra [..., frames, window // 2 + 1], hop = window / 4, Hann unless a window's
    `shape` is given.
    """
    if shape is None:
        shape = _hann(window, audio.device)
    return torch.fft.rfft(audio.unfold(-1, window, window // 4) * shape)


def _magnitudes(x: Tensor, sides: bool) -> Tensor:
    """|x| of complex spectra [batch, channels, frames, bins], with a finite gradient at 0
    (silence); `sides` appends mid and side to left and right."""
    # Arithmetic on pairs of floats is several times faster than on complex numbers.
    parts = torch.view_as_real(x)
    if sides:
        left, right = parts[:, :1], parts[:, 1:]
        parts = torch.cat([parts, torch.cat([left + right, right - left], 1).mul_(0.5)], 1)
    squared = parts.square()
    return (squared[..., 0] + squared[..., 1]).add_(1e-14).sqrt_()


def octave_weights(window: int, rate: int, device: torch.device) -> Tensor:
    """Weight per bin, mean 1, falling as 1 / (f + 500 Hz): an octave counts about the same wherever
    it lies.

    Without it five sixths of a 48 kHz spectrum lie above 4 kHz, and harmonics hardly count.
    """
    hertz = torch.arange(window // 2 + 1, device=device) * (rate / window)
    weights = 1 / (hertz + 500)
    return weights / weights.mean()


def spectral_distance(
    target: Tensor,
    output: Tensor,
    window: int,
    floor: float,
    weights: Tensor | None = None,
    sides: bool = False,
) -> Tensor:
    """One scale of S, a scalar: ||X - Y||_F / ||X||_F, averaged over the batch, plus the mean of
    |log X - log Y|.

    X, Y: magnitudes of `target` and `output` [batch, channels, samples]; with `sides`, which is for
    stereo, of mid and side too. `weights` are per bin and of mean 1. `floor` keeps silence finite:
    it is added to magnitudes inside the logarithm, and the linear term is measured against at least
    a tenth of it. Differentiable in `output` only, once.
    """
    if weights is None:
        weights = torch.ones(window // 2 + 1, device=target.device)
    distance: Tensor = _Scale.apply(output, target.detach(), window, floor, weights, sides)
    return distance


class _Scale(torch.autograd.Function):
    """`spectral_distance` with the gradient written out.

    Autograd would take some thirty passes a scale over large tensors, more of a step on a CPU than
    the network. Here both directions go through the frames in chunks that fit into the cache, and
    what depends on the target alone is computed once.
    """

    @staticmethod
    def forward(
        ctx: Any,
        output: Tensor,
        target: Tensor,
        window: int,
        floor: float,
        weights: Tensor,
        sides: bool,
    ) -> Tensor:
        batch, channels, samples = output.shape
        error, size, logs = (output.new_zeros(batch) for _ in range(3))
        shape, chunks = _hann(window, output.device), []
        for part in _chunks(output, window):
            bins = spectrum(output[..., part], window, shape)
            found, wanted = (
                _magnitudes(bins, sides),
                _magnitudes(spectrum(target[..., part], window, shape), sides),
            )
            excess = found - wanted
            error += (excess.square() @ weights).sum((1, 2))
            size += (wanted.square() @ weights).sum((1, 2))
            logs += ((found + floor).div_(wanted.add_(floor)).log_().abs_() @ weights).sum((1, 2))
            chunks.append((part, bins, found, excess))
        count = (
            (2 * channels if sides else channels)
            * (1 + (samples - window) // (window // 4))
            * (window // 2 + 1)
        )
        error, size = (error / count + 1e-14).sqrt(), (size / count).sqrt() + floor / 10
        ctx.chunks, ctx.shape, ctx.window, ctx.sides = chunks, output.shape, window, sides
        ctx.floor, ctx.weights = floor, weights
        # Of the two terms.
        ctx.pull, ctx.push = (
            1 / (batch * count * error * size),
            1 / (batch * count),
        )
        return (error / size).mean() + logs.sum() / (batch * count)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, scale: Tensor) -> tuple[Tensor | None, ...]:
        window, hop = ctx.window, ctx.window // 4
        weights = ctx.weights * scale
        weights[1:-1] /= 2  # the inverse transform counts these bins twice
        shape = _hann(window, scale.device)
        gradient = scale.new_zeros(ctx.shape)
        pull = ctx.pull[:, None, None, None]
        for part, bins, found, excess in ctx.chunks:
            slope = excess.sign().mul_(ctx.push).div_(found + ctx.floor).addcmul_(excess, pull)
            share = slope.mul_(weights).div_(found)  # d distance / d magnitude, over the magnitude
            frames = torch.fft.irfft(_spread(bins, share, ctx.sides), window, norm="forward").mul_(
                shape
            )
            _overlap_add(gradient[..., part], frames, hop)
        return gradient, None, None, None, None, None


def _chunks(audio: Tensor, window: int) -> Iterator[slice]:
    """Slices of samples that hold whole spectra: all of them, each once."""
    batch, channels, samples = audio.shape
    hop = window // 4
    frames = 1 + (samples - window) // hop
    most = (
        max(1, CHUNK // (batch * channels * (window // 2 + 1)))
        if audio.device.type == "cpu"
        else frames
    )
    for first in range(0, frames, most):
        last = min(first + most, frames) - 1
        yield slice(first * hop, last * hop + window)


def _spread(x: Tensor, share: Tensor, sides: bool) -> Tensor:
    """Gradient of complex spectra x, given that of each magnitude of `_magnitudes`, divided by the
    magnitude.
    """
    if not sides:
        return x * share
    # Mid is (L + R) / 2 and side (R - L) / 2; both gradients end in left and in right, halved.
    mid, side = share[:, 2:3].mul_(0.25), share[:, 3:].mul_(0.25)
    own, other = share[:, :2].add_(mid).add_(side), mid - side
    return torch.cat(
        [x[:, :1] * own[:, :1] + x[:, 1:] * other, x[:, 1:] * own[:, 1:] + x[:, :1] * other], 1
    )


def _overlap_add(audio: Tensor, frames: Tensor, hop: int) -> None:
    """Adds frames [..., count, window] into audio [..., (count - 1) * hop + window]; window = 4
    hop.
    """
    count = frames.shape[-2]
    for i in range(4):
        piece = audio[..., i * hop : (i + count) * hop]
        piece += frames[..., i * hop : (i + 1) * hop].flatten(-2)


def multiscale_distance(
    target: Tensor, output: Tensor, windows: Sequence[int] = PAPER_WINDOWS, floor: float = 1e-7
) -> Tensor:
    """S of signals [batch, channels, samples], summed over the scales that fit."""
    total = output.new_zeros(())
    for window in windows:
        if window <= target.shape[-1]:
            total = total + spectral_distance(target, output, window, floor)
    return total


def stereo_distance(
    target: Tensor,
    output: Tensor,
    windows: Sequence[int],
    rate: int,
    floor: float = 3e-5,
    transport: float = 0.0,
    level: float = 0.0,
) -> Tensor:
    """S with octave weights on left, right, mid and side of audio [batch, channels, samples], mean
    over scales; plus `transport` times `octave_transport` and `level` times `octave_level`.

    Mid and side come free from the linear transform; for mono there is only the one signal. Without
    the side term a mono output costs nothing where left and right are equally loud.
    """
    total = output.new_zeros(())
    for window in windows:
        weights = octave_weights(window, rate, target.device)
        total = total + spectral_distance(
            target, output, window, floor, weights, sides=target.shape[1] == 2
        )
    total = total / len(windows)
    if target.shape[-1] >= OCTAVE_WINDOW:
        if transport:
            total = total + transport * octave_transport(target, output, rate)
        if level:
            total = total + level * octave_level(target, output, rate)
    return total


def octave_transport(target: Tensor, output: Tensor, rate: int) -> Tensor:
    """How far within each octave the magnitudes of `output` have to be moved to become those of
    `target`, in widths of the octave: a scalar, 0 to 1. Both are audio [batch, channels, samples],
    at least OCTAVE_WINDOW samples at `rate` Hz.

    That is the optimal transport in one dimension (the Wasserstein-1 distance) between magnitudes
    of the mid channel, divided by their sum over the octave, mean over frames and octaves. A
    difference of logarithms, bin by bin, does not say in which direction a partial lies, and counts
    what lies 60 dB under a partial as much as the partial. Differentiable in `output` only.
    """
    wanted, found = _mid_magnitudes(target.detach()), _mid_magnitudes(output)
    octaves = _octaves(TRANSPORT_FROM, rate)
    total = output.new_zeros(())
    for octave in octaves:
        shares = (magnitudes[..., octave] + 1e-6 for magnitudes in (wanted, found))
        before, after = (share / share.sum(-1, keepdim=True) for share in shares)
        total = total + (before - after).cumsum(-1).abs().mean()
    return total / len(octaves)


def octave_level(target: Tensor, output: Tensor, rate: int) -> Tensor:
    """How much louder or fainter each octave of `output` is than that of `target`, in natural
    logarithms of power: a scalar. Shapes as for `octave_transport`.

    That is the absolute difference of the mid channel's levels, mean over frames and octaves.
    Differences bin by bin are as small where everything is a little too faint as where errors
    cancel out; an ear that hears bands hears the former. Differentiable in `output` only.
    """
    wanted, found = _mid_magnitudes(target.detach()), _mid_magnitudes(output)
    octaves = _octaves(LEVEL_FROM, rate)
    total = output.new_zeros(())
    for octave in octaves:
        powers = (magnitudes[..., octave].square().mean(-1) for magnitudes in (wanted, found))
        before, after = ((power + 1e-9).log() for power in powers)
        total = total + (before - after).abs().mean()
    return total / len(octaves)


def _mid_magnitudes(audio: Tensor) -> Tensor:
    """|X| of the mid channel of audio [batch, channels, samples]: [batch, 1, frames, bins]."""
    mid = audio.mean(1, keepdim=True)
    return _magnitudes(spectrum(mid, OCTAVE_WINDOW, _hann(OCTAVE_WINDOW, audio.device)), False)


def _octaves(lowest: float, rate: int) -> list[slice]:
    """Bins of the octaves from `lowest` Hz up to a third of the rate, at least one; without those
    that have no bin.
    """
    count = max(1, int(math.log2(rate / 3 / lowest)))  # at 48 kHz up to 16 kHz
    edges = [round(lowest * 2**i * OCTAVE_WINDOW / rate) for i in range(count + 1)]
    return [slice(low, high) for low, high in pairwise(edges) if low < high]


def lift(target: Tensor) -> Tensor:
    """Gain [batch, 1, 1] that brings those items of audio [batch, channels, samples] that are
    quieter than FAINT_RMS to that level, but by no more than MOST_LIFT; 1 for all others.

    With both signals lifted, the floor of a distance does not hide how wrong a quiet passage is.
    """
    level = target.square().mean((1, 2), keepdim=True).sqrt()
    return (FAINT_RMS / level.clamp(min=FAINT_RMS / MOST_LIFT)).clamp(min=1.0)


def kl_bits(mean: Tensor, spread: Tensor) -> Tensor:
    """KL(N(mean, spread^2) || N(0, 1)) in bits, with the 1/2, per dimension: [latent], averaged
    over batch and frames.

    Summed and multiplied by the frame rate it is the rate in bit/s that the latents cost in the
    limit.
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
    """Mean over scales and layers of the L1 distance, relative to the mean magnitude of the real
    features.
    """
    parts = [
        _RelativeL1.apply(f, r.detach())
        for scale_r, scale_f in zip(real, fake, strict=True)
        for r, f in zip(scale_r, scale_f, strict=True)
    ]
    return torch.stack(parts).mean()


class _RelativeL1(torch.autograd.Function):
    """mean |x - y| / mean |y|, differentiable in x.

    Its gradient lies in memory as x does. Autograd's own is in rows whatever x is in, and every
    convolution backward of it then takes three times as long on a CPU.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, y: Tensor) -> Tensor:
        excess, size = x - y, _mean_magnitude(y) + 1e-4
        ctx.save_for_backward(excess, size)
        return _mean_magnitude(excess) / size

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, scale: Tensor) -> tuple[Tensor, None]:
        excess, size = ctx.saved_tensors
        return excess.sign().mul_(scale / (size * excess.numel())), None


def _mean_magnitude(x: Tensor) -> Tensor:
    """Mean of |x|, float32; x: [batch, channels, ...].

    Channels last: their sums are what a CPU is fast at.
    """
    channels = x.abs().sum([axis for axis in range(x.dim()) if axis != 1])
    return channels.float().sum() / x.numel()
