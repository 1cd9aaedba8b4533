"""Samples -> posterior means, block by block: the first part of `Encoder`.

The network runs on blocks of BLOCK_SAMPLES at one fixed shape, with as much real context on both
sides as it can see. It sees high-passed audio (`highpass.py`), mirrored beyond both ends
(`windows.py`); faint sounds keep their level (`level.py`). Where the audio is silent,
frames are marked as silent.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ravecodec.audio import Audio, Resampler, match_channels
from ravecodec.highpass import HighPass
from ravecodec.level import encoded
from ravecodec.models.package import Model
from ravecodec.windows import MirroredWindows

BLOCK_SAMPLES = 1 << 18  # the network computes 5.5 s at a time
# peak of what is not heard: -100 dB, a tenth of the smallest 24-bit dither and a third of a 16-bit
# step
SILENCE = 1e-5
# at the model's rate: silence is decided for so many at a time, because chunks cost bytes
SILENCE_SAMPLES = 16_384

Latents = NDArray[np.float32]  # [frames, latent]
Axes = NDArray[np.float64]  # [frames, dims]
Flags = NDArray[np.bool_]  # [frames]


@dataclass(frozen=True)
class Analysed:
    """Consecutive frames of a stream.

    means, spreads: of the posterior, float32 [frames, latent]. silent: bool [frames], whether a
    frame is sent as silence. audio: what the encoder saw of these frames, float32 [channels, frames
    * hop] at the model's rate, high-passed, and mirrored beyond the ends. lead: how many frames at
    the front, 0 or 1, come before the stream.
    """

    means: Latents
    spreads: Latents
    silent: Flags
    audio: Audio
    lead: int = 0

    def __len__(self) -> int:
        return len(self.means)

    def part(self, first: int, last: int) -> Analysed:
        """Frames first .. last - 1 of these."""
        hop = self.audio.shape[1] // max(1, len(self))
        frames = slice(first, last)
        audio = self.audio[:, first * hop : last * hop]
        lead = int(self.lead and first == 0)
        return Analysed(self.means[frames], self.spreads[frames], self.silent[frames], audio, lead)

    def joined(self, other: Analysed) -> Analysed:
        """These frames and those of `other` behind them."""
        return Analysed(
            np.concatenate([self.means, other.means]),
            np.concatenate([self.spreads, other.spreads]),
            np.concatenate([self.silent, other.silent]),
            np.concatenate([self.audio, other.audio], axis=1),
            self.lead or other.lead,
        )


@dataclass(frozen=True)
class Projected:
    """Consecutive frames of a stream as they are quantised: axis vectors float64 [frames, dims];
    silent and lead as in `Analysed`."""

    axes: Axes
    silent: Flags
    lead: int = 0


def no_frames(model: Model) -> Analysed:
    """An `Analysed` of length 0, to begin with."""
    none = np.zeros((0, model.config.latent), np.float32)
    return Analysed(
        none, none, np.zeros(0, np.bool_), np.zeros((model.config.channels, 0), np.float32)
    )


class Analyser:
    """Audio in pieces of any length -> `Analysed` blocks; `process` feeds, `flush` ends it.

    The high-pass comes before the resampler, which sees zeros beyond the ends: to it an offset
    would begin and end with a step. The first block of a stream begins with the frame before the
    first, the lead-in, if that has sound.
    """

    def __init__(self, model: Model, sample_rate: int) -> None:
        self.samples = 0  # of the original audio, so far
        config, reach = model.config, model.network.encoder_reach
        self._model, self._hop, self._begun = model, config.hop, False
        # The window's frames before the block, and its own.
        self._first, self._block = (
            reach.past,
            block_frames(model),
        )
        self._high_pass = HighPass(sample_rate, config.channels)
        self._resampler = Resampler(sample_rate, config.sample_rate, config.channels)
        step, past, future = (
            frames * config.hop for frames in (self._block, reach.past, reach.future)
        )
        self._windows = MirroredWindows(config.channels, step, past, future, unit=config.hop)

    def process(self, block: Audio) -> Iterator[Analysed]:
        """Feed float32 [channels, n]; yields every block of frames that became complete."""
        self.samples += block.shape[1]
        for audio in self._high_pass.process(match_channels(block, self._model.config.channels)):
            yield from self._blocks(self._resampler.process(audio))

    def flush(self) -> Iterator[Analysed]:
        """Ends the stream: yields the remaining blocks. Nothing may be processed afterwards."""
        for audio in self._high_pass.flush():
            yield from self._blocks(self._resampler.process(audio))
        yield from self._blocks(self._resampler.flush())
        for window, count in self._windows.flush():
            yield self._analysed(window, count)

    def _blocks(self, audio: Audio) -> Iterator[Analysed]:
        """Of audio at the model's rate."""
        for window, count in self._windows.process(audio):
            yield self._analysed(window, count)

    def _analysed(self, window: Audio, samples: int) -> Analysed:
        """The block in the middle of a window, of which the stream has this many samples."""
        frames = -(-samples // self._hop)
        both = encoded(self._model, window)
        silent = self._silent(window, frames)
        lead = int(not (self._begun or silent[0] or self._first == 0))
        self._begun = True
        own = slice(self._first - lead, self._first + frames)
        means, spreads = (x[0, :, own].T.float().cpu().numpy() for x in both)
        audio = window[:, own.start * self._hop : own.stop * self._hop]
        return Analysed(
            means, spreads, np.concatenate([np.zeros(lead, np.bool_), silent]), audio, lead
        )

    def _silent(self, window: Audio, frames: int) -> Flags:
        """Groups of SILENCE_SAMPLES that are silent, with a frame more on both sides: there the
        latents tell of the sound beside it, and so they are sent as they are."""
        peaks = np.abs(window).reshape(len(window), -1, self._hop).max(axis=(0, 2))
        loud = np.pad(peaks > SILENCE, 1)
        quiet = ~(loud[:-2] | loud[1:-1] | loud[2:])[self._first : self._first + frames]
        size = max(1, SILENCE_SAMPLES // self._hop)
        groups = np.logical_and.reduceat(quiet, np.arange(0, frames, size))
        silent: Flags = np.repeat(groups, size)[:frames]
        return silent


def block_frames(model: Model) -> int:
    """Frames that the network computes at a time."""
    return BLOCK_SAMPLES // model.config.hop
