"""Puts models and their priors into the user's folder, copies them out and removes them."""

from __future__ import annotations

import re
import shutil
from contextlib import suppress
from pathlib import Path

from ravecodec import zoo
from ravecodec.errors import ModelError, OutputError, UsageError
from ravecodec.files import AtomicFile, check_output
from ravecodec.models.prior_file import SUFFIX as PRIOR_SUFFIX
from ravecodec.models.prior_file import read_prior_header
from ravecodec.zoo import SUFFIX

_NAME = re.compile(r"\w[\w.+-]*")


def add_model(path: Path, name: str | None = None, *, force: bool = False) -> zoo.ModelEntry:
    """Copies a model file into the user's folder, as `name` (default: the file's own), and the
    prior that lies beside it if there is one; returns the entry there.

    Adding what is there already is no error. ModelError if it is no model, UsageError for an
    impossible name, OutputError if another model has the name and `force` is not set.
    """
    source = zoo.read_entry(path)
    name = source.name if name is None else name
    if not _NAME.fullmatch(name) or (name + SUFFIX).endswith(PRIOR_SUFFIX):
        raise UsageError(
            f"model name {name!r}: expected letters, digits and . + - _, and not .prior at its end"
        )
    beside = zoo.prior_beside(source)
    target = zoo.user_folder() / f"{name}{SUFFIX}"
    _install(path, target, force)
    entry = zoo.read_entry(target)
    if beside is not None:
        add_prior(beside.path, entry, force=force)
    return entry


def export_model(wanted: str | Path | None, target: Path, *, force: bool = False) -> zoo.ModelEntry:
    """Copies an installed model to a file; returns the entry there. ModelError, OutputError."""
    source = zoo.find_model(wanted)
    _copy(source.path, target, force)
    return zoo.read_entry(target)


def remove_model(name: str) -> Path:
    """Removes the installed model of this name or id, the first in the order of lookup, be it
    damaged; returns where it was.

    UsageError for a model that came with ravecodec, ModelError if there is none, OutputError if it
    cannot be removed.
    """
    named = (path for path in zoo.model_files() if path.name == name + SUFFIX)
    path = next(named, None) or zoo.find_id(name).path
    if path.resolve().is_relative_to(zoo.shipped_folder().resolve()):
        raise UsageError(f"{path}: came with ravecodec, expected a model that was added")
    try:
        path.unlink()
    except OSError as error:
        raise OutputError(f"{path}: cannot be removed ({error.strerror})") from error
    return path


def add_prior(path: Path, entry: zoo.ModelEntry | None = None, *, force: bool = False) -> Path:
    """Copies a prior into the user's folder, named after the installed model that it is for (or
    `entry`, which is there); returns the path there.

    Adding what is there already is no error. ModelError if it is no prior or no model of its id is
    installed, OutputError if another prior has the name and `force` is not set.
    """
    header = read_prior_header(path)
    header.arrays()  # refuses values that no prior can have
    if entry is None and (entry := zoo.installed(header.model_id)) is None:
        raise ModelError(
            f"{path}: is a prior for model {header.model_id.hex()}, which is not installed; add "
            "that first"
        )
    zoo.fitting(header, entry)
    target = zoo.user_folder() / f"{entry.name}{PRIOR_SUFFIX}"
    _install(path, target, force)
    return target


def _install(path: Path, target: Path, force: bool) -> None:
    """Copies a file into the user's folder, unless it is there already; the folder is made if need
    be.
    """
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"{target.parent}: cannot be created ({error.strerror})") from error
    with suppress(OSError):  # not there, or not to be read
        if target.read_bytes() == path.read_bytes():
            return
    _copy(path, target, force)


def _copy(path: Path, target: Path, force: bool) -> None:
    check_output(target, force=force, source=path)
    with path.open("rb") as original, AtomicFile(target, force=force) as copy:
        shutil.copyfileobj(original, copy)
