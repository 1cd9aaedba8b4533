"""Many files in one call: which there are, what becomes of each, and the record from which an
interrupted call goes on.

    items, problems = collect(["music"], suffixes={".flac"}, recursive=True, name=...,
    output="archive")
    with closing(run_batch(EncodeWork(...), items, jobs=2, manifest=manifest)) as outcomes:
        for outcome in outcomes: ...

Stands above `transcode.py` and `examine.py`, whose functions do the work of one file, and below
`cli`. The processes are those of `pool.py`. Nothing here imports torch; `Work.start` does, where
the work is.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from ravecodec import __version__
from ravecodec.audio import HEADERS
from ravecodec.bitstream import StreamReader
from ravecodec.bitstream.container import MAGIC
from ravecodec.cluster import run_on_cluster
from ravecodec.errors import (
    CorruptError,
    FormatError,
    InputError,
    OutputError,
    RavecodecError,
    UsageError,
)
from ravecodec.examine import Inspection, Verification, inspect_file, open_stream, verify_file
from ravecodec.files import check_output, check_source, is_stdio
from ravecodec.pool import Died, Hear, Work, run_tasks
from ravecodec.tagging import TagSummary, tag_file
from ravecodec.timbre import TransferSummary, transfer_file
from ravecodec.transcode import (
    DecodeSummary,
    EncodeSummary,
    decode_file,
    encode_file,
    load_for,
    load_model,
)
from ravecodec.zoo import Embedded, model_in

if TYPE_CHECKING:  # these import torch
    from ravecodec.models.package import Model
    from ravecodec.pipeline import Progress

DONE, SKIPPED, FAILED, STARTED = "done", "skipped", "failed", "started"
MANIFEST = "manifest.jsonl"
_START = b'{"ravecodec":'  # of every line of a manifest
LOADED = 4  # models that a process keeps while it decodes streams of several

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


# ---- which files there are -----------------------------------------------------------------------


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
                raise InputError(
                    f"{source}: holds no {what}, expected names that end in {_listed(suffixes)}"
                )
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


def _listed(suffixes: Iterable[str]) -> str:
    return ", ".join(sorted(suffixes))


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
    return os.path.join(_real(folder), name)


_folders: dict[str, str] = {}


def _real(folder: str) -> str:
    """`os.path.realpath`, remembered, because the files of a folder all ask for it."""
    if folder not in _folders:
        _folders.clear() if len(_folders) > 10_000 else None
        _folders[folder] = os.path.realpath(folder)
    return _folders[folder]


# ---- what is done with one file ------------------------------------------------------------------


def check_kind(source: str, *, stream: bool) -> None:
    """Refuses what an input cannot be: nothing, a folder, what the other command takes.

    Raises:
        InputError, FormatError.
    """
    check_source(source)
    if is_stdio(source):
        return
    try:
        if Path(source).is_dir():
            expected = "an .rvc file" if stream else "an audio file"
            raise InputError(
                f"{source}: is a folder, expected {expected} (-r goes through folders)"
            )
        if not Path(source).is_file():
            return  # missing, or a pipe: who opens it will say
        with Path(source).open("rb") as file:
            start = file.read(len(MAGIC))
    except (OSError, ValueError) as error:
        raise InputError(
            f"{source}: cannot be read ({getattr(error, 'strerror', error)})"
        ) from error
    if start == MAGIC and not stream:
        raise InputError(
            f"{source}: is an .rvc stream already, expected audio (`ravecodec decode` makes audio "
            "of it)"
        )
    if stream and (start in HEADERS or start[:3] == b"ID3"):
        expected = "expected the magic of an .rvc stream (`ravecodec encode` makes one of it)"
        raise FormatError(
            f"{source}: not an .rvc file but audio that begins with {start.decode('latin-1')!r}, "
            f"{expected}"
        )


def _outcome(item: Item, do: Callable[[], Outcome]) -> Outcome:
    """What `do` returns, or what it raised as an outcome, with the time that it took."""
    began = time.perf_counter()
    try:
        done = do()
    except RavecodecError as error:
        done = Outcome(item, FAILED, str(error), error.exit_code)
    except Exception as error:
        what = " ".join(str(error).split()) or "no message"
        done = Outcome(
            item,
            FAILED,
            (
                f"{item.source}: {type(error).__name__}: {what} (a bug? -v shows where, for this "
                "file "
                "alone)"
            ),
            1,
        )
    return replace(done, seconds=time.perf_counter() - began)


def _digest(path: str) -> str:
    """SHA-256 of a file, hex."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def concealed(source: str, places: int) -> str:
    """The sentence on a stream that was decoded in spite of its damage."""
    damaged = "1 damaged place" if places == 1 else f"{places} damaged places"
    return f"{source}: {damaged}, the sound was held meanwhile"


