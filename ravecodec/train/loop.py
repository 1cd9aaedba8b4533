"""The training loop: cache audio, stage 1, latent analysis, stage 2, tables, package.

`train` may be stopped at any moment and called again with the same arguments: it goes on from the
last checkpoint, and because crops and noise are functions of the step number, it sees what it would
have seen: on one machine with one thread the weights come out the same, bit for bit.
"""

from __future__ import annotations

import math
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ravecodec import __version__
from ravecodec.errors import InputError, ModelError, UsageError
from ravecodec.models.istft import IstftGenerator
from ravecodec.models.package import load_package
from ravecodec.models.rave import Rave
from ravecodec.precision import AUTO
from ravecodec.train import outcome, stages
from ravecodec.train.board import Board
from ravecodec.train.cache import Track, build_cache, describe, scan
from ravecodec.train.collapse import Collapse
from ravecodec.train.data import Augmentation, Crops, split
from ravecodec.train.finish import analyse_latents, write_package
from ravecodec.train.folder import LOST, UNPICKLING, Run, check_folder, held
from ravecodec.train.interrupts import Stop, deferred
from ravecodec.train.overhead import USUAL, Overhead
from ravecodec.train.parallel import World, gather
from ravecodec.train.recipe import Recipe, Stage
from ravecodec.train.trainer import Trainer, stage1_step, stage2_step
from ravecodec.train.validation import (
    Latents,
    Reconstruction,
    level_gain,
    reconstruct,
    unchanged,
    validate,
)

STAGES = ("all", "1", "2")

Report = Callable[[str], None]
Log = dict[str, float]
StepFunction = Callable[[Tensor], Log]  # audio [batch, channels, samples] -> what was measured


class Journal:
    """What a stage says and writes down about itself."""

    def __init__(self, session: Session, stage: Stage) -> None:
        self._run, self._trainer, self._report = session.run, session.trainer, session.report
        self._stage, self._overhead = stage, session.request.overhead
        self._sums: dict[str, list[float]] = defaultdict(list)
        self._began = self._reported = time.monotonic()
        self._first = self._trainer.step
        self._collapse = Collapse(self._trainer.recipe, self._overhead.advice_after)

    def add(self, log: Log) -> None:
        """Takes what one step measured; reports the means by the clock and at the end of the
        stage.
        """
        for key, value in log.items():
            self._sums[key].append(value)
        now, step = time.monotonic(), self._trainer.step
        if now - self._reported >= self._overhead.report_seconds or step == self._stage.steps:
            means = {key: float(np.mean(values)) for key, values in self._sums.items()}
            self.write(means, self._progress(now))
            if advice := self._collapse.advice(step, means):
                self._say(advice, {"advice": advice})
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
        parts = [f"{key} {value:.4g}" for key, value in values.items()]
        if note:
            parts.append(note)
        self._say("  ".join(parts), values)

    def _say(self, text: str, values: Mapping[str, Any]) -> None:
        self._report(
            f"stage {self._trainer.stage}  step {self._trainer.step}/{self._stage.steps}  {text}"
        )
        self._run.log({"stage": self._trainer.stage, "step": self._trainer.step, **values})


def _clock_text(seconds: float) -> str:
    return f"{int(seconds // 3600)}:{int(seconds % 3600 // 60):02d}:{int(seconds % 60):02d}"


@dataclass(frozen=True)
class Request:
    """What `train` was asked for; its parameters are described there."""

    data: Path
    recipe: Recipe
    out: Path
    cache: Path
    stage: str
    init_from: Path | None
    licence: str | None
    ignore_length: bool
    packed: Callable[[Path], object] | None
    overhead: Overhead


