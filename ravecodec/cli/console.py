"""How the command line talks: exit codes, one sentence per error, progress, numbers in words.

`cli` has the commands. Results go to standard output, everything else to standard error, which
holds nothing but errors with -q.
"""

from __future__ import annotations

import dataclasses
import io
import json
import math
import os
import re
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType, TracebackType
from typing import TYPE_CHECKING, Any, NoReturn, Self, TextIO

import click

from ravecodec.errors import OutputError, RavecodecError
from ravecodec.files import STDOUT_NAME
from ravecodec.machine import bounded_threads, usable_cores
from ravecodec.tagging import shown

if TYPE_CHECKING:  # the first imports torch
    from tqdm import tqdm

    from ravecodec.batch import Item, Totals
    from ravecodec.bitstream import Damage
    from ravecodec.examine import ChunkSummary, Inspection, StreamSummary, Verification
    from ravecodec.pipeline import Progress
    from ravecodec.splice import SpliceSummary
    from ravecodec.tagging import TagSummary
    from ravecodec.transcode import DecodeSummary, EncodeSummary

DEBUG = "RAVECODEC_DEBUG"
USAGE_EXIT = 2
INTERRUPTED_EXIT = 128 + signal.SIGINT
MOST_THREADS = 8  # more do not make these networks faster


@dataclass
class State:
    """What the error handler must know of the command that failed."""

    verbose: bool = False


class Terminated(BaseException):
    """SIGTERM or SIGHUP came; unwinds the stack, so that temporary files are removed."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


class Tool(click.Group):
    """The group of all commands; turns every end into an exit code."""

    def main(self, *args: Any, **options: Any) -> NoReturn:
        """Runs a command and exits: 0 if all is well, else the code that docs/cli.md lists.

        Arguments as for click.
        """
        state = State(verbose=bool(os.environ.get(DEBUG)))
        prepare_streams()
        options |= {"prog_name": "ravecodec", "standalone_mode": False, "obj": state}
        run: Callable[..., Any] = super().main
        sys.exit(exit_code(lambda: run(*args, **options), state))

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """As in click; where a file stands in place of a command, what can be done with it."""
        name = args[0]
        if self.get_command(ctx, name) is None and not name.startswith("-"):
            stream = name.lower().endswith(".rvc")
            if stream or os.path.isfile(name):  # noqa: PTH113
                calls = f"`ravecodec encode {name}` makes a stream of it"
                if stream:
                    calls = (
                        f"`ravecodec decode {name}` makes audio of it, `ravecodec info {name}` "
                        "shows what is in it"
                    )
                raise click.UsageError(f"{name}: is a file, expected a command ({calls})")
        return super().resolve_command(ctx, args)


def exit_code(run: Callable[[], int | None], state: State) -> int:
    """The exit code of a command; its error, if any, is told in one sentence."""
    try:
        with _signals_unwind():
            return run() or 0
    except RavecodecError as error:
        return _fail(str(error), error.exit_code, state)
    except click.UsageError as error:
        hint = f" (see `{error.ctx.command_path} --help`)" if error.ctx else ""
        hint += _dash_hint(error)
        return _fail(error.format_message().rstrip(".") + hint, USAGE_EXIT, state)
    except (click.Abort, KeyboardInterrupt):
        return _fail("interrupted", INTERRUPTED_EXIT, State())
    except Terminated as end:
        word = "terminated" if end.number == signal.SIGTERM else "hung up"
        return _fail(word, 128 + end.number, State())
    except Exception as error:
        what = " ".join(line.strip() for line in str(error).splitlines()) or "no message"
        hint = "" if state.verbose else f" (a bug? -v or {DEBUG}=1 shows where)"
        return _fail(f"{type(error).__name__}: {what}{hint}", 1, state)


def _fail(sentence: str, code: int, state: State) -> int:
    if state.verbose:
        for line in traceback.format_exc().splitlines():
            _write_error(line)
    say(f"error: {sentence}")
    return code


def _dash_hint(error: click.UsageError) -> str:
    """For a file whose name was taken for an option."""
    if not isinstance(error, click.NoSuchOption):
        return ""
    options = [word for word in sys.argv[1:] if word.startswith("-") and len(word) > 1]
    names = [word for word in options if os.path.exists(word)]  # noqa: PTH110
    return f"; a file is meant by ./{names[0]}" if names else ""


@contextmanager
def _signals_unwind() -> Iterator[None]:
    """Within the block SIGTERM and SIGHUP raise Terminated; only the main thread of a process may
    arrange that.

    A SIGHUP that is ignored, as `nohup` does, stays so.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    numbers = [signal.SIGTERM] + [
        number for number in (getattr(signal, "SIGHUP", None),) if number is not None
    ]
    before = {number: signal.getsignal(number) for number in numbers}
    for number in numbers:
        if number == signal.SIGTERM or before[number] is not signal.SIG_IGN:
            signal.signal(number, _terminate)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _terminate(number: int, frame: FrameType | None) -> None:
    raise Terminated(number)


