"""What is done to every excerpt: a model's operating points, its bounds, other codecs, controls. A
condition is data (`Condition.settings`); `apply` carries it out, in any process."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ravecodec.audio import match_channels
from ravecodec.effort import check_effort
from ravecodec.errors import UsageError
from ravecodec.evaluate import anchors
from ravecodec.evaluate.anchors import Outcome
from ravecodec.evaluate.excerpts import RATE, Audio
from ravecodec.evaluate.filters import TRANSITION, low_pass
from ravecodec.evaluate.results import Condition

if TYPE_CHECKING:  # imports torch
    from ravecodec.models.package import Model

LADDER = (-12, -6, 0, 6, 12)  # step indices around a model's own: three octaves
FIDELITIES = (0.8, 0.9, 0.95, 0.99)  # the paper's, and one more
OPUS, OPUS_STEREO, MP3 = (6, 8, 12, 16, 24), (16, 24, 32), (16, 32, 48, 64)  # nominal kbit/s
OPUS_LONG, AAC = (8, 9, 12, 16), (16, 24, 32, 48)
GENERATIONS = (3, 10)  # times through the codec
# BS.1534's anchors.
LOWPASS = (
    ("lowpass-3.5k", "low-pass 3.5kHz", 3500.0),
    ("lowpass-7k", "low-pass 7kHz", 7000.0),
)
Settings = Mapping[str, Any]
ANCHORS = ("opus", "opus-stereo", "mp3", "lowpass", "opus-60ms", "aac")


def model_conditions(
    name: str,
    model: Model,
    steps: Sequence[int] | None = None,
    fidelities: Sequence[float] | None = None,
    efforts: Sequence[int] = (),
) -> Iterator[Condition]:
    """A model's points: each of the fidelities (none: its own dims) at each of the steps (none:
    LADDER around its own), a curve for each fidelity, and one at its own dims for each of the
    efforts beside its own; by default also FIDELITIES at its own step, the two bounds that split
    the blame, and GENERATIONS at its own point."""
    for level in efforts:
        check_effort(level)
    own = _Point(model.coding.dims, model.coding.step_index, model.coding.effort)
    grid = [("", own)]
    if fidelities is not None:
        grid = [(f" f={f:g}", replace(own, dims=model.latent.dims_for(f))) for f in fidelities]
    grid += [
        (f", effort {level}", replace(own, effort=level))
        for level in efforts
        if level != own.effort
    ]
    ladder = steps if steps is not None else [own.step_index + offset for offset in LADDER]
    for suffix, point in grid:
        for step in sorted(ladder, reverse=True):  # rates rise
            label = f"{name}{suffix}, step {step}"
            yield _condition(name, name + suffix, model, replace(point, step_index=step), label)
    if fidelities is None:
        for f in FIDELITIES:
            point = replace(own, dims=model.latent.dims_for(f))
            label = f"{name}, f = {f:g}, {point.dims} dims"
            yield _condition(name, f"{name} by fidelity", model, point, label)
    bounds: dict[str, int | None] = {
        "not quantised": None,
        "cropped, not quantised": model.coding.dims,
    }
    for what, sent in bounds.items():
        settings = {"do": "unquantised", "model": model.id.hex(), "dims": sent}
        yield Condition(_id(name, what), f"{name}, {what}", "bound", f"{name}, {what}", settings)
    for passes in GENERATIONS:
        label = f"{name}, {passes} times"
        settings = {"do": "ravecodec", "model": model.id.hex(), **asdict(own), "passes": passes}
        yield Condition(_id(name, f"{passes} times"), label, "again", label, settings)


@dataclass(frozen=True)
class _Point:
    """An operating point of a model."""

    dims: int
    step_index: int
    effort: int


def _condition(name: str, series: str, model: Model, point: _Point, label: str) -> Condition:
    settings = {"do": "ravecodec", "model": model.id.hex(), **asdict(point)}
    settings["fidelity"] = round(model.latent.fidelity(point.dims), 4)
    own = _Point(model.coding.dims, model.coding.step_index, model.coding.effort)
    settings["default"] = point == own
    place = f"d{point.dims}g{point.step_index}" + (
        f"e{point.effort}" if point.effort != own.effort else ""
    )
    return Condition(_id(name, series, place), series, "model", label, settings)


def anchor_conditions(names: Sequence[str]) -> Iterator[Condition]:
    """The conditions of anchors by name, and the controls, which no report goes without. UsageError
    for other names."""
    if unknown := [name for name in names if name not in ANCHORS]:
        raise UsageError(f"anchor {unknown[0]!r}; expected some of {', '.join(ANCHORS)}")
    for name in dict.fromkeys(names):
        yield from _ANCHORS[name]
    for name, label in (
        ("identity", "the excerpt itself"),
        ("noise-vocoded", "noise with the excerpt's envelope"),
        ("another-excerpt", "another excerpt"),
    ):
        yield Condition(name, name, "control", label, {"do": name})


def _codec(series: str, label: str, rates: Sequence[int], **settings: Any) -> list[Condition]:
    return [
        Condition(
            _id(series, str(kbps)), series, "codec", f"{label} {kbps}", {**settings, "kbps": kbps}
        )
        for kbps in rates
    ]


def _id(*parts: str) -> str:
    """A name for files."""
    text = "-".join(part for part in parts if part)
    return "".join(c if c.isalnum() or c in ".-_" else "-" for c in text)


_AV: dict[str, Any] = {"do": "av", "channels": 1}
_ANCHORS = {
    "opus": _codec("opus", "Opus (mid)", OPUS, do="opus", channels=1),
    "opus-stereo": _codec("opus-stereo", "Opus (stereo)", OPUS_STEREO, do="opus", channels=2),
    "mp3": _codec("mp3", "MP3 (mid)", MP3, do="mp3", channels=1),
    "opus-60ms": _codec(
        "opus-60ms",
        "Opus (mid, 60 ms)",
        OPUS_LONG,
        codec="libopus",
        container="ogg",
        options={"frame_duration": "60"},
        **_AV,
    ),
    "aac": _codec("aac", "AAC-LC (mid)", AAC, codec="aac", container="adts", options={}, **_AV),
    "lowpass": [
        Condition(
            name,
            name,
            "control",
            label,
            {"do": "lowpass", "hz": hertz, "transition_hz": TRANSITION},
        )
        for name, label, hertz in LOWPASS
    ],
}


def apply(settings: Settings, audio: Audio, other: Audio, models: Mapping[str, Path]) -> Outcome:
    """Carries a condition out on an excerpt float32 [channels, samples], which keeps its shape.

    other: the excerpt that stands in for it in `another-excerpt`; models: package by id.
    """
    match settings["do"]:
        case "ravecodec":
            return _coded(settings, audio, _model(models[settings["model"]]))
        case "unquantised":
            return _unquantised(settings["dims"], audio, _model(models[settings["model"]]))
        case "identity":
            return Outcome(audio)
        case "another-excerpt":
            return Outcome(_fitted(match_channels(other, len(audio)), audio.shape[1]))
        case "noise-vocoded":
            return anchors.noise_vocoded(audio)
        case "lowpass":
            return Outcome(low_pass(audio, settings["hz"]))
        case _:
            done = _by_codec(settings, match_channels(audio, settings["channels"]))
            return Outcome(match_channels(done.audio, len(audio)), done.bytes, done.payload)


def _by_codec(settings: Settings, sent: Audio) -> Outcome:
    kbps = settings["kbps"]
    match settings["do"]:
        case "opus":
            return anchors.opus(sent, kbps)
        case "mp3":
            return anchors.mp3(sent, kbps)
        case _:
            codec, container = settings["codec"], settings["container"]
            return anchors.av_codec(sent, codec, container, kbps, settings["options"])


def _fitted(audio: Audio, samples: int) -> Audio:
    """Repeated or cut to a length."""
    return np.ascontiguousarray(np.tile(audio, -(-samples // audio.shape[1]))[:, :samples])


@lru_cache(maxsize=2)
def _model(path: Path) -> Model:
    from ravecodec.loading import load_model

    return load_model(path, device="cpu")


def _coded(settings: Settings, audio: Audio, model: Model) -> Outcome:
    """Through a real stream."""
    import io

    from ravecodec.bitstream import StreamReader
    from ravecodec.decoding import decode
    from ravecodec.encoding import encode

    point = {key: settings[key] for key in ("dims", "step_index", "effort")}
    sent = []
    for _ in range(settings.get("passes", 1)):
        # What a file of integers between two passes would hold.
        data = encode(np.clip(audio, -1, 1), RATE, model, **point)
        audio = decode(data, model)[0]
        sent.append(data)
    reader = StreamReader(io.BytesIO(data))
    payload = sum(1 for _ in reader.chunks()) and reader.bytes.payload
    kept = _kept(sent[0], data, model) if len(sent) > 1 else None
    return Outcome(audio, len(data), payload, kept, static_bytes(data, model))


def static_bytes(data: bytes, model: Model) -> int | None:
    """What a stream would take if its symbols were coded with static tables alone; None for a model
    without a predictor.
    """
    import io

    from ravecodec.bitstream import StreamReader, StreamWriter
    from ravecodec.pipeline import with_lead_in
    from ravecodec.tables import tables_of

    if model.coding.prediction is None:
        return None
    reader, tables = StreamReader(io.BytesIO(data)), tables_of(model.coding)
    writer = StreamWriter(io.BytesIO(), reader.info, replace(tables, predictor=None))
    for at, chunk in enumerate(with_lead_in(reader)):
        if at == 0 and reader.meta:
            writer.write_meta(reader.meta)
        symbols = reader.decode_chunk(chunk, tables)
        if chunk is reader.lead_in:
            writer.write_lead_in(symbols, chunk.step_index)
        else:
            writer.write_chunk(symbols, chunk.step_index, silent=chunk.silent)
    assert reader.total_samples is not None
    writer.close(reader.total_samples)
    return writer.bytes.total


def _kept(first: bytes, last: bytes, model: Model) -> float:
    """Share of the symbols of one stream that another has at the same place."""
    one, other = (_symbols(data, model) for data in (first, last))
    return float(np.mean(one == other))


def _symbols(data: bytes, model: Model) -> NDArray[np.int32]:
    """Of all chunks, [frames, dims]."""
    import io

    from ravecodec.bitstream import StreamReader
    from ravecodec.tables import tables_of

    reader, static = StreamReader(io.BytesIO(data)), tables_of(model.coding)
    return np.concatenate([reader.decode_chunk(chunk, static) for chunk in reader.chunks()])


def _unquantised(dims: int | None, audio: Audio, model: Model) -> Outcome:
    """What the model would make of its own latents: all of them, or those that the default point
    sends, the others filled as a decoder fills them."""
    from ravecodec.analysis import Analyser
    from ravecodec.codec import Decoder, stream_info
    from ravecodec.quantize import quantizer_of

    info = stream_info(model, RATE, len(audio), dims or model.config.latent, 0)
    quantizer = quantizer_of(model, info, step_index=0)
    analyser, decoder = Analyser(model, RATE), Decoder(model, info)
    blocks = [*analyser.process(audio), *analyser.flush()]
    lead = blocks[0].lead
    axes = quantizer.axes(np.concatenate([block.means for block in blocks]))
    latents = quantizer.filled(axes, -lead)
    if lead:
        decoder.lead_in_latents(latents[:lead])
    pieces = [*decoder.process_latents(latents[lead:]), *decoder.flush(audio.shape[1])]
    return Outcome(np.concatenate(pieces, axis=1))
