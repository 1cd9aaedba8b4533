"""Stage `prior`: a prior (`models/prior.py`) for a model that is finished, from a folder of audio.

RUN/prior/latents          the latents of the audio, one file each (`pieces.py`)
RUN/prior/settings.json    what the stage was started with
RUN/prior/checkpoint.pt    everything that a resumed call needs
RUN/prior/log.jsonl        bits per frame of held-out audio, a line each time they were measured
RUN/NAME.prior.safetensors the result, which lies beside the model called NAME

The network learns on crops of 20 s to spend few bits; its bits on audio that was held out decide
when it is done and which weights are kept.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ravecodec import __version__
from ravecodec.bitstream import ideal_code_length
from ravecodec.bitstream.limits import MAX_SYMBOL
from ravecodec.bitstream.predict import WEIGHT_ONE, predicted_code_lengths
from ravecodec.device import choose_device
from ravecodec.errors import InputError, ModelError, UsageError
from ravecodec.files import AtomicFile, make_folder, write_file
from ravecodec.models.package import Model, load_package
from ravecodec.models.prior import Prior, prior_package
from ravecodec.models.prior_file import SUFFIX, PriorConfig
from ravecodec.quantize import Symbols
from ravecodec.tables import tables_of
from ravecodec.train.cache import read_json, scan
from ravecodec.train.folder import LOST, UNPICKLING, check_folder, held, load_checkpoint
from ravecodec.train.interrupts import deferred
from ravecodec.train.outcome import UNSTATED, credits_of
from ravecodec.train.pieces import Piece, collect, split_pieces
from ravecodec.zoo import find_model

LONGEST_GRADIENT = 10.0  # bits per weight's unit; longer ones are shortened to it
WARM_UP = 20  # steps
LAST_RATE = 0.1  # of the learning rate, at the end
SECONDS_PER_HOUR = 3600

Report = Callable[[str], None]


@dataclass(frozen=True)
class PriorRecipe:
    """How a prior is trained.

    frames: of latents, from an excerpt of each file (2 h of the default model). seconds: of a crop.
    batch: crops a step. steps: at most. rate, decay, dropout: of AdamW and the network.
    validate_every: steps; patience: how often in a row held-out bits may fail to fall. The rest is
    the network's, see `PriorConfig`.
    """

    seed: int = 0
    frames: int = 42_000
    seconds: float = 20.0
    batch: int = 16
    steps: int = 1500
    rate: float = 2e-3
    decay: float = 0.1
    dropout: float = 0.2
    validate_every: int = 50
    patience: int = 4
    hidden: int = 192
    units: int = 192
    groups: int = 8
    mixture: int = 2

    def config(self, model: Model) -> PriorConfig:
        """The network for a model, at its own operating point."""
        dims = model.coding.dims
        return PriorConfig(
            dims=dims,
            step_index=model.coding.step_index,
            hidden=self.hidden,
            units=self.units,
            groups=min(self.groups, dims, self.units),
            mixture=self.mixture,
        )


def train_prior(
    data: Path,
    model: str | Path,
    out: Path,
    *,
    recipe: PriorRecipe | None = None,
    licence: str | None = None,
    device: str = "auto",
    ignore_length: bool = False,
    force: bool = False,
    report: Report = lambda line: None,
    checkpoint_seconds: float = 60.0,
) -> Path:
    """Trains a prior for a model on a folder of audio and returns the path of its file in `out`.

    The same call continues one that was stopped; if that one was finished, it changes nothing.
    licence: of the weights, None: the model's. `ignore_length` takes what is there of truncated
    files. checkpoint_seconds: between two checkpoints. OutputError where `out` holds files and no
    run, unless `force` is set; UsageError where it holds a prior of other settings.
    """
    scan(data)
    entry, place = find_model(model), choose_device(device)
    check_folder(out, force=force)
    with held(out):
        loaded = load_package(entry.path, place)
        stage = _Stage(data, loaded, entry.name, out, recipe or PriorRecipe(), checkpoint_seconds)
        if stage.is_done():
            report(f"{stage.target} is finished and left as it is")
            return stage.target
        stage.run(place, licence, ignore_length, report)
    return stage.target


class _Stage:
    """One training of a prior, in its folder."""

    def __init__(
        self,
        data: Path,
        model: Model,
        name: str,
        out: Path,
        recipe: PriorRecipe,
        checkpoint_seconds: float,
    ) -> None:
        self.data, self.model, self.name, self.recipe = data, model, name, recipe
        self.checkpoint_seconds = checkpoint_seconds
        self.folder, self.target = out / "prior", out / f"{name}{SUFFIX}"
        self.checkpoint = self.folder / "checkpoint.pt"
        make_folder(self.folder)
        self._check_settings()

    def _check_settings(self) -> None:
        """UsageError if this folder's prior was begun with other settings."""
        path = self.folder / "settings.json"
        wanted = {"model": self.model.id.hex(), "recipe": asdict(self.recipe)}
        earlier = read_json(path, LOST)
        if earlier is None:
            write_file(path, json.dumps(wanted).encode())
        elif earlier != wanted:
            raise UsageError(
                f"{path}: this prior was begun for another model or with other settings; use "
                "those, or another --out folder"
            )

    def is_done(self) -> bool:
        """Whether the result was written."""
        return self.target.is_file() and (load_checkpoint(self.checkpoint) or {}).get("done", False)

    # ---- the whole ----

    def run(
        self, device: torch.device, licence: str | None, ignore_length: bool, report: Report
    ) -> None:
        """From audio to the file."""
        frames, cache = self.recipe.frames, self.folder / "latents"
        pieces = collect(self.model, self.data, cache, frames, report, ignore_length=ignore_length)
        training, held_out = split_pieces(pieces)
        config = self.recipe.config(self.model)
        step = grid(self.model, config)
        symbols = [on_grid(piece, step) for piece in training]
        unseen = [on_grid(piece, step) for piece in held_out]
        prior = new_prior(self.model, config, symbols, self.recipe)
        report(_described(training, held_out, self.model))
        costs = other_costs(self.model, config, unseen)
        report(f"held out: {costs['tables']:.1f} bits a frame under the tables, " + _rest(costs))
        learning = _Learning(prior.to(device), self.recipe, load_checkpoint(self.checkpoint))
        self._learn(learning, symbols, unseen, report)
        prior = learning.best_prior()
        costs["prior"] = bits_per_frame(prior, unseen)
        info = self._info(licence, training, held_out, costs, learning)
        write_file(self.target, prior_package(prior, self.name, self.model.id, info))
        self._save(learning.state() | {"done": True})
        bits = f"{costs['prior']:.1f} bits a frame held out"
        report(f"{self.target} is ready: {bits}, {_rest(costs)}")

    def _learn(
        self, learning: _Learning, symbols: list[Symbols], unseen: list[Symbols], report: Report
    ) -> None:
        """Steps until there is nothing more to be gained; the first Ctrl-C is obeyed between two
        steps, which are saved."""
        recipe, saved = self.recipe, time.monotonic()
        length = max(2, round(recipe.seconds * self.model.config.frame_rate))
        with deferred() as stop:
            while not learning.is_over() and not stop:
                batch = crops(symbols, length, recipe.batch, recipe.seed, learning.step)
                bits = learning.learn(batch)
                if learning.step % recipe.validate_every == 0 or learning.step == recipe.steps:
                    bits_unseen = learning.validate(unseen)
                    report(
                        f"prior  step {learning.step}  bits {bits:.1f}  held out {bits_unseen:.1f}"
                    )
                    self._log(learning.step, bits, bits_unseen)
                if time.monotonic() - saved >= self.checkpoint_seconds:
                    self._save(learning.state())
                    saved = time.monotonic()
            self._save(learning.state())
        if stop:
            report(f"saved at step {learning.step}; the same call goes on from here")
            stop.obey()

    def _info(
        self,
        licence: str | None,
        training: list[Piece],
        held_out: list[Piece],
        costs: Mapping[str, float],
        learning: _Learning,
    ) -> dict[str, Any]:
        """What the prior says about its making: the same for equal trainings."""
        return {
            "licence": licence or str(self.model.info.get("licence", UNSTATED)),
            "recipe": asdict(self.recipe),
            "steps": learning.best_step,
            "hours_of_audio": round(_hours(training, self.model), 3),
            "files": len(training),
            "held_out_files": len(held_out),
            "held_out_bits": {name: round(bits, 2) for name, bits in costs.items()},
            "credits": credits_of(self.data),
            "made_with": f"ravecodec {__version__}",
        }

    # ---- files ----

    def _log(self, step: int, bits: float, held_out: float) -> None:
        with (self.folder / "log.jsonl").open("a") as file:
            file.write(json.dumps({"step": step, "bits": bits, "held_out": held_out}) + "\n")

    def _save(self, state: Mapping[str, Any]) -> None:
        with AtomicFile(self.checkpoint, force=True) as file:
            torch.save(dict(state), file)


