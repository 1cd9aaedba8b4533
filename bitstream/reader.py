"""Reads an .rvc stream front to back with bounded memory, from anything with `read` (SPEC sections
3 and 9).

The mirror of `writer`. Every chunk is looked at, checked in full and only then taken: so after
damage the search for the next intact chunk starts at the very next byte. Errors name the stream and
the byte.
"""

import zlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, Literal, overload

import numpy as np
from numpy.typing import NDArray

from ravecodec.bitstream import limits as lim
from ravecodec.bitstream.container import (
    CRC_BYTES,
    MAGIC,
    MAX_CHUNK_HEADER_BYTES,
    MIN_CHUNK_BYTES,
    PREFIX_BYTES,
    SYNC,
    TRAILER_BYTES,
    TRAILER_MAGIC,
    ByteCount,
    Chunk,
    ChunkHeader,
    ChunkType,
    IndexEntry,
    LeadIn,
    crc32_bytes,
    decode_audio,
    decode_chunk_header,
    decode_header,
    decode_trailer,
    header_size,
    symbol_crc,
)
from ravecodec.bitstream.embedded import EmbeddedModel, ModelPart, ModelParts, decode_part
from ravecodec.bitstream.entropy import Profile, decode_raw, decode_symbols
from ravecodec.bitstream.index import ListedChunks
from ravecodec.bitstream.limits import Limits
from ravecodec.bitstream.meta import decode_meta
from ravecodec.bitstream.predict import decode_predicted
from ravecodec.bitstream.source import ByteSource, SupportsRead
from ravecodec.bitstream.static import StaticModel
from ravecodec.bitstream.varint import Cursor
from ravecodec.errors import (
    CorruptError,
    FormatError,
    ModelError,
    TruncatedError,
    UsageError,
)

Content = Chunk | LeadIn | ModelPart | dict[str, Any] | int | None  # of a chunk, decoded
# Bytes that false chunk headers may make the search for the next chunk check ...
SEARCH_FREE = 2**24
# ... plus this many per byte of the stream: hostile headers cannot make it quadratic.
SEARCH_FACTOR = 64


@dataclass(frozen=True)
class Damage:
    """A stretch of the stream that could not be used.

    first_frame, frames: what is missing (frames None: the stream's end was never found; 0: nothing
    audible).
    offset, size: the bytes given up. reason: the error that a strict reader would have raised.
    """

    first_frame: int
    frames: int | None
    offset: int
    size: int
    reason: str


