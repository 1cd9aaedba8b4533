"""The paper's encoder: strided convolutions on 16 PQMF bands (RAVE, appendix C.1). `conv.py`
mirrors it.

conv k7 -> per ratio r: batch norm, LeakyReLU, conv k(2r+1) stride r, twice the channels ->
LeakyReLU -> conv k5 in two groups, one for the mean and one for the scale of the posterior.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from ravecodec.models.blocks import leaky
from ravecodec.models.config import ModelConfig
from ravecodec.models.pqmf import PQMF
from ravecodec.models.reach import Layer, Reach, encoder_lookahead, encoder_reach, same


class MultibandEncoder(nn.Module):
    """Audio [batch, channels, samples] -> (mean, spread), each [batch, latent, frames]; whole hops
    only.
    """

    def __init__(self, config: ModelConfig, pqmf: PQMF) -> None:
        super().__init__()
        self.config = config
        self.pqmf = pqmf
        width = config.capacity
        layers: list[nn.Module] = [nn.Conv1d(config.channels * config.bands, width, 7, padding=3)]
        for ratio in config.ratios:
            layers += [
                nn.BatchNorm1d(width),
                leaky(),
                nn.Conv1d(width, 2 * width, 2 * ratio + 1, ratio, ratio),
            ]
            width *= 2
        layers += [leaky(), nn.Conv1d(width, 2 * config.latent, 5, padding=2, groups=2)]
        self.network = nn.Sequential(*layers)

    def forward(self, audio: Tensor) -> tuple[Tensor, Tensor]:
        mean, spread = self.network(self.pqmf.analysis(audio)).float().chunk(2, 1)
        return mean, F.softplus(spread) + 1e-4

    @property
    def layers(self) -> list[Layer]:
        """Longest path along time, from samples to frames."""
        strided = [Layer(2 * r + 1, r, padding=r) for r in self.config.ratios]
        return [self.pqmf.analysis_layer, same(7), *strided, same(5)]

    @property
    def reach(self) -> Reach:
        """Context in frames on each side."""
        return encoder_reach(self.layers, self.config.hop)

    @property
    def lookahead(self) -> int:
        """Samples behind the end of a frame that it depends on."""
        return encoder_lookahead(self.layers, self.config.hop)
