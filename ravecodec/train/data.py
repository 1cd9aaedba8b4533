"""What a step trains on: tracks of the cache are split into training and validation, and random
crops are drawn.

The audio stays in a memory map, or goes to the memory of a GPU as it is, int16, and crops are cut
and augmented there.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ravecodec.errors import InputError
from ravecodec.train.augment import SETTLING, SPEEDS, change_speed, place, random_allpass
from ravecodec.train.cache import SILENCE_RMS, Track
from ravecodec.train.recipe import Recipe

VALIDATION_SHARE = 0.05
FAINT = (-60.0, -20.0)  # dB


def _rank(track: Track) -> bytes:
    return hashlib.sha256(track.path.encode(errors="surrogateescape")).digest()


def split(tracks: list[Track]) -> tuple[list[Track], list[Track]]:
    """(training, validation): whole files, chosen by a hash of their names; never a file on both
    sides.

    Files without sound count for nothing. A single file is divided in time instead: its last tenth
    validates.
    """
    tracks = [t for t in tracks if t.frames > 0]
    if len(tracks) == 1:
        only = tracks[0]
        cut = only.frames - only.frames // 10
        return [Track(only.path, only.start, cut)], [
            Track(only.path, only.start + cut, only.frames - cut)
        ]
    ranked = sorted(tracks, key=_rank)
    held = max(1, round(len(tracks) * VALIDATION_SHARE))
    return sorted(ranked[held:], key=lambda t: t.start), sorted(
        ranked[:held], key=lambda t: t.start
    )


def load_audio(cache: Path, channels: int, device: torch.device) -> Tensor:
    """All audio of a cache, int16 [frames, channels]: in the memory of a GPU if half of what is
    free there holds it, else a memory map of the file."""
    path = cache / "audio.i16"
    # c: torch knows no read-only.
    mapped = np.memmap(path, dtype="<i2", mode="c").reshape(-1, channels)
    audio = torch.from_numpy(mapped)
    if device.type == "cuda" and 2 * mapped.nbytes <= torch.cuda.mem_get_info(device)[0]:
        return audio.to(device)
    return audio


def seed_for_draws(random: np.random.Generator, count: int) -> int:
    """A seed in place of `count` floats: what `random` draws afterwards is what it would have drawn
    after those.
    """
    seed = int(random.bit_generator.random_raw())
    random.bit_generator.advance(count - 1)  # type: ignore[attr-defined]
    return seed


@dataclass(frozen=True)
class Augmentation:
    """Which shares of crops are changed, beyond what all of them go through.

    placed: of stereo crops that get another place in the stereo image. allpass: that goes through
    an all-pass at a random frequency, the same for all channels, which changes phases and no
    magnitude; its frequencies are of audio at `rate` Hz. faint: that is turned down by another
    FAINT dB. speed: that is played faster or slower, by one of SPEEDS.
    """

    placed: float = 0.0
    allpass: float = 0.0
    faint: float = 0.0
    rate: int = 48_000
    speed: float = 0.0

    @classmethod
    def of(cls, recipe: Recipe) -> Augmentation:
        """What a recipe asks for."""
        rate = recipe.model.sample_rate
        return cls(recipe.placed, recipe.allpass, recipe.faint, rate, recipe.speed)


PLAIN = Augmentation()


class Crops:
    """Random crops of a cache's audio: every second of it is about as likely as any other.

    tracks: those that are drawn from. channels: of the cache's audio. length: samples per channel
    of a crop. device: see `load_audio`.

    `batch(step, size)` depends on nothing but its arguments, the seed and the kind of device that
    holds the audio, so a resumed run sees the audio it would have seen. InputError if the tracks
    hold no audio.
    """

    def __init__(
        self,
        cache: Path,
        tracks: list[Track],
        *,
        channels: int,
        length: int,
        seed: int,
        augmentation: Augmentation = PLAIN,
        device: torch.device | str = "cpu",
    ) -> None:
        self.audio = load_audio(cache, channels, torch.device(device))
        self.tracks = [t for t in tracks if t.frames > 0]
        self.length = length
        self.seed = seed
        self._placed = augmentation.placed if channels == 2 else 0.0
        self._augmentation = augmentation
        # Samples before each crop, heard by the all-pass only.
        self.lead = SETTLING if augmentation.allpass else 0
        if not self.tracks:
            raise InputError(f"{cache}: no audio to draw crops from; expected more or longer files")
        frames = np.array([t.frames for t in self.tracks], dtype=np.float64)
        self.weights = frames / frames.sum()

    def _crop(self, random: np.random.Generator, frames: int) -> Tensor:
        """float32 [frames, channels] of one track; a shorter one is joined with others until the
        crop is full."""
        pieces: list[Tensor] = []
        left = frames
        while left > 0:
            track = self.tracks[random.choice(len(self.tracks), p=self.weights)]
            start = track.start + int(random.integers(max(track.frames - left, 0) + 1))
            pieces.append(self.audio[start : min(start + left, track.stop)].float())
            left -= len(pieces[-1])
        return torch.cat(pieces)

    def _audible_crop(self, random: np.random.Generator, frames: int) -> Tensor:
        for _ in range(8):
            crop = self._crop(random, frames)
            if crop.square().mean().sqrt() > SILENCE_RMS:
                break
        return crop  # the eighth may be silent: a decoder has to know silence too

    def _played(self, random: np.random.Generator, frames: int) -> Tensor:
        """float32 [lead + length, channels]: `frames` of audio, played in the time of a crop."""
        crop = self._audible_crop(random, frames)
        whole = self.lead + self.length
        return crop if frames == whole else change_speed(crop, whole)

    def _lengths(self, step: int, size: int) -> list[int]:
        """How many frames of audio each crop of a batch plays: lead + length, or a SPEEDS-fold of
        it.

        They are drawn from a source of their own, so the draws of `batch` stay what they are.
        """
        own = np.random.SeedSequence((self.seed, step), spawn_key=(0,))
        random, whole = np.random.default_rng(own), self.lead + self.length
        changed = random.random(size) < self._augmentation.speed
        speeds = np.where(changed, random.choice(SPEEDS, size), 1)
        return [round(whole * speed) for speed in speeds]

    def _rounding(self, shape: torch.Size, random: np.random.Generator) -> Tensor:
        """Uniform noise of one 16-bit step; a GPU draws its own, and the draws behind it stay what
        they are.
        """
        device = self.audio.device
        if device.type == "cpu":
            return torch.from_numpy(random.uniform(-0.5, 0.5, shape).astype(np.float32))
        source = torch.Generator(device).manual_seed(seed_for_draws(random, shape.numel()))
        return torch.rand(shape, generator=source, device=device) - 0.5

    def batch(self, step: int, size: int) -> Tensor:
        """float32 [size, channels, length] in [-1, 1], where the audio is: random gain of -9..+3
        dB, channels swapped half of the time, dequantised by uniform noise of one 16-bit step
        (RAVE, section 4.1).

        The order of the draws is fixed: with a share of 0 a batch is bit for bit what it was before
        that augmentation existed.
        """
        random, changed = np.random.default_rng((self.seed, step)), self._augmentation
        crops = torch.stack([self._played(random, n) for n in self._lengths(step, size)])
        crops += self._rounding(crops.shape, random)
        for i in np.flatnonzero(random.random(size) < self._placed):
            crops[i] = place(crops[i], random)
        gain = (
            torch.from_numpy(10 ** (random.uniform(-9, 3, (size, 1, 1)) / 20) / 32768)
            .float()
            .to(crops.device)
        )
        swapped = random.random(size) < 0.5
        for i in np.flatnonzero(random.random(size) < changed.allpass):
            crops[i] = random_allpass(crops[i], changed.rate, random)
        crops = crops[:, self.lead :]
        peak = crops.abs().amax((1, 2), keepdim=True) + 1
        crops = crops * torch.minimum(gain, 1 / peak)
        for i in np.flatnonzero(swapped):
            crops[i] = crops[i].flip(-1)
        for i in np.flatnonzero(random.random(size) < changed.faint):
            crops[i] *= 10 ** (random.uniform(*FAINT) / 20)
        return crops.transpose(1, 2).contiguous()
