"""`ravecodec transfer`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from ravecodec.bitstream.limits import MAX_SEED
from ravecodec.cli import console
from ravecodec.cli.coding import SUBTYPES
from ravecodec.cli.options import transcode_options
from ravecodec.errors import UsageError
from ravecodec.files import check_source, is_stdio
from ravecodec.pitch import MOST_SEMITONES
from ravecodec.timbre import (
    Failure,
    FolderSummary,
    TransferSummary,
    transfer_file,
    transfer_folder,
)


@click.command()
@click.argument("source", metavar="IN")
@click.argument("target", metavar="OUT")
@click.option(
    "--model",
    metavar="MODEL",
    help="Model of the sound wanted: name, file or id; default: default.",
)
@click.option(
    "--fidelity",
    type=float,
    metavar="F",
    help="Keep as many latent dims as carry the share F, 0 to 1; less is more of the model's own "
    "sound.",
)
@click.option(
    "--dims", type=int, metavar="N", help="Keep N latent dims; default: as the model says."
)
@click.option(
    "--pitch",
    type=float,
    default=0.0,
    metavar="SEMITONES",
    help=f"Shift IN first, up to {MOST_SEMITONES:g} either way; default 0.",
)
@click.option(
    "--loudness/--no-loudness",
    default=True,
    help="Let the loudness of OUT follow that of IN, second by second (default), or leave it as "
    "it comes.",
)
@click.option(
    "--seed",
    type=click.IntRange(0, MAX_SEED),
    default=0,
    metavar="N",
    help="Seed of the noise; default 0.",
)
@click.option(
    "--bits",
    "--format",
    "subtype",
    type=click.Choice(list(SUBTYPES)),
    help="Samples of OUT: 16 (default) or 24 bits, or 32-bit float.",
)
@click.option(
    "--soft-clip", is_flag=True, help="Bend samples beyond full scale instead of cutting them off."
)
@transcode_options
def transfer(
    source: str, target: str, subtype: str | None, quiet: bool, as_json: bool, **options: Any
) -> int:
    """Play audio in the sound of a model.

    IN, any audio that encode reads, is analysed by the model and comes out as OUT in what it knows:
    timbre
    transfer, as in the RAVE paper. Nothing is quantised. Rate, channels and length stay. Where IN
    and OUT
    are folders, every audio file is done, to the same relative path.

    \b
    Examples:
      ravecodec transfer voice.wav strings.wav --model strings
      ravecodec transfer voice.wav strings.wav --model strings --fidelity 0.5 --pitch 12
      ravecodec transfer takes/ strings/ --model strings
    """
    check_source(source)
    if as_json and is_stdio(target):
        raise UsageError("--json and OUT - both want standard output; expected one of them")
    options["threads"] = console.threads_or_default(options["threads"])
    options["subtype"] = SUBTYPES[subtype] if subtype else None
    if not is_stdio(source) and Path(source).is_dir():
        return _folder(source, target, quiet, as_json, options)
    with console.Meter("transfer", quiet=quiet) as meter:
        done = transfer_file(source, target, progress=meter, **options)
    if as_json:
        console.emit_afterwards(console.as_json(done))
    _tell(done, quiet=quiet, as_json=as_json)
    return 0


def _folder(source: str, target: str, quiet: bool, as_json: bool, options: dict[str, Any]) -> int:
    """The exit code."""

    def tell(done: TransferSummary | Failure) -> None:
        if isinstance(done, TransferSummary):
            _tell(done, quiet=quiet, as_json=as_json)

    found = transfer_folder(source, target, done=tell, **options)
    if as_json:
        console.emit_afterwards(console.as_json(found))
    for failure in found.failed:
        console.say(f"error: {failure.error}")
    if not quiet and not as_json:
        console.say(_total(found))
    return found.exit_code


def _tell(done: TransferSummary, *, quiet: bool, as_json: bool) -> None:
    if quiet:
        return
    if not as_json:
        console.say(_described(done))
    for remark in done.remarks:
        console.say(f"warning: {remark}")


def _described(done: TransferSummary) -> str:
    """One line on a file."""
    sound = console.sound(done.sample_rate, done.channels)
    what = (
        f"{done.target}: {done.samples / done.sample_rate:.3f} s of {sound}, {done.container} "
        f"{done.subtype}"
    )
    shifted = f", pitch {done.pitch:+g} semitones" if done.pitch else ""
    how = f"model {done.model}, {done.dims} dims{shifted}"
    known = f"{100 * done.outside:.0f} % of frames outside of what it was trained on"
    limited = (
        f"{done.clipped} samples beyond full scale were limited (--soft-clip bends, --bits float "
        "keeps them)"
    )
    parts = [what, how, known, f"{done.seconds:.1f} s, {done.speed:.1f}x real time"]
    return "; ".join(parts + [limited] * (done.clipped > 0))


def _total(found: FolderSummary) -> str:
    """The last line on a folder."""
    failed = f", {len(found.failed)} failed" if found.failed else ""
    return f"{found.target}: {len(found.done)} files{failed}"
