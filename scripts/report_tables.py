#!/usr/bin/env python3
"""The numbers of README.md, docs/evaluation.md and the model's card, made from the results of one evaluation.

    python scripts/report_tables.py --results REPORT/results.json     # take over a new evaluation, then as below
    python scripts/report_tables.py              # tables and figures from docs/evaluation/results.json
    python scripts/report_tables.py --check      # exit 1 if a page says something else

Blocks between `<!-- table: NAME -->` and `<!-- end -->` are replaced, and so are, within a line,
`<!-- number: NAME -->` and `<!-- mean: CONDITION METRIC -->`: NAME is of NUMBERS, CONDITION an id of the
results or own, unquantised, cropped.
docs/evaluation/results.json keeps the headline metrics and a few more; REPORT has all. Needs `ravecodec[eval]` for the
figures, numpy and soundfile for the rest.
"""

from __future__ import annotations

import argparse
import dataclasses
import re
import shlex
import sys
from collections.abc import Callable
from pathlib import Path

from ravecodec.evaluate.evaluation import folder_above, without_folders
from ravecodec.evaluate.results import Condition, Metric, Results
from ravecodec.evaluate.statistics import clusters_of, mean_interval, paired

ROOT = Path(__file__).resolve().parent.parent
HOME = ROOT / "docs" / "evaluation"
CARD = ROOT / "models" / "pretrained" / "default.md"
PAGES = (ROOT / "README.md", ROOT / "docs" / "evaluation.md", CARD)
KEPT = ("loudness_error", "spectral_floored", "mel_dac", "stereo_level_error", "stereo_correlation_error")
SHORT = (
    "default",
    "opus-8",
    "opus-60ms-9",
    "opus-12",
    "opus-16",
    "noise-vocoded",
    "another-excerpt",
)  # rows of README's table


def compacted(results: Results) -> Results:
    """With headline metrics and those of KEPT only, and without what only the full report needs or where it lay."""
    metrics = [m for m in results.metrics if m.headline or m.id in KEPT]
    names = {m.id for m in metrics}
    scores = [
        dataclasses.replace(score, values={k: v for k, v in score.values.items() if k in names})
        for score in results.scores
    ]
    above = folder_above([Path(item.source) for item in results.items])
    items = [dataclasses.replace(item, source=item.source.removeprefix(above)) for item in results.items]
    unreadable = [sentence.removeprefix(above) for sentence in results.unreadable]
    command = shlex.join(without_folders(shlex.split(results.manifest["command"])))
    manifest = results.manifest | {"command": command}
    return dataclasses.replace(
        results, metrics=metrics, scores=scores, items=items, unreadable=unreadable, manifest=manifest
    )


def headlines(results: Results) -> list[Metric]:
    return [metric for metric in results.metrics if metric.headline]


def cell(results: Results, condition: Condition, metric: Metric) -> str:
    """'mean [low, high]', or a dash."""
    values = results.values(condition.id, metric.id)
    return mean_interval(values, clusters_of(results)).text() if values else "-"


def rate(results: Results, condition: Condition, *, payload: bool = False) -> str:
    kbps = results.kbps(condition.id, payload=payload)
    return "" if kbps is None else f"{kbps:.2f}"


def name_of(metric: Metric) -> str:
    unit = f", {metric.unit}" if metric.unit == "dB" else ""
    return f"{metric.label}{unit}" + (" (less is better)" if metric.better == "lower" else "")


def own_point(results: Results) -> Condition:
    """The default point of the first model."""
    return next(c for c in results.conditions if c.settings.get("default"))


def short_table(results: Results) -> list[str]:
    """README's: the model at its own point and a few neighbours, means only."""
    rows = {c.id: c for c in results.conditions} | {"default": own_point(results)}
    columns = headlines(results)
    lines = ["| codec | kbit/s | " + " | ".join(map(name_of, columns)) + " |", "|---" * (len(columns) + 2) + "|"]
    for key in SHORT:
        if key not in rows:
            continue
        condition = rows[key]
        label = f"**ravecodec, {condition.label}** (stereo)" if key == "default" else condition.label
        label = f"*control: {label}*" if condition.kind == "control" else label
        means = [results.values(condition.id, metric.id) for metric in columns]
        cells = [f"{sum(v.values()) / len(v):.2f}" if v else "-" for v in means]
        lines.append(f"| {label} | {rate(results, condition)} | " + " | ".join(cells) + " |")
    return lines


