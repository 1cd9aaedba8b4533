"""The files of a call, what became of each, and what all come to."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from ravecodec.decoding import DecodeSummary
from ravecodec.encoding import EncodeSummary
from ravecodec.errors import InputError, OutputError, UsageError
from ravecodec.examine import Inspection, Verification
from ravecodec.files import check_source, is_stdio
from ravecodec.tagging import TagSummary
from ravecodec.timbre import TransferSummary

DONE, SKIPPED, FAILED, STARTED = "done", "skipped", "failed", "started"

Summary = EncodeSummary | DecodeSummary | TransferSummary | Inspection | Verification | TagSummary


@dataclass(frozen=True, slots=True)
class Item:
    """A file and what is to become of it. target: None where nothing is written. size: of the
    source, bytes.

    replace: the target may be replaced if it exists.
    """

    source: str
    target: str | None
    size: int
    replace: bool = False


@dataclass(frozen=True)
class Outcome:
    """What became of a file.

    verdict: done, skipped or failed. error: "" or a sentence, which is also there where damage was
    concealed. sha256: of the target, hex. seconds: wall clock. summary: None where there is none.
    """

    item: Item
    verdict: str
    error: str = ""
    exit_code: int = 0
    sha256: str = ""
    seconds: float = 0.0
    summary: Summary | None = None

    @property
    def model_id(self) -> str:
        """The id of the model, hex, or ""."""
        stream = self.stream
        return stream.model_id if stream else ""

    @property
    def stream(self) -> Any:
        """The StreamSummary, or None."""
        return getattr(self.summary, "stream", None)

    @property
    def audio_seconds(self) -> float:
        """Seconds of audio that were done."""
        if isinstance(self.summary, TransferSummary):
            return self.summary.samples / self.summary.sample_rate
        return self.stream.duration if self.stream else 0.0


@dataclass
class Totals:
    """What all files together come to.

    audio_seconds, bytes: of the streams of files that are done; seconds: wall.
    """

    files: int = 0
    done: int = 0
    skipped: int = 0
    failed: int = 0
    audio_seconds: float = 0.0
    bytes: int = 0
    seconds: float = 0.0
    kbps: float = 0.0
    speed: float = 0.0
    exit_codes: set[int] = field(default_factory=set)

    def add(self, outcome: Outcome, seconds: float) -> None:
        """Counts a file; `seconds` have passed since the beginning."""
        self.files += 1
        name = FAILED if outcome.exit_code else outcome.verdict
        setattr(self, name, getattr(self, name) + 1)
        if outcome.exit_code:
            self.exit_codes.add(outcome.exit_code)
        self.audio_seconds += outcome.audio_seconds
        if outcome.stream is not None:
            self.bytes += outcome.stream.total_bytes
        self.seconds = seconds
        self.kbps = self.bytes * 8 / 1000 / self.audio_seconds if self.audio_seconds else 0.0
        self.speed = self.audio_seconds / seconds if seconds else 0.0

    @property
    def exit_code(self) -> int:
        """0, the one code that all failed files share, or 1."""
        return (
            next(iter(self.exit_codes)) if len(self.exit_codes) == 1 else int(bool(self.exit_codes))
        )


def collect(
    sources: Sequence[str],
    *,
    suffixes: Iterable[str],
    what: str,
    recursive: bool,
    name: Callable[[str], str] | None = None,
    output: str | None = None,
) -> tuple[list[Item], list[Outcome]]:
    """The files that are meant by `sources`, in their order, and what is wrong with folders that
    cannot be read.

    suffixes: of files that are taken from folders (lower case), `what` they are in words. name:
    gives the target that belongs to a source; None where nothing is written. output: a folder for
    the targets, in which the files of a folder stand as they do in that one; None puts each beside
    its source. Hidden files and links to folders are passed over.

    Raises:
        InputError: a folder without `recursive`, or one without such files. UsageError: two sources
        have one target, or a target is a source.
    """
    suffixes = frozenset(suffixes)
    items: list[Item] = []
    problems: list[Outcome] = []
    for source in sources:
        check_source(source)
        if is_stdio(source) and name:
            raise UsageError(
                "- is one of several files, expected names (standard input is one file by itself)"
            )
        pairs = [(source, os.path.basename(source))]
        if os.path.isdir(source):
            if not recursive:
                raise InputError(
                    f"{source}: is a folder, expected a file (-r goes through folders)"
                )
            before = len(problems)
            pairs = list(_walk(source, suffixes, problems))
            if not pairs and len(problems) == before:
                ends = ", ".join(sorted(suffixes))
                raise InputError(f"{source}: holds no {what}, expected names that end in {ends}")
        for path, relative in pairs:
            base = path if output is None else os.path.join(output, relative)
            items.append(Item(path, name(base) if name else None, _size(path)))
    if name:
        _check_distinct(items)
    return items, problems


def _walk(
    folder: str, suffixes: frozenset[str], problems: list[Outcome]
) -> Iterator[tuple[str, str]]:
    """(path, path within the folder) of all files in and below it, in order of their names."""

    def failed(error: OSError) -> None:
        sentence = f"{error.filename}: the folder cannot be read ({error.strerror})"
        problems.append(
            Outcome(Item(str(error.filename), None, 0), FAILED, sentence, InputError.exit_code)
        )

    for at, folders, names in os.walk(folder, onerror=failed):
        folders[:] = sorted(each for each in folders if not each.startswith("."))
        for each in sorted(names):
            path = os.path.join(at, each)
            if (
                not each.startswith(".")
                and os.path.splitext(each)[1].lower() in suffixes
                and os.path.isfile(path)
            ):
                yield path, os.path.relpath(path, folder)


def _size(path: str) -> int:
    try:
        return os.stat(path).st_size
    except (OSError, ValueError):  # what opens it will say why
        return 0


def _check_distinct(items: Sequence[Item]) -> None:
    """UsageError, naming both, where two files would become one, or one would become another's
    source.
    """
    owners: dict[str, Item] = {}
    for item in items:
        first = owners.setdefault(place(item.target or ""), item)
        if first is not item:
            if place(first.source) == place(item.source):
                raise UsageError(f"{item.source}: is named twice, expected every file once")
            both = f"{first.source} and {item.source} would both become {item.target}"
            raise UsageError(
                f"{both}, expected one file for each (leave one out, or give it another folder by "
                "-o)"
            )
    for item in items:
        if (owner := owners.get(place(item.source))) is not None and owner is not item:
            raise UsageError(
                f"{item.source}: is an input, but {owner.source} would become it, expected another "
                "output"
            )


def place(path: str) -> str:
    """The one name of a file, however it is reached; the file itself may be a link."""
    folder, name = os.path.split(os.path.abspath(path))
    return os.path.join(real_folder(folder), name)


_folders: dict[str, str] = {}


def real_folder(folder: str) -> str:
    """`os.path.realpath`, remembered, because the files of a folder all ask for it."""
    if folder not in _folders:
        _folders.clear() if len(_folders) > 10_000 else None
        _folders[folder] = os.path.realpath(folder)
    return _folders[folder]


def common_folder(items: Sequence[Item]) -> str:
    """The folder that holds all targets."""
    folders = {os.path.dirname(place(item.target)) for item in items if item.target is not None}
    try:
        return os.path.commonpath(folders)
    except ValueError as error:  # different drives
        raise OutputError(
            "the outputs have no folder in common for a manifest, expected --manifest FILE"
        ) from error


def digest_of(path: str) -> str:
    """SHA-256 of a file, hex."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
