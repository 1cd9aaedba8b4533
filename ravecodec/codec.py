"""Samples <-> symbols, as streams: `Encoder` (an `Analysis`, perhaps a `Search`, and a `Coder`) and
`Decoder`.

Here models and bitstream meet; files are those of `encoding.py` and `decoding.py`.

Both run the network on blocks of 2^18 samples at one fixed shape, with as much real context on both
sides as the network can see. So a frame's symbols and a frame's samples do not depend on how the
audio was cut into pieces by the caller, and memory does not grow with length. Blocks start at
multiples of 2^18 samples from the start of the stream.

Where audio is silent, frames are marked as silent; the decoder puts out zeros for them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from ravecodec.analysis import Analysed, Flags, Projected, block_frames
from ravecodec.audio import Audio, Resampler, match_channels, resampled_length
from ravecodec.bitstream import StaticModel, StreamInfo
from ravecodec.bitstream.limits import MAX_STEP_INDEX
from ravecodec.device import device_of
from ravecodec.effort import Analysis, Effort, effort_of
from ravecodec.errors import ModelError
from ravecodec.models.clock import Clock
from ravecodec.models.package import Model
from ravecodec.precision import resolved
from ravecodec.quantize import Quantizer, Symbols, quantizer_of
from ravecodec.search import Search
from ravecodec.tables import plays, tables_for

# Blocks of 5.5 s: a chunk of the bitstream holds 10.9 s, so that framing stays below 2 %.
BLOCKS_PER_CHUNK = 2
# Silent frames have a step index that is so much greater than the model's own: with the shipped
# model a tenth of the bits, and decoders that do not know silence play noise of -73 dBFS. It is
# relative because models' base steps differ.
SILENCE_COARSER = 28


@dataclass(frozen=True)
class Coded:
    """A chunk: symbols int32 [frames, dims] of a step index. silent: they stand for digital
    silence. lead_in: this is the one frame before the stream's first."""

    symbols: Symbols
    step_index: int
    silent: bool = False
    lead_in: bool = False


def stream_info(
    model: Model, sample_rate: int, channels: int, dims: int, step_index: int, seed: int = 0
) -> StreamInfo:
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


def silence_step(model: Model, info: StreamInfo) -> int:
    """Step index of the silent frames of a stream."""
    return min(max(info.step_index, model.coding.step_index + SILENCE_COARSER), MAX_STEP_INDEX)


def check_model(model: Model, info: StreamInfo, name: str) -> None:
    """ModelError unless `model` is the one that made the stream, or was refit of it."""
    if not plays(model.id, model.info, info.model_id):
        raise ModelError(
            f"{name}: made with model {info.model_id.hex()}, but {model.name!r} is "
            f"{model.id.hex()}; "
            "give the right one with --model or `ravecodec model add`"
        )
    if (info.hop, info.model_rate) != (
        model.config.hop,
        model.config.sample_rate,
    ) or info.dims > model.config.latent:
        raise ModelError(f"{name}: its header does not fit model {model.name!r} that it names")


class Chunker:
    """`Projected` frames in pieces of any length -> chunks of them; `process` feeds, `flush` ends
    it.

    A chunk is silent as a whole or not at all; the lead-in is a chunk by itself, the first.
    """

    def __init__(self, model: Model, dims: int) -> None:
        self._chunk = block_frames(model) * BLOCKS_PER_CHUNK
        self._axes = np.zeros((0, dims))
        self._silent = np.zeros(0, np.bool_)

    def process(self, frames: Projected) -> Iterator[Projected]:
        """Feed some frames; yields every chunk that became complete."""
        if frames.lead:
            yield Projected(frames.axes[: frames.lead], frames.silent[: frames.lead], frames.lead)
        self._axes = np.concatenate([self._axes, frames.axes[frames.lead :]])
        self._silent = np.concatenate([self._silent, frames.silent[frames.lead :]])
        yield from self._chunks(final=False)

    def flush(self) -> Iterator[Projected]:
        """Ends the stream: yields the remaining chunks, if any."""
        yield from self._chunks(final=True)

    def _chunks(self, *, final: bool) -> Iterator[Projected]:
        while frames := self._complete(final=final):
            yield Projected(self._axes[:frames], self._silent[:frames])
            self._axes, self._silent = self._axes[frames:], self._silent[frames:]

    def _complete(self, *, final: bool) -> int:
        """Frames of the next chunk, 0 while it may grow: it ends where silence begins or ends."""
        alike = np.logical_and.accumulate(self._silent == self._silent[:1])
        frames = int(alike.sum())
        ended = final or frames < len(alike)
        return min(frames, self._chunk) if ended or frames >= self._chunk else 0


