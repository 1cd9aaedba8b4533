"""What the page says in words and tables: the verdict, scores, paired differences, Bjontegaard differences, worst
items, speed. Plain data for a template; numbers are already text."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from ravecodec.evaluate import statistics
from ravecodec.evaluate.figures import colour_key, colours, interval, model_name, series_label
from ravecodec.evaluate.results import Condition, Metric, Results
from ravecodec.evaluate.statistics import Delta, Interval, Paired

COLUMNS = 5  # of metrics in one table
SINGLE = {  # over series of one condition
    "model": "Models",
    "codec": "Codecs",
    "bound": "Not quantised",
    "again": "Several times through the codec",
    "control": "Controls",
}
WORST = 5
CONTAINER = 0.15  # share of a file above which the verdict names the rate without it
FILES = 20  # below which the percentile intervals of statistics.py are too narrow
MIB = 2**20
NONE, MINUS, TIMES = "\u2013", "\u2212", "\u00d7"  # an en dash, the true minus and times signs


@dataclass(frozen=True)
class Cell:
    """`text` with a smaller `note` below it; `tone`: "good", "bad" or ""; `share`: 0..1, length of a bar, or None."""

    text: str
    note: str = ""
    tone: str = ""
    share: float | None = None


@dataclass(frozen=True)
class Row:
    label: str
    cells: list[Cell]
    colour: str = "control"


@dataclass(frozen=True)
class Table:
    """`groups`: (name, rows); the name is "" where rows are not grouped. `columns`: (name, a smaller line below).
    `look`: a class of style.css."""

    caption: str
    head: str
    columns: list[tuple[str, str]]
    groups: list[tuple[str, list[Row]]]
    look: str = ""


# ---- numbers as text -------------------------------------------------------------------------------------------------


def number(value: float | None, digits: int = 2, sign: bool = False) -> str:
    """With a true minus; an en dash for none."""
    if value is None or math.isnan(value):
        return NONE
    text = f"{value:{'+' if sign else ''}.{digits}f}".replace("-", MINUS)
    return text.replace(MINUS, "").replace("+", "") if float(f"{value:.{digits}f}") == 0 else text


def digits_of(metric: Metric) -> int:
    return 1 if metric.diagnostic else 2


def brackets(mean: Interval, digits: int = 2, sign: bool = False) -> str:
    """`[low, high]`, empty where there is no interval."""
    return f"[{number(mean.low, digits, sign)}, {number(mean.high, digits, sign)}]" if mean.bounded else ""


def _with_interval(mean: Interval, metric: Metric) -> str:
    unit = f" {metric.unit}" if metric.unit in ("dB", "LU") else ""
    return f"{number(mean.mean, digits_of(metric))}{unit} {brackets(mean, digits_of(metric))}".strip()


def direction(metric: Metric) -> str:
    """What a column's head says below its name."""
    arrow = {"higher": "↑ higher is better", "lower": "↓ lower is better"}.get(metric.better, "0 is right")
    return f"{metric.unit}, {arrow}" if metric.unit else arrow


# ---- which conditions ------------------------------------------------------------------------------------------------


def headlines(results: Results) -> list[Metric]:
    return [metric for metric in results.metrics if metric.headline]


def leads(results: Results) -> list[Condition]:
    """One condition for each model: its default operating point, or the middle one of its first series by rate."""
    found: dict[str, list[Condition]] = {}
    for condition in results.conditions:
        if condition.kind == "model":
            found.setdefault(colour_key(condition), []).append(condition)
    return [_lead(results, conditions) for conditions in found.values()]


