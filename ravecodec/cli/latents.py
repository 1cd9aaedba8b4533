"""`ravecodec latents export`, `ravecodec latents import` and `ravecodec edit`."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import click

from ravecodec.audio import open_output
from ravecodec.bitstream.container import MAGIC
from ravecodec.bitstream.limits import MAX_SEED
from ravecodec.cli import console, sentences
from ravecodec.cli.exits import expect_command
from ravecodec.cli.extensions import AUDIO, extension
from ravecodec.cli.options import (
    dims_option,
    effort_option,
    in_and_out,
    model_option,
    threads_or_default,
    transcode_options,
)
from ravecodec.edits import (
    ALL,
    Axis,
    Edit,
    EditSummary,
    WithOther,
    concat,
    crop,
    edit_file,
    mix,
    randomise,
    reverse,
    scale,
    shift,
    smooth,
    stretch,
)
from ravecodec.errors import UsageError
from ravecodec.files import check_output, check_source, is_stdio, open_binary_output
from ravecodec.latents import Latents, analyse_file
from ravecodec.latents_file import check_latents_output
from ravecodec.loading import model_of

Asked = list[tuple[str, Any]]  # edits with their values, in the order of the command line
ORDER = "edits"  # where they are in the context


@click.group(invoke_without_command=True)
@click.pass_context
def latents(ctx: click.Context) -> None:
    """Get latents out of streams or audio, and back in.

    docs/latents.md says what they are.
    """
    expect_command(ctx)


@latents.command("export")
@in_and_out
@model_option("Model to use; default: a stream's own, else the one called default.")
@dims_option("Axes of audio to keep; default: as the model says.")
@effort_option("As for encode, but without its search; for audio alone. Default: the model's.")
@transcode_options
def export_command(
    source: str, target: str, model: str | None, quiet: bool, as_json: bool, **options: Any
) -> None:
    """Write the latents of a stream or of audio.

    IN is an .rvc stream, whose symbols are taken as they are, or any audio that encode reads. OUT
    is an .npz file, from which import makes the same again, or for other programs .npy (values) or
    .csv (seconds, silent, one column per axis).

    \b
    Examples:
      ravecodec latents export song.rvc song.npz
      ravecodec latents export song.flac song.csv --dims 8
    """
    check_source(source)
    force = options.pop("force")
    check_latents_output(target, force=force, source=source)
    console.check_json_output(target, as_json)
    options["threads"] = threads_or_default(options["threads"])
    exported = _exported(source, model, **options)
    exported.save(target, force=force)
    sentence = f"{target}: {_described(exported)}"
    console.tell(exported.about(), sentence, quiet=quiet, as_json=as_json)


def _exported(
    source: str, model: str | None, *, dims: int | None, effort: int | None, **options: Any
) -> Latents:
    if not _is_stream(source):
        return analyse_file(source, model, dims=dims, effort=effort, **options)
    if dims is not None or effort is not None:
        raise UsageError(
            f"{source}: is a stream, whose symbols are taken as they are; --dims and --effort are "
            "for audio"
        )
    return Latents.from_stream(source, model, **options)


def _is_stream(source: str) -> bool:
    """Whether a file begins like an .rvc stream; standard input is taken for one."""
    if is_stdio(source):
        return True
    try:
        with Path(source).open("rb") as file:
            return file.read(len(MAGIC)) == MAGIC
    except (OSError, ValueError):
        return False  # who opens it will say


@latents.command("import")
@in_and_out
@model_option("Model to use: name, file or id; default: the one that IN names.")
@transcode_options
def import_command(
    source: str,
    target: str,
    model: str | None,
    quiet: bool,
    as_json: bool,
    force: bool,
    device: str,
    threads: int | None,
) -> None:
    """Make a stream or audio of latents.

    IN is an .npz file of export, perhaps changed. With the extension of audio, OUT is the sound of
    its values as they are; anything else is an .rvc stream, for which they are quantised. What
    export made of a stream gives the same stream.

    \b
    Examples:
      ravecodec latents import song.npz song.rvc
      ravecodec latents import song.npz song.wav
    """
    check_source(source)
    check_output(target, force=force, source=source)
    console.check_json_output(target, as_json)
    imported = Latents.load(source)
    audible = extension(target) in AUDIO
    opening = (
        partial(open_output, target, imported.sample_rate, imported.channels) if audible else None
    )
    threads = threads_or_default(threads)
    loaded = model_of(imported.info, source, model, device=device, threads=threads)
    if opening:
        with opening(force=force, total=imported.samples) as output:
            for block in imported.audio(loaded):
                output.write(block)
    else:
        with open_binary_output(target, force=force) as file:
            imported.write(file, loaded)
    sentence = f"{target}: {_described(imported)}"
    console.tell(imported.about(), sentence, quiet=quiet, as_json=as_json)


class InOrder(click.Command):
    """A command that keeps the order in which its edits were given, each as often as it was."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """As click's, and leaves the edits in the context."""
        values, _, order = self.make_parser(ctx).parse_args(list(args))
        asked: Asked = []
        given: dict[str, Iterator[Any]] = {}
        for parameter in order:
            if isinstance(parameter, click.Option) and parameter.multiple:
                name = str(parameter.name)
                texts = given.setdefault(name, iter(values[name]))
                asked.append((name, parameter.type.convert(next(texts), parameter, ctx)))
            elif isinstance(parameter, click.Option) and parameter.count:
                asked.append((str(parameter.name), None))
        ctx.meta[ORDER] = asked
        return super().parse_args(ctx, args)


