"""Files in, files out: `encode_file` and `decode_file`; in memory: `encode` and `decode`.

The layer above `pipeline.py` and below `cli`. Everything cheap is checked before torch is imported,
because that and loading a model take seconds: the output first, then the input, then the model's
header.
"""

from __future__ import annotations

import io
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, cast

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ravecodec.audio import (
    MAX_AMPLITUDE,
    MAX_CHANNELS,
    MAX_RATE,
    MIN_RATE,
    TIME_REFERENCE,
    Mix,
    check_full_scale,
    expected_amplitude,
    open_input,
    open_output,
    resampled_length,
)
from ravecodec.bitstream import Damage, EmbeddedModel, StreamInfo, StreamReader, find_index
from ravecodec.bitstream.limits import MAX_SEED
from ravecodec.effort import Effort, effort_of
from ravecodec.errors import CorruptError, FormatError, InputError, ModelError, UsageError
from ravecodec.examine import StreamSummary, is_regular, open_stream
from ravecodec.files import (
    STDIN_NAME,
    STDOUT_NAME,
    check_output,
    check_source,
    is_stdio,
    keep_time_of,
    open_binary_output,
    temporary_file,
)
from ravecodec.ladder import quality_of
from ravecodec.models.header import read_header
from ravecodec.point import Point, real, whole
from ravecodec.precision import AUTO, PRECISIONS
from ravecodec.tagging import tags_in, with_tags
from ravecodec.times import Part, Time
from ravecodec.zoo import (
    DEFAULT,
    MODEL_KEY,
    Embedded,
    ModelEntry,
    find_model,
    model_in,
    to_embed,
)

if TYPE_CHECKING:  # these import torch
    from ravecodec.models.package import Model
    from ravecodec.pipeline import EncodePipeline, Progress

Audio = NDArray[np.float32]  # [channels, samples]

BLOCK = 65_536  # samples read at a time


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


@dataclass(frozen=True)
class DecodeSummary:
    """What `decode_file` did.

    sample_rate (Hz), samples (per channel), container, subtype: of the output. clipped: samples
    beyond full scale, over all channels. seconds, speed, remarks: as in EncodeSummary. damage: what
    was concealed, empty unless salvaging.
    """

    source: str
    target: str
    model: str
    sample_rate: int
    samples: int
    container: str
    subtype: str
    clipped: int
    seconds: float
    speed: float
    damage: tuple[Damage, ...]
    stream: StreamSummary
    remarks: tuple[str, ...] = ()


Report = Callable[["Progress"], None]


def _silent(progress: Progress) -> None:
    """Nobody wants to know."""


def load_model(
    model: str | Path | None = None, *, device: str = "auto", threads: int | None = None
) -> Model:
    """A model by name, path or id (None: the default one), ready to encode and decode any number of
    files.

    threads: for torch, in this whole process, at most one per core; None leaves it alone.
    ModelError if there is none or it is damaged. A process that is forked afterwards computes on
    one thread.
    """
    return _load(find_model(model), device, threads)


def _load(entry: ModelEntry | Embedded, device: str, threads: int | None) -> Model:
    from ravecodec.device import choose_device, set_threads
    from ravecodec.models.package import load_decoder, load_package

    if threads is not None:
        set_threads(threads)
    if isinstance(entry, Embedded):
        return load_decoder(entry.header, choose_device(device))
    return replace(load_package(entry.path, choose_device(device)), name=entry.name)


def load_for(
    entry: ModelEntry | Embedded, *, device: str = "auto", threads: int | None = None
) -> Model:
    """What `zoo.model_in` found, ready to decode; as `load_model`."""
    return _load(entry, device, threads)