class Coder:
    """Posterior means -> chunks of symbols. Feed with `process`, end with `flush`.

    `quantizer` says at which operating point; `process_axes` takes means that it has projected
    before.
    """

    def __init__(self, model: Model, info: StreamInfo) -> None:
        self.quantizer = quantizer_of(model, info)
        self._coarse = quantizer_of(model, info, step_index=silence_step(model, info))
        self._chunker = Chunker(model, info.dims)

    def process(self, frames: Analysed) -> Iterator[Coded]:
        """Feed some frames; yields every chunk that became complete."""
        yield from self.process_axes(
            Projected(self.quantizer.axes(frames.means), frames.silent, frames.lead)
        )

    def process_axes(self, frames: Projected) -> Iterator[Coded]:
        """The same for frames that have been projected on the axes."""
        yield from map(self._coded, self._chunker.process(frames))

    def flush(self) -> Iterator[Coded]:
        """Ends the stream: yields the remaining chunks, if any."""
        yield from map(self._coded, self._chunker.flush())

    def _coded(self, chunk: Projected) -> Coded:
        silent = bool(chunk.silent[0]) and not chunk.lead
        quantizer = self._coarse if silent else self.quantizer
        symbols = quantizer.rounded(chunk.axes)
        return Coded(symbols, quantizer.step_index, silent, lead_in=bool(chunk.lead))


class Encoder:
    """Audio in pieces of any length -> chunks of symbols. Feed with `process`, end with `flush`.

    Posterior means are coded, never samples: the same audio always gives the same symbols. effort:
    what is tried to make them sound nearer to the audio; by default the model's level.
    """

    def __init__(self, model: Model, info: StreamInfo, effort: Effort | None = None) -> None:
        effort = effort or effort_of(model, None)
        self._analysis = Analysis(model, info.sample_rate, info.seed, effort.corrections)
        self._coder = Coder(model, info)
        self._search: Search | None = None
        if effort.iterations:
            self._search = Search(model, self._coder.quantizer, info.seed, effort.iterations)

    @property
    def samples(self) -> int:
        """Samples per channel of the original audio, so far."""
        return self._analysis.samples

    def process(self, block: Audio) -> Iterator[Coded]:
        """Feed float32 [channels, n]; yields every chunk that became complete."""
        yield from self._coded(self._analysis.process(block))

    def flush(self) -> Iterator[Coded]:
        """Ends the stream: yields the remaining chunks. Nothing may be processed afterwards."""
        yield from self._coded(self._analysis.flush())
        if self._search:
            for found in self._search.flush():
                yield from self._coder.process_axes(found)
        yield from self._coder.flush()

    def _coded(self, frames: Iterable[Analysed]) -> Iterator[Coded]:
        for part in frames:
            if self._search is None:
                yield from self._coder.process(part)
                continue
            for found in self._search.process(part):
                yield from self._coder.process_axes(found)


