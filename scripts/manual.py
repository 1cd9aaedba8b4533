#!/usr/bin/env python3
"""The generated parts of the documents: keys of recipes, the Python API, options of the commands.

    python scripts/manual.py            # writes docs/training.md, docs/api.md and docs/cli.md
    python scripts/manual.py --check    # writes nothing; exit 1 if a page says something else

docs/training.md: the table between `<!-- recipe keys -->` and `<!-- end -->`, from the fields of
`Recipe`, `Stage` and `ModelConfig`. docs/api.md: all of it, from the docstrings of
`ravecodec.__all__`. docs/cli.md: in every section `## ravecodec COMMAND` the table of options.
Its first two columns are those of `--help`; the third, *more*, is written by hand and kept, except
for sentences that only repeat the second. A table that has no marker yet gets one, and the second
column of a table of two is taken as *more*; so an option that was added on another branch needs
nothing but another call of this script. Options that are alike in many commands stand once, in the
section `## Common options`.
"""

from __future__ import annotations

import argparse
import inspect
import re
import sys
import textwrap
from collections.abc import Callable, Iterable, Iterator
from dataclasses import MISSING, fields
from functools import partial
from pathlib import Path
from typing import Any

import click

import ravecodec
from ravecodec.cli import main as group
from ravecodec.cli import options as shared

ROOT = Path(__file__).resolve().parent.parent
TRAINING, API, CLI = (ROOT / "docs" / name for name in ("training.md", "api.md", "cli.md"))
END = "<!-- end -->"

# Keys of [model] are described here; their ranges are checked by `ModelConfig`.
MODEL_KEYS = {
    "causal": "true: no network looks ahead, to play through (`ravecodec live`)",
    "lookahead": "of a causal encoder: samples that its windows reach ahead",
    "sample_rate": "Hz",
    "channels": "1 or 2",
    "bands": "of the filter bank; 16",
    "encoder": '`"multiband"` (the paper) or `"spectrogram"`',
    "generator": '`"conv"` (the paper) or `"istft"`',
    "capacity": "width of the first level; deeper levels are multiples of it",
    "ratios": "strides at band rate; a latent frame is 16 times their product in samples (the hop)",
    "latent": "latents of a frame",
    "dilations": "conv: dilations of the residual stack",
    "noise": "whether the generator has a noise head",
    "lines": "spectrogram, istft: rows of the warped spectrum",
    "sinusoids_per_line": "istft: sinusoids that share a row",
    "frequency_ratios": "spectrogram, istft: how the rows shrink from level to level",
    "blocks": "spectrogram, istft: residual blocks of each level",
    "faint": "spectrogram: more planes of the image, for what lies below the floor of the others",
    "refiner": "spectrogram and istft: width of the network that corrects latents; 0: none",
}


