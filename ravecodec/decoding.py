"""A stream becomes audio: `decode_file` and, in memory, `decode`; the mirror of `encoding.py`.

Everything cheap is checked before torch is imported: the output, the stream, the model's header.
"""

from __future__ import annotations

import io
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, cast

import numpy as np

from ravecodec.audio import (
    MAX_CHANNELS,
    MAX_RATE,
    MIN_RATE,
    TIME_REFERENCE,
    Audio,
    AudioOutput,
    open_output,
    resampled_length,
)
from ravecodec.bitstream import Damage, StreamReader, find_index
from ravecodec.encoding import Report, no_report
from ravecodec.errors import CorruptError, FormatError, UsageError
from ravecodec.examine import StreamSummary, is_regular, open_stream
from ravecodec.files import check_output, check_source, keep_time_of, source_name, target_name
from ravecodec.loading import model_of
from ravecodec.point import whole
from ravecodec.precision import AUTO, PRECISIONS
from ravecodec.tagging import tags_in
from ravecodec.times import Part, Time

if TYPE_CHECKING:  # these import torch
    from ravecodec.models.package import Model
    from ravecodec.pipeline import DecodePipeline


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
    progress: Report = no_report,
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
        form: dict[str, Any] = {"subtype": subtype, "soft_clip": soft_clip, "total": total}
        written = _tags_of(reader, part, rate, salvage) if tags else {}
        channels = reader.info.channels
        opening = open_output(target, rate, channels, **form, tags=written, force=force)
        seekable = is_regular(source) and not part.whole
        index = find_index(cast("BinaryIO", file.fileobj), start=0) if seekable else None
        loaded = model_of(
            reader.info, reader.name, model, reader=reader, device=device, threads=threads
        )
        from ravecodec.pipeline import DecodePipeline, progress_at

        pipeline = DecodePipeline(
            reader, loaded, rate, salvage=salvage, precision=precision, part=span, index=index
        )
        length = span[1] - span[0] if span[1] else total
        with opening as output:
            for block in pipeline.decode():
                output.write(block)
                progress(progress_at(output.frames, length, rate, reader.bytes.total))
    seconds = time.perf_counter() - began
    return _summary(source, target, loaded, output, pipeline, rate=rate, seconds=seconds)


def _summary(
    source: str | Path,
    target: str | Path,
    model: Model,
    output: AudioOutput,
    pipeline: DecodePipeline,
    *,
    rate: int,
    seconds: float,
) -> DecodeSummary:
    """What was done, to an output of this rate, in so many seconds."""
    return DecodeSummary(
        source=source_name(source),
        target=target_name(target),
        model=model.name,
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
    loaded = model_of(reader.info, reader.name, model, reader=reader, device=device)
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