class StreamReader:
    """One stream from `fileobj`, whose header is read at once: `info`.

    `chunks` must be run to its end before `total_samples` (samples of the original audio) is known.
    `meta` is {} if there is none. `lead_in` is the frame before the first if there is one, known as
    soon as the first chunk is. `bytes` accounts for all bytes taken so far, `frames` for the
    frames. chained: whether another stream may follow in the same file (see `streams`).
    FormatError, CorruptError, TruncatedError on bad streams.
    """

    def __init__(
        self,
        fileobj: SupportsRead | ByteSource,
        limits: Limits | None = None,
        *,
        chained: bool = False,
    ) -> None:
        self.limits = limits or Limits()
        self.frames = 0
        self.total_samples: int | None = None
        self.ended = False
        self.bytes = ByteCount()
        self._source = fileobj if isinstance(fileobj, ByteSource) else ByteSource(fileobj)
        self._chained = chained
        self._start = self._source.offset
        self._listed = ListedChunks(self._start)
        self._meta: dict[str, Any] | None = None
        self._chain = 0  # CRC-32 over the CRCs of header and chunks so far
        self._complete = True  # nothing was skipped: chain and index can be checked
        self._index_at: int | None = None
        self._silent = False  # the chunk before was SILENCE
        self._parts = ModelParts()
        self.lead_in: Chunk | None = None
        self._read_header()

    @property
    def name(self) -> str:
        """The file object's name, for messages."""
        return self._source.name

    @property
    def meta(self) -> dict[str, Any]:
        """The metadata; reads up to the first AUDIO chunk if need be."""
        self._read_ahead()
        return self._meta or {}

    @property
    def model(self) -> EmbeddedModel | None:
        """The decoder that the stream brings along, or None; reads up to the first AUDIO chunk if
        need be. Whether it is what it says it is shows when it is unpacked.
        """
        self._read_ahead()
        return self._parts.whole()

    def _read_ahead(self) -> None:
        """Take all that is before the first AUDIO chunk."""
        while (
            not self.frames
            and self.total_samples is None
            and not self.ended
            and not self._peek_header().critical
        ):
            self._next()

    @overload
    def chunks(self, on_damage: Literal["raise"] = "raise") -> Iterator[Chunk]: ...

    @overload
    def chunks(self, on_damage: Literal["skip"]) -> Iterator[Chunk | Damage]: ...

    def chunks(
        self, on_damage: Literal["raise", "skip"] = "raise"
    ) -> Iterator[Chunk] | Iterator[Chunk | Damage]:
        """The AUDIO chunks in order. With "skip", damage is yielded instead of raised, and reading
        goes on behind it.

        FormatError (a feature of a newer version) is raised in both modes.
        """
        while not self.ended:
            try:
                chunk = self._next()
            except CorruptError as error:
                if on_damage == "raise":
                    raise
                yield self._recover(error)
            else:
                if chunk is not None:
                    yield chunk

    def decode_chunk(self, chunk: Chunk, static: StaticModel | None) -> NDArray[np.int32]:
        """Symbols int32 [frames, dims] of a chunk, checked against its symbol CRC.

        CorruptError if they do not match it: damage that the payload's CRC missed, or other tables
        than the encoder's.
        """
        where = f"{self.name}: the chunk at byte {chunk.offset} (frame {chunk.first_frame})"
        try:
            symbols = _decode_payload(chunk, static)
        except (CorruptError, ModelError) as error:
            raise type(error)(f"{where}: {error}") from error
        if (found := symbol_crc(symbols)) != chunk.symbol_crc:
            raise CorruptError(
                f"{where} decodes to symbols of CRC {found:08x}, expected {chunk.symbol_crc:08x}"
            )
        return symbols

    def seek(self, entry: IndexEntry) -> None:
        """Go on at a chunk listed by `find_index`; the file object must be seekable.

        The chunk is checked like any other when it is read. END's check over the whole stream is
        not possible then.
        """
        fileobj: Any = self._source.fileobj
        fileobj.seek(entry.offset)
        name, self._source = self.name, ByteSource(fileobj, entry.offset)
        self._source.name = name
        self.frames, self.total_samples, self.ended = entry.first_frame, None, False
        self._complete, self._index_at, self._silent = False, None, False

    def seek_behind(self, entry: IndexEntry) -> None:
        """Go on right behind a chunk listed by `find_index`, so that a SILENCE before the next one
        is seen as well.

        Of the chunk itself only the header is read. CorruptError if it is not the one that is
        listed.
        """
        self.seek(entry)
        head = self._peek_header()
        if (head.kind, head.position) != (ChunkType.AUDIO, entry.first_frame):
            expected = f"expected the AUDIO chunk of frame {entry.first_frame} that the index lists"
            raise CorruptError(
                f"{self.name}: a chunk of type {head.kind:#04x} at byte {head.offset}, {expected}"
            )
        self.seek(IndexEntry(head.offset + head.total, entry.first_frame + entry.frames, 0))

    # ---- one chunk ----

    def _read_header(self) -> None:
        size = header_size(self._source.peek(PREFIX_BYTES), self._start, self.name)
        data = self._source.peek(size)
        if len(data) < size:
            raise TruncatedError(
                f"{self.name}: ends at byte {self._start + len(data)}, within the stream header"
            )
        self.info = decode_header(data, self._start, self.name, self.limits)
        self._take(data)
        self.bytes.add(size)

    def _take(self, data: bytes) -> None:
        """Take peeked bytes that end in their CRC."""
        self._source.skip(len(data))
        self._chain = zlib.crc32(data[-CRC_BYTES:], self._chain)

    def _peek_header(self) -> ChunkHeader:
        data = self._source.peek(MAX_CHUNK_HEADER_BYTES)
        if len(data) < MIN_CHUNK_BYTES:
            end = self._source.offset + len(data)
            raise TruncatedError(
                f"{self.name}: ends at byte {end} (frame {self.frames}), expected more up to END"
            )
        return decode_chunk_header(data, self._source.offset, self.name, self.limits)

    def _next(self) -> Chunk | None:
        """Check and take the next chunk, or the stream's tail behind END."""
        if self.total_samples is not None:
            self._finish()
            return None
        head, data = self._examine(resync=False)
        content = self._decode(head, data)
        self._take(data)
        self._accept(head, content)
        silent, self._silent = self._silent, head.kind == ChunkType.SILENCE and not head.length
        return replace(content, silent=silent) if isinstance(content, Chunk) else None

    def _examine(self, *, resync: bool) -> tuple[ChunkHeader, bytes]:
        """The next chunk, not taken, if its CRCs hold and it stands where it must (resync: not
        before that).
        """
        head = self._peek_header()
        if head.position < self.frames or (head.position > self.frames and not resync):
            where = (
                f"{self.name}: the chunk at byte {head.offset} is for frame {head.position}, "
                f"expected {self.frames}"
            )
            raise CorruptError(f"{where}: a chunk is lost, repeated or misplaced")
        data = self._source.peek(head.total)
        if len(data) < head.total:
            end = head.offset + len(data)
            raise TruncatedError(
                f"{self.name}: ends at byte {end}, within the chunk of frame {head.position}"
            )
        is_end = head.kind == ChunkType.END
        if self._complete or not is_end:
            closing = crc32_bytes(data[:-CRC_BYTES], self._chain if is_end else 0)
            if closing != data[-CRC_BYTES:]:
                where = f"{self.name}: the chunk at byte {head.offset} (frame {head.position})"
                raise CorruptError(
                    f"{where} has CRC {data[-CRC_BYTES:].hex()}, expected {closing.hex()}"
                )
        return head, data

    def _decode(self, head: ChunkHeader, data: bytes) -> Content:
        """Content of a chunk whose CRCs hold: audio, metadata, a part of a model, total samples, or
        None.

        Changes nothing.
        """
        body, offset = data[head.size : -CRC_BYTES], head.offset + head.size
        if self._parts.begun and self._complete and head.kind != ChunkType.MODEL:
            raise CorruptError(
                f"{self.name}: a chunk of type {head.kind:#04x} at byte {head.offset}, expected "
                f"part {self._parts.expected} of the model"
            )
        if self._index_at is not None and head.kind != ChunkType.END:
            raise CorruptError(
                f"{self.name}: a chunk of type {head.kind:#04x} at byte {head.offset}, expected END"
            )
        if head.kind == ChunkType.AUDIO:
            return decode_audio(head, body, self.info, self.limits, self.name)
        if head.kind == ChunkType.LEAD_IN:
            return self._decode_lead_in(head, body)
        if head.kind == ChunkType.MODEL:
            return self._decode_part(head, body)
        if head.kind == ChunkType.META:
            if head.position or self._meta is not None:
                raise CorruptError(
                    f"{self.name}: metadata at byte {head.offset}, expected it once and first"
                )
            return decode_meta(body, offset, self.name, self.limits.meta)
        if head.kind == ChunkType.INDEX:
            if self._complete and not self._listed.agrees(body, head.offset):
                raise CorruptError(
                    f"{self.name}: the index at byte {head.offset} does not list the chunks before "
                    "it"
                )
        elif head.kind == ChunkType.END:
            return self._decode_end(head, Cursor(body, offset, self.name))
        elif head.critical:
            raise FormatError(
                f"{self.name}: chunk type {head.kind:#04x} at byte {head.offset} needs a newer "
                "reader"
            )
        return None

    def _decode_lead_in(self, head: ChunkHeader, body: bytes) -> LeadIn:
        chunk = decode_audio(head, body, self.info, self.limits, self.name)
        if head.position or chunk.frames != 1 or self.lead_in is not None:
            raise CorruptError(
                f"{self.name}: a lead-in at byte {head.offset}, expected it once and of one frame "
                "first"
            )
        return LeadIn(chunk)

    def _decode_part(self, head: ChunkHeader, body: bytes) -> ModelPart:
        part = decode_part(body, head.offset + head.size, self.name, self.limits.model)
        if head.position or not self._parts.fits(part):
            raise CorruptError(
                f"{self.name}: part {part.number} of a model at byte {head.offset}, expected each "
                "once, in order and before the audio"
            )
        return part

    def _decode_end(self, head: ChunkHeader, cursor: Cursor) -> int:
        total = cursor.uvarint(lim.MAX_TOTAL_SAMPLES, "the number of samples")
        cursor.end("the number of samples")
        if total > (most := self.info.max_samples(head.position)):
            raise cursor.fail(
                f"{total} samples for {head.position} frames, expected at most {most}"
            )
        return total

    def _accept(self, head: ChunkHeader, content: Content) -> None:
        """Account for a chunk that was taken."""
        coded = content.chunk if isinstance(content, LeadIn) else content
        payload = len(coded.payload) if isinstance(coded, Chunk) else 0
        meta = head.total if isinstance(content, dict) else 0
        model = head.total if isinstance(content, ModelPart) else 0
        self.bytes.add(head.total, payload, meta, model)
        if isinstance(content, Chunk):
            self.frames += content.frames
            if self._complete:
                self._listed.add(content)
        elif isinstance(content, LeadIn):
            self.lead_in = content.chunk
        elif isinstance(content, ModelPart):
            self._parts.add(content)
        elif isinstance(content, dict):
            self._meta = content
        elif isinstance(content, int):
            self.total_samples = content
        elif head.kind == ChunkType.INDEX:
            self._index_at = head.offset

    # ---- tail and damage ----

    def _finish(self) -> None:
        """Behind END: the trailer if there was an INDEX, then the end of the file or the next
        stream.
        """
        if self._has_trailer():
            offset, tail = self._source.offset, self._source.peek(TRAILER_BYTES)
            distance = decode_trailer(tail, offset, self.name)
            if self._index_at is not None and distance != offset - self._index_at:
                raise CorruptError(
                    f"{self.name}: the trailer at byte {offset} does not point at the index"
                )
            self._take(tail)
            self.bytes.add(len(tail))
        self._check_behind(self._source.peek(len(MAGIC)))
        self.ended = True

    def _has_trailer(self) -> bool:
        """A trailer follows an INDEX, even one that was lost to damage."""
        lost = not self._complete and self._source.peek(TRAILER_BYTES)[4:8] == TRAILER_MAGIC
        return lost or self._index_at is not None

    def _check_behind(self, data: bytes) -> None:
        if data == MAGIC and not self._chained:
            at = self._source.offset
            expected = "expected one stream (`ravecodec concat` joins them)"
            raise FormatError(f"{self.name}: a second stream begins at byte {at}, {expected}")
        if data and data != MAGIC:
            raise CorruptError(
                f"{self.name}: {data.hex(' ')} at byte {self._source.offset}, expected the file to "
                "end"
            )

    def _recover(self, error: CorruptError) -> Damage:
        """Go to the next intact chunk, or to the end of the file."""
        start, frame = self._source.offset, self.frames
        self._complete = self._silent = False
        if self.total_samples is not None:  # only the tail is damaged
            self.ended = True
            return Damage(frame, 0, start, 0, str(error))
        found = self._find_chunk(start)
        self.frames = found.position if found else frame
        self.ended = found is None
        size = self._source.offset - start
        self.bytes.add(size)
        return Damage(frame, found.position - frame if found else None, start, size, str(error))

    def _find_chunk(self, start: int) -> ChunkHeader | None:
        """Skip to the next chunk that is intact and not for an earlier frame."""
        checked = 0
        while self._source.skip_to(SYNC):
            try:
                head, data = self._examine(resync=True)
                self._decode(head, data)
                return head
            except CorruptError:
                checked += len(self._source)
                self._source.skip(1)
            if checked > SEARCH_FREE + SEARCH_FACTOR * (self._source.offset - start):
                raise CorruptError(
                    f"{self.name}: too many false chunks behind byte {start} to search on"
                )
        return None


def _decode_payload(chunk: Chunk, static: StaticModel | None) -> NDArray[np.int32]:
    if chunk.profile == Profile.RAW:
        return decode_raw(chunk.payload, chunk.frames, chunk.dims)
    if static is None:
        raise ModelError("it is coded with a model's tables, but none were given")
    if chunk.profile == Profile.PREDICTED:
        if static.predictor is None:
            raise ModelError("it is coded with a model's predictor, but the model given has none")
        return decode_predicted(
            chunk.payload, static.predictor, chunk.step_index, chunk.frames, chunk.dims
        )
    return decode_symbols(
        chunk.payload, static.rows(chunk.step_index, chunk.dims), chunk.frames, chunk.dims
    )


def streams(
    fileobj: SupportsRead | ByteSource, limits: Limits | None = None
) -> Iterator[StreamReader]:
    """The streams of a file that holds several, one after the other; each must be read to its end
    before the next.
    """
    source = fileobj if isinstance(fileobj, ByteSource) else ByteSource(fileobj)
    while True:
        reader = StreamReader(source, limits, chained=True)
        yield reader
        if not reader.ended:
            raise UsageError(
                f"{reader.name}: the next stream was asked for before the end of this one"
            )
        if not source.peek(1):
            return