@dataclass(frozen=True)
class Session:
    """What a run consists of, in one of its processes. Of several processes the first validates,
    reports and writes.

    tracks: training audio, of which `crops` are drawn; validation: crops of other audio.
    """

    request: Request
    trainer: Trainer
    run: Run
    tracks: list[Track]
    crops: Crops
    validation: Crops
    report: Report

    def stage1(self) -> None:
        """Representation learning, from where the trainer stands."""
        trainer = self.trainer
        self._run_stage(self.request.recipe.stage1, lambda audio: stage1_step(trainer, audio))

    def analyse(self) -> tuple[stages.Sender, float]:
        """Latent space, tables and default point of the moving average, and the ideal rate of that
        point in kbit/s on validation audio."""
        trainer, recipe, overhead = self.trainer, self.request.recipe, self.request.overhead
        latent, coding, kbps = analyse_latents(
            trainer.average,
            recipe,
            self.crops,
            self.validation,
            trainer.device,
            frames=overhead.analysis_frames,
            rate_frames=overhead.rate_frames,
        )
        dims = f"{latent.dims_for(0.99)} of {recipe.model.latent} axes"
        self.report(f"latent space: {dims} for fidelity 0.99 ({latent.frames} frames)")
        if self.trainer.world.leads:
            self.run.board.latents(latent, coding.dims)
        return stages.Sender(latent, coding, recipe.seed), kbps

    def stage2(self, sender: stages.Sender) -> None:
        """Fine-tuning of the generator, from where the trainer stands."""
        trainer = self.trainer
        if trainer.stage == 1:
            trainer.enter_stage2()
        self._run_stage(
            self.request.recipe.stage2,
            lambda audio: stage2_step(trainer, sender, audio),
            sender.at_default,
        )
        if trainer.best["step"]:
            best = f"stage 2 step {trainer.best['step']}"
            self.report(f"kept the generator of {best}, the best on validation audio")

    def pack(self, sender: stages.Sender, kbps: float) -> None:
        """Writes the model package, and says what speaks against the model. kbps: see `analyse`."""
        trainer, run, recipe = self.trainer, self.run, self.request.recipe
        path = run.package
        doubts = outcome.warnings(run, self.tracks, sender.coding, kbps)
        network = trainer.finished()
        licence = run.facts["licence"]
        info = provenance(trainer, self.request.data, self.tracks, licence, doubts)
        self._set_level(network, sender)
        decoded = self._decoded(network, sender)
        run.board.finished(trainer.step, recipe.model.sample_rate, decoded)
        write_package(
            path,
            network=network,
            latent=sender.latent,
            coding=sender.coding,
            name=recipe.name,
            info=info,
            held=self.validation,
            report=self.report,
            excerpts=self.request.overhead.curve_excerpts,
            steps=self.request.overhead.curve_steps,
        )
        run.remember(packed=[trainer.stage, trainer.step], **outcome.made_with(trainer))
        if self.request.packed is not None:
            self.request.packed(run.folder)
        for doubt in doubts:
            self.report(f"warning: {doubt}")
        ready = f"is written, with {len(doubts)} warnings" if doubts else "is ready"
        self.report(f"{path} {ready}; `ravecodec model add {path}` installs it")

    def _set_level(self, network: Rave, sender: stages.Sender) -> None:
        """Brings what the network plays to the level of validation audio."""
        trainer = self.trainer
        if not isinstance(network.generator, IstftGenerator):
            return
        gain = level_gain(
            self._decoded(network, sender), trainer.objective.valid, trainer.recipe.model.hop
        )
        network.generator.turn_up(gain)
        self.report(f"level: {20 * math.log10(gain):+.1f} dB, as validation audio has it")

    def _decoded(self, network: Rave, sender: stages.Sender) -> Iterator[Reconstruction]:
        """Validation audio through a network, at the default point."""
        count = self.request.overhead.validation_crops
        return reconstruct(self.trainer, network, self.validation, count, sender.at_default)

    def _run_stage(self, stage: Stage, step: StepFunction, latents: Latents = unchanged) -> None:
        """Steps until the stage is done. The first Ctrl-C is obeyed between two steps, when the
        checkpoint is written. latents: what the generator gets in validation.
        """
        trainer, world = self.trainer, self.trainer.world
        with deferred() as stop:
            stopped = self._steps(stage, step, latents, stop)
            if self.trainer.world.leads:
                self.run.save(trainer.state())
            world.wait()
        if stopped:
            place = f"stage {trainer.stage} step {trainer.step}"
            self.report(f"saved at {place}; the same call goes on from here")
            stop.obey()
            raise KeyboardInterrupt  # another process was asked to stop

    def _steps(self, stage: Stage, step: StepFunction, latents: Latents, stop: Stop) -> bool:
        """Validates by the step, checkpoints and reports by the clock; returns whether it was asked
        to stop before the stage was done.
        """
        trainer, journal = self.trainer, Journal(self, stage)
        saved, stopped = time.monotonic(), False
        while trainer.step < stage.steps:
            stopped = trainer.world.any(bool(stop))
            if stopped:
                break
            log = self._one_step(step)
            if not self.trainer.world.leads:
                continue
            journal.add(log)
            if self._validates(stage):
                self._validate(stage, latents, journal)
            now = time.monotonic()
            if now - saved >= self.request.overhead.checkpoint_seconds:
                trainer.seconds += now - saved
                self.run.save(trainer.state())
                saved = now
        trainer.seconds += time.monotonic() - saved
        return stopped

    def _one_step(self, step: StepFunction) -> Log:
        trainer = self.trainer
        offset = 0 if trainer.stage == 1 else 1 << 40  # the stages draw different crops
        audio = self.crops.batch(offset + trainer.draw, trainer.recipe.batch).to(trainer.device)
        log = _guarded(step, audio, trainer)
        trainer.step += 1
        trainer.update_average()
        return log

    def _validates(self, stage: Stage) -> bool:
        """Whether the step that was just done is followed by a validation."""
        every, step = self.trainer.recipe.validate_every, self.trainer.step
        return every > 0 and (step % every == 0 or step == stage.steps)

    def _validate(self, stage: Stage, latents: Latents, journal: Journal) -> None:
        trainer, rate = self.trainer, self.request.recipe.model.sample_rate

        def show(batches: list[Reconstruction]) -> None:
            step, number = trainer.step, -(-trainer.step // trainer.recipe.validate_every)
            last = step == stage.steps
            self.run.board.validation(trainer.stage, step, number, last, rate, batches)

        count = self.request.overhead.validation_crops
        values = validate(trainer, self.validation, count, latents, show)
        journal.write(values)
        trainer.keep_if_best(values["validation"])


def _guarded(step_function: StepFunction, audio: Tensor, trainer: Trainer) -> Log:
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
        now = f"batch = {recipe.batch} and crop_frames = {recipe.crop_frames}"
        smaller = f"crop_frames = {recipe.crop_frames // 2}"
        if recipe.batch > 1:
            smaller = f"batch = {recipe.batch // 2}"
        raise UsageError(
            f"out of memory at {place}, with {now}; try {smaller} in the recipe"
        ) from error


def ignore(line: str) -> None:
    """A `Report` that shows nothing."""


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
    if run.longer and trainer.world.leads:
        run.note("recipe.json", run.recipe.to_dict())  # as asked for, with "auto" in it


def _start_from(trainer: Trainer, run: Run, package: Path, report: Report) -> None:
    """Takes over a package's weights; warns where its config differs, for then some stay random,
    and remembers it for the model where most do."""
    donor, config = load_package(package).network, trainer.recipe.model
    try:
        new = trainer.start_from(donor)
    except ModelError as error:
        raise ModelError(f"{package}: {error}") from error
    if donor.config != config:
        theirs = asdict(donor.config)
        keys = ", ".join(key for key, value in asdict(config).items() if value != theirs[key])
        anew = f"{len(new)} weights start anew"
        report(f"warning: {package.name} differs from the recipe in {keys}; {anew}")
    if trainer.world.leads:
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
    report: Report = ignore,
    packed: Callable[[Path], object] | None = None,
    overhead: Overhead = USUAL,
) -> Path:
    """Trains a model on a folder of audio and returns the path of its package.

    `stage` "1" stops after stage 1 and packages that; "2" runs only stage 2 on the run's (or
    `init_from`'s) stage 1. A run that begins with the weights of `init_from` has the recipe's
    `init_rate`, if there is one, in stage 1. `devices` on each of `nodes` machines share the work;
    then every process makes this call (see `gather`). A run that is finished is left as it is.
    licence: of the weights; None: as in an earlier call, else unstated. `ignore_length` takes what
    is there of truncated files. packed: called with the run's folder by the first process when it
    has written a package. overhead: how often it reports and saves, and on how much audio it
    measures itself.
    OutputError where `out` holds files and no run, unless `force` is set.
    """
    if stage not in STAGES:
        raise UsageError(f"stage is {stage!r}; expected one of {STAGES}")
    request = Request(
        data=data,
        recipe=recipe if init_from is None else recipe.from_weights(),
        out=out,
        cache=cache or out / "cache",
        stage=stage,
        init_from=init_from,
        licence=licence,
        ignore_length=ignore_length,
        packed=packed,
        overhead=overhead,
    )
    scan(data)  # nothing is written for a folder without audio
    world = gather(device, devices, nodes)
    try:
        if world.leads:
            check_folder(out, force=force)
        with held(out, wanted=world.leads):
            return _train(request, world, report)
    except BaseException:
        world.abandon()
        raise


