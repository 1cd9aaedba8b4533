"""`ravecodec model`: list, show and add models."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import click

from ravecodec import zoo
from ravecodec.cli import console
from ravecodec.cli.options import examine_options, force_option
from ravecodec.errors import ModelError, UsageError
from ravecodec.models.prior_file import SUFFIX as PRIOR_SUFFIX
from ravecodec.models.prior_file import PriorHeader, read_prior_header


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

    In the order of lookup: name, id, size, sample rate, channels, latent dims, whether there is a
    prior, file.
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
            prior = ", prior" if _prior(entry) else ""
            console.emit(
                console.printable(
                    f"{entry.name:<16} {entry.id.hex()}  {size}  {form}{prior}  {entry.path}"
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
        for part in ("config", "point", "info", "prior"):
            console.emit(part if shown[part] else f"{part:<10} none")
            for key, value in (shown[part] or {}).items():
                console.emit(console.printable(f"  {key:<18} {value}"))


@model.command("add")
@click.argument("file", metavar="FILE", type=click.Path(path_type=Path))
@click.option("--name", metavar="NAME", help="Name to install it as; default: the file's.")
@force_option
@examine_options
def add_command(file: Path, name: str | None, force: bool, quiet: bool, as_json: bool) -> None:
    """Install a model for this user.

    FILE is loaded once to see that it works, then copied to the user's data folder, and with a
    model the prior beside it. FILE may also be a prior, for a model that is installed.

    \b
    Examples:
      ravecodec model add run/piano.safetensors
      ravecodec model add run/piano.prior.safetensors
      ravecodec model add download.safetensors --name default -f
    """
    if file.name.endswith(PRIOR_SUFFIX):
        _add_prior(file, name, force, quiet, as_json)
        return
    zoo.check_values(file)
    from ravecodec.models.package import load_package

    load_package(file)
    entry = zoo.add_model(file, name, force=force)
    if as_json:
        console.emit_json(_model_dict(entry))
    elif not quiet:
        console.say(f"{entry} is installed as {entry.path}")


def _add_prior(file: Path, name: str | None, force: bool, quiet: bool, as_json: bool) -> None:
    if name is not None:
        raise UsageError(
            f"{file}: is a prior, which is named after its model; --name is for models"
        )
    from ravecodec.models.prior import load_prior

    load_prior(file)
    target = zoo.add_prior(file, force=force)
    if as_json:
        console.emit_json(_prior_dict(read_prior_header(target)))
    elif not quiet:
        console.say(f"the prior is installed as {target}")


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
@force_option
@examine_options
def refit_command(
    name: str, file: Path, data: Path, force: bool, quiet: bool, as_json: bool
) -> None:
    """Write a copy of a model that codes the same symbols in fewer bytes.

    A predictor is fitted to audio like that which the model is for; weights and sound stay as they
    are. The copy has another id. It decodes streams of MODEL as well, MODEL not those of the copy.
    `train` does this for every new model.

    \b
    Examples:
      ravecodec model refit run/piano.safetensors piano2.safetensors --data piano/
    """
    from ravecodec.refit import refit_model

    entry = refit_model(
        name, data, file, force=force, report=(lambda text: None) if quiet else console.say
    )
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
    prior = _prior(entry)
    about |= {"prior": _prior_dict(prior) if prior else None}
    return who | {"size": entry.size} | about


def _prior(entry: zoo.ModelEntry) -> PriorHeader | None:
    """The prior of a model; None where there is none, or none that is in order."""
    try:
        return zoo.find_prior(entry)
    except ModelError:
        return None


def _prior_dict(prior: PriorHeader) -> dict[str, Any]:
    return {
        "path": str(prior.path),
        "size": prior.size,
        "model": prior.model_id.hex(),
        "config": dataclasses.asdict(prior.config),
        "info": dict(prior.info),
    }
