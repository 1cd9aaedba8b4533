"""Audio becomes a stream: `encode_file` and, in memory, `encode`.

The layer above `pipeline.py` and below `cli`. Everything cheap is checked before torch is imported,
because that and loading a model take seconds: the output first, then the input, then the model's
header. `decoding.py` is its mirror.
"""

from __future__ import annotations

import io
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from numpy.typing import ArrayLike

from ravecodec.arrays import as_audio
from ravecodec.audio import Audio, Mix, open_input
from ravecodec.bitstream import EmbeddedModel, StreamInfo
from ravecodec.bitstream.limits import MAX_SEED
from ravecodec.effort import Effort, effort_of
from ravecodec.errors import ModelError, UsageError
from ravecodec.examine import StreamSummary
from ravecodec.files import (
    check_output,
    check_source,
    is_stdio,
    keep_time_of,
    open_binary_output,
    source_name,
    target_name,
    temporary_file,
)
from ravecodec.ladder import quality_of
from ravecodec.loading import model_to_encode
from ravecodec.models.header import read_header
from ravecodec.point import Point, whole
from ravecodec.tagging import with_tags
from ravecodec.zoo import DEFAULT, MODEL_KEY, to_embed

if TYPE_CHECKING:  # these import torch
    from ravecodec.models.package import Model
    from ravecodec.pipeline import EncodePipeline, Progress

Report = Callable[["Progress"], None]

BLOCK = 65_536  # samples read at a time


def no_report(progress: Progress) -> None:
    """Ignores the progress."""


@dataclass(frozen=True)
class EncodeSummary:
    """What `encode_file` did.

    seconds: wall clock, loading included; speed: times real time; verified: the bytes were read
    back and their symbols compared. remarks: sentences on what is odd but no error. quality: that
    which chose the operating point, if one did. steps: the finest and the coarsest step of what is
    not silence; they differ where a bitrate was wished for.
    """

    source: str
    target: str
    model: str
    seconds: float
    speed: float
    verified: bool
    stream: StreamSummary
    remarks: tuple[str, ...] = ()
    quality: int | None = None
    steps: tuple[int, int] | None = None


def encode_file(
    source: str | Path,
    target: str | Path,
    *,
    model: str | Path | Model | None = None,
    fidelity: float | None = None,
    dims: int | None = None,
    step_index: int | None = None,
    bitrate: float | None = None,
    effort: int | None = None,
    quality: int | str | None = None,
    cbr: bool = False,
    point: Point | None = None,
    seed: int = 0,
    verify: bool = False,
    meta: Mapping[str, Any] | None = None,
    tags: bool = True,
    pictures: bool = False,
    keep_time: bool = False,
    embed_model: bool = False,
    raw_rate: int | None = None,
    raw_channels: int | None = None,
    full_scale: float = 1.0,
    ignore_length: bool = False,
    downmix: bool = False,
    channels: Sequence[int] | None = None,
    force: bool = False,
    device: str = "auto",
    threads: int | None = None,
    progress: Report = no_report,
) -> EncodeSummary:
    """Audio file (or `-`) -> .rvc file (or `-`), which appears when it is complete.

    Every option is named here, as in `encode`, so that help and editors show them; what remains is
    one path: checks that cost nothing, the input, the model, the stream.

    model: name, path, id or a loaded one. fidelity, dims, step_index, bitrate, effort, quality,
    cbr: see `Point`, which `point` is in place of them. seed: of the decoder's noise. verify:
    decode the symbols from the written bytes and compare, before the file is put in place. meta:
    JSON object to store, to which the name of a model that is not called default is added as
    `model`. tags: carry the source's tags in it, beside those that `meta` has; pictures: those in
    them, too. keep_time: the target gets the source's time of change. embed_model: the decoder's
    part of the model goes into the stream, for machines that do not have it. raw_rate,
    raw_channels: the source is headerless 16-bit PCM. full_scale: the sample value that stands for
    full scale, 32768 for 16-bit integers kept as floats; the stream holds what is divided by it.
    ignore_length: take what is there of a source that announces more, or less, than it holds.
    downmix: make stereo of more than two channels (ITU-R BS.775); channels: take these one or two,
    counted from 1, instead. threads: as for `load_model`.

    Raises:
        UsageError, InputError, ModelError, OutputError; CorruptError if verifying fails.
    """
    began = time.perf_counter()
    point = Point.of(
        point,
        fidelity=fidelity,
        dims=dims,
        step_index=step_index,
        bitrate=bitrate,
        effort=effort,
        quality=quality,
        cbr=cbr,
    )
    check_source(source)
    check_output(target, force=force, source=source)
    opening = partial(open_input, raw_rate=raw_rate, raw_channels=raw_channels)
    mix = Mix(downmix, tuple(whole(number, "a channel") for number in channels or ()))
    opening = partial(opening, full_scale=full_scale, ignore_length=ignore_length, mix=mix)
    with (
        keep_time_of(source, target, wanted=keep_time),
        opening(source, tags=tags, pictures=pictures) as audio,
    ):
        meta = with_tags(meta, audio.tags)
        loaded = model_to_encode(model, point, device, threads)
        info = header_for(loaded, audio.sample_rate, audio.channels, point, seed)
        encoding = _Encoding(loaded, info, point, _named_in(meta, loaded), embed_model, progress)
        with _stream_output(target, force=force, hold=verify) as file:
            pipeline = encoding.write(file, audio.blocks(BLOCK), audio.frames)
            if verify:
                pipeline.check_written(file, target_name(target))
    seconds, stream = time.perf_counter() - began, pipeline.summary()
    return EncodeSummary(
        source=source_name(source),
        target=target_name(target),
        model=loaded.name,
        seconds=seconds,
        speed=stream.duration / seconds,
        verified=verify,
        stream=stream,
        remarks=(*audio.remarks, *_unspent(point, loaded, stream, pipeline.steps[0])),
        quality=None if point.quality is None else quality_of(point.quality),
        steps=pipeline.steps,
    )


