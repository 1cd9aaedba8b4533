"""The page of an evaluation: index.html from results.json and audio/ alone; the same input gives the same bytes.

Everything is inside the page (figures, scripts, the audio of some excerpts), or beside it (the other audio, linked by
relative paths); a content security policy forbids any other request. What it says is in tables.py, what it draws in
figures.py, how it looks and plays in templates/. Needs jinja2 and matplotlib (extra `eval`).
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import soundfile
from numpy.typing import NDArray

from ravecodec.errors import InputError, UsageError
from ravecodec.evaluate import charts, figures, tables
from ravecodec.evaluate.results import Condition, Item, Results
from ravecodec.files import AtomicFile

TEMPLATES = Path(__file__).resolve().parent / "templates"
REFERENCE = "reference"
PICTURED = 2  # items that have spectrograms
KEYS = 9  # 1..9 switch
UNHEARD = ("identity", "another-excerpt")  # controls that nobody needs to hear
DISTANCES = ("spectral_paper", "spectral_floored")  # drawn over dims beside the headline metrics, as in the paper


@dataclass(frozen=True)
class Sound:
    """Something to listen to. `source`: URL, the audio itself where `inside`; `file`: URL of the file."""

    label: str
    rate: str
    colour: str
    source: str
    file: str


@dataclass(frozen=True)
class Player:
    """`sounds` of an item, the original first; `more`: links (label, URL) to all other conditions of it."""

    item: Item
    title: str
    inside: bool
    sounds: list[Sound]
    more: list[tuple[str, str]]


@dataclass(frozen=True)
class Links:
    """An item that a model did badly on: its score and where to hear it, (label, URL)."""

    title: str
    value: str
    links: list[tuple[str, str]]


def write_page(results: Results, folder: Path, embed: int = 2) -> Path:
    """Writes FOLDER/index.html and returns its path.

    embed: how many items carry their audio inside the page; those of the others are links to FOLDER/audio, and what is
    not there is left out. Raises UsageError where jinja2 or matplotlib is missing, InputError for audio that cannot be
    read, OutputError.
    """
    try:
        from jinja2 import Environment, FileSystemLoader, StrictUndefined
    except ImportError as error:
        raise UsageError("the report needs jinja2: `pip install 'ravecodec[eval]'`") from error
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES, encoding="utf-8"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    text = environment.get_template("index.html.j2").render(_context(results, folder, embed))
    path = folder / "index.html"
    with AtomicFile(path, force=True) as file:
        file.write(text.encode())
    return path


def _context(results: Results, folder: Path, embed: int) -> dict[str, Any]:
    """All that the template names."""
    from markupsafe import Markup

    drawings = [Markup(svg) for svg in _curves(results)]
    return {
        "results": results,
        "palette": [{name: pair[shade] for name, pair in charts.COLOURS.items()} for shade in (0, 1)],
        "name_style": Markup(charts.NAME_STYLE),
        "verdict": tables.verdict(results),
        "glance": tables.glance(results),
        "curves": drawings,
        "dims": [Markup(svg) for svg in _over_dims(results)],
        "players": list(_players(results, folder, embed)),
        "pictures": [(title, Markup(svg)) for title, svg in _pictures(results, folder)],
        "scores": list(tables.score_tables(results)),
        "paired": list(tables.paired_tables(results)),
        "deltas": list(tables.delta_tables(results)),
        "worst": _worst(results, folder),
        "speed": tables.speed_table(results),
        "models": [(name, tables.facts(values)) for name, values in results.models.items()],
        "manifest": tables.facts(results.manifest),
        "direction": tables.direction,
        "compact_json": lambda value: json.dumps(value, ensure_ascii=False),
    }


def _curves(results: Results) -> Iterator[str]:
    for metric in tables.headlines(results):
        yield figures.rate_curves(results, metric)


def _over_dims(results: Results) -> Iterator[str]:
    """The paper's figures: f over dims, and distances over dims."""
    if curve := figures.fidelity(results):
        yield curve
    for metric in [m for m in results.metrics if m.id in DISTANCES or m.headline]:
        if curve := figures.over_dims(results, metric):
            yield curve


# ---- sound -----------------------------------------------------------------------------------------------------------


