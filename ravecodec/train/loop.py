"""The training loop: cache audio, stage 1, latent analysis, stage 2, tables, package.

`train` may be stopped at any moment and called again with the same arguments: it goes on from the
last checkpoint, and because crops and noise are functions of the step number, it sees what it would
have seen: on one machine with one thread the weights come out the same, bit for bit.
"""

from __future__ import annotations

import math
import time
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ravecodec import __version__
from ravecodec.errors import InputError, ModelError, UsageError
from ravecodec.models.istft import IstftGenerator
from ravecodec.models.package import load_package
from ravecodec.precision import AUTO
from ravecodec.train import outcome, stages
from ravecodec.train.cache import Library, Track, build_cache, describe, scan
from ravecodec.train.collapse import Collapse
from ravecodec.train.data import Crops, split
from ravecodec.train.finish import analyse_latents, write_package
from ravecodec.train.folder import LOST, UNPICKLING, Run, check_folder, held
from ravecodec.train.interrupts import deferred
from ravecodec.train.parallel import World, gather
from ravecodec.train.recipe import Recipe, Stage
from ravecodec.train.report import can_write_report, write_report
from ravecodec.train.trainer import Trainer, stage1_step, stage2_step
from ravecodec.train.validation import Heard, Latents, level_gain, listen, unchanged, validate

CHECKPOINT_SECONDS = 120.0
REPORT_SECONDS = 15.0
STAGES = ("all", "1", "2")

Report = Callable[[str], None]
Log = dict[str, float]


class Journal:
    """What a stage says and writes down about itself."""

    def __init__(self, run: Run, trainer: Trainer, stage: Stage, report: Report) -> None:
        self._run, self._trainer, self._stage, self._report = run, trainer, stage, report
        self._sums: dict[str, list[float]] = defaultdict(list)
        self._began = self._reported = time.monotonic()
        self._first = trainer.step
        self._collapse = Collapse(trainer.recipe)

    def add(self, log: Log) -> None:
        """Takes what one step measured; reports the means by the clock and at the end of the
        stage.
        """
        for key, value in log.items():
            self._sums[key].append(value)
        now, step = time.monotonic(), self._trainer.step
        if now - self._reported >= REPORT_SECONDS or step == self._stage.steps:
            means = {key: float(np.mean(values)) for key, values in self._sums.items()}
            self.write(means, self._progress(now))
            if advice := self._collapse.advice(step, means):
                self.advise(advice)
            self._sums.clear()
            self._reported = now

    def _progress(self, now: float) -> str:
        """Steps and seconds of audio that all processes train on a second, and the time that is
        left.
        """
        trainer, recipe = self._trainer, self._trainer.recipe
        speed = (trainer.step - self._first) / (now - self._began)
        left = _clock_text((self._stage.steps - trainer.step) / speed)
        audio = recipe.batch * trainer.world.size * recipe.crop_frames / recipe.model.frame_rate
        return f"{speed:.2f} steps/s  {speed * audio:.3g} x real time  {left} left"

    def write(self, values: Log, note: str = "") -> None:
        """One line, here and in the run's log."""
        shown = "  ".join(
            [f"{key} {value:.4g}" for key, value in values.items()] + [note] * bool(note)
        )
        self._say(shown, values)

    def advise(self, sentence: str) -> None:
        """A sentence for whoever looks after the run, here and in the run's log."""
        self._say(sentence, {"advice": sentence})

    def _say(self, text: str, values: Mapping[str, Any]) -> None:
        self._report(
            f"stage {self._trainer.stage}  step {self._trainer.step}/{self._stage.steps}  {text}"
        )
        self._run.log({"stage": self._trainer.stage, "step": self._trainer.step, **values})


def _clock_text(seconds: float) -> str:
    return f"{int(seconds // 3600)}:{int(seconds % 3600 // 60):02d}:{int(seconds % 60):02d}"


