#!/usr/bin/env python3
"""Paired short trainings: the same data, seed and minutes, one change each; a table of what it did.

    python benchmarks/ablation.py benchmarks/ablations/scratch.toml --data CORPUS/train --cache
        CACHE --out OUT --jobs 2

The file says what is compared: `recipe` and what `changes` in it for all variants, `minutes` of
processor time for each, `stage` ("1" or "2"), and `variants`, each a name and its own changes. With
`--init-from PACKAGE` all start from a model, and the first row is that model as it is; stage 2
needs one.

A variant gets as many steps as fit into the minutes, measured on its first ones on one thread, and
the recipe's learning-rate schedule over them; other work on the machine changes no number. Then ten
validation excerpts of ten seconds are coded by the command line's own functions and scored on the
mid channel. A variant that is finished in OUT is not repeated, one that was killed goes on. Needs
`ravecodec[eval]`; writes OUT/ablation.md; with `--write` docs/experiments.md gets the same table
(see pages.py).
"""

from __future__ import annotations

import argparse
import json
import sys
import time
import tomllib
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pages import Blocks, Found, add_write, show, table

from ravecodec.decoding import decode
from ravecodec.encoding import encode
from ravecodec.evaluate.measures import peaks, perceptual, spectral
from ravecodec.loading import load_model
from ravecodec.models.package import load_package
from ravecodec.train.cache import build_cache
from ravecodec.train.data import Augmentation, Crops, split
from ravecodec.train.loop import train
from ravecodec.train.parallel import World
from ravecodec.train.recipe import Recipe, Stage, load_recipe
from ravecodec.train.stages import Sender
from ravecodec.train.trainer import Trainer, stage1_step, stage2_step

EXCERPTS, SECONDS, RATE = 10, 10, 48_000
TRIAL_STEPS, UNTIMED = 24, 4
AS_IT_IS = "the model they start from"
COLUMNS = {
    "steps": "{:.0f}",
    "s/step": "{:.2f}",
    "validation S": "{:.3f}",
    "kbit/s": "{:.2f}",
    "peak F1": "{:.3f}",
    "log-mel dB": "{:.2f}",
    "ViSQOL": "{:.2f}",
    "Zimtohrli": "{:.2f}",
}


@dataclass(frozen=True)
class Job:
    """One variant: where its run lies, its recipe without number of steps, what it starts from."""

    folder: Path
    recipe: Recipe
    stage: str
    minutes: float
    data: Path
    cache: Path
    start: Path | None


