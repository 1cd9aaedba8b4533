"""Intervals that cover, pairs that count, curves that are compared only where both are, and the
worst items first.
"""

import itertools
import math
import subprocess
import sys

import numpy as np
import pytest

from ravecodec.errors import InputError, UsageError
from ravecodec.evaluate.results import Condition, Item, Metric, Results, Score
from ravecodec.evaluate.statistics import (
    Interval,
    bd_quality,
    bd_rate,
    clusters_of,
    curve,
    mean_interval,
    paired,
    t_interval,
    worst,
)

RISING = [(1.0, 1.0), (2.0, 2.0), (4.0, 3.0), (8.0, 4.0), (16.0, 5.0)]  # quality = 1 + log2(rate)


def scaled(
    points: list[tuple[float, float]], rate: float = 1.0, quality: float = 0.0
) -> list[tuple[float, float]]:
    return [(r * rate, q + quality) for r, q in points]


def alone(values: dict[str, float]) -> dict[str, str]:
    """Every item its own cluster."""
    return {item: item for item in values}


def make_results() -> Results:
    """Two items of one file and one of another; a series of two points with a rate, one without,
    and a control.
    """
    items = [Item(f"i{k}", f"file{k // 2}", 0.0, 2.0 + k, "00", 1, 48000) for k in range(3)]
    kinds = {"m1": "model", "m2": "model", "free": "bound", "lp": "control"}
    conditions = [
        Condition(key, "m" if key[0] != "l" else "lp", kind, key) for key, kind in kinds.items()
    ]
    quality = {
        "m2": [3.0, 5.0, 4.0],
        "m1": [2.0, 1.0, 3.0],
        "free": [5.0, 5.0, 5.0],
        "lp": [1.0, 1.0, 1.0],
    }
    sizes = {"m1": 500, "m2": 1000, "free": None, "lp": None}
    scores = [
        Score(
            f"i{k}",
            key,
            sizes[key],
            sizes[key],
            0,
            {"q": value, "d": -value, "signed": value - 3.5},
        )
        for key, values in quality.items()
        for k, value in enumerate(values)
    ]
    directions = {"q": "higher", "d": "lower", "signed": ""}
    metrics = [Metric(key, key, "", better, None, "") for key, better in directions.items()]
    return Results("r", "", items, conditions, scores, metrics, [], [], {}, [], {})


def test_the_interval_is_that_of_an_independent_bootstrap():
    from scipy.stats import bootstrap

    sample = np.random.default_rng(3).normal(2, 1, 40)
    values = {f"i{k}": float(v) for k, v in enumerate(sample)}
    found = mean_interval(values, alone(values))
    wanted = bootstrap((sample,), np.mean, method="percentile", random_state=1).confidence_interval
    assert found.mean == pytest.approx(sample.mean())
    assert (found.low, found.high) == pytest.approx((wanted.low, wanted.high), abs=0.02)
    assert (found.n, found.clusters) == (40, 40)


def test_the_interval_covers_the_truth_as_often_as_it_says():
    rng = np.random.default_rng(5)
    hits = 0
    for _ in range(300):
        values = {str(k): float(v) for k, v in enumerate(rng.normal(0, 1, 24))}
        found = mean_interval(values, alone(values), rounds=1000)
        hits += found.low <= 0 <= found.high
    assert 0.88 <= hits / 300 <= 0.98


def test_copies_of_an_item_make_nothing_surer():
    single = {f"i{k}": float(k) for k in range(8)}
    copies = {f"{item}-{k}": value for item, value in single.items() for k in range(5)}
    sources = {item: item.split("-")[0] for item in copies}
    honest, clustered = mean_interval(single, alone(single)), mean_interval(copies, sources)
    assert (clustered.low, clustered.high) == pytest.approx((honest.low, honest.high))
    assert (clustered.n, clustered.clusters) == (40, 8)
    naive = mean_interval(copies, alone(copies))
    assert naive.high - naive.low < 0.6 * (clustered.high - clustered.low)


def test_the_mean_is_over_items_however_they_are_clustered():
    values = {"a": 1.0, "b": 1.0, "c": 1.0, "d": 5.0}
    found = mean_interval(values, {"a": "x", "b": "x", "c": "x", "d": "y"})
    assert found.mean == 2.0
    assert (found.low, found.high) == (1.0, 5.0)