def _lead(results: Results, conditions: Sequence[Condition]) -> Condition:
    default = next((c for c in conditions if c.settings.get("default")), None)
    first = [c for c in conditions if c.series == conditions[0].series]
    return default or sorted(first, key=lambda c: results.kbps(c.id) or 0.0)[len(first) // 2]


def nearest(results: Results, condition: Condition, candidates: Iterable[Condition]) -> Condition | None:
    """The candidate whose measured rate is nearest to the condition's, as a ratio."""
    rate = results.kbps(condition.id)
    rated = [(abs(math.log(other / rate)), c) for c in candidates if rate and (other := results.kbps(c.id))]
    return min(rated, key=lambda pair: pair[0])[1] if rated else None


def efforts(results: Results) -> list[str]:
    """Series of models at other levels of effort than their own."""
    own = {colour_key(c): c.settings.get("effort") for c in leads(results)}
    others = (c for c in results.conditions if c.kind == "model" and c.settings.get("effort") != own[colour_key(c)])
    return list(dict.fromkeys(c.series for c in others))


def codecs(results: Results) -> list[Condition]:
    return [c for c in results.conditions if c.kind == "codec"]


def _control(results: Results, condition: str) -> Condition | None:
    return next((c for c in results.conditions if c.settings.get("do", c.id) == condition), None)


def compared(results: Results, metric: Metric, a: Condition, b: Condition) -> Paired | None:
    """a minus b; None where they share no item."""
    values = results.values(a.id, metric.id), results.values(b.id, metric.id)
    common = values[0].keys() & values[1].keys()
    return statistics.paired(*values, statistics.clusters_of(results), metric.better) if common else None


def tone_of(difference: Interval, metric: Metric) -> str:
    """Whether a difference is good or bad, where its interval leaves no doubt."""
    if metric.better == "" or not difference.bounded or difference.low <= 0 <= difference.high:
        return ""
    return "good" if (difference.mean > 0) == (metric.better == "higher") else "bad"


# ---- verdict ---------------------------------------------------------------------------------------------------------


def verdict(results: Results) -> list[str]:
    """A sentence for every model, and one about what none of this says."""
    return [_model_sentence(results, condition) for condition in leads(results)] + [_limits_sentence(results)]


def _model_sentence(results: Results, condition: Condition) -> str:
    name = model_name(results, condition)
    scores = [(m, interval(results, condition.id, m.id)) for m in headlines(results)]
    said = [f"{m.label} {_with_interval(s, m)}" for m, s in scores if s is not None]
    sentence = f"At {_rate(results, condition)}, model {name} scores {_listed(said)}"
    anchor = nearest(results, condition, codecs(results))
    return f"{sentence}; {_against(results, condition, anchor)}." if anchor else f"{sentence}."


def _against(results: Results, condition: Condition, anchor: Condition) -> str:
    """How the model stands against an anchor: sure differences only are called better or worse."""
    words: dict[str, list[str]] = {"good": [], "bad": [], "": []}
    for metric in headlines(results):
        found = compared(results, metric, condition, anchor)
        other = interval(results, anchor.id, metric.id)
        if found is not None and other is not None:
            words[tone_of(found.difference, metric)].append(f"{metric.label} (anchor: {number(other.mean)})")
    says = {"good": "better on", "bad": "worse on", "": "not told apart from it on"}
    parts = [f"{says[tone]} {_listed(names)}" for tone, names in words.items() if names]
    place = f"the anchor nearest in rate is {anchor.label} at {_rate(results, anchor)}"
    return f"{place}, and beside it the model is {'; '.join(parts)}" if parts else place


def _rate(results: Results, condition: Condition) -> str:
    """`8.08 kbit/s`, and what it is without the container where that is a good part of it."""
    rate, payload = (results.kbps(condition.id, payload=payload) for payload in (False, True))
    bare = rate and payload is not None and payload < (1 - CONTAINER) * rate
    return f"{number(rate)} kbit/s" + (f" ({number(payload)} without the container)" if bare else "")


def _limits_sentence(results: Results) -> str:
    files = len({item.source for item in results.items})
    basis = f"{_count(len(results.items), 'excerpt')} from {_count(files, 'file')}"
    noise = _control(results, "noise-vocoded")
    said = []
    if noise is not None:
        means = ((m, interval(results, noise.id, m.id)) for m in headlines(results))
        said = [f"{m.label} {number(mean.mean)}" for m, mean in means if mean is not None]
    proof = f" (mere noise with the excerpts' envelopes gets {_listed(said)})" if said else ""
    narrow = f" (too narrow, as they are of fewer than {FILES} files)" if files < FILES else ""
    return (
        f"These are computed scores of {basis}, with 95 % intervals over files{narrow}: no listener was asked, no "
        f"single score is sound quality{proof}, and nothing here speaks of other kinds of audio."
    )


def _count(count: int, noun: str) -> str:
    return f"{count} {noun}" + "s" * (count != 1)


def _listed(words: Sequence[str]) -> str:
    """a, b and c."""
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)


def glance(results: Results) -> Table:
    """The models' points between the anchors nearest in rate and the controls, headline metrics only."""
    chosen: dict[str, Condition] = {}
    for lead in leads(results):
        chosen[lead.id] = lead
        for series in dict.fromkeys(c.series for c in codecs(results)):
            if near := nearest(results, lead, (c for c in codecs(results) if c.series == series)):
                chosen[near.id] = near
    controls = [c for c in results.conditions if c.kind == "control"]
    rows = [*chosen.values(), *controls]
    rows.sort(key=lambda c: ("model", "codec", "control").index(c.kind))
    metrics = headlines(results)
    columns = [_glance_column(results, m, rows) for m in metrics]
    lines = [
        Row(
            c.label,
            [Cell(number(results.kbps(c.id))), *(column[i] for column in columns)],
            colours(results).get(colour_key(c), "control"),
        )
        for i, c in enumerate(rows)
    ]
    heads = [("kbit/s", "whole file"), *((m.label, direction(m)) for m in metrics)]
    return Table(
        "The models, the anchors nearest in rate, and what frames them",
        "Condition",
        heads,
        [("", lines)],
        "even beside",
    )


