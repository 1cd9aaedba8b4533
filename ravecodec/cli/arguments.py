"""Which call of a command that takes many files means what: one input or several, and where the
outputs go.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Self

from ravecodec.batch.items import Item, Outcome, collect
from ravecodec.batch.work import check_kind, make_folder
from ravecodec.cli.extensions import extension
from ravecodec.cluster import check_address
from ravecodec.errors import OutputError, UsageError
from ravecodec.files import STDIO, check_source, is_stdio


@dataclass(frozen=True)
class Choices:
    """The options for many files, as given."""

    output: str | None = None
    recursive: bool = False
    jobs: int | None = None
    ray: str | None = None
    skip_existing: bool = False
    newer: bool = False
    dry_run: bool = False
    manifest: str | None = None
    no_manifest: bool = False
    force: bool = False

    @classmethod
    def taken_from(cls, options: dict[str, Any]) -> Self:
        """Takes them out of a command's options, all but `force`.

        UsageError for those that exclude each other.
        """
        force = options["force"]
        if options.pop("stdout"):
            if options["output"] is not None:
                raise UsageError("--stdout and --output are given; expected one of them")
            options["output"] = STDIO
        names = [each.name for each in dataclasses.fields(cls) if each.name != "force"]
        choices = cls(**{name: options.pop(name) for name in names}, force=force)
        wishes = {
            "--force": force,
            "--skip-existing": choices.skip_existing,
            "--newer": choices.newer,
        }
        if len(given := [name for name, wish in wishes.items() if wish]) > 1:
            raise UsageError(f"{' and '.join(given)} are given; expected one of them")
        if choices.manifest is not None and choices.no_manifest:
            raise UsageError("--manifest and --no-manifest are given; expected one of them")
        if choices.ray is not None:
            check_address(choices.ray)
        return choices

    @property
    def plain(self) -> bool:
        """Whether nothing is wished that only many files need."""
        return dataclasses.replace(self, output=None, force=False, no_manifest=False) == Choices()


@dataclass(frozen=True)
class Kind:
    """What a command makes of what. made: suffixes that an output may have, the default first.
    taken: suffixes that an input has, and an output has not. in_folders: those that are looked for
    in folders, `what` they are in words. do: does it to one file, as `encode_file` does. describe:
    a sentence on what that returns."""

    command: str
    made: tuple[str, ...]
    taken: frozenset[str]
    in_folders: frozenset[str]
    what: str
    name: Callable[[str], str]
    do: Callable[..., Any]
    describe: Callable[[Any], str]


def single(kind: Kind, files: Sequence[str], choices: Choices) -> tuple[str, str] | None:
    """(IN, OUT) of a call with one input, None of one with several.

    Raises:
        UsageError, OutputError: it is not certain what is meant; the sentence names the calls that
        are.
    """
    check_source(files[0])
    if (
        choices.output is not None
        and is_stdio(choices.output)
        and (choices.recursive or len(files) > 1)
    ):
        raise UsageError(
            f"standard output takes one file, expected one input and not {' '.join(files)}"
        )
    if choices.recursive:
        _check_last_exists(kind, files, choices)
        return None
    if choices.output is not None:
        return _with_output(kind, files, choices.output)
    if len(files) == 1:
        check_kind(files[0], stream=kind.command == "decode")
        return files[0], STDIO if is_stdio(files[0]) else kind.name(files[0])
    if len(files) == 2:
        return _in_and_out(kind, *files)
    for each in files:
        if extension(each) in kind.made:
            example = f"`ravecodec {kind.command} IN {each}` or, for several inputs, `-o FOLDER`"
            raise UsageError(
                f"{each}: is named like an output among {len(files)} files, expected {example}"
            )
    return None


def is_folder(name: str) -> bool:
    """Whether a name is that of a folder, which need not exist where it ends like one."""
    return name.endswith(("/", os.sep)) or os.path.isdir(name)


def _check_last_exists(kind: Kind, files: Sequence[str], choices: Choices) -> None:
    """For whoever means the last one as the output."""
    *others, last = files
    if others and choices.output is None and not os.path.lexists(last):
        meant = f"`ravecodec {kind.command} -r {' '.join(others)} -o {last}`"
        raise UsageError(
            f"{last}: does not exist, expected a file or folder to read ({meant} writes there)"
        )


def _with_output(kind: Kind, files: Sequence[str], output: str) -> tuple[str, str] | None:
    if len(files) > 1:
        return None
    source = files[0]
    if is_stdio(output) or os.path.isdir(source):
        return source, output
    if is_folder(output):
        if is_stdio(source):
            raise UsageError(f"{output}: is a folder, expected a file for standard input")
        return source, kind.name(os.path.join(output, os.path.basename(source)))
    if extension(output) in kind.taken:
        raise UsageError(
            f"{output}: has the extension of an input, expected {' or '.join(kind.made)} as output"
        )
    if not extension(output):
        folder = os.path.join(output, "")
        raise UsageError(
            f"{output}: may be a file or a folder, expected {output}{kind.made[0]} or {folder}"
        )
    return source, output


def _in_and_out(kind: Kind, source: str, target: str) -> tuple[str, str] | None:
    if is_stdio(source) or is_stdio(target):
        return source, target
    command = f"ravecodec {kind.command}"
    if is_folder(target) and not os.path.isdir(source):
        into = f"(`{command} {source} -o {target}` writes into it)"
        if os.path.isdir(target):
            raise OutputError(f"{target}: is a folder, expected the name of a file {into}")
        raise OutputError(
            f"{target}: is the name of a folder, expected that of a file in it {into}"
        )
    if extension(target) in kind.taken:
        if os.path.isfile(target):
            return None
        calls = (
            f"`{command} {source} -o NAME{kind.made[0]}`, or `{command} FILE... -o FOLDER` for "
            "several"
        )
        raise UsageError(
            f"{target}: has the extension of an input and does not exist, expected {calls}"
        )
    return source, target


def make_output_folder(target: str, choices: Choices) -> None:
    """The folder of -o, where one is named that is not there yet."""
    if (
        choices.output is not None
        and not is_stdio(target)
        and choices.output.endswith(("/", os.sep))
    ):
        make_folder(target)


def items_of(
    kind: Kind, files: Sequence[str], pair: tuple[str, str] | None, choices: Choices
) -> tuple[list[Item], list[Outcome]]:
    """All files of a call, and what is wrong with its folders."""
    if pair is not None and (is_stdio(pair[0]) or is_stdio(pair[1])):
        raise UsageError("- is a pipe, expected files where there are options for many")
    if pair is not None and not os.path.isdir(pair[0]):
        return [Item(*pair, os.stat(pair[0]).st_size if os.path.isfile(pair[0]) else 0)], []
    if choices.output is not None and os.path.isfile(choices.output):
        raise OutputError(
            f"{choices.output}: is no folder, expected one for the outputs of several files"
        )
    return collect(
        files,
        suffixes=kind.in_folders,
        what=kind.what,
        recursive=choices.recursive,
        name=kind.name,
        output=choices.output,
    )