def encode(
    audio: ArrayLike,
    sample_rate: int,
    model: str | Path | Model | None = None,
    *,
    fidelity: float | None = None,
    dims: int | None = None,
    step_index: int | None = None,
    bitrate: float | None = None,
    effort: int | None = None,
    quality: int | str | None = None,
    cbr: bool = False,
    point: Point | None = None,
    seed: int = 0,
    meta: Mapping[str, Any] | None = None,
    embed_model: bool = False,
    full_scale: float = 1.0,
    device: str = "auto",
) -> bytes:
    """Audio float [channels, n] or [n], full scale +-1 -> the bytes of an .rvc stream. Options as
    in `encode_file`.

    Any float type is taken (float16 to longdouble), and numbers may be numpy's. Integers are
    refused, because their full scale is not known, and so are masked samples.

    Raises:
        InputError: not 1 or 2 channels, not floats, NaN, more than 20 dB over full scale, another
        rate than 1 to 768 kHz. UsageError, ModelError.
    """
    sample_rate = whole(sample_rate, "the rate")
    samples = as_audio(audio, sample_rate, full_scale)
    point = Point.of(
        point,
        fidelity=fidelity,
        dims=dims,
        step_index=step_index,
        bitrate=bitrate,
        effort=effort,
        quality=quality,
        cbr=cbr,
    )
    loaded = model_to_encode(model, point, device, None)
    info = header_for(loaded, sample_rate, len(samples), point, seed)
    blocks = (samples[:, i : i + BLOCK] for i in range(0, samples.shape[1], BLOCK))
    file = io.BytesIO()
    _Encoding(loaded, info, point, meta, embed_model).write(file, blocks, samples.shape[1])
    return file.getvalue()


