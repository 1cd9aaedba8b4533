"""How the command line talks: exit codes, one sentence per error, progress, numbers in words.

`cli` has the commands. Results go to standard output, everything else to standard error, which holds nothing but
errors with -q.
"""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType, TracebackType
from typing import TYPE_CHECKING, Any, NoReturn, Self

import click

from ravecodec.errors import OutputError, RavecodecError
from ravecodec.files import STDOUT_NAME
from ravecodec.machine import usable_cores

if TYPE_CHECKING:  # the first imports torch
    from tqdm import tqdm

    from ravecodec.examine import Inspection, StreamSummary, Verification
    from ravecodec.pipeline import Progress
    from ravecodec.transcode import DecodeSummary, EncodeSummary

DEBUG = "RAVECODEC_DEBUG"
USAGE_EXIT = 2
INTERRUPTED_EXIT = 128 + signal.SIGINT
TERMINATED_EXIT = 128 + signal.SIGTERM
MOST_THREADS = 8  # more do not make these networks faster


@dataclass
class State:
    """What the error handler must know of the command that failed."""

    verbose: bool = False


class Terminated(BaseException):
    """SIGTERM came; unwinds the stack, so that temporary files are removed."""


class Tool(click.Group):
    """The group of all commands; turns every end into an exit code."""

    def main(self, *args: Any, **options: Any) -> NoReturn:
        """Runs a command and exits: 0 if all is well, else the code that docs/cli.md lists. Arguments as for click."""
        state = State(verbose=bool(os.environ.get(DEBUG)))
        options |= {"prog_name": "ravecodec", "standalone_mode": False, "obj": state}
        run: Callable[..., Any] = super().main
        sys.exit(exit_code(lambda: run(*args, **options), state))


def exit_code(run: Callable[[], int | None], state: State) -> int:
    """The exit code of a command; its error, if any, is told in one sentence."""
    try:
        with _sigterm_unwinds():
            return run() or 0
    except RavecodecError as error:
        return _fail(str(error), error.exit_code, state)
    except click.UsageError as error:
        hint = f" (see `{error.ctx.command_path} --help`)" if error.ctx else ""
        return _fail(error.format_message().rstrip(".") + hint, USAGE_EXIT, state)
    except (click.Abort, KeyboardInterrupt):
        return _fail("interrupted", INTERRUPTED_EXIT, State())
    except Terminated:
        return _fail("terminated", TERMINATED_EXIT, State())
    except Exception as error:
        what = str(error) or "no message"
        hint = "" if state.verbose else f" (a bug? -v or {DEBUG}=1 shows where)"
        return _fail(f"{type(error).__name__}: {what}{hint}", 1, state)


def _fail(sentence: str, code: int, state: State) -> int:
    if state.verbose:
        traceback.print_exc()
    say("error: " + " ".join(line.strip() for line in sentence.splitlines()))
    return code


