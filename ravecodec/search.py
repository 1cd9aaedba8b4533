"""Search at the encoder: symbols that sound nearer to the audio for the same bits, found by
gradient.

What is sent is a few hundred integers a frame, and the generator is differentiable. So for one
block of frames after the other, with its neighbours held, Adam moves the axis vectors to lower

    distance of what the decoder will play to the audio + weight * bits under the stream's own
    tables.

The decoder's own rounding, centroids, fill and excitation are in the loop; gradients pass the
rounding as if it were not there (Bengio, Leonard & Courville 2013). The weight follows the bits, so
that the stream costs what it was given: dual ascent with a proportional part (Stooke, Achiam &
Abbeel 2020, "Responsive safety in reinforcement learning by PID Lagrangian methods"). The format
and the decoder know nothing of it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ravecodec.analysis import Analysed, Axes, Projected, block_frames, no_frames
from ravecodec.bitstream.entropy import code_lengths, ideal_code_length
from ravecodec.bitstream.predict import WEIGHT_ONE, predicted_code_lengths
from ravecodec.device import device_of
from ravecodec.models.clock import Clock
from ravecodec.models.losses import lift, stereo_distance
from ravecodec.models.package import Model
from ravecodec.models.rave import Rave
from ravecodec.quantize import CENTROIDS, Quantizer, Symbols

WINDOWS = (8192, 8192, 4096, 4096, 2048, 1024, 512, 256)  # of the distance, drawn as in training
WINDOWS_DRAWN = 3
TRANSPORT = 3.0  # weight of `octave_transport` in the distance
LEVEL = 0.2  # weight of `octave_level`
RATE = 0.04  # Adam's, in steps; of the model's own step where that of the stream is finer
BETAS = (0.9, 0.95)
WEIGHT = 2e-4  # distance per bit and frame, to begin with, at the model's own step
PROPORTIONAL = 10.0  # how the weight follows bits spent over bits allowed, see `BitWeight`
INTEGRAL = 0.5
FARTHEST = 8.0  # natural logarithm of weights over the first one, or under it
TABULATED = 128  # symbols whose code lengths are looked up; beyond, they grow linearly


class Channel:
    """What becomes of axis vectors between encoder and generator, and what they cost, as
    differentiable functions.

    Axis vectors are in steps, float32 [frames, dims].
    """

    def __init__(self, quantizer: Quantizer, device: torch.device) -> None:
        def tensor(array: NDArray[np.floating]) -> Tensor:
            return torch.from_numpy(np.ascontiguousarray(array)).float().to(device)

        self._step = tensor(quantizer.step)
        self._inner = tensor(quantizer.centroids)
        self._synthesis = tensor(quantizer.latent.synthesis[:, : quantizer.dims])
        self._quantizer, self._predictor = quantizer, quantizer.static.predictor
        rows = (self._predictor or quantizer.static).rows(quantizer.step_index, quantizer.dims)
        lengths = np.array([code_lengths(np.arange(TABULATED + 1), int(row)) for row in rows])
        self._lengths = tensor(lengths.reshape(quantizer.dims, TABULATED + 1))
        if self._predictor:
            self._weights = tensor(self._predictor.weights[: quantizer.dims].T / WEIGHT_ONE)

    def send(self, y: Tensor) -> Tensor:
        """The values that a decoder makes of y, in steps; the gradient is that of y itself."""
        size = y.detach().abs().round()
        inner = self._inner.gather(1, size.clamp(max=CENTROIDS).long().T).T
        sent = torch.where(size <= CENTROIDS, y.detach().sign() * inner, y.detach().round())
        return y + (sent - y.detach())

    def latents(self, sent: Tensor, rest: Tensor) -> Tensor:
        """Latents [frames, latent] of sent values; rest [frames, latent]: what the mean and cropped
        axes add.
        """
        return (sent * self._step) @ self._synthesis.T + rest

    def foreseen(self, y: Tensor, past: Tensor) -> Tensor:
        """What the model predicts of each value of y; past [2, dims]: the symbols before them."""
        if not self._predictor:
            return torch.zeros_like(y)
        joined = torch.cat([past, y.detach().round() + (y - y.detach())])
        return self._weights[0] * joined[1:-1] + self._weights[1] * joined[:-2]

    def bits(self, y: Tensor, past: Tensor) -> Tensor:
        """Code length of all of y in bits, interpolated between integers."""
        return self.length(y, self.foreseen(y, past)).sum()

    def cost(self, symbols: Tensor, past: Tensor) -> float:
        """Code length of symbols in bits, exact."""
        values, before = (x.cpu().numpy().astype(np.int32) for x in (symbols, past))
        step_index = self._quantizer.step_index
        if self._predictor:
            return float(predicted_code_lengths(values, self._predictor, step_index, before).sum())
        return ideal_code_length(
            values, self._quantizer.static.rows(step_index, self._quantizer.dims)
        )

    def length(self, y: Tensor, foreseen: Tensor) -> Tensor:
        """Code length of each value of y in bits, where those were foreseen, interpolated between
        integers.
        """
        size = (y - foreseen).abs()
        low = size.detach().floor().clamp(max=TABULATED - 1)
        below = self._lengths.gather(1, low.long().T).T
        above = self._lengths.gather(1, low.long().T + 1).T
        return below + (above - below) * (size - low)


class BitWeight:
    """What a bit weighs, in distance per frame; it follows what a search spends.

    Bits answer slowly to the weight. A weight that only added up the excess would swing around, and
    the search would end on one side, so a part of it is proportional to the excess of the moment.
    Both are of logarithms, because weights differ by powers of ten from model to model. A rate that
    cannot be reached does not take the weight further than FARTHEST.
    """

    def __init__(self, first: float) -> None:
        self._first = first  # to begin with
        self._settled = 0.0  # natural logarithm of the weight over the first one

    def follow(self, spent: float, allowed: float) -> float:
        """The weight for a block that costs so many bits at present."""
        excess = math.log(max(spent, 1) / max(allowed, 1))
        self._settled = _bounded(self._settled + INTEGRAL * excess)
        return self._first * math.exp(_bounded(self._settled + PROPORTIONAL * excess))


def _bounded(logarithm: float) -> float:
    return min(max(logarithm, -FARTHEST), FARTHEST)


@dataclass(frozen=True)
class Excerpt:
    """A block to search and what surrounds it.

    target: audio float32 [1, channels, samples] that is compared. latents: float32 [frames, latent]
    of the frames that are known, with what is added to the searched part in the `own` ones. places:
    int64 [window], the frame that each place of the generator's window shows, for beyond both ends
    of a stream the outermost frame is held. skip: frames of the window before the target; clock: of
    its first frame.
    """

    target: Tensor
    latents: Tensor
    own: slice
    places: Tensor
    skip: int
    clock: Clock


class Search:
    """Frames in, axis vectors out: `process` feeds, `flush` ends.

    Axis vectors that come out are whole multiples of the step, except where frames are silent and
    left as they were. iterations: of Adam for each block. share: of the bits that the frames would
    cost without a search, what they may cost, 1 or more; they never cost more than that so far. A
    block is searched when the frames up to twice the reach of the decoder behind it are known.
    """

    def __init__(
        self, model: Model, quantizer: Quantizer, seed: int, iterations: int, share: float = 1.0
    ) -> None:
        self._network, self._quantizer, self._seed = model.network, quantizer, seed
        self._iterations, self._share = iterations, share
        self._device = device_of(model.network)
        self._channel = Channel(quantizer, self._device)
        self._reach = model.network.decoder_reach
        self._block = block_frames(model)
        # The stream's step over the model's own; where it is large, a bit takes more off the
        # distance.
        size = 2 ** ((quantizer.step_index - model.coding.step_index) / 8)
        self._rate, self._weight = RATE / min(size, 1), BitWeight(WEIGHT * size)
        self._saved = 0.0  # bits that earlier blocks left over
        self._held = no_frames(model)  # begins at frame `_begin`
        # Of the same frames: what is sent of those that were searched, of the others where the
        # search begins.
        self._symbols = np.zeros((0, quantizer.dims), np.int32)
        self._begin = 0
        self._received = 0  # frames
        self._searched = 0  # frames

    def process(self, frames: Analysed) -> Iterator[Projected]:
        """Feed some frames; yields blocks that were searched."""
        if frames.lead:
            self._begin = self._received = self._searched = -frames.lead
        self._held = self._held.joined(frames)
        self._symbols = np.concatenate([self._symbols, self._quantizer.symbols(frames.means)])
        self._received += len(frames)
        while (
            self._received >= self._searched + self._block + self._reach.past + self._reach.future
        ):
            yield self._search(self._searched + self._block)

    def flush(self) -> Iterator[Projected]:
        """Ends the stream: yields the rest."""
        while self._searched < self._received:
            yield self._search(min(self._searched + self._block, self._received))

    def _search(self, end: int) -> Projected:
        """The frames from `_searched` to `end`."""
        own = slice(self._searched - self._begin, end - self._begin)
        silent = self._held.silent[own]
        axes = self._quantizer.axes(self._held.means[own])
        if not silent.all():
            found = self._improved(self._excerpt(self._searched, end), axes / self._quantizer.step)
            self._symbols[own][~silent] = found[~silent]
            axes = np.where(silent[:, None], axes, found * self._quantizer.step)
        lead = int(self._searched < 0)
        self._searched = end
        self._forget(end - self._reach.past - self._reach.future)
        return Projected(axes, silent, lead)

    def _excerpt(self, start: int, end: int) -> Excerpt:
        past, future = self._reach.past, self._reach.future
        # Latents that the compared sound depends on.
        first, last = start - past - future, end + past + future
        # Frames whose sound the block has a part in.
        compared = max(0, start - future), min(self._received, end + past)
        low, high = max(first, self._begin), min(last, self._received)
        rows = self._symbols[low - self._begin : high - self._begin].copy()
        rows[start - low : end - low] = 0
        latents = self._quantizer.latents(rows, low, self._seed)
        audio = self._held.part(compared[0] - self._begin, compared[1] - self._begin).audio
        return Excerpt(
            target=torch.from_numpy(np.ascontiguousarray(audio))[None].to(self._device),
            latents=torch.from_numpy(latents).to(self._device),
            own=slice(start - low, end - low),
            places=torch.arange(first, last, device=self._device).clamp(low, high - 1) - low,
            skip=compared[0] - first,
            clock=Clock.at(first, self._seed, self._device),
        )

    def _improved(self, excerpt: Excerpt, start: Axes) -> Symbols:
        """Symbols [frames, dims] of the excerpt's own frames; start: where the search begins, in
        steps.
        """
        y = torch.from_numpy(start).float().to(self._device).requires_grad_(True)
        past = self._past(self._symbols)
        plain = self._past(self._quantizer.symbols(self._held.means))
        allowed = self._channel.cost(y.detach().round(), plain) * self._share
        estimated = self._channel.bits(y.detach().round(), past).item() * self._share
        adam = torch.optim.Adam([y], betas=BETAS)
        random = torch.Generator().manual_seed(self._searched % (1 << 32))
        frames = excerpt.target.shape[-1] / self._network.config.hop
        for iteration in range(self._iterations):
            spent = self._channel.bits(y.detach().round(), past).item()
            weight = self._weight.follow(spent, estimated)
            fall = math.cos(math.pi / 2 * iteration / self._iterations)
            adam.param_groups[0]["lr"] = self._rate * fall
            with torch.enable_grad():
                distance = played_distance(self._network, self._channel, excerpt, y, random)
                cost = frames * distance + weight * self._channel.bits(y, past)
                (y.grad,) = torch.autograd.grad(cost, [y])
            adam.step()
        symbols = trimmed(y.detach(), self._channel, allowed + self._saved, past)
        self._saved += allowed - self._channel.cost(symbols, past)
        return symbols.cpu().numpy().astype(np.int32)

    def _past(self, symbols: Symbols) -> Tensor:
        """Those of the held frames' symbols that belong to the two frames before the ones that are
        searched, float32 [2, dims]; zeros before the stream.
        """
        at = self._searched - self._begin
        rows = np.concatenate([np.zeros((2, self._quantizer.dims), np.int32), symbols[:at]])[-2:]
        return torch.from_numpy(rows).float().to(self._device)

    def _forget(self, first: int) -> None:
        """Lets go of the frames before `first`."""
        drop = max(0, first - self._begin)
        self._held, self._symbols = self._held.part(drop, len(self._held)), self._symbols[drop:]
        self._begin += drop


def trimmed(y: Tensor, channel: Channel, allowed: float, past: Tensor) -> Tensor:
    """y [frames, dims], in steps, rounded to integers that cost at most so many bits; past [2,
    dims]: those before.

    Where rounding to the nearest costs more, those are rounded towards zero that lie nearest to the
    middle between two integers, and if that does not suffice, they go on towards zero.
    """
    symbols = y.round()
    while (excess := channel.cost(symbols, past) - allowed) > 0 and symbols.any():
        smaller = symbols - symbols.sign()
        foreseen = channel.foreseen(symbols, past)
        saving = channel.length(symbols, foreseen) - channel.length(smaller, foreseen)
        if not (saving > 0).any():  # each by itself saves nothing, for all follow from each other
            symbols = smaller
            continue
        harm = (y - smaller).square() - (y - symbols).square()
        order = torch.where(saving > 0, harm / saving.clamp(min=1e-6), math.inf).flatten().argsort()
        count = int((saving.clamp(min=0).flatten()[order].cumsum(0) < excess).sum()) + 1
        symbols.view(-1)[order[:count]] = smaller.view(-1)[order[:count]]
    return symbols


def played_distance(
    network: Rave, channel: Channel, excerpt: Excerpt, y: Tensor, random: torch.Generator
) -> Tensor:
    """Distance of what the decoder makes of axis vectors y to the excerpt's audio, over windows
    drawn at random.
    """
    hop, samples = network.config.hop, excerpt.target.shape[-1]
    latents = excerpt.latents
    own = channel.latents(channel.send(y), latents[excerpt.own])
    known = torch.cat([latents[: excerpt.own.start], own, latents[excerpt.own.stop :]])
    output = network.decode(known[excerpt.places].T[None], excerpt.clock)[
        ..., excerpt.skip * hop : excerpt.skip * hop + samples
    ]
    fitting = [window for window in WINDOWS if window <= samples]
    windows = [fitting[i] for i in torch.randperm(len(fitting), generator=random)[:WINDOWS_DRAWN]]
    # In how many places the spectra can begin.
    grids = min(max(windows) // 4, samples - max(windows) + 1)
    grid = int(torch.randint(grids, (), generator=random))
    target, gain = excerpt.target[..., grid:], lift(excerpt.target)
    return stereo_distance(
        gain * target,
        gain * output[..., grid:],
        windows,
        network.config.sample_rate,
        transport=TRANSPORT,
        level=LEVEL,
    )