def run_stage(
    run: Run,
    trainer: Trainer,
    stage: Stage,
    crops: Crops,
    step_function: Callable[[Tensor], Log],
    validation: Callable[[], Log],
    report: Report,
) -> None:
    """Steps until the stage is done; validates by the step, checkpoints and reports by the clock.

    The first Ctrl-C is obeyed between two steps, when the checkpoint is written. Of several
    processes the first validates, reports and writes.
    """
    recipe, world, journal = trainer.recipe, trainer.world, Journal(run, trainer, stage, report)
    saved = time.monotonic()
    with deferred() as stop:
        stopped = False
        while trainer.step < stage.steps and not (stopped := world.any(bool(stop))):
            offset = 0 if trainer.stage == 1 else 1 << 40  # the stages draw different crops
            audio = crops.batch(offset + trainer.draw, recipe.batch).to(trainer.device)
            log = _guarded(step_function, audio, trainer)
            trainer.step += 1
            trainer.update_average()
            if world.rank:
                continue
            journal.add(log)
            if recipe.validate_every and (
                trainer.step % recipe.validate_every == 0 or trainer.step == stage.steps
            ):
                values = validation()
                journal.write(values)
                trainer.keep_if_best(values["validation"])
            if (now := time.monotonic()) - saved >= CHECKPOINT_SECONDS:
                trainer.seconds += now - saved
                run.save(trainer.state())
                saved = now
        trainer.seconds += time.monotonic() - saved
        if not world.rank:
            run.save(trainer.state())
        world.wait()
    if stopped:
        report(
            f"saved at stage {trainer.stage} step {trainer.step}; the same call goes on from here"
        )
        stop.obey()
        raise KeyboardInterrupt  # another process was asked to stop


def _guarded(step_function: Callable[[Tensor], Log], audio: Tensor, trainer: Trainer) -> Log:
    """One step; InputError if it diverges, UsageError if memory does not suffice."""
    recipe, place = trainer.recipe, f"stage {trainer.stage} step {trainer.step}"
    try:
        return step_function(audio)
    except FloatingPointError as error:
        raise InputError(
            f"training diverged at {place} ({error}); lower the learning rate of the recipe"
        ) from error
    except RuntimeError as error:
        if not isinstance(error, torch.OutOfMemoryError) and "allocate memory" not in str(error):
            raise
        smaller = (
            f"batch = {recipe.batch // 2}"
            if recipe.batch > 1
            else f"crop_frames = {recipe.crop_frames // 2}"
        )
        raise UsageError(
            f"out of memory at {place}, with batch = {recipe.batch} and crop_frames = "
            f"{recipe.crop_frames}; "
            f"try {smaller} in the recipe"
        ) from error


def _silent(line: str) -> None:
    """Nobody wants to know."""


def begin(trainer: Trainer, run: Run, stage: str, init_from: Path | None, report: Report) -> None:
    """Brings the trainer to where the run stands: its checkpoint, else the package `init_from`,
    else random weights.

    UsageError for a stage that cannot follow from there.
    """
    saved = run.load()
    if saved is not None:
        try:
            trainer.restore(saved)
        except UNPICKLING as error:
            raise ModelError(
                f"{run.checkpoint}: does not hold what this recipe needs; {LOST}"
            ) from error
        report(f"resumed at stage {trainer.stage} step {trainer.step}")
    elif init_from is not None:
        _start_from(trainer, run, init_from, report)
    elif stage == "2":
        raise UsageError(
            f"{run.folder}: stage 2 needs a stage 1 in this run, or the weights of a model "
            "(--init-from)"
        )
    if stage == "1" and trainer.stage == 2:
        raise UsageError(
            f"{run.folder}: this run is in stage 2 already; choose another --out folder for stage 1"
        )
    if "stage1" in run.longer and trainer.stage == 2:
        raise UsageError(
            f"{run.folder}: stage 1 of this run is over, only stage 2 can be lengthened"
        )
    if run.longer and not trainer.world.rank:
        run.note("recipe.json", trainer.recipe.to_dict())


