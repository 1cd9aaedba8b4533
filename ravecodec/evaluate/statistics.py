"""What the scores of an evaluation can and cannot say: intervals, paired differences, curves
compared, worst items.

Excerpts of one file are alike, so chance is drawn over files ("clusters"), not over excerpts.
Everything is a function of its arguments and a seed: the order of a mapping changes nothing, and
the same call gives the same digits.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from ravecodec.errors import InputError, UsageError
from ravecodec.evaluate.extras import extra
from ravecodec.evaluate.filters import Doubles
from ravecodec.evaluate.results import Metric, Results

LEVEL = 0.95  # of every interval here
TAILS = 50 * (1 - LEVEL), 50 * (1 + LEVEL)  # percentiles, its ends
ROUNDS = 10_000  # of a bootstrap
POINTS = 4  # that a curve needs for a Bjontegaard difference
LEAST_OVERLAP = 0.05  # of two curves: below it a difference would speak of almost nothing
METHODS = ("pchip", "akima")

Curve = Sequence[tuple[float, float]]  # points (kbit/s, quality), any order


@dataclass(frozen=True)
class Interval:
    """A mean with its 95 % interval. `low` and `high` are NaN where one cluster alone says nothing
    of chance.

    `n`: values in the mean; `clusters`: independent sources that they come from.
    """

    mean: float
    low: float
    high: float
    n: int
    clusters: int

    @property
    def bounded(self) -> bool:
        """Whether there is an interval at all."""
        return not math.isnan(self.low)

    def text(self, digits: int = 2) -> str:
        """`3.56 [2.99, 4.06]`; without brackets where there is no interval."""
        mean, low, high = (f"{value:.{digits}f}" for value in (self.mean, self.low, self.high))
        return f"{mean} [{low}, {high}]" if self.bounded else mean


@dataclass(frozen=True)
class Paired:
    """`difference`: mean of a minus b over the items that both have; on how many of them a wins,
    ties and loses."""

    difference: Interval
    wins: int
    ties: int
    losses: int


@dataclass(frozen=True)
class Delta:
    """A Bjontegaard difference of curve a from curve b, or why there is none.

    `value`: in %, or in the metric's unit; None where `reason` says why. `overlap`: length of the
    range that both curves cover (of quality, or of log rate) over that of the range that either
    covers, 0..1; `low`, `high`: its ends (in the metric's unit, or kbit/s), NaN without one.
    `note`: which points were left out of the curves, "" if none.
    """

    value: float | None
    reason: str = ""
    note: str = ""
    overlap: float = 0.0
    low: float = math.nan
    high: float = math.nan


def clusters_of(results: Results) -> dict[str, str]:
    """Item id -> source file, for the functions below."""
    return {item.id: item.source for item in results.items}


def mean_interval(
    values: Mapping[str, float], clusters: Mapping[str, str], seed: int = 0, rounds: int = ROUNDS
) -> Interval:
    """Mean over items, with the 95 % percentile interval of a bootstrap that redraws whole
    clusters.

    A round draws as many clusters as there are, with replacement, and takes the mean of all their
    items. The percentile interval is known to be somewhat too narrow below about 20 clusters.
    values: number by item id; clusters: source by item id. InputError without a value or with one
    that is not finite.
    """
    _check_finite(values)
    names = sorted({clusters[item] for item in values})
    grouped = [[values[item] for item in values if clusters[item] == name] for name in names]
    # Exact, so the order of items cannot matter.
    sums = np.array([math.fsum(group) for group in grouped])
    counts = np.array([len(group) for group in grouped], dtype=np.float64)
    mean = math.fsum(values.values()) / len(values)
    if len(names) == 1:
        return Interval(mean, math.nan, math.nan, len(values), 1)
    drawn = _draws(len(names), seed, rounds)
    low, high = np.percentile((drawn @ sums) / (drawn @ counts), TAILS)
    return Interval(mean, float(low), float(high), len(values), len(names))


def t_interval(values: ArrayLike) -> Interval:
    """Mean of independent numbers (one per listener) with the 95 % interval of Student's t. Needs
    `ravecodec[eval]`."""
    sample = np.asarray(values, dtype=np.float64)
    _check_finite(dict(enumerate(sample.tolist())))
    mean, count = float(sample.mean()), len(sample)
    if count == 1:
        return Interval(mean, math.nan, math.nan, 1, 1)
    quantile = float(extra("scipy.stats").t.ppf((1 + LEVEL) / 2, count - 1))
    reach = quantile * float(sample.std(ddof=1)) / math.sqrt(count)
    return Interval(mean, mean - reach, mean + reach, count, count)


def paired(
    a: Mapping[str, float], b: Mapping[str, float], clusters: Mapping[str, str], better: str
) -> Paired:
    """a minus b over the items both have, with the interval of `mean_interval`, and how often a is
    the better one.

    better: "higher", "lower", or "" for signed errors (the one nearer to 0 wins). InputError if
    they have no item in common.
    """
    common = [item for item in a if item in b]
    if not common:
        raise InputError("the two conditions have no item in common to be compared on")
    gains = [_gain(a[item], b[item], better) for item in common]
    difference = mean_interval({item: a[item] - b[item] for item in common}, clusters)
    wins, losses = sum(gain > 0 for gain in gains), sum(gain < 0 for gain in gains)
    return Paired(difference, wins, len(gains) - wins - losses, losses)


def curve(results: Results, series: str, metric: str) -> list[tuple[float, float]]:
    """(kbit/s, mean quality) of the conditions of a series that have both, by file bytes, in order
    of rate."""
    points = []
    for condition in results.of(series):
        rate = results.kbps(condition.id)
        values = results.values(condition.id, metric).values()
        if rate is not None and values:
            points.append((rate, math.fsum(values) / len(values)))
    return sorted(points)


def bd_rate(a: Curve, b: Curve, method: str = "pchip", better: str = "higher") -> Delta:
    """By how many % more (+) or fewer (-) bits curve a needs than curve b for the same quality, on
    average.

    The mean difference of log rate, as functions of quality, over the qualities that both reach
    (Bjontegaard, ITU-T VCEG-M33, 2001; the package bjontegaard does the interpolation: method
    "pchip" or "akima"). Never beyond them: without overlap, or below 5 % of it, the result has a
    reason instead of a value; likewise with fewer than 4 points. Points that cost as much as
    another one or more and are no better are left out, and named in `note`. better: "higher" or
    "lower". Needs `ravecodec[eval]`; InputError for rates that are not positive or not finite.
    """
    return _delta(a, b, method, better, over_rate=False)


def bd_quality(a: Curve, b: Curve, method: str = "pchip", better: str = "higher") -> Delta:
    """By how much curve a's quality is above (+) or below (-) curve b's at the same rate, in the
    metric's unit.

    The mean difference of quality, as functions of log rate, over the rates that both have; all
    else as in `bd_rate`. Its sign is that of the metric: with better="lower", negative is good for
    a.
    """
    return _delta(a, b, method, better, over_rate=True)


def worst(results: Results, metric: Metric, condition: str, n: int = 5) -> list[tuple[str, float]]:
    """The n items (id, value) that a condition did worst on, worst first; for signed errors the
    farthest from 0."""
    values = results.values(condition, metric.id)
    return sorted(values.items(), key=lambda entry: _gain(entry[1], 0.0, metric.better))[:n]


def _check_finite(values: Mapping[Any, float]) -> None:
    if not values:
        raise InputError("a mean needs at least one value, found none")
    for key, value in values.items():
        if not math.isfinite(value):
            raise InputError(f"a mean needs finite values, found {value} for {key}")


@lru_cache(maxsize=8)
def _draws(clusters: int, seed: int, rounds: int) -> Doubles:
    """[rounds, clusters]: how often each cluster was drawn. Kept, as a report asks for the same
    ones all the time."""
    shares = np.full(clusters, 1 / clusters)
    return np.random.default_rng(seed).multinomial(clusters, shares, size=rounds).astype(np.float64)


def _gain(a: float, b: float, better: str) -> float:
    """Positive where a is better than b."""
    if better == "higher":
        return a - b
    if better == "lower":
        return b - a
    if better == "":
        return abs(b) - abs(a)
    raise UsageError(f"better is {better!r}, expected 'higher', 'lower' or ''")


def _delta(a: Curve, b: Curve, method: str, better: str, *, over_rate: bool) -> Delta:
    """A Bjontegaard difference of a from b over rate (of quality) or over quality (of log rate)."""
    if method not in METHODS or better not in ("higher", "lower"):
        raise UsageError(
            f"method {method!r}, better {better!r}: "
            f"expected one of {METHODS} and 'higher' or 'lower'"
        )
    sign = 1.0 if better == "higher" else -1.0
    (first, left_a), (second, left_b) = _front(a, sign), _front(b, sign)
    note = "; ".join(f"{name}: {left}" for name, left in (("a", left_a), ("b", left_b)) if left)
    counts = {"a": len(first), "b": len(second)}
    few = [f"curve {name} has {count}" for name, count in counts.items() if count < POINTS]
    if few:
        return Delta(None, f"too few points: {' and '.join(few)} of {POINTS}", note)
    axis = 0 if over_rate else 1
    overlap, low, high = _overlap(first[:, axis], second[:, axis])
    if overlap == 0:
        return Delta(None, "no overlap", note)
    low, high = sorted((10**low, 10**high) if over_rate else (sign * low, sign * high))
    if overlap < LEAST_OVERLAP:
        least = f"expected at least {100 * LEAST_OVERLAP:g} %"
        return Delta(None, f"overlap of {100 * overlap:.1f} %, {least}", note, overlap, low, high)
    value = _bjontegaard(first, second, method, over_rate, sign)
    return Delta(value, "", note, overlap, low, high)


def _front(points: Curve, sign: float) -> tuple[Doubles, str]:
    """[n, 2] of (log10 rate, quality times sign), both strictly rising, and a text about the points
    left out."""
    kept: list[tuple[float, float]] = []
    left = []
    for rate, quality in sorted(points, key=lambda point: (point[0], -sign * point[1])):
        if not (math.isfinite(rate) and math.isfinite(quality) and rate > 0):
            raise InputError(
                f"a curve has the point ({rate} kbit/s, {quality}); "
                "expected finite numbers and a rate above 0"
            )
        if kept and sign * quality <= kept[-1][1]:
            left.append(f"{rate:.4g}")
        else:
            kept.append((math.log10(rate), sign * quality))
    text = f"left out at {', '.join(left)} kbit/s: no better than a cheaper point" if left else ""
    return np.array(kept, dtype=np.float64).reshape(-1, 2), text


def _overlap(a: Doubles, b: Doubles) -> tuple[float, float, float]:
    """(share of the range of either that is the range of both, its lower end, its upper end);
    rising a and b."""
    low, high = max(a[0], b[0]), min(a[-1], b[-1])
    share = (high - low) / (max(a[-1], b[-1]) - min(a[0], b[0]))
    return max(0.0, float(share)), float(low), float(high)


def _bjontegaard(a: Doubles, b: Doubles, method: str, over_rate: bool, sign: float) -> float:
    """The difference itself: quality in the metric's unit, or rate in %."""
    module = extra("bjontegaard")
    options = {"method": method, "require_matching_points": False, "min_overlap": 0}
    points = 10 ** b[:, 0], b[:, 1], 10 ** a[:, 0], a[:, 1]
    if over_rate:
        return sign * float(module.bd_psnr(*points, **options))
    return float(module.bd_rate(*points, **options))
