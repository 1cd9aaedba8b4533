"""`ravecodec cut` and `ravecodec concat`."""

from __future__ import annotations

from typing import Any

import click

from ravecodec.cli import console, sentences
from ravecodec.cli.options import in_and_out, part_options, stream_options
from ravecodec.errors import UsageError
from ravecodec.splice import concat_files, cut_file


@click.command()
@in_and_out
@part_options
@stream_options
def cut(source: str, target: str, quiet: bool, as_json: bool, **options: Any) -> None:
    """Take a part out of a stream, as a stream.

    Nothing is decoded to audio: symbols stay what they are. OUT begins at the frame in which
    --start lies, at most one frame (0.17 s with the default model) before it, and ends exactly at
    --end. Samples (48000s) are those of the original.

    \b
    Examples:
      ravecodec cut song.rvc bridge.rvc --start 1:02.5 --end 1:10
      ravecodec cut song.rvc - --duration 30 | ravecodec decode - | aplay
    """
    console.check_json_output(target, as_json)
    done = cut_file(source, target, **options)
    console.tell(done, sentences.spliced(done), quiet=quiet, as_json=as_json)


@click.command()
@click.argument("files", metavar="IN... OUT", nargs=-1, required=True)
@stream_options
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
    console.check_json_output(target, as_json)
    done = concat_files(sources, target, force=force)
    console.tell(done, sentences.spliced(done), quiet=quiet, as_json=as_json)