class _Learning:
    """A prior, its optimiser, and the best weights so far."""

    def __init__(self, prior: Prior, recipe: PriorRecipe, saved: dict[str, Any] | None) -> None:
        self.prior, self.recipe = prior, recipe
        self.optimiser = torch.optim.AdamW(
            prior.parameters(), recipe.rate, weight_decay=recipe.decay
        )
        self.step = self.best_step = self.waited = 0
        self.best_bits = float("inf")
        self.best: dict[str, Tensor] = {}
        if saved is not None:
            self._restore(saved)

    def _restore(self, saved: dict[str, Any]) -> None:
        try:
            self.prior.load_state_dict(saved["network"])
            self.optimiser.load_state_dict(saved["optimiser"])
            self.step, self.best_step, self.waited = saved["counts"]
            self.best_bits, self.best = saved["best_bits"], saved["best"]
        except UNPICKLING as error:
            raise ModelError(f"the prior's checkpoint.pt holds something else; {LOST}") from error

    def state(self) -> dict[str, Any]:
        """For the checkpoint."""
        return {
            "network": self.prior.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "counts": [self.step, self.best_step, self.waited],
            "best_bits": self.best_bits,
            "best": self.best,
        }

    def is_over(self) -> bool:
        return self.step >= self.recipe.steps or self.waited >= self.recipe.patience

    def learn(self, batch: tuple[Tensor, Tensor]) -> float:
        """One step on symbols [batch, frames, dims] and a mask [batch, frames] of those that are
        there; bits per frame."""
        device = self.prior.step.device
        symbols, there = (each.to(device) for each in batch)
        torch.manual_seed(self.recipe.seed * 1_000_003 + self.step)  # of dropout
        for group in self.optimiser.param_groups:
            group["lr"] = self._rate()
        self.prior.train()
        bits = (self.prior.code_lengths(symbols).sum(-1) * there).sum() / there.sum()
        if not bits.isfinite():
            raise InputError(f"the prior diverged at step {self.step}; lower its learning rate")
        self.optimiser.zero_grad()
        bits.backward()
        torch.nn.utils.clip_grad_norm_(self.prior.parameters(), LONGEST_GRADIENT)
        self.optimiser.step()
        self.step += 1
        return float(bits.detach())

    def _rate(self) -> float:
        """A short rise, then half a cosine down."""
        done = self.step / self.recipe.steps
        falling = LAST_RATE + (1 - LAST_RATE) * (1 + np.cos(np.pi * done)) / 2
        return float(self.recipe.rate * min(1, (self.step + 1) / WARM_UP) * falling)

    def validate(self, held_out: list[Symbols]) -> float:
        """Held-out bits per frame, by which the best weights are kept."""
        bits = bits_per_frame(self.prior, held_out)
        self.waited += 1
        if bits < self.best_bits:
            self.best_bits, self.best_step, self.waited = bits, self.step, 0
            self.best = {name: value.clone() for name, value in self.prior.state_dict().items()}
        return bits

    def best_prior(self) -> Prior:
        """The network with the best weights, rounded as its file has them."""
        self.prior.load_state_dict({name: value.half() for name, value in self.best.items()})
        return self.prior.cpu().eval()


