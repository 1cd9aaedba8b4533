"""How the command line talks: results go to standard output, everything else to standard error,
which holds nothing but errors with -q.

`sentences.py` has the words, `progress.py` what is shown meanwhile, `exits.py` how a command ends.
"""

from __future__ import annotations

import dataclasses
import json
import math
import os
import re
import sys
from collections.abc import Iterable
from typing import Any, TextIO

import click

from ravecodec.errors import OutputError, UsageError
from ravecodec.files import STDOUT_NAME, is_stdio


def printable(text: object) -> str:
    """Text from outside, safe to show: control characters, line ends and lone surrogates as escape
    sequences.
    """
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in str(text))


def say(text: str) -> None:
    """One line on standard error; where nobody can read it, the work goes on."""
    write_error(printable(f"ravecodec: {text}"))


def write_error(line: str) -> None:
    """A line on standard error; where nobody can read it, nothing."""
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
    return re.sub("[\ud800-\udfff\x7f-\x9f]", lambda match: f"\\u{ord(match.group()):04x}", text)


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


def emit_json_afterwards(value: Any, indent: int | None = 2) -> None:
    """`emit_afterwards` of what was done, as JSON."""
    emit_afterwards(as_json(value, indent))


def check_json_output(target: str, as_json: bool) -> None:
    """UsageError where the output and what is told of it would both go to standard output."""
    if as_json and is_stdio(target):
        raise UsageError("--json and OUT - both want standard output; expected one of them")


def tell(done: Any, sentence: str, *, quiet: bool, as_json: bool) -> None:
    """What was done, as JSON or in a sentence, and a warning for each of its remarks."""
    if as_json:
        emit_json_afterwards(done)
    elif not quiet:
        say(sentence)
    warn(() if quiet else getattr(done, "remarks", ()))


def warn(remarks: Iterable[object]) -> None:
    """A line for each."""
    for remark in remarks:
        say(f"warning: {remark}")
