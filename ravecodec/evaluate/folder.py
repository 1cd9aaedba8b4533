"""The folder of a report: which command made it, and how long its evaluation has taken so far.

A report's folder holds `evaluation.json` from the first moment on: `made_by`, what wrote the
report, and `seconds`, the time that all calls of `ravecodec eval` with this folder took together. A
folder without it is somebody else's.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

from ravecodec.errors import FormatError, OutputError
from ravecodec.evaluate.results import Results
from ravecodec.files import AtomicFile, held_folder

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
    found = _maker(folder)
    if found is None:
        raise OutputError(
            f"{folder}: is there and no report; "
            "expected a new folder, or that of a report (or --force)"
        )
    if found != made_by:
        raise OutputError(
            f"{folder}: holds the report of `ravecodec {found}`, which would be replaced; "
            f"expected a new folder, or a report of `ravecodec {made_by}` (or --force)"
        )


def mark(folder: Path, made_by: str, seconds: float = 0.0) -> None:
    """Makes the folder and notes whose it is. OutputError."""
    _make(folder)
    values = {"format": FORMAT, "made_by": made_by, "seconds": round(seconds, 3)}
    with AtomicFile(folder / MARK, force=True) as file:
        file.write(json.dumps(values).encode())


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"{folder}: cannot be made ({error.strerror})") from error


def held(folder: Path) -> AbstractContextManager[None]:
    """Makes the folder; within the block no other process evaluates in it. Raises OutputError if
    one does already.
    """
    busy = "another process evaluates into this folder; wait for it, or choose another --out"
    return held_folder(folder, busy)


class Clock:
    """Seconds that the evaluation in a folder has taken, over all calls."""

    def __init__(self, before: float, began: float) -> None:
        self._before, self._began = before, began

    def seconds(self) -> float:
        return self._before + time.monotonic() - self._began


@contextmanager
def timed(folder: Path, began: float) -> Iterator[Clock]:
    """Marks a folder as an evaluation's; the time since `began` (of time.monotonic()) is added to
    that of earlier calls, however the block ends (kill -9 excepted)."""
    clock = Clock(float(_read_mark(folder).get("seconds", 0.0)), began)
    mark(folder, MEASURED, clock.seconds())
    try:
        yield clock
    finally:
        mark(folder, MEASURED, clock.seconds())


def _maker(folder: Path) -> str | None:
    """What made the report in `folder`, None if there is none. Before there were marks, only
    evaluations had audio."""
    if found := _read_mark(folder):
        return str(found["made_by"])
    try:
        Results.load(folder / RESULTS)
    except FormatError:
        return None
    return MEASURED if (folder / "audio").is_dir() else PLOTTED


def _read_mark(folder: Path) -> dict[str, Any]:
    """What `evaluation.json` says, {} where there is none or it is another file."""
    try:
        found = json.loads((folder / MARK).read_text())
    except (OSError, ValueError, RecursionError):
        return {}
    if not isinstance(found, dict) or found.get("format") != FORMAT:
        return {}
    seconds = found.get("seconds")
    good = (
        found.get("made_by") in (MEASURED, PLOTTED)
        and isinstance(seconds, (int, float))
        and seconds >= 0
    )
    return found if good else {}
