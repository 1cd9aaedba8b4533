"""`ravecodec info` and `ravecodec verify`."""

from __future__ import annotations

import dataclasses

import click

from ravecodec import console
from ravecodec.cli.options import examine_options
from ravecodec.examine import inspect_file, verify_file


@click.command()
@click.argument("source", metavar="FILE")
@click.option("--frames", is_flag=True, help="List the chunks: position, time, frames, bytes, step, silence.")
@examine_options
def info(source: str, frames: bool, quiet: bool, as_json: bool) -> None:
    """Show what a stream holds and costs.

    Reads FILE (or -) to its end and checks every checksum of its bytes on the way.

    \b
    Examples:
      ravecodec info song.rvc
      ravecodec info song.rvc --frames
      ravecodec info song.rvc --json | jq .stream.kbps
    """
    found = inspect_file(source, frames=frames)
    if as_json:
        console.emit_json(found)
    elif not quiet:
        console.emit(console.inspected(found))


@click.command()
@click.argument("sources", metavar="FILE...", nargs=-1, required=True)
@click.option(
    "--model", metavar="MODEL", help="Model to check the symbols with; default: the one that made the stream."
)
@examine_options
def verify(sources: tuple[str, ...], model: str | None, quiet: bool, as_json: bool) -> int:
    """Check that streams are whole.

    Of each FILE (or -) all checksums are checked, and all symbols where the model is at hand. Says where the first bad
    chunk begins, as byte and as time. Exits with the code of what is wrong, or 1 if several files fail in different
    ways.

    \b
    Examples:
      ravecodec verify song.rvc
      ravecodec verify archive/*.rvc -q || echo damaged
    """
    results = []
    for source in sources:
        results.append(result := verify_file(source, model=model))
        if not result.ok:
            console.say(console.failed(result))
        elif not quiet and not as_json:
            console.emit_afterwards(console.verified(result))
    if as_json:
        console.emit_afterwards(console.as_json([dataclasses.asdict(result) for result in results]))
    codes = {result.exit_code for result in results if not result.ok}
    return codes.pop() if len(codes) == 1 else bool(codes)
