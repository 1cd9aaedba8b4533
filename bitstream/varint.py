"""Variable-length integers and a bounded cursor over bytes (SPEC section 2).

`uvarint` is LEB128: seven bits a byte, least significant first, the top bit set on all but the last
byte. Only the shortest encoding is legal, so one value has one byte string. `svarint` maps 0, -1,
1, -2 ... to 0, 1, 2, 3 ... first.
"""

from ravecodec.errors import CorruptError, TruncatedError


def encode_uvarint(value: int) -> bytes:
    """LEB128 bytes of an integer >= 0."""
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def encode_svarint(value: int) -> bytes:
    """LEB128 bytes of a signed integer, zigzag-mapped."""
    return encode_uvarint(2 * value if value >= 0 else -2 * value - 1)


class Cursor:
    """Reads fields from `data`, which stands at byte `offset` of the stream called `name`.

    Running out of bytes raises TruncatedError if `open_ended` (more of the stream should have
    followed) and CorruptError if not (the bytes are a complete, delimited field).
    """

    def __init__(self, data: bytes, offset: int, name: str, *, open_ended: bool = False) -> None:
        self.data = data
        self.pos = 0
        self._offset = offset
        self._name = name
        self._short: type[CorruptError] = TruncatedError if open_ended else CorruptError

    @property
    def offset(self) -> int:
        """Byte of the stream that is read next."""
        return self._offset + self.pos

    @property
    def left(self) -> int:
        """Bytes not yet read."""
        return len(self.data) - self.pos

    def fail(self, what: str, back: int = 0) -> CorruptError:
        """A CorruptError that names the stream and the byte, `back` bytes before the next one."""
        return CorruptError(f"{self._name}: {what} at byte {self.offset - back}")

    def take(self, count: int, what: str) -> bytes:
        """The next `count` bytes."""
        if self.left < count:
            raise self._short(
                f"{self._name}: {self.left} bytes where {what} needs {count}, at byte {self.offset}"
            )
        self.pos += count
        return self.data[self.pos - count : self.pos]

    def u8(self, what: str) -> int:
        """One byte."""
        return self.take(1, what)[0]

    def u32(self, what: str) -> int:
        """Four bytes, little-endian."""
        return int.from_bytes(self.take(4, what), "little")

    def rest(self) -> bytes:
        """Everything not yet read."""
        return self.take(self.left, "the rest")

    def uvarint(self, maximum: int, what: str) -> int:
        """A minimal LEB128 integer of at most `maximum`."""
        start, value, shift = self.pos, 0, 0
        while True:
            byte = self.u8(what)
            value |= (byte & 0x7F) << shift
            if value > maximum:
                raise self.fail(f"{what} is above its limit {maximum}", self.pos - start)
            if byte < 0x80:
                break
            shift += 7
            if (
                shift >= maximum.bit_length()
            ):  # one more bit would be above the maximum, none would be padding
                raise self.fail(f"{what} is an overlong varint", self.pos - start)
        if shift and not byte:
            raise self.fail(f"{what} is not in its shortest form", self.pos - start)
        return value

    def svarint(self, magnitude: int, what: str) -> int:
        """A zigzag-mapped integer in -magnitude .. magnitude."""
        mapped = self.uvarint(2 * magnitude, what)
        return -(mapped + 1) // 2 if mapped & 1 else mapped // 2

    def end(self, what: str) -> None:
        """Nothing may be left."""
        if self.left:
            raise self.fail(f"{self.left} bytes left over after {what}")
