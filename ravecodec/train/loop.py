"""The training loop: cache audio, stage 1, latent analysis, stage 2, tables, package.

    run/recipe.json            the resolved recipe
    run/checkpoint.pt          everything a resumed run needs, replaced atomically
    run/log.jsonl              losses, one line a report
    run/<name>.safetensors     the finished model package

`train` may be killed at any moment and called again with the same arguments: it goes on from the last checkpoint, and
because crops and noise are functions of the step number, it sees what it would have seen: on one machine with one
thread the weights come out the same, bit for bit.
"""

from __future__ import annotations

import copy
import json
import math
import os
import pickle
import platform
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ravecodec import __version__
from ravecodec.device import choose_device
from ravecodec.errors import InputError, ModelError, OutputError, UsageError
from ravecodec.files import AtomicFile
from ravecodec.models.package import load_package, load_weights
from ravecodec.models.rave import Rave
from ravecodec.train import stages
from ravecodec.train.data import Crops, Track, build_cache, scan, split
from ravecodec.train.finish import analyse_latents, write_package
from ravecodec.train.recipe import Recipe, Stage

CHECKPOINT_SECONDS = 120.0
REPORT_SECONDS = 15.0
EMA = 0.999
CLIP = 1.0  # gradient norm
LR_WARMUP = 100
BETA_WARMUP = 200  # steps before beta may follow the rate
STAGES = ("all", "1", "2")
COUNTERS = ("stage", "step", "stage1_steps", "seconds")  # of a checkpoint

Report = Callable[[str], None]


class Run:
    """The training folder."""

    def __init__(self, folder: Path, recipe: Recipe) -> None:
        self.folder = folder
        self.checkpoint = folder / "checkpoint.pt"
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OutputError(f"{folder}: cannot be made a run folder ({error.strerror})") from error
        self._check_recipe(recipe)
        self._mend_log()

    def _check_recipe(self, recipe: Recipe) -> None:
        path = self.folder / "recipe.json"
        resolved = json.dumps(recipe.to_dict(), indent=1)
        if not path.exists():
            with AtomicFile(path) as file:
                file.write(resolved.encode())
        elif json.loads(path.read_text()) != json.loads(resolved):
            raise UsageError(f"{path}: this run was started with another recipe; use that one, or another --out folder")

    def _mend_log(self) -> None:
        """Cuts off a last line that was torn by a kill."""
        path = self.folder / "log.jsonl"
        if path.exists():
            os.truncate(path, path.read_bytes().rfind(b"\n") + 1)

    def save(self, state: dict[str, Any]) -> None:
        """Writes the checkpoint beside the old one, then replaces it: a kill leaves one of the two, whole."""
        part = self.checkpoint.with_suffix(".part")
        with part.open("wb") as file:
            torch.save(state, file)
            file.flush()
            os.fsync(file.fileno())
        part.replace(self.checkpoint)

    def load(self) -> dict[str, Any] | None:
        """The last checkpoint, None if there is none yet; ModelError if it is damaged."""
        if not self.checkpoint.exists():
            return None
        try:
            state: dict[str, Any] = torch.load(self.checkpoint, map_location="cpu", weights_only=True)
        except (RuntimeError, EOFError, pickle.UnpicklingError) as error:
            found = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise ModelError(f"{self.checkpoint}: cannot be read as a checkpoint ({found})") from error
        return state

    def log(self, values: dict[str, Any]) -> None:
        with (self.folder / "log.jsonl").open("a") as file:
            file.write(json.dumps(values) + "\n")


def learning_rate(stage: Stage, step: int) -> float:
    """Linear warm-up, then half a cosine down to a twentieth."""
    cosine = 0.5 * (1 + math.cos(math.pi * min(1.0, step / max(1, stage.steps))))
    return stage.rate * min(1.0, (step + 1) / LR_WARMUP) * (0.05 + 0.95 * cosine)


