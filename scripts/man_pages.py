"""Writes the man pages and the completion scripts, both made of the commands themselves.

    python scripts/man_pages.py            # into docs/man and docs/completion

A wheel installs both. Pages are roff (man(7)), scripts are click's. tests/test_man_pages.py checks
that the pages are those of the commands.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from pathlib import Path

import click
from click.shell_completion import get_completion_class

from ravecodec import __version__
from ravecodec.cli import main

ROOT = Path(__file__).resolve().parent.parent
SCRIPTS = {"bash": "ravecodec", "zsh": "_ravecodec", "fish": "ravecodec.fish"}
MANUAL = "docs/cli.md of the source has the whole manual."


def commands(
    command: click.Command = main, name: str = "ravecodec"
) -> Iterator[tuple[str, click.Command]]:
    """Every command with its full name."""
    yield name, command
    for word, each in command.commands.items() if isinstance(command, click.Group) else ():
        yield from commands(each, f"{name} {word}")


def file_name(name: str) -> str:
    """Of a command's page."""
    return f"{name.replace(' ', '-')}.1"


def roff(text: str) -> str:
    """Text as roff shows it: hyphens that can be copied, no requests by accident."""
    text = text.replace("\\", "\\e").replace("-", "\\-").replace("'", "\\(aq")
    return re.sub(r"(?m)^(?=\.)", r"\\&", text)


def page(name: str, command: click.Command) -> str:
    """The page of a command."""
    paragraphs, examples = _parts(command)
    title = name.replace(" ", "-")
    brief, *_ = re.split(r"(?<=\.)\s", " ".join(paragraphs[0].split()))
    lines = [f'.TH {title.upper()} 1 "" "ravecodec {__version__}" "ravecodec"']
    lines += [".SH NAME", f"{roff(title)} \\- {roff(brief.rstrip('.'))}"]
    lines += [".SH SYNOPSIS", f".B {roff(name)}", roff(_usage(command))]
    lines += [".SH DESCRIPTION", roff(" ".join(paragraphs[0].split()))]
    for paragraph in paragraphs[1:]:
        lines += [".PP", roff(" ".join(paragraph.split()))]
    if isinstance(command, click.Group):
        lines += _commands(name, command)
    lines += _options(command)
    if examples:
        lines += [".SH EXAMPLES", ".nf", *(roff(line) for line in examples), ".fi"]
    return "\n".join([*lines, *_see_also(name, command)]) + "\n"


def _parts(command: click.Command) -> tuple[list[str], list[str]]:
    """Paragraphs of a command's help, and the lines of its examples."""
    paragraphs, examples = [], []
    for part in inspect.cleandoc(command.help or "").split("\n\n"):
        if part.startswith("\b"):
            _, _, *examples = part.splitlines()
        else:
            paragraphs.append(part)
    return paragraphs, [line.removeprefix("  ") for line in examples]


def _usage(command: click.Command) -> str:
    arguments = [each for each in command.params if isinstance(each, click.Argument)]
    words = ["[OPTIONS]", *(each.metavar or each.human_readable_name for each in arguments)]
    if isinstance(command, click.Group):
        words.append("COMMAND [ARGS]...")
    return " ".join(words)


def _commands(name: str, group: click.Group) -> list[str]:
    lines = [".SH COMMANDS"]
    for word, command in group.commands.items():
        lines += [".TP", f".B {roff(word)}", f"{roff(command.get_short_help_str(200))}"]
        lines.append(f"See \\fB{roff(f'{name} {word}'.replace(' ', '-'))}\\fR(1).")
    return lines


def _options(command: click.Command) -> list[str]:
    options = [each for each in command.params if isinstance(each, click.Option)]
    lines = [".SH OPTIONS"]
    for option in options:
        words = [f"\\fB{roff(word.strip())}\\fR" for word in (*option.opts, *option.secondary_opts)]
        value = "" if option.is_flag else f" \\fI{roff(_value(option))}\\fR"
        lines += [".TP", ", ".join(words) + value, roff(option.help or "")]
    return [*lines, ".TP", "\\fB\\-h\\fR, \\fB\\-\\-help\\fR", "Show help and exit."]


def _value(option: click.Option) -> str:
    if option.metavar:
        return option.metavar
    if isinstance(option.type, click.Choice):
        return "|".join(map(str, option.type.choices))
    return option.type.name.upper()


def _see_also(name: str, command: click.Command) -> list[str]:
    others = [f"{name} {word}" for word in getattr(command, "commands", {})]
    if " " in name:
        others.append(name.rpartition(" ")[0])
    if not others:
        return [".SH SEE ALSO", roff(MANUAL)]
    pages = [f".BR {roff(other.replace(' ', '-'))} (1)" for other in others]
    return [".SH SEE ALSO", *(f"{page}," for page in pages[:-1]), pages[-1], ".PP", roff(MANUAL)]


def completion(shell: str) -> str:
    """click's script for a shell."""
    kind = get_completion_class(shell)
    assert kind is not None
    return kind(main, {}, "ravecodec", "_RAVECODEC_COMPLETE").source().rstrip("\n") + "\n"


def write() -> None:
    """All of it."""
    pages, scripts = ROOT / "docs" / "man", ROOT / "docs" / "completion"
    for folder in (pages, scripts):
        folder.mkdir(exist_ok=True)
        for old in folder.iterdir():
            old.unlink()
    for name, command in commands():
        (pages / file_name(name)).write_text(page(name, command), "utf-8")
    for shell, file in SCRIPTS.items():
        (scripts / file).write_text(completion(shell), "utf-8")


if __name__ == "__main__":
    write()
