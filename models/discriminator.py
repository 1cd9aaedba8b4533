"""Discriminators of stage 2. Both return, per scale, the list of feature maps; the last map holds the logits.

`WaveformDiscriminator` is MelGAN's (Kumar et al. 2019), as in the RAVE paper: three scales of average-pooled audio.
`SpectrumDiscriminator` looks at complex spectra of several windows, as EnCodec and DAC do: much cheaper on a CPU.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import weight_norm

from ravecodec.models.blocks import LEAK
from ravecodec.models.losses import spectrum

Features = list[Tensor]


class WaveformScale(nn.Module):
    """Strided, grouped convolutions on audio [batch, channels, samples]; the paper's widths at `capacity` 16."""

    def __init__(self, channels: int, capacity: int) -> None:
        super().__init__()
        wide = [capacity, 4 * capacity, 16 * capacity, 64 * capacity, 64 * capacity]
        layers = [nn.Conv1d(channels, wide[0], 15, padding=7)]
        for inputs, outputs, groups in zip(wide[:-1], wide[1:], (4, 16, 64, 256), strict=True):
            layers.append(nn.Conv1d(inputs, outputs, 41, 4, 20, groups=min(groups, inputs)))
        layers += [nn.Conv1d(wide[-1], wide[-1], 5, padding=2), nn.Conv1d(wide[-1], 1, 1)]
        self.layers = nn.ModuleList(weight_norm(layer) for layer in layers)

    def forward(self, x: Tensor) -> Features:
        features = []
        for layer in self.layers[:-1]:
            x = F.leaky_relu(layer(x), LEAK)
            features.append(x)
        return [*features, self.layers[-1](x)]


class WaveformDiscriminator(nn.Module):
    """Three scales; each halves the sample rate of the one before by average pooling."""

    def __init__(self, channels: int, capacity: int = 16, scales: int = 3) -> None:
        super().__init__()
        self.scales = nn.ModuleList(WaveformScale(channels, capacity) for _ in range(scales))

    def forward(self, audio: Tensor) -> list[Features]:
        out = []
        for scale in self.scales:
            out.append(scale(audio))
            audio = F.avg_pool1d(audio, 2)
        return out


class SpectrumScale(nn.Module):
    """2-d convolutions over (bin, frame) of one window; real and imaginary parts of every channel are input planes."""

    def __init__(self, channels: int, window: int, width: int) -> None:
        super().__init__()
        self.window = window
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

    def forward(self, audio: Tensor) -> Features:
        with torch.autocast(audio.device.type, enabled=False):
            bins = spectrum(audio.float(), self.window)
            magnitude = (bins.real.square() + bins.imag.square() + 1e-12).sqrt()
            bins = bins * (magnitude + 1e-4).pow(-0.7)  # compressed, so that quiet partials are seen too
            x = torch.cat([bins.real, bins.imag], 1).contiguous(memory_format=torch.channels_last)
        features = []
        for layer in self.layers[:-1]:
            x = F.leaky_relu(layer(x), LEAK)
            features.append(x)
        return [*features, self.layers[-1](x)]


class SpectrumDiscriminator(nn.Module):
    """One scale per window length."""

    def __init__(self, channels: int, windows: tuple[int, ...] = (4096, 2048, 1024, 512), width: int = 16) -> None:
        super().__init__()
        self.windows = windows
        self.scales = nn.ModuleList(SpectrumScale(channels, window, width) for window in windows)

    def forward(self, audio: Tensor) -> list[Features]:
        return [scale(audio) for scale in self.scales]
