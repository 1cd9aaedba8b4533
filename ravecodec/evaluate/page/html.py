"""Pages that need nothing else: Jinja templates with the style, the player and the figures inside
(extra `report`)."""

from __future__ import annotations

import base64
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ravecodec.errors import UsageError
from ravecodec.evaluate.page.charts import TEXT_STYLE, palette
from ravecodec.files import write_file

TEMPLATES = Path(__file__).resolve().parent / "templates"


@dataclass(frozen=True)
class Sound:
    """Something to listen to. `colour`: of charts.COLOURS; `source`: its URL, or the audio itself
    as one."""

    label: str
    rate: str
    colour: str
    source: str


@dataclass(frozen=True)
class Player:
    """`sounds` to switch between, the original first; `inside`: the page itself holds them. `more`:
    links (label, URL) to others of the same excerpt."""

    title: str
    seconds: float
    sounds: list[Sound]
    inside: bool = True
    more: list[tuple[str, str]] = field(default_factory=list)


def flac_url(data: bytes) -> str:
    """A FLAC file as a URL."""
    return f"data:audio/flac;base64,{base64.b64encode(data).decode()}"


def write_html(path: Path, template: str, **context: Any) -> Path:
    """Writes a page made of a template and what it names, and returns its path.

    Text is escaped, except in the filter `svg`. Raises UsageError where jinja2 is missing,
    OutputError.
    """
    try:
        from jinja2 import Environment, FileSystemLoader, StrictUndefined
        from markupsafe import Markup
    except ImportError as error:
        raise UsageError("a report needs jinja2: `pip install 'ravecodec[report]'`") from error
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES, encoding="utf-8"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["svg"] = Markup
    environment.globals["palette"] = [palette(0), palette(1)]
    environment.globals["text_style"] = TEXT_STYLE
    text = environment.get_template(template).render(context)
    write_file(path, text.encode(errors="replace"))
    return path
