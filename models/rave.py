"""Rave: the whole autoencoder, one interface for every preset.

    encode(audio) -> mean, spread
    decode(z, clock) -> audio, by way of 16 PQMF bands per channel
    refine(audio, mean, spread, clock) -> mean, corrected by what the generator makes of it

All shapes are [batch, channels or latent, time]; audio is float32 in [-1, 1] at
`config.sample_rate`, its length a multiple of `config.hop`. Beyond both ends a network sees zeros;
`encoder_reach` and `decoder_reach` say how many frames that touches.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ravecodec.errors import UsageError
from ravecodec.models.clock import Clock
from ravecodec.models.config import ModelConfig
from ravecodec.models.conv import ConvGenerator
from ravecodec.models.istft import IstftGenerator
from ravecodec.models.multiband import MultibandEncoder
from ravecodec.models.pqmf import PQMF
from ravecodec.models.reach import Reach
from ravecodec.models.refine import Refiner, distance_gradient
from ravecodec.models.spectrogram import SpectrogramEncoder


class Rave(nn.Module):
    """Encoder, generator and filter bank of a `ModelConfig`."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.pqmf = PQMF()
        self.encoder: MultibandEncoder | SpectrogramEncoder
        self.generator: ConvGenerator | IstftGenerator
        multiband = config.encoder == "multiband"
        self.encoder = (
            MultibandEncoder(config, self.pqmf) if multiband else SpectrogramEncoder(config)
        )
        self.generator = (
            ConvGenerator(config) if config.generator == "conv" else IstftGenerator(config)
        )
        self.refiner = Refiner(config) if config.refiner else None

    def encode(self, audio: Tensor) -> tuple[Tensor, Tensor]:
        """Posterior mean and spread (standard deviation), each [batch, latent, samples / hop]."""
        if audio.shape[1] != self.config.channels or audio.shape[2] % self.config.hop:
            expected = f"[batch, {self.config.channels}, n * {self.config.hop}]"
            raise UsageError(f"encode: audio of shape {list(audio.shape)}; expected {expected}")
        mean, spread = self.encoder(audio)
        return mean, spread

    def refine(
        self, audio: Tensor, mean: Tensor, spread: Tensor, clock: Clock, steps: int, past: int
    ) -> Tensor:
        """The mean after `steps` learned corrections, each by the gradient of the distance to
        `audio` of what the generator makes of it at `clock`; without a refiner, the mean as it is.

        mean, spread: as from `encode`; audio: of the frames behind the first `past` ones (see
        `distance_gradient`). Differentiable in mean, spread and the refiner's weights, not through
        the gradient.
        """
        if self.refiner is not None:
            for _ in range(steps):
                gradient = distance_gradient(self, audio, mean, clock, past)
                mean = mean + self.refiner(gradient, mean, spread)
        return mean

    def decode_bands(self, z: Tensor, clock: Clock) -> Tensor:
        """Latents [batch, latent, frames] -> bands [batch, channels * 16, frames * hop / 16]."""
        bands: Tensor = self.generator(z, clock)
        return bands

    def decode(self, z: Tensor, clock: Clock) -> Tensor:
        """Latents [batch, latent, frames] -> audio [batch, channels, frames * hop]."""
        return self.pqmf.synthesis(self.decode_bands(z, clock))

    @property
    def encoder_lookahead(self) -> int:
        """Samples behind the end of a frame's own audio that its latents depend on."""
        return self.encoder.lookahead

    @property
    def decoder_lookahead(self) -> int:
        """The number a for which a sample m depends on the latents of the frames up to (m + a) //
        hop."""
        return self.generator.lookahead(self.pqmf.synthesis_layer)

    @property
    def encoder_reach(self) -> Reach:
        return self.encoder.reach

    @property
    def decoder_reach(self) -> Reach:
        return self.generator.reach(self.pqmf.synthesis_layer)


def sample_posterior(
    mean: Tensor, spread: Tensor, generator: torch.Generator | None = None
) -> Tensor:
    """Reparametrised sample (Kingma & Welling 2014): from `generator`, one of the CPU, or from
    torch's global one.

    On a GPU the noise is drawn there, from a generator that `generator` seeds: drawing on the CPU
    and copying would make every step wait.
    """
    if spread.device.type != "cpu" and generator is not None:
        seed = int(torch.randint(2**62, (), generator=generator))
        generator = torch.Generator(spread.device).manual_seed(seed)
    drawn = torch.randn(spread.shape, generator=generator, dtype=spread.dtype, device=spread.device)
    return mean + spread * drawn
