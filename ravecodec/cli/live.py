"""`ravecodec live`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from ravecodec.cli import console, sentences
from ravecodec.cli.options import (
    device_option,
    force_option,
    quiet_option,
    seed_option,
    sound_options,
    verbose_option,
)
from ravecodec.errors import UsageError
from ravecodec.files import STDIO, binary_stdin, check_output, open_binary_output
from ravecodec.times import parse

if TYPE_CHECKING:  # imports what a --help does not need
    from ravecodec.live import Live
    from ravecodec.playing import Played, Player

FORMATS = ("16", "float")


def _list_audio(ctx: click.Context, _: click.Parameter, wanted: bool) -> None:
    if wanted and not ctx.resilient_parsing:
        from ravecodec.playing import list_devices

        console.emit(list_devices())
        ctx.exit()


@click.command()
@sound_options
@click.option(
    "--block",
    type=int,
    metavar="SAMPLES",
    help="Samples that the network computes at a time, a multiple of the model's hop; default one "
    "hop. More computes faster, with more latency.",
)
@seed_option("Seed of the noise; default 0.")
@click.option(
    "--raw-rate",
    type=int,
    metavar="HZ",
    help="Sample rate of the PCM; it has to be the model's, which is the default.",
)
@click.option(
    "--raw-channels",
    type=int,
    metavar="N",
    help="Channels of the audio, in and out; default: the model's.",
)
@click.option(
    "--bits",
    "--format",
    "form",
    type=click.Choice(FORMATS),
    default=FORMATS[0],
    help="Samples of the PCM: 16 bits (default), or 32-bit float.",
)
@click.option(
    "--duration", metavar="TIME", help="Stop after this time; default: at the end of the input."
)
@click.option(
    "--audio-in",
    metavar="NAME",
    help="Listen to a sound device: its number, a part of its name, or default.",
)
@click.option(
    "--audio-out",
    metavar="NAME",
    help="Play on a sound device. With one of the two, the other is default.",
)
@click.option(
    "--list-audio",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_list_audio,
    help="Show the sound devices and exit.",
)
@force_option
@device_option
@click.option(
    "--threads",
    type=click.IntRange(1),
    default=1,
    metavar="N",
    help="CPU threads; default 1: a block is too short to be shared well.",
)
@quiet_option
@verbose_option
def live(
    model: str | None,
    fidelity: float | None,
    dims: int | None,
    block: int | None,
    seed: int,
    raw_rate: int | None,
    raw_channels: int | None,
    form: str,
    duration: str | None,
    audio_in: str | None,
    audio_out: str | None,
    force: bool,
    device: str,
    threads: int,
    quiet: bool,
) -> None:
    """Play audio through a model in real time.

    Reads headerless little-endian PCM from standard input, plays it through the model and writes as
    many samples to standard output. The last line says how late they are. With --audio-in or
    --audio-out sound devices take the place of both, until Ctrl-C. Nothing is quantised. Any model
    works, but one whose networks only look back, such as strings-live, has less latency.

    \b
    Examples:
      arecord -f dat -t raw | ravecodec live --model strings-live | aplay -f dat
      ravecodec live --model strings-live --audio-in default --audio-out default
      ravecodec live --model strings-live --audio-in USB --raw-channels 1 --fidelity 0.5
      ravecodec live --list-audio
    """
    devices = audio_in is not None or audio_out is not None
    if not devices:
        check_output(STDIO, force=force)
    seconds = None if duration is None else parse(duration, "the duration")
    from ravecodec.live import Live
    from ravecodec.playing import Player, sounddevice

    if devices:
        sounddevice()  # before anything slow
    playing = Live(
        model,
        block=block,
        channels=raw_channels,
        fidelity=fidelity,
        dims=dims,
        seed=seed,
        device=device,
        threads=threads,
    )
    rate = playing.sample_rate
    if raw_rate not in (None, rate):
        raise UsageError(
            f"the raw rate is {raw_rate} Hz, expected {rate} Hz, that of model "
            f"{playing.model.name}: live does not resample"
        )
    player = Player(playing, None if seconds is None else seconds.at(rate) / rate)
    try:
        if devices:
            _on_devices(player, playing, audio_in, audio_out)
        else:
            _on_pipes(player, form, playing.channels, force)
    finally:
        if not quiet:
            console.say(_described(player.played()))


def _on_pipes(player: Player, form: str, channels: int, force: bool) -> None:
    from ravecodec.playing import play_pipe

    source = binary_stdin()
    with open_binary_output(STDIO, force=force) as target:
        play_pipe(player, source, target, form, channels)


def _on_devices(player: Player, live: Live, source: str | None, target: str | None) -> None:
    from ravecodec.playing import play_devices

    names = [None if name == "default" else name for name in (source, target)]
    play_devices(player, live, *names)


def _described(done: Played) -> str:
    """The last line."""
    sound = sentences.sound(done.sample_rate, done.channels)
    what = f"{done.samples / done.sample_rate:.3f} s of {sound}, model {done.model}"
    late = f"latency {done.latency_ms:.1f} ms ({sentences.counted(done.latency, 'sample')})"
    if done.device_latency > 0:
        late += f" and {1000 * done.device_latency:.1f} ms of the devices"
    longest = f"longest block {1000 * done.longest:.1f} ms, {100 * done.load:.0f} % of its time"
    blocks = sentences.counted(done.late, "block")
    missed = f"{blocks} too late, {sentences.counted(done.underruns, 'underrun')}"
    parts = [what, late, longest, missed]
    if done.clipped:
        parts.append(sentences.beyond_full_scale(done.clipped))
    return "; ".join(parts)