def heard(results: Results) -> list[Condition]:
    """What can be switched to beside the original: every model's point, of each codec what is nearest to it in rate,
    two controls and bounds; at most 8."""
    codecs = tables.codecs(results)
    series = dict.fromkeys(c.series for c in codecs)
    leads = tables.leads(results)
    near = [tables.nearest(results, lead, (c for c in codecs if c.series == name)) for name in series for lead in leads]
    controls = [c for c in results.conditions if c.kind == "control" and c.settings.get("do") not in UNHEARD]
    controls.sort(key=lambda c: c.settings.get("do") != "noise-vocoded")
    bounds = [c for c in results.conditions if c.kind == "bound" and c.settings.get("dims") is None]
    wanted = [*leads, *(c for c in near if c is not None), *controls[:2], *bounds]
    return list({c.id: c for c in wanted}.values())[: KEYS - 1]


def title_of(item: Item) -> str:
    """`song.ogg from 0:12`."""
    name = Path(item.source.replace("\\", "/")).name or item.id
    return f"{name} from {int(item.start) // 60}:{int(item.start) % 60:02d}"


def _url(item: str, condition: str) -> str:
    return f"audio/{quote(item)}/{quote(condition)}.flac"


def _sound_file(folder: Path, item: str, condition: str) -> Path:
    return folder / "audio" / item / f"{condition}.flac"


def _there(folder: Path, item: str, condition: str) -> bool:
    return _sound_file(folder, item, condition).is_file()


def _players(results: Results, folder: Path, embed: int) -> Iterator[Player]:
    chosen = heard(results)
    for index, item in enumerate(item for item in results.items if _there(folder, item.id, REFERENCE)):
        inside = index < embed
        sounds = [_sound(folder, item.id, REFERENCE, "original", "", "ink", inside)]
        for condition in chosen:
            if _there(folder, item.id, condition.id):
                rate = results.kbps(condition.id)
                text = f"{tables.number(rate)} kbit/s" if rate is not None else ""
                colour = figures.colours(results).get(figures.colour_key(condition), "control")
                sounds.append(_sound(folder, item.id, condition.id, condition.label, text, colour, inside))
        rest = [c for c in results.conditions if c not in chosen and _there(folder, item.id, c.id)]
        yield Player(item, title_of(item), inside, sounds, [(c.label, _url(item.id, c.id)) for c in rest])


def _sound(folder: Path, item: str, condition: str, label: str, rate: str, colour: str, inside: bool) -> Sound:
    url = _url(item, condition)
    source = url
    if inside:
        data = base64.b64encode(_sound_file(folder, item, condition).read_bytes()).decode()
        source = f"data:audio/flac;base64,{data}"
    return Sound(label, rate, colour, source, url)


def _pictures(results: Results, folder: Path) -> Iterator[tuple[str, str]]:
    """Spectrograms of the first items: original, each model, and the anchor nearest to the first model in rate."""
    leads = tables.leads(results)
    anchor = tables.nearest(results, leads[0], tables.codecs(results)) if leads else None
    shown = {c.id: c.label for c in [*leads, *([anchor] if anchor else [])]}
    items = [item for item in results.items if _there(folder, item.id, REFERENCE)]
    for item in items[:PICTURED]:
        wanted = {REFERENCE: "original"} | {key: label for key, label in shown.items() if _there(folder, item.id, key)}
        sounds = {label: _mid(_sound_file(folder, item.id, key)) for key, label in wanted.items()}
        yield (
            title_of(item),
            figures.spectrograms({label: mid for label, (mid, _) in sounds.items()}, sounds["original"][1]),
        )


def _mid(path: Path) -> tuple[NDArray[np.float32], int]:
    """(mean of the channels (samples,), rate)."""
    try:
        audio, rate = soundfile.read(path, dtype="float32", always_2d=True)
    except (OSError, soundfile.SoundFileError) as error:
        raise InputError(f"{path}: cannot be read ({error})") from error
    return audio.mean(axis=1), rate


def _worst(results: Results, folder: Path) -> list[tuple[str, list[tuple[str, list[Links]]]]]:
    """By model: (metric, its worst items)."""
    titles = {item.id: title_of(item) for item in results.items}
    found: dict[str, list[tuple[str, list[Links]]]] = {}
    for entry in tables.worst_items(results):
        anchor = tables.nearest(results, entry.condition, tables.codecs(results))
        heard = [("original", REFERENCE), (entry.condition.label, entry.condition.id)]
        heard += [(anchor.label, anchor.id)] if anchor else []
        rows = [
            Links(titles[i], value, [(label, _url(i, c)) for label, c in heard if _there(folder, i, c)])
            for i, value in entry.items
        ]
        found.setdefault(entry.condition.label, []).append((entry.metric.label, rows))
    return list(found.items())