class Decoder:
    """Chunks of symbols -> audio in pieces, at `sample_rate` and the original's channels; mirrors
    `Encoder`.

    Before a stream stands its lead-in; without one the first latents are held, and beyond the end
    the last. Frames of a lost chunk are asked for with `skip`. Silent frames are zeros; their
    latents are what the frames beside them see. precision: what the generator's layers compute in,
    float32, bfloat16 or auto (see `precision.py`); all that makes sound of their output (the
    excitations, the filter bank, the resampler) is float32 in both.
    """

    def __init__(
        self,
        model: Model,
        info: StreamInfo,
        *,
        sample_rate: int | None = None,
        precision: str = "float32",
    ) -> None:
        config = model.config
        self._model, self._info = model, info
        self._bfloat16 = resolved(precision, device_of(model.network)) == "bfloat16"
        self._static = tables_for(model, info.model_id)
        self._rate = sample_rate or info.sample_rate
        self._resampler = Resampler(config.sample_rate, self._rate, info.channels)
        self._reach = model.network.decoder_reach
        self._block = block_frames(model)
        self._latents = np.zeros((0, config.latent), np.float32)  # begins at frame `_begin`
        self._silent = np.zeros(0, np.bool_)  # of the same frames
        self._begin = 0
        self._received = 0  # frames
        self._decoded = 0  # frames
        self._emitted = 0  # samples at the model's rate
        self._left_out = 0  # of these, which the resampler has still to skip

    @property
    def static(self) -> StaticModel:
        """The tables that the stream's symbols are coded with."""
        return self._static

    @property
    def position(self) -> int:
        """Samples of the output up to the end of what was put out last, those left out included."""
        return self._resampler.emitted

    def start_at(self, sample: int) -> int:
        """Leave out what comes before this sample of the output, as far as blocks of frames allow;
        call it first.

        Returns the first frame that has to be fed. From `sample` on the output is what it is
        without this call.
        """
        hop = self._model.config.hop
        at = sample * self._model.config.sample_rate // self._rate - self._resampler.reach
        self._decoded = max(0, at // hop // self._block * self._block)
        self._emitted = self._left_out = self._decoded * hop
        return max(0, self._decoded - self._reach.past)

    def resume(self, frame: int) -> None:
        """What is fed first is this frame, not above what `start_at` returned."""
        self._begin = self._received = frame

    def lead_in(self, symbols: Symbols, step_index: int | None = None) -> None:
        """Symbols int32 [1, dims] of the frame before the first, which comes next."""
        self.lead_in_latents(
            self._quantizer(symbols, step_index).latents(symbols, -1, self._info.seed)
        )

    def lead_in_latents(self, latents: NDArray[np.float32]) -> None:
        """The same for float32 [1, latent]."""
        self._latents, self._silent, self._begin = latents, np.zeros(1, np.bool_), -1

    def _quantizer(self, symbols: Symbols, step_index: int | None) -> Quantizer:
        """Of a chunk, whose dims and step may be its own."""
        dims = symbols.shape[1]
        return quantizer_of(self._model, self._info, dims=dims, step_index=step_index)

    def process(
        self, symbols: Symbols, step_index: int | None = None, silent: bool = False
    ) -> Iterator[Audio]:
        """Feed a chunk int32 [frames, dims]; yields float32 [channels, n] as it becomes ready.

        step_index: of this chunk, by default the stream's. silent: it stands for digital silence.
        """
        quantizer = self._quantizer(symbols, step_index)
        yield from self._feed(quantizer.latents(symbols, self._received, self._info.seed), silent)

    def process_latents(
        self, latents: NDArray[np.float32], silent: bool = False
    ) -> Iterator[Audio]:
        """Feed float32 [frames, latent] that come from elsewhere than a stream; yields as `process`
        does.
        """
        yield from self._feed(latents, silent)

    def skip(self, frames: int) -> Iterator[Audio]:
        """Conceal a gap of `frames` frames: the last latents, or silence, are held."""
        held = (
            self._latents[-1:]
            if len(self._latents)
            else self._model.latent.mean[None].astype(np.float32)
        )
        yield from self._feed(np.repeat(held, frames, axis=0), silent=bool(self._silent[-1:].any()))

    def flush(self, total_samples: int) -> Iterator[Audio]:
        """Ends the stream: yields the rest, so that the output lasts `total_samples` of the
        original rate.
        """
        left = (
            resampled_length(total_samples, self._info.sample_rate, self._model.config.sample_rate)
            - self._emitted
        )
        for audio in self._run(final=True):
            yield self._resampled(audio[:, : max(0, left)])
            left -= audio.shape[1]
        self._leave_out()
        yield self._resampler.flush(
            resampled_length(total_samples, self._info.sample_rate, self._rate)
        )

    def _feed(self, latents: NDArray[np.float32], silent: bool) -> Iterator[Audio]:
        self._latents = np.concatenate([self._latents, latents])
        self._silent = np.concatenate([self._silent, np.full(len(latents), silent)])
        self._received += len(latents)
        self._forget(min(self._decoded - self._reach.past, self._received - 1))
        for audio in self._run(final=False):
            self._emitted += audio.shape[1]
            yield self._resampled(audio)

    def _resampled(self, audio: Audio) -> Audio:
        """Audio at the model's rate -> at the output's, what has become ready; behind what is left
        out.
        """
        self._leave_out()
        return self._resampler.process(audio)

    def _leave_out(self) -> None:
        skipped, self._left_out = self._left_out, 0
        self._resampler.skip(skipped)

    def _run(self, *, final: bool) -> Iterator[Audio]:
        """Audio at the model's rate, matched to the original's channels, block by block."""
        while self._received >= self._decoded + self._block + self._reach.future or (
            final and self._decoded < self._received
        ):
            first, last = (
                self._decoded - self._reach.past,
                self._decoded + self._block + self._reach.future,
            )
            frames = np.clip(np.arange(first, last), self._begin, self._received - 1) - self._begin
            count = min(self._block, self._received - self._decoded)
            silent = self._silent[self._decoded - self._begin :][:count]
            audio = self._synthesise(self._latents[frames], first, silent)
            self._decoded += count
            self._forget(self._decoded - self._reach.past)
            yield match_channels(audio, self._info.channels)

    def _forget(self, frame: int) -> None:
        """Drop the latents before a frame."""
        keep = max(self._begin, frame)
        self._latents = self._latents[keep - self._begin :]
        self._silent = self._silent[keep - self._begin :]
        self._begin = keep

    def _synthesise(self, latents: NDArray[np.float32], first_frame: int, silent: Flags) -> Audio:
        """Audio [channels, frames * hop] of the frames that `silent` tells of, bool [frames]: they
        are the first of the block in the middle of a window of latents, whose first frame has this
        number."""
        hop = self._model.config.hop
        if silent.all():
            return np.zeros((self._model.config.channels, len(silent) * hop), np.float32)
        audio = self._generated(latents, first_frame)[:, : len(silent) * hop]
        audio[:, np.repeat(silent, hop)] = 0
        return audio

    def _generated(self, latents: NDArray[np.float32], first_frame: int) -> Audio:
        """Audio [channels, block * hop] of the middle of a window of latents whose first frame has
        this number.
        """
        network, hop = self._model.network, self._model.config.hop
        device = device_of(network)
        z = torch.from_numpy(np.ascontiguousarray(latents.T))[None].to(device)
        with torch.inference_mode():
            with torch.autocast(device.type, torch.bfloat16, enabled=self._bfloat16):
                bands = network.decode_bands(z, Clock.at(first_frame, self._info.seed, device))
            audio = network.pqmf.synthesis(bands)
        start = self._reach.past * hop
        samples: Audio = audio[0, :, start : start + self._block * hop].float().cpu().numpy()
        return samples