@contextmanager
def _sigterm_unwinds() -> Iterator[None]:
    """Within the block SIGTERM raises Terminated; only the main thread of a process may arrange that."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, _terminate)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _terminate(number: int, frame: FrameType | None) -> None:
    raise Terminated


# ---- words -----------------------------------------------------------------------------------------------------------


def say(text: str) -> None:
    """One line on standard error."""
    click.echo(f"ravecodec: {text}", err=True)


def emit(text: str) -> None:
    """A result on standard output; OutputError where nobody reads it any more."""
    try:
        click.echo(text)
        sys.stdout.flush()
    except OSError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # the flush at exit must not fail again
        raise OutputError(f"{STDOUT_NAME}: cannot be written ({error.strerror})") from error


def emit_json(value: Any) -> None:
    """A dataclass, or a list or dict, as JSON on standard output."""
    plain = dataclasses.asdict(value) if dataclasses.is_dataclass(value) and not isinstance(value, type) else value
    emit(json.dumps(plain, indent=2, ensure_ascii=False))


def sound(rate: int, channels: int) -> str:
    """The form of audio in words."""
    return f"{rate} Hz {'mono' if channels == 1 else 'stereo' if channels == 2 else f'{channels} channels'}"


def shares(stream: StreamSummary) -> str:
    """Where the bytes of a stream went."""
    payload = 100 * stream.payload_bytes / stream.total_bytes
    return f"payload {payload:.1f} %, container {100 - payload:.1f} %"


def cost(stream: StreamSummary) -> str:
    """Size and rate of a stream."""
    return f"{stream.total_bytes} bytes, {stream.kbps:.3f} kbit/s ({shares(stream)})"


def encoded(done: EncodeSummary) -> str:
    """The last line of `encode`."""
    stream = done.stream
    what = f"{done.target}: {stream.duration:.3f} s of {sound(stream.sample_rate, stream.channels)} in {cost(stream)}"
    how = f"{stream.dims} dims, step {stream.step_index}, model {done.model} ({stream.model_id})"
    speed = f"{done.seconds:.1f} s, {done.speed:.1f}x real time"
    return "; ".join([what, how, speed] + ["read back and equal"] * done.verified)


def decoded(done: DecodeSummary) -> str:
    """The last line of `decode`."""
    stream, length = done.stream, done.samples / done.sample_rate
    what = (
        f"{done.target}: {length:.3f} s of {sound(done.sample_rate, stream.channels)}, {done.container} {done.subtype}"
    )
    speed = f"model {done.model}; {done.seconds:.1f} s, {done.speed:.1f}x real time"
    limited = f"{done.clipped} samples beyond full scale were limited (--soft-clip bends, --bits float keeps them)"
    return "; ".join([f"{what}, from {cost(stream)}", speed] + [limited] * (done.clipped > 0))


def inspected(found: Inspection) -> str:
    """What `info` shows."""
    stream = found.stream
    rows = {
        "format": f"RVC {found.version}",
        "model": f"{stream.model_id} ({found.model or 'not installed'})",
        "audio": f"{sound(stream.sample_rate, stream.channels)}, {stream.duration:.3f} s, {stream.samples} samples",
        "latents": f"{stream.frames} frames of {found.hop} samples at {found.model_rate} Hz in {stream.chunks} chunks",
        "coding": f"{stream.dims} dims, step {stream.step_index}, noise fill {'on' if found.noise_fill else 'off'}",
        "seed": str(found.seed),
        "size": f"{stream.total_bytes} bytes, {stream.kbps:.3f} kbit/s",
        "payload": f"{stream.payload_bytes} bytes",
        "framing": f"{stream.framing_bytes} bytes ({shares(stream)})",
    }
    if found.meta:
        rows["metadata"] = f"{stream.meta_bytes} bytes"
    tags = found.meta.get("tags")
    listed = tags if isinstance(tags, dict) else {}
    others = {key: value for key, value in found.meta.items() if value is not listed}
    lines = [found.name, *(f"  {name:<9} {value}" for name, value in rows.items())]
    return "\n".join([*lines, *(f"  {'':<9} {key} = {value}" for key, value in (listed | others).items())])


def verified(result: Verification) -> str:
    """What `verify` says of a whole stream."""
    assert result.stream is not None
    tables = f"symbols checked with model {result.model}" if result.model else "symbols not checked, no model at hand"
    return f"{result.name}: ok, {result.stream.duration:.3f} s in {result.stream.chunks} chunks, {tables}"


def failed(result: Verification) -> str:
    """What `verify` says of a damaged one."""
    if result.offset is None or result.seconds is None:
        return f"error: {result.error}"
    return f"error: {result.error} [first bad chunk: byte {result.offset}, {result.seconds:.3f} s]"


# ---- progress --------------------------------------------------------------------------------------------------------


class Meter:
    """Shows how far it is, how fast, and at what rate, if standard error is a terminal. Call it with each Progress."""

    def __init__(self, label: str, *, quiet: bool) -> None:
        self._label = label
        self._shown = not quiet and sys.stderr.isatty()
        self._began = time.perf_counter()
        self._bar: tqdm[NoReturn] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, err: BaseException | None, tb: TracebackType | None) -> None:
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
        text = f"{self._label}: {progress.seconds:.0f} s, {speed:.1f}x real time, {rate:.2f} kbit/s"
        self._bar.set_description_str(text, refresh=False)
        self._bar.update((progress.share or 0.0) - self._bar.n)
        if first:
            self._bar.refresh()

    def _open(self, progress: Progress) -> tqdm[NoReturn]:
        from tqdm import tqdm

        form = "{desc}" if progress.share is None else "{percentage:3.0f} % |{bar:20}| {desc}"
        return tqdm(total=1.0, bar_format=form, mininterval=0.2, miniters=0, leave=False)


def threads_or_default(wanted: int | None) -> int | None:
    """Threads for torch: as wished, else one per usable core up to MOST_THREADS, unless OMP_NUM_THREADS decides."""
    if wanted is not None or "OMP_NUM_THREADS" in os.environ:
        return wanted
    return min(usable_cores(), MOST_THREADS)
