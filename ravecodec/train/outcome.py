"""What a training run has come to: whether its model is packed already, its licence, and what is to
be said against it.

A finished run is finished: calling again changes nothing, even if the data have changed since,
because streams carry the id of the file. What two equal trainings do not share (time, machine,
versions) stands in `run.json`, not in the model.
"""

from __future__ import annotations

import platform
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from ravecodec.errors import ModelError, UsageError
from ravecodec.models.header import read_header
from ravecodec.models.package import Coding
from ravecodec.train.cache import Track
from ravecodec.train.folder import Run
from ravecodec.train.trainer import Trainer

UNSTATED = "unstated"
LITTLE_SECONDS = 600  # of training audio: less teaches a model these minutes, not a kind of sound
MOST_NEW = 0.5  # of the weights: where more start anew, a model is hardly taken over
LOWEST_RATE = 1 / 3  # of the rate asked for


def is_packed(run: Run, trainer: Trainer, stage: str) -> bool:
    """Whether the package holds the state that the run is in, and the run has come as far as it was
    asked to.
    """
    wanted, steps = (1, run.recipe.stage1.steps) if stage == "1" else (2, run.recipe.stage2.steps)
    if trainer.stage != wanted or trainer.step < steps:
        return False
    packed = run.facts.get("packed", _packed_before(run.package, trainer))
    return run.package.is_file() and packed == [trainer.stage, trainer.step]


def _packed_before(path: Path, trainer: Trainer) -> list[int]:
    """The same of a run that is older than `run.json`: a package of stage 2 is the finished one."""
    steps = _packed_info(path).get("steps", {})
    if not steps:
        return []
    return [trainer.stage, trainer.step] if ("stage 2" in steps) == (trainer.stage == 2) else []


def licence_of(run: Run, wanted: str | None) -> str:
    """The licence of the run's model: what was said in this call, else in an earlier one."""
    earlier = run.facts.get("licence") or _packed_info(run.package).get("licence")
    return wanted or str(earlier or UNSTATED)


def _packed_info(path: Path) -> Mapping[str, Any]:
    """What a package says of itself; nothing where there is none that can be read."""
    try:
        return read_header(path).info
    except ModelError:
        return {}


def credits_of(data: Path) -> str:
    """What the data folder's CREDITS.md says, which goes into the model; "" if there is none."""
    path = data / "CREDITS.md"
    return path.read_text() if path.exists() else ""


def left_alone(run: Run, licence: str | None) -> str:
    """What is said of a finished run.

    UsageError if another licence is wanted than the one that is packed.
    """
    path, header = run.package, read_header(run.package)
    packed = str(header.info.get("licence", UNSTATED))
    if licence is not None and licence != packed:
        again = "delete the file to pack the model anew, under another id"
        raise UsageError(
            f"{path}: is finished, and its licence is {packed!r}, not {licence!r}; {again}"
        )
    finished = f"{path} ({header.digest()[:8].hex()}) is finished already and is left as it is"
    return f"{finished}; --steps1 or --steps2 with more steps lengthen the run"


def warnings(run: Run, training: Sequence[Track], coding: Coding, kbps: float) -> list[str]:
    """Sentences on what makes a bad model, for its maker and for those who receive it: what
    was remembered when the run began, too little audio, a default point far below what was asked
    for. kbps: ideal rate of that point."""
    recipe, doubts = run.recipe, list(run.facts.get("warnings", []))
    seconds = sum(track.frames for track in training) / recipe.model.sample_rate
    if seconds < LITTLE_SECONDS:
        doubts.append(f"trained on {seconds:.3g} s of audio only; an hour is a start")
    if recipe.rate_kbps and kbps < LOWEST_RATE * recipe.rate_kbps:
        doubts.append(
            f"its default point is {kbps:.2g} kbit/s, far below the {recipe.rate_kbps:g} asked for"
        )
    if coding.dims == 1 and recipe.model.latent > 1:
        doubts.append(
            f"1 of {recipe.model.latent} latent axes carries information; it is barely trained"
        )
    return doubts


def taken_over(name: str, trainer: Trainer, new: list[str]) -> list[str]:
    """What is to be said of weights that a model called `name` could not give: nothing where most
    were taken over.
    """
    sizes = {key: value.numel() for key, value in trainer.model.state_dict().items()}
    share = sum(size for key, size in sizes.items() if _plain(key) in new) / sum(sizes.values())
    if share <= MOST_NEW:
        return []
    return [f"{100 * share:.0f} % of the weights were not taken over from {name}, but began anew"]


def _plain(name: str) -> str:
    """A weight's name without its weight norm."""
    return name.replace("parametrizations.", "").replace(".original0", "").replace(".original1", "")


def made_with(trainer: Trainer) -> dict[str, Any]:
    """What two equal trainings need not share."""
    where = f"{platform.machine()}, {trainer.device.type}"
    return {
        "training_seconds": round(trainer.seconds),
        "made_with": f"torch {torch.__version__}, {where}",
    }
