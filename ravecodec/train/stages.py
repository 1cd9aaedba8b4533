"""What one training step of each stage computes. `trainer.py` calls it; nothing here knows of files
or clocks.

Stage 1 learns the representation: multiscale spectral distance + beta * KL, posterior samples into
the generator. Stage 2 freezes the encoder (weights and batch-norm statistics) and fine-tunes the
generator against a discriminator, on latents that are cropped, quantised and filled exactly as the
codec will send them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from ravecodec.errors import UsageError
from ravecodec.models.clock import Clock
from ravecodec.models.discriminator import (
    Features,
    SpectrumDiscriminator,
    WaveformDiscriminator,
)
from ravecodec.models.latent import LatentSpace
from ravecodec.models.losses import (
    discriminator_hinge,
    feature_matching,
    generator_hinge,
    kl_bits,
    lift,
    multiscale_distance,
    stereo_distance,
)
from ravecodec.models.package import Coding
from ravecodec.models.rave import Rave, sample_posterior
from ravecodec.quantize import Quantizer
from ravecodec.train.recipe import Recipe

Discriminator = WaveformDiscriminator | SpectrumDiscriminator
ACTIVE_BITS = 0.15  # KL per frame from which a latent counts as active
MAX_CLOCK = 1 << 20  # crops pretend to start anywhere in the first half day of a stream


def random_clock(batch: int, generator: torch.Generator, device: torch.device) -> Clock:
    """A fresh place and seed for every item, so that the network cannot lean on the excitation's
    phase.
    """
    draw = torch.randint(0, MAX_CLOCK, (2, batch), generator=generator)
    return Clock(draw[0].to(device), draw[1].to(device))


@dataclass(frozen=True)
class Valid:
    """The part of a crop that saw no zero padding, in frames from each end."""

    encoder: tuple[int, int]
    total: tuple[int, int]

    @classmethod
    def of(cls, model: Rave, crop_frames: int) -> Valid:
        encoder, decoder = model.encoder_reach, model.decoder_reach
        past, future = encoder.past + decoder.past, encoder.future + decoder.future
        if past + future >= crop_frames:  # short crops of tiny recipes: keep the middle half
            past = future = crop_frames // 4
        return cls((min(encoder.past, past), min(encoder.future, future)), (past, future))

    def latents(self, x: Tensor) -> Tensor:
        return x[..., self.encoder[0] : x.shape[-1] - self.encoder[1]]

    def audio(self, x: Tensor, hop: int) -> Tensor:
        return x[..., self.total[0] * hop : x.shape[-1] - self.total[1] * hop]

    def bands(self, x: Tensor, hop: int) -> Tensor:
        return self.audio(x, hop // 16)


def check_crop(recipe: Recipe, valid: Valid, discriminator: torch.nn.Module) -> None:
    """UsageError unless the valid part of a crop holds every spectrum that the losses want, on any
    grid.
    """
    windows = [min(recipe.windows)]  # paper: those that fit
    if recipe.distance == "stereo":
        windows = [window + grids(recipe.windows) - 1 for window in recipe.windows]
    if isinstance(discriminator, SpectrumDiscriminator):
        windows += discriminator.windows
    samples = (recipe.crop_frames - sum(valid.total)) * recipe.model.hop
    if samples < max(windows):
        left = f"{recipe.crop_frames} crop_frames leave {samples} samples that saw no padding"
        expected = f"expected at least {max(windows)}, the longest window and its hop"
        raise UsageError(f"recipe: {left}; {expected}")


def grids(windows: Sequence[int]) -> int:
    """In how many places the frames of spectra with these windows can lie: the hop of the longest,
    in samples.
    """
    return max(windows) // 4


def pick_grid(recipe: Recipe, windows: Sequence[int], generator: torch.Generator) -> int:
    """Samples to skip in this step, so that its spectra lie anywhere relative to latent frames; the
    paper's distance skips none.

    Frames of latents and of spectra would else have the same phase in every step, and what sounds
    wrong between two spectra of one grid would never cost anything.
    """
    if recipe.distance == "paper":
        return 0
    return int(torch.randint(grids(windows), (), generator=generator))


def pick_windows(recipe: Recipe, generator: torch.Generator) -> list[int]:
    """The windows of this step."""
    if not recipe.windows_per_step:
        return list(recipe.windows)
    chosen = torch.randperm(len(recipe.windows), generator=generator)[: recipe.windows_per_step]
    return [recipe.windows[i] for i in chosen]


def pick_refinement(recipe: Recipe, generator: torch.Generator) -> int:
    """How many learned corrections the latents get in this step."""
    if len(recipe.refine) == 1:
        return recipe.refine[0]
    return recipe.refine[int(torch.randint(len(recipe.refine), (), generator=generator))]


def posterior(
    model: Rave, valid: Valid, audio: Tensor, clock: Clock, steps: int
) -> tuple[Tensor, Tensor]:
    """Mean and spread [batch, latent, frames] of audio that will be decoded at `clock`, with that
    many corrections.
    """
    mean, spread = model.encode(audio)
    judged = valid.audio(audio, model.config.hop)
    return model.refine(judged, mean, spread, clock, steps, valid.total[0]), spread


class Decoded(NamedTuple):
    """What a generator made: bands [batch, channels * 16, samples / 16] and the audio of them."""

    bands: Tensor
    audio: Tensor


class Spectra(NamedTuple):
    """The spectra that S compares in one step: their window lengths, and how many samples of the
    valid region are skipped before the first.
    """

    windows: list[int]
    grid: int = 0


@dataclass(frozen=True)
class Objective:
    """What a loss is made of: the distance S of the recipe, on the part of a crop that saw no
    padding.
    """

    recipe: Recipe
    valid: Valid

    def draw_spectra(self, generator: torch.Generator) -> Spectra:
        """Those of a training step."""
        windows = pick_windows(self.recipe, generator)
        return Spectra(windows, pick_grid(self.recipe, windows, generator))

    def all_spectra(self) -> Spectra:
        """Those of validation: every window, on one grid."""
        return Spectra(list(self.recipe.windows))

    def distance(self, model: Rave, target: Tensor, decoded: Decoded, spectra: Spectra) -> Tensor:
        """S of audio [batch, channels, samples] and of what `model` made of it; a scalar."""
        hop = model.config.hop
        real, fake = self.valid.audio(target, hop), self.valid.audio(decoded.audio, hop)
        if self.recipe.distance == "stereo":
            gain = lift(real) if self.recipe.faint else 1.0
            real, fake = gain * real[..., spectra.grid :], gain * fake[..., spectra.grid :]
            rate, transport = model.config.sample_rate, self.recipe.transport
            return stereo_distance(real, fake, spectra.windows, rate, transport=transport)
        real_bands = self.valid.bands(model.pqmf.analysis(target), hop)
        fake_bands = self.valid.bands(decoded.bands, hop)
        full = multiscale_distance(real, fake, spectra.windows)
        return full + multiscale_distance(real_bands, fake_bands, spectra.windows)

    def autocast(self, device: torch.device) -> torch.autocast:
        """The context in which networks compute."""
        return autocast(self.recipe, device)


def autocast(recipe: Recipe, device: torch.device) -> torch.autocast:
    """The context in which networks compute: bfloat16 where the recipe says so."""
    return torch.autocast(device.type, torch.bfloat16, enabled=recipe.bfloat16 is True)


class Beta:
    """Weight of the KL: constant, or dual ascent towards a rate in kbit/s.

    The multiplier grows by up to 1 % a step while the rate is above the target and shrinks while it
    is below.
    """

    SPEED = 0.01

    def __init__(self, recipe: Recipe, frame_rate: float) -> None:
        self.value = recipe.beta
        self.target_bits = recipe.target_kbps * 1000 / frame_rate

    def follow(self, bits: float) -> None:
        """Takes the KL in bits per frame that the last step measured."""
        if self.target_bits:
            excess = max(-1.0, min(1.0, bits / self.target_bits - 1))
            self.value *= 1 + self.SPEED * excess


def stage1_loss(
    model: Rave, objective: Objective, audio: Tensor, beta: float, generator: torch.Generator
) -> tuple[Tensor, dict[str, float]]:
    """(loss, log values) of audio [batch, channels, samples]."""
    recipe, valid = objective.recipe, objective.valid
    clock = random_clock(len(audio), generator, audio.device)
    with objective.autocast(audio.device):
        corrections = pick_refinement(recipe, generator)
        mean, spread = posterior(model, valid, audio, clock, corrections)
        z = sample_posterior(mean, spread, generator)
        bands = model.decode_bands(z, clock)
    decoded = Decoded(bands, model.pqmf.synthesis(bands))
    spectra = objective.draw_spectra(generator)
    spectral = objective.distance(model, audio, decoded, spectra)
    per_dim = kl_bits(valid.latents(mean), valid.latents(spread))
    bits = per_dim.sum()
    log = {
        "spectral": spectral.item(),
        "kbps": bits.item() * model.config.frame_rate / 1000,
        "beta": beta,
        "active": float((per_dim > ACTIVE_BITS).sum()),
    }
    return spectral + beta * bits, log


class Sender:
    """Latents as a decoder will receive them: each item of a batch is cropped to a random number of
    axes, quantised with a random step, and filled, by the codec's own `Quantizer`. So one generator
    serves the whole rate ladder."""

    # Step indices around the default one: from two octaves finer to nearly two coarser.
    LADDER = -16, 14

    def __init__(self, latent: LatentSpace, coding: Coding, seed: int) -> None:
        self.latent, self.coding, self.seed = latent, coding, seed
        self.dims = (min(latent.dims_for(0.5), coding.dims), coding.dims)

    def __call__(self, mean: Tensor, step: int, clock: Clock) -> Tensor:
        """Posterior means [batch, latent, frames] -> latents of the same shape; depends on (seed,
        step) only.
        """
        random = np.random.default_rng((self.seed, step))
        points = []
        for _ in range(len(mean)):
            # Most of the time all axes that the default operating point sends.
            full = random.random() < 0.75
            dims = self.dims[1] if full else int(random.integers(self.dims[0], self.dims[1] + 1))
            points.append((dims, self.coding.step_index + int(random.integers(*self.LADDER))))
        return self._send(mean, points, clock)

    def at_default(self, mean: Tensor, clock: Clock) -> Tensor:
        """The same at the default operating point."""
        return self._send(mean, [(self.coding.dims, self.coding.step_index)] * len(mean), clock)

    def _send(self, mean: Tensor, points: list[tuple[int, int]], clock: Clock) -> Tensor:
        """Every item at its operating point (dims, step index)."""
        sent = []
        means = mean.float().transpose(1, 2).cpu().numpy()
        places = zip(clock.frame.tolist(), clock.seed.tolist(), strict=True)
        for z, (dims, step_index), (frame, seed) in zip(means, points, places, strict=True):
            quantizer = Quantizer(self.latent, self.coding, dims, step_index, self.coding.fill)
            sent.append(quantizer.latents(quantizer.symbols(z), frame, seed))
        return torch.from_numpy(np.stack(sent)).transpose(1, 2).contiguous().to(mean.device)


def build_discriminator(recipe: Recipe) -> Discriminator:
    kinds = {"spectrum": SpectrumDiscriminator, "waveform": WaveformDiscriminator}
    return kinds[recipe.discriminator](recipe.model.channels)


def stage2_output(
    model: Rave,
    objective: Objective,
    sender: Sender,
    audio: Tensor,
    step: int,
    generator: torch.Generator,
) -> Decoded:
    """What the generator makes of latents that are sent (`quantised`) or sampled; the encoder is
    frozen.
    """
    recipe = objective.recipe
    clock = random_clock(len(audio), generator, audio.device)
    with objective.autocast(audio.device):
        with torch.no_grad():
            mean, spread = posterior(model, objective.valid, audio, clock, recipe.refine[0])
            if recipe.quantised:
                z = sender(mean, step, clock)
            else:
                z = sample_posterior(mean, spread, generator)
        bands = model.decode_bands(z, clock)
    return Decoded(bands, model.pqmf.synthesis(bands))


def _logits(scales: list[Features]) -> list[Tensor]:
    return [features[-1].float() for features in scales]


def discriminator_loss(
    discriminator: Discriminator, recipe: Recipe, real: list[Tensor], fake: list[Tensor]
) -> Tensor:
    """Hinge loss on the discriminator's views of audio that is already cut to the valid region."""
    fake = [view.detach() for view in fake]
    with autocast(recipe, real[0].device):
        judged = [_logits(discriminator.judge(views)) for views in (real, fake)]
        return discriminator_hinge(*judged)


def adversarial_loss(
    discriminator: Discriminator, recipe: Recipe, real: list[Tensor], fake: list[Tensor]
) -> tuple[Tensor, dict[str, float]]:
    """(adversarial * hinge + feature_matching * FM, RAVE's eq. 8; hinge and FM for the log), of the
    same views of real and fake audio.
    """
    with autocast(recipe, real[0].device):
        with torch.no_grad():
            real_features = discriminator.judge(real)
        fake_features = discriminator.judge(fake)
    hinge = generator_hinge(_logits(fake_features))
    matching = feature_matching([f[:-1] for f in real_features], [f[:-1] for f in fake_features])
    log = {"adversarial": hinge.item(), "matching": matching.item()}
    return recipe.adversarial * hinge + recipe.feature_matching * matching, log
