"""Search at the encoder: symbols that sound nearer to the audio for the same bits, found by gradient.

What is sent is a few hundred integers a frame, and the generator is differentiable. So for one block of frames after
the other, with its neighbours held, Adam moves the axis vectors to lower

    distance of what the decoder will play to the audio + weight * bits under the stream's own tables.

The decoder's own rounding, centroids, fill and excitation are in the loop; gradients pass the rounding as if it were
not there (Bengio, Leonard & Courville 2013). The weight follows the bits (dual ascent), so that the stream costs what
it was given. The format and the decoder know nothing of it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ravecodec.bitstream.entropy import code_lengths
from ravecodec.models.clock import Clock
from ravecodec.models.losses import lift, stereo_distance
from ravecodec.models.package import Model
from ravecodec.models.rave import Rave
from ravecodec.quantize import CENTROIDS, Quantizer
from ravecodec.refinement import BLOCK_SAMPLES, Analysed, nothing

WINDOWS = (8192, 8192, 4096, 4096, 2048, 1024, 512, 256)  # of the distance, drawn as in training
WINDOWS_DRAWN = 3
RATE = 0.04  # Adam's, in steps
BETAS = (0.9, 0.95)
WEIGHT = 1e-4  # distance per bit and frame, to begin with
ASCENT = 1.0  # by how much the weight's logarithm grows in an iteration in which the bits are twice the target
TABULATED = 128  # symbols whose code lengths are looked up; beyond, they grow linearly

Axes = NDArray[np.float64]  # [frames, dims]
Symbols = NDArray[np.int32]  # [frames, dims]


class Channel:
    """What becomes of axis vectors between encoder and generator, and what they cost, as differentiable functions.

    Axis vectors are in steps, float32 [frames, dims].
    """

    def __init__(self, model: Model, quantizer: Quantizer, device: torch.device) -> None:
        def tensor(array: NDArray[np.floating]) -> Tensor:
            return torch.from_numpy(np.ascontiguousarray(array)).float().to(device)

        self.quantizer = quantizer
        self._step = tensor(quantizer.step)
        self._inner = tensor(quantizer.centroids)
        self._synthesis = tensor(quantizer.latent.synthesis[:, : quantizer.dims])
        rows = quantizer.static.rows(quantizer.step_index)[: quantizer.dims]
        lengths = np.array([code_lengths(np.arange(TABULATED + 1), int(row)) for row in rows])
        self._lengths = tensor(lengths.reshape(quantizer.dims, TABULATED + 1))

    def send(self, y: Tensor) -> Tensor:
        """The values that a decoder makes of y, in steps; the gradient is that of y itself."""
        size = y.detach().abs().round()
        inner = self._inner.gather(1, size.clamp(max=CENTROIDS).long().T).T
        sent = torch.where(size <= CENTROIDS, y.detach().sign() * inner, y.detach().round())
        return y + (sent - y.detach())

    def latents(self, sent: Tensor, rest: Tensor) -> Tensor:
        """Latents [frames, latent] of sent values; rest [frames, latent]: what the mean and cropped axes add."""
        return (sent * self._step) @ self._synthesis.T + rest

    def bits(self, y: Tensor) -> Tensor:
        """Code length of all of y in bits, interpolated between integers."""
        size = y.abs()
        low = size.detach().floor().clamp(max=TABULATED - 1)
        below = self._lengths.gather(1, low.long().T).T
        above = self._lengths.gather(1, low.long().T + 1).T
        return (below + (above - below) * (size - low)).sum()


@dataclass(frozen=True)
class Excerpt:
    """A block to search and what surrounds it.

    target: audio float32 [1, channels, samples] that is compared; skip: frames before it that latents are given for;
    latents: float32 [frames, latent] of the whole window, without the searched part of the `own` frames; clock: of its
    first frame.
    """

    target: Tensor
    skip: int
    latents: Tensor
    own: slice
    clock: Clock


class Search:
    """Frames in, axis vectors float64 [frames, dims] out that are whole multiples of the step.

    `process` feeds, `flush` ends. iterations: of Adam for each block. A block is searched when the frames up to twice
    the reach of the decoder behind it are known.
    """

    def __init__(self, model: Model, quantizer: Quantizer, seed: int, iterations: int) -> None:
        self._network, self._quantizer, self._seed = model.network, quantizer, seed
        self._iterations = iterations
        self._device = next(model.network.parameters()).device
        self._channel = Channel(model, quantizer, self._device)
        self._reach = model.network.decoder_reach
        self._block = BLOCK_SAMPLES // model.config.hop
        self._weight = WEIGHT
        self._held = nothing(model)  # begins at frame `_begin`
        self._symbols = np.zeros(
            (0, quantizer.dims), np.int32
        )  # of the same frames, the searched ones as they are sent
        self._begin = 0
        self._received = 0  # frames
        self._searched = 0  # frames

    def process(self, frames: Analysed) -> Iterator[Axes]:
        """Feed some frames; yields blocks that were searched."""
        self._held = self._held.joined(frames)
        self._symbols = np.concatenate([self._symbols, self._quantizer.symbols(frames.means)])
        self._received += len(frames)
        while self._received >= self._searched + self._block + self._reach.past + self._reach.future:
            yield self._search(self._searched + self._block)

    def flush(self) -> Iterator[Axes]:
        """Ends the stream: yields the rest."""
        while self._searched < self._received:
            yield self._search(min(self._searched + self._block, self._received))

    def _search(self, end: int) -> Axes:
        """The axis vectors of the frames from `_searched` to `end`."""
        own = slice(self._searched - self._begin, end - self._begin)
        axes = self._quantizer.axes(self._held.means[own])
        excerpt = self._excerpt(self._searched, end)
        found, self._weight = improve(
            self._network,
            self._channel,
            excerpt,
            axes / self._quantizer.step,
            self._iterations,
            self._weight,
            self._searched,
        )
        self._symbols[own] = found
        self._searched = end
        self._forget(end - self._reach.past - self._reach.future)
        return found * self._quantizer.step

    def _excerpt(self, start: int, end: int) -> Excerpt:
        past, future = self._reach.past, self._reach.future
        first, last = start - past - future, end + past + future
        heard = max(0, start - future), min(self._received, end + past)
        places = np.clip(np.arange(first, last), self._begin, self._received - 1) - self._begin
        own = slice(start - first, end - first)
        rows = self._symbols[places]
        rows[own] = 0
        latents = self._quantizer.latents(rows, first, self._seed)
        audio = self._held.part(heard[0] - self._begin, heard[1] - self._begin).audio
        return Excerpt(
            target=torch.from_numpy(audio)[None].to(self._device),
            skip=heard[0] - first,
            latents=torch.from_numpy(latents).to(self._device),
            own=own,
            clock=Clock.at(first, self._seed, self._device),
        )

    def _forget(self, first: int) -> None:
        """Lets go of the frames before `first`."""
        drop = max(0, first - self._begin)
        self._held, self._symbols = self._held.part(drop, len(self._held)), self._symbols[drop:]
        self._begin += drop


def improve(
    network: Rave, channel: Channel, excerpt: Excerpt, y: Axes, iterations: int, weight: float, key: int
) -> tuple[Symbols, float]:
    """(symbols int32 [frames, dims] of the excerpt's own frames, the weight of a bit at the end).

    y: where the search begins, in steps. key: of the random choice of windows.
    """
    moved = torch.from_numpy(y).float().to(excerpt.target.device).requires_grad_(True)
    adam = torch.optim.Adam([moved], lr=RATE, betas=BETAS)
    random = torch.Generator().manual_seed(key)
    target_bits = channel.bits(moved.detach().round()).item()
    frames = excerpt.target.shape[-1] / network.config.hop
    for iteration in range(iterations):
        adam.param_groups[0]["lr"] = RATE * (0.1 + 0.9 * math.cos(math.pi / 2 * iteration / iterations))
        with torch.enable_grad():
            distance = heard_distance(network, channel, excerpt, channel.send(moved), draw_windows(random), random)
            bits = channel.bits(moved)
            (moved.grad,) = torch.autograd.grad(frames * distance + weight * bits, [moved])
        adam.step()
        spent = channel.bits(moved.detach().round()).item()
        weight *= math.exp(ASCENT * math.log2((spent + 1) / (target_bits + 1)))
    symbols = moved.detach().round().cpu().numpy().astype(np.int32)
    return symbols, weight


def draw_windows(random: torch.Generator) -> list[int]:
    """The windows of one iteration."""
    return [WINDOWS[i] for i in torch.randperm(len(WINDOWS), generator=random)[:WINDOWS_DRAWN]]


def heard_distance(
    network: Rave, channel: Channel, excerpt: Excerpt, sent: Tensor, windows: list[int], random: torch.Generator | None
) -> Tensor:
    """Distance of what the decoder plays to the excerpt's audio; random: draws where the spectra begin."""
    hop, samples = network.config.hop, excerpt.target.shape[-1]
    own = channel.latents(sent, excerpt.latents[excerpt.own])
    z = torch.cat([excerpt.latents[: excerpt.own.start], own, excerpt.latents[excerpt.own.stop :]])
    output = network.decode(z.T[None], excerpt.clock)[..., excerpt.skip * hop : excerpt.skip * hop + samples]
    grid = 0
    if random is not None:
        grid = int(torch.randint(max(1, min(max(windows) // 4, samples - max(windows))), (), generator=random))
    target, gain = excerpt.target[..., grid:], lift(excerpt.target)
    return stereo_distance(gain * target, gain * output[..., grid:], windows, network.config.sample_rate)
