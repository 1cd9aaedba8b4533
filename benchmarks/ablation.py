#!/usr/bin/env python3
"""Paired short trainings: the same data, seed and minutes, one change each; a table of what it did.

    python benchmarks/ablation.py --data CORPUS/train --cache CACHE --out OUT --minutes 10 \\
        --variant base --variant 'hop 4096: model.ratios=[4,4,4,4]' --variant 'no noise: model.noise=false'

A variant is a name and, behind a colon, changes of the recipe as TOML assignments separated by `;`. Every one gets as
many steps as fit into the minutes, measured on its first ones, and the recipe's learning-rate schedule over them. Then
ten validation excerpts of ten seconds are coded by the command line's own functions and scored on the mid channel.
A variant that is finished in OUT is not repeated. Needs `ravecodec[quality]`; writes OUT/ablation.md.
"""

from __future__ import annotations

import argparse
import copy
import json
import time
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ravecodec.evaluate import metrics
from ravecodec.train.cache import build_cache
from ravecodec.train.data import Crops, split
from ravecodec.train.loop import train
from ravecodec.train.parallel import World
from ravecodec.train.recipe import Recipe, Stage, load_recipe
from ravecodec.train.trainer import Trainer, stage1_step
from ravecodec.transcode import decode, encode, load_model

EXCERPTS, SECONDS, RATE = 10, 10, 48_000
TRIAL_STEPS = 12
COLUMNS = {
    "steps": "{:.0f}",
    "steps_s": "{:.2f}",
    "validation": "{:.3f}",
    "kbps": "{:.2f}",
    "peak_f1": "{:.3f}",
    "log_mel": "{:.2f}",
    "visqol": "{:.2f}",
    "zimtohrli": "{:.2f}",
}


def changed(recipe: Recipe, changes: str) -> Recipe:
    """A recipe with TOML assignments, separated by `;`, applied."""
    values = recipe.to_dict()
    _merge(values, tomllib.loads(changes.replace(";", "\n")))
    return Recipe.from_dict(values)


def _merge(values: dict[str, Any], changes: dict[str, Any]) -> None:
    for key, value in changes.items():
        if isinstance(value, dict):
            _merge(values.setdefault(key, {}), value)
        else:
            values[key] = value


def steps_per_second(recipe: Recipe, crops: Crops) -> float:
    """Of stage 1, on a trainer that is thrown away."""
    trainer = Trainer(recipe, World(torch.device("cpu")))
    seconds = []
    for step in range(TRIAL_STEPS):
        began = time.perf_counter()
        stage1_step(trainer, torch.from_numpy(crops.batch(step, recipe.batch)))
        seconds.append(time.perf_counter() - began)
    return 1 / float(np.median(seconds[2:]))


def known_speed(folder: Path, recipe: Recipe, crops: Crops) -> float:
    """Steps per second, measured once: a variant that goes on after a kill keeps its schedule."""
    path = folder / "speed.txt"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        path.write_text(repr(steps_per_second(recipe, crops)))
    return float(path.read_text())


def scores(package: Path, excerpts: list[np.ndarray]) -> dict[str, float]:
    """Means over excerpts float32 [2, samples] at 48 kHz, coded and decoded."""
    model, rows = load_model(package), []
    for excerpt in excerpts:
        data = encode(excerpt, RATE, model)
        output = decode(data, model)[0]
        pair = excerpt.mean(0).astype(np.float64), output.mean(0).astype(np.float64)
        rows.append(
            {
                "kbps": len(data) * 8 / 1000 / SECONDS,
                "peak_f1": metrics.peak_f1(*pair, RATE),
                "log_mel": metrics.log_mel_distance(*pair, RATE),
                "visqol": metrics.visqol_audio(*pair, RATE),
                "zimtohrli": metrics.zimtohrli(*pair, RATE),
            }
        )
    return {key: float(np.mean([row[key] for row in rows])) for key in rows[0]}


def run(
    name: str, recipe: Recipe, args: argparse.Namespace, excerpts: list[np.ndarray], crops: Crops
) -> dict[str, float]:
    """Trains and scores one variant, unless OUT has it."""
    folder = args.out / "".join(c if c.isalnum() else "-" for c in name)
    result = folder / "scores.json"
    if result.exists():
        return dict(json.loads(result.read_text()))
    speed = known_speed(folder, recipe, crops)
    recipe = recipe.replace(stage1=Stage(round(args.minutes * 60 * speed), recipe.stage1.rate), validate_every=10**9)
    package = train(args.data, recipe, folder, stage=args.stage, cache=args.cache, report=print)
    log = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    validation = [line["validation"] for line in log if "validation" in line][-1]
    found = {"steps": recipe.stage1.steps, "steps_s": speed, "validation": validation, **scores(package, excerpts)}
    result.write_text(json.dumps(found, indent=1))
    return found


def table(rows: dict[str, dict[str, float]]) -> str:
    lines = ["| variant | " + " | ".join(COLUMNS) + " |", "|---" * (len(COLUMNS) + 1) + "|"]
    for name, row in rows.items():
        lines.append(f"| {name} | " + " | ".join(form.format(row[key]) for key, form in COLUMNS.items()) + " |")
    return "\n".join(lines) + "\n"


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of training audio")
    parser.add_argument("--cache", type=Path, required=True, help="its cache, shared by all variants")
    parser.add_argument("--out", type=Path, required=True, help="folder of runs and table")
    parser.add_argument("--recipe", default="default", help="what the variants change")
    parser.add_argument("--minutes", type=float, default=10.0, help="of stage 1, each")
    parser.add_argument("--stage", choices=("1", "all"), default="1", help="all: with the recipe's stage 2 behind it")
    parser.add_argument("--variant", action="append", required=True, metavar="NAME[: CHANGES]")
    return parser.parse_args()


def main() -> None:
    args = arguments()
    base = load_recipe(args.recipe)
    library = build_cache(args.data, args.cache, base.model.sample_rate, base.model.channels, print)
    training, held = split(library.tracks)
    validation = Crops(args.cache, held, base.model.channels, SECONDS * RATE, 0)
    excerpts = [validation.batch(i, 1)[0] for i in range(EXCERPTS)]
    rows = {}
    for variant in args.variant:
        name, _, changes = variant.partition(":")
        recipe = changed(copy.deepcopy(base), changes)
        crops = Crops(args.cache, training, base.model.channels, recipe.crop_frames * recipe.model.hop, recipe.seed)
        rows[name] = run(name, recipe, args, excerpts, crops)
        (args.out / "ablation.md").write_text(table(rows))
    print(table(rows))


if __name__ == "__main__":
    main()
