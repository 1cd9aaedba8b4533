"""Which range coder is used: constriction's where it exists and proves itself, the plain Python one
elsewhere.

The choice is made once, at the first use. Both give the same bytes; constriction must show it on a
fixed message first, so that a changed dependency costs speed and never a file.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from ravecodec.bitstream import rangecoder
from ravecodec.bitstream.tables import COIN, ROWS, row_reach


class Encoder(Protocol):
    """Appends table indices, then gives the message."""

    def encode(self, indices: NDArray[np.int32], row: int) -> None:
        """Append indices [n] of one row."""

    def encode_each(self, indices: NDArray[np.int32], rows: NDArray[np.int64], reach: int) -> None:
        """Append indices [n], each of a row of its own [n]; all rows are of this reach."""

    def finish(self) -> bytes:
        """The message, without trailing zero bytes."""


class Decoder(Protocol):
    """Reads table indices from a message; CorruptError where no encoder can have written it."""

    def decode(self, row: int, count: int) -> NDArray[np.int32]:
        """The next `count` indices of one row."""

    def decode_each(self, rows: NDArray[np.int64], reach: int) -> NDArray[np.int32]:
        """The next indices, each of a row of its own [n]; all rows are of this reach."""

    def decode_bit(self, row: int) -> int:
        """The next index."""


@dataclass(frozen=True)
class Coder:
    """One implementation of the range coder."""

    name: str
    encoder: Callable[[], Encoder]
    decoder: Callable[[bytes], Decoder]


PYTHON = Coder("python", rangecoder.RangeEncoder, rangecoder.RangeDecoder)


def self_test(coder: Coder) -> bool:
    """Whether a coder writes, on a message over rows of every kind, what the specification's
    arithmetic writes.
    """
    candidate, oracle = coder.encoder(), PYTHON.encoder()
    for row in (*range(0, ROWS, ROWS // 13), COIN):
        entries = 2 if row == COIN else 2 * row_reach(row) + 2
        indices = (np.arange(12) * 7 % entries).astype(np.int32)
        for each in (candidate, oracle):
            each.encode(indices, row)
            if row != COIN:
                each.encode_each(indices[:5], np.full(5, row), row_reach(row))
    return candidate.finish() == oracle.finish()


@lru_cache(maxsize=1)
def best_coder() -> Coder:
    """constriction's coder if it is installed and passes `self_test`, else the plain Python one."""
    try:
        from ravecodec.bitstream import fastcoder
    except ImportError:
        return PYTHON
    fast = Coder("constriction", fastcoder.RangeEncoder, fastcoder.RangeDecoder)
    return fast if self_test(fast) else PYTHON
