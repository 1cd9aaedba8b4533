"""Receptive fields by interval arithmetic: which inputs can an output depend on?

Every network lists its longest path as `Layer`s; the streaming codec asks how many neighbour frames
a frame needs on each side, and so gives each chunk exactly the real context that makes chunked and
whole-file results the same.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Layer:
    """A convolution along time (or a window: an STFT is one with a long kernel)."""

    kernel: int
    stride: int = 1
    dilation: int = 1
    padding: int = 0
    transposed: bool = False

    def span(self, first: int, last: int) -> tuple[int, int]:
        """Input interval that the output interval [first, last] depends on."""
        if self.transposed:
            return -((self.kernel - 1 - first - self.padding) // self.stride), (
                last + self.padding
            ) // self.stride
        start = first * self.stride - self.padding
        return start, last * self.stride - self.padding + (self.kernel - 1) * self.dilation


def same(kernel: int, dilation: int = 1) -> Layer:
    """A stride-1 convolution with centred zero padding."""
    return Layer(kernel, dilation=dilation, padding=dilation * (kernel - 1) // 2)


def backward(kernel: int) -> Layer:
    """A stride-1 convolution that looks only back: zero padding before the first sample."""
    return Layer(kernel, padding=kernel - 1)


@dataclass(frozen=True)
class Reach:
    """Frames of context that one frame needs before and after itself."""

    past: int
    future: int


def _inputs(layers: Sequence[Layer], first: int, last: int) -> tuple[int, int]:
    for layer in reversed(layers):
        first, last = layer.span(first, last)
    return first, last


def encoder_reach(layers: Sequence[Layer], hop: int) -> Reach:
    """Context of one latent frame, in frames, for layers from samples to frames."""
    first, last = _inputs(layers, 0, 0)
    return Reach(max(0, -(first // hop)), max(0, last // hop))


def decoder_reach(layers: Sequence[Layer], hop: int) -> Reach:
    """Context of one frame of audio, in frames, for layers from frames to samples."""
    first, last = _inputs(layers, 0, hop - 1)
    return Reach(max(0, -first), max(0, last))


def encoder_lookahead(layers: Sequence[Layer], hop: int) -> int:
    """Samples behind the end of a frame's own audio that the frame depends on, for layers from
    samples to frames; below 0 where it does not need all of its own."""
    return _inputs(layers, 0, 0)[1] - (hop - 1)


def decoder_lookahead(layers: Sequence[Layer], hop: int) -> int:
    """The number a for which sample m of the audio depends on the frames up to (m + a) // hop, for
    layers from frames to samples."""

    def last_frame(sample: int) -> int:
        return _inputs(layers, sample, sample)[1]

    future = decoder_reach(layers, hop).future
    samples = range(-(future + 1) * hop, hop + 1)
    return hop - samples[bisect_left(samples, 1, key=last_frame)]