# ---- encode --------------------------------------------------------------------------------------


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
    progress: Report = _silent,
) -> EncodeSummary:
    """Audio file (or `-`) -> .rvc file (or `-`), which appears when it is complete.

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
    opening = partial(open_input, full_scale=full_scale, ignore_length=ignore_length)
    mix = Mix(downmix, tuple(whole(number, "a channel") for number in channels or ()))
    opening = partial(opening, raw_rate=raw_rate, raw_channels=raw_channels, mix=mix)
    with (
        keep_time_of(source, target, wanted=keep_time),
        opening(source, tags=tags, pictures=pictures) as audio,
    ):
        meta = with_tags(meta, audio.tags)
        loaded = model_to_encode(model, point, device, threads)
        info = header_for(loaded, audio.sample_rate, audio.channels, point, seed)
        with _stream_output(target, force=force, hold=verify) as file:
            pipeline = _encode_to(
                file,
                loaded,
                info,
                point,
                _named_in(meta, loaded),
                audio.blocks(BLOCK),
                audio.frames,
                progress,
                embed=embed_model,
            )
            if verify:
                pipeline.check_written(file, _name(target, STDOUT_NAME))
    seconds, stream = time.perf_counter() - began, pipeline.summary()
    names = (_name(source, STDIN_NAME), _name(target, STDOUT_NAME), loaded.name)
    remarks = (*audio.remarks, *_unspent(point, loaded, stream, pipeline.steps[0]))
    return EncodeSummary(
        *names,
        seconds,
        stream.duration / seconds,
        verify,
        stream,
        remarks,
        None if point.quality is None else quality_of(point.quality),
        pipeline.steps,
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


def model_effort(model: Model, point: Point) -> Effort:
    """What a point lets the encoder try. At a constant rate it does not search, because a search
    wants one step for the whole stream.

    UsageError where a level that searches is wished for at a constant rate.
    """
    effort = effort_of(model, point.effort)
    if not (point.cbr and effort.iterations):
        return effort
    if point.effort is None:
        return Effort(effort.corrections if model.config.refiner else 0, 0)
    raise UsageError(
        f"cbr and effort {point.effort} are both given; expected a level that does not search with "
        f"model {model.name}"
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
    _encode_to(
        file, loaded, info, point, meta, blocks, samples.shape[1], _silent, embed=embed_model
    )
    return file.getvalue()


def _encode_to(
    file: BinaryIO,
    model: Model,
    info: StreamInfo,
    point: Point,
    meta: Mapping[str, Any] | None,
    blocks: Iterable[Audio],
    total: int | None,
    progress: Report,
    *,
    embed: bool,
) -> EncodePipeline:
    """Writes a whole stream of audio of `total` samples, if that is known; in two passes for a
    target rate. embed: with the decoder of the model.
    """
    from ravecodec.pipeline import EncodePipeline
    from ravecodec.ratecontrol import Recording

    effort = model_effort(model, point)
    decoder = decoder_of(model) if embed else None
    if point.bitrate is None:
        pipeline = EncodePipeline(model, info, file, meta, decoder)
        for step in pipeline.encode(blocks, total, effort):
            progress(step)
        return pipeline
    with Recording(model, info, meta, effort) as recording:
        for step in recording.record(blocks, total):
            progress(step)
        info, plan = recording.finest_info(point.bitrate), None
        if point.cbr:
            plan = recording.constant(info, point.bitrate)
        elif effort.iterations:
            for step in recording.search(info, point.bitrate):
                progress(step)
        else:
            plan = recording.filled(info, point.bitrate)
        pipeline = EncodePipeline(model, info, file, meta, decoder)
        recording.code(pipeline, plan)
    return pipeline


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


def _name(target: str | Path, stdio: str) -> str:
    return stdio if is_stdio(target) else str(target)


def as_audio(audio: ArrayLike, sample_rate: int, full_scale: float) -> Audio:
    """float32 [channels, samples] within bounds, or InputError, as `encode` takes it."""
    if np.ma.is_masked(audio):
        raise InputError("audio: has masked samples, expected a value for each (`audio.filled(0)`)")
    try:
        given = np.atleast_2d(np.asarray(audio))
    except ValueError as error:  # rows of different lengths
        raise InputError(
            f"audio: is no array ({error}), expected floats [1 or 2 channels, samples]"
        ) from error
    if np.issubdtype(given.dtype, np.integer):
        raise InputError(
            f"audio: {given.dtype}, expected floats with full scale +-1 (int16: divide by 32768)"
        )
    if (
        not np.issubdtype(given.dtype, np.floating)
        or given.ndim != 2
        or not 1 <= len(given) <= MAX_CHANNELS
    ):
        raise InputError(
            f"audio: {given.dtype} of shape {given.shape}, expected floats [1 or 2 channels, "
            "samples]"
        )
    full_scale = real(full_scale, "full scale")
    check_full_scale(full_scale)
    with np.errstate(over="ignore"):  # infinite then, and refused
        samples = (given / full_scale).astype(np.float32)
    if (wrong := ~(np.abs(samples) <= MAX_AMPLITUDE)).any():
        channel, at = (int(i) for i in np.argwhere(wrong)[0])
        value = float(samples[channel, at])
        where = f"sample {at} of channel {channel + 1}"
        raise InputError(f"audio: holds {value:g} at {where}, {expected_amplitude(value)}")
    if not MIN_RATE <= sample_rate <= MAX_RATE:
        raise InputError(
            f"audio: has a rate of {sample_rate} Hz, expected {MIN_RATE} to {MAX_RATE} Hz"
        )
    return samples


def model_to_encode(
    model: str | Path | Model | None, point: Point, device: str, threads: int | None
) -> Model:
    """The loaded model, once `point` makes sense with it."""
    if not isinstance(model, str | Path | None):
        point.check(model.name, model.config.latent)
        return model
    entry = find_model(model)
    point.check(entry.name, entry.config.latent)
    return _load(entry, device, threads)


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


# ---- decode --------------------------------------------------------------------------------------


def decode_file(
    source: str | Path,
    target: str | Path,
    *,
    model: str | Path | Model | None = None,
    rate: int | None = None,
    subtype: str | None = None,
    soft_clip: bool = False,
    salvage: bool = False,
    precision: str = "float32",
    start: Time | None = None,
    end: Time | None = None,
    duration: Time | None = None,
    tags: bool = True,
    keep_time: bool = False,
    force: bool = False,
    device: str = "auto",
    threads: int | None = None,
    progress: Report = _silent,
) -> DecodeSummary:
    """.rvc file (or `-`) -> audio file by its extension (or WAV to `-`), with the original's rate,
    channels and length.

    model: by default the one that made the stream, found by its id. rate: Hz of the output instead
    of the original's. subtype: PCM_16, PCM_24 or FLOAT. salvage: where the stream is damaged, hold
    the sound and go on with the next intact chunk; the summary says where. precision: what the
    network computes in, float32 or bfloat16, which scores the same, and is faster on processors
    with AMX and slower on others; "auto" times both. start, end or duration: of the part to decode,
    seconds or text such as "1:02.5" or "48000s" (samples of the output); it equals that slice of
    the whole bit for bit, an end behind the stream's is the stream's, and only what is needed for
    it is read and checked. tags: write the stream's tags into WAV, FLAC, Ogg or AIFF. keep_time:
    the target gets the source's time of change.

    Raises:
        UsageError, InputError, FormatError, ModelError, OutputError; CorruptError and
        TruncatedError unless salvaging.
    """
    began = time.perf_counter()
    _check_precision(precision)
    part = Part.of(start, end, duration)
    check_source(source)
    check_output(target, force=force, source=source)
    with keep_time_of(source, target, wanted=keep_time), open_stream(source) as file:
        reader = StreamReader(file)
        rate = _output_rate(reader, rate)
        span = part.samples(rate)
        total = _announced(source, rate) if part.whole and not salvage else None
        seekable = is_regular(source) and not part.whole
        index = find_index(cast("BinaryIO", file.fileobj), start=0) if seekable else None
        channels = reader.info.channels
        form: dict[str, Any] = {"subtype": subtype, "soft_clip": soft_clip, "total": total}
        written = _tags_of(reader, part, rate, salvage) if tags else {}
        opening = open_output(target, rate, channels, **form, tags=written, force=force)
        loaded = _model_to_decode(model, reader, device, threads)
        from ravecodec.pipeline import DecodePipeline, Progress

        pipeline = DecodePipeline(
            reader, loaded, rate, salvage=salvage, precision=precision, part=span, index=index
        )
        length = span[1] - span[0] if span[1] else total
        with opening as output:
            for block in pipeline.decode():
                output.write(block)
                share = output.frames / length if length else None
                progress(Progress(output.frames / rate, share, reader.bytes.total))
    seconds = time.perf_counter() - began
    return DecodeSummary(
        source=_name(source, STDIN_NAME),
        target=_name(target, STDOUT_NAME),
        model=loaded.name,
        sample_rate=rate,
        samples=output.frames,
        container=output.container,
        subtype=output.subtype,
        clipped=output.clipped,
        seconds=seconds,
        speed=output.frames / rate / seconds,
        damage=tuple(pipeline.damage),
        stream=pipeline.summary(),
        remarks=tuple(f"{output.name}: {remark}" for remark in output.remarks),
    )


def _tags_of(reader: StreamReader, part: Part, rate: int, salvage: bool) -> dict[str, list[str]]:
    """The tags of a stream for its decoded file. BWF's time reference counts samples from midnight
    to the first one, so it holds for the whole at the original's rate only.
    """
    try:
        found = tags_in(reader.meta)
    except CorruptError:
        if not salvage:
            raise
        return {}
    if not part.whole or rate != reader.info.sample_rate:
        found.pop(TIME_REFERENCE, None)
    return found


def decode(
    data: bytes,
    model: str | Path | Model | None = None,
    *,
    rate: int | None = None,
    precision: str = "float32",
    start: Time | None = None,
    end: Time | None = None,
    duration: Time | None = None,
    device: str = "auto",
) -> tuple[Audio, int]:
    """The bytes of an .rvc stream -> audio float32 [channels, n], and its rate in Hz. Options as in
    `decode_file`.

    Raises:
        FormatError, CorruptError, TruncatedError, ModelError, UsageError.
    """
    _check_precision(precision)
    part, file = Part.of(start, end, duration), io.BytesIO(data)
    reader = StreamReader(file)
    rate = _output_rate(reader, rate)
    span = part.samples(rate)
    index = None if part.whole else find_index(file, start=0)
    loaded = _model_to_decode(model, reader, device, None)
    from ravecodec.pipeline import DecodePipeline

    blocks = DecodePipeline(
        reader, loaded, rate, precision=precision, part=span, index=index
    ).decode()
    return np.concatenate([np.zeros((reader.info.channels, 0), np.float32), *blocks], axis=1), rate


def _announced(source: str | Path, rate: int) -> int | None:
    """Samples per channel that the output will have; None for a pipe.

    A file is read through for that: it costs little, and whatever is wrong with it shows before
    anything slow.
    """
    if not is_regular(source):
        return None
    with open_stream(source) as file:
        reader = StreamReader(file)
        for _ in reader.chunks():
            continue
    assert reader.total_samples is not None
    return resampled_length(reader.total_samples, reader.info.sample_rate, rate)


def _check_precision(precision: str) -> None:
    if precision not in (*PRECISIONS, AUTO):
        raise UsageError(f"precision is {precision!r}, expected {', '.join(PRECISIONS)} or {AUTO}")


def _output_rate(reader: StreamReader, wanted: int | None) -> int:
    """Hz; refuses what the format can say and this decoder cannot play."""
    info, expected = reader.info, f"{MIN_RATE} to {MAX_RATE} Hz"
    if info.channels > MAX_CHANNELS:
        raise FormatError(
            f"{reader.name}: has {info.channels} channels, this decoder plays 1 or {MAX_CHANNELS}"
        )
    if not MIN_RATE <= info.sample_rate <= MAX_RATE:
        raise FormatError(
            f"{reader.name}: has a rate of {info.sample_rate} Hz, this decoder plays {expected}"
        )
    wanted = None if wanted is None else whole(wanted, "the output's rate")
    if wanted is not None and not MIN_RATE <= wanted <= MAX_RATE:
        raise UsageError(f"the output's rate is {wanted} Hz, expected {expected}")
    return wanted or info.sample_rate


def _model_to_decode(
    model: str | Path | Model | None, reader: StreamReader, device: str, threads: int | None
) -> Model:
    if isinstance(model, str | Path | None):
        model = _load(model_in(reader, model), device, threads)
    from ravecodec.codec import check_model

    check_model(model, reader.info, reader.name)
    return model
