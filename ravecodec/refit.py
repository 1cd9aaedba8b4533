"""A predictor for a model that is finished: fitted to audio, put beside the weights, which stay as
they are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import chain
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ravecodec.audio import AudioInput, open_input
from ravecodec.effort import Analysis, effort_of
from ravecodec.errors import InputError
from ravecodec.files import AtomicFile, check_output
from ravecodec.models.package import Model, load_package, package_with
from ravecodec.tables import REFIT_OF, earlier_ids
from ravecodec.train.cache import scan
from ravecodec.train.finish import fit_prediction
from ravecodec.zoo import ModelEntry, find_model, read_entry

FRAMES = 20_000  # of the model, an hour of the shipped one
SHORTEST = 64  # frames that are taken of a file, if it has so many
FEWEST = 1_000  # frames below which a fit is not worth having
BLOCK = 1 << 16  # samples read at a time
PLACE = 0.4  # of a file, where its excerpt begins

Latents = NDArray[np.float32]  # [frames, latent]


def refit_model(
    model: str | Path | None,
    data: Path,
    target: Path,
    *,
    frames: int = FRAMES,
    force: bool = False,
    report: Callable[[str], None] = lambda text: None,
) -> ModelEntry:
    """Writes a copy of a model with a predictor fitted to the audio below the folder `data` (SPEC
    section 7.3).

    Streams of the copy take fewer bytes for the same symbols and sound. Its id is another; it
    decodes streams of the model as well, but the model does not decode those of the copy. About
    `frames` frames are looked at, as many of every file, from two fifths of it on. Files that
    cannot be read are reported and left out.

    Raises:
        InputError: no audio, or less than 1,000 frames of it. ModelError, OutputError.
    """
    check_output(target, force=force)
    entry = find_model(model)
    loaded = load_package(entry.path)
    runs = list(_runs(loaded, scan(data), frames, report))
    if (found := sum(map(len, runs))) < FEWEST:
        seconds = FEWEST * loaded.config.hop / loaded.config.sample_rate
        raise InputError(
            f"{data}: has audio for {found} frames of this model, expected {FEWEST} ({seconds:.0f} "
            "s) or more"
        )
    prediction = fit_prediction(loaded.latent, loaded.coding.base, runs)
    with AtomicFile(target, force=force) as file:
        file.write(
            package_with(
                entry.path, prediction, {REFIT_OF: [*earlier_ids(entry.info), entry.id.hex()]}
            )
        )
    return read_entry(target)


def _runs(
    model: Model, files: list[Path], frames: int, report: Callable[[str], None]
) -> Iterator[Latents]:
    """Latents of an excerpt of each file, as they are before quantisation."""
    share = max(SHORTEST, -(-frames // len(files)))
    seen = 0
    for number, path in enumerate(files, 1):
        if seen >= frames:
            return
        try:
            with open_input(path) as audio:
                run = excerpt_latents(model, audio, share)
        except InputError as error:
            report(f"left out: {error}")
            continue
        seen += len(run)
        report(f"file {number} of {len(files)}, {seen} frames")
        yield run


def excerpt_latents(model: Model, audio: AudioInput, frames: int) -> Latents:
    """Latents [frames, latent] of about so many frames of a file, from two fifths of it on, before
    quantisation.
    """
    wanted = int(frames * model.config.hop * audio.sample_rate / model.config.sample_rate)
    begin = int(PLACE * max(0, (audio.frames or 0) - wanted))
    analysis = Analysis(model, audio.sample_rate, 0, effort_of(model, None).corrections)
    parts = []
    position = 0
    for block in audio.blocks(BLOCK):
        piece = block[:, max(0, begin - position) : begin + wanted - position]
        position += block.shape[1]
        if piece.shape[1]:
            parts += [part.means[part.lead :] for part in analysis.process(piece)]
        if position >= begin + wanted:
            break
    return np.concatenate(
        list(chain(parts, (part.means[part.lead :] for part in analysis.flush())))
    )
