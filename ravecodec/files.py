"""Files that appear whole or not at all, and the rules for `-`, overwriting and in == out.

Stands at the bottom of the tool: encode, decode, training checkpoints and reports all write through here.
`check_output` is called before anything slow; `AtomicFile` writes a `.part` file beside the target, syncs it and
renames it, so that a target that exists survives every failure and Ctrl-C.
"""

import io
import os
import secrets
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, cast

from ravecodec.errors import OutputError, UsageError

STDIO = "-"
STDIN_NAME = "standard input"
STDOUT_NAME = "standard output"
_NAME_IN_TEMP = 40  # characters of the target's name in the temporary one; at 4 bytes each still below the usual 255


def is_stdio(target: str | Path) -> bool:
    """True when `target` is `-`: standard input or output. (`Path("./-")` is `-` too; the str `"./-"` is a file.)"""
    return str(target) == STDIO


def check_output(target: str | Path, *, force: bool = False, source: str | Path | None = None) -> None:
    """Raise now what would make writing `target` fail later; creates nothing. Call it before anything slow.

    With `source`, the input of the same command, also refuses to write a file over itself, through any kind of link.

    Raises:
        UsageError: target and source are the same file.
        OutputError: the target exists and `force` is not set, is no regular file, or its folder cannot be written.
    """
    if is_stdio(target):
        _check_terminal(force)
        return
    path = Path(target)
    if source is not None and not is_stdio(source):
        _check_distinct(Path(source), path)
    _check_target(path, force)
    _check_folder(path)


def _check_terminal(force: bool) -> None:
    if sys.stdout.isatty() and not force:
        raise OutputError(f"{STDOUT_NAME}: is a terminal, expected a file or a pipe for binary data (or --force)")


def _check_distinct(source: Path, path: Path) -> None:
    if source.exists() and path.exists() and source.samefile(path):
        raise UsageError(f"{path}: is the input file itself ({source}), expected another output")


def _check_target(path: Path, force: bool) -> None:
    if path.is_dir():
        raise OutputError(f"{path}: is a folder, expected the name of a file")
    if path.exists() and not path.is_file():
        raise OutputError(f"{path}: is not a regular file, expected one (write to - for pipes and devices)")
    if path.is_file() and not force:
        raise OutputError(f"{path}: exists already, expected a new name (or --force to overwrite)")


def _check_folder(path: Path) -> None:
    folder = path.resolve().parent
    if not folder.is_dir():
        raise OutputError(f"{path}: the folder {folder} does not exist")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise OutputError(f"{path}: the folder {folder} is not writable")


class _Sink(io.FileIO):
    """A raw binary file whose write errors name the target: disk full, quota, closed pipe become OutputError."""

    label: str = ""

    def write(self, data: object) -> int | None:  # type: ignore[override]
        try:
            return super().write(data)  # type: ignore[arg-type]
        except OSError as error:
            raise OutputError(f"{self.label}: cannot be written ({error.strerror})") from error


class AtomicFile:
    """A binary file that appears under its name only when the `with` block ends well.

    `with AtomicFile(path) as file:` yields a seekable, buffered binary file. On success it is flushed, synced and
    renamed to `path`; on any exception (KeyboardInterrupt included) the temporary file is removed and an existing
    `path` is left as it was. A symbolic link at `path` stays a link: its target is replaced.

    Raises:
        OutputError: see `check_output` (raised by the constructor), or the disk is full, or `path` appeared meanwhile.
    """

    def __init__(self, path: str | Path, *, force: bool = False) -> None:
        check_output(Path(path), force=force)
        self.path = Path(path)
        self._force = force
        self._target = self.path.resolve()
        self._temp = self._target.with_name(f".{self._target.name[:_NAME_IN_TEMP]}.{secrets.token_hex(4)}.part")
        self._file: io.BufferedRandom | None = None

    def __enter__(self) -> BinaryIO:
        try:
            sink = _Sink(self._temp, "x+b")
        except OSError as error:
            raise OutputError(f"{self.path}: cannot be created ({error.strerror})") from error
        sink.label = str(self.path)
        self._file = io.BufferedRandom(sink)
        return self._file

    def __exit__(self, kind: type[BaseException] | None, err: BaseException | None, tb: TracebackType | None) -> None:
        try:
            if kind is None:
                self._commit()
        finally:
            self._discard()

    def _commit(self) -> None:
        assert self._file is not None
        try:
            self._file.flush()
            os.fsync(self._file.fileno())
            self._file.close()
            _check_target(self.path, self._force)
            if self._target.exists():
                shutil.copymode(self._target, self._temp)
            self._temp.replace(self._target)
            _sync_folder(self._target.parent)
        except OSError as error:
            raise OutputError(f"{self.path}: cannot be written ({error.strerror})") from error

    def _discard(self) -> None:
        """Drop the temporary file (after a commit there is none) without flushing what is still buffered."""
        assert self._file is not None
        if not self._file.closed:
            self._file.raw.close()
        self._temp.unlink(missing_ok=True)


def _sync_folder(folder: Path) -> None:
    """Make the rename itself durable, where the system can open a folder (not on Windows)."""
    if os.name != "posix":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def open_binary_output(target: str | Path, *, force: bool = False) -> Iterator[BinaryIO]:
    """Yield a binary file for `target`: an `AtomicFile`, or standard output for `-` (not seekable, flushed at the end).

    Raises:
        OutputError: as `check_output` and `AtomicFile`; for `-` also when the reader of the pipe has gone
            (then `__cause__` is a BrokenPipeError).
    """
    if not is_stdio(target):
        with AtomicFile(target, force=force) as file:
            yield file
        return
    stream = binary_stdout(force=force)
    yield stream
    stream.flush()


def binary_stdout(*, force: bool = False) -> BinaryIO:
    """Standard output for bytes. Refuses a terminal unless `force`; write errors are OutputError."""
    _check_terminal(force)
    sys.stdout.flush()
    stream = sys.stdout.buffer
    try:
        sink = _Sink(stream.fileno(), "wb", closefd=False)
    except io.UnsupportedOperation:  # replaced by a buffer in memory, as test runners do
        return stream
    sink.label = STDOUT_NAME
    return cast(BinaryIO, io.BufferedWriter(sink))


def binary_stdin() -> BinaryIO:
    """Standard input for bytes; a terminal is refused with UsageError, because nobody types audio."""
    if sys.stdin.isatty():
        raise UsageError(f"{STDIN_NAME}: is a terminal, expected a file or a pipe")
    return sys.stdin.buffer
