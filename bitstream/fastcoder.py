"""The range coder of `rangecoder`, done by constriction: the same bytes, twenty to a hundred times
faster.

Importing this module raises ImportError where constriction has no wheel. Three traps are closed
here and only here: `Categorical` must get weights p - 1 as float64 with perfect=False (then its
cumulative frequencies are exactly the integers p, whatever the machine, and nothing is printed on
stdout); KeyError, AssertionError and the BaseException PanicException must not leave; and its own
flush is up to two words, so `finish` trims it.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import constriction
import numpy as np
from numpy.typing import NDArray

from ravecodec.bitstream.rangecoder import STATE, shortest_bytes
from ravecodec.bitstream.tables import ROWS, frequencies, row_reach
from ravecodec.errors import CorruptError


@cache
def model(row: int) -> Any:
    """constriction's model of a row: with weights p - 1 its scale (2^24 - K) / sum(p - 1) is
    exactly one.
    """
    weights = (frequencies(row) - 1).astype(np.float64)
    return constriction.stream.model.Categorical(weights, perfect=False)


# Of rows that are given with each call.
EACH: Any = constriction.stream.model.Categorical(perfect=False)


@cache
def weights(reach: int) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """(weights p - 1 of all rows of this reach [rows, 2 reach + 2], where each row number of the
    family is in them).
    """
    rows = [row for row in range(ROWS) if row_reach(row) == reach]
    places = np.full(ROWS, -1, dtype=np.int64)
    places[rows] = np.arange(len(rows))
    return np.array([frequencies(row) - 1 for row in rows], dtype=np.float64), places


@contextmanager
def _own_errors() -> Iterator[None]:
    """Turn everything constriction raises about data into CorruptError."""
    try:
        yield
    except (AssertionError, KeyError, ValueError) as error:
        raise CorruptError("the range coder's data is not a possible message") from error
    except BaseException as error:
        if type(error).__name__ != "PanicException":
            raise
        raise CorruptError(f"the range coder gave up: {error}") from error


class RangeEncoder:
    """Encodes table indices; `finish` gives the bytes."""

    def __init__(self) -> None:
        self._coder = constriction.stream.queue.RangeEncoder()

    def encode(self, indices: NDArray[np.int32], row: int) -> None:
        """Append indices [n] coded with one row; each index is below the row's length."""
        with _own_errors():
            self._coder.encode(np.ascontiguousarray(indices, dtype=np.int32), model(row))

    def encode_each(self, indices: NDArray[np.int32], rows: NDArray[np.int64], reach: int) -> None:
        """Append indices [n], each coded with a row of its own [n]; all rows are of this reach."""
        held, places = weights(reach)
        with _own_errors():
            self._coder.encode(
                np.ascontiguousarray(indices, dtype=np.int32),
                EACH,
                held.take(places.take(rows), axis=0),
            )

    def finish(self) -> bytes:
        """The message.

        constriction's own flush lies in the final interval; its state gives the interval's low end.
        """
        words, (low, width) = self._coder.pos()
        size = 4 * words + 8
        sealed = self._coder.get_compressed().astype(">u4").tobytes().ljust(size, b"\0")
        inside = int.from_bytes(sealed, "big")
        return shortest_bytes(inside - (inside - low) % STATE, width, size)


class RangeDecoder:
    """Decodes table indices; past the end of the data it reads zeros."""

    def __init__(self, data: bytes) -> None:
        words = np.frombuffer(data + bytes(-len(data) % 4), dtype=">u4").astype(np.uint32)
        with _own_errors():
            self._coder = constriction.stream.queue.RangeDecoder(words)

    def decode(self, row: int, count: int) -> NDArray[np.int32]:
        """The next `count` indices, int32 [count]; CorruptError if the data cannot come from an
        encoder.
        """
        with _own_errors():
            return np.asarray(self._coder.decode(model(row), count), dtype=np.int32)

    def decode_each(self, rows: NDArray[np.int64], reach: int) -> NDArray[np.int32]:
        """The next indices, int32 [n], each of a row of its own [n]; all rows are of this reach."""
        held, places = weights(reach)
        with _own_errors():
            return np.asarray(
                self._coder.decode(EACH, held.take(places.take(rows), axis=0)), dtype=np.int32
            )

    def decode_bit(self, row: int) -> int:
        """One index."""
        with _own_errors():
            return int(self._coder.decode(model(row)))
