"""`ravecodec decode`."""

from __future__ import annotations

from typing import Any

import click

from ravecodec.batch.work import DecodeWork, check_kind, concealed
from ravecodec.cli import console, sentences
from ravecodec.cli.arguments import Choices, Kind, make_output_folder, single
from ravecodec.cli.extensions import STREAM, named_after
from ravecodec.cli.many import transcode_many, transcode_one
from ravecodec.cli.options import (
    bits_option,
    files_argument,
    keep_time_option,
    many_options,
    model_option,
    part_options,
    soft_clip_option,
    transcode_options,
)
from ravecodec.decoding import decode_file
from ravecodec.errors import CorruptError
from ravecodec.precision import AUTO, PRECISIONS

CONTAINERS = ("wav", "flac", "ogg", "aiff", "caf", "w64", "rf64")


@click.command()
@files_argument
@model_option("Model to use: name, file or id; default: the one that made the stream.")
@click.option("--rate", type=int, metavar="HZ", help="Sample rate of OUT; default: the original's.")
@bits_option
@soft_clip_option
@click.option(
    "--precision",
    type=click.Choice([*PRECISIONS, AUTO]),
    default=PRECISIONS[0],
    help="What the network computes in: float32 (default), bfloat16 (faster with AMX), or auto, "
    "the faster of both.",
)
@click.option(
    "--salvage",
    is_flag=True,
    help="Go on after damage: hold the sound over gaps, exit with 5 at the end.",
)
@click.option(
    "--to",
    type=click.Choice(CONTAINERS),
    default=CONTAINERS[0],
    metavar="FORMAT",
    help="Format of outputs that are named after their inputs: "
    + ", ".join(CONTAINERS)
    + "; default: wav.",
)
@part_options
@click.option("--no-tags", is_flag=True, help="Do not write the stream's tags into OUT.")
@keep_time_option
@many_options
@click.option(
    "-k",
    "--keep",
    is_flag=True,
    expose_value=False,
    help="Keep inputs, which is the default.",
)
@transcode_options
def decode(files: tuple[str, ...], to: str, quiet: bool, as_json: bool, **options: Any) -> int:
    """Turn streams into audio files again.

    FILE... is one input IN, IN and OUT, or several inputs. IN becomes the audio file OUT; by
    default OUT is IN with the extension .wav. The extension of OUT says what it becomes: .wav,
    .flac, .ogg, .aiff, .caf, .w64 or .rf64; - is WAV on standard output. Sample rate, channels and
    number of samples are those of the original. Several inputs become a file each, beside them or
    in the folder -o, where folders keep their structure; one that fails does not stop the others.

    \b
    Examples:
      ravecodec decode song.rvc
      ravecodec decode song.rvc song.flac --bits 24
      ravecodec decode song.rvc - | aplay
      ravecodec decode song.rvc --precision bfloat16
      ravecodec decode song.rvc bridge.wav --start 1:02.5 --end 1:10
      ravecodec decode damaged.rvc rest.wav --salvage
      ravecodec decode -r archive -o music --to flac --jobs 2
    """
    choices = Choices.taken_from(options)
    options["tags"] = not options.pop("no_tags")
    kind = Kind(
        command="decode",
        made=tuple(f".{name}" for name in CONTAINERS),
        taken=frozenset({STREAM}),
        in_folders=frozenset({STREAM}),
        what="streams",
        name=lambda name: named_after(name, f".{to}"),
        do=decode_file,
        describe=sentences.decoded,
    )
    pair = single(kind, files, choices)
    if pair is None or not choices.plain:
        return transcode_many(
            kind, files, pair, choices, options, DecodeWork, quiet=quiet, as_json=as_json
        )
    source, target = pair
    check_kind(source, stream=True)
    make_output_folder(target, choices)
    done = transcode_one(kind, source, target, options, quiet=quiet, as_json=as_json)
    console.tell(done, sentences.decoded(done), quiet=quiet, as_json=as_json)
    for damage in done.damage:
        console.say(sentences.damaged(damage, done.stream))
    if done.damage:
        raise CorruptError(concealed(done.source, len(done.damage)))
    return 0
