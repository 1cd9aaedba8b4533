"""A target rate: the piece is analysed once, then the finest step is looked for whose stream is small enough.

Steps are tried by really coding, framing and metadata included, so the promise holds for the file. What the network
made of the audio is kept in a temporary file meanwhile (about 50 MB an hour): memory does not grow with length.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any, BinaryIO

import numpy as np

from ravecodec.bitstream import StreamInfo
from ravecodec.codec import Analyser, Audio, Axes, Coder
from ravecodec.errors import UsageError
from ravecodec.models.package import Model
from ravecodec.pipeline import EncodePipeline, Progress, progress_at

BLOCK = 512  # frames read back at a time
FINER, COARSEST = 24, 64  # steps tried: from three octaves finer than the model's default


class Recording:
    """The axis vectors of a piece, in a file. `info` says which axes; its step index does not matter."""

    def __init__(self, model: Model, info: StreamInfo, spool: BinaryIO) -> None:
        self._model, self._info, self._spool = model, info, spool
        self._samples = 0

    def record(self, blocks: Iterable[Audio], total: int | None = None) -> Iterator[Progress]:
        """Takes the whole audio; reports after every block float32 [channels, n]. total: samples, if known."""
        analyser = Analyser(self._model, self._info.sample_rate, self._info.channels)
        quantizer = Coder(self._model, self._info).quantizer
        for block in blocks:
            for means in analyser.process(block):
                self._keep(quantizer.axes(means))
            yield progress_at(analyser.samples, total, self._info.sample_rate, 0)
        for means in analyser.flush():
            self._keep(quantizer.axes(means))
        self._samples = analyser.samples

    def _keep(self, axes: Axes) -> None:
        self._spool.write(axes.tobytes())

    def code(self, pipeline: EncodePipeline) -> None:
        """Writes the whole stream."""
        pipeline.encode_axes(self._axes(), self._samples)

    def _axes(self) -> Iterator[Axes]:
        self._spool.seek(0)
        while data := self._spool.read(BLOCK * self._info.dims * 8):
            yield np.frombuffer(data).reshape(-1, self._info.dims)

    def finest_info(self, kbps: float, meta: Mapping[str, Any] | None) -> StreamInfo:
        """The header with the smallest step index whose stream costs at most `kbps` kbit/s of its duration.

        UsageError if even the coarsest step costs more.
        """
        if not self._samples:
            return self._info
        allowed = kbps * 1000 / 8 * self._samples / self._info.sample_rate
        low, high = self._model.coding.step_index - FINER, COARSEST
        smallest = self._size(high, meta)
        if smallest > allowed:
            least = f"{_rounded_up(kbps * smallest / allowed):g} at {self._info.dims} dims"
            raise UsageError(f"bitrate is {kbps:g} kbit/s; this audio needs at least {least}")
        while low < high:
            middle = (low + high) // 2
            if self._size(middle, meta) <= allowed:
                high = middle
            else:
                low = middle + 1
        return replace(self._info, step_index=low)

    def _size(self, step_index: int, meta: Mapping[str, Any] | None) -> int:
        """Bytes of the stream at a step index."""
        sink = _Counter()
        self.code(EncodePipeline(self._model, replace(self._info, step_index=step_index), sink, meta))
        return sink.total


def _rounded_up(value: float) -> float:
    """To three digits."""
    unit = 10.0 ** (math.floor(math.log10(value)) - 2)
    return math.ceil(value / unit) * unit


class _Counter:
    """A file that only counts."""

    def __init__(self) -> None:
        self.total = 0

    def write(self, data: bytes) -> int:
        self.total += len(data)
        return len(data)
