"""The record of a call with many files, from which the same call goes on where it stopped."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO

from ravecodec import __version__
from ravecodec.batch.items import DONE, STARTED, Item, Outcome, digest_of, place, real_folder
from ravecodec.errors import OutputError

MANIFEST = "manifest.jsonl"
_START = b'{"ravecodec":'  # of every line of a manifest


class Manifest:
    """`manifest.jsonl`: a line when a file is begun and a line when it ends, each written at once;
    nothing is removed.

    The last line of a target counts. Targets are named from the manifest's folder, sources in full.
    call: whatever decides what becomes of a file; lines of calls that differ in it do not count.

    Raises:
        OutputError: the file cannot be read or written, or is no such manifest.
    """

    def __init__(self, path: str | Path, command: str, call: Mapping[str, Any]) -> None:
        self.path = Path(path)
        self._command = command
        self._point = {
            key: call[key]
            for key in ("quality", "fidelity", "bitrate", "cbr", "effort")
            if call.get(key) is not None and call[key] is not False
        }
        text = json.dumps({"command": command, **call}, sort_keys=True, default=str)
        self._call = hashlib.sha256(text.encode()).hexdigest()[:16]
        self._folder = real_folder(os.path.abspath(self.path.parent))
        self._records = self._read()
        self._sources: dict[str, dict[str, Any]] = {}  # of files in hand, as they were at first
        self._file: BinaryIO | None = None

    def _read(self) -> dict[str, dict[str, Any]]:
        """The last record of every target that this command has written; a line that was cut off is
        passed over.
        """
        found: dict[str, dict[str, Any]] = {}
        try:
            with self.path.open("rb") as file:
                for number, line in enumerate(file):
                    record = _parsed(line)
                    if record is None and number == 0 and not _cut_off(line):
                        raise OutputError(
                            f"{self.path}: is no manifest of ravecodec (--manifest FILE names "
                            "another)"
                        )
                    if (
                        record
                        and record.get("command") == self._command
                        and isinstance(record.get("output"), str)
                    ):
                        found[os.path.join(self._folder, record["output"])] = record
        except FileNotFoundError:
            return {}
        except OSError as error:
            raise OutputError(f"{self.path}: cannot be read ({error.strerror})") from error
        return found

    def finished(self, item: Item) -> dict[str, Any] | None:
        """The record of an item that a call like this one has done, if neither source nor target
        changed since.
        """
        record = self._record(item)
        if record is None or record.get("verdict") != DONE or item.target is None:
            return None
        try:
            now = os.stat(item.target)
        except OSError:
            return None
        if now.st_size != record.get("output_bytes"):
            return None
        if now.st_mtime_ns != record.get("output_time") and digest_of(item.target) != record.get(
            "sha256"
        ):
            return None
        return record

    def begun(self, item: Item) -> bool:
        """Whether a call like this one was stopped while it did this item: a target that is there
        now is its own.
        """
        record = self._record(item)
        return record is not None and record.get("verdict") == STARTED and not record.get("existed")

    def _record(self, item: Item) -> dict[str, Any] | None:
        record = self._records.get(place(item.target or ""))
        if record is None or record.get("call") != self._call:
            return None
        same = all(record.get(key) == value for key, value in _source(item).items())
        return record if same else None

    def begin(self, item: Item) -> None:
        """Writes that a file is begun."""
        self._sources[item.source] = _source(item)
        foreign = item.target is not None and not item.replace and os.path.lexists(item.target)
        self._write(item, {"verdict": STARTED, **({"existed": True} if foreign else {})})

    def end(self, outcome: Outcome) -> None:
        """Writes what became of a file."""
        content: dict[str, Any] = {"verdict": outcome.verdict, "seconds": round(outcome.seconds, 3)}
        if outcome.error:
            content |= {"error": outcome.error, "exit_code": outcome.exit_code}
        if outcome.summary is not None and outcome.item.target is not None:
            content |= {"sha256": outcome.sha256, "audio_seconds": outcome.audio_seconds}
            with suppress(OSError):  # gone already: then it does not count as done
                written = os.stat(outcome.item.target)
                content |= {"output_bytes": written.st_size, "output_time": written.st_mtime_ns}
        if (stream := outcome.stream) is not None:
            point = {"dims": stream.dims, "step_index": stream.step_index, **self._point}
            content |= {"model": stream.model_id, "point": point}
            content |= {"stream_bytes": stream.total_bytes, "kbps": round(stream.kbps, 3)}
        self._write(outcome.item, content)
        del self._sources[outcome.item.source]

    def _write(self, item: Item, content: dict[str, Any]) -> None:
        source = self._sources[item.source]
        target = place(item.target or "")
        inside = target.startswith(os.path.join(self._folder, ""))
        output = os.path.relpath(target, self._folder) if inside else target
        head = {"ravecodec": __version__, "command": self._command, **source, "output": output}
        line = json.dumps({**head, **content, "call": self._call}) + "\n"
        try:
            file = self._file or self._open()
            file.write(line.encode())
            file.flush()
        except OSError as error:
            raise OutputError(f"{self.path}: cannot be written ({error.strerror})") from error

    def _open(self) -> BinaryIO:
        """Open for appending, behind a whole line."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._file = file = self.path.open("ab")
        if file.tell():
            with self.path.open("rb") as before:
                before.seek(-1, os.SEEK_END)
                if before.read(1) != b"\n":
                    file.write(b"\n")
        return file

    def close(self) -> None:
        """Closes the file, if anything was written."""
        if self._file is not None:
            with suppress(OSError):
                self._file.close()


def _parsed(line: bytes) -> dict[str, Any] | None:
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return record if isinstance(record, dict) and "ravecodec" in record else None


def _cut_off(line: bytes) -> bool:
    """Whether a line is the beginning of one of ours."""
    return line.startswith(_START) or _START.startswith(line)


def _source(item: Item) -> dict[str, Any]:
    """Which file, and which state of it, an item begins with."""
    size = changed = None
    with suppress(OSError):
        now = os.stat(item.source)
        size, changed = now.st_size, now.st_mtime_ns
    return {"input": os.path.abspath(item.source), "input_bytes": size, "input_time": changed}
