"""`ravecodec transfer`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from ravecodec.audio import AUDIO_SUFFIXES, WRITABLE
from ravecodec.batch import TransferWork
from ravecodec.bitstream.limits import MAX_SEED
from ravecodec.cli import console
from ravecodec.cli.coding import SUBTYPES
from ravecodec.cli.many import (
    Choices,
    Kind,
    items_of,
    many_options,
    single,
    threads_of,
    transcode_many,
)
from ravecodec.cli.options import transcode_options
from ravecodec.errors import UsageError
from ravecodec.files import check_source, is_stdio
from ravecodec.pitch import MOST_SEMITONES, check_pitch
from ravecodec.timbre import TransferSummary, transfer_file
from ravecodec.transcode import Point
from ravecodec.zoo import find_model


@click.command()
@click.argument("files", metavar="FILE...", nargs=-1, required=True)
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
@many_options
@transcode_options
def transfer(
    files: tuple[str, ...], subtype: str | None, quiet: bool, as_json: bool, **options: Any
) -> int:
    """Play audio in the sound of a model.

    FILE... is IN OUT, or several inputs with -o FOLDER. IN, any audio that encode reads, is
    analysed by the model and comes out as OUT in what it knows: timbre transfer, as in the RAVE
    paper. Nothing is quantised. Rate, channels and length stay. Where IN and OUT are folders, every
    audio file is done, to the same relative path, as with -r IN -o OUT.

    \b
    Examples:
      ravecodec transfer voice.wav strings.wav --model strings
      ravecodec transfer voice.wav strings.wav --model strings --fidelity 0.5 --pitch 12
      ravecodec transfer takes/ strings/ --model strings
      ravecodec transfer a.wav b.flac -o strings --model strings --jobs 2
    """
    choices = Choices.taken_from(options)
    options["subtype"] = SUBTYPES[subtype] if subtype else None
    first, *others = files
    if len(others) == 1 and choices.output is None and Path(first).is_dir():
        choices = replace(choices, output=others[0], recursive=True)
        files = (first,)
    check_source(files[0])
    _check_output(files, choices)
    kind = Kind("transfer", (".wav",), frozenset(), AUDIO_SUFFIXES, "audio files", _renamed)
    pair = single(kind, files, choices)
    if pair is None or not choices.plain:
        return _transfer_many(kind, files, pair, choices, quiet, as_json, options)
    source, target = pair
    if as_json and is_stdio(target):
        raise UsageError("--json and OUT - both want standard output; expected one of them")
    options["threads"] = console.threads_or_default(options["threads"])
    with console.Meter("transfer", quiet=quiet) as meter:
        done = transfer_file(source, target, progress=meter, **options)
    if as_json:
        console.emit_afterwards(console.as_json(done))
    _tell(done, quiet=quiet, as_json=as_json)
    return 0


def _check_output(files: Sequence[str], choices: Choices) -> None:
    """UsageError where there is no other place for the outputs than that of the inputs."""
    if choices.output is None and (len(files) != 2 or choices.recursive):
        raise UsageError(
            "the outputs need a place, expected `ravecodec transfer IN OUT` or -o FOLDER"
        )
    for folder in map(Path, files):
        if choices.output is not None and folder.is_dir():
            output = Path(choices.output)
            if output.resolve().is_relative_to(folder.resolve()):
                raise UsageError(
                    f"{output}: lies within the folder {folder} that is read, expected another "
                    "place"
                )


def _renamed(name: str) -> str:
    """The name of an output: the input's where its format can be written, else .wav."""
    path = Path(name)
    writable = path.suffix.lower() in WRITABLE.split(", ")
    return name if writable else str(path.with_suffix(".wav"))


def _transfer_many(
    kind: Kind,
    files: tuple[str, ...],
    pair: tuple[str, str] | None,
    choices: Choices,
    quiet: bool,
    as_json: bool,
    options: dict[str, Any],
) -> int:
    """Several inputs, or one with options that are for several."""
    check_pitch(options["pitch"])
    point = Point(options["fidelity"], options["dims"])
    items, problems = items_of(kind, files, pair, choices)
    entry = find_model(options.pop("model"))
    point.check(entry.name, entry.config.latent)
    device, threads = options.pop("device"), threads_of(choices, options.pop("threads"))
    del options["force"]
    model = entry.path if choices.ray is None else entry.digest.hex()
    return transcode_many(
        TransferWork(model, options, device, threads),
        items,
        problems,
        choices,
        {**options, "model": entry.digest.hex(), "device": device},
        kind=kind,
        describe=_described,
        quiet=quiet,
        as_json=as_json,
    )


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
