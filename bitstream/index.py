"""The INDEX of a stream: read from the end of a file, and compared with the chunks that came (SPEC,
section 4.4).
"""

import zlib
from typing import BinaryIO

from ravecodec.bitstream.container import (
    CRC_BYTES,
    MAX_CHUNK_HEADER_BYTES,
    TRAILER_BYTES,
    Chunk,
    ChunkType,
    IndexEntry,
    crc32_bytes,
    decode_chunk_header,
    decode_index,
    decode_trailer,
    encode_index,
    encode_index_entry,
)
from ravecodec.bitstream.limits import Limits
from ravecodec.bitstream.source import ByteSource
from ravecodec.bitstream.varint import Cursor
from ravecodec.errors import CorruptError, RavecodecError


class ListedChunks:
    """What the INDEX of a stream that begins at byte `start` must list: of the AUDIO chunks so far
    only the number and the CRC of their entries are kept.
    """

    def __init__(self, start: int) -> None:
        self._start = self._last = start
        self._crc = self._chunks = 0

    def add(self, chunk: Chunk) -> None:
        """The next AUDIO chunk."""
        self._crc = zlib.crc32(
            encode_index_entry(chunk.offset - self._last, chunk.frames), self._crc
        )
        self._last = chunk.offset
        self._chunks += 1

    def agrees(self, body: bytes, offset: int) -> bool:
        """Whether the body of the INDEX chunk at byte `offset` lists exactly these."""
        opening = encode_index(offset - self._start, self._chunks, b"")
        return body.startswith(opening) and zlib.crc32(body[len(opening) :]) == self._crc


def find_index(
    fileobj: BinaryIO, limits: Limits | None = None, start: int | None = None
) -> list[IndexEntry] | None:
    """The index at the end of a seekable file, or None if there is none that holds; the file's
    position is kept.

    start: the byte at which its stream must begin, if that is known: a file may hold several.

    It is only a hint: whatever is read through it is checked again, and a reader without it reads
    front to back.
    """
    here = fileobj.tell()
    try:
        return _read_index(fileobj, limits or Limits(), start)
    except RavecodecError:
        return None
    finally:
        fileobj.seek(here)


def _read_index(fileobj: BinaryIO, limits: Limits, start: int | None) -> list[IndexEntry]:
    name = str(getattr(fileobj, "name", "stream"))
    end = fileobj.seek(0, 2)
    at = fileobj.seek(max(0, end - TRAILER_BYTES))
    at = fileobj.seek(max(0, at - decode_trailer(fileobj.read(TRAILER_BYTES), at, name)))
    source = ByteSource(fileobj, at)
    head = decode_chunk_header(source.peek(MAX_CHUNK_HEADER_BYTES), at, name, limits)
    data = source.peek(head.total)
    if head.kind != ChunkType.INDEX or crc32_bytes(data[:-CRC_BYTES]) != data[-CRC_BYTES:]:
        raise CorruptError(f"{name}: no index at byte {at}")
    body = data[head.size : -CRC_BYTES]
    begins = at - Cursor(body, at + head.size, name).uvarint(at, "the index's distance")
    if start is not None and begins != start:
        raise CorruptError(
            f"{name}: the index at byte {at} is that of a stream at byte {begins}, expected {start}"
        )
    return decode_index(head, body, limits, name)
