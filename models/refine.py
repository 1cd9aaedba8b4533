"""The second half of the encoder: latents are corrected by what the generator makes of them.

Where an encoder errs cannot be seen in the audio; it shows in the gradient of the spectral distance at its latents
(docs/training.md has the measurement). So a learned step decodes the latents with the excitation that the decoder will
use, takes the gradient of the distance to the audio, and lets a small network turn gradient, latents and posterior
spread into a correction. It may be repeated. This is iterative amortised inference (Marino, Yue & Mandt, ICML 2018).
The decoder knows nothing of it.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ravecodec.models.blocks import RowBias, SpectralBlock
from ravecodec.models.clock import Clock
from ravecodec.models.config import ModelConfig
from ravecodec.models.losses import stereo_distance
from ravecodec.models.spectrogram import rows

WINDOWS = (8192, 4096, 2048, 512)  # of the distance whose gradient is taken
TIME = 3  # frames that a block of the network sees
SCALE = 5e3  # brings most gradients, in distance per frame and posterior spread, to about one


class Refiner(nn.Module):
    """Gradient, mean and spread, each [batch, latent, frames] -> correction of the mean, of the same shape.

    Starts without effect: the last layer is zero.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.rows = rows(config)[-1]
        width, per_row = config.refiner, config.latent // self.rows
        self.network = nn.Sequential(
            nn.Conv2d(3 * per_row, width, 1),
            RowBias(width, self.rows),
            SpectralBlock(width, TIME),
            SpectralBlock(width, TIME),
        )
        self.head = nn.Conv2d(width, per_row, 1)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)  # type: ignore[arg-type]

    def forward(self, gradient: Tensor, mean: Tensor, spread: Tensor) -> Tensor:
        pull = (SCALE * gradient * spread).asinh()
        maps = [x.unflatten(1, (-1, self.rows)) for x in (pull, mean, spread.log())]
        x = torch.cat(maps, 1).contiguous(memory_format=torch.channels_last)
        return self.head(self.network(x)).float().flatten(1, 2) * spread


def distance_gradient(network: nn.Module, audio: Tensor, mean: Tensor, clock: Clock, edge: tuple[int, int]) -> Tensor:
    """Gradient of the spectral distance at latents `mean` [batch, latent, frames], of the same shape and without graph.

    The distance is that of the decoded latents to `audio` [batch, channels, frames * hop], without `edge` frames at
    either end, whose sound depends on latents outside; it is counted per item and frame, so that the gradient does not
    depend on how much audio is looked at.
    """
    hop, rate = network.config.hop, network.config.sample_rate
    frames = mean.shape[-1] - sum(edge)
    part = slice(edge[0] * hop, (edge[0] + frames) * hop)
    with torch.enable_grad():
        z = mean.detach().requires_grad_(True)
        output = network.pqmf.synthesis(network.decode_bands(z, clock))
        distance = stereo_distance(audio[..., part], output[..., part], WINDOWS, rate)
        (gradient,) = torch.autograd.grad(distance * (len(audio) * frames), [z])
    return gradient