def full_table(results: Results) -> list[str]:
    """Every condition with 95 % intervals."""
    columns = headlines(results)
    head = ["condition", "kbit/s, file", "payload", *map(name_of, columns)]
    lines = [f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
    for condition in results.conditions:
        rates = [rate(results, condition), rate(results, condition, payload=True)]
        cells = [condition.label, *rates, *(cell(results, condition, metric) for metric in columns)]
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def paired_table(results: Results) -> list[str]:
    """The model's own point minus every codec and control, by item."""
    own, columns, clusters = own_point(results), headlines(results), clusters_of(results)
    head = [f"{own.label} minus", *map(name_of, columns)]
    lines = [f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
    for condition in results.conditions:
        if condition.kind not in ("codec", "control"):
            continue
        cells = [condition.label]
        for metric in columns:
            mine, theirs = (results.values(c.id, metric.id) for c in (own, condition))
            found = paired(mine, theirs, clusters, metric.better)
            cells.append(f"{found.difference.text(sign='+')}, {found.wins}/{found.difference.n}")
        lines.append(f"| {' | '.join(cells)} |")
    return lines


TABLES: dict[str, Callable[[Results], list[str]]] = {"short": short_table, "full": full_table, "paired": paired_table}


def rates(results: Results) -> str:
    """Lowest and highest rate of an excerpt at the model's own point, in kbit/s."""
    seconds = {item.id: item.seconds for item in results.items}
    own = own_point(results).id
    found = [s.bytes * 8 / 1000 / seconds[s.item] for s in results.scores if s.condition == own and s.bytes is not None]
    return f"{min(found):.1f} to {max(found):.1f}"


NUMBERS: dict[str, Callable[[Results], str]] = {
    "rate": lambda results: f"{results.kbps(own_point(results).id):.1f}",
    "rates": rates,
}


def mean(results: Results, name: str, metric: str) -> str:
    """A condition's mean; SystemExit where there is none. name: its id, or own, unquantised or cropped."""
    own = own_point(results)
    bounds = [c.id for c in results.conditions if c.kind == "bound" and c.series.startswith(f"{own.series}, ")]
    named = {"own": own.id} | dict(zip(("unquantised", "cropped"), bounds, strict=False))
    values = list(results.values(named.get(name, name), metric).values())
    if not values:
        sys.exit(f"no condition {name!r} was measured by {metric!r}")
    return f"{sum(values) / len(values):.2f}"


def renewed(text: str, results: Results) -> str:
    """A page with its tables and numbers made anew; SystemExit for a name that is neither."""

    def number(found: re.Match[str]) -> str:
        if found[1] not in NUMBERS:
            sys.exit(f"no number is called {found[1]!r}; expected {', '.join(NUMBERS)}")
        return f"<!-- number: {found[1]} -->{NUMBERS[found[1]](results)}<!-- end -->"

    def average(found: re.Match[str]) -> str:
        return f"<!-- mean: {found[1]} {found[2]} -->{mean(results, found[1], found[2])}<!-- end -->"

    def block(found: re.Match[str]) -> str:
        if found[1] not in TABLES:
            sys.exit(f"no table is called {found[1]!r}; expected {', '.join(TABLES)}")
        return f"<!-- table: {found[1]} -->\n" + "\n".join(TABLES[found[1]](results)) + "\n<!-- end -->"

    text = re.sub(r"<!-- number: (\S+) -->.*?<!-- end -->", number, text)
    text = re.sub(r"<!-- mean: (\S+) (\S+) -->.*?<!-- end -->", average, text)
    return re.sub(r"<!-- table: (\S+) -->\n.*?<!-- end -->", block, text, flags=re.DOTALL)


def write_figures(results: Results) -> None:
    """One SVG for each headline metric."""
    from ravecodec.evaluate import figures

    for metric in headlines(results):
        svg = figures.standalone(figures.rate_curves(results, metric))
        (HOME / f"{metric.id}.svg").write_text(svg)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--results", type=Path, help="results.json of the evaluation to take over")
    parser.add_argument("--check", action="store_true", help="write nothing")
    args = parser.parse_args()
    if args.results:
        HOME.mkdir(exist_ok=True)
        compacted(Results.load(args.results)).save(HOME / "results.json")
    results = Results.load(HOME / "results.json")
    stale = [page for page in PAGES if renewed(page.read_text(), results) != page.read_text()]
    if args.check:
        return int(bool(stale))
    for page in stale:
        page.write_text(renewed(page.read_text(), results))
    write_figures(results)
    return 0


if __name__ == "__main__":
    sys.exit(main())