def make_folder(target: str) -> None:
    """The folder of a file, and those above it; OutputError if it cannot be."""
    folder = os.path.dirname(target)
    try:
        os.makedirs(folder or ".", exist_ok=True)
    except OSError as error:
        raise OutputError(f"{folder}: the folder cannot be created ({error.strerror})") from error


def remove_source(source: str) -> None:
    """Removes an input that was encoded and verified; OutputError if it cannot be."""
    try:
        os.unlink(source)
    except OSError as error:
        raise OutputError(
            f"{source}: was encoded, but cannot be removed ({error.strerror})"
        ) from error


def _shares(hear: Hear) -> Callable[[Progress], None]:
    return lambda progress: hear(progress.share or 0.0)


@dataclass(frozen=True)
class EncodeWork:
    """`encode_file` of every file with one model. options: of `encode_file`, but for those below.

    remove: the source, when its stream is in place.
    """

    model: Path | str
    options: Mapping[str, Any]
    device: str = "auto"
    threads: int | None = None
    remove: bool = False

    def start(self) -> Callable[[Item, Hear], Outcome]:
        """Loads the model."""
        model = load_model(self.model, device=self.device, threads=self.threads)
        return lambda item, hear: _outcome(item, lambda: self._encode(item, model, hear))

    def _encode(self, item: Item, model: Model, hear: Hear) -> Outcome:
        assert item.target is not None
        check_kind(item.source, stream=False)
        make_folder(item.target)
        options = {**self.options, "force": item.replace}
        done = encode_file(item.source, item.target, model=model, progress=_shares(hear), **options)
        if self.remove and done.verified:
            remove_source(item.source)
        return Outcome(item, DONE, sha256=_digest(item.target), summary=done)


@dataclass(frozen=True)
class DecodeWork:
    """`decode_file` of every file, each with the model that made it.

    options: of `decode_file`, but for those below.
    """

    model: str | None
    options: Mapping[str, Any]
    device: str = "auto"
    threads: int | None = None

    def start(self) -> Callable[[Item, Hear], Outcome]:
        """Models are loaded when a stream needs them, and kept."""
        loaded: dict[bytes, Model] = {}  # by id, or by hash of a decoder that a stream brings along
        return lambda item, hear: _outcome(item, lambda: self._decode(item, loaded, hear))

    def _decode(self, item: Item, loaded: dict[bytes, Model], hear: Hear) -> Outcome:
        assert item.target is not None
        check_kind(item.source, stream=True)
        make_folder(item.target)
        check_output(item.target, force=item.replace, source=item.source)
        model = self._model(item.source, loaded)
        options = {**self.options, "force": item.replace}
        done = decode_file(item.source, item.target, model=model, progress=_shares(hear), **options)
        error = concealed(item.source, len(done.damage)) if done.damage else ""
        return Outcome(
            item,
            DONE,
            error,
            CorruptError.exit_code if error else 0,
            _digest(item.target),
            summary=done,
        )

    def _model(self, source: str, loaded: dict[bytes, Model]) -> Model:
        """The model of a stream, loaded once."""
        with open_stream(source) as file:
            reader = StreamReader(file)
            key = reader.info.model_id
            if key in loaded:
                return loaded[key]
            entry = model_in(reader, self.model)
        if isinstance(entry, Embedded):  # it speaks for this stream, not for others of its id
            key = entry.sha256
        if key not in loaded:
            while len(loaded) >= LOADED:
                del loaded[next(iter(loaded))]
            loaded[key] = load_for(entry, device=self.device, threads=self.threads)
        return loaded[key]


