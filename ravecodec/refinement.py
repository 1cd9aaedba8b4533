"""Learned corrections of posterior means, as a stream.

`Rave.refine` does the same to whole crops in training. Here the distance of decoded latents to the
audio is taken for one block of frames after the other, at fixed places of the stream, and a
latent's gradient is the sum over all blocks that it is heard in. So the result does not depend on
how the audio was cut into pieces, and memory does not grow.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ravecodec.analysis import Analysed, Latents, block_frames, no_frames
from ravecodec.device import device_of
from ravecodec.models.clock import Clock
from ravecodec.models.package import Model
from ravecodec.models.refine import REACH, distance_gradient


class Correction:
    """One learned correction. `process` feeds frames of any number, `flush` ends the stream; both
    yield the same frames with corrected means, some later."""

    def __init__(self, model: Model, seed: int) -> None:
        assert model.network.refiner is not None, (
            "effort_of asks for corrections of such models only"
        )
        self._network, self._refiner, self._seed = model.network, model.network.refiner, seed
        self._device = device_of(model.network)
        self._reach = model.network.decoder_reach
        self._block = block_frames(model)
        self._held = no_frames(model)  # begins at frame `_begin`
        # Of the same frames, as far as it is known.
        self._gradient = np.zeros_like(self._held.means)
        self._begin = 0
        self._received = 0  # frames
        self._compared = 0  # frames
        self._emitted = 0  # frames

    def process(self, frames: Analysed) -> Iterator[Analysed]:
        """Feed some frames; yields those whose correction became known."""
        if frames.lead:
            self._begin = self._received = self._emitted = -frames.lead
        self._held = self._held.joined(frames)
        self._gradient = np.concatenate([self._gradient, np.zeros_like(frames.means)])
        self._received += len(frames)
        while self._received >= self._compared + self._block + self._reach.future:
            self._compare(self._compared + self._block)
            yield from self._emit(self._compared - self._reach.past - REACH)

    def flush(self) -> Iterator[Analysed]:
        """Ends the stream: yields the rest."""
        while self._compared < self._received:
            self._compare(min(self._compared + self._block, self._received))
        yield from self._emit(self._received)

    def _frames(self, first: int, last: int) -> NDArray[np.intp]:
        """Where frames first .. last - 1 lie in `_held`; beyond both ends of the stream the
        outermost frame is repeated, as the decoder does."""
        return np.clip(np.arange(first, last), self._begin, self._received - 1) - self._begin

    def _compare(self, end: int) -> None:
        """Adds to the gradient what the sound of the frames from `_compared` to `end` says."""
        start, past = self._compared, self._reach.past
        places = self._frames(start - past, end + self._reach.future)
        audio = self._held.part(start - self._begin, end - self._begin).audio
        clock = Clock.at(start - past, self._seed, self._device)
        mean = self._batch(self._held.means[places])
        with torch.no_grad():
            gradient = distance_gradient(
                self._network, torch.from_numpy(audio)[None].to(self._device), mean, clock, past
            )
        np.add.at(self._gradient, places, gradient[0].T.cpu().numpy())
        self._compared = end

    def _emit(self, end: int) -> Iterator[Analysed]:
        """The frames from `_emitted` to `end`, corrected."""
        if end <= self._emitted:
            return
        places = self._frames(self._emitted - REACH, end + REACH)
        arrays = (self._gradient, self._held.means, self._held.spreads)
        with torch.no_grad():
            correction = self._refiner(*(self._batch(array[places]) for array in arrays))
        known = self._held.part(self._emitted - self._begin, end - self._begin)
        moved = correction[0].T.cpu().numpy()[REACH : REACH + len(known)]
        yield replace(known, means=known.means + moved)
        self._emitted = end
        self._forget(max(0, min(end - REACH, self._compared - self._reach.past)))

    def _forget(self, first: int) -> None:
        """Lets go of the frames before `first`."""
        drop = max(0, first - self._begin)
        self._held = self._held.part(drop, len(self._held))
        self._gradient = self._gradient[drop:]
        self._begin += drop

    def _batch(self, frames: Latents) -> Tensor:
        """[frames, latent] -> [1, latent, frames]."""
        return torch.from_numpy(np.ascontiguousarray(frames.T))[None].to(self._device)
