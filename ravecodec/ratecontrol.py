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
from ravecodec.codec import Analysed, Analyser, Audio, Axes, Coder, Flags
from ravecodec.errors import OutputError, UsageError
from ravecodec.models.package import Model
from ravecodec.pipeline import EncodePipeline, Progress, progress_at
from ravecodec.quantize import Quantizer

BLOCK = 512  # frames read back at a time
FINER, COARSEST = 24, 64  # steps tried: from three octaves finer than the model's default


class Recording:
    """The axis vectors of a piece and which of them are silent, in a file: rows of float64, the flag behind the axes.

    `info` says which axes; its step index does not matter.
    """

    def __init__(self, model: Model, info: StreamInfo, spool: BinaryIO) -> None:
        self._model, self._info, self._spool = model, info, spool
        self._samples = 0
        self._lead_in: Axes | None = None

    def record(self, blocks: Iterable[Audio], total: int | None = None) -> Iterator[Progress]:
        """Takes the whole audio; reports after every block float32 [channels, n]. total: samples, if known."""
        analyser = Analyser(self._model, self._info.sample_rate)
        quantizer = Coder(self._model, self._info).quantizer
        for block in blocks:
            for analysed in analyser.process(block):
                self._keep(quantizer, analysed)
            yield progress_at(analyser.samples, total, self._info.sample_rate, 0)
        for analysed in analyser.flush():
            self._keep(quantizer, analysed)
        self._samples = analyser.samples

    def _keep(self, quantizer: Quantizer, block: Analysed) -> None:
        if block.lead_in is not None:
            self._lead_in = quantizer.axes(block.lead_in)
        rows = np.column_stack([quantizer.axes(block.means), block.silent])
        try:
            self._spool.write(rows.tobytes())
        except OSError as error:
            raise OutputError(f"the temporary file for --bitrate cannot be written ({error.strerror})") from error

    def code(self, pipeline: EncodePipeline) -> None:
        """Writes the whole stream."""
        pipeline.encode_axes(self._axes(), self._samples, self._lead_in)

    def _axes(self) -> Iterator[tuple[Axes, Flags]]:
        self._spool.seek(0)
        width = self._info.dims + 1
        while data := self._spool.read(BLOCK * width * 8):
            rows = np.frombuffer(data).reshape(-1, width)
            yield rows[:, :-1], rows[:, -1] > 0

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
