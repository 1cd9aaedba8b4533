"""How far the moving average is from audio that it never trains on: the same crops, places and
noise every time.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ravecodec.evaluate.measures.peaks import peak_f1
from ravecodec.models.clock import Clock
from ravecodec.models.config import ModelConfig
from ravecodec.models.losses import kl_bits
from ravecodec.models.rave import Rave
from ravecodec.train import stages
from ravecodec.train.data import Crops
from ravecodec.train.trainer import Trainer

FIRST_CROP = 1 << 42  # from here on lie crops that no stage and no latent analysis draws

# Posterior means and their place -> what the generator gets.
Latents = Callable[[Tensor, Clock], Tensor]


def unchanged(mean: Tensor, clock: Clock) -> Tensor:
    """Latents as stage 1 knows them."""
    return mean


@dataclass(frozen=True)
class Reconstruction:
    """A batch of validation crops and what became of them.

    `original` and `output`: audio [batch, channels, samples], whole crops; `bits` [latent]: the KL,
    and `distance`: the recipe's S with all its windows, both of the part that saw no padding.
    """

    original: Tensor
    output: Tensor
    bits: Tensor
    distance: float


def level_gain(decoded: Iterable[Reconstruction], valid: stages.Valid, hop: int) -> float:
    """The gain that brings the output of most crops to the level of their originals.

    A distance of logarithms is smallest a little below that level, for what is misplaced costs less
    when it is quiet. Between -6 and 6 dB: a network that is further off has not learnt yet. 1 where
    all is silent.
    """
    levels = []
    for part in decoded:
        both = (part.original, part.output)
        powers = (valid.audio(x, hop).square().mean((1, 2)).tolist() for x in both)
        for wanted, played in zip(*powers, strict=True):
            if wanted > 0 and played > 0:
                levels.append(10 * math.log10(wanted / played))
    return 10 ** (float(np.clip(np.median(levels), -6, 6)) / 20) if levels else 1.0


def validate(
    trainer: Trainer,
    crops: Crops,
    count: int,
    latents: Latents = unchanged,
    show: Callable[[list[Reconstruction]], None] | None = None,
) -> dict[str, float]:
    """Means over `count` crops: `validation`, the recipe's S with all its windows;
    `validation_kbps`, the KL; and `validation_peaks`, the peak F1 of the mid channel (see
    `peak_f1`). `show` is called with the crops that were measured."""
    batches = list(reconstruct(trainer, trainer.average, crops, count, latents))
    if show is not None:
        show(batches)
    rows = [row for part in batches for row in _rows(part, trainer.valid, trainer.recipe.model)]
    return {key: float(np.mean([row[key] for row in rows])) for key in rows[0]}


def reconstruct(
    trainer: Trainer, network: Rave, crops: Crops, count: int, latents: Latents
) -> Iterator[Reconstruction]:
    """`count` crops through a network in eval mode, the same ones in every call, a batch at a
    time.
    """
    recipe, objective, device = trainer.recipe, trainer.objective, trainer.device
    valid = objective.valid
    for first in range(0, count, recipe.batch):
        size = min(recipe.batch, count - first)
        audio = crops.batch(FIRST_CROP + first, size).to(device)
        clock = Clock(torch.arange(size, device=device) * 1000, torch.arange(size, device=device))
        with torch.no_grad(), objective.autocast(device):
            mean, spread = stages.posterior(network, valid, audio, clock, recipe.refine[0])
            bands = network.decode_bands(latents(mean, clock), clock)
        with torch.no_grad():
            decoded = stages.Decoded(bands, network.pqmf.synthesis(bands))
            distance = objective.distance(network, audio, decoded, objective.all_spectra())
            bits = kl_bits(valid.latents(mean), valid.latents(spread))
        yield Reconstruction(audio, decoded.audio, bits, distance.item())


def _rows(
    batch: Reconstruction, valid: stages.Valid, config: ModelConfig
) -> Iterator[dict[str, float]]:
    """What was measured, one row a crop."""
    rate = batch.bits.sum().item() * config.frame_rate / 1000
    both = (batch.original, batch.output)
    pair = [valid.audio(x, config.hop).mean(1).double().cpu().numpy() for x in both]
    for original, output in zip(*pair, strict=True):
        peaks = peak_f1(original, output, config.sample_rate)
        yield {"validation": batch.distance, "validation_kbps": rate, "validation_peaks": peaks}
