"""Tables as plain data whose numbers are already text: the templates print them as HTML, `markdown`
as Markdown.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ravecodec.evaluate import statistics
from ravecodec.evaluate.results import Condition, Metric, Results
from ravecodec.evaluate.statistics import Interval, Paired

NONE, MINUS, TIMES = "\u2013", "\u2212", "\u00d7"  # an en dash, the true minus and times signs


@dataclass(frozen=True)
class Cell:
    """`text` with a smaller `note` below it; `tone`: "good", "bad" or ""; `share`: 0..1, length of
    a bar, or None."""

    text: str
    note: str = ""
    tone: str = ""
    share: float | None = None


@dataclass(frozen=True)
class Row:
    """`colour`: a name of charts.COLOURS."""

    label: str
    cells: list[Cell]
    colour: str = "control"


@dataclass(frozen=True)
class Table:
    """`groups`: (name, rows); the name is "" where rows are not grouped. `columns`: (name, a
    smaller line below). `look`: a class of style.css."""

    caption: str
    head: str
    columns: list[tuple[str, str]]
    groups: list[tuple[str, list[Row]]]
    look: str = ""


def markdown(table: Table) -> str:
    """The table as GitHub's Markdown: without caption and names of groups, notes behind their
    numbers."""
    heads = [table.head]
    heads += [f"{name}, {below}" if below else name for name, below in table.columns]
    lines = [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    for _, rows in table.groups:
        for row in rows:
            texts = [row.label, *(f"{cell.text} {cell.note}".strip() for cell in row.cells)]
            lines.append(f"| {' | '.join(texts)} |")
    return "\n".join(lines)


# ---- numbers as text -----------------------------------------------------------------------------


def number(value: float | None, digits: int = 2, sign: bool = False) -> str:
    """With a true minus; an en dash for none."""
    if value is None or math.isnan(value):
        return NONE
    if float(f"{value:.{digits}f}") == 0:
        return f"{0:.{digits}f}"  # neither -0.00 nor +0.00
    text = f"{value:+.{digits}f}" if sign else f"{value:.{digits}f}"
    return text.replace("-", MINUS)


def digits_of(metric: Metric) -> int:
    return 1 if metric.diagnostic else 2


def brackets(mean: Interval, digits: int = 2, sign: bool = False) -> str:
    """`[low, high]`, empty where there is no interval."""
    return (
        f"[{number(mean.low, digits, sign)}, {number(mean.high, digits, sign)}]"
        if mean.bounded
        else ""
    )


def mean_cell(mean: Interval | None, metric: Metric, share: float | None = None) -> Cell:
    """A mean with its interval below it."""
    if mean is None:
        return Cell(NONE)
    digits = digits_of(metric)
    return Cell(number(mean.mean, digits), brackets(mean, digits), share=share)


def rate_cell(results: Results, condition: Condition, *, payload: bool = False) -> Cell:
    return Cell(number(results.kbps(condition.id, payload=payload)))


def direction(metric: Metric) -> str:
    """What a column's head says below its name."""
    arrow = {"higher": "↑ higher is better", "lower": "↓ lower is better"}.get(
        metric.better, "0 is right"
    )
    return f"{metric.unit}, {arrow}" if metric.unit else arrow


def metric_columns(metrics: Sequence[Metric]) -> list[tuple[str, str]]:
    return [(metric.label, direction(metric)) for metric in metrics]


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


# ---- differences ---------------------------------------------------------------------------------


def compared(results: Results, metric: Metric, a: Condition, b: Condition) -> Paired | None:
    """a minus b; None where they share no item."""
    mine, theirs = (results.values(condition.id, metric.id) for condition in (a, b))
    if not mine.keys() & theirs.keys():
        return None
    return statistics.paired(mine, theirs, statistics.clusters_of(results), metric.better)


def tone_of(difference: Interval, metric: Metric) -> str:
    """Whether a difference is good or bad, where its interval leaves no doubt."""
    if metric.better == "" or not difference.bounded or difference.low <= 0 <= difference.high:
        return ""
    return "good" if (difference.mean > 0) == (metric.better == "higher") else "bad"
