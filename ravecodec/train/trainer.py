"""What a training run consists of, and one step of it: network, moving average, discriminator,
optimisers.
"""

from __future__ import annotations

import copy
import math
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ravecodec.models.grow import adopt
from ravecodec.models.rave import Rave
from ravecodec.precision import resolved
from ravecodec.train import stages
from ravecodec.train.optimiser import Optimiser, build_optimiser
from ravecodec.train.parallel import World
from ravecodec.train.recipe import Recipe, Stage

CLIP = 1.0  # gradient norm
LR_WARMUP = 100
BETA_WARMUP = 200  # steps before beta may follow the rate
COUNTERS = ("stage", "step", "stage1_steps", "seconds")  # of a checkpoint


def learning_rate(stage: Stage, step: int) -> float:
    """Linear warm-up, then half a cosine down to a twentieth."""
    cosine = 0.5 * (1 + math.cos(math.pi * min(1.0, step / max(1, stage.steps))))
    return stage.rate * min(1.0, (step + 1) / LR_WARMUP) * (0.05 + 0.95 * cosine)


def computes_in_bfloat16(recipe: Recipe, world: World) -> bool:
    """Whether a run does that begins here: as the recipe says, or as most of the processes find
    faster.
    """
    if isinstance(recipe.bfloat16, bool):
        return recipe.bfloat16
    faster = torch.tensor(
        [float(resolved(recipe.bfloat16, world.device, training=True) == "bfloat16")]
    )
    faster = faster.to(world.device)
    world.average([faster])
    return faster.item() > 0.5


