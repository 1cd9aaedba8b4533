"""The tables of a page: scores, differences, worst items, speed. `cells.py` has what they are made
of, `verdict.py` what is said in words.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from ravecodec.evaluate import statistics
from ravecodec.evaluate.page import series
from ravecodec.evaluate.page.cells import (
    NONE,
    TIMES,
    Cell,
    Row,
    Table,
    brackets,
    compared,
    digits_of,
    mean_cell,
    metric_columns,
    number,
    rate_cell,
    tone_of,
)
from ravecodec.evaluate.page.series import headlines, interval, leads, of_kind
from ravecodec.evaluate.results import STATIC_BYTES, Condition, Item, Metric, Results
from ravecodec.evaluate.statistics import Delta, Interval, Paired, clusters_of

COLUMNS = 5  # of metrics in one table
SINGLE = {  # over series of one condition
    "model": "Models",
    "codec": "Codecs",
    "bound": "Not quantised",
    "again": "Several times through the codec",
    "control": "Controls",
}
WORST = 5
MIB = 2**20


def glance(results: Results) -> Table:
    """The models' points between the anchors nearest in rate and the controls, headline metrics
    only."""
    near = [c for lead in leads(results) for c in series.nearest_of_each_codec(results, lead)]
    chosen = {c.id: c for c in [*leads(results), *near, *of_kind(results, "control")]}
    metrics = headlines(results)
    columns = [_glance_column(results, metric, list(chosen.values())) for metric in metrics]
    rows = [
        Row(c.label, [rate_cell(results, c), *cells], series.colour(results, c))
        for c, *cells in zip(chosen.values(), *columns, strict=True)
    ]
    caption = "The models, the anchors nearest in rate, and what frames them"
    heads = [("kbit/s", "whole file"), *metric_columns(metrics)]
    return Table(caption, "Condition", heads, [("", rows)], "even beside")


def _glance_column(results: Results, metric: Metric, conditions: Sequence[Condition]) -> list[Cell]:
    """Means with a bar from the worst of them (empty) to the best."""
    means = [interval(results, c, metric) for c in conditions]
    known = [mean.mean for mean in means if mean is not None]
    low, high = (min(known), max(known)) if known else (0.0, 0.0)

    def share(mean: Interval | None) -> float:
        if mean is None or high == low:
            return 1.0
        rise = (mean.mean - low) / (high - low)
        return round(1 - rise if metric.better == "lower" else rise, 3)

    return [mean_cell(mean, metric, share(mean)) for mean in means]


# ---- tables --------------------------------------------------------------------------------------


def score_tables(results: Results) -> Iterator[Table]:
    """All conditions by all metrics: headline ones first, the others a few at a time, diagnostic
    ones last."""
    rest = [m for m in results.metrics if not m.headline and not m.diagnostic]
    diagnostic = [m for m in results.metrics if m.diagnostic]
    if main := headlines(results):
        yield score_table(results, "Headline metrics", main)
    parts = [rest[start : start + COLUMNS] for start in range(0, len(rest), COLUMNS)]
    for index, part in enumerate(parts, 1):
        name = f"More metrics, {index} of {len(parts)}" if len(parts) > 1 else "More metrics"
        yield score_table(results, name, part)
    if diagnostic:
        yield score_table(results, "Diagnostic only: not measures of quality", diagnostic)


def score_table(results: Results, caption: str, metrics: Sequence[Metric]) -> Table:
    """All conditions with both rates and some metrics; neighbouring series of one name are one
    group."""
    groups: list[tuple[str, list[Row]]] = []
    for name in results.series:
        conditions = results.of(name)
        label = (
            SINGLE[conditions[0].kind] if len(conditions) == 1 else series.series_name(conditions)
        )
        if not groups or groups[-1][0] != label:
            groups.append((label, []))
        groups[-1][1].extend(_score_row(results, condition, metrics) for condition in conditions)
    columns = [("kbit/s", "whole file"), ("kbit/s", "payload"), *metric_columns(metrics)]
    return Table(f"{caption}: mean and 95 % interval", "Condition", columns, groups, "beside")


def _score_row(results: Results, condition: Condition, metrics: Sequence[Metric]) -> Row:
    cells = [rate_cell(results, condition), rate_cell(results, condition, payload=True)]
    cells += [mean_cell(interval(results, condition, metric), metric) for metric in metrics]
    return Row(condition.label, cells, series.colour(results, condition))


def paired_tables(results: Results) -> Iterator[Table]:
    """For each model: its point minus every codec's, every other model's, its own bounds and the
    controls, item by item."""
    for lead in leads(results):
        own = series.family(lead)
        groups = {
            "Codecs": of_kind(results, "codec"),
            "Other models": [other for other in leads(results) if other != lead],
            "What quantisation costs": [
                c for c in of_kind(results, "bound") if series.family(c) == own
            ],
            "The same, several times": [
                c for c in of_kind(results, "again") if series.family(c) == own
            ],
            "Controls": of_kind(results, "control"),
        }
        rows = [
            (name, [_paired_row(results, lead, c) for c in group])
            for name, group in groups.items()
            if group
        ]
        columns = [("kbit/s", "of the other"), *metric_columns(headlines(results))]
        caption = f"{lead.label} ({number(results.kbps(lead.id))} kbit/s) minus"
        if rows:
            yield Table(caption, "the other condition", columns, rows)


def _paired_row(results: Results, lead: Condition, other: Condition) -> Row:
    cells = [
        _paired_cell(compared(results, metric, lead, other), metric)
        for metric in headlines(results)
    ]
    return Row(other.label, [rate_cell(results, other), *cells], series.colour(results, other))


def _paired_cell(pair: Paired | None, metric: Metric) -> Cell:
    """The difference; below it its interval and wins/ties/losses."""
    if pair is None:
        return Cell(NONE)
    digits = digits_of(metric)
    counts = f"{pair.wins}/{pair.ties}/{pair.losses}"
    limits = brackets(pair.difference, digits, True)
    note = f"{limits} · {counts}" if limits else counts
    return Cell(number(pair.difference.mean, digits, True), note, tone_of(pair.difference, metric))


def delta_tables(results: Results) -> Iterator[Table]:
    """Bjontegaard differences of every model's own curve from every codec's and every other
    model's."""
    mine = list(dict.fromkeys(c.series for c in leads(results)))
    codecs = dict.fromkeys(c.series for c in of_kind(results, "codec"))
    compared_with = [*mine, *series.series_at_other_efforts(results), *codecs]
    columns = [
        ("Rate", "% for the same score"),
        ("Overlap", "of scores"),
        ("Score", "at the same rate"),
        ("Overlap", "of rates"),
    ]
    for name in mine:
        groups = [
            (f"against {series.series_name(results.of(other))}", _delta_rows(results, name, other))
            for other in compared_with
            if other != name
        ]
        if groups:
            yield Table(
                f"{name}: differences of whole curves", "Metric", columns, groups, "even wordy"
            )


