"""`ravecodec train`."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import click

from ravecodec import zoo
from ravecodec.cli import console
from ravecodec.cli.options import (
    device_option,
    ignore_length_option,
    quiet_option,
    threads_option,
    threads_or_default,
    verbose_option,
)
from ravecodec.errors import UsageError

PRIOR = "prior"  # the stage that is no part of training a model


@click.command()
@click.argument("data", metavar="DATA", required=False, type=click.Path(path_type=Path))
@click.option(
    "--recipe",
    "recipe_name",
    default="default",
    metavar="RECIPE",
    help="Name of a recipe that ships (default, live, paper, tiny), .toml file, or a run's "
    "recipe.json; default: the one called default.",
)
@click.option("--out", metavar="RUN", type=click.Path(path_type=Path), help="Folder of the run.")
@click.option(
    "--stage",
    type=click.Choice(["all", "1", "2", "prior"]),
    default="all",
    help="Stop after stage 1, do only stage 2, or train a prior for a finished model.",
)
@click.option(
    "--init-from",
    metavar="MODEL",
    help="Start from the weights of a model: name, file or id. For a prior: the model it is for.",
)
@click.option(
    "--cache",
    metavar="DIR",
    type=click.Path(path_type=Path),
    help="Folder of decoded audio; default: RUN/cache.",
)
@click.option(
    "--licence",
    metavar="TEXT",
    help="Licence of the weights, stored in the model; default: unstated.",
)
@click.option(
    "--steps1",
    type=click.IntRange(0),
    metavar="N",
    help="Steps of stage 1 instead of the recipe's.",
)
@click.option(
    "--steps2",
    type=click.IntRange(0),
    metavar="N",
    help="Steps of stage 2 instead of the recipe's.",
)
@click.option(
    "--steps-prior",
    type=click.IntRange(1),
    metavar="N",
    help="Most steps of a prior; default 1500.",
)
@click.option(
    "--devices",
    type=click.IntRange(1),
    default=1,
    metavar="N",
    help="Devices to share the work; default 1.",
)
@click.option(
    "--nodes",
    type=click.IntRange(1),
    default=1,
    metavar="N",
    help="Machines that take part; default 1.",
)
@click.option(
    "--report",
    "report_on",
    metavar="RUN",
    type=click.Path(path_type=Path),
    help="Train nothing; write report.html about a run, finished or not, into its folder.",
)
@ignore_length_option
@click.option(
    "-f", "--force", is_flag=True, help="Train in RUN though it holds other files and no run."
)
@device_option
@threads_option
@quiet_option
@verbose_option
def train(
    data: Path | None,
    recipe_name: str,
    out: Path | None,
    init_from: str | None,
    steps1: int | None,
    steps2: int | None,
    steps_prior: int | None,
    report_on: Path | None,
    threads: int | None,
    quiet: bool,
    **options: Any,
) -> None:
    """Train a model on a folder of audio.

    DATA is searched for audio files, folders within it too. The result is one file in RUN. Training
    may be stopped at any moment; the same call goes on from the last checkpoint.

    \b
    Examples:
      ravecodec train music/ --recipe default --out runs/mine --licence CC-BY-4.0
      ravecodec train music/ --recipe mine.toml --out runs/two --init-from default --stage 2
      ravecodec train music/ --stage prior --init-from default --out runs/prior
      ravecodec train --report runs/mine
    """
    if report_on is not None:
        from ravecodec.train.report import write_report

        console.emit(str(write_report(report_on)))
        return
    if data is None or out is None:
        raise UsageError("train: expected DATA and --out RUN, or --report RUN")
    if options["stage"] == PRIOR:
        if recipe_name != "default" or steps1 is not None or steps2 is not None:
            raise UsageError("train: --stage prior takes no --recipe, --steps1 and --steps2")
        _train_prior(data, out, init_from, steps_prior, threads, quiet, options)
        return
    if steps_prior is not None:
        raise UsageError("train: --steps-prior is for --stage prior")
    from ravecodec.train.recipe import load_recipe

    recipe = load_recipe(recipe_name)
    for stage, steps in (("stage1", steps1), ("stage2", steps2)):
        if steps is not None:
            recipe = recipe.replace(
                **{stage: dataclasses.replace(getattr(recipe, stage), steps=steps)}
            )
    start = zoo.find_model(init_from).path if init_from else None
    from ravecodec.device import set_threads
    from ravecodec.train.loop import train as run

    if (count := threads_or_default(threads)) is not None:
        set_threads(count)
    report = (lambda line: None) if quiet else console.say

    def packed(folder: Path) -> None:
        from ravecodec.train.report import can_write_report, write_report

        if can_write_report():
            report(f"report: {write_report(folder)}")

    run(data, recipe, out, init_from=start, report=report, packed=packed, **options)


def _train_prior(
    data: Path,
    out: Path,
    model: str | None,
    steps: int | None,
    threads: int | None,
    quiet: bool,
    options: dict[str, Any],
) -> None:
    """`--stage prior`; UsageError for options that have no meaning there."""
    if model is None:
        raise UsageError("train: --stage prior needs --init-from MODEL, whose prior it trains")
    if options["cache"] is not None or options["devices"] != 1 or options["nodes"] != 1:
        raise UsageError("train: --stage prior takes no --cache, --devices and --nodes")
    from ravecodec.device import set_threads
    from ravecodec.train.prior import PriorRecipe, train_prior

    if (count := threads_or_default(threads)) is not None:
        set_threads(count)
    recipe = PriorRecipe() if steps is None else PriorRecipe(steps=steps)
    kept = {name: options[name] for name in ("licence", "device", "force", "ignore_length")}
    report = (lambda line: None) if quiet else console.say
    train_prior(data, model, out, recipe=recipe, report=report, **kept)
