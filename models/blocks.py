"""The building blocks that both families share: convolutions along time, and ConvNeXt blocks over (frequency, time)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrizations import weight_norm

LEAK = 0.2  # slope of every LeakyReLU (RAVE, appendix C)


def leaky() -> nn.LeakyReLU:
    return nn.LeakyReLU(LEAK)


def normed_conv(inputs: int, outputs: int, kernel: int, stride: int = 1, dilation: int = 1) -> nn.Module:
    """Weight-normalised conv1d with centred padding."""
    padding = dilation * (kernel - 1) // 2
    return weight_norm(nn.Conv1d(inputs, outputs, kernel, stride, padding, dilation))


def normed_up(inputs: int, outputs: int, ratio: int) -> nn.Module:
    """Weight-normalised transposed convolution: length times `ratio`, exactly."""
    return weight_norm(nn.ConvTranspose1d(inputs, outputs, 2 * ratio, ratio, ratio // 2))


class ChannelNorm(nn.Module):
    """Layer normalisation over the channels of [batch, channels, frequency, time], each position by itself:
    unlike instance or group norm it keeps the receptive field finite."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        x = nn.functional.layer_norm(x.permute(0, 2, 3, 1), self.weight.shape, self.weight, self.bias, 1e-5)
        return x.permute(0, 3, 1, 2)


class SpectralBlock(nn.Module):
    """ConvNeXt block (Liu et al. 2022) over [batch, channels, rows, frames]: a depthwise filter of 7 rows by `time`
    frames, then a pointwise network. Sharing weights along the warped frequency axis is what lets it learn a partial
    once for all pitches."""

    def __init__(self, channels: int, time: int, expansion: int = 2) -> None:
        super().__init__()
        self.filter = nn.Conv2d(channels, channels, (7, time), padding=(3, time // 2), groups=channels)
        self.norm = ChannelNorm(channels)
        self.widen = nn.Conv2d(channels, expansion * channels, 1)
        self.narrow = nn.Conv2d(expansion * channels, channels, 1)
        nn.init.normal_(self.narrow.weight, std=0.02)
        nn.init.zeros_(self.narrow.bias)  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> Tensor:
        return x + self.narrow(nn.functional.gelu(self.widen(self.norm(self.filter(x)))))


class RowBias(nn.Module):
    """A learnt offset per (channel, row): tells a frequency-equivariant network which frequency it looks at."""

    def __init__(self, channels: int, rows: int) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.randn(channels, rows, 1) * 0.02)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.bias