class Trainer:
    """Network, its moving average, discriminator and optimisers; `state` and `restore` are inverse."""

    def __init__(self, recipe: Recipe, device: torch.device) -> None:
        torch.manual_seed(recipe.seed)
        self.recipe, self.device = recipe, device
        self.model = Rave(recipe.model).to(device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.average = copy.deepcopy(self.model).eval().requires_grad_(False)
        self.discriminator = stages.build_discriminator(recipe).to(device)
        betas = (0.5, 0.9)  # RAVE, section 4.1
        self.optimiser = torch.optim.Adam(self.model.parameters(), betas=(0.9, 0.99))
        self.generator_optimiser = torch.optim.Adam(self.model.generator.parameters(), betas=betas)
        self.discriminator_optimiser = torch.optim.Adam(self.discriminator.parameters(), betas=betas)
        self.beta = stages.Beta(recipe, recipe.model.frame_rate)
        self.valid = stages.Valid.of(self.model, recipe.crop_frames)
        stages.check_crop(recipe, self.valid, self.discriminator)
        self.stage, self.step, self.stage1_steps, self.seconds = 1, 0, 0, 0.0

    def _parts(self) -> dict[str, Any]:
        names = ("model", "average", "discriminator", "optimiser", "generator_optimiser", "discriminator_optimiser")
        return {name: getattr(self, name) for name in names}

    def state(self) -> dict[str, Any]:
        numbers = {name: getattr(self, name) for name in COUNTERS} | {"beta": self.beta.value}
        return numbers | {name: part.state_dict() for name, part in self._parts().items()}

    def restore(self, state: dict[str, Any]) -> None:
        for name, part in self._parts().items():
            part.load_state_dict(state[name])
        for name in COUNTERS:
            setattr(self, name, state[name])
        self.beta.value = state["beta"]

    def start_from(self, weights: dict[str, Tensor]) -> None:
        """Weights of a packaged model as the starting point."""
        load_weights(self.model, weights)
        self.average.load_state_dict(self.model.state_dict())

    def randomness(self) -> torch.Generator:
        """The random source of this step, whatever happened before it."""
        seed = np.random.SeedSequence((self.recipe.seed, self.stage, self.step)).generate_state(1, np.uint32)
        return torch.Generator().manual_seed(int(seed[0]))

    def update_average(self) -> None:
        """Moving average of the weights; buffers (batch-norm statistics) are copied."""
        decay = min(EMA, (1 + self.step) / (10 + self.step))
        with torch.no_grad():
            torch._foreach_lerp_(list(self.average.parameters()), list(self.model.parameters()), 1 - decay)
            for mine, theirs in zip(self.average.buffers(), self.model.buffers(), strict=True):
                mine.copy_(theirs)

    def enter_stage2(self) -> None:
        """The moving average becomes the model; the clock starts anew."""
        self.model.load_state_dict(self.average.state_dict())
        self.stage, self.step, self.stage1_steps = 2, 0, self.step


def _descend(loss: Tensor, optimiser: torch.optim.Optimizer, rate: float) -> None:
    """One step down the gradient; FloatingPointError, with the weights left alone, if it is NaN or infinite."""
    for group in optimiser.param_groups:
        group["lr"] = rate
    optimiser.zero_grad(set_to_none=True)
    loss.backward()
    norm = torch.nn.utils.clip_grad_norm_([p for g in optimiser.param_groups for p in g["params"]], CLIP)
    if not (loss.isfinite() and norm.isfinite()):
        raise FloatingPointError(f"loss {loss.item():g}, gradient {norm.item():g}")
    optimiser.step()


def stage1_step(trainer: Trainer, audio: Tensor) -> dict[str, float]:
    trainer.model.train()
    loss, log, _ = stages.stage1_loss(
        trainer.model, trainer.recipe, trainer.valid, audio, trainer.beta.value, trainer.randomness()
    )
    _descend(loss, trainer.optimiser, learning_rate(trainer.recipe.stage1, trainer.step))
    if trainer.step >= BETA_WARMUP:
        trainer.beta.follow(log["kbps"] * 1000 / trainer.recipe.model.frame_rate)
    return log


def stage2_step(trainer: Trainer, sender: stages.Sender, audio: Tensor) -> dict[str, float]:
    """Discriminator, then (after the warm-up) generator, on the same output."""
    recipe, model = trainer.recipe, trainer.model
    model.eval()
    model.encoder.requires_grad_(False)
    hop, random = recipe.model.hop, trainer.randomness()
    bands, output = stages.stage2_output(model, recipe, sender, audio, trainer.step, random)
    real, fake = trainer.valid.audio(audio, hop), trainer.valid.audio(output, hop)
    rate = learning_rate(recipe.stage2, trainer.step)
    critic = stages.discriminator_loss(trainer.discriminator, recipe, real, fake)
    _descend(critic, trainer.discriminator_optimiser, rate)
    loss = stages.distance(model, recipe, trainer.valid, audio, bands, output, stages.pick_windows(recipe, random))
    log = {"spectral": loss.item(), "critic": critic.item()}
    if trainer.step >= recipe.warmup:
        trainer.discriminator.requires_grad_(False)
        adversarial, more = stages.adversarial_loss(trainer.discriminator, recipe, real, fake)
        loss, log = loss + adversarial, log | more
    _descend(loss, trainer.generator_optimiser, rate)
    trainer.discriminator.requires_grad_(True)
    return log


def _clock_text(seconds: float) -> str:
    return f"{int(seconds // 3600)}:{int(seconds % 3600 // 60):02d}:{int(seconds % 60):02d}"


def run_stage(
    run: Run,
    trainer: Trainer,
    stage: Stage,
    crops: Crops,
    step_function: Callable[[Tensor], dict[str, float]],
    report: Report,
) -> None:
    """Steps until the stage is done; checkpoints and reports by the clock."""
    recipe = trainer.recipe
    sums: dict[str, list[float]] = defaultdict(list)
    began = saved = reported = time.monotonic()
    first = trainer.step
    while trainer.step < stage.steps:
        offset = 0 if trainer.stage == 1 else 1 << 40  # the stages draw different crops
        audio = torch.from_numpy(crops.batch(offset + trainer.step, recipe.batch)).to(trainer.device)
        try:
            log = step_function(audio)
        except FloatingPointError as error:
            place = f"stage {trainer.stage} step {trainer.step} ({error})"
            raise InputError(f"training diverged at {place}; lower the learning rate of the recipe") from error
        trainer.step += 1
        trainer.update_average()
        for key, value in log.items():
            sums[key].append(value)
        now = time.monotonic()
        if now - reported >= REPORT_SECONDS or trainer.step == stage.steps:
            means = {key: float(np.mean(values)) for key, values in sums.items()}
            speed = (trainer.step - first) / (now - began)
            left = _clock_text((stage.steps - trainer.step) / speed)
            shown = "  ".join(f"{key} {value:.4g}" for key, value in means.items())
            place = f"stage {trainer.stage}  step {trainer.step}/{stage.steps}"
            report(f"{place}  {shown}  {speed:.2f} steps/s  {left} left")
            run.log({"stage": trainer.stage, "step": trainer.step, **means})
            sums.clear()
            reported = now
        if now - saved >= CHECKPOINT_SECONDS:
            trainer.seconds += now - saved
            run.save(trainer.state())
            saved = now
    trainer.seconds += time.monotonic() - saved
    run.save(trainer.state())


def begin(trainer: Trainer, run: Run, stage: str, init_from: Path | None, report: Report) -> None:
    """Brings the trainer to where the run stands: its checkpoint, else the package `init_from`, else random weights.

    UsageError for a stage that cannot follow from there.
    """
    saved = run.load()
    if saved is not None:
        trainer.restore(saved)
        report(f"resumed at stage {trainer.stage} step {trainer.step}")
    elif init_from is not None:
        trainer.start_from(load_package(init_from).network.state_dict())
    elif stage == "2":
        raise UsageError(f"{run.folder}: stage 2 needs a stage 1 in this run, or the weights of a model (--init-from)")
    if stage == "1" and trainer.stage == 2:
        raise UsageError(f"{run.folder}: this run is in stage 2 already; choose another --out folder for stage 1")


def train(
    data: Path,
    recipe: Recipe,
    out: Path,
    *,
    stage: str = "all",
    init_from: Path | None = None,
    cache: Path | None = None,
    device: str = "auto",
    licence: str = "unstated",
    report: Report = lambda line: None,
) -> Path:
    """Trains a model on a folder of audio and returns the path of its package.

    `stage` "1" stops after stage 1 and packages that; "2" runs only stage 2 on the run's (or `init_from`'s) stage 1.
    """
    if stage not in STAGES:
        raise UsageError(f"stage is {stage!r}; expected one of {STAGES}")
    scan(data)  # nothing is written for a folder without audio
    trainer = Trainer(recipe, choose_device(device))
    run = Run(out, recipe)
    begin(trainer, run, stage, init_from, report)
    cache = cache or out / "cache"
    tracks = build_cache(data, cache, recipe.model.sample_rate, recipe.model.channels, report)
    training, validation = split(tracks)
    length = recipe.crop_frames * recipe.model.hop
    crops = Crops(cache, training, recipe.model.channels, length, recipe.seed, recipe.placed)
    if trainer.stage == 1 and stage != "2":
        run_stage(run, trainer, recipe.stage1, crops, lambda audio: stage1_step(trainer, audio), report)
    held = Crops(cache, validation, recipe.model.channels, length, recipe.seed + 1)
    latent, coding = analyse_latents(trainer.average, recipe, crops, held, trainer.device)
    dims = f"{latent.dims_for(0.99)} of {recipe.model.latent} axes"
    report(f"latent space: {dims} for fidelity 0.99 ({latent.frames} frames)")
    if stage != "1":
        if trainer.stage == 1:
            trainer.enter_stage2()
        sender = stages.Sender(latent, coding, recipe.seed)
        run_stage(run, trainer, recipe.stage2, crops, lambda audio: stage2_step(trainer, sender, audio), report)
    info = provenance(trainer, data, training, licence)
    return write_package(run.folder, trainer.average, recipe, latent, coding, info)


def provenance(trainer: Trainer, data: Path, training: list[Track], licence: str) -> dict[str, Any]:
    """What a model says about its making."""
    recipe = trainer.recipe
    credits_file = data / "CREDITS.md"
    return {
        "licence": licence,
        "recipe": recipe.to_dict(),
        "steps": {"stage 1": trainer.stage1_steps, "stage 2": trainer.step}
        if trainer.stage == 2
        else {"stage 1": trainer.step},
        "training_seconds": round(trainer.seconds),
        "hours_of_audio": round(sum(t.frames for t in training) / recipe.model.sample_rate / 3600, 3),
        "tracks": len(training),
        "credits": credits_file.read_text() if credits_file.exists() else "",
        "made_with": f"ravecodec {__version__}, torch {torch.__version__}, {platform.machine()}, {trainer.device.type}",
    }
