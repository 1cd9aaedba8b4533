"""How far the moving average is from audio that it never trains on: the same crops, places and noise every time."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch import Tensor

from ravecodec.evaluate.metrics import peak_f1
from ravecodec.models.istft import Clock
from ravecodec.models.losses import kl_bits
from ravecodec.train import stages
from ravecodec.train.data import Crops
from ravecodec.train.trainer import Trainer

CROPS = 12
FIRST = 1 << 42  # crops that neither stage and no latent analysis draws

Latents = Callable[[Tensor, Clock], Tensor]  # posterior means and their place -> what the generator gets


def unchanged(mean: Tensor, clock: Clock) -> Tensor:
    """Latents as stage 1 knows them."""
    return mean


def validate(trainer: Trainer, crops: Crops, latents: Latents = unchanged) -> dict[str, float]:
    """Means over CROPS crops: `validation`, the recipe's S with all its windows; `validation_kbps`, the KL; and
    `validation_peaks`, the peak F1 of the mid channel (see `peak_score`)."""
    rows = list(_rows(trainer, crops, latents))
    return {key: float(np.mean([row[key] for row in rows])) for key in rows[0]}


def _rows(trainer: Trainer, crops: Crops, latents: Latents) -> Iterator[dict[str, float]]:
    recipe, model, valid = trainer.recipe, trainer.average, trainer.valid
    config = recipe.model
    for first in range(0, CROPS, recipe.batch):
        size = min(recipe.batch, CROPS - first)
        audio = torch.from_numpy(crops.batch(FIRST + first, size)).to(trainer.device)
        clock = Clock(torch.arange(size, device=trainer.device) * 1000, torch.arange(size, device=trainer.device))
        with torch.no_grad(), torch.autocast(trainer.device.type, torch.bfloat16, enabled=recipe.bfloat16):
            mean, spread = model.encode(audio)
            bands = model.decode_bands(latents(mean, clock), clock)
        with torch.no_grad():
            output = model.pqmf.synthesis(bands)
            distance = stages.distance(model, recipe, valid, audio, bands, output, list(recipe.windows))
            bits = kl_bits(valid.latents(mean), valid.latents(spread)).sum()
        pair = [valid.audio(x, config.hop).mean(1).double().cpu().numpy() for x in (audio, output)]
        peaks = [peak_f1(x, y, config.sample_rate) for x, y in zip(*pair, strict=True)]
        rate = bits.item() * config.frame_rate / 1000
        yield from [{"validation": distance.item(), "validation_kbps": rate, "validation_peaks": f1} for f1 in peaks]
