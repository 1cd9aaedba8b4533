"""From a trained network to a model package: latent analysis, entropy tables, operating point, file."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ravecodec.bitstream import StaticModel, fit_static, ideal_code_length
from ravecodec.models.latent import LatentSpace, analyse
from ravecodec.models.package import Coding, save_package
from ravecodec.models.rave import Rave
from ravecodec.quantize import Quantizer, base_steps
from ravecodec.train.data import Crops
from ravecodec.train.recipe import Recipe
from ravecodec.train.stages import Valid

ANALYSIS_FRAMES = 20_000
RATE_FRAMES = 8_000
FINE = -8  # tables are fitted an octave below the default step, where the shape of the distribution shows
WORTHWHILE = 0.02  # axes that cost fewer bits per frame are cropped: they are all but always zero
STEP_RANGE = range(-16, 33)


def posteriors(
    network: Rave, recipe: Recipe, crops: Crops, frames: int, device: torch.device
) -> Iterator[tuple[NDArray[np.float32], NDArray[np.float32]]]:
    """Means and spreads [n, latent] of valid frames only, in eval mode, until `frames` are seen."""
    valid = Valid.of(network, recipe.crop_frames)
    seen = step = 0
    network.eval()
    while seen < frames:
        audio = torch.from_numpy(crops.batch((1 << 41) + step, recipe.batch)).to(device)
        with torch.no_grad():
            pair = [valid.latents(x).transpose(1, 2).flatten(0, 1).cpu().numpy() for x in network.encode(audio)]
        yield pair[0], pair[1]
        seen += len(pair[0])
        step += 1


def analyse_latents(network: Rave, recipe: Recipe, crops: Crops, device: torch.device) -> tuple[LatentSpace, Coding]:
    """Latent space and entropy tables from training audio; the coding uses all informative axes at step index 0."""
    wanted = min(ANALYSIS_FRAMES, 40 * recipe.batch * recipe.crop_frames)
    pairs = list(posteriors(network, recipe, crops, wanted, device))
    means, spreads = (np.concatenate(column) for column in zip(*pairs, strict=True))
    latent = analyse(means, spreads, recipe.whiten)
    base = base_steps(latent)
    symbols = np.rint(latent.project(means) / (base * 2 ** (FINE / 8))).astype(np.int32)
    static = fit_static(np.clip(symbols, -32767, 32767), FINE)
    coding = Coding(base, static.shapes, static.scales, len(base), 0, True)
    coarse = np.rint(latent.project(means) / base).astype(np.int32)
    cost = [
        ideal_code_length(coarse[:, i : i + 1], static.rows(0)[i : i + 1]) / len(coarse) for i in range(len(base))
    ]
    worth = np.flatnonzero(np.array(cost) > WORTHWHILE)
    return latent, replace(coding, dims=int(worth[-1]) + 1 if len(worth) else 1)


def operating_point(
    network: Rave, recipe: Recipe, latent: LatentSpace, coding: Coding, held: Crops, device: torch.device
) -> Coding:
    """The default step: the finest whose ideal rate on validation audio is at most the recipe's `rate_kbps`."""
    if not recipe.rate_kbps:
        return coding
    means = np.concatenate([mean for mean, _ in posteriors(network, recipe, held, RATE_FRAMES, device)])
    static = StaticModel(coding.shapes, coding.scales)
    for step_index in STEP_RANGE:
        symbols = Quantizer(latent, coding, coding.dims, step_index, coding.fill).symbols(means)
        bits = ideal_code_length(symbols, static.rows(step_index, coding.dims)) / len(symbols)
        if bits * recipe.model.frame_rate <= recipe.rate_kbps * 1000:
            return replace(coding, step_index=step_index)
    return replace(coding, step_index=STEP_RANGE[-1])


def write_package(
    folder: Path, network: Rave, recipe: Recipe, latent: LatentSpace, coding: Coding, info: dict[str, Any]
) -> Path:
    """Saves `<name>.safetensors` in the run folder and returns its path."""
    path = folder / f"{recipe.name}.safetensors"
    part = path.with_suffix(".part")
    save_package(part, network, latent, coding, recipe.name, info)
    part.replace(path)
    return path
