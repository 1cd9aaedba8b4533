"""Latents for the training of a prior: an excerpt of every file of a folder, kept in a cache.

Each file's latents are one .npz file, which appears whole or not at all and whose name is a hash of
all that it follows from, so an analysis that was stopped goes on where it was, and a file that has
changed is analysed anew.
"""

from __future__ import annotations

import hashlib
import io
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ravecodec.audio import open_input
from ravecodec.errors import InputError
from ravecodec.files import make_folder, write_file
from ravecodec.models.package import Model
from ravecodec.refit import excerpt_latents
from ravecodec.train.cache import scan

HELD_SHARE = 0.1  # of the files, or of the time of few files
FEW = 10  # files; of fewer, the end of each is held out instead of whole files
SHORTEST = 64  # frames that are taken of a file, if it has so many
PRECISION = np.float16  # of a cache; an axis value has a spread of about 1

Values = NDArray[np.float32]  # [frames, latent]
Report = Callable[[str], None]


@dataclass(frozen=True, eq=False)
class Piece:
    """Successive frames of one file. path: within its folder; values: axis vectors float32 [frames,
    latent]."""

    path: str
    values: Values


def collect(
    model: Model,
    data: Path,
    cache: Path,
    frames: int,
    report: Report,
    *,
    ignore_length: bool = False,
) -> list[Piece]:
    """An excerpt of each audio file below `data`, `frames` frames in all, as many of every file.

    Files that cannot be read are reported and left out. InputError if none can be read.
    ignore_length: take what is there of a file that is truncated (see `open_input`).
    """
    files = scan(data)
    make_folder(cache)
    share = max(SHORTEST, -(-frames // len(files)))
    pieces: list[Piece] = []
    for number, path in enumerate(files, 1):
        name = path.relative_to(data).as_posix()
        try:
            kept = cache / _file_name(model, path, name, share)
            values = _read(kept)
            if values is None:
                values = _analysed(model, path, share, ignore_length)
                _keep(kept, values)
                report(f"latents of file {number} of {len(files)}: {name}")
        except InputError as error:
            report(f"left out: {error}")
            continue
        pieces.append(Piece(name, values))
    if not sum(len(piece.values) for piece in pieces):
        raise InputError(f"{data}: none of {len(files)} audio files holds readable sound")
    return pieces


def _file_name(model: Model, path: Path, name: str, frames: int) -> str:
    """The name of the cached latents: a hash of what they follow from."""
    status = path.stat()
    source = (model.digest.hex(), name, status.st_size, status.st_mtime_ns, frames)
    return hashlib.sha256(repr(source).encode()).hexdigest()[:32] + ".npz"


def _analysed(model: Model, path: Path, frames: int, ignore_length: bool) -> Values:
    with open_input(path, ignore_length=ignore_length) as audio:
        means = excerpt_latents(model, audio, frames)
    values: Values = model.latent.project(means).astype(PRECISION).astype(np.float32)
    return values  # as they are when they are read again


def _keep(path: Path, values: Values) -> None:
    buffer = io.BytesIO()
    np.savez(buffer, values=values.astype(PRECISION))
    write_file(path, buffer.getvalue())


def _read(path: Path) -> Values | None:
    """Cached latents; None if there are none, or they are damaged."""
    try:
        with np.load(path, allow_pickle=False) as arrays:
            values: Values = arrays["values"].astype(np.float32)
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return None
    return values


def split_pieces(pieces: Sequence[Piece]) -> tuple[list[Piece], list[Piece]]:
    """(training, held out): whole files, chosen by a hash of their names as `data.split` chooses
    them; of fewer than FEW files, the end of each."""
    pieces = [piece for piece in pieces if len(piece.values)]
    if len(pieces) < FEW:
        before, behind = [], []
        for piece in pieces:
            cut = len(piece.values) - round(len(piece.values) * HELD_SHARE)
            before.append(Piece(piece.path, piece.values[:cut]))
            behind.append(Piece(piece.path, piece.values[cut:]))
        return before, behind
    ranked = sorted(pieces, key=_rank)
    held = round(len(ranked) * HELD_SHARE)
    return ranked[held:], ranked[:held]


def _rank(piece: Piece) -> bytes:
    return hashlib.sha256(piece.path.encode(errors="surrogateescape")).digest()
