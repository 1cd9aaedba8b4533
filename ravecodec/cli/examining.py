"""`ravecodec info` and `ravecodec verify`."""

from __future__ import annotations

import click

from ravecodec.batch.work import InspectWork, VerifyWork, check_kind
from ravecodec.cli import console, sentences
from ravecodec.cli.arguments import is_folder
from ravecodec.cli.many import Report, examine_many
from ravecodec.cli.options import (
    examine_options,
    files_argument,
    jobs_option,
    model_option,
    ray_option,
    recursive_option,
)
from ravecodec.cluster import check_address
from ravecodec.examine import inspect_file, verify_file


@click.command()
@files_argument
@click.option(
    "--frames", is_flag=True, help="List the chunks: position, time, frames, bytes, step, silence."
)
@recursive_option
@jobs_option
@examine_options
def info(
    files: tuple[str, ...],
    frames: bool,
    recursive: bool,
    jobs: int | None,
    quiet: bool,
    as_json: bool,
) -> int:
    """Show what streams hold and cost.

    Reads each FILE (or -) to its end and checks every checksum of its bytes on the way. Of several
    files each gets one line; the last line has the totals.

    \b
    Examples:
      ravecodec info song.rvc
      ravecodec info song.rvc --frames
      ravecodec info song.rvc --json | jq .stream.kbps
      ravecodec info -r archive
    """
    if len(files) > 1 or recursive or is_folder(files[0]):
        describe = sentences.inspected if frames else sentences.inspected_in_one_line
        report = Report(
            "info", describe, line=console.emit, plain_json=True, quiet=quiet, as_json=as_json
        )
        return examine_many(report, InspectWork(frames), files, recursive, jobs)
    check_kind(files[0], stream=True)
    inspection = inspect_file(files[0], frames=frames)
    if as_json:
        console.emit_json(inspection)
    elif not quiet:
        console.emit(sentences.inspected(inspection))
    return 0


@click.command()
@files_argument
@model_option("Model to check the symbols with; default: the one that made the stream.")
@recursive_option
@jobs_option
@ray_option
@examine_options
def verify(
    files: tuple[str, ...],
    model: str | None,
    recursive: bool,
    jobs: int | None,
    ray: str | None,
    quiet: bool,
    as_json: bool,
) -> int:
    """Check that streams are whole.

    Of each FILE (or -) all checksums are checked, and all symbols where the model is installed or
    in the stream. Says where the first bad chunk begins, as byte and as time. Exits with the code
    of what is wrong, or 1 if several files fail in different ways.

    \b
    Examples:
      ravecodec verify song.rvc
      ravecodec verify archive/*.rvc -q || echo damaged
      ravecodec verify -r archive --jobs 2
    """
    if ray is not None:
        check_address(ray)
    if len(files) > 1 or recursive or is_folder(files[0]) or ray is not None:
        line = console.emit_afterwards
        report = Report(
            "verify", sentences.verified, line=line, plain_json=True, quiet=quiet, as_json=as_json
        )
        return examine_many(report, VerifyWork(model), files, recursive, jobs, ray)
    result = verify_file(files[0], model=model)
    if not result.ok:
        console.say(sentences.failed(result))
    elif not quiet and not as_json:
        console.emit_afterwards(sentences.verified(result))
    if as_json:
        console.emit_json_afterwards(result, None)
    return result.exit_code