def prepare_streams() -> None:
    """Standard streams that can be written to whatever the text, and whose numbers no other file
    can get.

    Where one of them is closed, /dev/null takes its place: else the next file that is opened gets
    its number, and what a library says there ends up in it. What cannot be encoded is written as a
    backslash sequence.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # the lowest number that is free: this one
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


# ---- words ---------------------------------------------------------------------------------------


def printable(text: object) -> str:
    """Text from outside, safe to show: control characters, line ends and lone surrogates as escape
    sequences.
    """
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in str(text))


def say(text: str) -> None:
    """One line on standard error; where nobody can read it, the work goes on."""
    _write_error(printable(f"ravecodec: {text}"))


def _write_error(line: str) -> None:
    try:
        click.echo(line, err=True)
    except (OSError, ValueError, AttributeError):  # full, closed, not there
        _silence(sys.stderr, 2)


def emit(text: str) -> None:
    """A result on standard output; OutputError where it cannot be written."""
    if sys.stdout is None:
        raise OutputError(f"{STDOUT_NAME}: is closed, expected a file or a pipe")
    try:
        click.echo(text)
        sys.stdout.flush()
    except (OSError, ValueError) as error:
        _silence(sys.stdout, 1)
        raise OutputError(
            f"{STDOUT_NAME}: cannot be written ({getattr(error, 'strerror', error)})"
        ) from error


def emit_afterwards(text: str) -> None:
    """`emit` of what was done: that it cannot be told changes nothing of it, so a warning is
    all.
    """
    try:
        emit(text)
    except OutputError as error:
        say(f"warning: {error}")


def _silence(stream: TextIO | None, number: int) -> None:
    """The flush at exit must not fail again."""
    try:
        number = stream.fileno() if stream is not None else number
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, number)
        os.close(null)
    except (OSError, ValueError):  # it is no file
        return


def as_json(value: Any, indent: int | None = 2) -> str:
    """A dataclass, or a list or dict, as JSON: infinities and NaN are null, what cannot be encoded
    is escaped.

    indent: None puts everything on one line.
    """
    plain = (
        dataclasses.asdict(value)
        if dataclasses.is_dataclass(value) and not isinstance(value, type)
        else value
    )
    encoding = (getattr(sys.stdout, "encoding", None) or "ascii").lower().replace("-", "")
    text = json.dumps(
        _finite(plain), indent=indent, ensure_ascii=encoding != "utf8", allow_nan=False
    )
    return re.sub("[\ud800-\udfff\x7f-\x9f]", lambda found: f"\\u{ord(found.group()):04x}", text)


def _finite(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return value


def emit_json(value: Any) -> None:
    """A dataclass, or a list or dict, as JSON on standard output."""
    emit(as_json(value))


def sound(rate: int, channels: int) -> str:
    """The form of audio in words."""
    return (
        f"{rate} Hz "
        f"{'mono' if channels == 1 else 'stereo' if channels == 2 else f'{channels} channels'}"
    )


def shares(stream: StreamSummary) -> str:
    """Where the bytes of a stream went."""
    payload, lost = (
        100 * count / stream.total_bytes for count in (stream.payload_bytes, stream.lost_bytes)
    )
    damage = f"damaged {lost:.1f} %, " if stream.lost_bytes else ""
    share = 100 * stream.model_bytes / stream.total_bytes
    model = f"model {share:.1f} %, " if stream.model_bytes else ""
    rest = 100 - payload - lost - share
    return f"payload {payload:.1f} %, {damage}{model}container {rest:.1f} %"


def cost(stream: StreamSummary) -> str:
    """Size and rate of a stream."""
    return f"{_size(stream)} ({shares(stream)})"


def _size(stream: StreamSummary) -> str:
    """Bytes and rate, and the rate without a decoder that the stream brings along."""
    without = f" ({stream.kbps_without_model:.3f} without the model)" * bool(stream.model_bytes)
    return f"{stream.total_bytes} bytes, {stream.kbps:.3f} kbit/s{without}"


def encoded(done: EncodeSummary) -> str:
    """The last line of `encode`."""
    stream = done.stream
    what = (
        f"{done.target}: {stream.duration:.3f} s of {sound(stream.sample_rate, stream.channels)} "
        f"in {cost(stream)}"
    )
    low, high = done.steps or (stream.step_index, stream.step_index)
    steps = f"step {low}" if low == high else f"steps {low} to {high}"
    how = f"{stream.dims} dims, {steps}, model {done.model} ({stream.model_id})"
    if done.quality is not None:
        how = f"quality {done.quality}: {how}"
    speed = f"{done.seconds:.1f} s, {done.speed:.1f}x real time"
    return "; ".join([what, how, speed] + ["symbols read back and equal"] * done.verified)


def decoded(done: DecodeSummary) -> str:
    """The last line of `decode`."""
    stream, length = done.stream, done.samples / done.sample_rate
    what = (
        f"{done.target}: {length:.3f} s of {sound(done.sample_rate, stream.channels)}, "
        f"{done.container} {done.subtype}"
    )
    speed = f"model {done.model}; {done.seconds:.1f} s, {done.speed:.1f}x real time"
    limited = (
        f"{done.clipped} samples beyond full scale were limited (--soft-clip bends, --bits float "
        "keeps them)"
    )
    return "; ".join([f"{what}, from {cost(stream)}", speed] + [limited] * (done.clipped > 0))


def damaged(damage: Damage, stream: StreamSummary) -> str:
    """What `decode --salvage` says of a place."""
    frame = stream.duration / max(1, stream.frames)
    begins, seconds = damage.first_frame * frame, (damage.frames or 0) * frame
    if damage.frames is None:
        lost = f"all from {begins:.3f} s on is lost"
    elif damage.frames:
        lost = f"{seconds:.3f} s from {begins:.3f} s on are lost"
    else:
        lost = f"nothing that sounds is lost, at {begins:.3f} s"
    return f"damage: {damage.reason}; {lost} ({damage.size} bytes)"


def spliced(done: SpliceSummary) -> str:
    """The last line of `cut` and `concat`."""
    stream = done.stream
    begins = (
        f", from {done.start / stream.sample_rate:.3f} s of the original on" if done.start else ""
    )
    sounds = sound(stream.sample_rate, stream.channels)
    return f"{done.target}: {stream.duration:.3f} s of {sounds}{begins}, {cost(stream)}"


def inspected(found: Inspection) -> str:
    """What `info` shows."""
    stream = found.stream
    rows = {
        "format": f"RVC {found.version}",
        "model": f"{stream.model_id} ({found.model or _not_installed(found)})",
        "audio": (
            f"{sound(stream.sample_rate, stream.channels)}, {stream.duration:.3f} s, "
            f"{stream.samples} samples"
        ),
        "latents": (
            f"{stream.frames} frames of {found.hop} samples at {found.model_rate} Hz in "
            f"{stream.chunks} chunks"
        ),
        "coding": (
            f"{stream.dims} dims, step {stream.step_index}, noise fill "
            f"{'on' if found.noise_fill else 'off'}"
        ),
        "seed": str(found.seed),
        "size": _size(stream),
        "payload": f"{stream.payload_bytes} bytes",
        "framing": f"{stream.framing_bytes} bytes ({shares(stream)})",
    }
    if (brought := found.embedded) is not None:
        rows["embedded"] = (
            f"decoder of {brought.size} bytes in {brought.bytes}, SHA-256 {brought.sha256}"
        )
    if found.meta:
        rows["metadata"] = f"{stream.meta_bytes} bytes"
    tags = found.meta.get("tags")
    listed = tags if isinstance(tags, dict) else {}
    others = {key: value for key, value in found.meta.items() if value is not listed}
    lines = [found.name, *(f"  {name:<9} {value}" for name, value in rows.items())]
    pairs = [(key, each) for key, value in listed.items() for each in _values(value)]
    pairs += list(others.items())
    lines += [f"  {'':<9} {key} = {shown(key, value)}" for key, value in pairs]
    lines += _chunk_rows(found.chunks) if found.chunks is not None else []
    return "\n".join(map(printable, lines))


def _not_installed(found: Inspection) -> str:
    """In place of a model's name, with the one that whoever made the stream gave it."""
    called = found.meta.get("model")
    known = f", called {called!r} there" if isinstance(called, str) else ""
    return ("embedded" if found.embedded else "not installed") + known


