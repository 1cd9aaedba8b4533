#!/usr/bin/env python3
"""Time of a training step, split into data, network, losses and optimiser.

    python benchmarks/train_step.py [--recipe paper default] [--steps 5] [--batch N] [--crop-frames
        N] [--capacity N]

Steps like those of `ravecodec train`, with the same network, losses and optimisers, but written
again here, so that their parts can be timed, and without the random grid of the spectra, the
learning rate's curve and the checks of a real run; on noise from a memory map on disk, the best of
`--steps` after one that warms up. `network` is forward and backward of encoder and generator,
`losses` the same of the distance and, in stage 2, of the discriminator. Prints a Markdown table;
run it on a quiet machine.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ravecodec.bitstream import fit_static
from ravecodec.models.latent import analyse
from ravecodec.models.package import Coding
from ravecodec.models.rave import sample_posterior
from ravecodec.quantize import base_steps
from ravecodec.train import stages
from ravecodec.train.cache import Track
from ravecodec.train.data import Augmentation, Crops
from ravecodec.train.parallel import World
from ravecodec.train.recipe import Recipe, load_recipe
from ravecodec.train.trainer import Trainer

PARTS = ("data", "network", "losses", "optimiser")


class Watch:
    """Seconds by part of a step."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)

    @contextmanager
    def __call__(self, part: str) -> Iterator[None]:
        began = time.perf_counter()
        yield
        self.seconds[part] += time.perf_counter() - began


def noise_crops(recipe: Recipe, folder: Path) -> Crops:
    """Crops of a minute of noise on disk."""
    frames, channels = 60 * recipe.model.sample_rate, recipe.model.channels
    np.random.default_rng(0).integers(-8000, 8000, (frames, channels), "<i2").tofile(
        folder / "audio.i16"
    )
    length = recipe.crop_frames * recipe.model.hop
    noise, augmentation = [Track("noise", 0, frames)], Augmentation.of(recipe)
    return Crops(folder, noise, channels=channels, length=length, seed=0, augmentation=augmentation)


def descend(
    watch: Watch, optimiser: torch.optim.Optimizer, output: Tensor, gradient: Tensor
) -> None:
    """Backward through the network from the gradient at its output, then a step."""
    with watch("network"):
        output.backward(gradient)
    with watch("optimiser"):
        parameters = [p for group in optimiser.param_groups for p in group["params"]]
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)


def stage1(trainer: Trainer, crops: Crops, step: int) -> dict[str, float]:
    """Seconds by part of one step of stage 1."""
    watch, recipe, model, random = Watch(), trainer.recipe, trainer.model.train(), torch.Generator()
    with watch("data"):
        audio = crops.batch(step, recipe.batch)
    with watch("network"), torch.autocast("cpu", torch.bfloat16, enabled=recipe.bfloat16):
        mean, spread = model.encode(audio)
        clock = stages.random_clock(len(audio), random, audio.device)
        bands = model.decode_bands(sample_posterior(mean, spread, random), clock)
    with watch("losses"):
        start = bands.detach().requires_grad_()
        decoded = stages.Decoded(start, model.pqmf.synthesis(start))
        spectra = stages.Spectra(stages.pick_windows(recipe, random))
        trainer.objective.distance(model, audio, decoded, spectra).backward()
    assert start.grad is not None
    descend(watch, trainer.optimiser, bands, start.grad)
    with watch("optimiser"):
        trainer.update_average()
    return watch.seconds


def stage2(trainer: Trainer, sender: stages.Sender, crops: Crops, step: int) -> dict[str, float]:
    """Seconds by part of one step of stage 2, discriminator and generator."""
    watch, recipe, model, random = Watch(), trainer.recipe, trainer.model.eval(), torch.Generator()
    discriminator, hop = trainer.discriminator, recipe.model.hop
    with watch("data"):
        audio = crops.batch(step, recipe.batch)
    with watch("network"), torch.autocast("cpu", torch.bfloat16, enabled=recipe.bfloat16):
        clock = stages.random_clock(len(audio), random, audio.device)
        with torch.no_grad():
            mean, _ = model.encode(audio)
        bands = model.decode_bands(sender(mean, step, clock), clock)
    with watch("losses"):
        start = bands.detach().requires_grad_()
        decoded = stages.Decoded(start, model.pqmf.synthesis(start))
        real = discriminator.views(trainer.valid.audio(audio, hop))
        fake = discriminator.views(trainer.valid.audio(decoded.audio, hop))
        stages.discriminator_loss(discriminator, recipe, real, fake).backward()
    with watch("optimiser"):
        trainer.discriminator_optimiser.step()
        trainer.discriminator_optimiser.zero_grad(set_to_none=True)
    with watch("losses"):
        discriminator.requires_grad_(False)
        spectra = stages.Spectra(stages.pick_windows(recipe, random))
        loss = trainer.objective.distance(model, audio, decoded, spectra)
        (loss + stages.adversarial_loss(discriminator, recipe, real, fake)[0]).backward()
        discriminator.requires_grad_(True)
    assert start.grad is not None
    descend(watch, trainer.generator_optimiser, bands, start.grad)
    return watch.seconds


def any_sender(trainer: Trainer) -> stages.Sender:
    """A sender that quantises the latents of an untrained network."""
    with torch.no_grad():
        model = trainer.model.config
        mean, spread = trainer.model.encode(0.1 * torch.randn(1, model.channels, 400 * model.hop))
    latent = analyse(mean[0].T.numpy(), spread[0].T.numpy())
    base = base_steps(latent)
    static = fit_static(np.rint(latent.project(mean[0].T.numpy()) / base).astype(np.int32))
    return stages.Sender(latent, Coding(base, static.shapes, static.scales, len(base), 0, True), 0)


def best(step: Callable[[int], dict[str, float]], count: int) -> dict[str, float]:
    """Seconds by part of the fastest of `count` steps, after one more."""
    return min([step(i) for i in range(count + 1)][1:], key=lambda seconds: sum(seconds.values()))


def row(name: str, stage: int, recipe: Recipe, seconds: dict[str, float]) -> str:
    total = sum(seconds.values())
    size = f"{recipe.batch} x {recipe.crop_frames * recipe.model.hop}"
    return (
        f"| {name} | {stage} | {size} | {total:.2f} | "
        + " | ".join(f"{seconds[p] / total:.0%}" for p in PARTS)
        + " |"
    )


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--recipe", nargs="+", default=["paper", "default"])
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--batch", type=int)
    parser.add_argument("--crop-frames", type=int)
    parser.add_argument("--capacity", type=int)
    return parser.parse_args()


def main() -> None:
    args = arguments()
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads", file=sys.stderr)
    print("| recipe | stage | batch x samples | s a step | " + " | ".join(PARTS) + " |")
    print("|---|---|---|---|" + "---|" * len(PARTS))
    for name in args.recipe:
        recipe = load_recipe(name)
        changes = {k: v for k, v in (("batch", args.batch), ("crop_frames", args.crop_frames)) if v}
        if args.capacity:
            changes["model"] = dataclasses.replace(recipe.model, capacity=args.capacity)
        recipe = recipe.replace(**changes)
        trainer = Trainer(recipe, World(torch.device("cpu")))
        sender = any_sender(trainer)
        with tempfile.TemporaryDirectory() as folder:
            crops = noise_crops(recipe, Path(folder))
            steps = partial(stage1, trainer, crops), partial(stage2, trainer, sender, crops)
            for stage, step in enumerate(steps, 1):
                print(row(name, stage, recipe, best(step, args.steps)), flush=True)


if __name__ == "__main__":
    main()