@dataclass(frozen=True)
class TransferWork:
    """`transfer_file` of every file with one model. options: of `transfer_file`, but for those
    below.
    """

    model: Path | str
    options: Mapping[str, Any]
    device: str = "auto"
    threads: int | None = None

    def start(self) -> Callable[[Item, Hear], Outcome]:
        """Loads the model."""
        model = load_model(self.model, device=self.device, threads=self.threads)
        return lambda item, hear: _outcome(item, lambda: self._transfer(item, model, hear))

    def _transfer(self, item: Item, model: Model, hear: Hear) -> Outcome:
        assert item.target is not None
        make_folder(item.target)
        options = {**self.options, "force": item.replace}
        done = transfer_file(
            item.source, item.target, model=model, progress=_shares(hear), **options
        )
        return Outcome(item, DONE, sha256=_digest(item.target), summary=done)


@dataclass(frozen=True)
class InspectWork:
    """`inspect_file` of every file. frames: list the chunks as well."""

    frames: bool = False

    def start(self) -> Callable[[Item, Hear], Outcome]:
        """Loads nothing."""
        return lambda item, hear: _outcome(item, lambda: self._inspect(item))

    def _inspect(self, item: Item) -> Outcome:
        check_kind(item.source, stream=True)
        return Outcome(item, DONE, summary=inspect_file(item.source, frames=self.frames))


@dataclass(frozen=True)
class VerifyWork:
    """`verify_file` of every file. model: as there."""

    model: str | None = None

    def start(self) -> Callable[[Item, Hear], Outcome]:
        """Loads nothing."""
        return lambda item, hear: _outcome(item, lambda: self._verify(item))

    def _verify(self, item: Item) -> Outcome:
        found = verify_file(item.source, model=self.model)
        return Outcome(
            item, DONE if found.ok else FAILED, found.error, found.exit_code, summary=found
        )


@dataclass(frozen=True)
class TagWork:
    """`tag_file` of every file, in its place. options: of `tag_file`."""

    options: Mapping[str, Any]

    def start(self) -> Callable[[Item, Hear], Outcome]:
        """Loads nothing."""
        return lambda item, hear: _outcome(item, lambda: self._tag(item))

    def _tag(self, item: Item) -> Outcome:
        return Outcome(item, DONE, summary=tag_file(item.source, **self.options))


# ---- all of them ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class Wish:
    """What is done where a target exists. force: replace it. skip: leave it. newer: replace it if
    its source is newer.

    With none of them the file fails.
    """

    force: bool = False
    skip: bool = False
    newer: bool = False


def sort_out(
    items: Iterable[Item], wish: Wish, manifest: Manifest | None = None
) -> tuple[list[Item], list[Outcome]]:
    """What is to be done, and what is done already: by an earlier call like this one, or where
    `wish` says so.
    """
    waiting, settled = [], []
    for item in items:
        record = manifest.finished(item) if manifest and not wish.force else None
        if record is not None:
            sentence = str(record.get("error", ""))
            # The only error that leaves a file: damage was concealed.
            code = CorruptError.exit_code if sentence else 0
            settled.append(
                Outcome(
                    item, SKIPPED, sentence or f"{item.target}: was made by an earlier call", code
                )
            )
        elif item.target is None or wish.force or not os.path.lexists(item.target):
            waiting.append(replace(item, replace=wish.force))
        elif manifest and manifest.begun(item):
            waiting.append(replace(item, replace=True))
        elif wish.skip or (wish.newer and not _is_newer(item.source, item.target)):
            settled.append(Outcome(item, SKIPPED, f"{item.target}: exists already"))
        else:
            waiting.append(replace(item, replace=wish.newer))
    return waiting, settled


def _is_newer(source: str, target: str) -> bool:
    try:
        return os.stat(source).st_mtime_ns > os.stat(target).st_mtime_ns
    except OSError:  # who opens it will say
        return True


