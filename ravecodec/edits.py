"""What can be done to latents without a network: each function takes `Latents` and gives new ones.

`ravecodec edit` is a list of these. The model, the original rate, the channels, the step index and
the dims stay those of the first argument. Silent frames keep their values and stay silent, wherever
frames are not made of others. A frame is the smallest unit of time, except at the end, which is
exact to the sample.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ravecodec.bitstream import Limits, StreamReader
from ravecodec.bitstream.limits import MAX_SEED
from ravecodec.errors import ModelError, UsageError
from ravecodec.examine import StreamSummary, open_stream
from ravecodec.files import check_output, open_binary_output
from ravecodec.latents import Latents, Values, frames_of
from ravecodec.loading import model_of
from ravecodec.point import real, whole

ALL = "all"  # axes
NEAR = 1e-6  # frames or samples: a time so close to the next one is that one's

Axis = int | str  # its number from 0, or ALL
Edit = Callable[[Latents], Latents]


# ---- values --------------------------------------------------------------------------------------


def scale(latents: Latents, axis: Axis, factor: float) -> Latents:
    """Multiplies an axis; 0 holds it at the mean of what the model knows."""
    factor = _finite(factor, "the factor")
    return _on_axis(latents, axis, lambda values, first: values * factor)


def shift(latents: Latents, axis: Axis, value: float) -> Latents:
    """Adds to an axis."""
    value = _finite(value, "the shift")
    return _on_axis(latents, axis, lambda values, first: values + value)


def randomise(latents: Latents, axis: Axis, sigma: float, seed: int = 0) -> Latents:
    """Adds Gaussian noise of this standard deviation to an axis, a function of seed, frame and axis
    alone.
    """
    sigma = _finite(sigma, "sigma")
    if sigma < 0:
        raise UsageError(f"sigma is {sigma:g}, expected 0 or more")
    seed = whole(seed, "the seed")
    if not 0 <= seed <= MAX_SEED:
        raise UsageError(f"the seed is {seed}, expected 0 to {MAX_SEED}")
    columns = np.arange(latents.info.dims)[_columns(latents, axis)]
    return _on_axis(
        latents,
        axis,
        lambda values, first: values + sigma * _noise(seed, first, len(values), columns),
    )


def smooth(latents: Latents, seconds: float) -> Latents:
    """Averages every axis over a window of this length around each frame; a window within one frame
    changes nothing.

    At the ends, and beside silent frames, which take no part, the window is shorter.
    """
    seconds = _finite(seconds, "the time to smooth over")
    if seconds < 0:
        raise UsageError(f"the time to smooth over is {seconds:g} s, expected 0 or more")
    kernel = _window(min(seconds * latents.frame_rate, 2.0 * len(latents) + 3))
    lead = len(latents.lead)
    values = np.concatenate([latents.lead, latents.values]).astype(np.float64)
    weight = np.concatenate([np.ones(lead), np.where(latents.silent, 0.0, 1.0)])
    total = np.maximum(_convolved(weight, kernel), NEAR)
    means = np.stack([_convolved(column * weight, kernel) / total for column in values.T], axis=1)
    smoothed = np.where(weight[:, None] > 0, means, values)
    return replace(latents, values=smoothed[lead:], lead=smoothed[:lead])


def _window(width: float) -> NDArray[np.float64]:
    """Share of each frame in a window of `width` frames around the middle one; the sum is 1."""
    if width <= 1:
        return np.ones(1)
    half = math.ceil((width - 1) / 2)
    inside = np.clip(width / 2 + 0.5 - np.abs(np.arange(-half, half + 1)), 0, 1)
    return inside / inside.sum()


def _convolved(column: NDArray[np.float64], kernel: NDArray[np.float64]) -> NDArray[np.float64]:
    """Around each entry, zeros beyond the ends."""
    half = len(kernel) // 2
    return np.convolve(column, kernel)[half : half + len(column)]


def mix(latents: Latents, other: Latents, share: float) -> Latents:
    """A point on the way from these (share 0) to `other` (share 1), frame by frame.

    Beyond the end of `other` these go on alone; axes that it lacks are 0. Where either is silent,
    what sounds is mixed with the model's idea of silence.
    """
    share = _finite(share, "the share")
    if not 0 <= share <= 1:
        raise UsageError(f"the share is {share:g}, expected 0 to 1")
    _check_latents(other)
    frames = min(len(latents), len(other))
    values, silent, lead = latents.values.copy(), latents.silent.copy(), latents.lead
    values[:frames] = _between(
        values[:frames], _fitted(latents, other, other.values[:frames]), share
    )
    mine, theirs = silent[:frames], other.silent[:frames]
    silent[:frames] = (mine | (share == 1)) & (theirs | (share == 0))
    if len(lead) and len(other.lead):
        lead = _between(lead, _fitted(latents, other, other.lead), share).astype(np.float32)
    return replace(latents, values=values, silent=silent, lead=lead, chunks=None)


def _between(one: Values, other: Values, share: float) -> NDArray[np.float64]:
    return (1 - share) * one.astype(np.float64) + share * other.astype(np.float64)


# ---- time ----------------------------------------------------------------------------------------


def crop(latents: Latents, start: float = 0.0, end: float | None = None) -> Latents:
    """What lies between two times in seconds; `start` is taken back to the beginning of its
    frame.
    """
    info, start = latents.info, _finite(start, "the start")
    last = (
        latents.samples
        if end is None
        else math.floor(_finite(end, "the end") * info.sample_rate + NEAR)
    )
    last = min(last, latents.samples)
    first = math.floor(start * latents.frame_rate + NEAR)
    dropped = info.samples(first)
    if first < 0 or last <= dropped:
        found = f"{start:g} s to {'the end' if end is None else f'{end:g} s'}"
        raise UsageError(f"nothing lies between {found}; the latents last {latents.duration:g} s")
    frames = slice(first, frames_of(info, last))
    before = latents.lead if first == 0 else latents.values[first - 1 : first]
    lead = before if not latents.silent[first] else before[:0]
    return _timed(latents, latents.values[frames], latents.silent[frames], last - dropped, lead)


def reverse(latents: Latents) -> Latents:
    """The last frame first. The length stays, so where it is no whole number of frames, the sound
    of the first frame is cut at the end."""
    return _timed(
        latents, latents.values[::-1], latents.silent[::-1], latents.samples, latents.lead[:0]
    )


def stretch(latents: Latents, factor: float) -> Latents:
    """`factor` times as long at the same pitch: new frames are interpolated between the two
    nearest.
    """
    factor = _finite(factor, "the factor of time")
    if factor <= 0:
        raise UsageError(f"the factor of time is {factor:g}, expected more than 0")
    if latents.duration * factor > Limits().seconds:
        found = f"{latents.duration * factor:g} s"
        raise UsageError(f"the result would last {found}, expected at most {Limits().seconds:g} s")
    if not len(latents):
        return latents
    samples = max(1, round(latents.samples * factor))
    known = np.concatenate([latents.lead, latents.values]).astype(np.float64)
    lead = len(latents.lead)
    centres = np.arange(-lead, frames_of(latents.info, samples)) + 0.5
    places = np.clip(centres / factor - 0.5, -lead, len(latents) - 1) + lead
    lower = np.floor(places).astype(int)
    upper = np.minimum(lower + 1, len(known) - 1)
    share = (places - lower)[:, None]
    values = (1 - share) * known[lower] + share * known[upper]
    nearest = np.clip(np.rint(places[lead:]).astype(int) - lead, 0, None)
    return _timed(latents, values[lead:], latents.silent[nearest], samples, values[:lead])


def concat(latents: Latents, other: Latents) -> Latents:
    """These, to the end of their last frame, then `other`; axes that it lacks are 0."""
    _check_latents(other)
    values = np.concatenate([latents.values, _fitted(latents, other, other.values)])
    silent = np.concatenate([latents.silent, other.silent])
    info = latents.info
    added = -(-other.samples * info.sample_rate // other.sample_rate)
    lead = latents.lead if len(latents) else _fitted(latents, other, other.lead)
    return _timed(latents, values, silent, info.samples(len(latents)) + added, lead)


def _timed(
    latents: Latents,
    values: NDArray[np.floating],
    silent: NDArray[np.bool_],
    samples: int,
    lead: NDArray[np.floating],
) -> Latents:
    """Other frames with their length, which is brought within what they can last: rounding may miss
    by a sample.
    """
    info, frames = latents.info, len(values)
    least = info.samples(frames - 1) + 1 if frames else 0
    samples = min(max(samples, least), max(least, info.samples(frames)))
    return replace(latents, values=values, silent=silent, samples=samples, lead=lead, chunks=None)


# ---- helpers -------------------------------------------------------------------------------------


def _on_axis(
    latents: Latents, axis: Axis, change: Callable[[NDArray[np.float64], int], NDArray[np.float64]]
) -> Latents:
    """`change` is given the values [frames, axes] of frames that are not silent, and the number of
    their first one.
    """
    columns = _columns(latents, axis)
    values, lead = latents.values.astype(np.float64), latents.lead.astype(np.float64)
    changed = change(values[:, columns], 0)
    values[:, columns] = np.where(latents.silent[:, None], values[:, columns], changed)
    lead[:, columns] = change(lead[:, columns], -len(lead))
    return replace(latents, values=values, lead=lead)  # type: ignore[arg-type]  # float64 until it is checked


def _columns(latents: Latents, axis: Axis) -> slice:
    dims = latents.info.dims
    if axis == ALL:
        return slice(0, dims)
    if isinstance(axis, str) or not 0 <= (axis := whole(axis, "axis")) < dims:
        raise UsageError(f"axis is {axis}, these latents have 0 to {dims - 1}, or {ALL}")
    return slice(axis, axis + 1)


def _noise(seed: int, first: int, frames: int, columns: NDArray[np.intp]) -> NDArray[np.float64]:
    """Standard normal [frames, columns]."""
    import torch

    from ravecodec.models import noise

    position, lane = first + torch.arange(frames)[:, None], torch.from_numpy(columns)[None]
    return noise.normal(torch.tensor(seed), noise.EDIT_STREAM, position, lane).double().numpy()


def _fitted(latents: Latents, other: Latents, values: Values) -> Values:
    """Values of `other` [frames, dims] with the dims of `latents`; ModelError if they are another
    model's.
    """
    if (found := other.model_id) != latents.model_id:
        expected = f"expected {latents.model_id.hex()}, as the first ones"
        raise ModelError(f"the other latents are of model {found.hex()}, {expected}")
    missing = max(0, latents.info.dims - values.shape[1])
    return np.pad(values, ((0, 0), (0, missing)))[:, : latents.info.dims]


def _check_latents(other: object) -> None:
    if not isinstance(other, Latents):
        raise UsageError(f"the other latents are of type {type(other).__name__}, expected Latents")


def _finite(value: float, what: str) -> float:
    value = real(value, what)
    if not math.isfinite(value):
        raise UsageError(f"{what} is {value}, expected a finite number")
    return value


# ---- files ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class EditSummary:
    """What `edit_file` did.

    before: seconds of the source; stream: what was written; model: its name.
    """

    source: str
    target: str
    model: str
    before: float
    stream: StreamSummary


@dataclass(frozen=True)
class WithOther:
    """An edit that takes the latents of a second stream, which has to be read first."""

    path: str
    edit: Callable[[Latents, Latents], Latents]


def edit_file(
    source: str | Path,
    target: str | Path,
    edits: Iterable[Edit | WithOther],
    *,
    force: bool = False,
    device: str = "auto",
    threads: int | None = None,
) -> EditSummary:
    """.rvc file (or `-`) -> .rvc file (or `-`): edits in this order, from the exact symbols to a
    stream of the same header. No edits give the same stream.

    Raises:
        UsageError, InputError, FormatError, CorruptError, TruncatedError, ModelError, OutputError.
    """
    check_output(target, force=force, source=source)
    with open_stream(source) as file:
        reader = StreamReader(file)
        model = model_of(reader.info, reader.name, reader=reader, device=device, threads=threads)
        latents = Latents.read(reader, model)
    before = latents.duration
    for edit in edits:
        if isinstance(edit, WithOther):
            latents = edit.edit(latents, Latents.from_stream(edit.path, model))
        else:
            latents = edit(latents)
    with open_binary_output(target, force=force) as out:
        stream = latents.write(out, model, reader.model)
    return EditSummary(str(source), str(target), model.name, before, stream)