def _delta_rows(results: Results, name: str, other: str) -> list[Row]:
    """A row for each metric, or a single one where all say the same."""
    colour = series.colour(results, results.of(other)[0])
    metrics = [m for m in headlines(results) if m.better]
    rows = [Row(m.label, _delta_cells(results, m, name, other), colour) for m in metrics]
    if len(rows) > 1 and all(row.cells == rows[0].cells for row in rows):
        return [Row("every metric", rows[0].cells, colour)]
    return rows


def _delta_cells(results: Results, metric: Metric, name: str, other: str) -> list[Cell]:
    curves = [statistics.curve(results, one, metric.id) for one in (name, other)]
    names = {"a": name, "b": series.series_name(results.of(other))}
    cells: list[Cell] = []
    kinds: list[tuple[Callable[..., Delta], str, int, str]] = [
        (statistics.bd_rate, "%", 0, metric.unit),
        (statistics.bd_quality, metric.unit, digits_of(metric), "kbit/s"),
    ]
    for function, unit, digits, span in kinds:
        pchip, akima = (function(*curves, method, metric.better) for method in statistics.METHODS)
        why = _named(f"{pchip.reason}; {pchip.note}".strip("; "), names)
        overlap = f"{100 * pchip.overlap:.0f} %"
        if pchip.value is None or akima.value is None:
            # Without a curve there is no overlap to speak of.
            known = not pchip.reason.startswith("too few")
            cells += [Cell(NONE, why), Cell(overlap if known else NONE)]
            continue
        note = f"Akima {number(akima.value, digits, True)}"
        reach = f"{number(pchip.low)} to {number(pchip.high)} {span}".strip()
        value = f"{number(pchip.value, digits, True)} {unit}".strip()
        cells += [Cell(value, f"{note}; {why}" if why else note), Cell(overlap, reach)]
    return cells


