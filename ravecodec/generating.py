"""New sound from a model and its prior: `generate`, and `generate_file`.

    latents = generate("default", 20, seed=1)        audio, rate = latents.synthesise()

The prior (`models/prior.py`) draws frame after frame on the grid of the model's symbols; what comes
of it are `Latents` like any other, so the sound is the decoder's, and a stream made of them is a
stream that any decoder plays. torch is loaded by what needs a model.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ravecodec.audio import open_output
from ravecodec.bitstream.container import MAGIC
from ravecodec.bitstream.limits import MAX_CHUNK_FRAMES, MAX_SYMBOL
from ravecodec.encoding import header_for
from ravecodec.errors import ModelError, UsageError
from ravecodec.files import check_output, check_source, open_binary_output, target_name
from ravecodec.latents import Latents, Values, analyse_file, frames_of
from ravecodec.loading import load_model, model_of, model_to_encode
from ravecodec.point import Point, real
from ravecodec.tables import plays
from ravecodec.zoo import ModelEntry, find_model, find_prior, installed

if TYPE_CHECKING:  # these import torch
    from ravecodec.models.package import Model
    from ravecodec.models.prior import LoadedPrior
    from ravecodec.quantize import Quantizer

WINDOW = 20.0  # seconds at the end of other sound that a prior listens to, as long as its crops
MOST_SECONDS = 86_400.0
HOTTEST = 4.0  # temperature; from 2 on there is little but noise

Source = Latents | str | Path  # latents, or a file of a stream or of audio


@dataclass(frozen=True)
class GenerateSummary:
    """What `generate_file` did. duration: seconds of all that was written; prompt_seconds: seconds
    of it, at its front, that are those of `continue_from`; seconds: wall clock, loading included.
    """

    target: str
    model: str
    prior: str
    duration: float
    prompt_seconds: float
    sample_rate: int
    channels: int
    seed: int
    temperature: float
    seconds: float


def generate(
    model: str | Path | Model | None = None,
    seconds: float = 20.0,
    *,
    seed: int = 0,
    temperature: float = 1.0,
    continue_from: Source | None = None,
    like: Source | None = None,
    prior: str | Path | None = None,
    device: str = "auto",
) -> Latents:
    """New sound of a model, as the `Latents` that its prior draws.

    seconds: how much of it. seed: of chance; with the same model, prior, seed and prompt (one of
    the next two), the same machine makes the same latents, and more seconds only add to them.
    temperature: times the deviation from what is most expected, 0 to 4. continue_from: a piece that
    stands at the front of the result, to the end of its last frame, in its own rate and channels,
    and which the new sound continues. like: a piece whose last 20 s are listened to first, and
    which the result does not hold. prior: a file; by default the one beside the model, or the
    installed one that is for it.

    Raises:
        UsageError: an impossible value. ModelError: no model, no prior, or one for another model.
        InputError, FormatError, CorruptError, TruncatedError: of the prompt.
    """
    seconds, temperature = _checked(seconds, temperature, continue_from, like)
    loaded = model_to_encode(model, Point(), device, None)
    speaker = _prior_of(loaded, model, prior)
    return _Generator(loaded, speaker).make(seconds, seed, temperature, continue_from, like)


def generate_file(
    target: str | Path,
    *,
    model: str | Path | None = None,
    seconds: float = 20.0,
    seed: int = 0,
    temperature: float = 1.0,
    continue_from: str | Path | None = None,
    like: str | Path | None = None,
    prior: str | Path | None = None,
    audible: bool = True,
    subtype: str | None = None,
    force: bool = False,
    device: str = "auto",
    threads: int | None = None,
) -> GenerateSummary:
    """The same into a file: audio by its extension (`audible`), or a stream.

    Options as for `generate`, and as for `decode_file`.
    """
    began = time.perf_counter()
    seconds, temperature = _checked(seconds, temperature, continue_from, like)
    for source in (continue_from, like):
        if source is not None:
            check_source(source)
    check_output(target, force=force, source=continue_from if like is None else like)
    opening = partial(open_output, target, subtype=subtype, force=force)
    if audible:
        opening(rate=48_000, channels=1)  # checks the extension
    entry = find_model(model)
    header = find_prior(entry, None if prior is None else Path(prior))
    loaded = load_model(entry.path, device=device, threads=threads)
    speaker = _load_prior(header.path)
    generator = _Generator(loaded, speaker)
    latents = generator.make(seconds, seed, temperature, continue_from, like)
    if audible:
        rate, channels, total = latents.sample_rate, latents.channels, latents.samples
        with opening(rate=rate, channels=channels, total=total) as sink:
            for block in latents.audio(loaded):
                sink.write(block)
    else:
        with open_binary_output(target, force=force) as file:
            latents.write(file, loaded)
    return GenerateSummary(
        target=target_name(target),
        model=loaded.name,
        prior=str(header.path),
        duration=latents.duration,
        prompt_seconds=generator.kept,
        sample_rate=latents.sample_rate,
        channels=latents.channels,
        seed=latents.info.seed,
        temperature=temperature,
        seconds=time.perf_counter() - began,
    )


def _checked(
    seconds: float, temperature: float, continue_from: Any, like: Any
) -> tuple[float, float]:
    """The numbers as floats; UsageError for what a call cannot mean."""
    seconds, temperature = real(seconds, "seconds"), real(temperature, "the temperature")
    if not 0 < seconds <= MOST_SECONDS:
        raise UsageError(f"seconds is {seconds:g}, expected more than 0, {MOST_SECONDS:g} at most")
    if not 0 <= temperature <= HOTTEST:
        raise UsageError(f"the temperature is {temperature:g}, expected 0 to {HOTTEST:g}")
    if continue_from is not None and like is not None:
        raise UsageError("continue-from and like are both given; expected one of them")
    return seconds, temperature


def _prior_of(loaded: Model, model: Any, wanted: str | Path | None) -> LoadedPrior:
    """The prior of a model that was named or loaded."""
    if wanted is not None:
        speaker = _load_prior(Path(wanted))
        model_id = speaker.header.model_id
        if not plays(loaded.id, loaded.info, model_id):
            raise ModelError(
                f"{wanted}: is a prior for model {model_id.hex()}, expected one for "
                f"{loaded.name} ({loaded.id.hex()})"
            )
        return speaker
    entry: ModelEntry | None
    named = isinstance(model, str | Path | None)
    entry = find_model(model) if named else installed(loaded.id)
    if entry is None:
        raise ModelError(
            f"model {loaded.name} ({loaded.id.hex()}) is not installed, so its prior cannot be "
            "looked for; expected the file as prior"
        )
    return _load_prior(find_prior(entry).path)


def _load_prior(path: Path) -> LoadedPrior:
    from ravecodec.models.prior import load_prior

    return load_prior(path)


class _Generator:
    """A model and its prior at work. kept: seconds of another piece at the front of the result."""

    def __init__(self, model: Model, prior: LoadedPrior) -> None:
        from ravecodec.quantize import Quantizer

        self.model, self.prior, self.kept = model, prior, 0.0
        config = prior.header.config
        if config.dims > model.config.latent:
            raise ModelError(
                f"{prior.header.path}: is a prior of {config.dims} axes, but model {model.name} "
                f"has {model.config.latent}"
            )
        self.quantizer: Quantizer = Quantizer(
            model.latent, model.coding, config.dims, config.step_index, model.coding.fill
        )

    def make(
        self,
        seconds: float,
        seed: int,
        temperature: float,
        continue_from: Source | None,
        like: Source | None,
    ) -> Latents:
        """See `generate`."""
        point = Point(dims=self.quantizer.dims, step_index=None)
        info = header_for(self.model, *self._form(), point, seed)
        info = replace(info, step_index=self.quantizer.step_index)
        if continue_from is not None:
            return self._continued(self._latents(continue_from), seconds, info.seed, temperature)
        prompt = None if like is None else self._latents(like)
        samples = max(1, round(seconds * info.sample_rate))
        frames = frames_of(info, samples)
        drawn = self._drawn(prompt, 1 + frames, info.seed, temperature)
        return Latents(drawn[1:], samples, info, lead=drawn[:1])

    def _form(self) -> tuple[int, int]:
        """Rate and channels of the model."""
        return self.model.config.sample_rate, self.model.config.channels

    def _latents(self, source: Source) -> Latents:
        """The prompt's latents; ModelError if they are another model's."""
        if isinstance(source, Latents):
            model_of(source.info, "latents", self.model)
            return source
        if _is_stream(source):
            return Latents.from_stream(source, self.model)
        return analyse_file(source, self.model)

    def _continued(self, prompt: Latents, seconds: float, seed: int, temperature: float) -> Latents:
        """A piece to the end of its last frame, and new sound behind it, on the axes of the
        piece."""
        info = replace(prompt.info, seed=seed)
        frames = max(1, frames_of(info, round(seconds * info.sample_rate)))
        drawn = self._drawn(prompt, frames, seed, temperature)
        fitted = np.pad(drawn, ((0, 0), (0, max(0, info.dims - drawn.shape[1]))))[:, : info.dims]
        self.kept = info.samples(len(prompt)) / info.sample_rate
        return Latents(
            values=np.concatenate([prompt.values, fitted]),
            samples=info.samples(len(prompt) + frames),
            info=info,
            silent=np.concatenate([prompt.silent, np.zeros(frames, np.bool_)]),
            lead=prompt.lead,
            chunks=self._chunks(prompt, frames),
            meta=prompt.meta,
        )

    def _chunks(self, prompt: Latents, frames: int) -> NDArray[np.int32] | None:
        """How the stream is divided: a stream's chunks stay, and new ones are on the prior's
        grid."""
        if prompt.chunks is None:
            return None
        dims = min(prompt.info.dims, self.quantizer.dims)
        size = min(MAX_CHUNK_FRAMES, max(1, round(WINDOW / 2 * prompt.frame_rate)))
        rows = [
            (min(size, frames - first), self.quantizer.step_index, dims)
            for first in range(0, frames, size)
        ]
        return np.concatenate([prompt.chunks, np.array(rows, np.int32)])

    def _drawn(self, prompt: Latents | None, frames: int, seed: int, temperature: float) -> Values:
        """New frames, float32 [frames, dims of the prior], after a prompt."""
        import torch

        network = self.prior.network
        memory = network.listen(torch.from_numpy(self._symbols(prompt)))
        symbols = np.zeros((frames, self.quantizer.dims), np.int32)
        for position in range(frames):
            drawn, memory = network.draw(memory, seed, position, temperature)
            if not drawn.isfinite().all():
                raise ModelError(f"{self.prior.header.path}: draws NaN; the prior is damaged")
            symbols[position] = drawn.clamp(-MAX_SYMBOL, MAX_SYMBOL).int().numpy()
        values: Values = self.quantizer.values(symbols).astype(np.float32)
        return values

    def _symbols(self, prompt: Latents | None) -> NDArray[np.int32]:
        """The last WINDOW of a piece on the prior's grid; axes that it lacks are 0."""
        dims = self.quantizer.dims
        if prompt is None:
            return np.zeros((0, dims), np.int32)
        values = prompt.values[-max(1, round(WINDOW * prompt.frame_rate)) :, :dims]
        filled = np.pad(values, ((0, 0), (0, dims - values.shape[1])))
        return self.quantizer.rounded(filled.astype(np.float64))


def _is_stream(source: str | Path) -> bool:
    """Whether a file begins like an .rvc stream."""
    try:
        with Path(source).open("rb") as file:
            return file.read(len(MAGIC)) == MAGIC
    except (OSError, ValueError):
        return False  # who opens it will say