class Trainer:
    """Network, its moving average, discriminator and optimisers; `state` and `restore` are inverse.

    In a `world` of several processes all have the same state and are fed different audio.
    """

    def __init__(self, recipe: Recipe, world: World) -> None:
        device = world.device
        recipe = recipe.replace(bfloat16=computes_in_bfloat16(recipe, world))
        torch.manual_seed(recipe.seed)
        self.recipe, self.world, self.device = recipe, world, device
        self.model = Rave(recipe.model).to(device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.average = copy.deepcopy(self.model).eval().requires_grad_(False)
        self.discriminator = stages.build_discriminator(recipe).to(device)
        betas = (0.5, 0.9)  # RAVE, section 4.1
        self.optimiser = build_optimiser(recipe.optimiser, self.model, (0.9, 0.99))
        self.generator_optimiser = build_optimiser(recipe.optimiser, self.model.generator, betas)
        self.discriminator_optimiser = torch.optim.Adam(
            self.discriminator.parameters(), betas=betas
        )
        self.beta = stages.Beta(recipe, recipe.model.frame_rate)
        self.valid = stages.Valid.of(self.model, recipe.crop_frames)
        stages.check_crop(recipe, self.valid, self.discriminator)
        self.stage, self.step, self.stage1_steps, self.seconds = 1, 0, 0, 0.0
        # Of stage 2, by validation.
        self.best: dict[str, Any] = {
            "distance": math.inf,
            "step": 0,
            "generator": {},
        }

    @property
    def objective(self) -> stages.Objective:
        """What its losses are made of."""
        return stages.Objective(self.recipe, self.valid)

    def _parts(self) -> dict[str, Any]:
        names = (
            "model",
            "average",
            "discriminator",
            "optimiser",
            "generator_optimiser",
            "discriminator_optimiser",
        )
        return {name: getattr(self, name) for name in names}

    def state(self) -> dict[str, Any]:
        numbers = {name: getattr(self, name) for name in COUNTERS} | {
            "beta": self.beta.value,
            "best": self.best,
        }
        numbers["bfloat16"] = self.recipe.bfloat16
        return numbers | {name: part.state_dict() for name, part in self._parts().items()}

    def restore(self, state: dict[str, Any]) -> None:
        for name, part in self._parts().items():
            part.load_state_dict(state[name])
        for name in COUNTERS:
            setattr(self, name, state[name])
        self.beta.value, self.best = state["beta"], state["best"]
        self.recipe = self.recipe.replace(bfloat16=state.get("bfloat16", self.recipe.bfloat16))

    def start_from(self, donor: Rave) -> list[str]:
        """A packaged network as the starting point; returns the names of weights it could not give
        (see `adopt`).
        """
        new = adopt(self.model, donor)
        self.average.load_state_dict(self.model.state_dict())
        return new

    def randomness(self) -> torch.Generator:
        """The random source of this step and process, whatever happened before it."""
        key = (self.recipe.seed, self.stage, self.draw)
        return torch.Generator().manual_seed(
            int(np.random.SeedSequence(key).generate_state(1, np.uint32)[0])
        )

    @property
    def draw(self) -> int:
        """Number of this step's batch among all that this stage draws in all processes."""
        return self.step * self.world.size + self.world.rank

    def update_average(self) -> None:
        """Moving average of the weights; buffers (batch-norm statistics) are copied."""
        decay = min(self.recipe.average, (1 + self.step) / (10 + self.step))
        if self.world.size > 1:
            self.world.average(
                value for name, value in self.model.named_buffers() if "running" in name
            )
        with torch.no_grad():
            torch._foreach_lerp_(
                list(self.average.parameters()), list(self.model.parameters()), 1 - decay
            )
            for mine, theirs in zip(self.average.buffers(), self.model.buffers(), strict=True):
                mine.copy_(theirs)

    def keep_if_best(self, distance: float) -> None:
        """In stage 2, after `warmup`: remembers the average's generator if it is nearer to the
        validation audio than any before."""
        counts = self.stage == 2 and self.step > self.recipe.warmup and self.recipe.keep_best
        if counts and distance < self.best["distance"]:
            weights = {
                name: value.clone() for name, value in self.average.generator.state_dict().items()
            }
            self.best = {"distance": distance, "step": self.step, "generator": weights}

    def finished(self) -> Rave:
        """The network to pack: the moving average, in stage 2 with its best generator."""
        network = copy.deepcopy(self.average)
        if self.best["generator"]:
            network.generator.load_state_dict(self.best["generator"])
        return network

    def enter_stage2(self) -> None:
        """The moving average becomes the model; the clock starts anew."""
        self.model.load_state_dict(self.average.state_dict())
        self.stage, self.step, self.stage1_steps = 2, 0, self.step


def _descend(loss: Tensor, optimiser: Optimiser, rate: float, world: World) -> None:
    """One step down the gradient, averaged over all processes; FloatingPointError, with the weights
    left alone, if it is NaN or infinite."""
    for group in optimiser.param_groups:
        group["lr"] = rate
    optimiser.zero_grad(set_to_none=True)
    loss.backward()
    parameters = [p for g in optimiser.param_groups for p in g["params"]]
    world.average([p.grad for p in parameters if p.grad is not None])
    norm = torch.nn.utils.clip_grad_norm_(parameters, CLIP)
    if not norm.isfinite():  # the same in every process
        raise FloatingPointError(f"loss {loss.item():g}, gradient {norm.item():g}")
    optimiser.step()


def stage1_step(trainer: Trainer, audio: Tensor) -> dict[str, float]:
    """One step of stage 1 on audio [batch, channels, samples]; returns what was measured."""
    recipe, random = trainer.recipe, trainer.randomness()
    trainer.model.train()
    loss, log = stages.stage1_loss(
        trainer.model, trainer.objective, audio, trainer.beta.value, random
    )
    rate = learning_rate(recipe.stage1, trainer.step)
    _descend(loss, trainer.optimiser, rate, trainer.world)
    if trainer.step >= BETA_WARMUP:
        measured = log["kbps"] * 1000 / recipe.model.frame_rate
        bits = torch.tensor([measured], device=trainer.device)
        trainer.world.average([bits])
        trainer.beta.follow(bits.item())
    return log


def stage2_step(trainer: Trainer, sender: stages.Sender, audio: Tensor) -> dict[str, float]:
    """One step of stage 2 on audio [batch, channels, samples]; returns what was measured.

    The discriminator learns first, then the generator, on the same output. The generator learns on
    the distance alone up to `warmup`, and if the recipe has no discriminator.
    """
    recipe, model, objective = trainer.recipe, trainer.model, trainer.objective
    model.eval()
    model.encoder.requires_grad_(False)
    random = trainer.randomness()
    decoded = stages.stage2_output(model, objective, sender, audio, trainer.draw, random)
    rate, log = learning_rate(recipe.stage2, trainer.step), {}
    if recipe.has_critic:
        hop, discriminator = recipe.model.hop, trainer.discriminator
        real = discriminator.views(trainer.valid.audio(audio, hop))
        fake = discriminator.views(trainer.valid.audio(decoded.audio, hop))
        critic = stages.discriminator_loss(discriminator, recipe, real, fake)
        _descend(critic, trainer.discriminator_optimiser, rate, trainer.world)
        log["critic"] = critic.item()
    loss = objective.distance(model, audio, decoded, objective.draw_spectra(random))
    log["spectral"] = loss.item()
    if recipe.has_critic and trainer.step >= recipe.warmup:
        trainer.discriminator.requires_grad_(False)
        adversarial, more = stages.adversarial_loss(trainer.discriminator, recipe, real, fake)
        loss, log = loss + adversarial, log | more
    _descend(loss, trainer.generator_optimiser, rate, trainer.world)
    trainer.discriminator.requires_grad_(True)
    return log
