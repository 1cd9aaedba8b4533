"""A target rate: the piece is analysed once, then the steps are looked for whose stream is small
enough and no smaller than that takes.

Steps are tried by really coding, framing and metadata included, so the promise holds for the file.
What the network made of the audio is kept in a temporary file meanwhile, and for a search the audio
too: memory does not grow with length.

To come nearer to a rate than one step for the whole stream does, as many chunks as fit have the
next finer step, and where a stream has only a few, one of them is divided. At a constant rate every
stretch of ten seconds has the finest step that keeps the rate.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ravecodec.analysis import Analysed, Projected
from ravecodec.audio import Audio
from ravecodec.bitstream import StreamInfo, StreamWriter
from ravecodec.codec import Chunker, Coded, silence_step
from ravecodec.effort import Analysis, Effort
from ravecodec.errors import UsageError
from ravecodec.files import temporary_file
from ravecodec.models.package import Model
from ravecodec.pipeline import EncodePipeline, Progress, progress_at
from ravecodec.quantize import Quantizer, Symbols, quantizer_of
from ravecodec.search import Search
from ravecodec.tables import tables_for

BLOCK, AUDIO_BLOCK = 512, 32  # frames read back at a time, without and with their audio
SILENT, LEAD = 1, 2  # flags of frames in a file
FINER, COARSEST = 24, 64  # steps tried: from three octaves finer than the model's default
# Share of the bits that the step leaves over which a search may use: framing is not exact.
USED = 0.98
SPENT = 0.97  # of a target rate: where less is used, a chunk is divided, and if need be it is told
CONSTANT = 10.0  # seconds over which a constant rate is kept, and somewhat more


@dataclass(frozen=True)
class Run:
    """Successive frames of a chunk that are sent as a chunk of their own, at one step."""

    frames: int
    step_index: int


Runs = tuple[Run, ...]  # how a chunk is sent
Placed = tuple[Projected, int]  # a chunk, not the lead-in, and its first frame


class Recording:
    """A piece between analysis and coding, in temporary files that go with it; a context manager.

    `info` says which axes are kept; its step index does not matter.
    """

    def __init__(
        self, model: Model, info: StreamInfo, meta: Mapping[str, Any] | None, effort: Effort
    ) -> None:
        self._model, self._info, self._meta, self._effort = model, info, meta, effort
        self._samples = 0
        self._quantizer = quantizer_of(model, info)
        self._files = ExitStack()
        self._axes = AxesFile(info.dims, self._files)
        self._frames = FramesFile(model, self._files)

    def __enter__(self) -> Recording:
        return self

    def __exit__(self, *error: object) -> None:
        self._files.close()

    def record(self, blocks: Iterable[Audio], total: int | None = None) -> Iterator[Progress]:
        """Takes the whole audio; reports after every block float32 [channels, n].

        total: samples, if known.
        """
        analysis = Analysis(
            self._model, self._info.sample_rate, self._info.seed, self._effort.corrections
        )
        for block in blocks:
            self._keep(analysis.process(block))
            yield progress_at(analysis.samples, total, self._info.sample_rate, 0)
        self._keep(analysis.flush())
        self._samples = analysis.samples

    def _keep(self, frames: Iterable[Analysed]) -> None:
        for part in frames:
            axes = self._quantizer.axes(part.means)
            self._axes.write(Projected(axes, part.silent, part.lead))
            if self._effort.iterations:
                self._frames.write(part)

    def finest_info(self, kbps: float) -> StreamInfo:
        """The header with the smallest step index whose stream costs at most `kbps` kbit/s of its
        duration.

        UsageError if even the coarsest step costs more.
        """
        if not self._samples:
            return self._info
        allowed = self._allowed(kbps)
        low, high = self.finest_step, COARSEST
        smallest = self._tried(self._at(high), self._axes).bytes.total
        if smallest > allowed:
            least = f"{_rounded_up(kbps * smallest / allowed):g} at {self._info.dims} dims"
            raise UsageError(f"bitrate is {kbps:g} kbit/s; this audio needs at least {least}")
        while low < high:
            middle = (low + high) // 2
            if self._tried(self._at(middle), self._axes).bytes.total <= allowed:
                high = middle
            else:
                low = middle + 1
        return self._at(low)

    @property
    def finest_step(self) -> int:
        """The finest step that is tried."""
        return self._model.coding.step_index - FINER

    def search(self, info: StreamInfo, kbps: float) -> Iterator[Progress]:
        """Replaces what was recorded by what a search finds for this header, at most `kbps` kbit/s
        as a stream.
        """
        if not (self._samples and self._effort.iterations):
            return
        before = self._tried(info, self._axes).bytes
        share = 1 + USED * (self._allowed(kbps) - before.total) / max(1, before.payload)
        quantizer = quantizer_of(self._model, info)
        search = Search(self._model, quantizer, info.seed, self._effort.iterations, share)
        found, frames = AxesFile(info.dims, self._files), 0
        for part in self._frames.read():
            for projected in search.process(part):
                found.write(projected)
                frames += len(projected.axes)
            share_done = min(
                1.0, frames * info.hop * info.sample_rate / info.model_rate / self._samples
            )
            yield Progress(share_done * self._samples / info.sample_rate, share_done, 0)
        for projected in search.flush():
            found.write(projected)
        if self._tried(info, found).bytes.total <= self._allowed(kbps):
            self._axes = found

    def filled(self, info: StreamInfo, kbps: float) -> list[Runs]:
        """How chunks are sent so that the stream at the step of this header, that of `finest_info`,
        comes as near to `kbps` as it can: as many chunks as fit at the next finer step.
        """
        sender = Sender(self._model, info)
        plan = [sender.plain(chunk) for chunk, _ in self._placed()]
        if not plan or info.step_index <= self.finest_step:
            return plan
        room = int(self._allowed(kbps)) - self._planned(info, plan).bytes.total
        for number, placed in enumerate(self._placed()):
            (plain,) = plan[number]
            finer = replace(plain, step_index=info.step_index - 1)
            gain = sender.bytes(placed, (finer,)) - sender.bytes(placed, (plain,))
            if gain <= room and not placed[0].silent[0]:
                room -= max(0, gain)
                plan[number] = (finer,)
        return self._divided(info, kbps, plan)

    def _divided(self, info: StreamInfo, kbps: float, plan: list[Runs]) -> list[Runs]:
        """The same with one of the chunks that are left at the coarser step divided, so that its
        beginning is at the finer one, where the stream is still far below the rate.
        """
        allowed, spent = self._allowed(kbps), self._planned(info, plan).bytes.total
        left = [number for number, (run,) in enumerate(plan) if run.step_index == info.step_index]
        if spent >= SPENT * allowed or not left:
            return plan
        sender = Sender(self._model, info)
        placed = next(islice(self._placed(), left[0], None))
        (coarse,) = plan[left[0]]
        room = int(allowed) - spent + sender.bytes(placed, (coarse,))
        runs = _longest_beginning(coarse, lambda runs: sender.bytes(placed, runs) <= room)
        divided = [*plan[: left[0]], runs, *plan[left[0] + 1 :]]
        return divided if spent < self._planned(info, divided).bytes.total <= allowed else plan

    def constant(self, info: StreamInfo, kbps: float) -> list[Runs]:
        """How chunks are sent so that every stretch of the stream (`_stretches`) costs at most
        `kbps` of its duration: each at the finest step that does so. What opens the stream counts
        with the first one, what ends it with the last.

        UsageError if a stretch costs more even at the coarsest step.
        """
        sender, plan = Sender(self._model, info), list[Runs]()
        total, end = self._opening(info), 0.0
        for stretch, seconds in self._stretches(info):
            room = kbps * 1000 / 8 * seconds - (0 if plan else total)
            step = sender.finest(stretch, self.finest_step, room)
            runs, size = sender.at(stretch, step)
            end += seconds
            if size > room:
                raise UsageError(_too_little(kbps, end - seconds, end, info.dims))
            plan += runs
            total += size
        if not plan:
            return plan
        while self._planned(info, plan).bytes.total - (total - size) > room:
            step += 1
            if step > COARSEST:
                raise UsageError(_too_little(kbps, end - seconds, end, info.dims))
            plan[-len(stretch) :] = sender.at(stretch, step)[0]
        return plan

    def _stretches(self, info: StreamInfo) -> Iterator[tuple[list[Placed], float]]:
        """Successive chunks that last CONSTANT seconds or more together, and how long they last;
        what is left at the end belongs to the last of them.
        """
        frame, whole = info.hop / info.model_rate, self._samples / info.sample_rate
        stretch, begin = list[Placed](), 0.0
        for chunk, at in self._placed():
            if (at * frame) - begin >= CONSTANT and whole - at * frame >= CONSTANT:
                yield stretch, at * frame - begin
                stretch, begin = [], at * frame
            stretch.append((chunk, at))
        if stretch:
            yield stretch, whole - begin

    def code(self, pipeline: EncodePipeline, plan: Sequence[Runs] | None = None) -> None:
        """Writes the whole stream, its chunks as planned, or all at the step of its header."""
        if plan is None:
            pipeline.encode_axes(self._axes.read(), self._samples)
        else:
            pipeline.encode_chunks(self._sent(pipeline.info, plan), self._samples)

    def _sent(self, info: StreamInfo, plan: Sequence[Runs]) -> Iterator[Coded]:
        sender, runs = Sender(self._model, info), iter(plan)
        for chunk in self._chunks():
            if chunk.lead:
                symbols = sender.symbols(chunk, info.step_index)
                yield Coded(symbols, info.step_index, lead_in=True)
            else:
                yield from sender.coded(chunk, next(runs))

    def _chunks(self) -> Iterator[Projected]:
        """All chunks, the lead-in first."""
        chunker = Chunker(self._model, self._info.dims)
        for frames in self._axes.read():
            yield from chunker.process(frames)
        yield from chunker.flush()

    def _placed(self) -> Iterator[tuple[Projected, int]]:
        """All chunks without the lead-in, each with its first frame."""
        at = 0
        for chunk in self._chunks():
            if not chunk.lead:
                yield chunk, at
                at += len(chunk.axes)

    def _opening(self, info: StreamInfo) -> int:
        """Bytes before the first chunk: header, metadata, lead-in."""
        pipeline = EncodePipeline(self._model, info, _Nowhere(), self._meta)
        pipeline.write(islice(self._sent(info, []), self._axes.lead))
        return pipeline.bytes.total

    def _planned(self, info: StreamInfo, plan: Sequence[Runs]) -> EncodePipeline:
        """The pipeline of a stream of this plan that is not kept."""
        pipeline = EncodePipeline(self._model, info, _Nowhere(), self._meta)
        self.code(pipeline, plan)
        return pipeline

    def _allowed(self, kbps: float) -> float:
        """Bytes of a stream of this rate."""
        return kbps * 1000 / 8 * self._samples / self._info.sample_rate

    def _at(self, step_index: int) -> StreamInfo:
        return replace(self._info, step_index=step_index)

    def _tried(self, info: StreamInfo, axes: AxesFile) -> EncodePipeline:
        """The pipeline of a stream that is not kept."""
        pipeline = EncodePipeline(self._model, info, _Nowhere(), self._meta)
        pipeline.encode_axes(axes.read(), self._samples)
        return pipeline


class Sender:
    """What a stream with this header sends of a chunk at a step, and what that costs."""

    def __init__(self, model: Model, info: StreamInfo) -> None:
        self._model, self._info = model, info
        self._coarse = silence_step(model, info)
        self._writer = StreamWriter(_Nowhere(), info, tables_for(model, info.model_id))
        self._quantizers: dict[int, Quantizer] = {}  # by their steps

    def symbols(self, chunk: Projected, step_index: int) -> Symbols:
        """Symbols [frames, dims] of a chunk."""
        if step_index not in self._quantizers:
            made = quantizer_of(self._model, self._info, step_index=step_index)
            self._quantizers[step_index] = made
        return self._quantizers[step_index].rounded(chunk.axes)

    def plain(self, chunk: Projected, step_index: int | None = None) -> Runs:
        """A chunk in one piece, by default at the step of the header; silence has its own."""
        step = self._info.step_index if step_index is None else step_index
        return (Run(len(chunk.axes), self._coarse if chunk.silent[0] else step),)

    def coded(self, chunk: Projected, runs: Runs) -> Iterator[Coded]:
        """A chunk as it is sent."""
        at, silent = 0, bool(chunk.silent[0])
        for run in runs:
            part = Projected(chunk.axes[at : at + run.frames], chunk.silent)
            yield Coded(self.symbols(part, run.step_index), run.step_index, silent)
            at += run.frames

    def bytes(self, placed: Placed, runs: Runs) -> int:
        """What a chunk takes of a stream."""
        chunk, at = placed
        size = 0
        for part in self.coded(chunk, runs):
            size += self._writer.chunk_bytes(
                part.symbols, part.step_index, silent=part.silent, first_frame=at
            )
            at += len(part.symbols)
        return size

    def at(self, stretch: Sequence[Placed], step_index: int) -> tuple[list[Runs], int]:
        """How successive chunks are sent at a step, and what they take."""
        runs = [self.plain(chunk, step_index) for chunk, _ in stretch]
        return runs, sum(self.bytes(*pair) for pair in zip(stretch, runs, strict=True))

    def finest(self, stretch: Sequence[Placed], low: int, room: float) -> int:
        """The finest step, from `low` on, at which they take at most `room` bytes; the coarsest if
        there is none.
        """
        high = COARSEST
        while low < high:
            middle = (low + high) // 2
            if self.at(stretch, middle)[1] <= room:
                high = middle
            else:
                low = middle + 1
        return low


def _longest_beginning(coarse: Run, fits: Callable[[Runs], bool]) -> Runs:
    """A chunk in two pieces, the first of them at the next finer step and as long as fits; in one
    piece where none fits.
    """
    found: Runs = (coarse,)
    low, high = 1, coarse.frames - 1
    while low <= high:
        middle = (low + high) // 2
        rest = Run(coarse.frames - middle, coarse.step_index)
        runs = (Run(middle, coarse.step_index - 1), rest)
        if fits(runs):
            found, low = runs, middle + 1
        else:
            high = middle - 1
    return found


def _too_little(kbps: float, begin: float, end: float, dims: int) -> str:
    return (
        f"bitrate is {kbps:g} kbit/s and constant; the audio from {begin:.1f} to {end:.1f} s needs "
        f"more at {dims} dims"
    )


class AxesFile:
    """`Projected` frames: rows of float64, the axis vector and a flag."""

    def __init__(self, dims: int, files: ExitStack) -> None:
        self._width = dims + 1
        self._file = files.enter_context(temporary_file("--bitrate"))
        self.lead = 0  # frames before the stream

    def write(self, frames: Projected) -> None:
        """Takes some frames."""
        self.lead += frames.lead
        self._file.write(np.column_stack([frames.axes, _flags(frames)]).tobytes())

    def read(self) -> Iterator[Projected]:
        """All of them, from the start."""
        self._file.seek(0)
        while data := self._file.read(BLOCK * self._width * 8):
            rows = np.frombuffer(data).reshape(-1, self._width)
            yield Projected(rows[:, :-1], rows[:, -1] == SILENT, int(rows[0, -1] == LEAD))


class FramesFile:
    """`Analysed` frames without their spreads: rows of float32, the latents, a flag, and the
    audio.
    """

    def __init__(self, model: Model, files: ExitStack) -> None:
        config = model.config
        self._channels, self._hop = config.channels, config.hop
        self._splits = config.latent, config.latent + 1
        self._width = config.latent + 1 + config.channels * config.hop
        self._file = files.enter_context(temporary_file("--bitrate"))

    def write(self, frames: Analysed) -> None:
        """Takes some frames."""
        audio = frames.audio.reshape(self._channels, len(frames), self._hop).transpose(1, 0, 2)
        rows = np.column_stack([frames.means, _flags(frames), audio.reshape(len(frames), -1)])
        self._file.write(rows.astype(np.float32).tobytes())

    def read(self) -> Iterator[Analysed]:
        """All of them, from the start; in place of the spreads stand zeros."""
        self._file.seek(0)
        while data := self._file.read(AUDIO_BLOCK * self._width * 4):
            rows = np.frombuffer(data, np.float32).reshape(-1, self._width)
            means, flags, audio = np.split(rows, self._splits, axis=1)
            audio = audio.reshape(len(rows), self._channels, self._hop).transpose(1, 0, 2)
            audio = np.ascontiguousarray(audio).reshape(self._channels, -1)
            lead = int(flags[0, 0] == LEAD)
            yield Analysed(means, np.zeros_like(means), flags[:, 0] == SILENT, audio, lead)


def _flags(frames: Analysed | Projected) -> NDArray[np.float64]:
    """[frames]: SILENT, LEAD or 0."""
    flags = np.where(frames.silent, float(SILENT), 0.0)
    flags[: frames.lead] = LEAD
    return flags


def _rounded_up(value: float) -> float:
    """To three digits."""
    unit = 10.0 ** (math.floor(math.log10(value)) - 2)
    return math.ceil(value / unit) * unit


class _Nowhere:
    """A file that keeps nothing."""

    def write(self, data: bytes) -> int:
        return len(data)
