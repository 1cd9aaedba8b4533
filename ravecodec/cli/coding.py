"""`ravecodec encode` and `ravecodec decode`."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path
from typing import Any

import click

from ravecodec.audio import Mix
from ravecodec.batch import (
    DecodeWork,
    EncodeWork,
    check_kind,
    concealed,
    make_folder,
    remove_source,
)
from ravecodec.bitstream.limits import MAX_SEED
from ravecodec.cli import console
from ravecodec.cli.many import (
    Choices,
    Kind,
    items_of,
    many_options,
    single,
    threads_of,
    transcode_many,
)
from ravecodec.cli.options import (
    Numbers,
    encode_options,
    ignore_length_option,
    keep_time_option,
    part_options,
    transcode_options,
)
from ravecodec.effort import LEVELS
from ravecodec.errors import CorruptError, UsageError
from ravecodec.files import is_stdio
from ravecodec.ladder import quality_of
from ravecodec.point import STEP_LIMIT, Point
from ravecodec.precision import AUTO, PRECISIONS
from ravecodec.tagging import as_meta, parse_tags
from ravecodec.transcode import decode_file, encode_file
from ravecodec.zoo import find_model

STREAM = ".rvc"
AUDIO = frozenset(
    f".{name}"
    for name in (
        "wav",
        "flac",
        "ogg",
        "opus",
        "mp3",
        "aif",
        "aiff",
        "caf",
        "w64",
        "rf64",
        "au",
        "m4a",
    )
)
# Taken off a name as AUDIO is, but not refused as OUT.
OTHER_AUDIO = frozenset(
    f".{name}"
    for name in (
        "3gp",
        "aac",
        "ac3",
        "aifc",
        "ape",
        "avi",
        "dts",
        "eac3",
        "m4b",
        "mka",
        "mkv",
        "mov",
        "mp2",
        "mp4",
        "oga",
        "pcm",
        "raw",
        "snd",
        "spx",
        "tta",
        "webm",
        "wma",
        "wv",
    )
)
HEADERLESS = frozenset((".pcm", ".raw"))
VIDEO = frozenset((".3gp", ".avi", ".mkv", ".mov", ".mp4", ".webm"))  # mostly
IN_FOLDERS = (AUDIO | OTHER_AUDIO) - HEADERLESS - VIDEO
CONTAINERS = ("wav", "flac", "ogg", "aiff", "caf", "w64", "rf64")
SUBTYPES = {"16": "PCM_16", "24": "PCM_24", "float": "FLOAT"}


@click.command()
@click.argument("files", metavar="FILE...", nargs=-1, required=True)
@click.option(
    "--model",
    metavar="MODEL",
    help="Model to use: name, file or id; default: the one called default.",
)
@click.option(
    "-q",
    "--quality",
    metavar="Q",
    callback=lambda ctx, parameter, value: _quality(value),
    help="0 to 10, small (2), standard (5) or best (10): dims and step by the model's curve of "
    "rate and quality.",
)
@click.option(
    "--fidelity",
    type=float,
    metavar="F",
    help="Keep as many latent dims as carry the share F, 0 to 1.",
)
@click.option(
    "--dims", type=int, metavar="N", help="Keep N latent dims; default: as the model says."
)
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
    help="Find the steps whose file is at most KBPS kbit/s, all included, and within 3 % of it.",
)
@click.option(
    "--cbr",
    is_flag=True,
    help="Keep --bitrate in every ten seconds, for streaming, and not only on average.",
)
@click.option(
    "--effort",
    type=click.IntRange(0, len(LEVELS) - 1),
    metavar="N",
    help=f"How much to try, 0 to {len(LEVELS) - 1}: better sound for the same bits, but slower. "
    "Default: the model's.",
)
@click.option(
    "--seed",
    type=click.IntRange(0, MAX_SEED),
    default=0,
    metavar="N",
    help="Seed of the decoder's noise; default 0.",
)
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
    help="Make stereo of more than two channels, as in ITU-R BS.775; mono and stereo stay.",
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
    help="Store a tag, in place of the input's of that name; may be given several times.",
)
@click.option(
    "--no-tags", is_flag=True, help="Leave the input's tags behind; those of --tag are stored."
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

    FILE... is IN, IN OUT, or several inputs. IN becomes the stream OUT; by default OUT is IN with
    the extension .rvc. Reads WAV, FLAC, Ogg (Vorbis, Opus), MP3, AIFF, CAF, W64, RF64 and AU of 1
    to 768 kHz, mono or stereo; more channels with --downmix or --channels. Tags are carried. -
    reads standard input; then OUT defaults to standard output. Several inputs become a stream each,
    beside them or in the folder -o, where folders keep their structure; one that fails does not
    stop the others.

    \b
    Examples:
      ravecodec encode song.flac
      ravecodec encode song.flac small.rvc --step 8 --verify
      ravecodec encode song.flac -q 7
      ravecodec encode song.flac -q small
      ravecodec encode song.flac --bitrate 2
      ravecodec encode radio.wav --bitrate 4 --cbr
      ravecodec encode song.flac --effort 4
      ravecodec encode voice.wav --model speech --fidelity 0.95
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
    Mix(options["downmix"], options["channels"] or ())  # refuses what makes no sense
    found = HEADERLESS if options["raw_rate"] else IN_FOLDERS
    kind = Kind(
        "encode", (STREAM,), AUDIO | OTHER_AUDIO, found, "audio", lambda name: _beside(name, STREAM)
    )
    pair = single(kind, files, choices)
    if remove:
        _check_removal(pair, options["ignore_length"])
        options["verify"] = True
    if pair is None or not choices.plain:
        return _encode_many(kind, files, pair, choices, tags, remove, quiet, as_json, options)
    source, target = pair
    check_kind(source, stream=False)
    if Path(target).suffix.lower() in AUDIO:
        raise UsageError(f"{target}: has the extension of audio, expected a .rvc file as OUT")
    _check_streams(target, as_json)
    _make_folder(target, choices)
    options["threads"] = console.threads_or_default(options["threads"])
    with console.Meter("encode", quiet=quiet) as meter:
        done = encode_file(source, target, meta=_meta(tags), progress=meter, **options)
    if remove:
        remove_source(source)
    if as_json:
        console.emit_afterwards(console.as_json(done))
    elif not quiet:
        console.say(console.encoded(done))
    if not quiet:
        for remark in done.remarks:
            console.say(f"warning: {remark}")
    return 0


def _encode_many(
    kind: Kind,
    files: tuple[str, ...],
    pair: tuple[str, str] | None,
    choices: Choices,
    tags: tuple[str, ...],
    remove: bool,
    quiet: bool,
    as_json: bool,
    options: dict[str, Any],
) -> int:
    """Several inputs, or one with options that are for several."""
    point = Point(**{field.name: options[field.name] for field in dataclasses.fields(Point)})
    items, problems = items_of(kind, files, pair, choices)
    entry = find_model(options.pop("model"))
    point.check(entry.name, entry.config.latent)
    device, threads = options.pop("device"), threads_of(choices, options.pop("threads"))
    del options["force"]
    options["meta"] = _meta(tags)
    if remove and choices.ray is not None:  # a file that is done again would be gone
        raise UsageError("--rm and --ray are given; expected one of them")
    model = entry.path if choices.ray is None else entry.digest.hex()
    work = EncodeWork(model, options, device, threads, remove)
    call = {**options, "model": entry.digest.hex(), "device": device}
    return transcode_many(
        work,
        items,
        problems,
        choices,
        call,
        kind=kind,
        describe=console.encoded,
        quiet=quiet,
        as_json=as_json,
    )


@click.command()
@click.argument("files", metavar="FILE...", nargs=-1, required=True)
@click.option(
    "--model",
    metavar="MODEL",
    help="Model to use: name, file or id; default: the one that made the stream.",
)
@click.option("--rate", type=int, metavar="HZ", help="Sample rate of OUT; default: the original's.")
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
    help="What outputs become that are named after their inputs: "
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
    help="Keep inputs, which is what happens anyway.",
)
@transcode_options
def decode(
    files: tuple[str, ...], subtype: str | None, to: str, quiet: bool, as_json: bool, **options: Any
) -> int:
    """Turn streams into audio files again.

    FILE... is IN, IN OUT, or several inputs. IN becomes the audio file OUT; by default OUT is IN
    with the extension .wav. The extension of OUT says what it becomes: .wav, .flac, .ogg, .aiff,
    .caf, .w64 or .rf64; - is WAV on standard output. Sample rate, channels and number of samples
    are those of the original. Several inputs become a file each, beside them or in the folder -o,
    where folders keep their structure; one that fails does not stop the others.

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
    made = tuple(f".{name}" for name in CONTAINERS)
    kind = Kind(
        "decode",
        made,
        frozenset({STREAM}),
        frozenset({STREAM}),
        "streams",
        lambda name: _beside(name, f".{to}"),
    )
    options["subtype"] = SUBTYPES[subtype] if subtype else None
    pair = single(kind, files, choices)
    if pair is None or not choices.plain:
        return _decode_many(kind, files, pair, choices, quiet, as_json, options)
    source, target = pair
    check_kind(source, stream=True)
    _check_streams(target, as_json)
    _make_folder(target, choices)
    options["threads"] = console.threads_or_default(options["threads"])
    with console.Meter("decode", quiet=quiet) as meter:
        done = decode_file(source, target, progress=meter, **options)
    if as_json:
        console.emit_afterwards(console.as_json(done))
    elif not quiet:
        console.say(console.decoded(done))
    for remark in () if quiet else done.remarks:
        console.say(f"warning: {remark}")
    for damage in done.damage:
        console.say(console.damaged(damage, done.stream))
    if done.damage:
        raise CorruptError(concealed(done.source, len(done.damage)))
    return 0


