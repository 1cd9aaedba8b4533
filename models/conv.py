"""The paper's generator: latents -> 16 PQMF bands by transposed convolutions (RAVE, appendix C.2);
see `multiband.py`.

conv k7 -> per ratio r (in the encoder's own order, coarse strides first): LeakyReLU, transposed
conv k2r stride r, half the channels, residual stack -> three heads at band rate: waveform (tanh)
times loudness (one envelope for all bands), plus noise.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ravecodec.models import noise
from ravecodec.models.blocks import TimeConv, channels_last, leaky, normed_conv, normed_up
from ravecodec.models.clock import Clock
from ravecodec.models.config import NOISE_BLOCK, ModelConfig
from ravecodec.models.reach import Layer, Reach, decoder_lookahead, decoder_reach, same

NOISE_RATIOS = (4, 4, 4)  # their product is NOISE_BLOCK
NOISE_BINS = 5  # real magnitudes of a filter of 8 taps


def mod_sigmoid(x: Tensor) -> Tensor:
    """2 sigmoid(x)^2.3 + 1e-7, a positive amplitude with a long soft tail (DDSP, Engel 2020)."""
    return 2 * torch.sigmoid(x) ** 2.3 + 1e-7


class ResidualUnit(nn.Module):
    """x + conv(conv_dilated(x)), each after a LeakyReLU."""

    def __init__(self, channels: int, dilation: int) -> None:
        super().__init__()
        self.net = nn.Sequential(
            leaky(),
            normed_conv(channels, channels, 3, dilation=dilation),
            leaky(),
            normed_conv(channels, channels, 3),
        )

    def forward(self, x: Tensor) -> Tensor:
        return x + self.net(x)


class NoiseHead(nn.Module):
    """Features [batch, width, 1, samples] -> bands of filtered noise, one zero-phase filter of 8
    taps per band and 64 samples."""

    def __init__(self, width: int, outputs: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for i, ratio in enumerate(NOISE_RATIOS):
            last = i == len(NOISE_RATIOS) - 1
            layers += [leaky()] if i else []
            layers.append(TimeConv(width, outputs * NOISE_BINS if last else width, 3, ratio))
        self.network = nn.Sequential(*layers)
        self.outputs = outputs
        self.register_buffer("window", torch.hann_window(2 * (NOISE_BINS - 1)), persistent=False)

    def _excitation(
        self, blocks: int, clock: Clock, frame_blocks: int, device: torch.device
    ) -> Tensor:
        """Uniform noise [batch, outputs, blocks, 64], a function of (seed, absolute band sample,
        band).
        """
        sample = torch.arange(blocks * NOISE_BLOCK, device=device)
        position = clock.frame[:, None, None] * frame_blocks * NOISE_BLOCK + sample
        lane = torch.arange(self.outputs, device=device)[:, None]
        excitation = noise.uniform(clock.seed[:, None, None], noise.NOISE_STREAM, position, lane)
        return excitation.reshape(-1, self.outputs, blocks, NOISE_BLOCK)

    def forward(self, x: Tensor, clock: Clock, frame_blocks: int) -> Tensor:
        magnitude = mod_sigmoid(self.network(x).squeeze(2).float() - 5)
        batch, _, blocks = magnitude.shape
        magnitude = magnitude.reshape(batch, self.outputs, NOISE_BINS, blocks).transpose(2, 3)
        impulse = torch.fft.fftshift(torch.fft.irfft(magnitude), dim=-1) * self.window
        size = NOISE_BLOCK + impulse.shape[-1]
        excitation = self._excitation(blocks, clock, frame_blocks, x.device)
        filtered = torch.fft.irfft(
            torch.fft.rfft(excitation, size) * torch.fft.rfft(impulse, size), size
        )
        centre = impulse.shape[-1] // 2
        return filtered[..., centre : centre + NOISE_BLOCK].reshape(batch, self.outputs, -1)


class ConvGenerator(nn.Module):
    """Latents [batch, latent, frames] -> bands [batch, channels * 16, frames * hop / 16]."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        width = config.capacity * 2 ** len(config.ratios)
        outputs = config.channels * config.bands
        layers: list[nn.Module] = [normed_conv(config.latent, width, 7)]
        for ratio in config.ratios:
            layers += [leaky(), normed_up(width, width // 2, ratio)]
            width //= 2
            layers += [ResidualUnit(width, dilation) for dilation in config.dilations]
        self.trunk = nn.Sequential(*layers)
        self.waveform = normed_conv(width, outputs, 7)
        self.loudness = normed_conv(width, config.channels, 3)
        self.noise = NoiseHead(width, outputs) if config.noise else None
        self.frame_blocks = config.hop // config.bands // NOISE_BLOCK

    def forward(self, z: Tensor, clock: Clock) -> Tensor:
        x = self.trunk(channels_last(z))
        wave = torch.tanh(self.waveform(x).squeeze(2).float())
        loud = mod_sigmoid(self.loudness(x).squeeze(2).float()).repeat_interleave(
            self.config.bands, 1
        )
        bands = wave * loud
        return bands if self.noise is None else bands + self.noise(x, clock, self.frame_blocks)

    @property
    def _trunk_layers(self) -> list[Layer]:
        layers = [same(7)]
        for ratio in self.config.ratios:
            layers.append(Layer(2 * ratio, ratio, padding=ratio // 2, transposed=True))
            for dilation in self.config.dilations:
                layers += [same(3, dilation), same(3)]
        return layers

    @property
    def _noise_layers(self) -> list[Layer]:
        """Three strided convolutions, then one filter for all 64 samples of its block."""
        strided = [Layer(3, ratio, padding=1) for ratio in NOISE_RATIOS]
        return [*strided, Layer(NOISE_BLOCK, NOISE_BLOCK, transposed=True)]

    @property
    def layers(self) -> list[Layer]:
        """Longest path along time, from frames to band samples."""
        return self._trunk_layers + (self._noise_layers if self.config.noise else [same(7)])

    def reach(self, synthesis: Layer) -> Reach:
        return decoder_reach([*self.layers, synthesis], self.config.hop)

    def lookahead(self, synthesis: Layer) -> int:
        """Of the audio behind the filter bank's synthesis; see `decoder_lookahead`. To the first
        samples of a block the noise looks further, to the last ones the waveform."""
        paths = [self.layers, [*self._trunk_layers, same(7)]]
        return max(decoder_lookahead([*path, synthesis], self.config.hop) for path in paths)