def merged(values: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """`values` with `changes` in it; tables are merged key by key."""
    both = dict(values)
    for key, value in changes.items():
        both[key] = merged(both.get(key, {}), value) if isinstance(value, dict) else value
    return both


def step_seconds(job: Job) -> float:
    """Processor time of a step of the stage, on a trainer that is thrown away."""
    # Stage 2 with all its losses, even of a variant that never uses them.
    recipe = job.recipe.replace(warmup=0)
    trainer = Trainer(recipe, World(torch.device("cpu")))
    training, _ = split(
        build_cache(job.data, job.cache, recipe.model.sample_rate, recipe.model.channels).tracks
    )
    length, channels = recipe.crop_frames * recipe.model.hop, recipe.model.channels
    crops = Crops(
        job.cache,
        training,
        channels=channels,
        length=length,
        seed=recipe.seed,
        augmentation=Augmentation.of(recipe),
    )
    step: Callable[[torch.Tensor], object] = lambda audio: stage1_step(trainer, audio)  # noqa: E731
    if job.stage == "2":
        assert job.start is not None
        model = load_package(job.start)
        trainer.start_from(model.network)
        trainer.enter_stage2()
        sender = Sender(model.latent, model.coding, recipe.seed)
        step = lambda audio: stage2_step(trainer, sender, audio)  # noqa: E731
    seconds = []
    for trainer.step in range(TRIAL_STEPS):
        began = time.process_time()
        step(crops.batch(trainer.step, recipe.batch))
        trainer.update_average()
        seconds.append(time.process_time() - began)
    return float(np.median(seconds[UNTIMED:]))


def known_seconds(job: Job) -> float:
    """`step_seconds`, measured once: a variant that goes on after a kill keeps its schedule."""
    path = job.folder / "seconds.txt"
    if not path.exists():
        job.folder.mkdir(parents=True, exist_ok=True)
        path.write_text(repr(step_seconds(job)))
    return float(path.read_text())


def scores(package: Path, data: Path, cache: Path) -> dict[str, float]:
    """Means over validation excerpts, coded and decoded."""
    model, rows = load_model(package), []
    channels = model.config.channels
    _, held = split(build_cache(data, cache, RATE, channels).tracks)
    excerpts = Crops(cache, held, channels=channels, length=SECONDS * RATE, seed=0)
    for i in range(EXCERPTS):
        excerpt = excerpts.batch(i, 1)[0].numpy()
        coded = encode(excerpt, RATE, model)
        output = decode(coded, model)[0]
        pair = excerpt.mean(0).astype(np.float64), output.mean(0).astype(np.float64)
        rows.append(
            {
                "kbit/s": len(coded) * 8 / 1000 / SECONDS,
                "peak F1": peaks.peak_f1(*pair, RATE),
                "log-mel dB": spectral.log_mel_distance(*pair, RATE),
                "ViSQOL": perceptual.visqol_audio(*pair, RATE),
                "Zimtohrli": perceptual.zimtohrli(*pair, RATE),
            }
        )
    return {key: float(np.mean([row[key] for row in rows])) for key in rows[0]}


def run(job: Job) -> dict[str, float]:
    """Trains and scores one variant, unless OUT has it."""
    torch.set_num_threads(1)
    result = job.folder / "scores.json"
    if result.exists():
        return dict(json.loads(result.read_text()))
    seconds, stage = known_seconds(job), "stage" + job.stage
    steps = Stage(round(job.minutes * 60 / seconds), getattr(job.recipe, stage).rate)
    recipe = job.recipe.replace(**{stage: steps}, validate_every=10**9)
    with (job.folder / "train.txt").open("a", buffering=1) as log:
        package = train(
            job.data,
            recipe,
            job.folder,
            stage=job.stage,
            init_from=job.start,
            cache=job.cache,
            force=True,  # the time of a step lies there already
            report=lambda line: print(line, file=log),
        )
    lines = [json.loads(line) for line in (job.folder / "log.jsonl").read_text().splitlines()]
    validation = [line["validation"] for line in lines if "validation" in line][-1]
    found = {"steps": steps.steps, "s/step": seconds, "validation S": validation}
    found |= scores(package, job.data, job.cache)
    result.write_text(json.dumps(found, indent=1))
    return found


def blocks(found: Found) -> Blocks:
    """What is measured, as Markdown by mark; a dash where a row has no such number."""
    rows = [
        [name, *(form.format(row[key]) if key in row else "-" for key, form in COLUMNS.items())]
        for name, row in found["rows"].items()
    ]
    return {f"ablation: {found['comparison']}": table(["variant", *COLUMNS], rows)}


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("comparison", type=Path, help="a TOML file of variants")
    parser.add_argument("--data", type=Path, required=True, help="folder of training audio")
    parser.add_argument(
        "--cache", type=Path, required=True, help="its cache, shared by all variants"
    )
    parser.add_argument("--out", type=Path, required=True, help="folder of runs and table")
    parser.add_argument(
        "--init-from", type=Path, metavar="PACKAGE", help="model that all variants start from"
    )
    parser.add_argument(
        "--minutes", type=float, help="of processor time each, instead of the file's"
    )
    add_write(parser)
    parser.add_argument("--jobs", type=int, default=1, help="variants at a time, one thread each")
    args = parser.parse_args()
    if args.jobs < 1:
        parser.error("--jobs: at least 1")
    return args


def jobs(args: argparse.Namespace) -> dict[str, Job]:
    """All variants of the file by name."""
    plan = tomllib.loads(args.comparison.read_text())
    common = merged(load_recipe(plan["recipe"]).to_dict(), plan.get("changes", {}))
    minutes, found = args.minutes or plan["minutes"], {}
    for name, changes in plan["variants"].items():
        folder = args.out / "".join(c if c.isalnum() else "-" for c in name)
        recipe = Recipe.from_dict(merged(common, changes))
        found[name] = Job(
            folder, recipe, plan["stage"], minutes, args.data, args.cache, args.init_from
        )
    return found


def main() -> None:
    args, rows = arguments(), {}
    wanted = jobs(args)
    first = next(iter(wanted.values())).recipe.model
    build_cache(args.data, args.cache, first.sample_rate, first.channels, print)
    with ProcessPoolExecutor(args.jobs, get_context("spawn")) as pool:
        waiting = {pool.submit(run, job): name for name, job in wanted.items()}
        if args.init_from:
            waiting[pool.submit(scores, args.init_from, args.data, args.cache)] = AS_IT_IS
        for done in as_completed(waiting):
            rows[waiting[done]] = done.result()
            ordered = {name: rows[name] for name in [AS_IT_IS, *wanted] if name in rows}
            found = {"comparison": args.comparison.stem, "rows": ordered}
            (args.out / "ablation.md").write_text("\n".join(blocks(found).values()) + "\n")
            print(f"{waiting[done]}: done", file=sys.stderr)
    show(f"ablation-{args.comparison.stem}", found, blocks, args.write)


if __name__ == "__main__":
    main()
