"""The curve of rate and quality of a model, measured on a few excerpts when it is packed or refit.

Every point of a small grid of steps and dims is decoded, and compared with the original by the
distance S that the model was trained on. `ladder.py` makes qualities of it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np
import torch
from numpy.typing import NDArray

from ravecodec.analysis import no_frames
from ravecodec.audio import Audio
from ravecodec.bitstream.entropy import code_lengths
from ravecodec.bitstream.predict import predicted_code_lengths
from ravecodec.device import device_of
from ravecodec.effort import Analysis, effort_of
from ravecodec.ladder import ladder_from
from ravecodec.level import decoded
from ravecodec.models.coding import Rung
from ravecodec.models.losses import lift, stereo_distance
from ravecodec.models.package import Model
from ravecodec.quantize import Quantizer, Symbols
from ravecodec.search import WINDOWS

STEPS = (28, 20, 12, 6, 0, -6, -14)  # from a model's own step, coarse to fine
WORTH = (0.1, 0.02, 0.0)  # bits per frame above which the last of the axes that are kept cost
EXCERPTS = 8
EXCERPT_SECONDS = 3.0

Report = Callable[[str], None]


@dataclass(frozen=True)
class Piece:
    """An excerpt: latents float32 [frames, latent], and the audio float32 [channels, frames * hop]
    that they are of, at the model's rate.
    """

    latents: NDArray[np.float32]
    audio: Audio


def measured_ladder(
    model: Model, pieces: Sequence[Piece], report: Report, steps: Sequence[int] = STEPS
) -> tuple[Rung, ...]:
    """The ladder of a model from its curve over these excerpts; empty where the curve has nothing
    to choose from. Reports what was measured. steps: see `measured_points`.
    """
    own = model.coding.dims, model.coding.step_index
    points = list(measured_points(model, pieces, steps))
    kbps = next(p.kbps for p in points if (p.dims, p.step_index) == own)
    ladder = ladder_from(points, kbps)
    if ladder:
        low, high = (f"{x.kbps:.2f} kbit/s, S {x.distance:.3f}" for x in (ladder[0], ladder[-1]))
        report(f"curve of {len(points)} points: quality 0 is {low}, quality 10 {high}")
    else:
        report(f"curve of {len(points)} points: the sound hardly depends on the rate; no qualities")
    return ladder


def piece_of(model: Model, blocks: Iterable[Audio], rate: int) -> Piece:
    """The excerpt of this audio, float32 [channels, n] in blocks at a rate in Hz."""
    analysis = Analysis(model, rate, 0, effort_of(model, None).corrections)
    frames = no_frames(model)
    parts = (part for block in blocks for part in analysis.process(block))
    for part in chain(parts, analysis.flush()):
        frames = frames.joined(part)
    own = frames.part(frames.lead, len(frames))
    return Piece(own.means, own.audio)


def measured_points(
    model: Model, pieces: Sequence[Piece], steps: Sequence[int] = STEPS
) -> Iterator[Rung]:
    """The grid: at every step all axes and fewer; at the model's own step its own dims as well.
    steps: step indices relative to the model's own, with 0 among them.
    """
    own = model.coding
    for away in steps:
        step = own.step_index + away
        quantizer = Quantizer(model.latent, own, len(own.base), step, own.fill)
        symbols = [quantizer.symbols(piece.latents) for piece in pieces]
        bits = bits_of_axes(quantizer, symbols)
        for dims in _candidates(bits, None if away else own.dims):
            kbps = float(bits[:dims].sum()) * model.config.frame_rate / 1000
            sent = Quantizer(model.latent, own, dims, step, own.fill)
            pairs = zip(symbols, pieces, strict=True)
            distances = [_distance(model, sent, rows[:, :dims], piece) for rows, piece in pairs]
            yield Rung(dims, step, round(kbps, 4), round(float(np.mean(distances)), 5))


def _candidates(bits: NDArray[np.float64], own: int | None) -> list[int]:
    """Numbers of dims worth a look, falling, where the axes cost so many bits per frame."""
    candidates = set() if own is None else {own}
    for least in WORTH:
        worth = np.flatnonzero(bits > least)
        candidates.add(int(worth[-1]) + 1 if len(worth) else 1)
    return sorted(candidates, reverse=True)


def bits_of_axes(quantizer: Quantizer, runs: Sequence[Symbols]) -> NDArray[np.float64]:
    """Ideal bits per frame [dims] of symbols [frames, dims] under the tables of their model: with
    its predictor, or if it has none with its static tables.
    """
    step, predictor = quantizer.step_index, quantizer.static.predictor
    if predictor:
        lengths = [predicted_code_lengths(run, predictor, step).sum(0) for run in runs]
    else:
        rows = quantizer.static.rows(step, quantizer.dims).tolist()
        lengths = [
            np.array([code_lengths(run[:, at], row).sum() for at, row in enumerate(rows)])
            for run in runs
        ]
    bits: NDArray[np.float64] = np.sum(lengths, axis=0) / max(1, sum(map(len, runs)))
    return bits


def _distance(model: Model, quantizer: Quantizer, symbols: Symbols, piece: Piece) -> float:
    """S of what the generator makes of symbols [frames, dims], over all windows that a search draws
    from.
    """
    device, samples = device_of(model.network), len(symbols) * model.config.hop
    latents = torch.from_numpy(quantizer.latents(symbols).T[None].copy()).to(device)
    target = torch.from_numpy(np.ascontiguousarray(piece.audio))[None].to(device)
    with torch.inference_mode():
        output = decoded(model, latents)
        windows = [window for window in dict.fromkeys(WINDOWS) if window <= samples]
        gain = lift(target)
        distance = stereo_distance(gain * target, gain * output, windows, model.config.sample_rate)
    return float(distance)
