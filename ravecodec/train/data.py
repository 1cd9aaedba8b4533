"""What a step trains on: tracks of the cache are split into training and validation, and random crops are drawn."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np

from ravecodec.errors import InputError
from ravecodec.train.cache import SILENCE_RMS, Track

VALIDATION_SHARE = 0.05


def _rank(track: Track) -> bytes:
    return hashlib.sha256(track.path.encode(errors="surrogateescape")).digest()


def split(tracks: list[Track]) -> tuple[list[Track], list[Track]]:
    """(training, validation): whole files, chosen by a hash of their names; never a file on both sides.

    Files without sound count for nothing. A single file is divided in time instead: its last tenth validates.
    """
    tracks = [t for t in tracks if t.frames > 0]
    if len(tracks) == 1:
        only = tracks[0]
        cut = only.frames - only.frames // 10
        return [Track(only.path, only.start, cut)], [Track(only.path, only.start + cut, only.frames - cut)]
    ranked = sorted(tracks, key=_rank)
    held = max(1, round(len(tracks) * VALIDATION_SHARE))
    return sorted(ranked[held:], key=lambda t: t.start), sorted(ranked[:held], key=lambda t: t.start)


def _place(crop: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Another stereo image of a crop [frames, 2], half of the time one below and another above a random frequency.

    Most music is mixed around the middle: without this a network hardly ever sees a sound on one side.
    """
    low, high = _image(random), _image(random)
    corner = 2 ** random.uniform(-7, -2)  # of half the sample rate
    if random.random() < 0.5:
        return (crop @ low).astype(np.float32)
    spectrum = np.fft.rfft(crop, axis=0)
    share = 1 / (1 + (corner / np.linspace(1e-6, 1, len(spectrum))[:, None]) ** 4)
    placed = np.fft.irfft(spectrum @ low * (1 - share) + spectrum @ high * share, len(crop), axis=0)
    return placed.astype(np.float32)


def _image(random: np.random.Generator) -> np.ndarray:
    """A matrix [2, 2] for samples (left, right): side times 0 to 1.5, then the right turned down, once in five times to
    silence; once in ten its polarity is turned as well."""
    width = random.uniform(0, 1.5)
    gain = max(0.0, random.uniform(-0.25, 1))
    if random.random() < 0.1:
        gain = -gain
    return np.array([[1 + width, gain * (1 - width)], [1 - width, gain * (1 + width)]]) / 2


class Crops:
    """Random crops of the memory map: every second of audio is about as likely as any other.

    `placed` is the share of stereo crops that get another place in the stereo image.

    `batch(step, size)` depends on nothing but its arguments and the seed, so a resumed run sees the audio it would have
    seen. InputError if the tracks hold no audio.
    """

    def __init__(
        self, cache: Path, tracks: list[Track], channels: int, length: int, seed: int, placed: float = 0.0
    ) -> None:
        self.audio = np.memmap(cache / "audio.i16", dtype="<i2", mode="r").reshape(-1, channels)
        self.tracks = [t for t in tracks if t.frames > 0]
        self.length = length
        self.seed = seed
        self.placed = placed if channels == 2 else 0.0
        if not self.tracks:
            raise InputError(f"{cache}: no audio to draw crops from; expected more or longer files")
        frames = np.array([t.frames for t in self.tracks], dtype=np.float64)
        self.weights = frames / frames.sum()

    def _crop(self, random: np.random.Generator) -> np.ndarray:
        """float32 [length, channels] of one track; a shorter one is joined with others until the crop is full."""
        pieces: list[np.ndarray] = []
        left = self.length
        while left > 0:
            track = self.tracks[random.choice(len(self.tracks), p=self.weights)]
            start = track.start + int(random.integers(max(track.frames - left, 0) + 1))
            pieces.append(np.asarray(self.audio[start : min(start + left, track.stop)], dtype=np.float32))
            left -= len(pieces[-1])
        return np.concatenate(pieces)

    def _audible_crop(self, random: np.random.Generator) -> np.ndarray:
        for _ in range(8):
            crop = self._crop(random)
            if np.sqrt(np.mean(crop**2)) > SILENCE_RMS:
                break
        return crop  # the eighth may be silent: a decoder has to know silence too

    def batch(self, step: int, size: int) -> np.ndarray:
        """float32 [size, channels, length] in [-1, 1]: random gain of -9..+3 dB, channels swapped half of the time,
        dequantised by uniform noise of one 16-bit step (RAVE, section 4.1)."""
        random = np.random.default_rng((self.seed, step))
        crops = np.stack([self._audible_crop(random) for _ in range(size)])
        crops += random.uniform(-0.5, 0.5, crops.shape).astype(np.float32)
        for i in np.flatnonzero(random.random(size) < self.placed):
            crops[i] = _place(crops[i], random)
        gain = 10 ** (random.uniform(-9, 3, (size, 1, 1)) / 20) / 32768
        peak = np.abs(crops).max(axis=(1, 2), keepdims=True) + 1
        crops *= np.minimum(gain, 1 / peak).astype(np.float32)
        swapped = random.random(size) < 0.5
        crops[swapped] = crops[swapped][..., ::-1]
        return np.ascontiguousarray(crops.transpose(0, 2, 1), dtype=np.float32)
