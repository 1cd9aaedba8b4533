"""The building blocks that both families share: convolutions along time, and ConvNeXt blocks over
(frequency, time).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import weight_norm

LEAK = 0.2  # slope of every LeakyReLU (RAVE, appendix C)


def leaky() -> nn.LeakyReLU:
    return nn.LeakyReLU(LEAK)


def channels_last(x: Tensor) -> Tensor:
    """[batch, channels, time] -> [batch, channels, 1, time], the channels of a moment side by side
    in memory: what `TimeConv` and `TimeUp` take. torch has this layout for images only, and its CPU
    kernels are fastest in it."""
    return x[:, :, None].contiguous(memory_format=torch.channels_last)


class TimeConv(nn.Conv1d):
    """nn.Conv1d, with its weights, over [batch, channels, 1, time] as `channels_last` makes it."""

    def __init__(
        self, inputs: int, outputs: int, kernel: int, stride: int = 1, dilation: int = 1
    ) -> None:
        super().__init__(inputs, outputs, kernel, stride, dilation * (kernel - 1) // 2, dilation)
        self.across = (1, stride), (0, dilation * (kernel - 1) // 2), (1, dilation)

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(x, self.weight[:, :, None], self.bias, *self.across)


class TimeUp(nn.ConvTranspose1d):
    """nn.ConvTranspose1d that makes time `ratio` times longer, exactly; shapes as in `TimeConv`."""

    def __init__(self, inputs: int, outputs: int, ratio: int) -> None:
        super().__init__(inputs, outputs, 2 * ratio, ratio, ratio // 2)
        self.across = (1, ratio), (0, ratio // 2)

    def forward(self, x: Tensor) -> Tensor:  # type: ignore[override]
        return F.conv_transpose2d(x, self.weight[:, :, None], self.bias, *self.across)


def arrange(network: nn.Module) -> None:
    """Puts the weights of every `TimeConv` and `TimeUp`, without weight norm, into the layout of
    their input, which else each call would do again."""
    for module in network.modules():
        if isinstance(module, TimeConv | TimeUp):
            module.weight.data = channels_last(module.weight.data)[:, :, 0]


def normed_conv(inputs: int, outputs: int, kernel: int, dilation: int = 1) -> nn.Module:
    """Weight-normalised `TimeConv`."""
    return weight_norm(TimeConv(inputs, outputs, kernel, dilation=dilation))


def normed_up(inputs: int, outputs: int, ratio: int) -> nn.Module:
    """Weight-normalised `TimeUp`."""
    return weight_norm(TimeUp(inputs, outputs, ratio))


class ChannelNorm(nn.Module):
    """Layer normalisation over the channels of [batch, channels, frequency, time], each position by
    itself:
    unlike instance or group norm it keeps the receptive field finite."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        x = nn.functional.layer_norm(
            x.permute(0, 2, 3, 1), self.weight.shape, self.weight, self.bias, 1e-5
        )
        return x.permute(0, 3, 1, 2)


class SpectralBlock(nn.Module):
    """ConvNeXt block (Liu et al. 2022) over [batch, channels, rows, frames]: a depthwise filter of
    7 rows by `time` frames, then a pointwise network. Sharing weights along the warped frequency
    axis is what lets it learn a partial once for all pitches.

    causal: a frame is made of itself and the `past` frames before it.
    """

    def __init__(
        self, channels: int, time: int, expansion: int = 2, *, causal: bool = False
    ) -> None:
        super().__init__()
        self.past = time - 1 if causal else 0
        padding = (3, 0 if causal else time // 2)
        self.filter = nn.Conv2d(channels, channels, (7, time), padding=padding, groups=channels)
        self.norm = ChannelNorm(channels)
        self.widen = nn.Conv2d(channels, expansion * channels, 1)
        self.narrow = nn.Conv2d(expansion * channels, channels, 1)
        nn.init.normal_(self.narrow.weight, std=0.02)
        nn.init.zeros_(self.narrow.bias)  # type: ignore[arg-type]

    def forward(self, x: Tensor, before: Tensor | None = None) -> Tensor:
        """before: the `past` frames before x, where they are known; else they are zeros."""
        seen = x
        if self.past:
            seen = F.pad(x, (self.past, 0)) if before is None else torch.cat([before, x], 3)
        return x + self.narrow(nn.functional.gelu(self.widen(self.norm(self.filter(seen)))))


class RowBias(nn.Module):
    """A learnt offset per (channel, row): tells a frequency-equivariant network which frequency it
    looks at.
    """

    def __init__(self, channels: int, rows: int) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.randn(channels, rows, 1) * 0.02)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.bias
