"""Looks at an .rvc stream without decoding it to audio: `inspect_file`, `verify_file`. Never loads
torch.

Verifying decodes every symbol where the model's tables are at hand, so what passes here decodes;
only the network is left out. `decoding.py` and others open and sum up streams through here as well.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ravecodec import zoo
from ravecodec.bitstream import MAJOR, ByteCount, Chunk, StaticModel, StreamInfo, StreamReader
from ravecodec.bitstream.source import ByteSource
from ravecodec.errors import InputError, ModelError, RavecodecError, UsageError
from ravecodec.files import binary_stdin, check_source, is_stdio, source_name

EMBEDDED = "embedded"  # in place of a model's name: the one that the stream brings along


@dataclass(frozen=True)
class StreamSummary:
    """What a stream holds and costs.

    model_id: hex. sample_rate (Hz), channels, samples (per channel), duration (s): of the original
    audio. frames, chunks, dims, step_index: of the coded latents. *_bytes: where the stream's bytes
    went; lost is what salvaging gave up, framing all that is neither that nor coded symbols nor
    metadata; model_bytes: a decoder that it brings along. kbps: kbit/s over everything; 0 for no
    audio.
    """

    model_id: str
    sample_rate: int
    channels: int
    samples: int
    duration: float
    frames: int
    chunks: int
    dims: int
    step_index: int
    payload_bytes: int
    framing_bytes: int
    meta_bytes: int
    total_bytes: int
    kbps: float
    lost_bytes: int = 0
    model_bytes: int = 0

    @property
    def kbps_without_model(self) -> float:
        """kbit/s over everything but a decoder that it brings along."""
        return self.kbps * (1 - self.model_bytes / self.total_bytes)


def summarise(
    info: StreamInfo, samples: int, frames: int, chunks: int, count: ByteCount
) -> StreamSummary:
    """The summary of a stream that was written or read to its end."""
    duration = samples / info.sample_rate
    return StreamSummary(
        model_id=info.model_id.hex(),
        sample_rate=info.sample_rate,
        channels=info.channels,
        samples=samples,
        duration=duration,
        frames=frames,
        chunks=chunks,
        dims=info.dims,
        step_index=info.step_index,
        payload_bytes=count.payload,
        framing_bytes=count.framing,
        meta_bytes=count.meta,
        total_bytes=count.total,
        kbps=count.total * 8 / 1000 / duration if samples else 0.0,
        model_bytes=count.model,
    )


@dataclass(frozen=True)
class ChunkSummary:
    """A chunk of a stream. frame: its first, or -1 of a lead-in; seconds: where that begins; offset
    (byte), bytes: of the chunk; silent: it stands for digital silence."""

    frame: int
    seconds: float
    frames: int
    offset: int
    bytes: int
    dims: int
    step_index: int
    silent: bool


@dataclass(frozen=True)
class EmbeddedSummary:
    """A decoder in a stream. bytes: in the stream, size: unpacked; sha256: hex, of the unpacked
    file."""

    bytes: int
    size: int
    sha256: str


@dataclass(frozen=True)
class Inspection:
    """What `info` shows. model: the name of the stream's model, "" where it is not installed. meta:
    the metadata. chunks: one by one where they were asked for, a lead-in first. embedded: the
    decoder that the stream brings along, as far as it says so."""

    name: str
    version: str
    model: str
    model_rate: int
    hop: int
    noise_fill: bool
    seed: int
    stream: StreamSummary
    meta: dict[str, Any]
    chunks: tuple[ChunkSummary, ...] | None = None
    embedded: EmbeddedSummary | None = None


@dataclass(frozen=True)
class Need:
    """What a stream needs to be decoded. id: of its model, hex; model: the name of the one that is
    installed, or ""; embedded: it brings a decoder along; called: what its maker called the model.
    """

    name: str
    id: str
    model: str
    embedded: bool
    called: str

    @property
    def met(self) -> bool:
        """Whether the stream can be decoded here."""
        return bool(self.model) or self.embedded


@dataclass(frozen=True)
class Verification:
    """Whether a stream is whole.

    error: "" or one sentence; exit_code: that of the error, or 0. offset (byte) and seconds: where
    the first bad chunk begins, None where no stream was found at all. model: the one whose tables
    decoded every symbol, "" where none was at hand and only the checksums of the bytes were
    checked; "embedded" for the decoder that the stream brings along. stream: None unless it is
    whole.
    """

    name: str
    ok: bool
    error: str
    exit_code: int
    offset: int | None
    seconds: float | None
    model: str
    stream: StreamSummary | None


@contextmanager
def open_stream(source: str | Path) -> Iterator[ByteSource]:
    """The bytes of a file, or of standard input for `-`.

    Raises:
        InputError: it is missing or cannot be read. UsageError: standard input is a terminal.
    """
    with ExitStack() as resources:
        check_source(source)
        name = source_name(source)
        try:
            if not is_stdio(source) and Path(source).is_dir():
                raise InputError(f"{name}: is a folder, expected an .rvc file")
            file = (
                binary_stdin()
                if is_stdio(source)
                else resources.enter_context(Path(source).open("rb"))
            )
        except OSError as error:
            raise InputError(f"{name}: cannot be opened ({error.strerror})") from error
        except ValueError as error:  # a null character
            raise InputError(f"{name!r}: cannot be opened ({error})") from error
        stream = ByteSource(file)
        stream.name = name
        try:
            yield stream
        except OSError as error:
            raise InputError(f"{name}: cannot be read ({error.strerror})") from error


def is_regular(source: str | Path) -> bool:
    """Whether `source` is a file that can be read twice, not a pipe."""
    return not is_stdio(source) and Path(source).is_file()


def inspect_file(source: str | Path, *, frames: bool = False) -> Inspection:
    """Reads a stream to its end, checking every checksum of its bytes. frames: list its chunks as
    well.

    Raises:
        InputError, FormatError, CorruptError, TruncatedError.
    """
    with open_stream(source) as file:
        return _inspected(StreamReader(file), frames)


def inspect(data: bytes, *, frames: bool = False) -> Inspection:
    """Like `inspect_file`, of a stream in memory, as `encode` returns it; its name is "stream".

    Raises:
        FormatError, CorruptError, TruncatedError; UsageError for what is no bytes.
    """
    if not isinstance(data, (bytes, bytearray, memoryview)):
        raise UsageError(f"the stream is {type(data).__name__}, expected bytes")
    return _inspected(StreamReader(io.BytesIO(data)), frames)


def _inspected(reader: StreamReader, frames: bool) -> Inspection:
    info, listed, chunks = reader.info, [], 0
    for chunk in reader.chunks():
        chunks += 1
        if frames:
            listed.append(_chunk_summary(chunk, chunk.first_frame, info))
    if frames and reader.lead_in:
        listed.insert(0, _chunk_summary(reader.lead_in, -1, info))
    model = zoo.installed(info.model_id)
    return Inspection(
        name=reader.name,
        version=f"{MAJOR}.{info.minor}",
        model=model.name if model else "",
        model_rate=info.model_rate,
        hop=info.hop,
        noise_fill=info.noise_fill,
        seed=info.seed,
        stream=_summarise_reader(reader, chunks),
        meta=reader.meta,
        chunks=tuple(listed) if frames else None,
        embedded=_embedded_summary(reader),
    )


def _embedded_summary(reader: StreamReader) -> EmbeddedSummary | None:
    if (found := reader.model) is None:
        return None
    return EmbeddedSummary(reader.bytes.model, found.size, found.sha256.hex())


def _chunk_summary(chunk: Chunk, frame: int, info: StreamInfo) -> ChunkSummary:
    return ChunkSummary(
        frame=frame,
        seconds=frame * info.hop / info.model_rate,
        frames=chunk.frames,
        offset=chunk.offset,
        bytes=chunk.size,
        dims=chunk.dims,
        step_index=chunk.step_index,
        silent=chunk.silent,
    )


def _summarise_reader(reader: StreamReader, chunks: int) -> StreamSummary:
    assert reader.total_samples is not None
    return summarise(reader.info, reader.total_samples, reader.frames, chunks, reader.bytes)


def need_of(source: str | Path) -> Need:
    """What a file's first stream needs; read up to its first audio.

    Raises:
        InputError, FormatError, CorruptError, TruncatedError.
    """
    with open_stream(source) as file:
        reader = StreamReader(file)
        found, called = zoo.installed(reader.info.model_id), reader.meta.get(zoo.MODEL_KEY)
        return Need(
            reader.name,
            reader.info.model_id.hex(),
            found.name if found else "",
            reader.model is not None,
            called if isinstance(called, str) else "",
        )


def verify_file(source: str | Path, *, model: str | Path | None = None) -> Verification:
    """Checks a stream in full, without audio; what is wrong stands in the result, nothing of it is
    raised.

    model: name, path or id; by default the stream's own model is looked up, and done without if it
    is not installed.
    """
    check = _Check(model)
    try:
        with open_stream(source) as file:
            stream = check.run(StreamReader(file))
    except RavecodecError as error:
        return check.result(source, str(error), error.exit_code, None)
    return check.result(source, "", 0, stream)


class _Check:
    """One pass over a stream that knows where it is when an error ends it."""

    def __init__(self, wanted: str | Path | None) -> None:
        self._wanted = wanted
        self._model = ""
        self._reader: StreamReader | None = None
        # Offset and first frame of the chunk whose symbols are being decoded.
        self._chunk: tuple[int, int] | None = None

    def run(self, reader: StreamReader) -> StreamSummary:
        self._reader = reader
        static = self._tables(reader)
        chunks = 0
        for chunk in reader.chunks():
            chunks += 1
            if static is not None:
                if chunks == 1 and reader.lead_in:
                    self._decode(reader, reader.lead_in, static)
                self._decode(reader, chunk, static)
        return _summarise_reader(reader, chunks)

    def _decode(self, reader: StreamReader, chunk: Chunk, static: StaticModel) -> None:
        self._chunk = (chunk.offset, chunk.first_frame)
        reader.decode_chunk(chunk, static)
        self._chunk = None

    def _tables(self, reader: StreamReader) -> StaticModel | None:
        if self._wanted is None:
            entry = zoo.installed(reader.info.model_id)
        else:
            entry = zoo.model_for_stream(reader.info, reader.name, self._wanted)
        brought = self._brought(reader, entry)
        found = entry or brought
        if found is None:
            return None
        self._model = entry.name if entry else EMBEDDED
        return zoo.read_tables(found, reader.info.model_id)

    def _brought(self, reader: StreamReader, entry: zoo.ModelEntry | None) -> zoo.Embedded | None:
        """The decoder in the stream, all of its values checked, and compared with the model where
        that is installed.
        """
        if (model := reader.model) is None:
            return None
        found = zoo.embedded(model, reader)
        found.header.arrays(found.header.tensors)
        if entry is not None and entry.id == reader.info.model_id:
            own = zoo.to_embed(entry.path).sha256
            if own != found.sha256:
                raise ModelError(
                    f"{reader.name}: the embedded model has SHA-256 {found.sha256.hex()}, but the "
                    f"decoder of {entry} has {own.hex()}"
                )
        return found

    def result(
        self, source: str | Path, error: str, code: int, stream: StreamSummary | None
    ) -> Verification:
        name = source_name(source)
        offset, seconds = self._place() if error else (None, None)
        return Verification(name, not error, error, code, offset, seconds, self._model, stream)

    def _place(self) -> tuple[int | None, float | None]:
        """Byte and second where the chunk begins that was looked at last."""
        if self._reader is None:
            return None, None
        offset, frame = self._chunk or (self._reader.bytes.total, self._reader.frames)
        return offset, frame / self._reader.info.frame_rate
