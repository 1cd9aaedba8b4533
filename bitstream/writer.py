"""Writes an .rvc stream front to back: header, META, AUDIO chunks, INDEX, END, trailer (SPEC
section 3).

Nothing is ever patched, so any object with `write` will do, pipes included. `reader` mirrors this
file. Errors of the file object itself (OSError) pass through unchanged.
"""

import zlib
from collections.abc import Mapping
from dataclasses import replace
from operator import itemgetter
from typing import Any, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ravecodec.bitstream import limits as lim
from ravecodec.bitstream.container import (
    CRC_BYTES,
    INDEX_THRESHOLD,
    ByteCount,
    Chunk,
    ChunkType,
    StreamInfo,
    encode_audio,
    encode_chunk,
    encode_copy,
    encode_header,
    encode_index,
    encode_index_entry,
    encode_trailer,
)
from ravecodec.bitstream.embedded import EmbeddedModel
from ravecodec.bitstream.entropy import Profile, as_chunk, encode_raw, encode_symbols, raw_size
from ravecodec.bitstream.meta import encode_meta
from ravecodec.bitstream.predict import encode_predicted
from ravecodec.bitstream.static import StaticModel
from ravecodec.bitstream.varint import encode_uvarint
from ravecodec.errors import ModelError, OutputError, UsageError

PREDICTED_SINCE = 1  # minor version of the format


class SupportsWrite(Protocol):
    """A binary file object that can be written."""

    def write(self, data: bytes, /) -> int | None:
        """Writes some or all of data; returns how much, or None for all."""


def write_all(fileobj: SupportsWrite, data: bytes, before: int = 0) -> None:
    """Write all of data, however little the file object takes at a time; OutputError if it takes
    nothing. before: bytes of the stream that were written already, for that message.
    """
    view = memoryview(data)
    while view:
        written = fileobj.write(bytes(view))
        if written == 0:
            raise OutputError(f"the output takes no more bytes after {before} of this stream")
        view = view[len(view) if written is None else written :]


