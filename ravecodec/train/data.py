"""What a step trains on: tracks of the cache are split into training and validation, and random crops are drawn."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np

from ravecodec.errors import InputError
from ravecodec.train.cache import SILENCE_RMS, Track

VALIDATION_SHARE = 0.05
POLE_RADIUS = 0.99  # of the all-pass; with its frequencies: RAVE, section 4.1
POLE_HERTZ = (20.0, 2000.0)
SETTLING = 4096  # samples after which the all-pass has forgotten what was before: POLE_RADIUS ** SETTLING is 1e-18


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


def _turn_phase(crop: np.ndarray, angle: float) -> np.ndarray:
    """A crop [frames, channels] through the all-pass of second order with poles of radius r = POLE_RADIUS at +-`angle`
    (radians per sample):

        H(z) = (r^2 - 2 r cos(angle) z^-1 + z^-2) / (1 - 2 r cos(angle) z^-1 + r^2 z^-2)

    The numerator is the denominator D read backwards, so |H| = 1: on the unit circle H = z^-2 conj(D) / D. It is
    multiplied with the spectrum of the whole crop, as if the crop were repeated for ever; the response lasts SETTLING
    samples, and as many at the start of the crop hold what came round from its end.
    """
    delay = np.exp(-2j * np.pi * np.arange(len(crop) // 2 + 1) / len(crop))  # z^-1 at every bin
    denominator = 1 - 2 * POLE_RADIUS * np.cos(angle) * delay + (POLE_RADIUS * delay) ** 2
    response = (delay**2 * denominator.conj() / denominator).astype(np.complex64)
    return np.fft.irfft(np.fft.rfft(crop, axis=0) * response[:, None], len(crop), axis=0).astype(np.float32)


class Crops:
    """Random crops of the memory map: every second of audio is about as likely as any other.

    `placed` is the share of stereo crops that get another place in the stereo image; `allpass` the share that goes
    through an all-pass at a random frequency, the same for all channels, which changes phases and no magnitude. Its
    frequencies are of audio at `rate` Hz.

    `batch(step, size)` depends on nothing but its arguments and the seed, so a resumed run sees the audio it would have
    seen. InputError if the tracks hold no audio.
    """

    def __init__(
        self,
        cache: Path,
        tracks: list[Track],
        channels: int,
        length: int,
        seed: int,
        placed: float = 0.0,
        allpass: float = 0.0,
        rate: int = 48_000,
    ) -> None:
        self.audio = np.memmap(cache / "audio.i16", dtype="<i2", mode="r").reshape(-1, channels)
        self.tracks = [t for t in tracks if t.frames > 0]
        self.length = length
        self.seed = seed
        self.placed = placed if channels == 2 else 0.0
        self.allpass = allpass
        self.rate = rate
        self.lead = SETTLING if allpass else 0  # samples before each crop, heard by the all-pass only
        if not self.tracks:
            raise InputError(f"{cache}: no audio to draw crops from; expected more or longer files")
        frames = np.array([t.frames for t in self.tracks], dtype=np.float64)
        self.weights = frames / frames.sum()

    def _crop(self, random: np.random.Generator) -> np.ndarray:
        """float32 [lead + length, channels] of one track; a shorter one is joined with others until the crop is
        full."""
        pieces: list[np.ndarray] = []
        left = self.lead + self.length
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

    def _random_allpass(self, crop: np.ndarray, random: np.random.Generator) -> np.ndarray:
        hertz = np.exp(random.uniform(*np.log(POLE_HERTZ)))
        return _turn_phase(crop, 2 * np.pi * hertz / self.rate)

    def batch(self, step: int, size: int) -> np.ndarray:
        """float32 [size, channels, length] in [-1, 1]: random gain of -9..+3 dB, channels swapped half of the time,
        dequantised by uniform noise of one 16-bit step (RAVE, section 4.1).

        The order of the draws is fixed: with a share of 0 a batch is bit for bit what it was before that augmentation
        existed.
        """
        random = np.random.default_rng((self.seed, step))
        crops = np.stack([self._audible_crop(random) for _ in range(size)])
        crops += random.uniform(-0.5, 0.5, crops.shape).astype(np.float32)
        for i in np.flatnonzero(random.random(size) < self.placed):
            crops[i] = _place(crops[i], random)
        gain = 10 ** (random.uniform(-9, 3, (size, 1, 1)) / 20) / 32768
        swapped = random.random(size) < 0.5
        for i in np.flatnonzero(random.random(size) < self.allpass):
            crops[i] = self._random_allpass(crops[i], random)
        crops = crops[:, self.lead :]
        peak = np.abs(crops).max(axis=(1, 2), keepdims=True) + 1
        crops *= np.minimum(gain, 1 / peak).astype(np.float32)
        crops[swapped] = crops[swapped][..., ::-1]
        return np.ascontiguousarray(crops.transpose(0, 2, 1), dtype=np.float32)
