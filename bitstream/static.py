"""The tables of a model: which row of the frozen family each latent dim uses (SPEC section 7.2).

A model file carries only two small integers per dim. At step index g the quantiser's step is
2^(g/8) times the base step, so the symbols' standard deviation is 2^(-g/8) times what it was and
the row is exactly g scales lower.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ravecodec.bitstream.entropy import as_symbols, code_lengths
from ravecodec.bitstream.predict import Predictor
from ravecodec.bitstream.tables import SCALES, SHAPES, row_index
from ravecodec.errors import ModelError


@dataclass(frozen=True, eq=False)
class StaticModel:
    """Rows at step index 0: shapes uint8 [dims] (index into SHAPES), scales int16 [dims] (index
    into SIGMAS).

    A scale may lie outside 0 .. 95: it is clamped only after the step's shift. predictor: for the
    predicted profile, of as many dims, if the model has one. ModelError if shapes do not fit.
    """

    shapes: NDArray[np.uint8]
    scales: NDArray[np.int16]
    predictor: Predictor | None = None

    def __post_init__(self) -> None:
        if self.shapes.ndim != 1 or self.shapes.shape != self.scales.shape:
            found = f"{list(self.shapes.shape)} and {list(self.scales.shape)}"
            raise ModelError(f"the static tables have shapes {found}, expected one entry per dim")
        if self.shapes.dtype != np.uint8 or self.scales.dtype != np.int16:
            raise ModelError(
                f"the static tables are {self.shapes.dtype}, {self.scales.dtype}, expected uint8, "
                "int16"
            )
        if self.shapes.size and self.shapes.max() >= len(SHAPES):
            raise ModelError(
                f"the static tables use shape {self.shapes.max()}, expected below {len(SHAPES)}"
            )
        if self.predictor and self.predictor.dims != self.dims:
            raise ModelError(
                f"the predictor is for {self.predictor.dims} dims, expected {self.dims} as the "
                "tables"
            )

    @property
    def dims(self) -> int:
        """Latent dims that the model can code."""
        return self.shapes.size

    def rows(self, step_index: int, dims: int | None = None) -> NDArray[np.int64]:
        """Row numbers [dims] at a step index, of the first `dims` dims; ModelError if the model has
        fewer.
        """
        dims = self.dims if dims is None else dims
        if dims > self.dims:
            raise ModelError(f"the model has tables for {self.dims} dims, the stream codes {dims}")
        return static_rows(self.shapes[:dims], self.scales[:dims], step_index)


def static_rows(
    shapes: NDArray[np.uint8], scales: NDArray[np.int16], step_index: int
) -> NDArray[np.int64]:
    """Row numbers [dims]: scale - step_index, clamped to the family, offset 0."""
    rows: NDArray[np.int64] = row_index(
        shapes.astype(np.int64), scales.astype(np.int64) - step_index
    )
    return rows


def fit_static(symbols: ArrayLike, step_index: int = 0) -> StaticModel:
    """The rows of least code length for symbols int [n, dims] that were quantised at `step_index`.

    Fit at the finest step of interest: where all symbols of a dim are 0 nothing but an upper bound
    of its scale is visible. Ties go to the larger scale, which costs least when the step shrinks.
    """
    array = as_symbols(symbols)
    values, inverse = np.unique(array, return_inverse=True)
    counts = np.zeros((array.shape[1], values.size), dtype=np.int64)
    for dim, column in enumerate(inverse.reshape(array.shape).T):
        counts[dim] = np.bincount(column, minlength=values.size)
    costs = np.empty((len(SHAPES), SCALES, array.shape[1]))
    for shape in range(len(SHAPES)):
        for scale in range(SCALES):
            costs[shape, scale] = counts @ code_lengths(values, int(row_index(shape, scale)))
    best = costs[:, ::-1].reshape(len(SHAPES) * SCALES, array.shape[1]).argmin(axis=0)
    shapes, scales = best // SCALES, SCALES - 1 - best % SCALES
    return StaticModel(shapes.astype(np.uint8), (scales + step_index).astype(np.int16))
