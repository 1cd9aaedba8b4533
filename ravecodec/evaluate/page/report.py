"""The page of an evaluation: index.html from results.json and audio/ alone; the same input gives
the same bytes.

Everything is inside the page (figures, scripts, the audio of some excerpts), or beside it (the
other audio, linked by relative paths); a content security policy forbids any other request. What it
says is in verdict.py and tables.py, what it draws in figures.py, how it looks and plays in
templates/. Needs jinja2 and matplotlib (extra `eval`).
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from ravecodec.evaluate import statistics
from ravecodec.evaluate.filters import RATE
from ravecodec.evaluate.page import cells, figures, series, tables, verdict
from ravecodec.evaluate.page.charts import Chart, spectrograms_svg
from ravecodec.evaluate.page.html import Player, Sound, flac_url, write_html
from ravecodec.evaluate.results import Condition, Item, Results
from ravecodec.evaluate.sounds import read_sound

REFERENCE = "reference"
PICTURED = 2  # items that have spectrograms
# Drawn over dims beside the headline metrics, as in the paper.
DISTANCES = "spectral_paper", "spectral_floored"


@dataclass(frozen=True)
class Links:
    """An item that a model did badly on: its score and where to hear it, (label, URL)."""

    title: str
    value: str
    links: list[tuple[str, str]]


def write_page(results: Results, folder: Path, embed: int = 2) -> Path:
    """Writes FOLDER/index.html and returns its path.

    embed: how many items carry their audio inside the page; those of the others are links to
    FOLDER/audio, and what is not there is left out. Raises UsageError where jinja2 or matplotlib is
    missing, InputError for audio that cannot be read, OutputError.
    """
    context = _context(results, folder, embed)
    return write_html(folder / "index.html", "evaluation.html.j2", **context)


def _context(results: Results, folder: Path, embed: int) -> dict[str, Any]:
    """All that the template names."""
    curves = [figures.rate_curves(results, metric) for metric in series.headlines(results)]
    return {
        "title": f"{results.name}: evaluation of ravecodec",
        "results": results,
        "verdict": verdict.verdict(results),
        "glance": tables.glance(results),
        "curves": [chart.svg() for chart in curves],
        "dims": [chart.svg() for chart in _over_dims(results)],
        "players": list(_players(results, folder, embed)),
        "pictures": list(_pictures(results, folder)),
        "scores": list(tables.score_tables(results)),
        "paired": list(tables.paired_tables(results)),
        "deltas": list(tables.delta_tables(results)),
        "prediction": list(tables.prediction_tables(results)),
        "worst": _worst(results, folder),
        "speed": tables.speed_table(results),
        "models": [(name, cells.facts(values)) for name, values in results.models.items()],
        "manifest": cells.facts(results.manifest),
        "direction": cells.direction,
        "compact_json": lambda value: json.dumps(value, ensure_ascii=False),
    }


def _over_dims(results: Results) -> Iterator[Chart]:
    """The paper's figures: f over dims, and distances over dims."""
    metrics = [m for m in results.metrics if m.id in DISTANCES or m.headline]
    charts = [figures.fidelity(results), *(figures.over_dims(results, m) for m in metrics)]
    yield from (chart for chart in charts if chart is not None)


# ---- sound ---------------------------------------------------------------------------------------


def _url(item: Item, condition: str) -> str:
    return f"audio/{quote(item.id)}/{quote(condition)}.flac"


def _file(folder: Path, item: Item, condition: str) -> Path:
    return folder / "audio" / item.id / f"{condition}.flac"


def _items_with_audio(results: Results, folder: Path) -> list[Item]:
    return [item for item in results.items if _file(folder, item, REFERENCE).is_file()]


def _players(results: Results, folder: Path, embed: int) -> Iterator[Player]:
    chosen = series.played(results)
    for index, item in enumerate(_items_with_audio(results, folder)):
        there = [c for c in results.conditions if _file(folder, item, c.id).is_file()]
        inside = index < embed
        sounds = [Sound("original", "", "ink", _source(folder, item, REFERENCE, inside))]
        for condition in [c for c in chosen if c in there]:
            rate = results.kbps(condition.id)
            text = f"{cells.number(rate)} kbit/s" if rate is not None else ""
            source = _source(folder, item, condition.id, inside)
            sounds.append(Sound(condition.label, text, series.colour(results, condition), source))
        more = [(c.label, _url(item, c.id)) for c in there if c not in chosen]
        yield Player(series.item_title(item), item.seconds, sounds, inside, more)


def _source(folder: Path, item: Item, condition: str, inside: bool) -> str:
    """What an <audio> element plays."""
    if not inside:
        return _url(item, condition)
    return flac_url(_file(folder, item, condition).read_bytes())


def _offered(results: Results, models: list[Condition]) -> dict[str, str]:
    """Labels by condition of what is set side by side: the original, these models, and the anchor
    nearest to the first of them in rate."""
    offered = {REFERENCE: "original"} | {c.id: c.label for c in models}
    codecs = series.of_kind(results, "codec")
    anchor = series.nearest(results, models[0], codecs) if models else None
    return offered if anchor is None else offered | {anchor.id: anchor.label}


def _pictures(results: Results, folder: Path) -> Iterator[tuple[str, str]]:
    """Spectrograms of the first items."""
    shown = _offered(results, series.leads(results))
    for item in _items_with_audio(results, folder)[:PICTURED]:
        files = {label: _file(folder, item, name) for name, label in shown.items()}
        mids = {label: read_sound(path).mean(0) for label, path in files.items() if path.is_file()}
        yield series.item_title(item), spectrograms_svg(mids, RATE)


def _worst(results: Results, folder: Path) -> list[tuple[str, list[tuple[str, list[Links]]]]]:
    """By model, whose own point is meant: (headline metric, its worst items)."""
    items = {item.id: item for item in results.items}
    models = []
    for lead in series.leads(results):
        offered = _offered(results, [lead])
        metrics = []
        for metric in series.headlines(results):
            rows = [
                Links(
                    series.item_title(items[name]),
                    cells.number(value),
                    _links(folder, items[name], offered),
                )
                for name, value in statistics.worst(results, metric, lead.id)
            ]
            if rows:
                metrics.append((metric.label, rows))
        if metrics:
            models.append((lead.label, metrics))
    return models


def _links(folder: Path, item: Item, offered: dict[str, str]) -> list[tuple[str, str]]:
    """(label, URL) of those conditions whose files are there."""
    return [
        (label, _url(item, name))
        for name, label in offered.items()
        if _file(folder, item, name).is_file()
    ]
