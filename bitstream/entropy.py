"""Symbols of one chunk <-> bytes, in the profiles raw and static (SPEC section 7); `predict` has
the third.

A chunk's symbols are int [frames, dims]. The static profile codes each dim with one row of the
table family, dim by dim; a symbol beyond the row's reach is coded as the row's escape, and what is
missing follows behind the dim in fair bits. The raw profile needs no table: every symbol in the
same number of bits.
"""

import math
from enum import IntEnum

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ravecodec.bitstream.coder import Coder, Decoder, best_coder
from ravecodec.bitstream.limits import MAX_CHUNK_SYMBOLS, MAX_SYMBOL
from ravecodec.bitstream.tables import (
    COIN,
    PRECISION_BITS,
    ROWS,
    escape_order,
    frequencies,
    row_reach,
    row_scale,
)
from ravecodec.errors import CorruptError, InputError, UsageError

MAX_PREFIX = MAX_SYMBOL.bit_length()  # no legal escape has more leading zeros


class Profile(IntEnum):
    """How a chunk's symbols are coded."""

    RAW = 0
    STATIC = 1
    PREDICTED = 2  # since format 1.1


def as_symbols(symbols: ArrayLike) -> NDArray[np.int32]:
    """int32 [frames, dims]; UsageError for another kind or shape, InputError beyond +-32767."""
    array = np.asarray(symbols)
    if array.ndim != 2 or array.dtype.kind not in "iu":
        raise UsageError(
            f"symbols are {array.dtype} {list(array.shape)}, expected integers [frames, dims]"
        )
    if array.size and (array.max() > MAX_SYMBOL or array.min() < -MAX_SYMBOL):
        worst = max(int(array.max()), int(array.min()), key=abs)
        raise InputError(
            f"symbol {worst} found, expected at most {MAX_SYMBOL} either way: the step is too small"
        )
    return array.astype(np.int32)


def as_chunk(symbols: ArrayLike) -> NDArray[np.int32]:
    """Like `as_symbols`, and raises UsageError for more symbols than one chunk may hold."""
    array = as_symbols(symbols)
    if array.size > MAX_CHUNK_SYMBOLS:
        raise UsageError(f"{array.size} symbols in one chunk, expected at most {MAX_CHUNK_SYMBOLS}")
    return array


def as_rows(rows: ArrayLike, dims: int) -> list[int]:
    """Row numbers as a list; UsageError unless there is one known row per dim."""
    array = np.asarray(rows)
    if array.shape != (dims,):
        raise UsageError(f"{list(array.shape)} rows for {dims} dims, expected one each")
    if dims and (array.dtype.kind not in "iu" or array.min() < 0 or array.max() >= ROWS):
        raise UsageError(f"a row outside 0 .. {ROWS - 1}")
    return [int(row) for row in array]


# ---- static --------------------------------------------------------------------------------------


def encode_symbols(symbols: ArrayLike, rows: ArrayLike, coder: Coder | None = None) -> bytes:
    """Static profile: symbols int [frames, dims] with one row number per dim -> message without
    trailing zeros.
    """
    array = as_chunk(symbols)
    encoder = (coder or best_coder()).encoder()
    for column, row in zip(array.T, as_rows(rows, array.shape[1]), strict=True):
        reach = row_reach(row)
        escaped = np.abs(column) > reach
        encoder.encode(np.where(escaped, 2 * reach + 1, column + reach).astype(np.int32), row)
        if escaped.any():
            bits = [bit for symbol in column[escaped].tolist() for bit in escape_bits(symbol, row)]
            encoder.encode(np.array(bits, dtype=np.int32), COIN)
    return encoder.finish()


def decode_symbols(
    data: bytes, rows: ArrayLike, frames: int, dims: int, coder: Coder | None = None
) -> NDArray[np.int32]:
    """Static profile: message -> symbols int32 [frames, dims]; CorruptError if no encoder can have
    written it.

    A damaged message mostly decodes to wrong symbols: only the chunk's CRCs can tell.
    """
    if frames * dims > MAX_CHUNK_SYMBOLS:
        raise CorruptError(
            f"{frames} frames of {dims} dims found, expected at most {MAX_CHUNK_SYMBOLS} symbols"
        )
    if data.endswith(b"\0"):
        raise CorruptError("a range-coder message ends in a zero byte, which no encoder writes")
    decoder = (coder or best_coder()).decoder(data)
    symbols = np.empty((dims, frames), dtype=np.int32)
    for dim, row in enumerate(as_rows(rows, dims)):
        reach = row_reach(row)
        indices = decoder.decode(row, frames)
        symbols[dim] = indices - reach
        for frame in np.flatnonzero(indices == 2 * reach + 1):
            symbols[dim, frame] = decode_escape(decoder, row)
    return np.ascontiguousarray(symbols.T)


