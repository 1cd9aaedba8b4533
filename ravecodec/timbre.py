"""Timbre transfer (RAVE, section 5.4): any audio through a model of another sound.

    done = transfer(audio, 44100, "strings")
    transfer_file("song.flac", "song.wav", model="strings")

Audio is analysed, its latents are not quantised but decoded as they are, and the result follows the
loudness of the input. These are the classes behind `encode` and `decode`; what is of the model's
own sound, and what of the input's, is decided by how many axes are kept. Memory does not grow with
length. torch is loaded by what needs a model.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ravecodec.arrays import as_audio, as_numpy
from ravecodec.audio import Audio, open_input, open_output
from ravecodec.bitstream import StreamInfo
from ravecodec.bitstream.container import MAGIC
from ravecodec.encoding import BLOCK, Report, header_for, no_report
from ravecodec.errors import InputError
from ravecodec.examine import is_regular
from ravecodec.files import check_output, check_source, source_name, target_name
from ravecodec.loading import model_to_encode
from ravecodec.loudness import Follower
from ravecodec.pitch import PitchShift, check_pitch
from ravecodec.point import Point, real, whole

if TYPE_CHECKING:  # these import torch
    from ravecodec.analysis import Analysed
    from ravecodec.models.package import Model

FAR = 0.2  # share of frames outside from which on a warning is due
ENOUGH = 10  # frames that a share can be told of


@dataclass(frozen=True)
class Known:
    """How much of an input a model knows.

    frames: of the input that sound. outside: of these, how many have latents that lie outside of
    where 99 in 100 frames of the training audio lie (`LatentSpace.unusual`).
    """

    frames: int
    outside: int

    @property
    def share(self) -> float:
        """Of frames outside; 0.01 for the audio that the model was trained on, 0 where nothing
        sounds.
        """
        return self.outside / self.frames if self.frames else 0.0

    @property
    def far(self) -> bool:
        """Whether the input lies far from what the model knows."""
        return self.frames >= ENOUGH and self.share >= FAR


class Transferred(NamedTuple):
    """What `transfer` returns. audio: float32 [channels, n]; rate: Hz; known: see `Known`."""

    audio: Audio
    rate: int
    known: Known


@dataclass(frozen=True)
class TransferSummary:
    """What `transfer_file` did.

    samples (per channel), container, subtype: of the output. clipped: samples beyond full scale,
    over all channels. dims: axes kept. pitch: semitones. frames, outside: see `Known`; far: whether
    a warning is due, which is in `remarks`. seconds: wall clock, loading included; speed: times
    real time.
    """

    source: str
    target: str
    model: str
    sample_rate: int
    channels: int
    samples: int
    container: str
    subtype: str
    clipped: int
    dims: int
    pitch: float
    frames: int
    outside: float
    far: bool
    seconds: float
    speed: float
    remarks: tuple[str, ...] = ()


class Transfer:
    """Audio in pieces of any length -> the same length in the sound of a model, in pieces, with a
    loaded model.

    `process` feeds float32 [channels, n] at `info.sample_rate`, `flush` ends it. info: dims, seed
    and noise fill are those of the decoding. pitch: semitones that the input is shifted by before
    the analysis. loudness: the output follows the input's, K-weighted, second by second.
    """

    def __init__(
        self, model: Model, info: StreamInfo, *, pitch: float = 0.0, loudness: bool = True
    ) -> None:
        from ravecodec.codec import Decoder
        from ravecodec.effort import Analysis, effort_of
        from ravecodec.quantize import quantizer_of

        self._model, self._seed = model, info.seed
        self._pitch = PitchShift(info.sample_rate, info.channels, pitch)
        self._analysis = Analysis(
            model, info.sample_rate, info.seed, effort_of(model, None).corrections
        )
        self._quantizer = quantizer_of(model, info)
        self._decoder = Decoder(model, info)
        self._follower = Follower(info.sample_rate, info.channels) if loudness else None
        self._position = 0  # of the next frame; the lead-in is none
        self._frames = self._outside = 0

    @property
    def known(self) -> Known:
        """How much of the input the model knows, as far as it was analysed."""
        return Known(self._frames, self._outside)

    def process(self, audio: Audio) -> Iterator[Audio]:
        """Feed float32 [channels, n]; yields what is ready.

        InputError if the model makes NaN or infinity of it.
        """
        if self._follower:
            self._follower.follow(audio)
        for shifted in self._pitch.process(audio):
            yield from self._followed(self._decoded(self._analysis.process(shifted)))

    def flush(self) -> Iterator[Audio]:
        """Ends the audio: yields the rest. Nothing may be processed afterwards."""
        for shifted in self._pitch.flush():
            yield from self._followed(self._decoded(self._analysis.process(shifted)))
        yield from self._followed(self._decoded(self._analysis.flush()))
        yield from self._followed(self._decoder.flush(self._analysis.samples))
        if self._follower:
            yield from self._follower.flush()

    def _decoded(self, parts: Iterable[Analysed]) -> Iterator[Audio]:
        """The sound of latents as they are, on the axes that are kept."""
        for part in parts:
            axes = self._quantizer.axes(part.means)
            self._count(part)
            latents = self._quantizer.filled(axes, self._position - part.lead, self._seed)
            if part.lead:
                self._decoder.lead_in_latents(latents[:1])
            silent = part.silent[part.lead :]
            for first, last in _runs(silent):
                run = latents[part.lead :][first:last]
                yield from self._decoder.process_latents(run, bool(silent[first]))
            self._position += len(silent)

    def _count(self, part: Analysed) -> None:
        """Takes down how far from the training audio the frames lie that sound."""
        space, sounding = self._model.latent, part.means[part.lead :][~part.silent[part.lead :]]
        self._frames += len(sounding)
        self._outside += int(
            np.count_nonzero(space.unusual(space.project(sounding.astype(np.float64))))
        )

    def _followed(self, blocks: Iterable[Audio]) -> Iterator[Audio]:
        for block in blocks:
            if not np.isfinite(block).all():
                raise InputError("the model makes NaN or infinity of this sound, expected audio")
            if self._follower:
                yield from self._follower.process(block)
            elif block.shape[1]:
                yield block


def _runs(flags: NDArray[np.bool_]) -> Iterator[tuple[int, int]]:
    """First and last + 1 of every stretch of equal flags."""
    borders = np.flatnonzero(flags[1:] != flags[:-1]) + 1
    yield from pairwise([0, *(int(border) for border in borders), len(flags)])


# ---- in memory -----------------------------------------------------------------------------------


def transfer(
    audio: ArrayLike,
    sample_rate: int,
    model: str | Path | Model | None = None,
    *,
    fidelity: float | None = None,
    dims: int | None = None,
    point: Point | None = None,
    pitch: float = 0.0,
    loudness: bool = True,
    seed: int = 0,
    full_scale: float = 1.0,
    device: str = "auto",
) -> Transferred:
    """Audio float [channels, n] or [n], array or tensor, full scale +-1 -> the same in the sound of
    a model.

    model: name, path, id or a loaded one. fidelity or dims: how many axes are kept, by default as
    many as the model sends; the others are filled with noise of the prior, as in the paper. Fewer:
    more of the model's own sound, and less of the input. point: in place of these two, the fields
    that it may set. pitch: semitones that the input is shifted by first, up to 24 either way.
    loudness: the output follows the input's. seed: of the noise.

    Raises:
        InputError, UsageError, ModelError, as `encode`.
    """
    sample_rate = whole(sample_rate, "the rate")
    samples = as_audio(as_numpy(audio), sample_rate, full_scale)
    point = Point.of(point, fidelity=fidelity, dims=dims)
    pitch = real(pitch, "pitch")
    check_pitch(pitch)
    loaded = model_to_encode(model, point, device, None)
    info = header_for(loaded, sample_rate, len(samples), point, seed)
    running = Transfer(loaded, info, pitch=pitch, loudness=loudness)
    blocks = [np.zeros((len(samples), 0), np.float32)]
    for start in range(0, samples.shape[1], BLOCK):
        blocks += running.process(samples[:, start : start + BLOCK])
    blocks += running.flush()
    return Transferred(np.concatenate(blocks, axis=1), sample_rate, running.known)


# ---- files ---------------------------------------------------------------------------------------


def transfer_file(
    source: str | Path,
    target: str | Path,
    *,
    model: str | Path | Model | None = None,
    fidelity: float | None = None,
    dims: int | None = None,
    point: Point | None = None,
    pitch: float = 0.0,
    loudness: bool = True,
    seed: int = 0,
    subtype: str | None = None,
    soft_clip: bool = False,
    force: bool = False,
    device: str = "auto",
    threads: int | None = None,
    progress: Report = no_report,
) -> TransferSummary:
    """Audio file (or `-`) -> audio file by its extension (or WAV to `-`), which appears when it is
    complete.

    Rate, channels and samples are the input's. Options as for `transfer`, and as for `decode_file`.

    Raises:
        UsageError, InputError, ModelError, OutputError.
    """
    began = time.perf_counter()
    point = Point.of(point, fidelity=fidelity, dims=dims)
    pitch = real(pitch, "pitch")
    check_pitch(pitch)
    _check_audio(source)
    check_output(target, force=force, source=source)
    with open_input(source) as audio:
        rate, channels = audio.sample_rate, audio.channels
        opening = open_output(
            target, rate, channels, subtype=subtype, force=force, soft_clip=soft_clip
        )
        loaded = model_to_encode(model, point, device, threads)
        from ravecodec.pipeline import progress_at

        info = header_for(loaded, rate, channels, point, seed)
        running = Transfer(loaded, info, pitch=pitch, loudness=loudness)
        with opening as output:
            for block in _through(running, audio.blocks(BLOCK), audio.name):
                output.write(block)
                progress(progress_at(output.frames, audio.frames, rate, 0))
    seconds = time.perf_counter() - began
    known = running.known
    return TransferSummary(
        source=source_name(source),
        target=target_name(target),
        model=loaded.name,
        sample_rate=rate,
        channels=channels,
        samples=output.frames,
        container=output.container,
        subtype=output.subtype,
        clipped=output.clipped,
        dims=info.dims,
        pitch=pitch,
        frames=known.frames,
        outside=known.share,
        far=known.far,
        seconds=seconds,
        speed=output.frames / rate / seconds,
        remarks=(*audio.remarks, *_warning(known, loaded.name)),
    )


def _check_audio(source: str | Path) -> None:
    """InputError for what cannot be audio by its name, and for streams, which `decode` makes audio
    of first.
    """
    check_source(source)
    if not is_regular(source):
        return
    try:
        with Path(source).open("rb") as file:
            start = file.read(len(MAGIC))
    except OSError:
        return  # who opens it will say
    if start == MAGIC:
        expected = "expected audio (`ravecodec decode` makes audio of it)"
        raise InputError(f"{source}: is an .rvc stream, {expected}")


def _through(running: Transfer, blocks: Iterable[Audio], name: str) -> Iterator[Audio]:
    """The output for all blocks of an input of this name, which errors get to name."""
    try:
        for block in blocks:
            yield from running.process(block)
        yield from running.flush()
    except InputError as error:
        text = str(error)
        raise error if text.startswith(name) else InputError(f"{name}: {text}") from error


def _warning(known: Known, model: str) -> Iterator[str]:
    if known.far:
        found = (
            f"{100 * known.share:.0f} % of its frames lie outside of what model {model} was "
            "trained on"
        )
        yield f"the input is far from what the model knows: {found} (1 % of that audio does)"
