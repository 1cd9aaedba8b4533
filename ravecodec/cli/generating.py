"""`ravecodec generate`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from ravecodec.cli import console, sentences
from ravecodec.cli.extensions import AUDIO, STREAM, extension
from ravecodec.cli.options import (
    bits_option,
    model_option,
    seed_option,
    threads_or_default,
    transcode_options,
)
from ravecodec.errors import UsageError
from ravecodec.files import is_stdio
from ravecodec.generating import HOTTEST, GenerateSummary, generate_file


@click.command()
@click.argument("target", metavar="OUT")
@model_option("Model to use: name, file or id; default: the one called default.")
@click.option(
    "--prior",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="Prior to use; default: the one beside the model, or the installed one that is for it.",
)
@click.option(
    "--seconds", type=float, default=20.0, metavar="S", help="How much to make; default 20."
)
@seed_option("Seed of what is drawn; default 0.")
@click.option(
    "--temperature",
    type=float,
    default=1.0,
    metavar="T",
    help=f"Below 1 the sound is more predictable, above 1 less; 0 to {HOTTEST:g}, default 1.",
)
@click.option(
    "--continue-from",
    metavar="X",
    help="Audio or a stream that OUT begins with and continues.",
)
@click.option(
    "--like", metavar="X", help="Audio or a stream to listen to first; OUT does not hold it."
)
@bits_option
@transcode_options
def generate(target: str, quiet: bool, as_json: bool, **options: Any) -> None:
    """Make new sound with a model.

    The model's prior, a small network in a file beside the model, draws latents. They are decoded
    to OUT, or written as a stream if OUT ends in .rvc. The same call makes the same OUT on the same
    machine.

    \b
    Examples:
      ravecodec generate new.wav --seconds 30 --seed 1
      ravecodec generate new.rvc --model strings --temperature 0.8
      ravecodec generate longer.wav --continue-from song.rvc --seconds 10
      ravecodec generate other.wav --like song.flac
    """
    console.check_json_output(target, as_json)
    suffix = extension(target)
    audible = is_stdio(target) or suffix in AUDIO
    if not audible and suffix != STREAM:
        raise UsageError(f"{target}: has the extension {suffix!r}, expected {STREAM} or audio's")
    if options["subtype"] and not audible:
        raise UsageError(f"{target}: is a stream, and --bits is for audio")
    options["threads"] = threads_or_default(options["threads"])
    done = generate_file(target, audible=audible, **options)
    console.tell(done, _described(done), quiet=quiet, as_json=as_json)


def _described(done: GenerateSummary) -> str:
    """The last line."""
    new = f"{done.duration - done.prompt_seconds:.3f} s of new sound"
    behind = f" behind {done.prompt_seconds:.3f} s" if done.prompt_seconds else ""
    form = sentences.sound(done.sample_rate, done.channels)
    how = f"model {done.model}, seed {done.seed}, temperature {done.temperature:g}"
    return f"{done.target}: {new}{behind}, {form}; {how}; {done.seconds:.1f} s"
