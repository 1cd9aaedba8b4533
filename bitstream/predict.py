"""The predicted profile: each symbol is coded around a value foreseen from its axis' last two
frames (SPEC 7.3).

The model gives two integer weights per dim and the rows of what is left to code, the *residual*.
Sums of integers and shifts are all that encoder and decoder have to agree on, so the result is
exact on every machine. A chunk begins without a past, so that seeking and damage stay as they are.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ravecodec.bitstream.coder import Coder, best_coder
from ravecodec.bitstream.entropy import as_chunk, code_lengths, decode_escape, escape_bits
from ravecodec.bitstream.limits import MAX_CHUNK_SYMBOLS, MAX_SYMBOL
from ravecodec.bitstream.tables import COIN, OFFSETS, REACH, SCALES, SHAPES, row_index
from ravecodec.errors import CorruptError, ModelError

WEIGHT_ONE = 1 << 12  # a weight of one step per step: 1/256 of 1/16 of a step
HALF_STEP = 8  # in sixteenths
FEWEST = 64  # symbols of a dim from which weights are fitted
ROUNDS = 6  # of reweighted least squares
RIDGE = 8.0  # symbols' worth of trust in weights of zero
COUNTED = 64  # residuals beyond are counted as this when rows are fitted


@dataclass(frozen=True, eq=False)
class Predictor:
    """How symbols follow from the two before them, at every step index.

    weights: int16 [dims, 2], of the symbol one and two frames before, in 1/4096. shapes uint8,
    scales int16 [dims]: the residual's row at step index 0, as in `StaticModel`. ModelError if they
    do not fit.
    """

    weights: NDArray[np.int16]
    shapes: NDArray[np.uint8]
    scales: NDArray[np.int16]

    def __post_init__(self) -> None:
        dims = self.shapes.size
        if (
            self.weights.shape != (dims, 2)
            or self.shapes.shape != (dims,)
            or self.scales.shape != (dims,)
        ):
            found = (
                f"{list(self.weights.shape)}, {list(self.shapes.shape)} and "
                f"{list(self.scales.shape)}"
            )
            raise ModelError(
                f"the predictor's arrays have shapes {found}, expected [dims, 2], [dims] and [dims]"
            )
        dtypes = self.weights.dtype, self.shapes.dtype, self.scales.dtype
        if dtypes != (np.int16, np.uint8, np.int16):
            found = ", ".join(map(str, dtypes))
            raise ModelError(f"the predictor's arrays are {found}, expected int16, uint8, int16")
        if dims and self.shapes.max() >= len(SHAPES):
            raise ModelError(
                f"the predictor uses shape {self.shapes.max()}, expected below {len(SHAPES)}"
            )

    @property
    def dims(self) -> int:
        """Latent dims that can be predicted."""
        return self.shapes.size

    def foreseen(
        self, before: NDArray[np.integer], earlier: NDArray[np.integer]
    ) -> NDArray[np.int64]:
        """Expected symbols in sixteenths of a step, of the symbols one and two frames before; all
        [..., dims].
        """
        return _foreseen(self.weights[: before.shape[-1]].astype(np.int64).T, before, earlier)

    def rows(self, step_index: int, dims: int) -> NDArray[np.int64]:
        """Row numbers [dims] of residuals at a step index, at offset 0; ModelError if the model has
        fewer dims.
        """
        if dims > self.dims:
            raise ModelError(f"the model predicts {self.dims} dims, the stream codes {dims}")
        scales = self.scales[:dims].astype(np.int64) - step_index
        rows: NDArray[np.int64] = row_index(self.shapes[:dims].astype(np.int64), scales)
        return rows


def _foreseen(
    weights: NDArray[np.int64], before: NDArray[np.integer], earlier: NDArray[np.integer]
) -> NDArray[np.int64]:
    return (weights[0] * before + weights[1] * earlier + 128) >> 8


def expected(
    predictor: Predictor, symbols: NDArray[np.integer], past: NDArray[np.integer] | None = None
) -> NDArray[np.int64]:
    """`foreseen` of every frame [frames, dims]; past: the two frames before them [2, dims], zeros
    as for a chunk.
    """
    before = np.zeros((2, symbols.shape[1]), np.int64) if past is None else past
    joined = np.concatenate([before, symbols]).astype(np.int64)
    return predictor.foreseen(joined[1:-1], joined[:-2])


def split(mean: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Means in sixteenths -> the nearest whole step, and what is left: -8 .. 7 sixteenths."""
    whole = (mean + HALF_STEP) >> 4
    return whole, mean - 16 * whole