def _glance_column(results: Results, metric: Metric, rows: Sequence[Condition]) -> list[Cell]:
    """Means with a bar from the worst of them (empty) to the best."""
    means = [interval(results, c.id, metric.id) for c in rows]
    known = [mean.mean for mean in means if mean is not None]
    low, high = (min(known), max(known)) if known else (0.0, 0.0)
    cells = []
    for mean in means:
        if mean is None:
            cells.append(Cell(NONE))
            continue
        share = (mean.mean - low) / (high - low) if high > low else 1.0
        share = 1 - share if metric.better == "lower" else share
        cells.append(Cell(number(mean.mean, digits_of(metric)), brackets(mean, digits_of(metric)), "", round(share, 3)))
    return cells


# ---- tables ----------------------------------------------------------------------------------------------------------


def score_tables(results: Results) -> Iterator[Table]:
    """All conditions by all metrics: headline ones first, the others a few at a time, diagnostic ones last."""
    main = headlines(results)
    rest = [m for m in results.metrics if not m.headline and not m.diagnostic]
    diagnostic = [m for m in results.metrics if m.diagnostic]
    if main:
        yield _score_table(results, "Headline metrics", main)
    parts = [rest[start : start + COLUMNS] for start in range(0, len(rest), COLUMNS)]
    for index, part in enumerate(parts, 1):
        name = f"More metrics, {index} of {len(parts)}" if len(parts) > 1 else "More metrics"
        yield _score_table(results, name, part)
    if diagnostic:
        yield _score_table(results, "Diagnostic only: not measures of quality", diagnostic)


def _score_table(results: Results, caption: str, metrics: Sequence[Metric]) -> Table:
    columns = [("kbit/s", "whole file"), ("kbit/s", "payload"), *((m.label, direction(m)) for m in metrics)]
    merged: list[tuple[str, list[Row]]] = []
    for series in results.series:
        conditions = results.of(series)
        name = SINGLE[conditions[0].kind] if len(conditions) == 1 else series_label(conditions)
        rows = [_score_row(results, condition, metrics) for condition in conditions]
        if merged and merged[-1][0] == name:
            merged[-1][1].extend(rows)
        else:
            merged.append((name, rows))
    return Table(f"{caption}: mean and 95 % interval", "Condition", columns, merged, "beside")


def _score_row(results: Results, condition: Condition, metrics: Sequence[Metric]) -> Row:
    rates = [Cell(number(results.kbps(condition.id, payload=payload))) for payload in (False, True)]
    means = [(m, interval(results, condition.id, m.id)) for m in metrics]
    cells = [
        Cell(number(s.mean, digits_of(m)), brackets(s, digits_of(m))) if s is not None else Cell(NONE) for m, s in means
    ]
    return Row(condition.label, rates + cells, colours(results).get(colour_key(condition), "control"))


def paired_tables(results: Results) -> Iterator[Table]:
    """For each model: its point minus every codec's, every other model's and its own bounds, item by item."""
    for lead in leads(results):
        others = [c for c in leads(results) if c != lead]
        bounds = [c for c in results.conditions if c.kind == "bound" and colour_key(c) == colour_key(lead)]
        again = [c for c in results.conditions if c.kind == "again" and colour_key(c) == colour_key(lead)]
        groups = [
            ("Codecs", codecs(results)),
            ("Other models", others),
            ("What quantisation costs", bounds),
            ("The same, several times", again),
        ]
        named = [(name, [_paired_row(results, lead, c) for c in group]) for name, group in groups if group]
        columns = [("kbit/s", "of the other"), *((m.label, direction(m)) for m in headlines(results))]
        rate = number(results.kbps(lead.id))
        if named:
            yield Table(f"{lead.label} ({rate} kbit/s) minus", "the other condition", columns, named)


def _paired_row(results: Results, lead: Condition, other: Condition) -> Row:
    cells = [Cell(number(results.kbps(other.id)))]
    for metric in headlines(results):
        found = compared(results, metric, lead, other)
        if found is None:
            cells.append(Cell(NONE))
            continue
        d, digits = found.difference, digits_of(metric)
        note = f"{brackets(d, digits, True)} · {found.wins}/{found.ties}/{found.losses}".removeprefix(" · ")
        cells.append(Cell(number(d.mean, digits, True), note, tone_of(d, metric)))
    return Row(other.label, cells, colours(results).get(colour_key(other), "control"))