def prediction_tables(results: Results) -> Iterator[Table]:
    """Every model's own curve as it is coded and as its symbols would be with static tables alone:
    rates, what is saved, and for whole curves the mean of the Bjontegaard differences of rate, item
    by item. Intervals are those of means over items. None of models without a predictor."""
    columns = [("Static", "kbit/s"), ("Predicted", "kbit/s"), ("Saved", "% of the bytes")]
    for name in dict.fromkeys(c.series for c in leads(results)):
        points = [c for c in results.of(name) if results.static_kbps(c.id) is not None]
        points.sort(key=lambda c: results.kbps(c.id) or 0.0)
        if not points:
            continue
        rows = [_saved_row(results, point) for point in points]
        curves = [
            _saved_curve(results, points, metric) for metric in headlines(results) if metric.better
        ]
        groups = [("Points", rows), ("Whole curves, by BD-rate", [row for row in curves if row])]
        caption = f"{name}: what prediction saves, for the same symbols and the same sound"
        yield Table(caption, "", columns, [group for group in groups if group[1]], "even wordy")


def _saved_row(results: Results, point: Condition) -> Row:
    """Rates of a point, and the mean over items of what is saved."""
    static = results.values(point.id, STATIC_BYTES)
    saved = {
        item: 100 * (1 - (results.by_pair[item, point.id].bytes or 0) / size)
        for item, size in static.items()
    }
    mean = statistics.mean_interval(saved, clusters_of(results))
    rates = [Cell(number(x)) for x in (results.static_kbps(point.id), results.kbps(point.id))]
    cells = [*rates, Cell(number(mean.mean, 1), brackets(mean, 1))]
    return Row(point.label, cells, series.colour(results, point))


def _saved_curve(results: Results, points: Sequence[Condition], metric: Metric) -> Row | None:
    """By how much the rate falls for the same score; None where no item has curves of both."""
    found = {}
    for item in results.items:
        curves = _item_curves(results, item, points, metric)
        delta = statistics.bd_rate(*curves, better=metric.better)
        if delta.value is not None:
            found[item.id] = -delta.value
    if not found:
        return None
    mean = statistics.mean_interval(found, clusters_of(results))
    cells = [Cell(NONE), Cell(NONE), Cell(number(mean.mean, 1), brackets(mean, 1))]
    return Row(f"{metric.label}, {len(found)} items", cells, series.colour(results, points[0]))


def _item_curves(
    results: Results, item: Item, points: Sequence[Condition], metric: Metric
) -> tuple[list[tuple[float, float]], list[tuple[float, float]]]:
    """(kbit/s, score) of an item, as coded and with static tables."""
    scores = [results.by_pair.get((item.id, point.id)) for point in points]
    known = [s for s in scores if s and s.bytes and {metric.id, STATIC_BYTES} <= s.values.keys()]
    each = 8 / 1000 / item.seconds
    return (
        [((s.bytes or 0) * each, s.values[metric.id]) for s in known],
        [(s.values[STATIC_BYTES] * each, s.values[metric.id]) for s in known],
    )


def _named(text: str, names: dict[str, str]) -> str:
    """A text of `statistics` about curves a and b with their names."""
    return re.sub(
        r"\b(?:curve ([ab])\b|([ab])(?=: left out))",
        lambda found: names[found[1] or found[2]],
        text,
    )


@dataclass(frozen=True)
class Worst:
    """The items that a model did worst on by a metric: (item id, value)."""

    condition: Condition
    metric: Metric
    items: list[tuple[str, str]]


def worst_items(results: Results) -> list[Worst]:
    """Of every model's point, by every headline metric."""
    found = []
    for lead in leads(results):
        for metric in headlines(results):
            worst = statistics.worst(results, metric.id, lead.id, WORST)
            if worst:
                found.append(Worst(lead, metric, [(item, number(value)) for item, value in worst]))
    return found


def speed_table(results: Results) -> Table | None:
    """Times of real commands; None if none was measured."""
    if not results.speed:
        return None
    columns = [
        ("Threads", ""),
        (f"{TIMES} real time", "after start-up"),
        ("Seconds", "in all"),
        ("Seconds", "start-up"),
        ("Audio", "seconds"),
        ("Memory", "peak, MiB"),
    ]
    groups: dict[str, list[Row]] = {}
    for speed in results.speed:
        work = speed.seconds - speed.startup_seconds
        cells = [
            str(speed.threads),
            number(speed.audio_seconds / work, 1) if work > 0 else NONE,
            number(speed.seconds),
            number(speed.startup_seconds),
            number(speed.audio_seconds, 0),
            number(speed.peak_bytes / MIB, 0),
        ]
        groups.setdefault(speed.model, []).append(Row(speed.what, [Cell(text) for text in cells]))
    return Table("Speed of the command line", "Command", columns, list(groups.items()))
