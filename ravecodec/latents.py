"""Latents that one can hold: `Latents`, made from audio, a stream or a file, and turned into audio
or a stream.

    latents = analyse(audio, 44100)              latents = Latents.from_stream("song.rvc")
    audio, rate = latents.synthesise()           data = latents.to_stream()

They go through the same `Analysis`, `Quantizer`, `Coder` and `Decoder` as `encode` and `decode`.
What can be done to them without a network is in `edits.py`. torch is loaded by the functions that
need a model.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ravecodec.arrays import as_audio, as_numpy
from ravecodec.audio import MAX_CHANNELS, MAX_RATE, MIN_RATE, Audio, open_input, resampled_length
from ravecodec.bitstream import EmbeddedModel, StreamInfo, StreamReader
from ravecodec.bitstream.container import check_info
from ravecodec.bitstream.limits import MAX_CHUNK_FRAMES, MAX_SYMBOL
from ravecodec.encoding import BLOCK, header_for
from ravecodec.errors import InputError, UsageError
from ravecodec.examine import StreamSummary, open_stream
from ravecodec.loading import model_of, model_to_encode
from ravecodec.point import Point, whole
from ravecodec.tables import tables_for

if TYPE_CHECKING:  # these import torch
    from ravecodec.codec import Coded
    from ravecodec.models.package import Model
    from ravecodec.quantize import Quantizer

Values = NDArray[np.float32]  # [frames, dims]


def _as_array(value: Any, what: str) -> NDArray[Any]:
    """An array of whatever it is; InputError for rows of different lengths."""
    if np.ma.is_masked(value):
        raise InputError(f"latents: {what} has masked entries, expected a value for each")
    try:
        return np.asarray(as_numpy(value))
    except ValueError as error:
        raise InputError(f"latents: {what} is no array ({error})") from error


@dataclass(frozen=True, eq=False, repr=False)
class Latents:
    """The latents of a whole piece, on the axes of its model.

    values: float32 [frames, dims], axis vectors (`LatentSpace`): SVD order, mean 0 over training
    data; any array or tensor of real numbers is taken. Column d is axis d.
    samples: per channel, of the piece at its original rate.
    info: the header of its stream: model id, original rate, channels, frame rate, step index, seed.
    silent: bool [frames], frames that stand for digital silence; none by default.
    lead: float32 [0 or 1, dims], the frame before the first, which is not played (docs/design.md).
    chunks: int32 [chunks, 3], how a stream was divided: frames, step index and dims of each chunk,
    that of the lead-in first if there is one. None: as the encoder does it, at the header's step
    index and dims.
    meta: metadata of the stream, a JSON object.

    InputError if they do not fit together or hold NaN or infinity, UsageError for a header that
    cannot be.
    """

    values: Values
    samples: int
    info: StreamInfo
    silent: NDArray[np.bool_] = None  # type: ignore[assignment]
    lead: Values = None  # type: ignore[assignment]
    chunks: NDArray[np.int32] | None = None
    meta: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not isinstance(self.info, StreamInfo):
            raise InputError(f"latents: info is {type(self.info).__name__}, expected StreamInfo")
        check_info(self.info)
        values = checked_values(self.values, "values", self.info.dims)
        lead = np.zeros((0, self.info.dims)) if self.lead is None else self.lead
        silent = np.zeros(len(values), np.bool_) if self.silent is None else self.silent
        chunks = None if self.chunks is None else _as_array(self.chunks, "chunks")
        object.__setattr__(self, "values", values)
        object.__setattr__(self, "lead", checked_values(lead, "lead", self.info.dims))
        object.__setattr__(self, "silent", _as_array(silent, "silent"))
        object.__setattr__(self, "chunks", chunks)
        object.__setattr__(self, "samples", whole(self.samples, "samples"))
        self._check()

    def _check(self) -> None:
        info, frames = self.info, len(self.values)
        if self.silent.shape != (frames,) or self.silent.dtype != np.bool_:
            found = f"{self.silent.dtype} of shape {self.silent.shape}"
            raise InputError(f"latents: silent is {found}, expected bool of shape ({frames},)")
        if len(self.lead) > 1:
            raise InputError(f"latents: lead has {len(self.lead)} frames, expected 0 or 1")
        if not (MIN_RATE <= info.sample_rate <= MAX_RATE and info.channels <= MAX_CHANNELS):
            found = f"{info.channels} channels at {info.sample_rate} Hz"
            expected = f"1 or {MAX_CHANNELS} at {MIN_RATE} to {MAX_RATE} Hz"
            raise InputError(f"latents: are of {found}, expected {expected}")
        played = resampled_length(self.samples, info.sample_rate, info.model_rate)
        most = info.max_samples(frames) if frames else 0
        if not (0 <= self.samples <= most and (frames - 1) * info.hop < max(played, 1)):
            lasts = f"{frames} frames last {info.samples(frames)} samples"
            raise InputError(
                f"latents: {lasts}, but samples is {self.samples}; expected them to agree"
            )
        if self.chunks is not None:
            self._check_chunks(self.chunks)

    def _check_chunks(self, chunks: NDArray[np.int32]) -> None:
        expected = "expected whole numbers [chunks, 3] (frames, step index, dims), as of the stream"
        if chunks.ndim != 2 or chunks.shape[1] != 3 or not np.issubdtype(chunks.dtype, np.integer):
            raise InputError(
                f"latents: chunks is {chunks.dtype} of shape {chunks.shape}, {expected}"
            )
        frames, _, dims = chunks.T
        fits = (frames >= 1) & (frames <= MAX_CHUNK_FRAMES) & (dims >= 0) & (dims <= self.info.dims)
        if not fits.all() or frames.sum() != len(self.lead) + len(self.values):
            total = len(self.lead) + len(self.values)
            raise InputError(f"latents: chunks do not divide {total} frames, {expected}")
        if len(self.lead) and frames[0] != 1:
            raise InputError(f"latents: the lead's chunk has {frames[0]} frames, expected 1")
        for first, count, _, _ in self._runs():
            if len(set(self.silent[max(0, first) : first + count])) > 1:
                raise InputError(f"latents: a chunk at frame {first} is silent in part, {expected}")

    # ---- what they are ----

    def __len__(self) -> int:
        return len(self.values)

    def __repr__(self) -> str:
        size = f"{len(self)} frames of {self.info.dims} dims"
        audio = f"{self.samples} samples at {self.info.sample_rate} Hz"
        form = f"channels={self.info.channels}, model {self.info.model_id.hex()}"
        return f"<Latents {size}, {audio}, {form}>"

    @property
    def model_id(self) -> bytes:
        """The 8 bytes that name the model."""
        return self.info.model_id

    @property
    def frame_rate(self) -> float:
        """Frames per second."""
        return self.info.frame_rate

    @property
    def sample_rate(self) -> int:
        """Hz, of the original audio."""
        return self.info.sample_rate

    @property
    def channels(self) -> int:
        """Of the original audio."""
        return self.info.channels

    @property
    def duration(self) -> float:
        """Seconds of audio."""
        return self.samples / self.info.sample_rate

    def about(self) -> dict[str, Any]:
        """What they are, without the values, as plain numbers and text."""
        return {
            "frames": len(self),
            "dims": self.info.dims,
            "frame_rate": self.frame_rate,
            "silent_frames": int(self.silent.sum()),
            "sample_rate": self.sample_rate,
            "channels": self.channels,
            "samples": self.samples,
            "duration": self.duration,
            "step_index": self.info.step_index,
            "model_id": self.model_id.hex(),
        }

    # ---- streams ----

    @classmethod
    def from_stream(
        cls,
        source: bytes | str | Path,
        model: str | Path | Model | None = None,
        *,
        device: str = "auto",
        threads: int | None = None,
    ) -> Latents:
        """The latents of an .rvc stream, its bytes or a file (`-`: standard input): what its
        symbols stand for.

        Raises:
            InputError, FormatError, CorruptError, TruncatedError, ModelError.
        """
        with ExitStack() as resources:
            if isinstance(source, bytes):
                reader = StreamReader(io.BytesIO(source))
            else:
                reader = StreamReader(resources.enter_context(open_stream(source)))
            loaded = model_of(
                reader.info, reader.name, model, reader=reader, device=device, threads=threads
            )
            return cls.read(reader, loaded)

    @classmethod
    def read(cls, reader: StreamReader, model: Model) -> Latents:
        """The same from an open stream, which is read to its end, with its loaded model."""
        from ravecodec.pipeline import with_lead_in
        from ravecodec.quantize import Quantizer

        static = tables_for(model, reader.info.model_id)
        parts, rows, silent = [], [], []
        for chunk in with_lead_in(reader):
            symbols, step = reader.decode_chunk(chunk, static), chunk.step_index
            quantizer = Quantizer(model.latent, model.coding, symbols.shape[1], step, False)
            values = np.zeros((len(symbols), reader.info.dims), np.float32)
            values[:, : chunk.dims] = quantizer.values(symbols)
            parts.append(values)
            rows.append((chunk.frames, step, chunk.dims))
            silent.append(np.full(chunk.frames, chunk.silent))
        leads = int(reader.lead_in is not None and bool(parts))
        joined = np.concatenate([np.zeros((0, reader.info.dims), np.float32), *parts])
        flags = np.concatenate([np.zeros(0, np.bool_), *silent])
        assert reader.total_samples is not None
        return cls(
            values=joined[leads:],
            samples=reader.total_samples,
            info=replace(reader.info, minor=0),  # which is that of a stream to be written
            silent=flags[leads:],
            lead=joined[:leads],
            chunks=np.array(rows, np.int32).reshape(-1, 3),
            meta=reader.meta,
        )

    def to_stream(self, model: str | Path | Model | None = None, *, device: str = "auto") -> bytes:
        """The bytes of an .rvc stream, quantised at its step index.

        Latents of a stream that were left alone give the same symbols and, where ravecodec wrote
        it, the same bytes.

        Raises:
            ModelError; InputError for values that the format cannot hold.
        """
        file = io.BytesIO()
        self.write(file, model_of(self.info, "latents", model, device=device))
        return file.getvalue()

    def write(
        self, file: BinaryIO, model: Model, embedded: EmbeddedModel | None = None
    ) -> StreamSummary:
        """The same into an open file, with a loaded model, and with its decoder in the stream where
        that is given.
        """
        from ravecodec.pipeline import EncodePipeline

        pipeline = EncodePipeline(model, self.info, file, self.meta, embedded)
        pipeline.encode_chunks(self._coded(model), self.samples)
        return pipeline.summary()

    def _coded(self, model: Model) -> Iterator[Coded]:
        """The chunks of the stream."""
        from ravecodec.analysis import Projected
        from ravecodec.codec import Coded, Coder

        if self.chunks is None:
            coder = Coder(model, self.info)
            for first, frames, quantizer in self._quantizers(model):
                self._check_range(self._part(first, frames, quantizer), first, quantizer)
            flags = np.concatenate([np.zeros(len(self.lead), np.bool_), self.silent])
            axes = np.concatenate([self.lead, self.values]).astype(np.float64)
            yield from coder.process_axes(Projected(axes, flags, len(self.lead)))
            yield from coder.flush()
            return
        for first, frames, quantizer in self._quantizers(model):
            values = self._part(first, frames, quantizer)
            self._check_range(values, first, quantizer)
            symbols, lead = quantizer.rounded(values.astype(np.float64)), first < 0
            silent = not lead and bool(self.silent[first])
            yield Coded(symbols, quantizer.step_index, silent, lead)

    def _check_range(self, values: Values, first: int, quantizer: Quantizer) -> None:
        """InputError for values that rounding would have to limit."""
        beyond = np.abs(values) > (MAX_SYMBOL + 0.5) * quantizer.step
        if beyond.any():
            frame, axis = (int(i) for i in np.argwhere(beyond)[0])
            found = f"axis {axis} of frame {first + frame} is {values[frame, axis]:g}"
            most = f"{MAX_SYMBOL * quantizer.step[axis]:g}"
            raise InputError(f"latents: {found}, a stream at this step holds at most {most}")

    def _runs(self) -> Iterator[tuple[int, int, int, int]]:
        """First frame, frames, step index and dims of stretches that are sent alike; the lead's
        first frame is -1.
        """
        if self.chunks is None:
            borders = np.flatnonzero(self.silent[1:] != self.silent[:-1]) + 1
            ends = [*([0] if len(self.lead) else []), *borders, *([len(self)] if len(self) else [])]
            rows: Iterable[Any] = [
                (n, self.info.step_index, self.info.dims) for n in np.diff([-len(self.lead), *ends])
            ]
        else:
            rows = self.chunks
        first = -len(self.lead)
        for frames, step, dims in rows:
            yield first, int(frames), int(step), int(dims)
            first += int(frames)

    def _quantizers(self, model: Model) -> Iterator[tuple[int, int, Quantizer]]:
        """First frame, frames and quantizer of every run."""
        from ravecodec.quantize import quantizer_of

        for first, frames, step, dims in self._runs():
            yield first, frames, quantizer_of(model, self.info, dims=dims, step_index=step)

    def _part(self, first: int, frames: int, quantizer: Quantizer) -> Values:
        """The values of a run [frames, dims of the run]."""
        rows = self.lead if first < 0 else self.values[first : first + frames]
        return rows[:, : quantizer.dims]

    # ---- audio ----

    def synthesise(
        self,
        model: str | Path | Model | None = None,
        *,
        rate: int | None = None,
        device: str = "auto",
    ) -> tuple[Audio, int]:
        """Audio float32 [channels, samples] and its rate in Hz, from the values as they are, not
        quantised.

        rate: of the output, by default the original's. ModelError, InputError as for `to_stream`.
        """
        rate = None if rate is None else whole(rate, "the output's rate")
        if rate is not None and not MIN_RATE <= rate <= MAX_RATE:
            raise UsageError(
                f"the output's rate is {rate} Hz, expected {MIN_RATE} to {MAX_RATE} Hz"
            )
        loaded = model_of(self.info, "latents", model, device=device)
        blocks = list(self.audio(loaded, rate))
        return np.concatenate(blocks, axis=1), rate or self.sample_rate

    def audio(self, model: Model, rate: int | None = None) -> Iterator[Audio]:
        """The same block by block, with a loaded model."""
        from ravecodec.codec import Decoder

        decoder = Decoder(model, self.info, sample_rate=rate)
        for first, frames, quantizer in self._quantizers(model):
            values = self._part(first, frames, quantizer).astype(np.float64)
            filled = quantizer.filled(values, first, self.info.seed)
            if first < 0:
                decoder.lead_in_latents(filled)
            else:
                yield from map(_finite, decoder.process_latents(filled, bool(self.silent[first])))
        yield from map(_finite, decoder.flush(self.samples))

    # ---- files ----

    def save(self, target: str | Path, *, force: bool = False) -> None:
        """Into a file: .npz is everything; .npy (values) and .csv (seconds, silent, one column per
        axis) are for people and other programs. `-` is an npz on standard output. OutputError,
        UsageError."""
        from ravecodec.latents_file import save

        save(self, target, force=force)

    @classmethod
    def load(cls, source: str | Path) -> Latents:
        """From an npz file that `save` wrote; `-` is standard input.

        InputError if it is none, or what it holds does not fit together.
        """
        from ravecodec.latents_file import load

        return load(source)


def checked_values(values: Any, what: str, dims: int) -> Values:
    """As float32 [frames, dims]; InputError for other shapes, other things than real numbers, NaN
    and infinity.
    """
    array = _as_array(values, what)
    real = np.issubdtype(array.dtype, np.floating) or np.issubdtype(array.dtype, np.integer)
    if not real or array.ndim != 2 or array.shape[1] != dims:
        found = f"{array.dtype} of shape {array.shape}"
        raise InputError(f"latents: {what} is {found}, expected real numbers [frames, {dims}]")
    with np.errstate(over="ignore"):  # infinite then, and refused
        array = array.astype(np.float32)
    if not (finite := np.isfinite(array)).all():
        frame, axis = (int(i) for i in np.argwhere(~finite)[0])
        found = f"{what} holds {array[frame, axis]:g} at frame {frame}, axis {axis}"
        raise InputError(f"latents: {found}, expected finite numbers")
    return array


def _finite(block: Audio) -> Audio:
    if not np.isfinite(block).all():
        raise InputError(
            "latents: decode to NaN or infinity, expected audio; the values are too far out"
        )
    return block


def frames_of(info: StreamInfo, samples: int) -> int:
    """Frames that so many samples, at the original's rate, need."""
    return -(-resampled_length(samples, info.sample_rate, info.model_rate) // info.hop)


# ---- from audio ----------------------------------------------------------------------------------


def analyse(
    audio: ArrayLike,
    sample_rate: int,
    model: str | Path | Model | None = None,
    *,
    fidelity: float | None = None,
    dims: int | None = None,
    step_index: int | None = None,
    effort: int | None = None,
    point: Point | None = None,
    seed: int = 0,
    full_scale: float = 1.0,
    device: str = "auto",
) -> Latents:
    """Audio float [channels, n] or [n], array or tensor, full scale +-1 -> its `Latents`, not
    quantised.

    Options as for `encode`, whose streams are those of `to_stream` with levels of effort that do
    not search; of the others only the corrections apply here. step_index matters to `to_stream`
    alone. point: in place of fidelity, dims, step_index and effort, the fields that it may set.

    Raises:
        InputError, UsageError, ModelError, as `encode`.
    """
    sample_rate = whole(sample_rate, "the rate")
    samples = as_audio(as_numpy(audio), sample_rate, full_scale)
    point = Point.of(point, fidelity=fidelity, dims=dims, step_index=step_index, effort=effort)
    loaded = model_to_encode(model, point, device, None)
    info = header_for(loaded, sample_rate, len(samples), point, seed)
    blocks = (samples[:, i : i + BLOCK] for i in range(0, samples.shape[1], BLOCK))
    return _analysed(loaded, info, blocks, point)


def analyse_file(
    source: str | Path,
    model: str | Path | Model | None = None,
    *,
    dims: int | None = None,
    effort: int | None = None,
    point: Point | None = None,
    device: str = "auto",
    threads: int | None = None,
) -> Latents:
    """The same for an audio file, or `-`."""
    point = Point.of(point, dims=dims, effort=effort)
    with open_input(source) as audio:
        loaded = model_to_encode(model, point, device, threads)
        info = header_for(loaded, audio.sample_rate, audio.channels, point, 0)
        return _analysed(loaded, info, audio.blocks(BLOCK), point)


def _analysed(model: Model, info: StreamInfo, blocks: Iterable[Audio], point: Point) -> Latents:
    from ravecodec.effort import Analysis, effort_of
    from ravecodec.quantize import quantizer_of

    corrections = effort_of(model, point.effort).corrections
    analysis = Analysis(model, info.sample_rate, info.seed, corrections)
    quantizer = quantizer_of(model, info)
    frames = [part for block in blocks for part in analysis.process(block)]
    frames += analysis.flush()
    leads = frames[0].lead if frames else 0
    none = np.zeros((0, info.dims))
    values = np.concatenate([none, *(quantizer.axes(part.means) for part in frames)]).astype(
        np.float32
    )
    silent = np.concatenate([np.zeros(0, np.bool_), *(part.silent for part in frames)])
    return Latents(values[leads:], analysis.samples, info, silent[leads:], values[:leads])