def delta_tables(results: Results) -> Iterator[Table]:
    """Bjontegaard differences of every model's own curve from every codec's and every other model's."""
    mine = list(dict.fromkeys(c.series for c in leads(results)))
    series = [*mine, *efforts(results), *dict.fromkeys(c.series for c in codecs(results))]
    columns = [
        ("Rate", "% for the same score"),
        ("Overlap", "of scores"),
        ("Score", "at the same rate"),
        ("Overlap", "of rates"),
    ]
    for name in mine:
        others = [(series_label(results.of(other)), other) for other in series if other != name]
        groups = [(f"against {label}", _delta_rows(results, name, other)) for label, other in others]
        if groups:
            yield Table(f"{name}: differences of whole curves", "Metric", columns, groups, "even wordy")


def _delta_rows(results: Results, series: str, other: str) -> list[Row]:
    """A row for each metric, or a single one where all say the same."""
    metrics = [m for m in headlines(results) if m.better]
    colour = colours(results).get(colour_key(results.of(other)[0]), "control")
    rows = [Row(m.label, _delta_cells(results, m, series, other), colour) for m in metrics]
    alike = len(rows) > 1 and all(row.cells == rows[0].cells for row in rows)
    return [Row("every metric", rows[0].cells, colour)] if alike else rows


def _delta_cells(results: Results, metric: Metric, series: str, other: str) -> list[Cell]:
    mine, theirs = (statistics.curve(results, name, metric.id) for name in (series, other))
    kinds: list[tuple[Callable[..., Delta], str, int, str]] = [
        (statistics.bd_rate, "%", 0, metric.unit),
        (statistics.bd_quality, metric.unit, digits_of(metric), "kbit/s"),
    ]
    cells: list[Cell] = []
    for function, unit, digits, span in kinds:
        pchip, akima = (function(mine, theirs, method, metric.better) for method in statistics.METHODS)
        why = _named(f"{pchip.reason}; {pchip.note}".strip("; "), series, series_label(results.of(other)))
        if pchip.value is None or akima.value is None:
            known = not pchip.reason.startswith("too few")  # without a curve there is no overlap to speak of
            cells += [Cell(NONE, why), Cell(f"{100 * pchip.overlap:.0f} %" if known else NONE)]
            continue
        note = f"Akima {number(akima.value, digits, True)}" + (f"; {why}" if why else "")
        reach = f"{number(pchip.low)} to {number(pchip.high)} {span}".strip()
        value = f"{number(pchip.value, digits, True)} {unit}".strip()
        cells += [Cell(value, note), Cell(f"{100 * pchip.overlap:.0f} %", reach)]
    return cells


def _named(text: str, a: str, b: str) -> str:
    """A text of `statistics` about curves a and b with their names."""
    names = {"a": a, "b": b}
    return re.sub(r"\b(?:curve ([ab])\b|([ab])(?=: left out))", lambda found: names[found[1] or found[2]], text)


@dataclass(frozen=True)
class Worst:
    """The items that a model did worst on by a metric: (item id, value)."""

    condition: Condition
    metric: Metric
    items: list[tuple[str, str]]


def worst_items(results: Results) -> list[Worst]:
    """Of every model's point, by every headline metric."""
    return [
        Worst(lead, m, [(i, number(v)) for i, v in statistics.worst(results, m.id, lead.id, WORST)])
        for lead in leads(results)
        for m in headlines(results)
        if results.values(lead.id, m.id)
    ]


def speed_table(results: Results) -> Table | None:
    """Times of real commands; None if none was measured."""
    columns = [
        ("Threads", ""),
        (f"{TIMES} real time", "after start-up"),
        ("Seconds", "in all"),
        ("Seconds", "start-up"),
        ("Audio", "seconds"),
        ("Memory", "peak, MiB"),
    ]
    groups: dict[str, list[Row]] = {}
    for s in results.speed:
        work = s.seconds - s.startup_seconds
        times = number(s.audio_seconds / work, 1) if work > 0 else NONE
        cells = [str(s.threads), times, number(s.seconds), number(s.startup_seconds), number(s.audio_seconds, 0)]
        cells.append(number(s.peak_bytes / MIB, 0))
        groups.setdefault(s.model, []).append(Row(s.what, [Cell(text) for text in cells]))
    return Table("Speed of the command line", "Command", columns, list(groups.items())) if groups else None


def facts(values: dict[str, Any]) -> list[tuple[str, str]]:
    """A mapping as (name, text), nested values as `name: value` lists."""
    return [(key.replace("_", " "), _fact(value)) for key, value in values.items()]


def _fact(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key}: {_fact(v)}" for key, v in value.items()) or NONE
    if isinstance(value, list):
        return ", ".join(_fact(v) for v in value) or NONE
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) >= 10_000:
        return f"{value:,}".replace(",", "\u202f")  # narrow no-break space
    return NONE if value in (None, "") else str(value)