@dataclass(frozen=True)
class _Encoding:
    """How audio becomes a stream: with a loaded model, at a point. embed: with the decoder of the
    model.
    """

    model: Model
    info: StreamInfo
    point: Point
    meta: Mapping[str, Any] | None
    embed: bool
    progress: Report = no_report

    def write(self, file: BinaryIO, blocks: Iterable[Audio], total: int | None) -> EncodePipeline:
        """Writes a whole stream of audio of `total` samples, if that is known; in two passes for a
        target rate.
        """
        from ravecodec.pipeline import EncodePipeline

        effort = model_effort(self.model, self.point)
        decoder = decoder_of(self.model) if self.embed else None
        if self.point.bitrate is not None:
            return self._at_bitrate(self.point.bitrate, file, blocks, total, effort, decoder)
        pipeline = EncodePipeline(self.model, self.info, file, self.meta, decoder)
        for step in pipeline.encode(blocks, total, effort):
            self.progress(step)
        return pipeline

    def _at_bitrate(
        self,
        bitrate: float,
        file: BinaryIO,
        blocks: Iterable[Audio],
        total: int | None,
        effort: Effort,
        decoder: EmbeddedModel | None,
    ) -> EncodePipeline:
        from ravecodec.pipeline import EncodePipeline
        from ravecodec.ratecontrol import Recording

        with Recording(self.model, self.info, self.meta, effort) as recording:
            for step in recording.record(blocks, total):
                self.progress(step)
            info, plan = recording.finest_info(bitrate), None
            if self.point.cbr:
                plan = recording.constant(info, bitrate)
            elif effort.iterations:
                for step in recording.search(info, bitrate):
                    self.progress(step)
            else:
                plan = recording.filled(info, bitrate)
            pipeline = EncodePipeline(self.model, info, file, self.meta, decoder)
            recording.code(pipeline, plan)
        return pipeline


def header_for(
    model: Model, sample_rate: int, channels: int, point: Point, seed: int
) -> StreamInfo:
    """The header of a stream at an operating point; UsageError for an impossible seed."""
    from ravecodec.codec import stream_info

    seed = whole(seed, "the seed")
    if not 0 <= seed <= MAX_SEED:
        raise UsageError(f"the seed is {seed}, expected 0 to {MAX_SEED}")
    dims, step_index = point.resolve(model)
    return stream_info(model, sample_rate, channels, dims, step_index, seed)


def model_effort(model: Model, point: Point) -> Effort:
    """What a point lets the encoder try. At a constant rate it does not search, because a search
    wants one step for the whole stream.

    UsageError where a level that searches is wished for at a constant rate.
    """
    effort = effort_of(model, point.effort)
    if not (point.cbr and effort.iterations):
        return effort
    if point.effort is None:
        return Effort(effort.corrections, 0)
    raise UsageError(
        f"cbr and effort {point.effort} are both given; expected a level that does not search with "
        f"model {model.name}"
    )


def _unspent(point: Point, model: Model, stream: StreamSummary, finest: int) -> Iterator[str]:
    """A sentence where a stream, whose finest step this is, stays far below its target rate."""
    from ravecodec.ratecontrol import FINER, SPENT

    rate = point.bitrate
    kbps = stream.kbps_without_model
    if rate is None or not stream.samples or kbps >= SPENT * rate:
        return
    said = f"bitrate is {rate:g} kbit/s"
    if finest == model.coding.step_index - FINER:
        needs = f"the finest step ({finest}) at {stream.dims} dims needs no more than"
        yield f"{said}, but {needs} {kbps:.3g} kbit/s here"
    elif point.cbr:
        yield f"{said} and constant; on average {kbps:.3g} kbit/s keep it"
    elif model_effort(model, point).iterations:
        yield f"{said}; what the search has found takes {kbps:.3g}"
    else:
        yield f"{said}, but this audio is too short to come nearer than {kbps:.3g} kbit/s"


def _named_in(meta: Mapping[str, Any] | None, model: Model) -> Mapping[str, Any]:
    """Metadata that says what the model is called here, for whoever has to look for it; "default"
    would help nobody and costs 40 bytes.
    """
    return (meta or {}) if model.name == DEFAULT else {MODEL_KEY: model.name, **(meta or {})}


def decoder_of(model: Model) -> EmbeddedModel:
    """The decoder's part of a loaded model, as a stream brings it along.

    ModelError if the model's file is not there any more, or another one by now.
    """
    if model.path is None or read_header(model.path).digest() != model.digest:
        raise ModelError(f"model {model.name!r}: its file has changed since it was loaded")
    return to_embed(model.path)


@contextmanager
def _stream_output(target: str | Path, *, force: bool, hold: bool) -> Iterator[BinaryIO]:
    """A binary file for the stream.

    hold: it can be read back; a pipe then gets everything at the end.
    """
    if not (hold and is_stdio(target)):
        with open_binary_output(target, force=force) as file:
            yield file
        return
    with temporary_file("--verify") as held:
        yield held
        held.seek(0)
        with open_binary_output(target, force=force) as stdout:
            shutil.copyfileobj(held, stdout)
