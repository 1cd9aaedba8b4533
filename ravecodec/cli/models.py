"""`ravecodec model`: list, show and add models."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import click

from ravecodec import zoo
from ravecodec.cli import console
from ravecodec.cli.options import examine_options, force_option


@click.group(invoke_without_command=True)
@click.pass_context
def model(ctx: click.Context) -> None:
    """List, show and add models.

    Models are looked for in the folders of RAVECODEC_MODELS, in the user's data folder, and among
    those shipped with ravecodec, in this order.
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
            size = f"{entry.size / 1e6:6.2f} MB"
            form = (
                f"{console.sound(entry.config.sample_rate, entry.config.channels)}, "
                f"{entry.config.latent} dims"
            )
            console.emit(
                console.printable(
                    f"{entry.name:<16} {entry.id.hex()}  {size}  {form}  {entry.path}"
                )
            )
    for problem in problems:
        console.say(f"warning: {problem}")
    if not entries and not quiet:
        console.say("no models; `ravecodec model add FILE` installs one")


@model.command("show")
@click.argument("name", metavar="MODEL", required=False)
@examine_options
def show_command(name: str | None, quiet: bool, as_json: bool) -> None:
    """Show what a model says about itself.

    MODEL is a name, file or id; without it the default model is shown. Licence and credits are
    among what is shown.
    """
    shown = _model_dict(zoo.find_model(name))
    if as_json:
        console.emit_json(shown)
    elif not quiet:
        for part in ("name", "id", "sha256", "path", "size"):
            console.emit(console.printable(f"{part:<10} {shown[part]}"))
        for part in ("config", "point", "info"):
            console.emit(part)
            for key, value in shown[part].items():
                console.emit(console.printable(f"  {key:<18} {value}"))


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
    zoo.check_values(file)
    from ravecodec.models.package import load_package

    load_package(file)
    entry = zoo.add_model(file, name, force=force)
    if as_json:
        console.emit_json(_model_dict(entry))
    elif not quiet:
        console.say(f"{entry} is installed as {entry.path}")


@model.command("refit")
@click.argument("name", metavar="MODEL")
@click.argument("file", metavar="OUT", type=click.Path(path_type=Path))
@click.option(
    "--data",
    metavar="DIR",
    required=True,
    type=click.Path(path_type=Path),
    help="Folder of audio to fit to.",
)
@click.option(
    "--curve",
    is_flag=True,
    help="Measure the curve of rate and quality alone; the predictor stays as it is.",
)
@force_option
@examine_options
def refit_command(
    name: str, file: Path, data: Path, curve: bool, force: bool, quiet: bool, as_json: bool
) -> None:
    """Write a copy of a model that codes the same symbols in fewer bytes.

    A predictor is fitted to audio like that which the model is for, and the qualities of `encode
    --quality` are measured on it; weights and sound stay as they are. The copy has another id. It
    decodes streams of MODEL as well, MODEL not those of the copy. `train` does this for every new
    model. Streams that MODEL has coded with a predictor of its own need --curve, which keeps it.

    \b
    Examples:
      ravecodec model refit run/piano.safetensors piano2.safetensors --data piano/
      ravecodec model refit default new.safetensors --data music/ --curve
    """
    from ravecodec.refit import refit_model

    report = (lambda text: None) if quiet else console.say
    entry = refit_model(name, data, file, curve=curve, force=force, report=report)
    if as_json:
        console.emit_json(_model_dict(entry))
    elif not quiet:
        console.say(
            f"{entry} is written to {entry.path}; its id is new, and it decodes streams of the old "
            "one as well"
        )


def _model_dict(entry: zoo.ModelEntry) -> dict[str, Any]:
    who = {
        "name": entry.name,
        "id": entry.id.hex(),
        "sha256": entry.digest.hex(),
        "path": str(entry.path),
    }
    about = {
        "config": dataclasses.asdict(entry.config),
        "point": dict(entry.point),
        "info": dict(entry.info),
    }
    return who | {"size": entry.size} | about