def encode_predicted(
    symbols: ArrayLike, predictor: Predictor, step_index: int, coder: Coder | None = None
) -> bytes | None:
    """Symbols int [frames, dims] of one chunk -> message without trailing zeros; None if a residual
    is too large.
    """
    array = as_chunk(symbols)
    rows = predictor.rows(step_index, array.shape[1])
    whole, offset = split(expected(predictor, array))
    residual = np.where(offset < 0, whole - array, array - whole)
    if np.abs(residual).max(initial=0) > MAX_SYMBOL:
        return None
    order, groups = _by_reach(rows)
    residual, its_rows = residual[:, order], (rows + np.abs(offset))[:, order]
    reach = _reach(rows[order])
    escaped = np.abs(residual) > reach
    indices = np.where(escaped, 2 * reach + 1, residual + reach).astype(np.int32)
    encoder = (coder or best_coder()).encoder()
    for frame in range(len(array)):
        for its_reach, dims in groups:
            encoder.encode_each(indices[frame, dims], its_rows[frame, dims], its_reach)
        if (beyond := escaped[frame]).any():
            pairs = zip(
                residual[frame, beyond].tolist(), its_rows[frame, beyond].tolist(), strict=True
            )
            bits = [bit for value, row in pairs for bit in escape_bits(value, row)]
            encoder.encode(np.array(bits, dtype=np.int32), COIN)
    return encoder.finish()


def decode_predicted(
    data: bytes,
    predictor: Predictor,
    step_index: int,
    frames: int,
    dims: int,
    coder: Coder | None = None,
) -> NDArray[np.int32]:
    """Message -> symbols int32 [frames, dims]; CorruptError if no encoder can have written it."""
    if frames * dims > MAX_CHUNK_SYMBOLS:
        raise CorruptError(
            f"{frames} frames of {dims} dims found, expected at most {MAX_CHUNK_SYMBOLS} symbols"
        )
    if data.endswith(b"\0"):
        raise CorruptError("a range-coder message ends in a zero byte, which no encoder writes")
    rows = predictor.rows(step_index, dims)
    order, groups = _by_reach(rows)
    weights, rows = predictor.weights[order].astype(np.int64).T, rows[order]
    reach = _reach(rows)
    decoder = (coder or best_coder()).decoder(data)
    indices = np.empty(dims, dtype=np.int64)
    # Dims in order of reach; two frames of zeros come first.
    symbols = np.zeros((frames + 2, dims), dtype=np.int64)
    for frame in range(2, frames + 2):
        whole, offset = split(_foreseen(weights, symbols[frame - 1], symbols[frame - 2]))
        its_rows = rows + np.abs(offset)
        for its_reach, its_dims in groups:
            indices[its_dims] = decoder.decode_each(its_rows[its_dims], its_reach)
        residual = indices - reach
        for at in np.flatnonzero(residual > reach):
            residual[at] = decode_escape(decoder, int(its_rows[at]))
        symbols[frame] = whole + np.where(offset < 0, -residual, residual)
        if np.abs(symbols[frame]).max(initial=0) > MAX_SYMBOL:
            raise CorruptError(f"a predicted symbol beyond {MAX_SYMBOL} either way")
    return symbols[2:, np.argsort(order)].astype(np.int32)


