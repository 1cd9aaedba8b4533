"""What a model file says about coding: the quantiser's units, entropy tables and operating point.

No torch.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

PREDICTION = "coding.prediction."  # before the names of its arrays in a model file
QUALITIES = 11  # from 0 to 10


@dataclass(frozen=True, eq=False)
class Prediction:
    """How symbols follow from those before them (SPEC section 7.3).

    weights: int16 [latent, 2], of the symbol one and two frames before, in 1/4096. shapes uint8,
    scales int16 [latent]: row of the frozen table family for what is left to code, at step index 0.
    """

    weights: NDArray[np.int16]
    shapes: NDArray[np.uint8]
    scales: NDArray[np.int16]

    @classmethod
    def of(cls, arrays: Mapping[str, np.ndarray]) -> Prediction | None:
        """From the arrays of a model file by their names; None if it has none."""
        found = {
            name.removeprefix(PREDICTION): array
            for name, array in arrays.items()
            if name.startswith(PREDICTION)
        }
        return cls(**found) if found else None

    def arrays(self) -> dict[str, np.ndarray]:
        """Arrays of a model file by their names, as `of` takes them."""
        return {PREDICTION + name: getattr(self, name) for name in ("weights", "shapes", "scales")}


@dataclass(frozen=True)
class Rung:
    """An operating point of a ladder, and what was measured there.

    dims, step_index: the point. kbps: of coded symbols, kbit/s; distance: of the decoded audio to
    the original (`losses.stereo_distance`). Both are means over the excerpts of the measurement.
    """

    dims: int
    step_index: int
    kbps: float
    distance: float


@dataclass(frozen=True)
class Coding:
    """How axis vectors become symbols; all arrays are [latent].

    base: float64, quantiser step of each axis at step index 0; shapes uint8, scales int16: row of
    the frozen table family for each axis at step index 0; dims, step_index: the default operating
    point. `fill` says whether cropped axes are filled from the prior; effort: the level at which
    the encoder works by default. prediction: None for a model whose streams are coded with static
    tables alone. ladder: the operating points of qualities 0 to 10, from coarse to fine; empty for
    a model whose curve of rate and quality was not measured.
    """

    base: np.ndarray
    shapes: np.ndarray
    scales: np.ndarray
    dims: int
    step_index: int
    fill: bool
    effort: int = 0
    prediction: Prediction | None = None
    ladder: tuple[Rung, ...] = ()
