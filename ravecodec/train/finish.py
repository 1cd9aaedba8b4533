"""From a trained network to a model package: latent analysis, entropy tables, operating point, file."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ravecodec.bitstream import fit_static, ideal_code_length
from ravecodec.bitstream.limits import MAX_SYMBOL
from ravecodec.effort import level_of
from ravecodec.models.latent import LatentSpace, analyse
from ravecodec.models.package import Coding, save_package
from ravecodec.models.rave import Rave
from ravecodec.quantize import Quantizer, base_steps
from ravecodec.train.data import Crops
from ravecodec.train.recipe import Recipe
from ravecodec.train.stages import Valid, posterior, random_clock

ANALYSIS_FRAMES = 20_000
RATE_FRAMES = 4_000
FINE = -12  # tables are fitted at a fine step, where the shape of the distribution shows
WORTHWHILE = 0.02  # bits per frame: axes that cost less are cropped, they are all but always zero
STEP_INDICES = (-24, 32)


def posteriors(
    network: Rave, recipe: Recipe, crops: Crops, frames: int, device: torch.device
) -> Iterator[tuple[NDArray[np.float32], NDArray[np.float32]]]:
    """Means and spreads [n, latent] of valid frames only, in eval mode, until `frames` are seen."""
    valid = Valid.of(network, recipe.crop_frames)
    seen = step = 0
    network.eval()
    while seen < frames:
        audio = crops.batch((1 << 41) + step, recipe.batch).to(device)
        clock = random_clock(len(audio), torch.Generator().manual_seed(step), device)
        with torch.no_grad():
            both = posterior(network, valid, audio, clock, recipe.refine[0])
        pair = [valid.latents(x).transpose(1, 2).flatten(0, 1).cpu().numpy() for x in both]
        yield pair[0], pair[1]
        seen += len(pair[0])
        step += 1


def analyse_latents(
    network: Rave, recipe: Recipe, training: Crops, held: Crops, device: torch.device
) -> tuple[LatentSpace, Coding, float]:
    """Latent space and entropy tables from training audio, operating point from validation audio, and the ideal rate of
    that point there in kbit/s."""
    wanted = min(ANALYSIS_FRAMES, 40 * recipe.model.latent)
    pairs = list(posteriors(network, recipe, training, wanted, device))
    means, spreads = (np.concatenate(column) for column in zip(*pairs, strict=True))
    latent = analyse(means, spreads, recipe.whiten)
    base = base_steps(latent)
    symbols = np.rint(latent.project(means) / (base * 2 ** (FINE / 8)))
    static = fit_static(np.clip(symbols, -MAX_SYMBOL, MAX_SYMBOL).astype(np.int32), FINE)
    effort = level_of(recipe.refine[0]) if recipe.model.refiner else 0
    coding = Coding(base, static.shapes, static.scales, len(base), 0, True, effort)
    validation = posteriors(network, recipe, held, min(RATE_FRAMES, wanted), device)
    held_means = np.concatenate([mean for mean, _ in validation])
    coding = operating_point(recipe, latent, coding, held_means)
    bits = _axis_bits(latent, coding, held_means, coding.step_index)[: coding.dims].sum()
    return latent, coding, float(bits * recipe.model.frame_rate / 1000)


def operating_point(recipe: Recipe, latent: LatentSpace, coding: Coding, means: NDArray[np.floating]) -> Coding:
    """The default step and axes: the finest step whose ideal rate on `means` [frames, latent] is at most the recipe's
    `rate_kbps` (0: step index 0), and every axis that is worth its bits there."""
    low, high = STEP_INDICES if recipe.rate_kbps else (0, 0)
    while low < high:  # the rate falls with the step index
        middle = (low + high) // 2
        bits = _axis_bits(latent, coding, means, middle).sum()
        if bits * recipe.model.frame_rate <= recipe.rate_kbps * 1000:
            high = middle
        else:
            low = middle + 1
    worth = np.flatnonzero(_axis_bits(latent, coding, means, low) > WORTHWHILE)
    return replace(coding, step_index=low, dims=int(worth[-1]) + 1 if len(worth) else 1)


def _axis_bits(
    latent: LatentSpace, coding: Coding, means: NDArray[np.floating], step_index: int
) -> NDArray[np.float64]:
    """Ideal code length in bits per frame of every axis at a step index."""
    quantizer = Quantizer(latent, coding, len(coding.base), step_index, coding.fill)
    symbols, rows = quantizer.symbols(means), quantizer.static.rows(step_index)
    lengths = [ideal_code_length(symbols[:, [i]], rows[[i]]) for i in range(len(rows))]
    return np.array(lengths) / len(symbols)


def write_package(
    path: Path, network: Rave, recipe: Recipe, latent: LatentSpace, coding: Coding, info: dict[str, Any]
) -> None:
    """Saves the package at `path`, whole or not at all."""
    part = path.with_suffix(".part")
    save_package(part, network, latent, coding, recipe.name, info)
    part.replace(path)