def _decode_many(
    kind: Kind,
    files: tuple[str, ...],
    pair: tuple[str, str] | None,
    choices: Choices,
    quiet: bool,
    as_json: bool,
    options: dict[str, Any],
) -> int:
    """Several inputs, or one with options that are for several."""
    items, problems = items_of(kind, files, pair, choices)
    model = options.pop("model")
    if model is not None:
        find_model(model)
    device, threads = options.pop("device"), threads_of(choices, options.pop("threads"))
    del options["force"]
    work = DecodeWork(model, options, device, threads)
    call = {**options, "model": model, "device": device}
    return transcode_many(
        work,
        items,
        problems,
        choices,
        call,
        kind=kind,
        describe=console.decoded,
        quiet=quiet,
        as_json=as_json,
    )


def _quality(value: str | None) -> int | None:
    """A quality as given; UsageError, which tells those who meant --quiet."""
    try:
        return None if value is None else quality_of(value)
    except UsageError as error:
        raise UsageError(f"{error} (of encode, --quiet is -Q)") from error


def _check_removal(pair: tuple[str, str] | None, ignore_length: bool) -> None:
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


def _make_folder(target: str, choices: Choices) -> None:
    """The folder of -o, where one is named that is not there yet."""
    if (
        choices.output is not None
        and not is_stdio(target)
        and choices.output.endswith(("/", os.sep))
    ):
        make_folder(target)


def _beside(source: str, suffix: str) -> str:
    """The default output: the input with another extension.

    Only an extension of a known kind is taken off: "Vol.1 No.2" becomes "Vol.1 No.2.rvc".
    """
    path = Path(source)
    known = {STREAM} if suffix != STREAM else AUDIO | OTHER_AUDIO
    return str(
        path.with_suffix(suffix)
        if path.suffix.lower() in known
        else path.with_name(path.name + suffix)
    )


def _check_streams(target: str, as_json: bool) -> None:
    if as_json and is_stdio(target):
        raise UsageError("--json and OUT - both want standard output; expected one of them")


def _meta(words: tuple[str, ...]) -> dict[str, Any] | None:
    """Metadata as SPEC section 4.3 lays it out."""
    tags = as_meta(parse_tags(words, "--tag"))
    return {"tags": tags} if tags else None