def _values(value: Any) -> list[Any]:
    """A tag's texts, of which it may have several."""
    return value if isinstance(value, list) else [value]


def retagged(done: TagSummary) -> str:
    """The last line of `tag`."""
    count = sum(len(_values(value)) for value in done.tags.values())
    return printable(f"{done.target}: {count} tags, {cost(done.stream)}")


def inspected_in_one_line(found: Inspection) -> str:
    """What `info` shows of one of several streams."""
    stream = found.stream
    what = (
        f"{stream.duration:.3f} s of {sound(stream.sample_rate, stream.channels)} in {cost(stream)}"
    )
    model = f"{found.model or _not_installed(found)} ({stream.model_id})"
    how = f"{stream.dims} dims, step {stream.step_index}, model {model}"
    return printable(f"{found.name}: {what}; {how}")


def added_up(totals: Totals) -> str:
    """The last line of a call with several files."""
    whole = f"{totals.done} of {totals.files} files"
    others = [f"{totals.skipped} skipped"] * bool(totals.skipped) + [
        f"{totals.failed} failed"
    ] * bool(totals.failed)
    hours = totals.audio_seconds / 3600
    size = f" in {totals.bytes} bytes, {totals.kbps:.3f} kbit/s" * bool(totals.bytes)
    speed = f"{totals.seconds:.1f} s, {totals.speed:.1f}x real time"
    return "; ".join([", ".join([whole, *others]), f"{hours:.3f} h of audio{size}", speed])


