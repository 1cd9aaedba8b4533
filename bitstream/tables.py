"""The frozen family of integer frequency tables that belongs to the format (SPEC section 6).

A row is (shape, scale, offset): a density of that shape with standard deviation SIGMAS[scale] steps
and mean offset / 16 steps, integrated over the quantiser's cells and rounded to frequencies that
sum to 2^24. The scales are spaced by 2^(1/8), exactly as the quantiser's steps are, so a step that
is g eighths of an octave larger is the row g scales lower: another step never needs another table.
`maketables` documents how the numbers were made; the file is what counts, and it is checked against
its hash before it is used.
"""

import hashlib
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ravecodec.errors import ModelError

PRECISION_BITS = 24
SHAPES = ("gaussian", "logistic", "laplace", "power23", "power12")  # in order of growing tails
SCALES = 96
SIGMA_ONE = 40  # the scale whose sigma is exactly one step
OFFSETS = 9  # means of 0/16 .. 8/16 of a step; a negative mean codes the negated symbol
# From here on half a step is below a tenth of sigma, and one table serves every offset.
FINE_SCALES = 64
ROWS = len(SHAPES) * SCALES * OFFSETS
COIN = ROWS  # the table of one fair bit, which codes escapes
SIGMAS: NDArray[np.float64] = 2.0 ** ((np.arange(SCALES) - SIGMA_ONE) / 8)

TABLES_PATH = Path(__file__).with_name("tables.bin")
TABLES_SHA256 = "392c540f12f81d6eff81bb4dc094ed43a857ecdcf15b45c85b3569216184d108"


def reach_of(scale: int) -> int:
    """Largest |symbol| with a frequency of its own: R = max(4, ceil(4 sigma)), from
    R^8 >= 2^(scale - 24).
    """
    reach = 4
    while reach**8 < 2 ** max(scale - 24, 0):
        reach += 1
    return reach


def offsets_of(scale: int) -> int:
    """How many offsets the file holds for a scale."""
    return OFFSETS if scale < FINE_SCALES else 1


def escape_order(scale: int) -> int:
    """Order of the Exp-Golomb code behind the escape of a scale: max(0, floor(log2 sigma))."""
    return max(0, (scale - SIGMA_ONE) // 8)


def row_index(shape: Any, scale: Any, offset: Any = 0) -> Any:
    """Row number of (shape, scale, offset), integers or integer arrays; scale is clamped."""
    return (shape * SCALES + np.clip(scale, 0, SCALES - 1)) * OFFSETS + offset


def row_scale(row: int) -> int:
    """Scale of a row number."""
    return row // OFFSETS % SCALES


REACH = tuple(reach_of(scale) for scale in range(SCALES))


def row_reach(row: int) -> int:
    """Largest |symbol| that a row codes without escape; symbol q has index q + reach, the escape 2
    reach + 1.
    """
    return REACH[row_scale(row)]


@lru_cache(maxsize=1)
def _family() -> NDArray[np.uint32]:
    """All frequencies in file order, after the hash was checked."""
    try:
        data = TABLES_PATH.read_bytes()
    except OSError as error:
        raise ModelError(
            f"{TABLES_PATH}: the format's table family cannot be read ({error}); reinstall it"
        ) from error
    found = hashlib.sha256(data).hexdigest()
    if found != TABLES_SHA256:
        raise ModelError(
            f"{TABLES_PATH}: table family has SHA-256 {found}, expected {TABLES_SHA256}; reinstall "
            "it"
        )
    return np.frombuffer(data, dtype="<u4")


@lru_cache(maxsize=1)
def _starts() -> NDArray[np.int64]:
    """First entry of each row in the family; rows that share a table have the same start."""
    starts = np.zeros((len(SHAPES), SCALES, OFFSETS), dtype=np.int64)
    at = 0
    for shape in range(len(SHAPES)):
        for scale in range(SCALES):
            symbols = 2 * REACH[scale] + 2
            held = offsets_of(scale)
            starts[shape, scale] = at + symbols * np.minimum(np.arange(OFFSETS), held - 1)
            at += symbols * held
    return starts.reshape(-1)


def frequencies(row: int) -> NDArray[np.int64]:
    """Frequencies [2 reach + 2] of a row: each >= 1, sum 2^24; the last one is the escape.

    COIN: two halves.
    """
    if row == COIN:
        return np.full(2, 2 ** (PRECISION_BITS - 1), dtype=np.int64)
    start = int(_starts()[row])
    return _family()[start : start + 2 * row_reach(row) + 2].astype(np.int64)
