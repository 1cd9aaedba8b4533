"""Discriminators of stage 2. All return, per scale, the list of feature maps; the last map holds
the logits.

`views` is what the scales see of audio: it has no weights, so that a step that shows the same audio
twice computes it once, and `judge` takes it from there.

`WaveformDiscriminator` is MelGAN's (Kumar et al. 2019), as in the RAVE paper: three scales of
average-pooled audio. `SpectrumDiscriminator` looks at complex spectra of several windows, as
EnCodec does: much cheaper on a CPU.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import weight_norm

from ravecodec.models.blocks import LEAK
from ravecodec.models.losses import spectrum

Features = list[Tensor]


def _walk(layers: nn.ModuleList, x: Tensor) -> Features:
    """The output of every layer: LeakyReLU behind all but the last, which holds the logits."""
    features = []
    for layer in layers[:-1]:
        x = F.leaky_relu(layer(x), LEAK)
        features.append(x)
    return [*features, layers[-1](x)]


class WaveformScale(nn.Module):
    """Strided, grouped convolutions on audio [batch, channels, samples]; the paper's widths at
    `capacity` 16.
    """

    def __init__(self, channels: int, capacity: int) -> None:
        super().__init__()
        wide = [capacity, 4 * capacity, 16 * capacity, 64 * capacity, 64 * capacity]
        layers = [nn.Conv1d(channels, wide[0], 15, padding=7)]
        for inputs, outputs, groups in zip(wide[:-1], wide[1:], (4, 16, 64, 256), strict=True):
            layers.append(nn.Conv1d(inputs, outputs, 41, 4, 20, groups=min(groups, inputs)))
        layers += [nn.Conv1d(wide[-1], wide[-1], 5, padding=2), nn.Conv1d(wide[-1], 1, 1)]
        self.layers = nn.ModuleList(weight_norm(layer) for layer in layers)

    def forward(self, x: Tensor) -> Features:
        return _walk(self.layers, x)


class WaveformDiscriminator(nn.Module):
    """Three scales; each halves the sample rate of the one before by average pooling."""

    def __init__(self, channels: int, capacity: int = 16, scales: int = 3) -> None:
        super().__init__()
        self.scales = nn.ModuleList(WaveformScale(channels, capacity) for _ in range(scales))

    def views(self, audio: Tensor) -> list[Tensor]:
        """Audio [batch, channels, samples], and pooled."""
        views = [audio]
        for _ in self.scales[1:]:
            views.append(F.avg_pool1d(views[-1], 2))
        return views

    def judge(self, views: list[Tensor]) -> list[Features]:
        return [scale(view) for scale, view in zip(self.scales, views, strict=True)]

    def forward(self, audio: Tensor) -> list[Features]:
        return self.judge(self.views(audio))


def compressed_spectrum(audio: Tensor, window: int) -> Tensor:
    """Spectra of audio [batch, channels, samples] to the power 0.3, so that quiet partials are seen
    too: [batch, 2 * channels, frames, bins], the real parts of all channels, then the imaginary
    parts."""
    bins = spectrum(audio, window)
    magnitude = (bins.real.square() + bins.imag.square() + 1e-12).sqrt()
    bins = bins * (magnitude + 1e-4).pow(-0.7)
    return torch.cat([bins.real, bins.imag], 1).contiguous(memory_format=torch.channels_last)


class SpectrumScale(nn.Module):
    """2-d convolutions over the compressed spectra of one window."""

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            weight_norm(layer)
            for layer in (
                nn.Conv2d(2 * channels, width, (3, 9), padding=(1, 4)),
                nn.Conv2d(width, width, (3, 9), (1, 2), padding=(1, 4)),
                nn.Conv2d(width, width, (3, 9), (1, 2), padding=(2, 4), dilation=(2, 1)),
                nn.Conv2d(width, width, (3, 9), (1, 2), padding=(4, 4), dilation=(4, 1)),
                nn.Conv2d(width, width, 3, padding=1),
                nn.Conv2d(width, 1, 3, padding=1),
            )
        )

    def forward(self, x: Tensor) -> Features:
        return _walk(self.layers, x)


class SpectrumDiscriminator(nn.Module):
    """One scale per window length."""

    def __init__(
        self, channels: int, windows: tuple[int, ...] = (4096, 2048, 1024, 512), width: int = 16
    ) -> None:
        super().__init__()
        self.windows = windows
        self.scales = nn.ModuleList(SpectrumScale(channels, width) for _ in windows)

    def views(self, audio: Tensor) -> list[Tensor]:
        """Per window the planes of `compressed_spectrum`."""
        with torch.autocast(audio.device.type, enabled=False):
            return [compressed_spectrum(audio.float(), window) for window in self.windows]

    def judge(self, views: list[Tensor]) -> list[Features]:
        return [scale(view) for scale, view in zip(self.scales, views, strict=True)]

    def forward(self, audio: Tensor) -> list[Features]:
        return self.judge(self.views(audio))
