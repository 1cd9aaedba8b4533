"""`ravecodec cut` and `ravecodec concat`."""

from __future__ import annotations

from typing import Any

import click

from ravecodec.cli import console
from ravecodec.cli.options import (
    force_option,
    json_option,
    options,
    part_options,
    quiet_option,
    verbose_option,
)
from ravecodec.errors import UsageError
from ravecodec.files import is_stdio
from ravecodec.splice import SpliceSummary, concat_files, cut_file

splice_options = options(force_option, quiet_option, verbose_option, json_option)


@click.command()
@click.argument("source", metavar="IN")
@click.argument("target", metavar="OUT")
@part_options
@splice_options
def cut(source: str, target: str, quiet: bool, as_json: bool, **options: Any) -> None:
    """Take a part out of a stream, as a stream.

    Nothing is decoded to audio: symbols stay what they are. OUT begins at the frame in which
    --start lies, at most 43 ms before it with the default model, and ends exactly at --end. Samples
    (48000s) are those of the original.

    \b
    Examples:
      ravecodec cut song.rvc bridge.rvc --start 1:02.5 --end 1:10
      ravecodec cut song.rvc - --duration 30 | ravecodec decode - | aplay
    """
    _check(target, as_json)
    _tell(cut_file(source, target, **options), quiet=quiet, as_json=as_json)


@click.command()
@click.argument("files", metavar="IN... OUT", nargs=-1, required=True)
@splice_options
def concat(files: tuple[str, ...], force: bool, quiet: bool, as_json: bool) -> None:
    """Join streams of one model, rate and number of channels.

    Nothing is decoded to audio: symbols stay what they are. Each IN begins where the last frame of
    the one before ends.

    \b
    Examples:
      ravecodec concat side-a.rvc side-b.rvc album.rvc
    """
    *sources, target = files
    if not sources:
        raise UsageError(f"{target}: is the only file, expected IN... and OUT")
    _check(target, as_json)
    _tell(concat_files(sources, target, force=force), quiet=quiet, as_json=as_json)


def _check(target: str, as_json: bool) -> None:
    if as_json and is_stdio(target):
        raise UsageError("--json and OUT - both want standard output; expected one of them")


def _tell(done: SpliceSummary, *, quiet: bool, as_json: bool) -> None:
    if as_json:
        console.emit_afterwards(console.as_json(done))
    elif not quiet:
        console.say(console.spliced(done))