def _reach(rows: NDArray[np.int64]) -> NDArray[np.int64]:
    """Reach of every row."""
    return np.array(REACH)[rows // OFFSETS % SCALES]


def _by_reach(rows: NDArray[np.int64]) -> tuple[NDArray[np.intp], list[tuple[int, slice]]]:
    """The dims in order of the reach of their rows, and in that order the part that each reach
    has.
    """
    reach = _reach(rows)
    order = np.argsort(reach, kind="stable")
    values, counts = np.unique(reach, return_counts=True)
    ends = counts.cumsum()
    bounds = zip(values.tolist(), (ends - counts).tolist(), ends.tolist(), strict=True)
    return order, [(value, slice(begin, end)) for value, begin, end in bounds]


def predicted_code_lengths(
    symbols: NDArray[np.integer],
    predictor: Predictor,
    step_index: int,
    past: NDArray[np.integer] | None = None,
) -> NDArray[np.float64]:
    """Ideal bits of every symbol, float64 [frames, dims]; past as for `expected`."""
    whole, offset = split(expected(predictor, symbols, past))
    residual = np.where(offset < 0, whole - symbols, symbols - whole)
    bits = np.zeros(symbols.shape)
    for dim, row in enumerate(predictor.rows(step_index, symbols.shape[1]).tolist()):
        for step in np.unique(np.abs(offset[:, dim])):
            there = np.abs(offset[:, dim]) == step
            bits[there, dim] = code_lengths(residual[there, dim], row + int(step))
    return bits


# ---- fitting -------------------------------------------------------------------------------------


def fit_predictor(runs: Sequence[NDArray[np.int32]], step_index: int = 0) -> Predictor:
    """The predictor that suits these runs of successive frames, int32 [frames, dims] quantised at
    `step_index`.

    The first two frames of a run are only looked back to. Weights are those of least absolute
    deviations, by reweighted least squares, drawn a little towards zero; rows those of least code
    length. Fit at a fine step: the past is rounded less there, and every coarser step gains too.
    """
    runs = [run for run in runs if len(run) > 2] or [np.zeros((2, runs[0].shape[1]), np.int32)]
    symbols, before, earlier = (
        np.concatenate([run[first : len(run) - 2 + first] for run in runs]).astype(np.int64)
        for first in (2, 1, 0)
    )
    columns = zip(symbols.T, before.T, earlier.T, strict=True)
    weights = np.array([_fit_weights(*column) for column in columns]).reshape(-1, 2)
    scaled = np.clip(np.rint(weights * WEIGHT_ONE), -(1 << 15), (1 << 15) - 1).astype(np.int16)
    dims = symbols.shape[1]
    blank = Predictor(scaled, np.zeros(dims, np.uint8), np.zeros(dims, np.int16))
    whole, offset = split(blank.foreseen(before, earlier))
    residual = np.where(offset < 0, whole - symbols, symbols - whole)
    best = np.array(
        [_best_row(*column) for column in zip(residual.T, np.abs(offset).T, strict=True)]
    ).reshape(-1, 2)
    return Predictor(
        scaled, best[:, 0].astype(np.uint8), (best[:, 1] + step_index).astype(np.int16)
    )


def _fit_weights(
    now: NDArray[np.int64], before: NDArray[np.int64], earlier: NDArray[np.int64]
) -> NDArray[np.float64]:
    """The two weights of one dim."""
    past = np.stack([before, earlier], axis=1).astype(np.float64)
    weights, trust = np.zeros(2), np.ones(len(now))
    if len(now) < FEWEST:
        return weights
    for _ in range(ROUNDS):
        weighted = past * trust[:, None]
        weights = np.linalg.solve(
            weighted.T @ past + RIDGE * trust.mean() * np.eye(2), weighted.T @ now
        )
        missed = np.abs(now - past @ weights)
        trust = 1 / (missed + 0.5 * (missed.mean() + 0.2))
    return weights


def _best_row(residual: NDArray[np.int64], offset: NDArray[np.int64]) -> tuple[int, int]:
    """(shape, scale) of least code length; ties go to the larger scale, as in `fit_static`."""
    counts = np.zeros((OFFSETS, 2 * COUNTED + 1))
    np.add.at(counts, (offset, np.clip(residual, -COUNTED, COUNTED) + COUNTED), 1)
    at = np.nonzero(counts)
    costs = _all_lengths()[:, :, at[0], at[1]] @ counts[at]
    best = int(costs[:, ::-1].argmin())
    return best // SCALES, SCALES - 1 - best % SCALES


@lru_cache(maxsize=1)
def _all_lengths() -> NDArray[np.float64]:
    """Code lengths [shapes, scales, offsets, 2 COUNTED + 1] of small residuals under every row."""
    values = np.arange(-COUNTED, COUNTED + 1)
    rows = row_index(*np.meshgrid(range(len(SHAPES)), range(SCALES), range(OFFSETS), indexing="ij"))
    return np.array([code_lengths(values, int(row)) for row in rows.ravel()]).reshape(
        *rows.shape, len(values)
    )