def test_clusters_of_any_size_are_drawn_alike_and_weigh_what_they_hold():
    """Against all 5^5 draws of five clusters of 1 to 9 items."""
    groups = {"a": [0.0] * 9, "b": [1.0], "c": [2.0, 4.0], "d": [9.0], "e": [5.0] * 4}
    values = {
        f"{name}{k}": value for name, group in groups.items() for k, value in enumerate(group)
    }
    draws = [
        [v for name in drawn for v in groups[name]] for drawn in itertools.product(groups, repeat=5)
    ]
    wanted = np.percentile([np.mean(draw) for draw in draws], [2.5, 97.5])
    found = mean_interval(values, {item: item[0] for item in values}, rounds=50_000)
    assert (found.low, found.high) == pytest.approx(tuple(wanted), abs=0.1)


def test_order_changes_nothing_and_the_seed_changes_something():
    values = {f"i{k}": math.sin(k) for k in range(15)}
    clusters = {item: str(k // 2) for k, item in enumerate(values)}
    turned = dict(reversed(values.items()))
    assert mean_interval(values, clusters) == mean_interval(
        turned, dict(reversed(clusters.items()))
    )
    assert (
        mean_interval(values, clusters, seed=1).low != mean_interval(values, clusters, seed=2).low
    )


def test_one_source_has_no_interval():
    found = mean_interval({"a": 1.0, "b": 3.0}, {"a": "x", "b": "x"})
    assert (found.mean, found.n, found.clusters, found.bounded) == (2.0, 2, 1, False)
    assert found.text(1) == "2.0"
    assert Interval(0.5, -0.25, 1.0, 9, 9).text(2) == "0.50 [-0.25, 1.00]"


@pytest.mark.parametrize("values", [{}, {"a": math.nan}, {"a": 1.0, "b": math.inf}])
def test_no_mean_of_nothing_or_of_what_is_not_a_number(values: dict[str, float]):
    with pytest.raises(InputError, match="a mean needs"):
        mean_interval(values, {"a": "x", "b": "y"})


def test_the_t_interval_is_that_of_a_table():
    found = t_interval([60.0, 70.0, 80.0])  # t(0.975, 2) = 4.3027, standard deviation 10
    assert found.mean == 70
    assert found.high - found.mean == pytest.approx(4.30265 * 10 / math.sqrt(3), rel=1e-5)
    assert found.low + found.high == pytest.approx(140)
    assert not t_interval([5.0]).bounded


@pytest.mark.parametrize(
    ("better", "counts"), [("higher", (2, 1, 1)), ("lower", (1, 1, 2)), ("", (1, 2, 1))]
)
def test_pairs_are_counted_by_direction(better: str, counts: tuple[int, int, int]):
    a = {"1": 3.0, "2": 2.0, "3": 1.0, "4": -1.0, "only a": 9.0}
    b = {"4": 1.0, "3": 1.0, "2": 1.0, "1": -4.0, "only b": 9.0}
    found = paired(a, b, alone(a), better)
    assert (found.wins, found.ties, found.losses) == counts
    assert found.difference.mean == pytest.approx((7 + 1 + 0 - 2) / 4)
    assert found.difference.n == 4


def test_a_shift_of_all_items_is_found_although_they_differ_widely():
    a = {str(k): 10.0 * k + 0.1 for k in range(10)}
    b = {str(k): 10.0 * k for k in range(10)}
    found = paired(a, b, alone(a), "higher")
    assert found.difference.low == pytest.approx(0.1)
    assert found.wins == 10


def test_pairs_need_something_in_common_and_a_direction():
    with pytest.raises(InputError, match="no item in common"):
        paired({"a": 1.0}, {"b": 1.0}, {"a": "x", "b": "y"}, "higher")
    with pytest.raises(UsageError, match="better"):
        paired({"a": 1.0}, {"a": 1.0}, {"a": "x"}, "more")


@pytest.mark.parametrize("method", ["pchip", "akima"])
def test_bd_knows_the_answer_where_it_is_known(method: str):
    pytest.importorskip("bjontegaard")
    half = bd_rate(scaled(RISING, rate=0.5), RISING, method)
    assert half.value == pytest.approx(-50)
    assert half.overlap == pytest.approx(1.0)
    assert (half.low, half.high) == pytest.approx((1, 5))
    above = bd_quality(scaled(RISING, quality=0.25), RISING, method)
    assert above.value == pytest.approx(0.25)
    assert (above.low, above.high) == pytest.approx((1, 16))
    assert bd_rate(RISING, RISING, method).value == pytest.approx(0)


def test_bd_is_the_mean_over_the_common_range_only():
    """Against scipy and a plain sum; a reaches 2..6 and b 1..5, so that 2..5 of 1..6 is shared."""
    pytest.importorskip("bjontegaard")
    from scipy.interpolate import PchipInterpolator

    a = [(1.0, 2.0), (3.0, 3.5), (5.0, 4.0), (30.0, 6.0)]
    found = bd_rate(a, RISING)
    grid = np.linspace(2, 5, 20001)
    logs = [
        PchipInterpolator([q for _, q in c], np.log10([r for r, _ in c]))(grid) for c in (a, RISING)
    ]
    gap = logs[0] - logs[1]
    wanted = 100 * (10 ** float(np.mean((gap[1:] + gap[:-1]) / 2)) - 1)
    assert found.value == pytest.approx(wanted, rel=1e-4)
    assert found.overlap == pytest.approx(3 / 5)
    assert (found.low, found.high) == (2, 5)


def test_bd_of_a_distance_has_the_sign_of_the_distance():
    pytest.importorskip("bjontegaard")
    distance = [(rate, -quality) for rate, quality in RISING]
    cheaper, better = scaled(distance, rate=0.5), scaled(distance, quality=-0.25)
    assert bd_rate(cheaper, distance, better="lower").value == pytest.approx(-50)
    assert bd_rate(cheaper, distance, better="lower").low == pytest.approx(-5)
    assert bd_quality(better, distance, better="lower").value == pytest.approx(-0.25)


def test_without_overlap_there_is_a_reason_and_no_number(subtests: pytest.Subtests) -> None:
    for function, a in [
        (bd_rate, scaled(RISING, quality=10)),
        (bd_rate, scaled(RISING, quality=4)),
        (bd_quality, scaled(RISING, rate=17)),
    ]:
        with subtests.test(function=function, a=a):
            found = function(a, RISING)
            assert (found.value, found.overlap, found.reason) == (None, 0.0, "no overlap")


def test_a_sliver_of_overlap_is_not_enough():
    found = bd_rate(scaled(RISING, quality=3.7), RISING)
    assert found.value is None
    assert found.overlap == pytest.approx(0.3 / 7.7)
    assert "overlap of 3.9 %" in found.reason


def test_points_that_are_no_better_than_cheaper_ones_are_left_out_and_named():
    pytest.importorskip("bjontegaard")
    spoiled = [*RISING, (5.0, 2.5), (20.0, 5.0), (4.0, 2.5)]
    found = bd_rate(scaled(spoiled, rate=0.5), RISING)
    assert found.value == pytest.approx(-50)
    assert found.note == "a: left out at 2, 2.5, 10 kbit/s: no better than a cheaper point"
    few = bd_rate(RISING, [(1.0, 5.0), (2.0, 4.0), (3.0, 3.0), (4.0, 2.0), (5.0, 1.0)])
    assert few.value is None
    assert few.reason == "too few points: curve b has 1 of 4"
    assert few.note.startswith("b: left out at 2, 3, 4, 5 kbit/s")
    assert (
        bd_quality([], RISING[:3]).reason == "too few points: curve a has 0 and curve b has 3 of 4"
    )


def test_a_curve_must_be_one():
    with pytest.raises(InputError, match="rate above 0"):
        bd_rate([(0.0, 1.0)], RISING)
    with pytest.raises(InputError, match="finite"):
        bd_quality(RISING, [(1.0, math.nan)])
    with pytest.raises(UsageError, match="pchip"):
        bd_rate(RISING, RISING, "cubic")
    with pytest.raises(UsageError, match="'higher' or 'lower'"):
        bd_rate(RISING, RISING, better="")


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "bjontegaard", None)
    with pytest.raises(UsageError, match=r"pip install 'ravecodec\[eval\]'"):
        bd_rate(RISING, RISING)


def test_the_worst_come_first_in_every_direction():
    results = make_results()
    q, d, signed = results.metrics
    assert worst(results, q, "m2", 2) == [("i0", 3.0), ("i2", 4.0)]
    assert worst(results, d, "m2", 1) == [("i0", -3.0)]
    assert [item for item, _ in worst(results, signed, "m1")] == ["i1", "i0", "i2"]


def test_a_curve_of_results_has_what_was_coded():
    seconds = 2 + 3 + 4
    assert curve(make_results(), "m", "q") == [
        (pytest.approx(3 * 500 * 8 / 1000 / seconds), 2.0),
        (pytest.approx(3 * 1000 * 8 / 1000 / seconds), 4.0),
    ]
    assert curve(make_results(), "m", "unknown") == []
    assert clusters_of(make_results()) == {"i0": "file0", "i1": "file0", "i2": "file1"}


def test_statistics_need_no_torch_and_none_of_the_extra():
    code = (
        "import ravecodec.evaluate.statistics, sys; assert not {'torch', 'scipy', 'matplotlib'} "
        "& set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
