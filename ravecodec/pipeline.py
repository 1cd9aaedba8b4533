"""Blocks of audio <-> the bytes of a stream, with a loaded model: `EncodePipeline` and
`DecodePipeline`.

They join `codec.py` (samples <-> symbols) and the bitstream (symbols <-> bytes), keep the books,
and deal with damage. `encoding.py` and `decoding.py` put files and models around them. Memory does
not grow with length.
"""

from __future__ import annotations

import hashlib
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain, islice
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from ravecodec.analysis import Projected
from ravecodec.audio import Audio, resampled_length
from ravecodec.bitstream import (
    ByteCount,
    Chunk,
    Damage,
    EmbeddedModel,
    IndexEntry,
    Limits,
    StreamInfo,
    StreamReader,
    StreamWriter,
)
from ravecodec.bitstream.source import ByteSource
from ravecodec.bitstream.writer import SupportsWrite
from ravecodec.codec import Coded, Coder, Decoder, Encoder
from ravecodec.effort import Effort
from ravecodec.errors import CorruptError, UsageError
from ravecodec.examine import StreamSummary, summarise
from ravecodec.models.package import Model
from ravecodec.tables import tables_for

GAP = 256  # frames concealed at a time


def with_lead_in(reader: StreamReader) -> Iterator[Chunk]:
    """The chunks of a stream, the lead-in first."""
    chunks = reader.chunks()
    first = list(islice(chunks, 1))
    return chain([reader.lead_in] if reader.lead_in else [], first, chunks)


def _digestible(symbols: NDArray[np.int32], step_index: int, silent: bool) -> bytes:
    """All that a decoder is told about a chunk."""
    return symbols.tobytes() + f"{step_index} {silent}".encode()


@dataclass(frozen=True)
class Progress:
    """How far it is.

    seconds: of audio done; share: 0 to 1, None where the end is not known; bytes: of the stream.
    """

    seconds: float
    share: float | None
    bytes: int


def progress_at(samples: int, total: int | None, rate: int, count: int) -> Progress:
    """Progress at a sample of the original audio, of `total` if that is known."""
    return Progress(samples / rate, min(1.0, samples / total) if total else None, count)


class EncodePipeline:
    """One stream on its way into a file, with a hash of all its symbols."""

    def __init__(
        self,
        model: Model,
        info: StreamInfo,
        file: SupportsWrite,
        meta: Mapping[str, Any] | None,
        embedded: EmbeddedModel | None = None,
    ) -> None:
        self._model = model
        self._static = tables_for(model, info.model_id)
        self._writer = StreamWriter(file, info, self._static)
        self._digest = hashlib.sha256()
        self._chunks = 0
        self._samples = 0
        self._steps: set[int] = set()
        if meta:
            self._writer.write_meta(meta)
        if embedded:
            self._writer.write_model(embedded)

    @property
    def bytes(self) -> ByteCount:
        """What was written so far."""
        return self._writer.bytes

    @property
    def info(self) -> StreamInfo:
        """The header."""
        return self._writer.info

    @property
    def steps(self) -> tuple[int, int]:
        """The finest and the coarsest step of what was written so far and is not silence."""
        found = self._steps or {self.info.step_index}
        return min(found), max(found)

    def encode(
        self, blocks: Iterable[Audio], total: int | None = None, effort: Effort | None = None
    ) -> Iterator[Progress]:
        """Writes the whole stream; reports after every block float32 [channels, n].

        total: samples, if known. effort: as for `Encoder`.
        """
        encoder, rate = (
            Encoder(self._model, self._writer.info, effort),
            self._writer.info.sample_rate,
        )
        for block in blocks:
            self.write(encoder.process(block))
            yield progress_at(encoder.samples, total, rate, self._writer.bytes.total)
        self.write(encoder.flush())
        self._close(encoder.samples)

    def encode_axes(self, blocks: Iterable[Projected], samples: int) -> None:
        """Writes the whole stream from the axis vectors of audio of this length."""
        coder = Coder(self._model, self._writer.info)
        for block in blocks:
            self.write(coder.process_axes(block))
        self.encode_chunks(coder.flush(), samples)

    def encode_chunks(self, chunks: Iterable[Coded], samples: int) -> None:
        """Writes these chunks and ends the stream, which is that of audio of this length."""
        self.write(chunks)
        self._close(samples)

    def write(self, chunks: Iterable[Coded]) -> None:
        """Writes the next chunks."""
        for chunk in chunks:
            self._digest.update(_digestible(chunk.symbols, chunk.step_index, chunk.silent))
            if chunk.lead_in:
                self._writer.write_lead_in(chunk.symbols, chunk.step_index)
            else:
                self._writer.write_chunk(chunk.symbols, chunk.step_index, silent=chunk.silent)
                self._chunks += 1
                if not chunk.silent:
                    self._steps.add(chunk.step_index)

    def _close(self, samples: int) -> None:
        self._samples = samples
        self._writer.close(samples)

    def check_written(self, file: BinaryIO, name: str) -> None:
        """CorruptError unless the bytes in the file decode to the symbols that were encoded."""
        file.flush()
        file.seek(0)
        source = ByteSource(file)
        source.name = name
        reader = StreamReader(source)
        digest = hashlib.sha256()
        for chunk in with_lead_in(reader):
            symbols = reader.decode_chunk(chunk, self._static)
            digest.update(_digestible(symbols, chunk.step_index, chunk.silent))
        if digest.digest() != self._digest.digest() or reader.total_samples != self._samples:
            raise CorruptError(
                f"{name}: what was written does not decode to the symbols that were encoded"
            )

    def summary(self) -> StreamSummary:
        """What was written."""
        writer = self._writer
        return summarise(writer.info, self._samples, writer.frames, self._chunks, writer.bytes)


