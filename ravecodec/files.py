"""Files that appear whole or not at all, and the rules for `-`, overwriting and in == out.

Stands at the bottom of the tool: encode, decode, training checkpoints and reports all write through
here. `check_output` is called before anything slow; `AtomicFile` writes a `.part` file beside the
target, syncs it and renames it, so that a target that exists survives every failure and Ctrl-C.
"""

import errno
import io
import os
import re
import secrets
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, cast

from ravecodec.errors import InputError, OutputError, UsageError

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

STDIO = "-"
_SEPARATORS = tuple(separator for separator in (os.sep, os.altsep) if separator)
STDIN_NAME = "standard input"
STDOUT_NAME = "standard output"
_ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")
_PART = ".part"
# names for a temporary file; more than one is needed only if another process tidies up at the same
# moment
_TRIES = 8
# characters of the target's name in the temporary one; at 4 bytes each still below the usual 255
_NAME_IN_TEMP = 40


def is_stdio(target: str | Path) -> bool:
    """True when `target` is `-`: standard input or output.

    (`Path("./-")` is `-` too; the str `"./-"` is a file.)
    """
    return str(target) == STDIO


def source_name(source: str | Path) -> str:
    """What an input is called: its name, or "standard input"."""
    return STDIN_NAME if is_stdio(source) else str(source)


def target_name(target: str | Path) -> str:
    """What an output is called: its name, or "standard output"."""
    return STDOUT_NAME if is_stdio(target) else str(target)


def check_source(source: str | Path) -> None:
    """InputError for what cannot be the name of an input file: nothing at all, or an address on the
    net.
    """
    if not str(source):
        raise InputError("the input's name is empty, expected a file (or - for standard input)")
    if isinstance(source, str) and _ADDRESS.match(source):
        raise InputError(
            f"{source}: is an address, expected a file (`curl -L ADDRESS | ravecodec ... -` reads "
            "from one)"
        )


def check_output(
    target: str | Path, *, force: bool = False, source: str | Path | None = None
) -> None:
    """Raise now what would make writing `target` fail later; creates nothing. Call it before
    anything slow.

    With `source`, the input of the same command, also refuses to write a file over itself, through
    any kind of link.

    Raises:
        UsageError: target and source are the same file.
        InputError: their common folder does not exist, so that it is the source that is missing.
        OutputError: the target exists and `force` is not set, is no regular file, or its folder
        cannot be written.
    """
    if is_stdio(target):
        _check_terminal(force)
        return
    if not str(target):
        raise OutputError("the output's name is empty, expected a file (or - for standard output)")
    if str(target).endswith(_SEPARATORS):
        raise OutputError(f"{target}: is the name of a folder, expected that of a file in it")
    path = Path(target)
    if source is not None and not is_stdio(source):
        _check_distinct(Path(source), path)
    with _named(path):
        if source is not None and Path(source).parent == path.parent and not path.parent.exists():
            raise InputError(f"{source}: cannot be opened ({os.strerror(errno.ENOENT)})")
        _check_target(path, force)
        _check_folder(path)


@contextmanager
def _named(path: Path) -> Iterator[None]:
    """What the system says against a path (too long, not searchable, a link to itself) as
    OutputError.
    """
    try:
        yield
    except OSError as error:
        raise OutputError(f"{path}: cannot be written ({error.strerror})") from error
    except (RuntimeError, ValueError) as error:  # pathlib's: a loop of links; a null character
        raise OutputError(f"{str(path)!r}: cannot be written ({error})") from error


def _check_terminal(force: bool) -> None:
    if sys.stdout is None:
        raise OutputError(f"{STDOUT_NAME}: is closed, expected a file or a pipe")
    if sys.stdout.isatty() and not force:
        raise OutputError(
            f"{STDOUT_NAME}: is a terminal, expected a file or a pipe for binary data (or --force)"
        )


def _check_distinct(source: Path, path: Path) -> None:
    try:
        same = source.exists() and path.exists() and source.samefile(path)
    except (OSError, ValueError):  # which the opening of either will say better
        return
    if same:
        raise UsageError(f"{path}: is the input file itself ({source}), expected another output")


def _check_target(path: Path, force: bool) -> None:
    if path.is_dir():
        raise OutputError(f"{path}: is a folder, expected the name of a file")
    if path.exists() and not path.is_file():
        raise OutputError(
            f"{path}: is not a regular file, expected one (write to - for pipes and devices)"
        )
    if path.is_file() and not force:
        raise OutputError(f"{path}: exists already, expected a new name (or --force to overwrite)")