class StreamWriter:
    """One stream into `fileobj`. Call write_meta and write_model at most once and first,
    write_chunk any number of times, then close.

    static: the model's tables; None codes every chunk with the raw profile. The file object is left
    open. UsageError for calls out of order or values that the format cannot hold.
    """

    def __init__(
        self, fileobj: SupportsWrite, info: StreamInfo, static: StaticModel | None = None
    ) -> None:
        if static is not None and static.dims < info.dims:
            raise ModelError(
                f"the model has tables for {static.dims} dims, the stream codes {info.dims}"
            )
        if static is not None and static.predictor:
            info = replace(info, minor=max(info.minor, PREDICTED_SINCE))
        self.info = info
        self.frames = 0
        self.bytes = ByteCount()
        self._fileobj = fileobj
        self._static = static
        self._chain = 0  # CRC-32 over the CRCs of header and chunks so far
        self._entries = bytearray()
        self._chunks = 0
        self._last_audio = 0  # offset of the last AUDIO chunk
        self._closed = False
        self._put(encode_header(info))

    def write_meta(self, meta: Mapping[str, Any]) -> None:
        """Metadata, a JSON object; must come before the first chunk."""
        self._check_open()
        if self.frames or self.bytes.meta:
            raise UsageError("metadata comes once and before the first chunk")
        data = encode_chunk(ChunkType.META, 0, encode_meta(meta))
        self._put(data, meta=len(data))

    def write_model(self, model: EmbeddedModel) -> None:
        """The decoder of this stream, for machines that do not have it; must come once and before
        the first chunk.
        """
        self._check_open()
        if self.frames or self.bytes.model:
            raise UsageError("a model comes once and before the first chunk")
        for body in model.bodies():
            data = encode_chunk(ChunkType.MODEL, 0, body)
            self._put(data, model=len(data))

    def write_chunk(
        self, symbols: ArrayLike, step_index: int | None = None, *, silent: bool = False
    ) -> int:
        """One AUDIO chunk of symbols int [frames 1..4096, dims]; returns its bytes, those of the
        SILENCE chunk that comes before it if it is `silent` included.

        step_index and a smaller number of dims than the stream's may be given per chunk (rate
        control). The profile is the one with the fewest bytes: predicted if the model can, static
        for very short chunks, raw only far outside what the tables were fitted to.
        InputError for |symbol| > 32767; nothing is written then.
        """
        self._check_open()
        array = as_chunk(symbols)
        step_index = self.info.step_index if step_index is None else step_index
        self._check_chunk(array, step_index)
        profile, payload = self._smaller(array, step_index)
        body = encode_audio(self.info, profile, step_index, array, payload)
        return self._put_audio(body, len(payload), len(array), silent)

    def chunk_bytes(
        self,
        symbols: ArrayLike,
        step_index: int | None = None,
        *,
        silent: bool = False,
        first_frame: int | None = None,
    ) -> int:
        """What `write_chunk` would return for a chunk that begins at `first_frame`, by default the
        next one; writes nothing.
        """
        array = as_chunk(symbols)
        step_index = self.info.step_index if step_index is None else step_index
        self._check_chunk(array, step_index)
        at = self.frames if first_frame is None else first_frame
        profile, payload = self._smaller(array, step_index)
        body = encode_audio(self.info, profile, step_index, array, payload)
        mark = len(encode_chunk(ChunkType.SILENCE, at, b"")) if silent else 0
        return mark + len(encode_chunk(ChunkType.AUDIO, at, body))

    def copy_chunk(self, chunk: Chunk) -> int:
        """The same for a chunk of another stream of the same model, whose coded symbols are taken
        as they are.
        """
        self._check_open()
        self._check_form(chunk.frames, chunk.dims, chunk.step_index)
        return self._put_audio(
            encode_copy(self.info, chunk), len(chunk.payload), chunk.frames, chunk.silent
        )

    def copy_lead_in(self, chunk: Chunk) -> int:
        """The lead-in of another stream of the same model; as `write_lead_in`."""
        self._check_open()
        self._check_form(chunk.frames, chunk.dims, chunk.step_index)
        self._check_lead_in(chunk.frames)
        body = encode_copy(self.info, chunk)
        return self._put(encode_chunk(ChunkType.LEAD_IN, 0, body), payload=len(chunk.payload))

    def _put_audio(self, body: bytes, payload: int, frames: int, silent: bool) -> int:
        size = self._put(encode_chunk(ChunkType.SILENCE, self.frames, b"")) if silent else 0
        offset = self.bytes.total
        size += self._put(encode_chunk(ChunkType.AUDIO, self.frames, body), payload=payload)
        self._entries += encode_index_entry(offset - self._last_audio, frames)
        self._last_audio = offset
        self._chunks += 1
        self.frames += frames
        return size

    def write_lead_in(self, symbols: ArrayLike, step_index: int | None = None) -> int:
        """A LEAD_IN chunk: symbols int [1, dims] of the frame before the first; comes before the
        first chunk. Returns its bytes."""
        self._check_open()
        array = as_chunk(symbols)
        step_index = self.info.step_index if step_index is None else step_index
        self._check_lead_in(len(array))
        self._check_chunk(array, step_index)
        profile, payload = self._smaller(array, step_index)
        body = encode_audio(self.info, profile, step_index, array, payload)
        return self._put(encode_chunk(ChunkType.LEAD_IN, 0, body), payload=len(payload))

    def close(self, total_samples: int) -> None:
        """INDEX and trailer if there are more than 8 chunks, and END with the samples of the
        original audio.
        """
        self._check_open()
        most = min(self.info.max_samples(self.frames), lim.MAX_TOTAL_SAMPLES)
        if not 0 <= total_samples <= most:
            raise UsageError(
                f"{total_samples} samples for {self.frames} frames, expected at most {most}"
            )
        distance = self.bytes.total
        index = encode_index(distance, self._chunks, bytes(self._entries))
        indexed = self._chunks > INDEX_THRESHOLD and len(index) <= lim.MAX_BODY
        if indexed:
            self._put(encode_chunk(ChunkType.INDEX, self.frames, index))
        self._put(
            encode_chunk(ChunkType.END, self.frames, encode_uvarint(total_samples), self._chain)
        )
        if indexed:
            self._put(encode_trailer(self.bytes.total - distance))
        self._closed = True

    def _smaller(self, symbols: NDArray[np.int32], step_index: int) -> tuple[Profile, bytes]:
        """The profile with the fewest bytes; of equal ones static, then predicted."""
        found = [(raw_size(symbols), Profile.RAW, b"")]
        if self._static is not None:
            coded = encode_symbols(symbols, self._static.rows(step_index, symbols.shape[1]))
            found.insert(0, (len(coded), Profile.STATIC, coded))
            predictor = self._static.predictor
            if (
                predictor
                and (predicted := encode_predicted(symbols, predictor, step_index)) is not None
            ):
                found.insert(1, (len(predicted), Profile.PREDICTED, predicted))
        _, profile, payload = min(found, key=itemgetter(0))
        return profile, encode_raw(symbols) if profile == Profile.RAW else payload

    def _check_lead_in(self, frames: int) -> None:
        if self.frames or frames != 1:
            raise UsageError(
                f"a lead-in of {frames} frames behind {self.frames} frames, expected 1 behind none"
            )

    def _check_chunk(self, symbols: NDArray[np.int32], step_index: int) -> None:
        frames, dims = symbols.shape
        self._check_form(frames, dims, step_index)

    def _check_form(self, frames: int, dims: int, step_index: int) -> None:
        if not 1 <= frames <= lim.MAX_CHUNK_FRAMES or dims > self.info.dims:
            expected = f"1 to {lim.MAX_CHUNK_FRAMES} frames of at most {self.info.dims} dims"
            raise UsageError(f"a chunk of {frames} frames of {dims} dims, expected {expected}")
        if abs(step_index) > lim.MAX_STEP_INDEX:
            raise UsageError(
                f"step index {step_index}, expected at most {lim.MAX_STEP_INDEX} either way"
            )

    def _check_open(self) -> None:
        if self._closed:
            raise UsageError("the stream is closed already")

    def _put(self, data: bytes, payload: int = 0, meta: int = 0, model: int = 0) -> int:
        """Write all of data, whose last 4 bytes are its CRC, and account for it."""
        write_all(self._fileobj, data, self.bytes.total)
        self._chain = zlib.crc32(data[-CRC_BYTES:], self._chain)
        self.bytes.add(len(data), payload, meta, model)
        return len(data)
