"""How a command ends: exit codes, one sentence per error, signals.

docs/cli.md lists the codes. `console.py` has what is said before that.
"""

from __future__ import annotations

import io
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType
from typing import Any, NoReturn

import click

from ravecodec.cli.console import say, write_error
from ravecodec.errors import RavecodecError

DEBUG = "RAVECODEC_DEBUG"
USAGE_EXIT = 2
INTERRUPTED_EXIT = 128 + signal.SIGINT


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


def expect_command(ctx: click.Context) -> None:
    """Where a group was called without a command, shows its help and exits."""
    if ctx.invoked_subcommand is None:
        click.echo(ctx.get_help(), err=True)
        ctx.exit(USAGE_EXIT)


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
            write_error(line)
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
