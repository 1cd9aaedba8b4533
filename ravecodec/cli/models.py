"""`ravecodec model`: list, show, add, export and remove models."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import click

from ravecodec import installing, zoo
from ravecodec.batch.items import collect
from ravecodec.cli import console, sentences
from ravecodec.cli.exits import expect_command
from ravecodec.cli.options import examine_options, recursive_option, stream_options
from ravecodec.errors import ModelError, RavecodecError, UsageError
from ravecodec.examine import Need, need_of
from ravecodec.models.prior_file import SUFFIX as PRIOR_SUFFIX
from ravecodec.models.prior_file import PriorHeader, read_prior_header


@click.group(invoke_without_command=True)
@click.pass_context
def model(ctx: click.Context) -> None:
    """List, show, add, export and remove models.

    Models are looked for in the folders of RAVECODEC_MODELS, in the user's data folder, and among
    those shipped with ravecodec, in this order.
    """
    expect_command(ctx)


@model.command("list")
@click.argument("files", metavar="[FILE...]", nargs=-1)
@click.option(
    "--used-by",
    is_flag=True,
    help="Say instead which model each stream FILE... needs, and whether that is installed.",
)
@recursive_option
@examine_options
def list_command(
    files: tuple[str, ...], used_by: bool, recursive: bool, quiet: bool, as_json: bool
) -> int:
    """List all models, or those that streams need.

    In the order of lookup: name, id, size, sample rate, channels, latent dims, whether there is a
    prior, file. With --used-by a line for each stream, and exit code 7 if a model is missing.

    \b
    Examples:
      ravecodec model list
      ravecodec model list --used-by song.rvc
      ravecodec model list --used-by -r archive
    """
    if used_by != bool(files) or (recursive and not used_by):
        raise UsageError("streams are named with --used-by and with it alone: --used-by FILE...")
    if used_by:
        return _used_by(files, recursive, quiet, as_json)
    entries, problems = zoo.scan_models()
    if as_json:
        console.emit_json([_model_dict(entry) for entry in entries])
    elif not quiet:
        for entry in entries:
            size = f"{entry.size / 1e6:6.2f} MB"
            form = (
                f"{sentences.sound(entry.config.sample_rate, entry.config.channels)}, "
                f"{entry.config.latent} dims"
            )
            prior = ", prior" if _prior(entry) else ""
            console.emit(
                console.printable(
                    f"{entry.name:<16} {entry.id.hex()}  {size}  {form}{prior}  {entry.path}"
                )
            )
    console.warn(problems)
    if not entries and not quiet:
        console.say("no models; `ravecodec model add FILE` installs one")
    return 0


def _used_by(files: tuple[str, ...], recursive: bool, quiet: bool, as_json: bool) -> int:
    """Tells what each stream needs; the exit code is the one that all that is wrong shares, or
    1.
    """
    items, problems = collect(files, suffixes={".rvc"}, what="streams", recursive=recursive)
    codes = {outcome.exit_code for outcome in problems}
    for outcome in problems:
        console.say(f"error: {outcome.error}")
    for item in items:
        try:
            need = need_of(item.source)
        except RavecodecError as error:
            console.say(f"error: {error}")
            codes.add(error.exit_code)
            continue
        if not need.met:
            codes.add(ModelError.exit_code)
        if as_json:
            console.emit(console.as_json(need, None))
        elif not quiet:
            console.emit(console.printable(_need(need)))
    return codes.pop() if len(codes) == 1 else int(bool(codes))


def _need(need: Need) -> str:
    """One line on what a stream needs."""
    facts = [f"installed as {need.model}" if need.model else "not installed"]
    if need.called and not need.model:
        facts.append(f"called {need.called!r} by its maker")
    if need.embedded:
        facts.append("its decoder is embedded")
    return f"{need.name}: model {need.id}, {', '.join(facts)}"


@model.command("show")
@click.argument("name", metavar="[MODEL]", required=False)
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
@stream_options
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
    entry = installing.add_model(file, name, force=force)
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
    target = installing.add_prior(file, force=force)
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
@click.option(
    "--curve",
    is_flag=True,
    help="Measure the curve of rate and quality alone; the predictor stays as it is.",
)
@stream_options
def refit_command(
    name: str, file: Path, data: Path, curve: bool, force: bool, quiet: bool, as_json: bool
) -> None:
    """Write a copy of a model that codes the same symbols in fewer bytes.

    A predictor is fitted to audio of the kind that the model is for, and the qualities of `encode
    --quality` are measured on it. Weights and sound stay as they are. The copy has another id: it
    decodes streams of MODEL, but MODEL does not decode those of the copy. If MODEL has a predictor
    already, use --curve, which keeps it; a copy with another predictor cannot decode the streams
    that were coded with the old one. `train` does all this for every new model.

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


@model.command("export")
@click.argument("name", metavar="MODEL")
@click.argument("file", metavar="OUT", type=click.Path(path_type=Path))
@stream_options
def export_command(name: str, file: Path, force: bool, quiet: bool, as_json: bool) -> None:
    """Copy a model to a file, byte for byte.

    OUT is what `model add` takes on another machine.

    \b
    Examples:
      ravecodec model export default default.safetensors
      ravecodec model export c1db4c0d32b7c723 archive/model.safetensors
    """
    entry = installing.export_model(name, file, force=force)
    if as_json:
        console.emit_json(_model_dict(entry))
    elif not quiet:
        console.say(f"{entry} is written to {entry.path}")


@model.command("remove")
@click.argument("name", metavar="MODEL")
@examine_options
def remove_command(name: str, quiet: bool, as_json: bool) -> None:
    """Remove an installed model.

    MODEL is a name or an id; the first one in the order of lookup is removed. Models that came with
    ravecodec are refused.

    \b
    Examples:
      ravecodec model remove piano
    """
    path = installing.remove_model(name)
    if as_json:
        console.emit_json({"removed": str(path)})
    elif not quiet:
        console.say(f"{path} is removed")


def _model_dict(entry: zoo.ModelEntry) -> dict[str, Any]:
    who = {
        "name": entry.name,
        "id": entry.id.hex(),
        "sha256": entry.digest.hex(),
        "path": str(entry.path),
    }
    prior = _prior(entry)
    about = {
        "config": dataclasses.asdict(entry.config),
        "point": dict(entry.point),
        "info": dict(entry.info),
        "prior": _prior_dict(prior) if prior else None,
    }
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