def escape_bits(symbol: int, row: int) -> list[int]:
    """Fair bits of a symbol beyond the row's reach: sign, then Exp-Golomb of order k of |symbol| -
    reach - 1.
    """
    order = escape_order(row_scale(row))
    excess = abs(symbol) - row_reach(row) - 1
    prefix = (excess >> order) + 1  # n zeros, then its n + 1 bits
    text = (
        "0" * (prefix.bit_length() - 1)
        + f"{prefix:b}"
        + (f"{excess % (1 << order):0{order}b}" if order else "")
    )
    return [int(symbol < 0), *map(int, text)]


def decode_escape(decoder: Decoder, row: int) -> int:
    """The symbol behind an escape."""
    negative = decoder.decode_bit(COIN)
    zeros = 0
    while not decoder.decode_bit(COIN):
        zeros += 1
        if zeros > MAX_PREFIX:
            raise CorruptError(
                f"an escape of more than {MAX_PREFIX} zeros, which no encoder writes"
            )
    order = escape_order(row_scale(row))
    value = 1
    for _ in range(zeros + order):
        value = value << 1 | decoder.decode_bit(COIN)
    magnitude = value - (1 << order) + row_reach(row) + 1
    if magnitude > MAX_SYMBOL:
        raise CorruptError(f"an escape to symbol {magnitude}, expected at most {MAX_SYMBOL}")
    return -magnitude if negative else magnitude


# ---- raw -----------------------------------------------------------------------------------------


def raw_width(symbols: NDArray[np.int32]) -> int:
    """Bits per symbol in the raw profile, 0 .. 16: enough for the largest zigzag value."""
    return int(zigzag(symbols).max(initial=0)).bit_length()


def raw_size(symbols: NDArray[np.int32]) -> int:
    """Bytes of the raw profile."""
    return 1 + math.ceil(symbols.size * raw_width(symbols) / 8)


def zigzag(symbols: NDArray[np.int32]) -> NDArray[np.int32]:
    """0, -1, 1, -2, 2 ... -> 0, 1, 2, 3, 4 ..."""
    return (symbols << 1) ^ (symbols >> 31)


def encode_raw(symbols: ArrayLike) -> bytes:
    """Raw profile: a byte w, then each zigzag value in w bits, most significant first, frame by
    frame, zero-padded.
    """
    array = as_chunk(symbols)
    width = raw_width(array)
    shifts = np.arange(width - 1, -1, -1)
    bits = (zigzag(array).reshape(-1, 1) >> shifts & 1).astype(np.uint8)
    return bytes([width]) + np.packbits(bits).tobytes()


def decode_raw(data: bytes, frames: int, dims: int) -> NDArray[np.int32]:
    """Raw profile: bytes -> symbols int32 [frames, dims]; CorruptError unless they are what
    encode_raw writes.
    """
    count, width = frames * dims, data[0] if data else 99
    if count > MAX_CHUNK_SYMBOLS or width > 16 or len(data) != 1 + math.ceil(count * width / 8):
        raise CorruptError(
            f"{len(data)} bytes of width {width} do not hold {frames} frames of {dims} dims"
        )
    bits = np.unpackbits(np.frombuffer(data, dtype=np.uint8, offset=1))[: count * width].reshape(
        count, width
    )
    values = bits.astype(np.int32) @ (1 << np.arange(width - 1, -1, -1, dtype=np.int32))
    symbols = ((values >> 1) ^ -(values & 1)).reshape(frames, dims).astype(np.int32)
    if np.abs(symbols).max(initial=0) > MAX_SYMBOL or encode_raw(symbols) != data:
        raise CorruptError("a raw payload that no encoder writes")
    return symbols


# ---- code lengths --------------------------------------------------------------------------------


def code_lengths(values: ArrayLike, row: int) -> NDArray[np.float64]:
    """Ideal bits [n] of symbols [n] under one row, escapes included."""
    magnitudes = np.abs(np.asarray(values, dtype=np.int64))
    reach, order = row_reach(row), escape_order(row_scale(row))
    bits = PRECISION_BITS - np.log2(frequencies(row))
    index = np.where(magnitudes > reach, 2 * reach + 1, np.asarray(values) + reach)
    prefix = (np.maximum(magnitudes - reach - 1, 0) >> order) + 1
    escape = 2 * np.frexp(prefix)[1] + order  # sign, n zeros, n + 1 bits, order bits
    return bits[index] + np.where(magnitudes > reach, escape, 0)


def ideal_code_length(symbols: ArrayLike, rows: ArrayLike) -> float:
    """Bits that a perfect coder would need for symbols [frames, dims] with one row per dim."""
    array = as_symbols(symbols)
    pairs = zip(array.T, as_rows(rows, array.shape[1]), strict=True)
    return float(sum(code_lengths(column, row).sum() for column, row in pairs))
