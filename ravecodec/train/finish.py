"""From a trained network to a model package: latent analysis, entropy tables, operating point,
file.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ravecodec.analysis import BLOCK_SAMPLES
from ravecodec.bitstream import fit_predictor, fit_static
from ravecodec.bitstream.limits import MAX_SYMBOL
from ravecodec.curve import Piece, bits_of_axes, measured_ladder, piece_of
from ravecodec.effort import level_of
from ravecodec.ladder import WORTHWHILE
from ravecodec.models.coding import Prediction
from ravecodec.models.latent import LatentSpace, analyse
from ravecodec.models.package import Coding, Model, load_package, package_with, save_package
from ravecodec.models.rave import Rave
from ravecodec.quantize import Quantizer, base_steps
from ravecodec.train.data import Crops
from ravecodec.train.recipe import Recipe
from ravecodec.train.stages import Valid, posterior, random_clock

FIRST_MEASURED = 1 << 43  # crops that neither stage, no analysis and no validation draws
FITTING_STEP = -12  # tables are fitted at a fine step, where the shape of the distribution shows
STEP_INDICES = (-24, 32)
LEVEL_FLOOR = -80.0  # dBFS: what is fainter counts as silent where axes get their signs

Runs = Sequence[NDArray[np.floating]]  # of successive frames


def posteriors(
    network: Rave, recipe: Recipe, crops: Crops, frames: int, device: torch.device
) -> Iterator[tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]]:
    """Means and spreads [batch, n, latent] of valid frames only, in eval mode, and levels [batch,
    n] of the audio of these frames as the encoder receives it, until `frames` are seen.
    """
    valid = Valid.of(network, recipe.crop_frames)
    each = recipe.batch * (recipe.crop_frames - sum(valid.encoder))  # frames of a step
    network.eval()
    for step in range(-(-frames // each)):
        audio = crops.batch((1 << 41) + step, recipe.batch).to(device)
        clock = random_clock(len(audio), torch.Generator().manual_seed(step), device)
        with torch.no_grad():
            both = posterior(network, valid, audio, clock, recipe.refine[0])
        mean, spread = (valid.latents(x).transpose(1, 2).cpu().numpy() for x in both)
        yield mean, spread, valid.latents(frame_levels(audio, recipe.model.hop)).cpu().numpy()


def frame_levels(audio: Tensor, hop: int) -> Tensor:
    """Level [batch, frames] of each frame of audio [batch, channels, frames * hop], all channels
    together: mean square in dBFS, at least LEVEL_FLOOR.
    """
    power = audio.square().mean(1).unflatten(-1, (-1, hop)).mean(-1)
    return 10 * power.clamp(min=10 ** (LEVEL_FLOOR / 10)).log10()


def analyse_latents(
    network: Rave,
    recipe: Recipe,
    training: Crops,
    held: Crops,
    device: torch.device,
    *,
    frames: int,
    rate_frames: int,
) -> tuple[LatentSpace, Coding, float]:
    """Latent space and entropy tables from up to `frames` frames of training audio, operating point
    from up to `rate_frames` of validation audio, and the ideal rate of that point there in kbit/s.
    The axes get their signs, louder is positive, before anything is fitted along them."""
    wanted = min(frames, 40 * recipe.model.latent)
    batches = list(posteriors(network, recipe, training, wanted, device))
    runs = [run for means, _, _ in batches for run in means]
    spreads = np.concatenate([run for _, spreads, _ in batches for run in spreads])
    levels = np.concatenate([run for _, _, levels in batches for run in levels])
    latent = analyse(np.concatenate(runs), spreads, recipe.whiten, levels)
    effort = level_of(recipe.refine[0]) if recipe.model.refiner else 0
    coding = fit_coding(latent, runs, effort)
    validation = posteriors(network, recipe, held, min(rate_frames, wanted), device)
    held_runs = [run for means, _, _ in validation for run in means]
    coding = operating_point(recipe, latent, coding, held_runs)
    bits = _axis_bits(latent, coding, held_runs)[: coding.dims].sum()
    return latent, coding, float(bits * recipe.model.frame_rate / 1000)


def fit_coding(latent: LatentSpace, runs: Runs, effort: int = 0) -> Coding:
    """Quantiser, tables and predictor for runs of latents, float32 [frames, latent] each; all axes,
    step 0.
    """
    base = base_steps(latent)
    symbols = [_fine_symbols(latent, base, run) for run in runs]
    static = fit_static(np.concatenate(symbols), FITTING_STEP)
    shapes, scales = static.shapes, static.scales
    prediction = fit_prediction(latent, base, runs)
    return Coding(base, shapes, scales, len(base), 0, True, effort, prediction)


def fit_prediction(latent: LatentSpace, base: NDArray[np.float64], runs: Runs) -> Prediction:
    """The predictor for runs of latents, float32 [frames, latent] each, and these base steps."""
    fitted = fit_predictor([_fine_symbols(latent, base, run) for run in runs], FITTING_STEP)
    return Prediction(fitted.weights, fitted.shapes, fitted.scales)


def _fine_symbols(
    latent: LatentSpace, base: NDArray[np.float64], run: NDArray[np.floating]
) -> NDArray[np.int32]:
    symbols = np.rint(latent.project(run.astype(np.float64)) / (base * 2 ** (FITTING_STEP / 8)))
    return np.clip(symbols, -MAX_SYMBOL, MAX_SYMBOL).astype(np.int32)


def operating_point(recipe: Recipe, latent: LatentSpace, coding: Coding, runs: Runs) -> Coding:
    """The default step and axes: the finest step whose ideal rate on `runs` of latents [frames,
    latent] is at most the recipe's `rate_kbps` (0: step index 0), and every axis that is worth its
    bits there."""
    low, high = STEP_INDICES if recipe.rate_kbps else (0, 0)

    def fits(step_index: int) -> bool:
        bits = _axis_bits(latent, replace(coding, step_index=step_index), runs).sum()
        return bool(bits * recipe.model.frame_rate <= recipe.rate_kbps * 1000)

    # The rate falls with the step index.
    step_index = low + bisect_left(range(low, high), True, key=fits)
    coding = replace(coding, step_index=step_index)
    worth = np.flatnonzero(_axis_bits(latent, coding, runs) > WORTHWHILE)
    return replace(coding, dims=int(worth[-1]) + 1 if len(worth) else 1)


def _axis_bits(latent: LatentSpace, coding: Coding, runs: Runs) -> NDArray[np.float64]:
    """Ideal code length in bits per frame of every axis at the default step, as the model predicts
    it or, if it cannot, under its static tables."""
    quantizer = Quantizer(latent, coding, len(coding.base), coding.step_index, coding.fill)
    return bits_of_axes(quantizer, [quantizer.symbols(run) for run in runs])


def write_package(
    path: Path,
    *,
    network: Rave,
    latent: LatentSpace,
    coding: Coding,
    name: str,
    info: dict[str, Any],
    held: Crops,
    report: Callable[[str], None],
    excerpts: int,
    steps: Sequence[int],
) -> None:
    """Saves the package at `path`, whole or not at all, with the curve of rate and quality that it
    has on so many excerpts of validation audio, at these steps from its own. Reports what was
    measured.
    """
    part = path.with_suffix(".part")
    save_package(part, network, latent, coding, name, info)
    model = load_package(part)
    ladder = measured_ladder(model, _pieces(model, held, excerpts), report, steps)
    part.write_bytes(package_with(part, {}, ladder=ladder))
    part.replace(path)


def _pieces(model: Model, held: Crops, excerpts: int) -> list[Piece]:
    """So many crops, as many one behind the other as the network computes at a time."""
    crops = held.batch(FIRST_MEASURED, excerpts).numpy()
    count = max(1, BLOCK_SAMPLES // held.length)
    groups = [crops[at : at + count] for at in range(0, excerpts, count)]
    return [piece_of(model, group, model.config.sample_rate) for group in groups]