# ---- data ----------------------------------------------------------------------------------------


def grid(model: Model, config: PriorConfig) -> NDArray[np.float64]:
    """The quantiser's steps of the axes that a prior speaks of, float64 [dims]."""
    steps: NDArray[np.float64] = model.coding.base[: config.dims] * 2 ** (config.step_index / 8)
    return steps


def on_grid(piece: Piece, step: NDArray[np.float64]) -> Symbols:
    """The symbols of a piece, int32 [frames, dims]."""
    symbols = np.rint(piece.values[:, : len(step)] / step)
    return np.clip(symbols, -MAX_SYMBOL, MAX_SYMBOL).astype(np.int32)


def new_prior(
    model: Model, config: PriorConfig, symbols: list[Symbols], recipe: PriorRecipe
) -> Prior:
    """A prior to begin with: it weighs the last two frames as the model's predictor does."""
    step = grid(model, config)
    deviation = np.maximum(step * np.concatenate(symbols).std(axis=0), step)
    torch.manual_seed(recipe.seed)
    prior = Prior(config, step, deviation, recipe.dropout)
    if model.coding.prediction is not None:
        weights = model.coding.prediction.weights[: config.dims].T / WEIGHT_ONE
        with torch.no_grad():
            prior.past.copy_(torch.from_numpy(weights))
    return prior


