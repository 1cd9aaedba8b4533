#!/usr/bin/env python3
"""The numbers of README.md, docs/evaluation.md and the models' cards, made from the results of an
evaluation for each model.

    python scripts/report_tables.py              # from docs/evaluation/*.json
    python scripts/report_tables.py --results REPORT/results.json    # take over a new one before
    python scripts/report_tables.py --results REPORT/results.json --model strings
    python scripts/report_tables.py --check      # exit 1 if a page says something else

Blocks between `<!-- table: NAME -->` and `<!-- end -->` are replaced, and so are, within a line,
`<!-- number: NAME -->` and `<!-- mean: CONDITION METRIC -->`: NAME is of NUMBERS, CONDITION an id
of the results or own, unquantised, cropped.
The files in docs/evaluation keep the headline metrics and a few more; REPORT has all. Needs
`ravecodec[eval]` for the figures, numpy and soundfile for the rest.
"""

from __future__ import annotations

import argparse
import dataclasses
import re
import shlex
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from ravecodec.evaluate.evaluation import folder_above, without_folders
from ravecodec.evaluate.page import cells, tables
from ravecodec.evaluate.page.cells import Cell, Row, Table
from ravecodec.evaluate.page.series import headlines, interval, leads
from ravecodec.evaluate.results import Condition, Metric, Results

ROOT = Path(__file__).resolve().parent.parent
HOME = ROOT / "docs" / "evaluation"
CARDS = ROOT / "models" / "pretrained"
# Model -> its results, and the pages that are made of them.
RESULTS = {
    "default": HOME / "results.json",
    "strings": HOME / "strings.json",
    "strings-live": HOME / "strings-live.json",
}
PAGES = {
    "default": (ROOT / "README.md", ROOT / "docs" / "evaluation.md", CARDS / "default.md"),
    "strings": (CARDS / "strings.md",),
    "strings-live": (CARDS / "strings-live.md",),
}
KEPT = (
    "loudness_error",
    "spectral_floored",
    "mel_dac",
    "stereo_level_error",
    "stereo_correlation_error",
)
# Rows of README's table.
SHORT = (
    "opus-8",
    "opus-60ms-9",
    "opus-12",
    "opus-16",
    "noise-vocoded",
    "another-excerpt",
)


def compacted(results: Results) -> Results:
    """With headline metrics and those of KEPT only, and without what only the full report needs or
    where it lay.
    """
    metrics = [m for m in results.metrics if m.headline or m.id in KEPT]
    names = {m.id for m in metrics}
    scores = [
        dataclasses.replace(score, values={k: v for k, v in score.values.items() if k in names})
        for score in results.scores
    ]
    above = folder_above([Path(item.source) for item in results.items])
    items = [
        dataclasses.replace(item, source=item.source.removeprefix(above)) for item in results.items
    ]
    unreadable = [sentence.removeprefix(above) for sentence in results.unreadable]
    command = shlex.join(without_folders(shlex.split(results.manifest["command"])))
    manifest = results.manifest | {"command": command}
    return dataclasses.replace(
        results,
        metrics=metrics,
        scores=scores,
        items=items,
        unreadable=unreadable,
        manifest=manifest,
    )


def name_of(metric: Metric) -> str:
    """A metric as the head of a column of README's table."""
    unit = f", {metric.unit}" if metric.unit == "dB" else ""
    better = " (less is better)" if metric.better == "lower" else ""
    return f"{metric.label}{unit}{better}"


def own_point(results: Results) -> Condition:
    """The default point of the first model."""
    return leads(results)[0]


def short_table(results: Results) -> Table:
    """README's: the model at its own point and a few neighbours, means only."""
    own, metrics = own_point(results), headlines(results)
    known = {c.id: c for c in results.conditions}
    labels = {own.id: f"**ravecodec, {own.label}** (stereo)"}
    for name in SHORT:
        if name in known:
            label = known[name].label
            labels[name] = f"*control: {label}*" if known[name].kind == "control" else label
    rows = [Row(label, _means(results, known[name], metrics)) for name, label in labels.items()]
    columns = [("kbit/s", ""), *((name_of(metric), "") for metric in metrics)]
    return Table("", "codec", columns, [("", rows)])