def _chunk_rows(chunks: Sequence[ChunkSummary]) -> list[str]:
    """A table of chunks, below what `info` shows."""
    names = ("frame", "seconds", "frames", "offset", "bytes", "dims", "step")
    rows = ["  " + " ".join(f"{name:>10}" for name in names)]
    for chunk in chunks:
        at = (
            chunk.frame,
            f"{chunk.seconds:.3f}",
            chunk.frames,
            chunk.offset,
            chunk.bytes,
            chunk.dims,
        )
        remark = "  silent" if chunk.silent else "  lead-in" if chunk.frame < 0 else ""
        rows.append("  " + " ".join(f"{value:>10}" for value in (*at, chunk.step_index)) + remark)
    return rows


def verified(result: Verification) -> str:
    """What `verify` says of a whole stream."""
    assert result.stream is not None
    tables = (
        f"symbols checked with model {result.model}"
        if result.model
        else "symbols not checked, no model at hand"
    )
    return printable(
        f"{result.name}: ok, {result.stream.duration:.3f} s in {result.stream.chunks} chunks, "
        f"{tables}"
    )


def failed(result: Verification) -> str:
    """What `verify` says of a damaged one."""
    if result.offset is None or result.seconds is None:
        return f"error: {result.error}"
    return f"error: {result.error} [first bad chunk: byte {result.offset}, {result.seconds:.3f} s]"


# ---- progress ------------------------------------------------------------------------------------


def is_terminal(stream: TextIO | None) -> bool:
    """Whether somebody looks at it; False for one that is closed."""
    return stream is not None and not stream.closed and stream.isatty()