def crops(
    pieces: list[Symbols], length: int, batch: int, seed: int, step: int
) -> tuple[Tensor, Tensor]:
    """Symbols [batch, length, dims] of random places, and where they are, [batch, length]; shorter
    pieces are filled up with zeros that do not count. A function of seed and step."""
    random = np.random.default_rng([seed, step])
    weights = np.array([len(piece) for piece in pieces], np.float64)
    symbols = np.zeros((batch, length, pieces[0].shape[1]), np.float32)
    there = np.zeros((batch, length), np.float32)
    for row, number in enumerate(random.choice(len(pieces), batch, p=weights / weights.sum())):
        piece = pieces[number]
        start = int(random.integers(max(len(piece) - length, 0) + 1))
        part = piece[start : start + length]
        symbols[row, : len(part)], there[row, : len(part)] = part, 1
    return torch.from_numpy(symbols), torch.from_numpy(there)


# ---- what symbols cost ---------------------------------------------------------------------------


@torch.no_grad()
def bits_per_frame(prior: Prior, pieces: Sequence[Symbols]) -> float:
    """Mean bits of a frame of these pieces; each begins with nothing before it."""
    prior.eval()
    device = prior.step.device
    total = sum(
        float(prior.code_lengths(torch.from_numpy(piece)[None].to(device)).double().sum())
        for piece in pieces
    )
    return total / sum(map(len, pieces))


def other_costs(model: Model, config: PriorConfig, pieces: Sequence[Symbols]) -> dict[str, float]:
    """Mean bits of a frame at the prior's step and axes as the codec codes them: under its tables,
    and by its predictor if it has one (which is not reset here, as it is with each chunk)."""
    static, frames = tables_of(model.coding), sum(map(len, pieces))
    rows = static.rows(config.step_index)[: config.dims]
    costs = {"tables": ideal_code_length(np.concatenate(pieces), rows) / frames}
    if (predictor := static.predictor) is not None:
        lengths = (predicted_code_lengths(piece, predictor, config.step_index) for piece in pieces)
        costs["predictor"] = sum(float(bits.sum()) for bits in lengths) / frames
    return costs


def _rest(costs: Mapping[str, float]) -> str:
    return f"{costs['predictor']:.1f} by the predictor" if "predictor" in costs else "no predictor"


def _hours(pieces: Sequence[Piece], model: Model) -> float:
    frames = sum(len(piece.values) for piece in pieces)
    return frames / model.config.frame_rate / SECONDS_PER_HOUR


def _described(training: list[Piece], held_out: list[Piece], model: Model) -> str:
    parts = [f"{len(each)} files, {_hours(each, model):.2f} h" for each in (training, held_out)]
    return f"data: {parts[0]} to train on, {parts[1]} held out"
