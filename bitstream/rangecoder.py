"""The range coder in plain Python integers: the specification's arithmetic, word for word (SPEC
section 5).

It is the test oracle for `fastcoder` and does the work where constriction has no wheel (about 0.5
million symbols a second). The message is a number in the unit interval; every symbol narrows an
interval [low, low + range), of which the coder keeps 64 bits. At the end the shortest byte string
that lies inside, read as a fraction, is the message.
"""

from bisect import bisect_right
from functools import cache
from itertools import accumulate

import numpy as np
from numpy.typing import NDArray

from ravecodec.bitstream.tables import PRECISION_BITS, frequencies
from ravecodec.errors import CorruptError

WORD_BITS = 32
WORD = 1 << WORD_BITS
STATE = 1 << 64


@cache
def cumulative(row: int) -> tuple[int, ...]:
    """0, p_0, p_0 + p_1, ..., 2^24 of a row."""
    return (0, *accumulate(frequencies(row).tolist()))


def shortest_bytes(low: int, width: int, size: int) -> bytes:
    """The shortest byte string B whose value B 00 00 ..., seen as a `size`-byte number, is in [low,
    low + width).

    width < 2^64. An interval narrower than 2^64 holds at most one multiple of 2^64, so trying to
    drop 8, 7, ... 0 bytes and then dropping trailing zeros finds the shortest; of that length it is
    the smallest.
    """
    for dropped in range(8, -1, -1):
        value = -(-low >> 8 * dropped) << 8 * dropped
        if value < low + width:
            return value.to_bytes(size, "big").rstrip(b"\0")
    raise AssertionError("an interval always holds its own low end")


class RangeEncoder:
    """Encodes table indices; `finish` gives the bytes."""

    def __init__(self) -> None:
        self._words: list[int] = []
        self._low = 0
        self._range = STATE - 1

    def encode(self, indices: NDArray[np.int32], row: int) -> None:
        """Append indices [n] coded with one row; each index is below the row's length."""
        cum = cumulative(row)
        for index in indices.tolist():
            scale = self._range >> PRECISION_BITS
            self._low += scale * cum[index]
            self._range = scale * (cum[index + 1] - cum[index])
            if self._low >= STATE:
                self._carry()
            if self._range < WORD:
                self._words.append(self._low >> WORD_BITS)
                self._low = (self._low << WORD_BITS) % STATE
                self._range <<= WORD_BITS

    def encode_each(self, indices: NDArray[np.int32], rows: NDArray[np.int64], reach: int) -> None:
        """Append indices [n], each coded with a row of its own [n]; all rows are of this reach."""
        for index, row in zip(indices, rows.tolist(), strict=True):
            self.encode(index[None], row)

    def _carry(self) -> None:
        """Move the overflow of `low` into the words already put out."""
        self._low -= STATE
        at = len(self._words) - 1
        while self._words[at] == WORD - 1:
            self._words[at] = 0
            at -= 1
        self._words[at] += 1

    def finish(self) -> bytes:
        """The message."""
        head = np.array(self._words, dtype=">u4").tobytes()
        low = int.from_bytes(head, "big") << 64 | self._low
        return shortest_bytes(low, self._range, len(head) + 8)


class RangeDecoder:
    """Decodes table indices; past the end of the data it reads zeros."""

    def __init__(self, data: bytes) -> None:
        padded = data + bytes(-len(data) % 4 + 8)
        self._words = iter(np.frombuffer(padded, dtype=">u4").tolist())
        self._range = STATE - 1
        self._above = next(self._words) << WORD_BITS | next(self._words)  # message minus low

    def decode(self, row: int, count: int) -> NDArray[np.int32]:
        """The next `count` indices, int32 [count]; CorruptError if the data cannot come from an
        encoder.
        """
        cum = cumulative(row)
        return np.array([self._decode_one(cum) for _ in range(count)], dtype=np.int32)

    def decode_each(self, rows: NDArray[np.int64], reach: int) -> NDArray[np.int32]:
        """The next indices, int32 [n], each of a row of its own [n]; all rows are of this reach."""
        return np.array(
            [self._decode_one(cumulative(row)) for row in rows.tolist()], dtype=np.int32
        )

    def decode_bit(self, row: int) -> int:
        """One index."""
        return self._decode_one(cumulative(row))

    def _decode_one(self, cum: tuple[int, ...]) -> int:
        scale = self._range >> PRECISION_BITS
        target = self._above // scale
        if target >= 1 << PRECISION_BITS:
            raise CorruptError("the range coder's data is not a possible message")
        index = bisect_right(cum, target) - 1
        self._above -= scale * cum[index]
        self._range = scale * (cum[index + 1] - cum[index])
        if self._range < WORD:
            self._above = self._above << WORD_BITS | next(self._words, 0)
            self._range <<= WORD_BITS
        return index