@click.command(cls=InOrder)
@in_and_out
@click.option(
    "--scale", multiple=True, metavar="AXIS=F", help="Multiply an axis (0, 1, ... or all)."
)
@click.option("--shift", multiple=True, metavar="AXIS=V", help="Add to an axis.")
@click.option(
    "--random", multiple=True, metavar="AXIS=SIGMA[,SEED]", help="Add Gaussian noise to an axis."
)
@click.option(
    "--smooth",
    multiple=True,
    type=float,
    metavar="SECONDS",
    help="Average over a window of this length.",
)
@click.option(
    "--stretch", multiple=True, type=float, metavar="F", help="F times as long at the same pitch."
)
@click.option("--reverse", count=True, help="The last frame first.")
@click.option(
    "--start", multiple=True, type=float, metavar="SECONDS", help="Drop what comes before."
)
@click.option("--end", multiple=True, type=float, metavar="SECONDS", help="Drop what comes after.")
@click.option(
    "--mix",
    multiple=True,
    metavar="OTHER:SHARE",
    help="Go the share (0 to 1) of the way to another stream.",
)
@click.option("--concat", multiple=True, metavar="OTHER", help="Append another stream.")
@transcode_options
@click.pass_context
def edit(
    ctx: click.Context,
    source: str,
    target: str,
    quiet: bool,
    as_json: bool,
    force: bool,
    device: str,
    threads: int | None,
    **_: Any,
) -> None:
    """Change the latents of a stream.

    IN and OUT are .rvc streams. Edits may be given several times and are done in the order given.
    OUT keeps IN's model, sample rate, channels and step.

    \b
    Examples:
      ravecodec edit song.rvc slow.rvc --stretch 2
      ravecodec edit song.rvc part.rvc --start 10 --end 20 --reverse
      ravecodec edit song.rvc other.rvc --scale 0=1.5 --shift 3=-2 --smooth 0.5
      ravecodec edit one.rvc between.rvc --mix two.rvc:0.5
    """
    check_source(source)
    console.check_json_output(target, as_json)
    if extension(target) in AUDIO:
        raise UsageError(f"{target}: has the extension of audio, expected a .rvc file as OUT")
    edits = list(_edits(ctx.meta[ORDER]))
    threads = threads_or_default(threads)
    done = edit_file(source, target, edits, force=force, device=device, threads=threads)
    console.tell(done, _edited(done), quiet=quiet, as_json=as_json)


def _edits(asked: Asked) -> Iterator[Edit | WithOther]:
    """The edits; a start and an end beside each other are times of the same piece."""
    rest = list(asked)
    while rest:
        name, value = rest.pop(0)
        if name in ("start", "end"):
            times = {name: value}
            if rest and {name, rest[0][0]} == {"start", "end"}:
                times |= dict([rest.pop(0)])
            yield partial(crop, **times)
        else:
            yield _edit(name, value)


def _edit(name: str, value: Any) -> Edit | WithOther:
    if name == "reverse":
        return reverse
    if name in ("smooth", "stretch"):
        length = {"smooth": smooth, "stretch": stretch}[name]
        return lambda latents: length(latents, value)
    if name == "concat":
        return WithOther(value, concat)
    if name == "mix":
        path, colon, share = value.rpartition(":")
        if not (path and colon):
            raise UsageError(f"--mix {value!r}: expected OTHER:SHARE, as in song.rvc:0.5")
        return WithOther(path, partial(mix, share=_number(share, f"--mix {value!r}")))
    return _axis_edit(name, value)


def _axis_edit(name: str, text: str) -> Edit:
    option = f"--{name} {text!r}"
    word, equals, number = text.partition("=")
    if not equals or not (word == ALL or word.isdecimal()):
        raise UsageError(f"{option}: expected AXIS=NUMBER, where AXIS is 0, 1, ... or {ALL}")
    axis: Axis = word if word == ALL else int(word)
    if name == "random":
        number, comma, seed = number.partition(",")
        if comma and not (seed.isdecimal() and int(seed) <= MAX_SEED):
            raise UsageError(f"{option}: the seed is {seed!r}, expected 0 to {MAX_SEED}")
        return partial(randomise, axis=axis, sigma=_number(number, option), seed=int(seed or 0))
    if name == "scale":
        return partial(scale, axis=axis, factor=_number(number, option))
    return partial(shift, axis=axis, value=_number(number, option))


def _number(text: str, option: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise UsageError(f"{option}: {text!r} is no number") from None


def _described(content: Latents) -> str:
    """Their shape and what they are of."""
    frames = sentences.counted(len(content), "frame")
    axes = sentences.counted(content.info.dims, "axis", "axes")
    what = f"{frames} of {axes} at {content.frame_rate:.3g} Hz"
    sound = sentences.sound(content.sample_rate, content.channels)
    return f"{what}; {content.duration:.3f} s of {sound}, model {content.model_id.hex()}"


def _edited(done: EditSummary) -> str:
    """The last line of `edit`."""
    stream = done.stream
    lengths = f"{done.before:.3f} s became {stream.duration:.3f} s"
    sound = sentences.sound(stream.sample_rate, stream.channels)
    return (
        f"{done.target}: {lengths} of {sound} in {sentences.cost(stream)}; model {done.model} "
        f"({stream.model_id})"
    )
