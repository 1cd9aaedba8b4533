"""`ravecodec encode`."""

from __future__ import annotations

import dataclasses
from functools import partial
from typing import Any

import click

from ravecodec.audio import Mix
from ravecodec.batch.work import EncodeWork, check_kind, remove_source
from ravecodec.cli import console, sentences
from ravecodec.cli.arguments import Choices, Kind, make_output_folder, single
from ravecodec.cli.extensions import (
    AUDIO,
    HEADERLESS,
    IN_FOLDERS,
    OTHER_AUDIO,
    STREAM,
    extension,
    named_after,
)
from ravecodec.cli.many import transcode_many, transcode_one
from ravecodec.cli.options import (
    Numbers,
    dims_option,
    effort_option,
    encode_options,
    files_argument,
    ignore_length_option,
    keep_time_option,
    many_options,
    model_option,
    seed_option,
)
from ravecodec.encoding import encode_file
from ravecodec.errors import UsageError
from ravecodec.files import is_stdio
from ravecodec.ladder import quality_of
from ravecodec.models.config import MOST_EFFORT
from ravecodec.point import STEP_LIMIT, Point
from ravecodec.tagging import as_meta, parse_tags


@click.command()
@files_argument
@model_option("Model to use: name, file or id; default: the one called default.")
@click.option(
    "-q",
    "--quality",
    metavar="Q",
    callback=lambda ctx, parameter, value: _quality(value),
    help="0 to 10, small (2), standard (5) or best (10): sets dims and step by the model's curve "
    "of rate and quality.",
)
@click.option(
    "--fidelity",
    type=float,
    metavar="F",
    help="Keep the fewest latent dims that carry the share F, 0 to 1, of their singular values.",
)
@dims_option("Keep N latent dims; default: as the model says.")
@click.option(
    "--step",
    "step_index",
    type=click.IntRange(-STEP_LIMIT, STEP_LIMIT),
    metavar="G",
    help="Quantiser step 2^(G/8) times the model's base; larger is coarser and smaller. Default: "
    "as the model says.",
)
@click.option(
    "--bitrate",
    type=float,
    metavar="KBPS",
    help="Choose steps so that the whole file has at most KBPS kbit/s, and within 3 % of it.",
)
@click.option(
    "--cbr",
    is_flag=True,
    help="Keep --bitrate in every ten seconds, for streaming, and not only on average.",
)
@effort_option(
    f"How much work to spend, 0 to {MOST_EFFORT}: better sound for the same bits, but slower. "
    "Default: the model's."
)
@seed_option("Seed of the decoder's noise; default 0.")
@click.option(
    "--raw-rate",
    type=int,
    metavar="HZ",
    help="IN is headerless 16-bit little-endian PCM of this rate.",
)
@click.option(
    "--raw-channels", type=int, metavar="N", help="Channels of headerless PCM; default 1."
)
@click.option(
    "--full-scale",
    type=float,
    default=1.0,
    metavar="X",
    help="Sample value of IN that stands for full scale: 32768 for 16-bit integers kept as "
    "floats. Default 1.",
)
@ignore_length_option
@click.option(
    "--downmix",
    is_flag=True,
    help="Mix more than two channels to stereo, as in ITU-R BS.775; mono and stereo stay.",
)
@click.option(
    "--channels",
    type=Numbers(int),
    metavar="N[,N]",
    help="Take these one or two channels of IN, counted from 1.",
)
@click.option(
    "--tag",
    "tags",
    multiple=True,
    metavar="KEY=TEXT",
    help="Store a tag; it replaces the input's tag of that name. May be given several times.",
)
@click.option(
    "--no-tags", is_flag=True, help="Do not keep the input's tags; those of --tag are stored."
)
@click.option("--pictures", is_flag=True, help="Carry the pictures in the input's tags as well.")
@keep_time_option
@click.option(
    "--embed-model",
    is_flag=True,
    help="Put the model's decoder into OUT, so that it plays where the model is not installed; it "
    "adds about half of the model's size, which --bitrate does not count.",
)
@click.option(
    "--verify",
    is_flag=True,
    help="Read the written bytes back and compare all symbols before OUT is put in place.",
)
@many_options
@click.option(
    "--rm/--keep",
    " /-k",
    "remove",
    default=False,
    help="Remove inputs once their streams are in place; implies --verify. -k keeps them, which "
    "is the default.",
)
@encode_options
def encode(
    files: tuple[str, ...],
    tags: tuple[str, ...],
    remove: bool,
    quiet: bool,
    as_json: bool,
    **options: Any,
) -> int:
    """Compress audio files.

    FILE... is one input IN, IN and OUT, or several inputs. IN becomes the stream OUT; by default
    OUT is IN with the extension .rvc. Reads WAV, FLAC, Ogg (Vorbis, Opus), MP3, AIFF, CAF, W64,
    RF64 and AU of 1 to 768 kHz, mono or stereo; more channels with --downmix or --channels. Tags
    are kept. IN may be -, standard input; then OUT defaults to standard output. Each of several
    inputs becomes a stream beside it or in the folder -o, where folders keep their structure. An
    input that fails does not stop the others.

    \b
    Examples:
      ravecodec encode song.flac
      ravecodec encode song.flac small.rvc --step 8 --verify
      ravecodec encode song.flac -q 7
      ravecodec encode song.flac -q small
      ravecodec encode song.flac --bitrate 2
      ravecodec encode radio.wav --bitrate 4 --cbr
      ravecodec encode song.flac --effort 4
      ravecodec encode quartet.wav --model strings --fidelity 0.95
      ravecodec encode album.flac --embed-model
      ravecodec encode film.flac --downmix --tag TITLE="Film" --keep-time
      ravecodec encode *.wav -o streams/
      ravecodec encode -r music -o archive --jobs 2
      arecord -f cd | ravecodec encode - > take.rvc
      sox in.wav -t raw -b 16 -e signed - | ravecodec encode - out.rvc --raw-rate 48000
      --raw-channels 2
    """
    choices = Choices.taken_from(options)
    options["tags"] = not options.pop("no_tags")
    options["meta"] = _meta(tags)
    Mix(options["downmix"], options["channels"] or ())  # refuses what makes no sense
    in_folders = HEADERLESS if options["raw_rate"] else IN_FOLDERS
    kind = Kind(
        command="encode",
        made=(STREAM,),
        taken=AUDIO | OTHER_AUDIO,
        in_folders=in_folders,
        what="audio",
        name=lambda name: named_after(name, STREAM),
        do=encode_file,
        describe=sentences.encoded,
    )
    pair = single(kind, files, choices)
    if remove:
        _check_removal(pair, options["ignore_length"], choices.ray)
        options["verify"] = True
    if pair is None or not choices.plain:
        point = Point(**{field.name: options[field.name] for field in dataclasses.fields(Point)})
        work = partial(EncodeWork, remove=remove)
        return transcode_many(
            kind, files, pair, choices, options, work, point=point, quiet=quiet, as_json=as_json
        )
    source, target = pair
    check_kind(source, stream=False)
    if extension(target) in AUDIO:
        raise UsageError(f"{target}: has the extension of audio, expected a .rvc file as OUT")
    make_output_folder(target, choices)
    done = transcode_one(kind, source, target, options, quiet=quiet, as_json=as_json)
    if remove:
        remove_source(source)
    console.tell(done, sentences.encoded(done), quiet=quiet, as_json=as_json)
    return 0


def _quality(value: str | None) -> int | None:
    """A quality as given; UsageError, which tells those who meant --quiet."""
    try:
        return None if value is None else quality_of(value)
    except UsageError as error:
        raise UsageError(f"{error} (of encode, --quiet is -Q)") from error


def _check_removal(pair: tuple[str, str] | None, ignore_length: bool, cluster: str | None) -> None:
    """UsageError where an input cannot be removed, or should not because a part of it may be
    lost.
    """
    if pair is not None and (is_stdio(pair[0]) or is_stdio(pair[1])):
        raise UsageError("--rm wants a file as input and a file as output, expected no pipe")
    if ignore_length:
        raise UsageError(
            "--rm and --ignore-length are given; expected one of them, because what is not read is "
            "lost"
        )
    if cluster is not None:  # a file that is done again would be gone
        raise UsageError("--rm and --ray are given; expected one of them")


def _meta(words: tuple[str, ...]) -> dict[str, Any] | None:
    """Metadata as SPEC section 4.3 lays it out."""
    tags = as_meta(parse_tags(words, "--tag"))
    return {"tags": tags} if tags else None