def _means(results: Results, condition: Condition, metrics: list[Metric]) -> list[Cell]:
    means = [cells.mean_cell(interval(results, condition, metric), metric) for metric in metrics]
    return [cells.rate_cell(results, condition), *(Cell(cell.text) for cell in means)]


def full_table(results: Results) -> Table:
    """Every condition with 95 % intervals."""
    return tables.score_table(results, "", headlines(results))


def paired_table(results: Results) -> Table:
    """The model's own point minus everything else, by item."""
    table = next(tables.paired_tables(results))
    return dataclasses.replace(table, head=table.caption)


TABLES: dict[str, Callable[[Results], Table]] = {
    "short": short_table,
    "full": full_table,
    "paired": paired_table,
}


def rates(results: Results) -> str:
    """Lowest and highest rate of an excerpt at the model's own point, in kbit/s."""
    seconds = {item.id: item.seconds for item in results.items}
    own = own_point(results).id
    found = [
        s.bytes * 8 / 1000 / seconds[s.item]
        for s in results.scores
        if s.condition == own and s.bytes is not None
    ]
    return f"{min(found):.1f} to {max(found):.1f}"


NUMBERS: dict[str, Callable[[Results], str]] = {
    "rate": lambda results: f"{results.kbps(own_point(results).id):.1f}",
    "rates": rates,
}


def mean(results: Results, name: str, metric: str) -> str:
    """A condition's mean; SystemExit where there is none.

    name: its id, or own, unquantised or cropped.
    """
    own = own_point(results)
    bounds = [c.id for c in results.conditions if c.kind == "bound" and c.model == own.model]
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
        return (
            f"<!-- mean: {found[1]} {found[2]} -->{mean(results, found[1], found[2])}<!-- end -->"
        )

    def block(found: re.Match[str]) -> str:
        if found[1] not in TABLES:
            sys.exit(f"no table is called {found[1]!r}; expected {', '.join(TABLES)}")
        table = cells.markdown(TABLES[found[1]](results))
        return f"<!-- table: {found[1]} -->\n{table}\n<!-- end -->"

    text = re.sub(r"<!-- number: (\S+) -->.*?<!-- end -->", number, text)
    text = re.sub(r"<!-- mean: (\S+) (\S+) -->.*?<!-- end -->", average, text)
    return re.sub(r"<!-- table: (\S+) -->\n.*?<!-- end -->", block, text, flags=re.DOTALL)


def pages() -> Iterator[tuple[Path, Results]]:
    """Every page with numbers, and the results that they are of."""
    for model, path in RESULTS.items():
        if path.exists():
            results = Results.load(path)
            yield from ((page, results) for page in PAGES[model])


def write_figures(results: Results) -> None:
    """One SVG for each headline metric."""
    from ravecodec.evaluate.page import charts, figures

    for metric in headlines(results):
        svg = figures.rate_curves(results, metric).svg()
        (HOME / f"{metric.id}.svg").write_text(charts.standalone(svg))


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--results", type=Path, help="results.json of the evaluation to take over")
    parser.add_argument("--model", choices=RESULTS, default="default", help="whose they are")
    parser.add_argument("--check", action="store_true", help="write nothing")
    args = parser.parse_args()
    if args.results:
        HOME.mkdir(exist_ok=True)
        compacted(Results.load(args.results)).save(RESULTS[args.model])
    fresh = {page: renewed(page.read_text(), results) for page, results in pages()}
    stale = [page for page, text in fresh.items() if page.read_text() != text]
    if args.check:
        return int(bool(stale))
    for page in stale:
        page.write_text(fresh[page])
    write_figures(Results.load(RESULTS["default"]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
