"""A target rate: the piece is analysed once, then the finest step is looked for whose stream is
small enough.

Steps are tried by really coding, framing and metadata included, so the promise holds for the file.
What the network made of the audio is kept in a temporary file meanwhile (about 50 MB an hour), and
for a search the audio too (1.4 GB an hour): memory does not grow with length.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ravecodec.analysis import Analysed, Audio, Projected
from ravecodec.bitstream import StreamInfo
from ravecodec.codec import Coder
from ravecodec.effort import Analysis, Effort
from ravecodec.errors import UsageError
from ravecodec.files import temporary_file
from ravecodec.models.package import Model
from ravecodec.pipeline import EncodePipeline, Progress, progress_at
from ravecodec.search import Search

BLOCK, AUDIO_BLOCK = 512, 32  # frames read back at a time, without and with their audio
SILENT, LEAD = 1, 2  # flags of frames in a file
FINER, COARSEST = 24, 64  # steps tried: from three octaves finer than the model's default
USED = (
    0.98  # share of the bits that the step leaves over which a search may use: framing is not exact
)


class Recording:
    """A piece between analysis and coding, in temporary files that go with it; a context manager.

    `info` says which axes are kept; its step index does not matter.
    """

    def __init__(
        self, model: Model, info: StreamInfo, meta: Mapping[str, Any] | None, effort: Effort
    ) -> None:
        self._model, self._info, self._meta, self._effort = model, info, meta, effort
        self._samples = 0
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
        quantizer = Coder(self._model, self._info).quantizer
        for part in frames:
            self._axes.write(Projected(quantizer.axes(part.means), part.silent, part.lead))
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
        low, high = self._model.coding.step_index - FINER, COARSEST
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

    def search(self, info: StreamInfo, kbps: float) -> Iterator[Progress]:
        """Replaces what was recorded by what a search finds for this header, at most `kbps` kbit/s
        as a stream.
        """
        if not (self._samples and self._effort.iterations):
            return
        before = self._tried(info, self._axes).bytes
        share = 1 + USED * (self._allowed(kbps) - before.total) / max(1, before.payload)
        quantizer = Coder(self._model, info).quantizer
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

    def code(self, pipeline: EncodePipeline) -> None:
        """Writes the whole stream."""
        pipeline.encode_axes(self._axes.read(), self._samples)

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


class AxesFile:
    """`Projected` frames: rows of float64, the axis vector and a flag."""

    def __init__(self, dims: int, files: ExitStack) -> None:
        self._width = dims + 1
        self._file = files.enter_context(temporary_file("--bitrate"))

    def write(self, frames: Projected) -> None:
        """Takes some frames."""
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
