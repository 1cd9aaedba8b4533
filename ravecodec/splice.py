"""Cuts and joins streams without decoding them to audio: `cut_file`, `concat_files`. Never loads
torch.

Symbols stay what they are. Whole chunks are copied, coded as they came; only a chunk that is cut
through is coded anew, for which the model's tables are needed. What a decoder adds of its own
(noise, the axes that were not sent) depends on the seed and the number of a frame, and frames get
new numbers here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from ravecodec import zoo
from ravecodec.bitstream import (
    MINOR,
    Chunk,
    EmbeddedModel,
    StaticModel,
    StreamInfo,
    StreamReader,
    StreamWriter,
    streams,
)
from ravecodec.errors import FormatError, ModelError, UsageError
from ravecodec.examine import StreamSummary, open_stream, summarise
from ravecodec.files import check_output, check_source, is_stdio, open_binary_output, target_name
from ravecodec.times import Part, Time


@dataclass(frozen=True)
class SpliceSummary:
    """What `cut_file` or `concat_files` did.

    start: first sample of the original that a cut holds, 0 of a join.
    """

    target: str
    start: int
    stream: StreamSummary


class _Splice:
    """A stream on its way into a file."""

    def __init__(self, file: BinaryIO, info: StreamInfo, static: StaticModel | None) -> None:
        self._static = static
        self._writer = StreamWriter(file, info, static)
        self._chunks = 0

    @property
    def frames(self) -> int:
        """Frames written so far."""
        return self._writer.frames

    def meta(self, meta: Mapping[str, Any]) -> None:
        """Metadata, which comes first; none if it is empty."""
        if meta:
            self._writer.write_meta(meta)

    def model(self, model: EmbeddedModel | None) -> None:
        """The decoder that a stream brings along, if it does."""
        if model:
            self._writer.write_model(model)

    def copy(self, reader: StreamReader, chunk: Chunk, first: int, last: int) -> None:
        """The frames of a chunk from number `first` of the stream up to `last`, coded anew if they
        are not all.
        """
        begin, end = max(0, first - chunk.first_frame), min(chunk.frames, last - chunk.first_frame)
        if begin >= end:
            return
        self._chunks += 1
        if (begin, end) == (0, chunk.frames):
            self._writer.copy_chunk(chunk)
            return
        symbols = self._symbols(reader, chunk)[begin:end]
        self._writer.write_chunk(symbols, chunk.step_index, silent=chunk.silent)

    def copy_lead_in(self, chunk: Chunk | None) -> None:
        """The lead-in of a stream, if it has one."""
        if chunk:
            self._writer.copy_lead_in(chunk)

    def lead_in(self, reader: StreamReader, chunk: Chunk, frame: int) -> None:
        """One frame of a chunk as the frame before the first."""
        at = frame - chunk.first_frame
        self._writer.write_lead_in(self._symbols(reader, chunk)[at : at + 1], chunk.step_index)

    def _symbols(self, reader: StreamReader, chunk: Chunk) -> NDArray[np.int32]:
        try:
            return reader.decode_chunk(chunk, self._static)
        except ModelError as error:
            raise ModelError(
                f"{reader.name}: model {reader.info.model_id.hex()} is needed to code anew what is "
                "cut through, "
                "but it is not installed (`ravecodec model add`)"
            ) from error

    def close(self, samples: int) -> StreamSummary:
        """Ends the stream at so many samples of the original."""
        self._writer.close(samples)
        return summarise(self._writer.info, samples, self.frames, self._chunks, self._writer.bytes)


def cut_file(
    source: str | Path,
    target: str | Path,
    *,
    start: Time | None = None,
    end: Time | None = None,
    duration: Time | None = None,
    force: bool = False,
) -> SpliceSummary:
    """A part of a stream as a stream: from the frame in which `start` lies (or `-`) up to `end`
    exactly.

    Times as for `decode_file`; samples are those of the original. The frame before the part becomes
    its lead-in; metadata and a decoder that the stream brings along are kept. Raises UsageError,
    InputError, FormatError, CorruptError, ModelError, OutputError.
    """
    part = Part.of(start, end, duration)
    check_source(source)
    check_output(target, force=force, source=source)
    with open_stream(source) as file:
        reader = StreamReader(file)
        info = reader.info
        begin, stop = part.samples(info.sample_rate)
        first = begin * info.model_rate // (info.hop * info.sample_rate)
        last = None if stop is None else -(-stop * info.model_rate // (info.hop * info.sample_rate))
        with open_binary_output(target, force=force) as out:
            tables = _tables(info, reader)
            splice = _Splice(out, replace(info, minor=min(info.minor, MINOR)), tables)
            splice.meta(reader.meta)
            splice.model(reader.model)
            _copy_part(splice, reader, first, last)
            total = reader.total_samples
            assert total is not None
            if begin and begin >= total:
                raise UsageError(
                    f"{reader.name}: has {total} samples, expected more up to the start at sample "
                    f"{begin}"
                )
            origin = info.samples(first)
            stream = splice.close(min(total if stop is None else stop, total) - origin)
    return SpliceSummary(_name(target), origin, stream)


def _copy_part(splice: _Splice, reader: StreamReader, first: int, last: int | None) -> None:
    """The frames of a stream from `first` up to `last`, behind the one before them; the stream is
    read to its end.
    """
    for chunk in reader.chunks():
        if not first and not chunk.first_frame:
            splice.copy_lead_in(reader.lead_in)
        if chunk.first_frame < first <= chunk.first_frame + chunk.frames:
            splice.lead_in(reader, chunk, first - 1)
        splice.copy(
            reader, chunk, first, chunk.first_frame + chunk.frames if last is None else last
        )


def concat_files(
    sources: Sequence[str | Path], target: str | Path, *, force: bool = False
) -> SpliceSummary:
    """Streams of one model, rate and number of channels as one stream, one behind the other; a file
    may hold several.

    Each begins where the last frame of the one before ends, which may be up to a frame behind its
    last sample. Metadata that all have alike is kept, and a decoder that any of them brings along,
    once. The seed is the first one's. Raises UsageError, InputError, FormatError (they do not fit),
    CorruptError, OutputError.
    """
    for source in sources:
        check_source(source)
        if is_stdio(source):
            raise UsageError("-: concat reads its inputs twice, expected files")
        check_output(target, force=force, source=source)
    models: dict[bytes, EmbeddedModel] = {}
    heads = [head for source in sources for head in _heads(source, models)]
    info = _common(heads)
    with open_binary_output(target, force=force) as out:
        splice, samples = _Splice(out, info, _tables(info)), 0
        splice.meta(_alike([meta for _, _, meta in heads]))
        splice.model(next(iter(models.values()), None))
        for source in sources:
            samples = _append_all(splice, info, source)
        stream = splice.close(samples)
    return SpliceSummary(_name(target), 0, stream)


def _append_all(splice: _Splice, info: StreamInfo, source: str | Path) -> int:
    """The streams of a file; returns the samples of all that was spliced so far."""
    samples = 0
    with open_stream(source) as file:
        for reader in streams(file):
            before = info.samples(splice.frames)
            samples = before + _append(splice, reader)
    return samples


def _append(splice: _Splice, reader: StreamReader) -> int:
    """All frames of a stream, its lead-in only where nothing is before it; returns its samples."""
    for chunk in reader.chunks():
        if not splice.frames:
            splice.copy_lead_in(reader.lead_in)
        splice.copy(reader, chunk, 0, chunk.first_frame + chunk.frames)
    assert reader.total_samples is not None
    return reader.total_samples


_Head = tuple[str, StreamInfo, dict[str, Any]]


def _heads(source: str | Path, models: dict[bytes, EmbeddedModel]) -> list[_Head]:
    """Of each stream of a file, which is read to its end and checked. models: gets the decoder that
    streams bring along, which must be the same, by its hash.
    """
    heads = []
    with open_stream(source) as file:
        for reader in streams(file):
            for _ in reader.chunks():
                continue
            heads.append((reader.name, reader.info, reader.meta))
            if (model := reader.model) is not None and models.setdefault(
                model.sha256, model
            ) is not next(iter(models.values())):
                found, expected = model.sha256.hex(), next(iter(models)).hex()
                raise FormatError(
                    f"{reader.name}: its embedded model has SHA-256 {found}, that of the streams "
                    f"before {expected}"
                )
    return heads


def _common(heads: Sequence[_Head]) -> StreamInfo:
    """The header of the joined stream: the first one's with the most dims.

    FormatError unless all fit together.
    """
    name, info, _ = heads[0]
    what = {
        "model_id": "model",
        "sample_rate": "rate",
        "channels": "number of channels",
        "hop": "hop",
        "model_rate": "model rate",
        "noise_fill": "noise fill",
    }
    for other_name, other, _ in heads[1:]:
        for field, words in what.items():
            found, expected = getattr(other, field), getattr(info, field)
            if found != expected:
                raise FormatError(
                    f"{other_name}: its {words} is {_text(found)}, that of {name} is "
                    f"{_text(expected)}"
                )
    minor = min(MINOR, max(other.minor for _, other, _ in heads))
    return replace(info, minor=minor, dims=max(other.dims for _, other, _ in heads))


def _text(value: object) -> str:
    return value.hex() if isinstance(value, bytes) else str(value)


def _alike(metas: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """What all have alike, looked for within `tags` as well."""
    alike = {
        key: value
        for key, value in metas[0].items()
        if all(key in m and m[key] == value for m in metas)
    }
    tags = [meta.get("tags") for meta in metas]
    if "tags" not in alike and all(isinstance(each, dict) for each in tags):
        common = _alike(tags)  # type: ignore[arg-type]
        if common:
            alike["tags"] = common
    return alike


def _tables(info: StreamInfo, reader: StreamReader | None = None) -> StaticModel | None:
    """The tables of a stream's model, None where it is neither installed nor, in `reader`, brought
    along.
    """
    entry: zoo.ModelEntry | zoo.Embedded | None = zoo.installed(info.model_id)
    if entry is None and reader is not None and (model := reader.model) is not None:
        entry = zoo.embedded(model, reader)
    return zoo.read_tables(entry, info.model_id) if entry else None


def _name(target: str | Path) -> str:
    return target_name(target)