def _start_from(trainer: Trainer, run: Run, package: Path, report: Report) -> None:
    """Takes over a package's weights; warns where its config differs, for then some stay random,
    and remembers it for the model where most do."""
    donor, config = load_package(package).network, trainer.recipe.model
    try:
        new = trainer.start_from(donor)
    except ModelError as error:
        raise ModelError(f"{package}: {error}") from error
    if donor.config != config:
        keys = [
            f.name
            for f in fields(config)
            if getattr(config, f.name) != getattr(donor.config, f.name)
        ]
        report(
            f"warning: {package.name} differs from the recipe in {', '.join(keys)}; {len(new)} "
            "weights start anew"
        )
    if not trainer.world.rank:
        run.remember(warnings=outcome.taken_over(package.name, trainer, new))


def train(
    data: Path,
    recipe: Recipe,
    out: Path,
    *,
    stage: str = "all",
    init_from: Path | None = None,
    cache: Path | None = None,
    device: str = "auto",
    devices: int = 1,
    nodes: int = 1,
    licence: str | None = None,
    ignore_length: bool = False,
    force: bool = False,
    report: Report = _silent,
) -> Path:
    """Trains a model on a folder of audio and returns the path of its package.

    `stage` "1" stops after stage 1 and packages that; "2" runs only stage 2 on the run's (or
    `init_from`'s) stage 1. `devices` on each of `nodes` machines share the work; then every process
    makes this call (see `gather`). A run that is finished is left as it is. licence: of the
    weights; None: as in an earlier call, else unstated. `ignore_length` takes what is there of
    truncated files. OutputError where `out` holds files and no run, unless `force` is set.
    """
    if stage not in STAGES:
        raise UsageError(f"stage is {stage!r}; expected one of {STAGES}")
    scan(data)  # nothing is written for a folder without audio
    world = gather(device, devices, nodes)
    try:
        if not world.rank:
            check_folder(out, force=force)
        with held(out, wanted=not world.rank):
            return _train(
                world,
                data,
                recipe,
                out,
                stage,
                init_from,
                cache or out / "cache",
                licence,
                ignore_length,
                report,
            )
    except BaseException:
        world.abandon()
        raise


