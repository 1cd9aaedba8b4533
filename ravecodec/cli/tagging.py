"""`ravecodec tag`."""

from __future__ import annotations

from typing import Any

import click

from ravecodec.batch.work import TagWork
from ravecodec.cli import console, sentences
from ravecodec.cli.arguments import is_folder
from ravecodec.cli.many import Report, examine_many
from ravecodec.cli.options import (
    files_argument,
    jobs_option,
    keep_time_option,
    recursive_option,
    stream_options,
)
from ravecodec.errors import UsageError
from ravecodec.files import STDIO, is_stdio
from ravecodec.tagging import parse_tags, tag_file


@click.command()
@files_argument
@click.option(
    "--set",
    "assigned",
    multiple=True,
    metavar="KEY=TEXT",
    help="Give a tag this text in place of what it has; twice with one KEY for two texts.",
)
@click.option(
    "--remove", multiple=True, metavar="KEY", help="Remove a tag; may be given several times."
)
@click.option("-o", "--output", metavar="OUT", help="Write to OUT; default: replace FILE.")
@keep_time_option
@recursive_option
@jobs_option
@stream_options
def tag(
    files: tuple[str, ...],
    assigned: tuple[str, ...],
    remove: tuple[str, ...],
    output: str | None,
    keep_time: bool,
    recursive: bool,
    jobs: int | None,
    force: bool,
    quiet: bool,
    as_json: bool,
) -> int:
    """Edit the tags of streams; their audio is not touched.

    Each FILE is replaced when the new one is complete. With -o a single FILE, or - for standard
    input, stays as it is and OUT is written. `ravecodec info` shows tags.

    \b
    Examples:
      ravecodec tag song.rvc --set TITLE="Blue in Green" --remove COMMENT
      ravecodec tag song.rvc --set ARTIST=Evans --set ARTIST=Davis -o new.rvc
      ravecodec tag -r album --set ALBUM="Kind of Blue"
    """
    if not assigned and not remove:
        raise UsageError("nothing to change, expected --set or --remove (`ravecodec info` shows)")
    changes: dict[str, Any] = {
        "assign": parse_tags(assigned, "--set"),
        "remove": remove,
        "keep_time": keep_time,
    }
    if len(files) > 1 or recursive or is_folder(files[0]):
        if output is not None:
            raise UsageError("-o takes one file, expected one input or no -o")
        if any(map(is_stdio, files)):
            raise UsageError("- is one of several files, expected names")
        report = Report("tag", sentences.retagged, line=console.say, quiet=quiet, as_json=as_json)
        return examine_many(report, TagWork(changes), files, recursive, jobs)
    target = STDIO if output is None and is_stdio(files[0]) else output
    console.check_json_output(target or files[0], as_json)
    done = tag_file(files[0], target, force=force, **changes)
    console.tell(done, sentences.retagged(done), quiet=quiet, as_json=as_json)
    return 0
