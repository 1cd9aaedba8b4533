"""The folder of a report: which command made it, and how long its evaluation has taken so far.

A report's folder holds `evaluation.json` from the first moment on: `made_by`, what wrote the
report, and `seconds`, the time that all calls of `ravecodec eval` with this folder took together. A
folder without it holds something else.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

from ravecodec.errors import FormatError, OutputError
from ravecodec.evaluate.results import Results
from ravecodec.files import held_folder, make_folder, write_file

MARK, RESULTS = "evaluation.json", "results.json"
FORMAT = "ravecodec-evaluation-folder"
MEASURED, PLOTTED = "eval", "eval --plot"


def check_folder(folder: Path, made_by: str, *, force: bool = False) -> None:
    """OutputError unless a report may be written into `folder` without replacing what is not its
    own.

    It may where there is no folder or an empty one, where `made_by` (MEASURED or PLOTTED) made the
    report that is there, and with `force` in every folder. Creates nothing.
    """
    if not folder.exists():
        return
    if not folder.is_dir():
        raise OutputError(
            f"{folder}: is there and no folder; expected a new folder, or that of a report"
        )
    if force or not any(folder.iterdir()):
        return
    maker = _maker(folder)
    if maker is None:
        raise OutputError(
            f"{folder}: is there and no report; "
            "expected a new folder, or that of a report (or --force)"
        )
    if maker != made_by:
        raise OutputError(
            f"{folder}: holds the report of `ravecodec {maker}`, which would be replaced; "
            f"expected a new folder, or a report of `ravecodec {made_by}` (or --force)"
        )


def mark(folder: Path, made_by: str, seconds: float = 0.0) -> None:
    """Makes the folder and notes whose it is. OutputError."""
    make_folder(folder)
    values = {"format": FORMAT, "made_by": made_by, "seconds": round(seconds, 3)}
    write_file(folder / MARK, json.dumps(values).encode())


def held(folder: Path) -> AbstractContextManager[None]:
    """Makes the folder; within the block no other process evaluates in it. Raises OutputError if
    one does already.
    """
    busy = "another process evaluates into this folder; wait for it, or choose another --out"
    return held_folder(folder, busy)


@contextmanager
def timed(folder: Path, began: float) -> Iterator[Callable[[], float]]:
    """Marks a folder as an evaluation's, and yields a clock: the seconds since `began` (of
    time.monotonic()) and those of earlier calls, which are noted in the end, however the block ends
    (kill -9 excepted)."""
    before = float(_read_mark(folder).get("seconds", 0.0))

    def seconds() -> float:
        return before + time.monotonic() - began

    mark(folder, MEASURED, seconds())
    try:
        yield seconds
    finally:
        mark(folder, MEASURED, seconds())


def _maker(folder: Path) -> str | None:
    """What made the report in `folder`, None if there is none. Before there were marks, only
    evaluations had audio."""
    if written := _read_mark(folder):
        return str(written["made_by"])
    try:
        Results.load(folder / RESULTS)
    except FormatError:
        return None
    return MEASURED if (folder / "audio").is_dir() else PLOTTED


def _read_mark(folder: Path) -> dict[str, Any]:
    """What `evaluation.json` says, {} where there is none or it is another file."""
    try:
        values = json.loads((folder / MARK).read_text())
    except (OSError, ValueError, RecursionError):
        return {}
    if not isinstance(values, dict) or values.get("format") != FORMAT:
        return {}
    seconds = values.get("seconds")
    good = isinstance(seconds, (int, float)) and seconds >= 0
    return values if good and values.get("made_by") in (MEASURED, PLOTTED) else {}
