"""`ravecodec transfer`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from ravecodec.audio import AUDIO_SUFFIXES, WRITABLE
from ravecodec.batch.work import TransferWork
from ravecodec.cli import console, sentences
from ravecodec.cli.arguments import Choices, Kind, single
from ravecodec.cli.extensions import extension
from ravecodec.cli.many import transcode_many, transcode_one
from ravecodec.cli.options import (
    bits_option,
    files_argument,
    many_options,
    seed_option,
    soft_clip_option,
    sound_options,
    transcode_options,
)
from ravecodec.errors import UsageError
from ravecodec.files import check_source
from ravecodec.pitch import MOST_SEMITONES, check_pitch
from ravecodec.point import Point
from ravecodec.timbre import TransferSummary, transfer_file


@click.command()
@files_argument
@sound_options
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
@seed_option("Seed of the noise; default 0.")
@bits_option
@soft_clip_option
@many_options
@transcode_options
def transfer(files: tuple[str, ...], quiet: bool, as_json: bool, **options: Any) -> int:
    """Play audio in the sound of a model.

    FILE... is IN OUT, or several inputs with -o FOLDER. IN is any audio that encode
    reads. The model analyses it and plays it as OUT in the sounds that it knows: timbre transfer,
    as in the RAVE paper. Nothing is quantised. Rate, channels and length stay. Where IN and OUT are
    folders, every audio file goes to the same relative path, as with -r IN -o OUT.

    \b
    Examples:
      ravecodec transfer voice.wav strings.wav --model strings
      ravecodec transfer voice.wav strings.wav --model strings --fidelity 0.5 --pitch 12
      ravecodec transfer takes/ strings/ --model strings
      ravecodec transfer a.wav b.flac -o strings --model strings --jobs 2
    """
    choices = Choices.taken_from(options)
    first, *others = files
    if len(others) == 1 and choices.output is None and Path(first).is_dir():
        choices = replace(choices, output=others[0], recursive=True)
        files = (first,)
    check_source(files[0])
    _check_output(files, choices)
    kind = Kind(
        command="transfer",
        made=(".wav",),
        taken=frozenset(),
        in_folders=AUDIO_SUFFIXES,
        what="audio files",
        name=_renamed,
        do=transfer_file,
        describe=_described,
    )
    pair = single(kind, files, choices)
    if pair is None or not choices.plain:
        check_pitch(options["pitch"])
        point = Point(options["fidelity"], options["dims"])
        return transcode_many(
            kind,
            files,
            pair,
            choices,
            options,
            TransferWork,
            point=point,
            quiet=quiet,
            as_json=as_json,
        )
    done = transcode_one(kind, *pair, options, quiet=quiet, as_json=as_json)
    console.tell(done, _described(done), quiet=quiet, as_json=as_json)
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
    return name if extension(name) in WRITABLE.split(", ") else str(Path(name).with_suffix(".wav"))


def _described(done: TransferSummary) -> str:
    """One line on a file."""
    sound = sentences.sound(done.sample_rate, done.channels)
    what = (
        f"{done.target}: {done.samples / done.sample_rate:.3f} s of {sound}, {done.container} "
        f"{done.subtype}"
    )
    shifted = f", pitch {done.pitch:+g} semitones" if done.pitch else ""
    how = f"model {done.model}, {sentences.counted(done.dims, 'dim')}{shifted}"
    known = f"{100 * done.outside:.0f} % of frames outside of what it was trained on"
    speed = f"{done.seconds:.1f} s, {done.speed:.1f}x real time"
    return "; ".join([what, how, known, speed, *sentences.limited(done.clipped)])
