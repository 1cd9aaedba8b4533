"""Samples <-> symbols, as streams: `Encoder` (an `Analyser` and a `Coder`) and `Decoder`.

Here models and bitstream meet; files are `transcode.py`'s.

Both run the network on blocks of BLOCK_SAMPLES at one fixed shape, with as much real context on both sides as the
network can see. So a frame's symbols and a frame's samples do not depend on how the audio was cut into pieces by the
caller, and memory does not grow with length. Blocks start at multiples of BLOCK_SAMPLES from the start of the stream.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray

from ravecodec.audio import Resampler, match_channels, resampled_length
from ravecodec.bitstream import StaticModel, StreamInfo
from ravecodec.errors import ModelError
from ravecodec.models.clock import Clock
from ravecodec.models.package import Model
from ravecodec.quantize import Quantizer

BLOCK_SAMPLES = 1 << 18  # the network computes 5.5 s at a time ...
BLOCKS_PER_CHUNK = 2  # ... and a chunk of the bitstream holds 10.9 s, so that framing stays below 2 %

Audio = NDArray[np.float32]  # [channels, samples]
Means = NDArray[np.float32]  # [frames, latent]
Axes = NDArray[np.float64]  # [frames, dims]
Symbols = NDArray[np.int32]  # [frames, dims]


def stream_info(model: Model, sample_rate: int, channels: int, dims: int, step_index: int, seed: int = 0) -> StreamInfo:
    """The header of a stream of this model."""
    return StreamInfo(
        model_id=model.id,
        sample_rate=sample_rate,
        channels=channels,
        hop=model.config.hop,
        dims=dims,
        step_index=step_index,
        noise_fill=model.coding.fill,
        seed=seed,
        model_rate=model.config.sample_rate,
    )


def check_model(model: Model, info: StreamInfo, name: str) -> None:
    """ModelError unless `model` is the one that made the stream."""
    if info.model_id != model.id:
        raise ModelError(
            f"{name}: made with model {info.model_id.hex()}, but {model.name!r} is {model.id.hex()}; "
            "give the right one with --model or `ravecodec model add`"
        )
    if (info.hop, info.model_rate) != (model.config.hop, model.config.sample_rate) or info.dims > model.config.latent:
        raise ModelError(f"{name}: its header does not fit model {model.name!r} that it names")


class Analyser:
    """Audio in pieces of any length -> posterior means float32 [frames, latent]; `process` feeds, `flush` ends it."""

    def __init__(self, model: Model, sample_rate: int, channels: int) -> None:
        self.samples = 0  # of the original audio, so far
        self.frames = 0  # analysed so far
        config = model.config
        self._model = model
        self._resampler = Resampler(sample_rate, config.sample_rate, channels)
        reach = model.network.encoder_reach
        self._past, self._hop = reach.past * config.hop, config.hop
        self._block = block_frames(model)
        self._window = (reach.past + self._block + reach.future) * config.hop
        self._buffer = np.zeros((config.channels, self._past), np.float32)  # begins `past` before the next block
        self._model_samples = 0

    def process(self, block: Audio) -> Iterator[Means]:
        """Feed float32 [channels, n]; yields the means of every block of frames that became complete."""
        self.samples += block.shape[1]
        self._append(self._resampler.process(block))
        yield from self._run(final=False)

    def flush(self) -> Iterator[Means]:
        """Ends the stream: yields the remaining means. Nothing may be processed afterwards."""
        self._append(self._resampler.flush())
        yield from self._run(final=True)

    def _append(self, audio: Audio) -> None:
        matched = match_channels(audio, self._model.config.channels)
        self._model_samples += matched.shape[1]
        self._buffer = np.concatenate([self._buffer, matched], axis=1)

    def _run(self, *, final: bool) -> Iterator[Means]:
        total = -(-self._model_samples // self._hop)  # frames that the audio so far needs
        while self._buffer.shape[1] >= self._window or (final and self.frames < total):
            missing = max(0, self._window - self._buffer.shape[1])
            window = np.pad(self._buffer[:, : self._window], ((0, 0), (0, missing)))
            count = min(self._block, total - self.frames)
            means = self._means(window)[:count]
            self.frames += count
            self._buffer = self._buffer[:, self._block * self._hop :]
            yield means

    def _means(self, window: Audio) -> Means:
        """Posterior means [block, latent] of the middle of a window."""
        with torch.inference_mode():
            mean, _ = self._model.network.encode(torch.from_numpy(window)[None].to(_device(self._model)))
        first = self._past // self._hop
        means: Means = mean[0, :, first : first + self._block].T.float().cpu().numpy()
        return means


class Coder:
    """Posterior means -> chunks of symbols int32 [frames, dims]. Feed with `process`, end with `flush`.

    `quantizer` says at which operating point; `process_axes` takes means that it has projected before.
    """

    def __init__(self, model: Model, info: StreamInfo) -> None:
        self.quantizer = Quantizer(model.latent, model.coding, info.dims, info.step_index, info.noise_fill)
        self._chunk = block_frames(model) * BLOCKS_PER_CHUNK
        self._symbols = np.zeros((0, info.dims), np.int32)

    def process(self, means: Means) -> Iterator[Symbols]:
        """Feed float32 [frames, latent]; yields every chunk that became complete."""
        yield from self.process_axes(self.quantizer.axes(means))

    def process_axes(self, axes: Axes) -> Iterator[Symbols]:
        """The same for axis vectors float64 [frames, dims]."""
        self._symbols = np.concatenate([self._symbols, self.quantizer.rounded(axes)])
        while len(self._symbols) >= self._chunk:
            yield self._symbols[: self._chunk]
            self._symbols = self._symbols[self._chunk :]

    def flush(self) -> Iterator[Symbols]:
        """Ends the stream: yields the remaining symbols, if any."""
        if len(self._symbols):
            yield self._symbols


class Encoder:
    """Audio in pieces of any length -> chunks of symbols int32 [frames, dims]. Feed with `process`, end with `flush`.

    Posterior means are coded, never samples: the same audio always gives the same symbols.
    """

    def __init__(self, model: Model, info: StreamInfo) -> None:
        self._analyser = Analyser(model, info.sample_rate, info.channels)
        self._coder = Coder(model, info)

    @property
    def samples(self) -> int:
        """Samples per channel of the original audio, so far."""
        return self._analyser.samples

    def process(self, block: Audio) -> Iterator[Symbols]:
        """Feed float32 [channels, n]; yields every chunk that became complete."""
        for means in self._analyser.process(block):
            yield from self._coder.process(means)

    def flush(self) -> Iterator[Symbols]:
        """Ends the stream: yields the remaining chunks. Nothing may be processed afterwards."""
        for means in self._analyser.flush():
            yield from self._coder.process(means)
        yield from self._coder.flush()


class Decoder:
    """Chunks of symbols -> audio in pieces, at `sample_rate` and the original's channels; mirrors `Encoder`.

    Beyond both ends of a stream the first and last latents are held. Frames of a lost chunk are asked for with `skip`.
    precision: what the generator's layers compute in, float32 or bfloat16; all that makes sound of their output (the
    excitations, the filter bank, the resampler) is float32 in both.
    """

    def __init__(
        self, model: Model, info: StreamInfo, *, sample_rate: int | None = None, precision: str = "float32"
    ) -> None:
        config = model.config
        self._model, self._info = model, info
        self._bfloat16 = {"float32": False, "bfloat16": True}[precision]
        self._static = StaticModel(model.coding.shapes, model.coding.scales)
        self._rate = sample_rate or info.sample_rate
        self._resampler = Resampler(config.sample_rate, self._rate, info.channels)
        self._reach = model.network.decoder_reach
        self._block = block_frames(model)
        self._latents = np.zeros((0, config.latent), np.float32)  # begins at frame `_begin`
        self._begin = 0
        self._received = 0  # frames
        self._decoded = 0  # frames
        self._emitted = 0  # samples at the model's rate

    @property
    def static(self) -> StaticModel:
        """The tables that the stream's symbols are coded with."""
        return self._static

    def process(self, symbols: Symbols, step_index: int | None = None) -> Iterator[Audio]:
        """Feed a chunk int32 [frames, dims]; yields float32 [channels, n] as it becomes ready."""
        step = self._info.step_index if step_index is None else step_index
        quantizer = Quantizer(self._model.latent, self._model.coding, symbols.shape[1], step, self._info.noise_fill)
        yield from self._feed(quantizer.latents(symbols, self._received, self._info.seed))

    def process_latents(self, latents: NDArray[np.float32]) -> Iterator[Audio]:
        """Feed float32 [frames, latent] that come from elsewhere than a stream; yields as `process` does."""
        yield from self._feed(latents)

    def skip(self, frames: int) -> Iterator[Audio]:
        """Conceal a gap of `frames` frames: the last latents are held."""
        held = self._latents[-1:] if len(self._latents) else self._model.latent.mean[None].astype(np.float32)
        yield from self._feed(np.repeat(held, frames, axis=0))

    def flush(self, total_samples: int) -> Iterator[Audio]:
        """Ends the stream: yields the rest, so that the output lasts `total_samples` of the original rate."""
        left = resampled_length(total_samples, self._info.sample_rate, self._model.config.sample_rate) - self._emitted
        for audio in self._run(final=True):
            yield self._resampler.process(audio[:, : max(0, left)])
            left -= audio.shape[1]
        yield self._resampler.flush(resampled_length(total_samples, self._info.sample_rate, self._rate))

    def _feed(self, latents: NDArray[np.float32]) -> Iterator[Audio]:
        self._latents = np.concatenate([self._latents, latents])
        self._received += len(latents)
        for audio in self._run(final=False):
            self._emitted += audio.shape[1]
            yield self._resampler.process(audio)

    def _run(self, *, final: bool) -> Iterator[Audio]:
        """Audio at the model's rate, matched to the original's channels, block by block."""
        while self._received >= self._decoded + self._block + self._reach.future or (
            final and self._decoded < self._received
        ):
            first, last = self._decoded - self._reach.past, self._decoded + self._block + self._reach.future
            frames = np.clip(np.arange(first, last), self._begin, self._received - 1) - self._begin
            count = min(self._block, self._received - self._decoded)
            audio = self._synthesise(self._latents[frames], first)[:, : count * self._model.config.hop]
            self._decoded += count
            keep = max(self._begin, self._decoded - self._reach.past)
            self._latents, self._begin = self._latents[keep - self._begin :], keep
            yield match_channels(audio, self._info.channels)

    def _synthesise(self, latents: NDArray[np.float32], first_frame: int) -> Audio:
        """Audio [channels, block * hop] of the middle of a window of latents whose first frame has this number."""
        network, device, hop = self._model.network, _device(self._model), self._model.config.hop
        z = torch.from_numpy(np.ascontiguousarray(latents.T))[None].to(device)
        with torch.inference_mode():
            with torch.autocast(device.type, torch.bfloat16, enabled=self._bfloat16):
                bands = network.decode_bands(z, Clock.at(first_frame, self._info.seed, device))
            audio = network.pqmf.synthesis(bands)
        start = self._reach.past * hop
        samples: Audio = audio[0, :, start : start + self._block * hop].float().cpu().numpy()
        return samples


def block_frames(model: Model) -> int:
    """Frames that the network computes at a time."""
    return BLOCK_SAMPLES // model.config.hop


def _device(model: Model) -> torch.device:
    return next(model.network.parameters()).device
