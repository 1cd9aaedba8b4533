"""The commands of `ravecodec`: thin wrappers of the modules beside this package. docs/cli.md is
their manual.

How they talk is in `console.py`, what they exit with in `exits.py`. Nothing here imports torch
before a command needs it.
"""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version

import click

from ravecodec import __version__
from ravecodec.audio import READABLE, WRITABLE_SUBTYPES, has_av
from ravecodec.bitstream import MAJOR, MINOR
from ravecodec.cli import console
from ravecodec.cli.completing import offer_names
from ravecodec.cli.decoding import decode
from ravecodec.cli.encoding import encode
from ravecodec.cli.evaluating import compare, evaluate
from ravecodec.cli.examining import info, verify
from ravecodec.cli.exits import Tool, expect_command
from ravecodec.cli.generating import generate
from ravecodec.cli.latents import edit, latents
from ravecodec.cli.live import live
from ravecodec.cli.models import model
from ravecodec.cli.options import threads_or_default
from ravecodec.cli.sentences import counted
from ravecodec.cli.splicing import concat, cut
from ravecodec.cli.tagging import tag
from ravecodec.cli.training import train
from ravecodec.cli.transfer import transfer

SETTINGS = {"help_option_names": ["-h", "--help"], "max_content_width": 100}


def _print_version(ctx: click.Context, _: click.Parameter, wanted: bool) -> None:
    if wanted and not ctx.resilient_parsing:
        try:
            torch = version("torch")
        except PackageNotFoundError:
            torch = "not installed"
        threads = threads_or_default(None)
        count = counted(threads, "thread") if threads else "as many threads as OMP_NUM_THREADS says"
        console.emit(f"ravecodec {__version__}")
        console.emit(f"format    writes {MAJOR}.{MINOR}, reads {MAJOR}.x")
        console.emit(f"torch     {torch}")
        console.emit(f"device    auto: CUDA if torch finds it, else the CPU with {count}")
        ctx.exit()


def _print_formats(ctx: click.Context, _: click.Parameter, wanted: bool) -> None:
    if wanted and not ctx.resilient_parsing:
        names = {"PCM_16": "16", "PCM_24": "24", "FLOAT": "float", "VORBIS": "Vorbis"}
        more = (
            "which is installed" if has_av() else "which is not: pip install 'ravecodec[formats]'"
        )
        console.emit(f"reads   {READABLE}; raw 16-bit PCM with --raw-rate")
        console.emit(
            f"        M4A, AAC, ALAC, WMA, AC-3, Matroska and more with ravecodec[formats], {more}"
        )
        console.emit("writes  by the extension of OUT, with --bits:")
        for suffix, (container, subtypes) in WRITABLE_SUBTYPES.items():
            console.emit(
                f"        {suffix:<6} {container:<5} {', '.join(names[each] for each in subtypes)}"
            )
        ctx.exit()


@click.group(cls=Tool, invoke_without_command=True, context_settings=SETTINGS)
@click.option(
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_print_version,
    help="Show versions and exit.",
)
@click.option(
    "--list-formats",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_print_formats,
    help="Show which audio formats are read and written, and exit.",
)
@click.pass_context
def main(ctx: click.Context) -> None:
    """Neural audio compression: any audio file at about 0.5 to 6 kbit/s, in a checksummed stream
    (.rvc).

    \b
    Examples:
      ravecodec encode song.flac               write song.rvc
      ravecodec decode song.rvc                write song.wav
      ravecodec info song.rvc                  what is in it, and what it costs
      ravecodec verify *.rvc                   check every checksum and symbol
      ravecodec edit song.rvc slow.rvc --stretch 2
      ravecodec transfer voice.wav other.wav   play audio in the sound of a model
      ravecodec live --model strings-live --audio-in default
      ravecodec generate new.wav --seed 1      new sound from a model
      ravecodec cut song.rvc bridge.rvc --start 1:02.5 --end 1:10
      ravecodec tag song.rvc --set TITLE=Feelings
      ravecodec model list                     the installed models
      ravecodec train music/ --recipe default --out run
      ravecodec eval music/ --model default --out report
      ravecodec compare song.flac song.rvc     the scores of one pair

    A file name of - is standard input or output. Outputs appear when they are complete; nothing is
    overwritten without -f. Exit codes: 0 ok, 1 other, 2 usage, 3 input, 4 not .rvc or too new, 5
    corrupt, 6 truncated, 7 model, 8 output, 129 hung up, 130 interrupted, 143 terminated.
    """
    expect_command(ctx)


for command in (
    encode,
    decode,
    info,
    verify,
    cut,
    concat,
    tag,
    latents,
    edit,
    transfer,
    live,
    generate,
    model,
    train,
    evaluate,
    compare,
):
    main.add_command(command)
offer_names(main)
