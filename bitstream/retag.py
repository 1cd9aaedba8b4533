"""Replaces the metadata of a stream and copies everything else: `replace_meta`.

Chunks are copied byte for byte, those of unknown types included. What depends on where chunks
stand, or vouches for all of them, is made anew: INDEX, END's closing CRC and the trailer (SPEC
sections 3.3, 4.2 and 4.4).
"""

import zlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from itertools import takewhile
from typing import Any

from ravecodec.bitstream import limits as lim
from ravecodec.bitstream.container import (
    CRC_BYTES,
    SYNC,
    ByteCount,
    Chunk,
    ChunkType,
    encode_chunk,
    encode_index,
    encode_index_entry,
    encode_trailer,
)
from ravecodec.bitstream.limits import Limits
from ravecodec.bitstream.meta import encode_meta
from ravecodec.bitstream.reader import StreamReader
from ravecodec.bitstream.source import ByteSource, SupportsRead
from ravecodec.bitstream.varint import encode_uvarint
from ravecodec.bitstream.writer import SupportsWrite, write_all

Change = Callable[[dict[str, Any]], Mapping[str, Any]]
_LAST = (ChunkType.INDEX, ChunkType.END)


@dataclass(frozen=True)
class Copied:
    """What `replace_meta` did. reader: of the source, at its end. bytes, chunks: of the copy."""

    reader: StreamReader
    bytes: ByteCount
    chunks: int


class _Verbatim(StreamReader):
    """A reader that keeps the bytes of what it has taken: the header, then chunks, then a
    trailer."""

    def __init__(self, fileobj: SupportsRead | ByteSource, limits: Limits | None = None) -> None:
        self._taken: list[bytes] = []
        super().__init__(fileobj, limits)

    def _take(self, data: bytes) -> None:
        super()._take(data)
        self._taken.append(bytes(data))

    def pieces(self) -> list[bytes]:
        """What was taken since the last call."""
        pieces, self._taken = self._taken, []
        return pieces


def replace_meta(
    source: SupportsRead | ByteSource,
    target: SupportsWrite,
    change: Change,
    limits: Limits | None = None,
) -> Copied:
    """Copies one stream with other metadata, and reads and checks all of it on the way.

    change: gets the metadata ({} where there is none) and returns the new one; an empty one is not
    written.

    Raises:
        FormatError, CorruptError, TruncatedError: the source is no whole stream. UsageError: the
        new metadata is not plain JSON of at most 1 MiB.
    """
    reader = _Verbatim(source, limits)
    meta = change(reader.meta)
    header, *before = reader.pieces()
    copy = _Copy(target, header)
    if meta:
        data = encode_chunk(ChunkType.META, 0, encode_meta(meta))
        copy.put(data, meta=len(data))
    copy.put_ancillary(before)
    for chunk in reader.chunks():
        *before, audio = reader.pieces()
        copy.put_ancillary(before)
        copy.put_audio(audio, chunk)
    assert reader.total_samples is not None
    tail = reader.pieces()  # ancillary chunks, then END, or INDEX, END and the trailer
    ancillary = list(takewhile(lambda data: _kind(data) not in _LAST, tail))
    copy.put_ancillary(ancillary)
    copy.close(reader.frames, reader.total_samples, indexed=len(tail) > len(ancillary) + 1)
    return Copied(reader, copy.bytes, copy.chunks)


def _kind(data: bytes) -> int:
    """The type of a whole chunk."""
    return data[len(SYNC)]


class _Copy:
    """A stream that is being copied; knows what INDEX, END and the trailer must say."""

    def __init__(self, target: SupportsWrite, header: bytes) -> None:
        self._target = target
        self._chain = 0  # CRC-32 over the CRCs of header and chunks so far
        self.bytes = ByteCount()
        self._entries = bytearray()
        self.chunks = 0
        self._last_audio = 0  # offset of the last AUDIO chunk
        self.put(header)

    def put(self, data: bytes, payload: int = 0, meta: int = 0) -> None:
        """Bytes that end in their CRC; so many of them are coded symbols or metadata."""
        write_all(self._target, data, self.bytes.total)
        self._chain = zlib.crc32(data[-CRC_BYTES:], self._chain)
        self.bytes.add(len(data), payload, meta)

    def put_ancillary(self, chunks: Iterable[bytes]) -> None:
        """Chunks that are not AUDIO; metadata is left out."""
        for data in chunks:
            if _kind(data) != ChunkType.META:
                self.put(data)

    def put_audio(self, data: bytes, chunk: Chunk) -> None:
        """An AUDIO chunk, which INDEX will list."""
        self._entries += encode_index_entry(self.bytes.total - self._last_audio, chunk.frames)
        self._last_audio = self.bytes.total
        self.chunks += 1
        self.put(data, payload=len(chunk.payload))

    def close(self, frames: int, samples: int, *, indexed: bool) -> None:
        """Writes END, and with `indexed` INDEX before it and the trailer behind it, unless the
        index is longer than a chunk may be."""
        distance = self.bytes.total
        index = encode_index(distance, self.chunks, bytes(self._entries))
        indexed = indexed and len(index) <= lim.MAX_BODY
        if indexed:
            self.put(encode_chunk(ChunkType.INDEX, frames, index))
        self.put(encode_chunk(ChunkType.END, frames, encode_uvarint(samples), self._chain))
        if indexed:
            self.put(encode_trailer(self.bytes.total - distance))
