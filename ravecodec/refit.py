"""A predictor and qualities for a model that is finished: fitted to audio, put beside the weights,
which stay as they are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import chain
from pathlib import Path

import numpy as np

from ravecodec.analysis import Latents
from ravecodec.audio import Audio, AudioInput, open_input
from ravecodec.curve import EXCERPT_SECONDS, EXCERPTS, STEPS, Piece, measured_ladder, piece_of
from ravecodec.effort import Analysis, effort_of
from ravecodec.errors import InputError
from ravecodec.files import AtomicFile, check_output
from ravecodec.models.package import Model, load_package, package_with
from ravecodec.tables import REFIT_OF, SAME_AS, earlier_ids, same_ids
from ravecodec.train.cache import scan
from ravecodec.train.finish import fit_prediction
from ravecodec.zoo import ModelEntry, find_model, read_entry

FRAMES = 20_000  # of the model, an hour of the shipped one
SHORTEST = 64  # frames that are taken of a file, if it has so many
BLOCK = 1 << 16  # samples read at a time
PLACE = 0.4  # of a file, where its excerpt begins


def refit_model(
    model: str | Path | None,
    data: Path,
    target: Path,
    *,
    frames: int = FRAMES,
    fewest: int = 1_000,
    steps: Sequence[int] = STEPS,
    curve: bool = False,
    force: bool = False,
    report: Callable[[str], None] = lambda text: None,
) -> ModelEntry:
    """Writes a copy of a model with a predictor (SPEC section 7.3) and a curve of rate and quality,
    of which its qualities are made, from the audio below the folder `data`.

    Streams of the copy take fewer bytes for the same symbols and sound. Its id is another; it
    decodes streams of the model as well, but the model does not decode those of the copy. About
    `frames` frames are looked at for the predictor, as many of every file, from two fifths of it
    on, and a few seconds of some files for the curve. Files that cannot be read are reported and
    left out. fewest: frames below which a predictor is not worth having. steps: of the curve, see
    `measured_points`. curve: add that alone, and leave the predictor as it is, or not there.

    Raises:
        InputError: no audio, or less than `fewest` frames of it. ModelError, OutputError.
    """
    check_output(target, force=force)
    entry = find_model(model)
    loaded = load_package(entry.path)
    files = scan(data)
    prediction = None
    if not curve:
        runs = list(_runs(loaded, files, frames, report))
        _check_frames(loaded, data, sum(map(len, runs)), fewest)
        prediction = fit_prediction(loaded.latent, loaded.coding.base, runs)
    fitted = loaded
    if prediction:
        fitted = replace(loaded, coding=replace(loaded.coding, prediction=prediction))
    ladder = measured_ladder(fitted, _pieces(fitted, data, files, report), report, steps)
    info = {SAME_AS: [*same_ids(entry.info), entry.id.hex()]}
    if prediction:
        info = {REFIT_OF: [*earlier_ids(entry.info), entry.id.hex()], SAME_AS: []}
    with AtomicFile(target, force=force) as file:
        file.write(package_with(entry.path, info, prediction=prediction, ladder=ladder))
    return read_entry(target)


def _check_frames(model: Model, data: Path, frames: int, fewest: int) -> None:
    """InputError unless the audio of `data` is enough to fit a predictor to."""
    if frames < fewest:
        seconds = fewest * model.config.hop / model.config.sample_rate
        raise InputError(
            f"{data}: has audio for {frames} frames of this model, expected {fewest} "
            f"({seconds:.0f} s) or more"
        )


def _pieces(
    model: Model, data: Path, files: list[Path], report: Callable[[str], None]
) -> list[Piece]:
    """Excerpts of up to EXCERPTS files, which lie as far from each other as they can."""
    pieces = []
    for at in dict.fromkeys(np.linspace(0, len(files) - 1, EXCERPTS).round().astype(int).tolist()):
        try:
            with open_input(files[at]) as audio:
                blocks = excerpt_blocks(audio, EXCERPT_SECONDS)
                piece = piece_of(model, blocks, audio.sample_rate)
        except InputError as error:
            report(f"left out: {error}")
            continue
        if len(piece.latents):
            pieces.append(piece)
    if not pieces:
        raise InputError(f"{data}: has no audio that can be read, expected some to measure with")
    return pieces


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
    analysis = Analysis(model, audio.sample_rate, 0, effort_of(model, None).corrections)
    blocks = excerpt_blocks(audio, frames * model.config.hop / model.config.sample_rate)
    analysed = (part for block in blocks for part in analysis.process(block))
    parts = chain(analysed, analysis.flush())
    return np.concatenate([part.means[part.lead :] for part in parts])


def excerpt_blocks(audio: AudioInput, seconds: float) -> Iterator[Audio]:
    """So much of a file, from two fifths of it on: float32 [channels, n], block by block."""
    wanted = int(seconds * audio.sample_rate)
    begin = int(PLACE * max(0, (audio.frames or 0) - wanted))
    position = 0
    for block in audio.blocks(BLOCK):
        piece = block[:, max(0, begin - position) : max(0, begin + wanted - position)]
        position += block.shape[1]
        if piece.shape[1]:
            yield piece
        if position >= begin + wanted:
            return