def _check_folder(path: Path) -> None:
    with suppress(
        FileNotFoundError
    ):  # as it should be; anything else is in the way, a link to itself for one
        path.stat()
    folder = path.resolve().parent
    if not folder.is_dir():
        raise OutputError(f"{path}: the folder {folder} does not exist")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise OutputError(f"{path}: the folder {folder} is not writable")


class _Sink(io.FileIO):
    """A raw binary file whose write errors name the target: disk full, quota, closed pipe become
    OutputError.
    """

    label: str = ""

    def write(self, data: object) -> int | None:  # type: ignore[override]
        try:
            return super().write(data)  # type: ignore[arg-type]
        except OSError as error:
            raise OutputError(f"{self.label}: cannot be written ({error.strerror})") from error


class AtomicFile:
    """A binary file that appears under its name only when the `with` block ends well.

    `with AtomicFile(path) as file:` yields a seekable, buffered binary file. On success it is
    flushed, synced and renamed to `path`; on any exception (KeyboardInterrupt included) the
    temporary file is removed and an existing `path` is left as it was. A symbolic link at `path`
    stays a link: its target is replaced. What may not be replaced is refused when the block ends;
    call `check_output` before anything slow.

    Raises:
        OutputError: the file cannot be created, the disk is full, or `path` is no regular file or
        exists and `force` is not set.
    """

    def __init__(self, path: str | Path, *, force: bool = False) -> None:
        self.path = Path(path)
        self._force = force
        with _named(self.path):
            self._target = self.path.resolve()
        self._temp = self._target
        self._file: io.BufferedRandom | None = None

    def __enter__(self) -> BinaryIO:
        start = f".{self._target.name[:_NAME_IN_TEMP]}."
        _remove_left_overs(self._target.parent, start)
        try:
            sink = self._created(start)
        except OSError as error:
            raise OutputError(f"{self.path}: cannot be created ({error.strerror})") from error
        sink.label = str(self.path)
        self._file = io.BufferedRandom(sink)
        return self._file

    def _created(self, start: str) -> _Sink:
        """The temporary file, locked as long as it is open: that tells a living writer's from a
        left-over.
        """
        for _ in range(_TRIES):
            self._temp = self._target.with_name(f"{start}{secrets.token_hex(4)}{_PART}")
            sink = _Sink(self._temp, "x+b")
            if _lock(sink.fileno()) is not False and self._temp.exists():
                return sink
            sink.close()
        raise OutputError(
            f"{self.path}: cannot be created (another process removes its temporary file)"
        )

    def __exit__(
        self, kind: type[BaseException] | None, err: BaseException | None, tb: TracebackType | None
    ) -> None:
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
        """Drop the temporary file (after a commit there is none) without flushing what is still
        buffered.
        """
        assert self._file is not None
        if not self._file.closed:
            self._file.raw.close()
        self._temp.unlink(missing_ok=True)


