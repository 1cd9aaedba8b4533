"""The model of a call: found by name, path, id or in the stream, and loaded; or loaded already.

torch is imported by what loads.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ravecodec.bitstream import StreamInfo, StreamReader
from ravecodec.errors import UsageError
from ravecodec.point import Point
from ravecodec.zoo import Embedded, ModelEntry, find_model, model_for_stream, model_in

if TYPE_CHECKING:  # imports torch
    from ravecodec.models.package import Model


def load_model(
    model: str | Path | None = None, *, device: str = "auto", threads: int | None = None
) -> Model:
    """A model by name, path or id (None: the default one), ready to encode and decode any number of
    files.

    threads: for torch, in this whole process, at most one per core; None leaves it alone.
    ModelError if there is none or it is damaged. A process that is forked afterwards computes on
    one thread.
    """
    return load_entry(find_model(model), device, threads)


def load_entry(entry: ModelEntry | Embedded, device: str, threads: int | None) -> Model:
    """What `zoo` found, loaded as by `load_model`."""
    from ravecodec.device import choose_device, set_threads
    from ravecodec.models.package import load_decoder, load_package

    if threads is not None:
        set_threads(threads)
    if isinstance(entry, Embedded):
        return load_decoder(entry.header, choose_device(device))
    return replace(load_package(entry.path, choose_device(device)), name=entry.name)


def model_to_encode(
    model: str | Path | Model | None, point: Point, device: str, threads: int | None
) -> Model:
    """The loaded model, once `point` makes sense with it."""
    if not isinstance(model, str | Path | None):
        check_loaded(model)
        point.check(model.name, model.config.latent)
        return model
    entry = find_model(model)
    point.check(entry.name, entry.config.latent)
    return load_entry(entry, device, threads)


def model_of(
    info: StreamInfo,
    name: str,
    model: str | Path | Model | None = None,
    *,
    reader: StreamReader | None = None,
    device: str = "auto",
    threads: int | None = None,
) -> Model:
    """The loaded model of a stream or latents called `name`; ModelError if `model` is another
    one. reader: of the stream, which may bring its decoder along.
    """
    if isinstance(model, str | Path | None):
        entry = model_in(reader, model) if reader else model_for_stream(info, name, model)
        model = load_entry(entry, device, threads)
    check_loaded(model)
    from ravecodec.codec import check_model

    check_model(model, info, name)
    return model


def check_loaded(model: Any) -> None:
    """UsageError for what is no model that `load_model` made."""
    from ravecodec.models.package import Model

    if not isinstance(model, Model):
        found = type(model).__name__
        raise UsageError(
            f"model is of type {found}, expected a name, a path, an id or a loaded model"
        )