def rehearse(items: Iterable[Item], *, stream: bool) -> Iterator[Outcome]:
    """What can be told of files without reading them: whether they are there, and whether the
    target can be written.

    stream: whether the sources are streams. A folder that does not exist would be made, and is none
    of the faults.
    """

    def check(item: Item) -> Outcome:
        check_kind(item.source, stream=stream)
        if not os.path.isfile(item.source):
            raise InputError(f"{item.source}: does not exist, expected a file")
        if item.target is not None and os.path.isdir(os.path.dirname(item.target) or "."):
            check_output(item.target, force=item.replace, source=item.source)
        return Outcome(item, DONE)

    for item in items:
        yield _outcome(item, partial(check, item))


def run_batch(
    work: Work[Item, Outcome],
    items: Sequence[Item],
    *,
    jobs: int,
    threads: int = 1,
    manifest: Manifest | None = None,
    hear: Callable[[Item, float], None] | None = None,
    cluster: Cluster | None = None,
) -> Generator[Outcome, None, None]:
    """Does all items and yields what became of each, in the order in which they end; the manifest
    gets it first.

    jobs: processes, each with so many threads. hear: called with the share of a file that is done,
    now and then. cluster: do it there instead, `jobs` and `hear` do not count then. Close the
    iterator if it is left early. Raises what `work.start` raises, before anything is written.
    """
    begin = manifest.begin if manifest else lambda item: None
    if cluster is None:
        tasks = run_tasks(work, items, jobs=jobs, threads=threads, begin=begin, hear=hear)
    else:
        tasks = _on_cluster(cluster, work, items, threads, begin)
    with closing(tasks) as results:
        for item, result in results:
            outcome = result
            if isinstance(result, Died):
                outcome = Outcome(item, FAILED, f"{item.source}: {result}", 1)
            assert isinstance(outcome, Outcome)
            if manifest:
                manifest.end(outcome)
            yield outcome


@dataclass(frozen=True)
class Cluster:
    """A Ray cluster. jobs: workers at most, None for as many as it has room for; gpu: each has
    one.
    """

    address: str
    jobs: int | None = None
    gpu: bool = False


def _on_cluster(
    cluster: Cluster,
    work: Work[Item, Outcome],
    items: Iterable[Item],
    threads: int,
    begin: Callable[[Item], None],
) -> Generator[tuple[Item, Outcome | Died], None, None]:
    """`cluster.run_on_cluster` of files: a second worker may replace what the first one has put in
    place, and nothing that was there before.
    """
    foreign: set[str] = set()

    def begun(item: Item) -> None:
        if item.target is not None and not item.replace and os.path.lexists(item.target):
            foreign.add(item.target)
        begin(item)

    def again(item: Item) -> Item:
        return item if item.target in foreign else replace(item, replace=True)

    return run_on_cluster(
        work,
        items,
        address=cluster.address,
        jobs=cluster.jobs,
        threads=threads,
        gpu=cluster.gpu,
        begin=begun,
        again=again,
    )


# ---- the record ----------------------------------------------------------------------------------


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
        self._folder = _real(os.path.abspath(self.path.parent))
        self._records = self._read()
        self._sources: dict[
            str, dict[str, Any]
        ] = {}  # of files in hand, as they were when they were begun
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
        if now.st_mtime_ns != record.get("output_time") and _digest(item.target) != record.get(
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
        same = _source(item) == {
            key: record.get(key) for key in ("input", "input_bytes", "input_time")
        }
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
    try:
        now = os.stat(item.source)
    except OSError:
        return {"input": os.path.abspath(item.source), "input_bytes": None, "input_time": None}
    return {
        "input": os.path.abspath(item.source),
        "input_bytes": now.st_size,
        "input_time": now.st_mtime_ns,
    }


def common_folder(items: Sequence[Item]) -> str:
    """The folder that holds all targets."""
    folders = {os.path.dirname(place(item.target)) for item in items if item.target is not None}
    try:
        return os.path.commonpath(folders)
    except ValueError as error:  # different drives
        raise OutputError(
            "the outputs have no folder in common for a manifest, expected --manifest FILE"
        ) from error