def _train(
    world: World,
    data: Path,
    recipe: Recipe,
    out: Path,
    stage: str,
    init_from: Path | None,
    cache: Path,
    licence: str | None,
    ignore_length: bool,
    report: Report,
) -> Path:
    """`train` in each process of a world."""
    trainer = Trainer(recipe, world)
    if world.rank:
        report = _silent
        world.wait()  # for the first process to make the run folder and the cache
    run = Run(out, recipe)
    begin(trainer, run, stage, init_from, report)
    if recipe.bfloat16 == AUTO:
        report(
            f"computing in {'bfloat16' if trainer.recipe.bfloat16 else 'float32'}, which was found "
            "to be faster"
        )
    path = outcome.package_path(run, recipe)
    if outcome.is_packed(run, trainer, recipe, stage):
        if not world.rank:
            world.wait()
            report(outcome.left_alone(run, recipe, licence))
        return path
    form = recipe.model.sample_rate, recipe.model.channels
    library = build_cache(data, cache, *form, report, ignore_length=ignore_length)
    training, validation = split(library.tracks)
    if not world.rank:
        run.remember(licence=outcome.licence_of(run, recipe, licence))
        note_data(run, library, validation, cache, recipe.model.sample_rate, report)
        world.wait()
    channels, rate, length = (
        recipe.model.channels,
        recipe.model.sample_rate,
        recipe.crop_frames * recipe.model.hop,
    )
    augmentation = (recipe.placed, recipe.allpass, recipe.faint)
    crops = Crops(cache, training, channels, length, recipe.seed, *augmentation, rate, world.device)
    if crops.audio.device.type != "cpu":
        report(f"data: in the memory of {crops.audio.device}, {crops.audio.nbytes / 1e9:.1f} GB")
    heard = Crops(cache, validation, channels, length, recipe.seed + 1)

    def run_it(stage: Stage, step: Callable[[Tensor], Log], latents: Latents = unchanged) -> None:
        def show(found: list[Heard]) -> None:
            step, number = trainer.step, -(-trainer.step // recipe.validate_every)
            run.board.validation(trainer.stage, step, number, step == stage.steps, rate, found)

        run_stage(
            run,
            trainer,
            stage,
            crops,
            step,
            lambda: validate(trainer, heard, latents, show),
            report,
        )

    if trainer.stage == 1 and stage != "2":
        run_it(recipe.stage1, lambda audio: stage1_step(trainer, audio))
    latent, coding, kbps = analyse_latents(trainer.average, recipe, crops, heard, trainer.device)
    dims = f"{latent.dims_for(0.99)} of {recipe.model.latent} axes"
    report(f"latent space: {dims} for fidelity 0.99 ({latent.frames} frames)")
    sender = stages.Sender(latent, coding, recipe.seed)
    if not world.rank:
        run.board.latents(latent, coding.dims)
    if stage != "1":
        if trainer.stage == 1:
            trainer.enter_stage2()
        run_it(recipe.stage2, lambda audio: stage2_step(trainer, sender, audio), sender.at_default)
        if trainer.best["step"]:
            report(
                f"kept the generator of stage 2 step {trainer.best['step']}, the best on "
                "validation audio"
            )
    if world.rank:
        return path  # which the first process writes
    doubts = outcome.warnings(run, recipe, training, coding, kbps)
    network, info = (
        trainer.finished(),
        provenance(trainer, data, training, run.facts["licence"], doubts),
    )
    if isinstance(network.generator, IstftGenerator):
        crops_heard = listen(trainer, network, heard, sender.at_default)
        gain = level_gain(crops_heard, trainer.valid, recipe.model.hop)
        network.generator.turn_up(gain)
        report(f"level: {20 * math.log10(gain):+.1f} dB, as validation audio has it")
    run.board.finished(trainer.step, rate, listen(trainer, network, heard, sender.at_default))
    write_package(path, network, recipe, latent, coding, info, heard, report)
    run.remember(packed=[trainer.stage, trainer.step], **outcome.made_with(trainer))
    if can_write_report():
        report(f"report: {write_report(run.folder)}")
    for doubt in doubts:
        report(f"warning: {doubt}")
    ready = f"is written, with {len(doubts)} warnings" if doubts else "is ready"
    report(f"{path} {ready}; `ravecodec model add {path}` installs it")
    return path


def note_data(
    run: Run, library: Library, validation: list[Track], cache: Path, rate: int, report: Report
) -> None:
    """Says what the folder holds, and writes it into the run's data.json with where its validation
    audio is.
    """
    summary = library.summary(rate)
    held = {"cache": str(cache.resolve()), "validation": [asdict(track) for track in validation]}
    run.note("data.json", summary | held)
    for line in describe(summary):
        report(line)


def provenance(
    trainer: Trainer, data: Path, training: list[Track], licence: str, doubts: list[str]
) -> dict[str, Any]:
    """What a model says about its making: the same for equal trainings, wherever and whenever they
    ran.
    """
    recipe = trainer.recipe
    credits_file = data / "CREDITS.md"
    return {
        "licence": licence,
        "recipe": recipe.to_dict(),
        "steps": {"stage 1": trainer.stage1_steps, "stage 2": trainer.best["step"] or trainer.step}
        if trainer.stage == 2
        else {"stage 1": trainer.step},
        "hours_of_audio": round(
            sum(t.frames for t in training) / recipe.model.sample_rate / 3600, 3
        ),
        "tracks": len(training),
        "credits": credits_file.read_text() if credits_file.exists() else "",
        "made_with": f"ravecodec {__version__}",
    } | ({"warnings": doubts} if doubts else {})
