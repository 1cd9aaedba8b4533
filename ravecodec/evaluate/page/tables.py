"""The tables of a page: scores, differences, worst items, speed. `cells.py` has what they are made
of, `verdict.py` what is said in words.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence

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
from ravecodec.evaluate.results import STATIC_BYTES, Condition, Metric, Results
from ravecodec.evaluate.statistics import Delta, Interval, Paired, clusters_of

COLUMNS = 5  # of metrics in one table
SINGLE = {  # over series of one condition
    "model": "Models",
    "codec": "Codecs",
    "bound": "Not quantised",
    "again": "Several times through the codec",
    "control": "Controls",
}
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
        single = len(conditions) == 1
        label = SINGLE[conditions[0].kind] if single else series.series_name(conditions)
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
        own = [c for c in results.conditions if series.family(c) == series.family(lead)]
        groups = {
            "Codecs": of_kind(results, "codec"),
            "Other models": [other for other in leads(results) if other != lead],
            "What quantisation costs": [c for c in own if c.kind == "bound"],
            "The same, several times": [c for c in own if c.kind == "again"],
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
    cells = [rate_cell(results, other)]
    for metric in headlines(results):
        cells.append(_paired_cell(compared(results, metric, lead, other), metric))
    return Row(other.label, cells, series.colour(results, other))


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
        caption = f"{name}: differences of whole curves"
        if groups:
            yield Table(caption, "Metric", columns, groups, "even wordy")


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
        groups = [("Points", [_saved_at(results, point) for point in points])]
        saved = {
            m.label: _saved_by_item(results, points, m) for m in headlines(results) if m.better
        }
        curves = [
            _saved_row(results, points[0], f"{label}, {len(items)} items", items)
            for label, items in saved.items()
            if items
        ]
        if curves:
            groups.append(("Whole curves, by BD-rate", curves))
        caption = f"{name}: what prediction saves, for the same symbols and the same sound"
        yield Table(caption, "", columns, groups, "even wordy")


def _saved_at(results: Results, point: Condition) -> Row:
    """Rates of a point, and the mean over items of what is saved."""
    scores = results.by_condition[point.id].values()
    saved = {s.item: 100 * (1 - (s.bytes or 0) / s.values[STATIC_BYTES]) for s in scores}
    rates = results.static_kbps(point.id), results.kbps(point.id)
    return _saved_row(results, point, point.label, saved, rates)


def _saved_row(
    results: Results,
    point: Condition,
    label: str,
    saved: dict[str, float],
    rates: tuple[float | None, float | None] = (None, None),
) -> Row:
    """The mean of what is saved, in % by item, behind the rates without and with prediction."""
    mean = statistics.mean_interval(saved, clusters_of(results))
    cells = [Cell(number(rate)) for rate in rates]
    cells.append(Cell(number(mean.mean, 1), brackets(mean, 1)))
    return Row(label, cells, series.colour(results, point))


def _saved_by_item(
    results: Results, points: Sequence[Condition], metric: Metric
) -> dict[str, float]:
    """By how many % the rate falls for the same score, of items that have curves of both."""
    saved = {}
    for item in results.items:
        scores = [results.by_condition[point.id].get(item.id) for point in points]
        known = [s for s in scores if s and s.bytes and metric.id in s.values]
        coded = [(s.bytes or 0, s.values[metric.id]) for s in known]
        static = [(s.values[STATIC_BYTES], s.values[metric.id]) for s in known]
        delta = statistics.bd_rate(coded, static, better=metric.better)
        if delta.value is not None:
            saved[item.id] = -delta.value
    return saved


def _named(text: str, names: dict[str, str]) -> str:
    """A text of `statistics` about curves a and b with their names."""
    return re.sub(
        r"\b(?:curve ([ab])\b|([ab])(?=: left out))",
        lambda match: names[match[1] or match[2]],
        text,
    )


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