class Meter:
    """Shows how far it is, how fast, and at what rate, if standard error is a terminal.

    Call it with each Progress.
    """

    def __init__(self, label: str, *, quiet: bool) -> None:
        self._label = label
        self._shown = not quiet and is_terminal(sys.stderr)
        self._began = time.perf_counter()
        self._bar: tqdm[NoReturn] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, err: BaseException | None, tb: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.close()

    def __call__(self, progress: Progress) -> None:
        if not self._shown:
            return
        first = self._bar is None
        if self._bar is None:
            self._bar = self._open(progress)
        speed = progress.seconds / (time.perf_counter() - self._began)
        rate = progress.bytes * 8 / 1000 / max(progress.seconds, 1e-9)
        cost = f", {rate:.2f} kbit/s" if progress.bytes else ""
        text = f"{self._label}: {progress.seconds:.0f} s, {speed:.1f}x real time{cost}"
        self._bar.set_description_str(text, refresh=False)
        self._bar.update((progress.share or 0.0) - self._bar.n)
        if first:
            self._bar.refresh()

    def _open(self, progress: Progress) -> tqdm[NoReturn]:
        from tqdm import tqdm

        form = "{desc}" if progress.share is None else "{percentage:3.0f} % |{bar:20}| {desc}"
        return tqdm(total=1.0, bar_format=form, mininterval=0.2, miniters=0, leave=False)


class Overview:
    """Shows how much of many files is done, how fast, and how long the rest will take, if standard
    error is a terminal.

    Files count by their bytes. `aside` is for lines that are written meanwhile.
    """

    def __init__(self, label: str, items: Sequence[Item], *, quiet: bool) -> None:
        self.shown = not quiet and is_terminal(sys.stderr)
        self._label = label
        self._files = len(items)
        self._whole = sum(item.size + 1 for item in items)
        self._ended = 0
        self._done = 0  # bytes
        self._parts: dict[str, float] = {}  # bytes that are done of files in hand
        self._text = f"{label}: 0 of {self._files} files"
        self._bar: tqdm[NoReturn] | None = self._open() if self.shown and items else None

    def _open(self) -> tqdm[NoReturn]:
        from tqdm import tqdm

        form = "{percentage:3.0f} % |{bar:20}| {desc}, {remaining} left"
        return tqdm(
            total=1.0,
            bar_format=form,
            desc=self._text,
            mininterval=0.2,
            miniters=0,
            smoothing=0,
            leave=False,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, err: BaseException | None, tb: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.close()

    def hear(self, item: Item, share: float) -> None:
        """So much, 0 to 1, of a file is done."""
        self._parts[item.source] = share * item.size
        self._show()

    def add(self, item: Item, totals: Totals) -> None:
        """A file has ended; `totals` are those with it."""
        self._parts.pop(item.source, None)
        self._ended += 1
        self._done += item.size + 1
        speed = f"{totals.speed:.1f}x real time, {totals.kbps:.2f} kbit/s"
        self._text = f"{self._label}: {self._ended} of {self._files} files, {speed}"
        self._show()

    def _show(self) -> None:
        if self._bar is not None:
            self._bar.set_description_str(self._text, refresh=False)
            self._bar.update((self._done + sum(self._parts.values())) / self._whole - self._bar.n)

    @contextmanager
    def aside(self) -> Iterator[None]:
        """Lines may be written within the block."""
        if self._bar is None:
            yield
            return
        self._bar.clear()
        yield
        self._bar.refresh()


def jobs_or_default(wanted: int | None, device: str) -> int:
    """Processes for many files: as wished, else one per usable core up to MOST_THREADS, or
    OMP_NUM_THREADS.

    A device that is named and is not the CPU gets one. More than there are cores are told and not
    used.
    """
    if wanted is not None:
        if (jobs := bounded_threads(wanted)) < wanted:
            say(f"warning: {wanted} jobs are wanted; {jobs} are used, one per core")
        return jobs
    if device not in ("auto", "cpu"):
        return 1
    named = os.environ.get("OMP_NUM_THREADS", "")
    return min(
        bounded_threads(int(named)) if named.isdigit() and int(named) else usable_cores(),
        MOST_THREADS,
    )


def threads_or_default(wanted: int | None) -> int | None:
    """Threads for torch: as wished, else one per usable core up to MOST_THREADS, unless
    OMP_NUM_THREADS decides.

    More than there are cores are told and not used.
    """
    if wanted is not None:
        if (threads := bounded_threads(wanted)) < wanted:
            say(f"warning: {wanted} threads are wanted; {threads} are used, one per core")
        return threads
    if "OMP_NUM_THREADS" in os.environ:
        return None
    return min(usable_cores(), MOST_THREADS)