def toml(value: Any) -> str:
    """A value as a recipe spells it."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return f'"{value}"'
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(toml(entry) for entry in value)}]"
    return f"{value:_}" if isinstance(value, int) else repr(value)


# ---- recipes -------------------------------------------------------------------------------------


def recipe_rows() -> Iterator[str]:
    """A line for every key of a recipe, in the order of the tables."""
    from ravecodec.models.config import ModelConfig
    from ravecodec.train.recipe import TABLES, Recipe, Stage

    for table in ("", *TABLES):
        for key in fields(Recipe):
            if key.name == "model" or key.metadata["table"] != table:
                continue
            if isinstance(key.default, Stage):
                for part in fields(Stage):
                    value = getattr(key.default, part.name)
                    yield key_row(table, part.name, value, part.metadata["meaning"])
            else:
                yield key_row(table, key.name, key.default, key.metadata["meaning"])
    for key in fields(ModelConfig):
        meaning = MODEL_KEYS.get(key.name)
        if meaning is None:
            sys.exit(f"scripts/manual.py: MODEL_KEYS does not describe {key.name!r}")
        yield key_row("model", key.name, key.default, meaning)


def key_row(table: str, key: str, default: Any, meaning: str) -> str:
    shown = "" if default is MISSING else f"`{toml(default)}`"
    return f"| {f'`[{table}]`' if table else ''} | `{key}` | {shown} | {meaning} |"


def recipe_page(text: str) -> str:
    """docs/training.md with its table of keys."""
    lines = ["| table | key | default | meaning |", "|---|---|---|---|", *recipe_rows()]
    block = "\n".join(["<!-- recipe keys -->", *lines, END])
    pattern = rf"<!-- recipe keys -->\n.*?{END}"
    found, count = re.subn(pattern, lambda _: block, text, flags=re.DOTALL)
    if count != 1:
        sys.exit(f"{TRAINING}: has {count} places for the recipe keys; expected 1")
    return found


# ---- Python --------------------------------------------------------------------------------------


def signature(name: str, item: Any) -> str:
    """`name(a: int, b: str = "x") -> float`, a line for each parameter where there are many."""
    found = inspect.signature(item)
    parts, starred = [], False
    for parameter in found.parameters.values():
        if parameter.name == "self":
            continue
        if parameter.kind is parameter.KEYWORD_ONLY and not starred:
            parts.append("*")
            starred = True
        parts.append(shown_parameter(parameter))
    result = annotation(found.return_annotation)
    line = f"{name}({', '.join(parts)}){result and f' -> {result}'}"
    if len(line) <= 96:
        return line
    inner = "".join(f"    {part},\n" for part in parts)
    return f"{name}(\n{inner}){result and f' -> {result}'}"


def annotation(found: Any) -> str:
    if found is inspect.Signature.empty:
        return ""
    return found if isinstance(found, str) else inspect.formatannotation(found)


def shown_parameter(parameter: inspect.Parameter) -> str:
    stars = {parameter.VAR_POSITIONAL: "*", parameter.VAR_KEYWORD: "**"}.get(parameter.kind, "")
    text = stars + parameter.name
    if kind := annotation(parameter.annotation):
        text += f": {kind}"
    if parameter.default is not parameter.empty:
        default = "..." if callable(parameter.default) else repr(parameter.default)
        text += f" = {default}" if kind else f"={default}"
    return text


def described(name: str, item: Any, level: str) -> list[str]:
    """The section of one function or class."""
    call = signature(name, item) if callable(item) else name
    return [f"{level} {name}", "", "```python", call, "```", "", inspect.getdoc(item) or "", ""]


def members(name: str, item: type) -> Iterator[str]:
    """The sections of the public methods and properties that a class defines itself."""
    for key, found in vars(item).items():
        if key.startswith("_"):
            continue
        inner = found.__func__ if isinstance(found, (classmethod, staticmethod)) else found
        if isinstance(found, property):
            yield "\n".join([f"### {name}.{key}", "", inspect.getdoc(found) or "", ""])
        elif inspect.isfunction(inner):
            bound = getattr(item, key) if isinstance(found, classmethod) else inner
            yield "\n".join(described(f"{name}.{key}", bound, "###"))


def api_page() -> str:
    """docs/api.md."""
    lines = [
        "# From Python",
        "",
        "Generated by `scripts/manual.py` from the docstrings; do not edit it here.",
        "Importing `ravecodec` does not load torch; the first call that needs it does.",
        "",
    ]
    for name in sorted(ravecodec.__all__, key=lambda name: (name[0].isupper(), name)):
        item = getattr(ravecodec, name)
        lines += described(name, item, "##")
        if inspect.isclass(item):
            lines += members(name, item)
    return "\n".join(line.rstrip() for line in "\n".join(lines).splitlines()) + "\n"


# ---- commands ------------------------------------------------------------------------------------


COMMON = (
    shared.force_option,
    shared.device_option,
    shared.threads_option,
    shared.quiet_option,
    shared.verbose_option,
    shared.json_option,
)
REPEATED = 0.65  # share of words from which on a sentence only repeats another
HEADS = ("| option |", "| argument or option |")
# What tables said of common options before those had a section.
PLAIN = {
    "as for encode",
    "nothing but errors",
    "say nothing but errors",
    "a traceback with an error",
    "overwrite `OUT`; write to a terminal",
    "overwrite what exists; write to a terminal",
    "the summary as JSON on standard output (not with `OUT` = `-`)",
}


def common_options() -> list[click.Option]:
    """The options of `COMMON`, made by a command that has nothing else."""

    def nothing(**_: Any) -> None:
        pass

    command = click.command()(shared.options(*COMMON)(nothing))
    return [param for param in command.params if isinstance(param, click.Option)]


def commands(found: click.Group, name: str = "ravecodec") -> Iterator[tuple[str, click.Command]]:
    """Every command with its full name."""
    yield name, found
    for word, command in found.commands.items():
        if isinstance(command, click.Group):
            yield from commands(command, f"{name} {word}")
        else:
            yield f"{name} {word}", command


def spelled(option: click.Option) -> str:
    """`-o`, `--output OUT`, with what it takes."""
    value = ""
    if not option.is_flag and not option.count:
        choices = getattr(option.type, "choices", None)
        value = " " + ("/".join(map(str, choices)) if choices else option.metavar or "VALUE")
    words = [*option.opts, *option.secondary_opts]
    return ", ".join([*(f"`{word}`" for word in words[:-1]), f"`{words[-1]}{value}`"])


def cell(text: str) -> str:
    return text.replace("|", "\\|")


def same_option(one: click.Option, other: click.Option) -> bool:
    return one.opts == other.opts and one.help == other.help


def rows_of(block: str) -> Iterator[list[str]]:
    """The cells of the rows of a Markdown table, without its head."""
    for line in [line for line in block.splitlines() if line.startswith("|")][2:]:
        yield [part.strip() for part in re.split(r"(?<!\\)\|", line)[1:-1]]


def notes_of(block: str) -> tuple[list[list[str]], dict[str, str]]:
    """(rows of arguments, what was written by hand of each option by the first word that names
    it)."""
    arguments, notes = [], {}
    for cells in rows_of(block):
        words = re.findall(r"`(-[^ `]+)", cells[0])
        if words and cells[0].startswith("`-") and words[0] != "-h":
            notes[words[0]] = cells[-1]
        else:
            arguments.append(cells)
    return arguments, notes


def says_more(sentence: str, summary: str) -> bool:
    """Whether a sentence has words enough that the help of its option lacks."""
    words, known = (set(re.findall(r"\w+", text.lower())) for text in (sentence, summary))
    return len(words & known) < REPEATED * len(words)


def note_for(option: click.Option, notes: dict[str, str]) -> str:
    """What was written by hand of an option, without the sentences that repeat its help."""
    note = next((notes[word] for word in option.opts if word in notes), "")
    sentences = re.split(r"(?<=[.;]) +", note)
    kept = " ".join(each for each in sentences if says_more(each, option.help or ""))
    return kept[:1].upper() + kept[1:].rstrip(";")


def table(options: Iterable[click.Option], notes: dict[str, str]) -> list[str]:
    """The rows of options."""
    return [
        f"| {spelled(option)} | {cell(option.help or '')} | {note_for(option, notes)} |"
        for option in options
    ]


def options_block(name: str, command: click.Command, block: str) -> str:
    """The block of one command, made anew from what it said before."""
    arguments, notes = notes_of(block)
    common, own, alike = common_options(), [], []
    for option in (param for param in command.params if isinstance(param, click.Option)):
        plain = any(same_option(option, each) for each in common)
        note = next((notes[word] for word in option.opts if word in notes), "")
        if plain and (note in PLAIN or not note_for(option, notes)):
            alike.append(option)
        else:
            own.append(option)
    lines = [f"<!-- options: {name} -->"]
    if arguments or own:
        first = "argument or option" if arguments else "option"
        lines += [f"| {first} | meaning | more |", "|---|---|---|"]
        for cells in arguments:
            lines.append(f"| {' | '.join([*cells[:2], '', ''][:3])} |")
        lines += table(own, notes)
    if alike:
        words = ", ".join(f"`{option.opts[-1]}`" for option in alike)
        lines += ["", *textwrap.wrap(f"And the [common options](#common-options) {words}.", 100)]
    return "\n".join([*lines, END])


def marked(section: str, name: str) -> str:
    """A section with markers around its first table of options, if it has none."""
    if f"<!-- options: {name} -->" in section:
        return section
    lines = section.splitlines()
    for start, line in enumerate(lines):
        if line.startswith(HEADS):
            end = start
            while end < len(lines) and lines[end].startswith("|"):
                end += 1
            lines[start:end] = [f"<!-- options: {name} -->", *lines[start:end], END]
            return "\n".join(lines) + "\n"
    sys.exit(f"{CLI}: the section {name!r} has no table of options")


def cli_page(text: str) -> str:
    """docs/cli.md with its tables; SystemExit for a command that has no section."""
    for name, command in commands(group):
        start = text.find(f"\n## {name}\n")
        if start < 0:
            sys.exit(f"{CLI}: no section '## {name}'")
        end = text.find("\n## ", start + 1) + 1 or len(text)
        if not any(isinstance(param, click.Option) for param in command.params):
            continue
        section = marked(text[start:end], name)
        section = replaced(section, name, partial(options_block, name, command))
        text = text[:start] + section + text[end:]
    return replaced(text, "common", common_block)


def replaced(text: str, name: str, renew: Callable[[str], str]) -> str:
    """A text in which the block of that name is made anew."""
    pattern = rf"<!-- options: {re.escape(name)} -->\n.*?{END}"
    return re.sub(pattern, lambda found: renew(found[0]), text, flags=re.DOTALL)


def common_block(block: str) -> str:
    notes = notes_of(block)[1]
    head = ["<!-- options: common -->", "| option | meaning | more |", "|---|---|---|"]
    return "\n".join([*head, *table(common_options(), notes), END])


def pages() -> dict[Path, str]:
    """Every page as it should be."""
    return {
        TRAINING: recipe_page(TRAINING.read_text("utf-8")),
        API: api_page(),
        CLI: cli_page(CLI.read_text("utf-8")),
    }


def main() -> int:
    """Command line; returns the exit status."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--check", action="store_true", help="write nothing")
    args = parser.parse_args()
    stale = {
        page: text
        for page, text in pages().items()
        if not page.exists() or page.read_text("utf-8") != text
    }
    for page, text in stale.items():
        print(page.relative_to(ROOT), "differs" if args.check else "is written", file=sys.stderr)
        if not args.check:
            page.write_text(text, "utf-8")
    return int(bool(stale) and args.check)


if __name__ == "__main__":
    sys.exit(main())