def make_folder(folder: Path) -> None:
    """Makes a folder and those above it where there are none. Raises OutputError."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"{folder}: cannot be made ({error.strerror})") from error


def write_file(path: Path, data: bytes) -> None:
    """Writes a file, or replaces it, whole or not at all. Raises OutputError."""
    with AtomicFile(path, force=True) as file:
        file.write(data)


@contextmanager
def held_folder(folder: Path, busy: str) -> Iterator[None]:
    """Makes a folder; within the block no other process holds it. What was made and is empty in
    the end goes again.

    The folder itself is locked, so nothing is left of a process that was killed. Where the system
    has no such locks (Windows, some network file systems), no process is kept out.

    Raises OutputError if the folder cannot be made, or, with `busy` behind its name, if another
    process holds it.
    """
    with ExitStack() as stack:
        try:
            missing = [path for path in (folder, *folder.parents) if not path.exists()]
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OutputError(f"{folder}: cannot be made ({error.strerror})") from error
        stack.callback(_remove_empty, missing)
        if fcntl is not None and os.access(folder, os.R_OK):
            handle = os.open(folder, os.O_RDONLY)
            stack.callback(os.close, handle)
            if _lock(handle) is False:
                raise OutputError(f"{folder}: {busy}")
        yield


def _remove_empty(folders: list[Path]) -> None:
    """Removes the first of these folders if it is empty, then the next."""
    with suppress(OSError):
        for folder in folders:
            folder.rmdir()


def _lock(handle: int) -> bool | None:
    """Takes the file's lock.

    False if another process has it, None where the system has no such locks.
    """
    if fcntl is None:
        return None
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # a file system without locks
        return None
    return True


def _remove_left_overs(folder: Path, start: str) -> None:
    """Removes what killed writers of a target left behind: temporary files that no process holds
    locked.
    """
    try:
        names = [name for name in os.listdir(folder) if _is_part(name, start)]  # noqa: PTH208, names only
    except OSError:
        return
    for name in names:
        with suppress(OSError):
            handle = os.open(
                folder / name,
                os.O_RDWR | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0),
            )
            try:
                if _lock(handle):
                    (folder / name).unlink()
            finally:
                os.close(handle)


def _is_part(name: str, start: str) -> bool:
    middle = name.removeprefix(start).removesuffix(_PART)
    return name == f"{start}{middle}{_PART}" and re.fullmatch("[0-9a-f]{8}", middle) is not None


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
def keep_time_of(source: str | Path, target: str | Path, *, wanted: bool = True) -> Iterator[None]:
    """When the block ends well, `target`, which was written in it, gets the time of change that
    `source` had before.

    Raises:
        UsageError: one of them is a pipe. OutputError: the time cannot be set.
    """
    if not wanted:
        yield
        return
    if is_stdio(source) or is_stdio(target):
        raise UsageError("the time of a pipe cannot be kept, expected a file as input and output")
    with suppress(OSError, ValueError):  # a source that cannot be read is told by who opens it
        before = Path(source).stat()
    yield
    try:
        os.utime(target, ns=(before.st_atime_ns, before.st_mtime_ns))
    except OSError as error:
        raise OutputError(f"{target}: its time cannot be set ({error.strerror})") from error


@contextmanager
def open_binary_output(target: str | Path, *, force: bool = False) -> Iterator[BinaryIO]:
    """Yield a binary file for `target`: an `AtomicFile`, or standard output for `-` (not seekable,
    flushed at the end).

    Raises:
        OutputError: as `AtomicFile`; for `-` when it is a terminal and `force` is not set, and when
            the reader of the pipe has gone (then `__cause__` is a BrokenPipeError).
    """
    if not is_stdio(target):
        with AtomicFile(target, force=force) as file:
            yield file
        return
    stream = binary_stdout(force=force)
    try:
        yield stream
    except Exception:
        with suppress(
            OutputError
        ):  # what was written before the error goes out, if anybody listens
            stream.flush()
        raise
    else:
        stream.flush()
    finally:
        _drop(stream)


def _drop(stream: BinaryIO) -> None:
    """Forgets what could not be written: Python 3.13 tries once more when it clears up, and prints
    a traceback.
    """
    if isinstance(stream, io.BufferedWriter) and isinstance(stream.raw, _Sink):
        stream.raw.close()


def binary_stdout(*, force: bool = False) -> BinaryIO:
    """Standard output for bytes.

    Refuses a terminal unless `force`; write errors are OutputError.
    """
    _check_terminal(force)
    try:
        sys.stdout.flush()
    except OSError as error:
        raise OutputError(f"{STDOUT_NAME}: cannot be written ({error.strerror})") from error
    stream = sys.stdout.buffer
    try:
        sink = _Sink(stream.fileno(), "wb", closefd=False)
    except io.UnsupportedOperation:  # replaced by a buffer in memory, as test runners do
        return stream
    sink.label = STDOUT_NAME
    return cast(BinaryIO, io.BufferedWriter(sink))


@contextmanager
def temporary_file(what: str) -> Iterator[BinaryIO]:
    """A file without a name in the temporary folder, for `what`; it vanishes at the end of the
    block.

    Raises:
        OutputError: there is no temporary folder, or it is full; both name TMPDIR.
    """
    folder = os.environ.get("TMPDIR", "")
    if folder and not (Path(folder).is_dir() and os.access(folder, os.W_OK | os.X_OK)):
        raise OutputError(f"TMPDIR: is {folder}, expected a folder that can be written, for {what}")
    try:
        folder = tempfile.gettempdir()
        handle, name = tempfile.mkstemp(prefix="ravecodec-", dir=folder)
    except OSError as error:
        why = error.strerror or str(error)
        raise OutputError(f"TMPDIR: no temporary file for {what} can be made ({why})") from error
    with suppress(
        OSError
    ):  # on Windows an open file cannot be removed; there it stays until the end
        Path(name).unlink()
    sink = _Sink(handle, "r+b")
    sink.label = f"TMPDIR: the temporary file for {what} in {folder}"
    file = io.BufferedRandom(sink)
    try:
        yield cast(BinaryIO, file)
    finally:
        sink.close()
        Path(name).unlink(missing_ok=True)


def binary_stdin() -> BinaryIO:
    """Standard input for bytes; a terminal is refused with UsageError, because nobody types audio.

    InputError where it is closed.
    """
    if sys.stdin is None:
        raise InputError(f"{STDIN_NAME}: is closed, expected a file or a pipe")
    if sys.stdin.isatty():
        raise UsageError(f"{STDIN_NAME}: is a terminal, expected a file or a pipe")
    return sys.stdin.buffer
