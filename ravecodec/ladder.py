"""Qualities 0 to 10: which operating point each of them is, with any model.

A model file holds a ladder that was made of its measured curve of rate and quality (`curve.py`).
Where it holds none, the ladder follows from its latent analysis: at a coarser step the tables say
what every axis costs, and axes that cost next to nothing are not sent. No torch.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from ravecodec.bitstream.tables import PRECISION_BITS, frequencies
from ravecodec.errors import UsageError
from ravecodec.models.coding import QUALITIES, Coding, Rung
from ravecodec.tables import tables_of

STANDARD = QUALITIES // 2  # the quality at the rate of the model's default operating point
WORDS = {"small": 2, "standard": STANDARD, "best": QUALITIES - 1}
WORTHWHILE = 0.02  # bits per frame: axes that cost less are cropped, they are all but always zero
COARSER, FINER = 20, 15  # steps from a model's own to quality 0 and 10, where no curve was measured
SPAN = 2.0  # between the rates of quality 0 and 10; a curve that is shorter says nothing
LOWEST = 8.0  # quality 0 has at least this part of the standard quality's rate


def quality_of(value: object) -> int:
    """A quality as a number: 0 to 10, or one of WORDS; UsageError for anything else."""
    found = None
    if isinstance(value, str):
        digits = value.isascii() and value.isdigit() and len(value) <= 2
        found = WORDS.get(value, int(value) if digits else None)
    elif isinstance(value, int | np.integer) and not isinstance(value, bool):
        found = int(value)
    if found is None or found not in range(QUALITIES):
        expected = f"0 to {QUALITIES - 1}, {', '.join(WORDS)}"
        raise UsageError(f"quality is {value!r}, expected one of {expected}")
    return found


def ladder_of(coding: Coding) -> tuple[Rung, ...]:
    """The operating points of qualities 0 to 10: those of the model, or derived ones."""
    return coding.ladder or derived_ladder(coding)


# ---- from a measured curve -----------------------------------------------------------------------


def ladder_from(points: Sequence[Rung], kbps: float) -> tuple[Rung, ...]:
    """Qualities 0 to 10 along the hull of measured points, evenly in the logarithm of the rate:
    from the lowest rate over `kbps`, that of the model's default point, to the highest. The lowest
    is that of the curve, which may end where hardly anything is sent, or a LOWEST part of `kbps`.

    Empty if the hull spans less than an octave of rate: then it has nothing to choose from.
    """
    corners = hull(points)
    low, high = corners[0].kbps, corners[-1].kbps
    if low <= 0 or high < SPAN * low:
        return ()
    middle = min(max(kbps, low), high)
    lower = np.geomspace(max(low, middle / LOWEST), middle, STANDARD + 1)
    upper = np.geomspace(middle, high, QUALITIES - STANDARD)
    return tuple(_between(corners, float(rate)) for rate in [*lower, *upper[1:]])


def hull(points: Sequence[Rung]) -> list[Rung]:
    """The corners of the lower convex hull of (rate, distance), from the lowest rate to the least
    distance: between two of them no point is nearer to the original at the same rate.
    """
    corners: list[Rung] = []
    for point in sorted(points, key=lambda p: (p.kbps, p.distance)):
        if corners and point.distance >= corners[-1].distance:
            continue
        while len(corners) > 1 and _above(corners[-2], corners[-1], point):
            corners.pop()
        corners.append(point)
    return corners


def _above(first: Rung, middle: Rung, last: Rung) -> bool:
    """Whether the middle point lies on or above the line between the others."""
    share = (middle.kbps - first.kbps) / (last.kbps - first.kbps)
    return middle.distance >= first.distance + share * (last.distance - first.distance)


def _between(corners: Sequence[Rung], kbps: float) -> Rung:
    """The point of the hull at a rate: dims, step and distance between those of two corners."""
    rates = np.log([corner.kbps for corner in corners])
    at = math.log(kbps)
    dims, step, distance = (
        float(np.interp(at, rates, [getattr(corner, name) for corner in corners]))
        for name in ("dims", "step_index", "distance")
    )
    return Rung(round(dims), round(step), round(kbps, 4), round(distance, 5))


# ---- from the latent analysis --------------------------------------------------------------------


def derived_ladder(coding: Coding) -> tuple[Rung, ...]:
    """The same for a model whose curve was not measured: even steps around its default point, which
    is the standard quality, each with the axes that are worth their bits there. Rates and distances
    are not known, and 0.
    """
    return tuple(_derived(coding))


def _derived(coding: Coding) -> Iterator[Rung]:
    for quality in range(QUALITIES):
        away = STANDARD - quality
        step = coding.step_index + round(away * (COARSER if away > 0 else FINER) / STANDARD)
        worth = worthwhile_dims(coding, step)
        if away > 0:
            worth = min(worth, coding.dims)
        elif away < 0:
            worth = max(worth, coding.dims)
        yield Rung(coding.dims if not away else worth, step, 0.0, 0.0)


def worthwhile_dims(coding: Coding, step_index: int) -> int:
    """How many axes cost more than WORTHWHILE bits per frame at a step, up to the last such; at
    least 1.
    """
    worth = np.flatnonzero(axis_bits(coding, step_index) > WORTHWHILE)
    return int(worth[-1]) + 1 if len(worth) else 1


def axis_bits(coding: Coding, step_index: int) -> NDArray[np.float64]:
    """Bits per frame [latent] that the model's own tables expect of each axis at a step."""
    static = tables_of(coding)
    rows = (static.predictor or static).rows(step_index, static.dims)
    return np.array([_entropy(row) for row in rows.tolist()])


@lru_cache(maxsize=4096)
def _entropy(row: int) -> float:
    """Of a row of the table family, in bits."""
    share = frequencies(row) / 2.0**PRECISION_BITS
    return float(-(share * np.log2(share)).sum())
