"""The second half of the encoder: latents are corrected by what the generator makes of them.

Where an encoder errs cannot be seen in the audio; it shows in the gradient of the spectral distance
at its latents (docs/experiments.md has the measurement). So a learned step decodes the latents with
the excitation that the decoder will use, takes the gradient of the distance to the audio, and lets
a small network turn gradient, latents and posterior spread into a correction. It may be repeated.
This is iterative amortised inference (Marino, Yue & Mandt, ICML 2018). The decoder knows nothing of
it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from ravecodec.models.blocks import RowBias, SpectralBlock
from ravecodec.models.clock import Clock
from ravecodec.models.config import ModelConfig
from ravecodec.models.losses import lift, stereo_distance
from ravecodec.models.spectrogram import rows

if TYPE_CHECKING:
    from ravecodec.models.rave import Rave

WINDOWS = (8192, 4096, 2048, 512)  # of the distance whose gradient is taken
BLOCKS = 2
TIME = 3  # frames that a block of the network sees
# Frames on each side that a correction depends on, apart from the gradient's own reach.
REACH = BLOCKS * (TIME // 2)
SCALE = 5e3  # brings most gradients, in distance per frame and posterior spread, to about one


class Refiner(nn.Module):
    """Gradient, mean and spread, each [batch, latent, frames] -> correction of the mean, of the
    same shape.

    Starts without effect: the last layer is zero.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.rows = rows(config)[-1]
        width, per_row = config.refiner, config.latent // self.rows
        self.network = nn.Sequential(
            nn.Conv2d(3 * per_row, width, 1),
            RowBias(width, self.rows),
            *(SpectralBlock(width, TIME) for _ in range(BLOCKS)),
        )
        self.head = nn.Conv2d(width, per_row, 1)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)  # type: ignore[arg-type]

    def forward(self, gradient: Tensor, mean: Tensor, spread: Tensor) -> Tensor:
        pull = (SCALE * gradient * spread).asinh()
        maps = [x.unflatten(1, (-1, self.rows)) for x in (pull, mean, spread.log())]
        x = torch.cat(maps, 1).contiguous(memory_format=torch.channels_last)
        return self.head(self.network(x)).float().flatten(1, 2) * spread


def distance_gradient(
    network: Rave, audio: Tensor, mean: Tensor, clock: Clock, past: int
) -> Tensor:
    """Gradient of the spectral distance at latents `mean` [batch, latent, frames], of the same
    shape and without graph.

    The distance is that of the decoded latents to `audio` [batch, channels, n * hop], which begins
    `past` frames behind the first latent and may end before the last one: the outermost frames
    sound as latents outside want it. It is counted per item and frame, so that the gradient does
    not depend on how much audio is compared. Windows that are longer than the audio are left out.
    """
    hop, samples = network.config.hop, audio.shape[-1]
    windows = [window for window in WINDOWS if window <= samples]
    if not windows:
        return torch.zeros_like(mean)
    with torch.enable_grad():
        z = mean.detach().requires_grad_(True)
        output = network.decode(z, clock)[..., past * hop : past * hop + samples]
        gain = lift(audio)
        distance = stereo_distance(gain * audio, gain * output, windows, network.config.sample_rate)
        (gradient,) = torch.autograd.grad(distance * (len(audio) * samples / hop), [z])
    return gradient
