"""MODEL chunks: a decoder that travels in the stream it belongs to, compressed and in parts (SPEC
section 4.5).

To this package the decoder is a file of so many bytes with a SHA-256; what is in it is for
`models`. Parts are collected as they come; nothing is unpacked before it is asked for.
"""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field

import zstandard

from ravecodec.bitstream.limits import MAX_BODY, MAX_MODEL, MAX_MODEL_PARTS
from ravecodec.bitstream.meta import inflate
from ravecodec.bitstream.varint import Cursor, encode_uvarint
from ravecodec.errors import CorruptError, UsageError

HASH_BYTES = 32
LEVEL = 3  # of zstd: weights are noise, and higher levels make more bytes of them
PART_BYTES = MAX_BODY - 64  # of the frame in each part; the rest is for the numbers before it


@dataclass(frozen=True)
class EmbeddedModel:
    """A decoder as a stream holds it.

    size, sha256: of the file that it unpacks to. frame: that file as one zstd frame.
    """

    size: int
    sha256: bytes
    frame: bytes = field(repr=False)

    @classmethod
    def of(cls, file: bytes) -> "EmbeddedModel":
        """From the file; UsageError if it is larger than the format allows."""
        compressor = zstandard.ZstdCompressor(
            level=LEVEL, write_checksum=True, write_content_size=True
        )
        frame = compressor.compress(file) if len(file) <= MAX_MODEL else b""
        if not 0 < len(file) <= MAX_MODEL or len(frame) > MAX_MODEL_PARTS * PART_BYTES:
            raise UsageError(
                f"a decoder of {len(file)} bytes cannot be embedded, expected 1 to {MAX_MODEL}"
            )
        return cls(len(file), hashlib.sha256(file).digest(), frame)

    def bodies(self) -> Iterator[bytes]:
        """The bodies of its MODEL chunks in order."""
        count = -(-len(self.frame) // PART_BYTES)
        for number in range(count):
            head = encode_uvarint(number) + encode_uvarint(count)
            if number == 0:
                head += encode_uvarint(self.size) + self.sha256
            yield head + self.frame[number * PART_BYTES :][:PART_BYTES]

    def unpack(self, name: str) -> bytes:
        """The file, in about twice its size of memory.

        CorruptError, naming the stream, unless it has the size and the hash that are announced.
        """
        try:
            file = inflate(self.frame, self.size)
        except (zstandard.ZstdError, ValueError) as error:
            raise CorruptError(f"{name}: the embedded model cannot be read: {error}") from error
        if (found := hashlib.sha256(file).digest()) != self.sha256:
            expected = f"expected {self.sha256.hex()}"
            raise CorruptError(f"{name}: the embedded model has SHA-256 {found.hex()}, {expected}")
        return file


@dataclass(frozen=True)
class ModelPart:
    """The body of a MODEL chunk. number: from 0; size and sha256: of the file, in part 0 alone."""

    number: int
    count: int
    size: int
    sha256: bytes
    piece: bytes = field(repr=False)


def decode_part(body: bytes, offset: int, name: str, maximum: int) -> ModelPart:
    """Body at byte `offset` of the stream -> part, all numbers checked; maximum: bytes that the
    file may have. CorruptError if it is anything else.
    """
    cursor = Cursor(body, offset, name)
    number = cursor.uvarint(MAX_MODEL_PARTS - 1, "the number of a part of the model")
    count = cursor.uvarint(MAX_MODEL_PARTS, "the parts of the model")
    if number >= count:
        raise cursor.fail(f"part {number} of a model of {count} parts, counted from 0")
    size, sha256 = 0, b""
    if number == 0:
        size = cursor.uvarint(maximum, "the model's size")
        sha256 = cursor.take(HASH_BYTES, "the model's hash")
    if not cursor.left or not (size or number):
        raise cursor.fail("a part of the model is empty")
    return ModelPart(number, count, size, sha256, cursor.rest())


class ModelParts:
    """Collects the parts of a stream's model."""

    def __init__(self) -> None:
        self._first: ModelPart | None = None
        self._pieces: list[bytes] = []

    @property
    def expected(self) -> int | None:
        """The number of the part that comes next; None where none may, or none need."""
        if self._first is None:
            return 0
        return len(self._pieces) if len(self._pieces) < self._first.count else None

    @property
    def begun(self) -> bool:
        """Whether parts are missing behind those that came."""
        return self._first is not None and self.expected is not None

    def fits(self, part: ModelPart) -> bool:
        """Whether this is the part that comes next."""
        count = self._first.count if self._first else part.count
        return (part.number, part.count) == (self.expected, count)

    def add(self, part: ModelPart) -> None:
        """Takes a part that fits."""
        self._first = self._first or part
        self._pieces.append(part.piece)

    def whole(self) -> EmbeddedModel | None:
        """The model, None unless all of its parts came."""
        if self._first is None or self.begun:
            return None
        return EmbeddedModel(self._first.size, self._first.sha256, b"".join(self._pieces))