class DecodePipeline:
    """The audio of a stream at `rate` Hz, block by block.

    salvage: where the stream is damaged, hold the sound and go on with the next intact chunk;
    `damage` lists where. precision: as for `Decoder`. part: first sample of the output and the one
    behind the last, None for the end; what comes out is that slice of the whole, bit for bit, and
    nothing is read behind it. index: of the stream, to get to the part without reading what is
    before it; the reader's file must be seekable then.
    """

    def __init__(
        self,
        reader: StreamReader,
        model: Model,
        rate: int,
        *,
        salvage: bool = False,
        precision: str = "float32",
        part: tuple[int, int | None] = (0, None),
        index: Sequence[IndexEntry] | None = None,
    ) -> None:
        self.damage: list[Damage] = []
        self._reader = reader
        self._rate = rate
        self._salvage = salvage
        self._decoder = Decoder(model, reader.info, sample_rate=rate, precision=precision)
        self._chunks = 0
        self._frames = 0  # of the chunks that were decoded
        self._used = ByteCount()  # of the same
        self._lost = ByteCount()  # of damaged places, by what the reader counted them as
        self._part = part
        self._first = self._decoder.start_at(part[0])  # frame
        self._samples = 0  # of the output, those before the part included
        if index and not salvage:
            self._seek(index)

    def _seek(self, index: Sequence[IndexEntry]) -> None:
        """Go on behind the last chunk of which nothing is needed, if there is one."""
        before = bisect_right(
            index, self._first, key=lambda entry: entry.first_frame + entry.frames
        )
        if before:
            self._reader.seek_behind(index[before - 1])

    def decode(self) -> Iterator[Audio]:
        """Yields float32 [channels, n] up to the end of the stream or of the part, n > 0.

        UsageError if the stream ends before the part starts.
        """
        start, end = self._part
        for block in self._blocks():
            if not np.isfinite(block).all():
                at = f"sample {self._samples}"
                raise CorruptError(
                    f"{self._reader.name}: decodes to NaN or infinity after {at}, expected audio"
                )
            self._samples = self._decoder.position
            begin = self._samples - block.shape[1]
            wanted = block[:, max(0, start - begin) : None if end is None else max(0, end - begin)]
            if wanted.shape[1]:
                yield wanted
            if end is not None and self._samples >= end:
                return

    def _blocks(self) -> Iterator[Audio]:
        for item in self._reader.chunks("skip") if self._salvage else self._reader.chunks():
            if isinstance(item, Damage):
                self._lost.add(item.size)
                yield from self._conceal(item)
            elif self._salvage or item.first_frame + item.frames > self._first:
                yield from self._decode_chunk(item)
        total = self._total()
        self._check_start(total)
        yield from self._decoder.flush(total)

    def _check_start(self, total: int) -> None:
        length, start = (
            resampled_length(total, self._reader.info.sample_rate, self._rate),
            self._part[0],
        )
        if start and start >= length:
            where = f"sample {start} ({start / self._rate:.3f} s)"
            raise UsageError(
                f"{self._reader.name}: has {length} samples, expected more up to the start at "
                f"{where}"
            )

    def _decode_chunk(self, chunk: Chunk) -> Iterator[Audio]:
        self._chunks += 1
        try:
            if self._chunks == 1 and chunk.first_frame == 0 and (before := self._reader.lead_in):
                self._decoder.lead_in(
                    self._reader.decode_chunk(before, self._decoder.static), before.step_index
                )
            symbols = self._reader.decode_chunk(chunk, self._decoder.static)
            if self._chunks == 1 and chunk.first_frame and not self._salvage:
                self._decoder.resume(chunk.first_frame)
        except CorruptError as error:
            if not self._salvage:
                raise
            self._chunks -= 1
            self._lost.add(chunk.size, len(chunk.payload))
            yield from self._conceal(
                Damage(chunk.first_frame, chunk.frames, chunk.offset, chunk.size, str(error))
            )
        else:
            self._frames += chunk.frames
            self._used.add(chunk.size, len(chunk.payload))
            yield from self._decoder.process(symbols, chunk.step_index, chunk.silent)

    def _conceal(self, damage: Damage) -> Iterator[Audio]:
        """Hold the sound over a gap; one that ends beyond what a stream may last is no gap but
        another damage.
        """
        self.damage.append(damage)
        info, frames = self._reader.info, damage.frames or 0
        if (damage.first_frame + frames) * info.hop > Limits().seconds * info.model_rate:
            raise CorruptError(
                f"{self._reader.name}: {frames} frames are missing at byte {damage.offset}, too "
                "many"
            )
        for start in range(0, frames, GAP):
            yield from self._decoder.skip(min(GAP, frames - start))

    def _total(self) -> int:
        """Samples of the original: as END says, or as far as the frames go where END is lost or
        cannot be trusted.

        After damage END's own checksum cannot be verified, so its total counts only if it ends in
        the last frame.
        """
        reader, info = self._reader, self._reader.info
        whole = reader.frames * info.hop * info.sample_rate // info.model_rate
        frame = -(-info.hop * info.sample_rate // info.model_rate)
        total = reader.total_samples
        if total is None or (self.damage and not whole - frame <= total <= whole):
            return whole
        if resampled_length(total, info.sample_rate, self._rate) < self._samples:
            raise CorruptError(
                f"{reader.name}: ends with {total} samples, but its chunks hold more"
            )
        return total

    def summary(self) -> StreamSummary:
        """What was read. Bytes of damaged places count as lost, whatever they were.

        Of a part: the chunks that were decoded for it, and they alone.
        """
        if self._part != (0, None):
            info = self._reader.info
            samples = self._frames * info.hop * info.sample_rate // info.model_rate
            found = summarise(info, samples, self._frames, self._chunks, self._used)
            return replace(found, lost_bytes=self._lost.total)
        found = summarise(
            self._reader.info, self._total(), self._reader.frames, self._chunks, self._reader.bytes
        )
        payload, framing = (
            found.payload_bytes - self._lost.payload,
            found.framing_bytes - self._lost.framing,
        )
        return replace(
            found, payload_bytes=payload, framing_bytes=framing, lost_bytes=self._lost.total
        )