def _train(request: Request, world: World, report: Report) -> Path:
    """`train` in each process of a world."""
    recipe = request.recipe
    trainer = Trainer(recipe, world)
    if not world.leads:
        report = ignore
        world.wait()  # for the first process to make the run folder and the cache
    board = Board(request.out, request.overhead.excerpts, pictures=request.overhead.pictures)
    run = Run(request.out, recipe, board)
    begin(trainer, run, request.stage, request.init_from, report)
    if recipe.bfloat16 == AUTO:
        precision = "bfloat16" if trainer.recipe.bfloat16 else "float32"
        report(f"computing in {precision}, which was found to be faster")
    if outcome.is_packed(run, trainer, request.stage):
        if world.leads:
            world.wait()
            report(outcome.left_alone(run, request.licence))
        return run.package
    session = open_session(request, trainer, run, report)
    if trainer.stage == 1 and request.stage != "2":
        session.stage1()
    sender, kbps = session.analyse()
    if request.stage != "1":
        session.stage2(sender)
    if world.leads:  # the other processes leave the file to the first
        session.pack(sender, kbps)
    return run.package


def open_session(request: Request, trainer: Trainer, run: Run, report: Report) -> Session:
    """Decodes the data folder into the cache, says what it holds, and opens the crops of it."""
    recipe, world, cache = request.recipe, trainer.world, request.cache
    config, rate = recipe.model, recipe.model.sample_rate
    library = build_cache(
        request.data, cache, rate, config.channels, report, ignore_length=request.ignore_length
    )
    tracks, held_out = split(library.tracks)
    if world.leads:
        run.remember(licence=outcome.licence_of(run, request.licence))
        summary = library.summary(rate)
        held = {"cache": str(cache.resolve()), "validation": [asdict(track) for track in held_out]}
        run.note("data.json", summary | held)
        for line in describe(summary):
            report(line)
        world.wait()
    length = recipe.crop_frames * config.hop
    crops = Crops(
        cache,
        tracks,
        channels=config.channels,
        length=length,
        seed=recipe.seed,
        augmentation=Augmentation.of(recipe),
        device=world.device,
    )
    if crops.audio.device.type != "cpu":
        report(f"data: in the memory of {crops.audio.device}, {crops.audio.nbytes / 1e9:.1f} GB")
    validation = Crops(
        cache, held_out, channels=config.channels, length=length, seed=recipe.seed + 1
    )
    return Session(request, trainer, run, tracks, crops, validation, report)


def provenance(
    trainer: Trainer, data: Path, training: list[Track], licence: str, doubts: list[str]
) -> dict[str, Any]:
    """What a model says about its making: the same for equal trainings, wherever and whenever they
    ran.
    """
    recipe = trainer.recipe
    seconds = sum(t.frames for t in training) / recipe.model.sample_rate
    steps = {"stage 1": trainer.step}
    if trainer.stage == 2:
        last = trainer.best["step"] or trainer.step
        steps = {"stage 1": trainer.stage1_steps, "stage 2": last}
    return {
        "licence": licence,
        "recipe": recipe.to_dict(),
        "steps": steps,
        "hours_of_audio": round(seconds / 3600, 3),
        "tracks": len(training),
        "credits": outcome.credits_of(data),
        "made_with": f"ravecodec {__version__}",
    } | ({"warnings": doubts} if doubts else {})
