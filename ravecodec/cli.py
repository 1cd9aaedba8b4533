"""The commands of `ravecodec`: thin wrappers of transcode, examine, zoo and train. docs/cli.md is their manual.

How they talk, and what they exit with, is in `console.py`. Nothing here imports torch before a command needs it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import click

from ravecodec import __version__, console, zoo
from ravecodec.bitstream import MAJOR, MINOR
from ravecodec.bitstream.limits import MAX_SEED
from ravecodec.errors import CorruptError, UsageError
from ravecodec.examine import inspect_file, verify_file
from ravecodec.files import STDIO, is_stdio
from ravecodec.transcode import PRECISIONS, decode_file, encode_file

Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]

STREAM = ".rvc"
AUDIO = frozenset(
    f".{name}" for name in ("wav", "flac", "ogg", "opus", "mp3", "aif", "aiff", "caf", "w64", "rf64", "au", "m4a")
)
SUBTYPES = {"16": "PCM_16", "24": "PCM_24", "float": "FLOAT"}
STEP_LIMIT = 64  # eight octaves of the step either way; beyond, symbols saturate or nothing is sent
SETTINGS = {"help_option_names": ["-h", "--help"], "max_content_width": 100}


def _print_version(ctx: click.Context, _: click.Parameter, wanted: bool) -> None:
    if wanted and not ctx.resilient_parsing:
        try:
            torch = version("torch")
        except PackageNotFoundError:
            torch = "not installed"
        threads = console.threads_or_default(None) or "OMP_NUM_THREADS"
        console.emit(f"ravecodec {__version__}")
        console.emit(f"format    writes {MAJOR}.{MINOR}, reads {MAJOR}.x")
        console.emit(f"torch     {torch}")
        console.emit(f"device    auto: CUDA if torch finds it, else the CPU with {threads} threads")
        ctx.exit()


def _set_verbose(ctx: click.Context, _: click.Parameter, wanted: bool) -> None:
    if wanted:
        ctx.find_root().ensure_object(console.State).verbose = True


def _options(*options: Decorator) -> Decorator:
    """Several options as one decorator, shown in this order."""

    def decorate(command: Callable[..., Any]) -> Callable[..., Any]:
        for option in reversed(options):
            command = option(command)
        return command

    return decorate


quiet_option = click.option("-q", "--quiet", is_flag=True, help="Say nothing but errors.")
verbose_option = click.option(
    "-v",
    "--verbose",
    is_flag=True,
    expose_value=False,
    callback=_set_verbose,
    help="Show a traceback with an error (as RAVECODEC_DEBUG=1 does).",
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print the result as JSON to standard output.")
force_option = click.option("-f", "--force", is_flag=True, help="Overwrite an existing file; write to a terminal.")
device_option = click.option(
    "--device", default="auto", metavar="NAME", help="auto (default: CUDA if there is one), cpu, cuda, cuda:1, ..."
)
threads_option = click.option(
    "--threads", type=click.IntRange(1), metavar="N", help="CPU threads; default one per core, 8 at most."
)
transcode_options = _options(force_option, device_option, threads_option, quiet_option, verbose_option, json_option)
examine_options = _options(quiet_option, verbose_option, json_option)


@click.group(cls=console.Tool, invoke_without_command=True, context_settings=SETTINGS)
@click.option(
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_print_version,
    help="Show versions and exit.",
)
@click.pass_context
def main(ctx: click.Context) -> None:
    """Neural audio compression: any audio file at about 0.5 to 6 kbit/s, in a checksummed stream (.rvc).

    \b
    Examples:
      ravecodec encode song.flac               write song.rvc
      ravecodec decode song.rvc                write song.wav
      ravecodec info song.rvc                  what is in it, and what it costs
      ravecodec verify *.rvc                   check every checksum and symbol
      ravecodec model list                     the models at hand
      ravecodec train music/ --recipe default --out run

    A file name of - is standard input or output. Outputs appear when they are complete; nothing is overwritten without
    -f. Exit codes: 0 ok, 1 other, 2 usage, 3 input, 4 not .rvc or too new, 5 corrupt, 6 truncated, 7 model, 8 output,
    130 interrupted.
    """
    if ctx.invoked_subcommand is None:
        click.echo(ctx.get_help(), err=True)
        ctx.exit(console.USAGE_EXIT)


# ---- encode and decode -----------------------------------------------------------------------------------------------


@main.command()
@click.argument("source", metavar="IN")
@click.argument("target", metavar="[OUT]", required=False)
@click.option("--model", metavar="MODEL", help="Model to use: name, file or id; default: the one called default.")
@click.option("--fidelity", type=float, metavar="F", help="Keep as many latent dims as carry the share F, 0 to 1.")
@click.option("--dims", type=int, metavar="N", help="Keep N latent dims; default: as the model says.")
@click.option(
    "--step",
    "step_index",
    type=click.IntRange(-STEP_LIMIT, STEP_LIMIT),
    metavar="G",
    help="Quantiser step 2^(G/8) times the model's base; larger is coarser and smaller. Default: as the model says.",
)
@click.option(
    "--bitrate",
    type=float,
    metavar="KBPS",
    help="Find the finest step whose file is at most KBPS kbit/s, all included.",
)
@click.option(
    "--seed", type=click.IntRange(0, MAX_SEED), default=0, metavar="N", help="Seed of the decoder's noise; default 0."
)
@click.option("--raw-rate", type=int, metavar="HZ", help="IN is headerless 16-bit little-endian PCM of this rate.")
@click.option("--raw-channels", type=int, metavar="N", help="Channels of headerless PCM; default 1.")
@click.option("--tag", "tags", multiple=True, metavar="KEY=TEXT", help="Store a tag; may be given several times.")
@click.option("--verify", is_flag=True, help="Read the written bytes back and compare, before OUT is put in place.")
@transcode_options
def encode(source: str, target: str | None, tags: tuple[str, ...], quiet: bool, as_json: bool, **options: Any) -> None:
    """Compress an audio file.

    IN becomes the stream OUT; by default OUT is IN with the extension .rvc. Reads WAV, FLAC, Ogg (Vorbis, Opus), MP3,
    AIFF, CAF, W64, RF64 and AU of 1 to 768 kHz, mono or stereo. - reads standard input; then OUT defaults to standard
    output.

    \b
    Examples:
      ravecodec encode song.flac
      ravecodec encode song.flac small.rvc --step 8 --verify
      ravecodec encode song.flac --bitrate 2
      ravecodec encode voice.wav --model speech --fidelity 0.95
      arecord -f cd | ravecodec encode - > take.rvc
      sox in.wav -t raw -b 16 -e signed - | ravecodec encode - out.rvc --raw-rate 48000 --raw-channels 2
    """
    target = target or _beside(source, STREAM)
    if Path(target).suffix.lower() in AUDIO:
        raise UsageError(f"{target}: has the extension of audio, expected a .rvc file as OUT (one input per call)")
    _check_streams(target, as_json)
    options["threads"] = console.threads_or_default(options["threads"])
    with console.Meter("encode", quiet=quiet) as meter:
        done = encode_file(source, target, meta=_meta(tags), progress=meter, **options)
    if as_json:
        console.emit_json(done)
    elif not quiet:
        console.say(console.encoded(done))


@main.command()
@click.argument("source", metavar="IN")
@click.argument("target", metavar="[OUT]", required=False)
@click.option("--model", metavar="MODEL", help="Model to use: name, file or id; default: the one that made the stream.")
@click.option("--rate", type=int, metavar="HZ", help="Sample rate of OUT; default: the original's.")
@click.option(
    "--bits",
    "--format",
    "subtype",
    type=click.Choice(list(SUBTYPES)),
    help="Samples of OUT: 16 (default) or 24 bits, or 32-bit float.",
)
@click.option("--soft-clip", is_flag=True, help="Bend samples beyond full scale instead of cutting them off.")
@click.option(
    "--precision",
    type=click.Choice(PRECISIONS),
    default=PRECISIONS[0],
    help="What the network computes in: float32 (default), or bfloat16, faster on processors with AMX.",
)
@click.option("--salvage", is_flag=True, help="Go on after damage: hold the sound over gaps, exit with 5 at the end.")
@transcode_options
def decode(source: str, target: str | None, subtype: str | None, quiet: bool, as_json: bool, **options: Any) -> None:
    """Turn a stream into an audio file again.

    IN becomes the audio file OUT; by default OUT is IN with the extension .wav. The extension of OUT says what it
    becomes: .wav, .flac, .ogg, .aiff, .caf, .w64 or .rf64; - is WAV on standard output. Sample rate, channels and
    number of samples are those of the original.

    \b
    Examples:
      ravecodec decode song.rvc
      ravecodec decode song.rvc song.flac --bits 24
      ravecodec decode song.rvc - | aplay
      ravecodec decode song.rvc --precision bfloat16
      ravecodec decode damaged.rvc rest.wav --salvage
    """
    target = target or _beside(source, ".wav")
    _check_streams(target, as_json)
    options["threads"] = console.threads_or_default(options["threads"])
    options["subtype"] = SUBTYPES[subtype] if subtype else None
    with console.Meter("decode", quiet=quiet) as meter:
        done = decode_file(source, target, progress=meter, **options)
    if as_json:
        console.emit_json(done)
    elif not quiet:
        console.say(console.decoded(done))
    for damage in done.damage:
        console.say(
            f"damage: {damage.reason}; {damage.frames or 'unknown'} frames from frame {damage.first_frame} lost"
        )
    if done.damage:
        places = "1 damaged place" if len(done.damage) == 1 else f"{len(done.damage)} damaged places"
        raise CorruptError(f"{done.source}: {places}, the sound was held meanwhile")


def _beside(source: str, suffix: str) -> str:
    """The default output: the input with another extension, or the other end of the pipe."""
    return STDIO if is_stdio(source) else str(Path(source).with_suffix(suffix))


def _check_streams(target: str, as_json: bool) -> None:
    if as_json and is_stdio(target):
        raise UsageError("--json and OUT - both want standard output; expected one of them")


def _meta(tags: tuple[str, ...]) -> dict[str, Any] | None:
    """Metadata as SPEC section 4.3 lays it out."""
    pairs = [tag.partition("=") for tag in tags]
    for key, equals, _ in pairs:
        if not key or not equals:
            raise UsageError(f"--tag {key + equals!r}: expected KEY=TEXT")
    tags_by_key = {key: text for key, _, text in pairs}
    if len(tags_by_key) < len(pairs):
        raise UsageError(f"--tag: {len(pairs)} tags have {len(tags_by_key)} keys; expected each key once")
    return {"tags": tags_by_key} if pairs else None


# ---- info and verify -------------------------------------------------------------------------------------------------


@main.command()
@click.argument("source", metavar="FILE")
@examine_options
def info(source: str, quiet: bool, as_json: bool) -> None:
    """Show what a stream holds and costs.

    Reads FILE (or -) to its end and checks every checksum of its bytes on the way.

    \b
    Examples:
      ravecodec info song.rvc
      ravecodec info song.rvc --json | jq .stream.kbps
    """
    found = inspect_file(source)
    if as_json:
        console.emit_json(found)
    elif not quiet:
        console.emit(console.inspected(found))


@main.command()
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
    results = [verify_file(source, model=model) for source in sources]
    if as_json:
        console.emit_json([dataclasses.asdict(result) for result in results])
    for result in results:
        if not result.ok:
            console.say(console.failed(result))
        elif not quiet and not as_json:
            console.emit(console.verified(result))
    codes = {result.exit_code for result in results if not result.ok}
    return codes.pop() if len(codes) == 1 else bool(codes)


# ---- models and training ---------------------------------------------------------------------------------------------


@main.group(invoke_without_command=True)
@click.pass_context
def model(ctx: click.Context) -> None:
    """List, show and add models.

    Models are looked for in the folders of RAVECODEC_MODELS, in the user's data folder, and among those shipped with
    ravecodec, in this order.
    """
    if ctx.invoked_subcommand is None:
        click.echo(ctx.get_help(), err=True)
        ctx.exit(console.USAGE_EXIT)


@model.command("list")
@examine_options
def list_command(quiet: bool, as_json: bool) -> None:
    """List all models.

    In the order of lookup: name, id, size, sample rate, channels, latent dims, file.
    """
    entries, problems = zoo.list_models()
    if as_json:
        console.emit_json([_model_dict(entry) for entry in entries])
    elif not quiet:
        for entry in entries:
            form = f"{console.sound(entry.config.sample_rate, entry.config.channels)}, {entry.config.latent} dims"
            console.emit(f"{entry.name:<16} {entry.id.hex()}  {entry.size / 1e6:6.2f} MB  {form}  {entry.path}")
    for problem in problems:
        console.say(f"warning: {problem}")
    if not entries and not quiet:
        console.say("no models; `ravecodec model add FILE` installs one")


@model.command("show")
@click.argument("name", metavar="MODEL", required=False)
@examine_options
def show_command(name: str | None, quiet: bool, as_json: bool) -> None:
    """Show what a model says about itself.

    MODEL is a name, file or id; without it the default model is shown. Licence and credits are among what is shown.
    """
    shown = _model_dict(zoo.find_model(name))
    if as_json:
        console.emit_json(shown)
    elif not quiet:
        for part in ("name", "id", "sha256", "path", "size"):
            console.emit(f"{part:<10} {shown[part]}")
        for part in ("config", "point", "info"):
            console.emit(part)
            for key, value in shown[part].items():
                console.emit(f"  {key:<18} {value}")


@model.command("add")
@click.argument("file", metavar="FILE", type=click.Path(path_type=Path))
@click.option("--name", metavar="NAME", help="Name to install it as; default: the file's.")
@force_option
@examine_options
def add_command(file: Path, name: str | None, force: bool, quiet: bool, as_json: bool) -> None:
    """Install a model for this user.

    FILE is loaded once to see that it works, then copied to the user's data folder.

    \b
    Examples:
      ravecodec model add run/piano.safetensors
      ravecodec model add download.safetensors --name default -f
    """
    zoo.read_entry(file)
    from ravecodec.models.package import load_package

    load_package(file)
    entry = zoo.add_model(file, name, force=force)
    if as_json:
        console.emit_json(_model_dict(entry))
    elif not quiet:
        console.say(f"{entry} is installed as {entry.path}")


def _model_dict(entry: zoo.ModelEntry) -> dict[str, Any]:
    who = {"name": entry.name, "id": entry.id.hex(), "sha256": entry.digest.hex(), "path": str(entry.path)}
    about = {"config": dataclasses.asdict(entry.config), "point": dict(entry.point), "info": dict(entry.info)}
    return who | {"size": entry.size} | about


@main.command()
@click.argument("data", metavar="DATA", required=False, type=click.Path(path_type=Path))
@click.option(
    "--recipe", "recipe_name", default="default", metavar="RECIPE", help="Name or .toml file; default: default."
)
@click.option("--out", metavar="RUN", type=click.Path(path_type=Path), help="Folder of the run.")
@click.option(
    "--stage", type=click.Choice(["all", "1", "2"]), default="all", help="Stop after stage 1, or do only stage 2."
)
@click.option("--init-from", metavar="MODEL", help="Start from the weights of a model: name, file or id.")
@click.option(
    "--cache", metavar="DIR", type=click.Path(path_type=Path), help="Folder of decoded audio; default: RUN/cache."
)
@click.option("--licence", default="unstated", metavar="TEXT", help="Licence of the weights, stored in the model.")
@click.option("--steps1", type=click.IntRange(0), metavar="N", help="Steps of stage 1 instead of the recipe's.")
@click.option("--steps2", type=click.IntRange(0), metavar="N", help="Steps of stage 2 instead of the recipe's.")
@click.option("--devices", type=click.IntRange(1), default=1, metavar="N", help="Devices to share the work; default 1.")
@click.option("--nodes", type=click.IntRange(1), default=1, metavar="N", help="Machines that take part; default 1.")
@click.option(
    "--report",
    "report_on",
    metavar="RUN",
    type=click.Path(path_type=Path),
    help="Train nothing; write report.html about a run, finished or not, into its folder.",
)
@device_option
@threads_option
@quiet_option
@verbose_option
def train(
    data: Path | None,
    recipe_name: str,
    out: Path | None,
    init_from: str | None,
    steps1: int | None,
    steps2: int | None,
    report_on: Path | None,
    threads: int | None,
    quiet: bool,
    **options: Any,
) -> None:
    """Train a model on a folder of audio.

    DATA is searched for audio files, folders within it too. The result is one file in RUN. Training may be stopped at
    any moment; the same call goes on from the last checkpoint.

    \b
    Examples:
      ravecodec train music/ --recipe default --out runs/mine --licence CC-BY-4.0
      ravecodec train music/ --recipe mine.toml --out runs/two --init-from default --stage 2
      ravecodec train --report runs/mine
    """
    if report_on is not None:
        from ravecodec.train.report import write_report

        console.emit(str(write_report(report_on)))
        return
    if data is None or out is None:
        raise UsageError("train: expected DATA and --out RUN, or --report RUN")
    from ravecodec.train.recipe import load_recipe

    recipe = load_recipe(recipe_name)
    for stage, steps in (("stage1", steps1), ("stage2", steps2)):
        if steps is not None:
            recipe = recipe.replace(**{stage: dataclasses.replace(getattr(recipe, stage), steps=steps)})
    start = zoo.find_model(init_from).path if init_from else None
    import torch

    from ravecodec.train.loop import train as run

    if (count := console.threads_or_default(threads)) is not None:
        torch.set_num_threads(count)
    report = (lambda line: None) if quiet else console.say
    run(data, recipe, out, init_from=start, report=report, **options)
