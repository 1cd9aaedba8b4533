"""What is done to every excerpt: a model's operating points, its bounds, other codecs, controls. A
condition is data (`Condition.settings`); `apply` carries it out, in any process."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ravecodec.audio import Audio, match_channels
from ravecodec.bitstream import StreamReader, StreamWriter
from ravecodec.errors import UsageError
from ravecodec.evaluate import anchors
from ravecodec.evaluate.anchors import Outcome
from ravecodec.evaluate.filters import RATE, TRANSITION, low_pass
from ravecodec.evaluate.results import Condition
from ravecodec.evaluate.sounds import repeated
from ravecodec.point import Point
from ravecodec.tables import tables_of

if TYPE_CHECKING:  # imports torch
    from ravecodec.models.package import Model

LADDER = (-12, -6, 0, 6, 12)  # step indices around a model's own: three octaves
FIDELITIES = (0.8, 0.9, 0.95, 0.99)  # the paper's, and one more
GENERATIONS = (3, 10)  # times through the codec
LOWPASS = {"3.5k": 3500.0, "7k": 7000.0}  # Hz: BS.1534's anchors
CONTROLS = {
    "identity": "the excerpt itself",
    "noise-vocoded": "noise with the excerpt's envelope",
    "another-excerpt": "another excerpt",
}
Settings = Mapping[str, Any]


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
    own = _own_point(model)
    curves = {"": own}
    if fidelities is not None:
        curves = {f" f={f:g}": replace(own, dims=model.latent.dims_for(f)) for f in fidelities}
    for level in efforts:
        if level != own.effort:
            curves[f", effort {level}"] = replace(own, effort=level)
    own_step = model.coding.step_index
    ladder = steps if steps is not None else [own_step + offset for offset in LADDER]
    for suffix, point in curves.items():
        for step in sorted(ladder, reverse=True):  # rates rise
            label = f"{name}{suffix}, step {step}"
            yield _condition(name, name + suffix, model, replace(point, step_index=step), label)
    if fidelities is None:
        for f in FIDELITIES:
            point = replace(own, dims=model.latent.dims_for(f))
            label = f"{name}, f = {f:g}, {point.dims} dims"
            yield _condition(name, f"{name} by fidelity", model, point, label)
    identity = model.id.hex()
    for what, dims in (("not quantised", None), ("cropped, not quantised", own.dims)):
        yield _single(name, what, "bound", do="unquantised", model=identity, dims=dims)
    for passes in GENERATIONS:
        settings = _through_codec(model, own)
        yield _single(name, f"{passes} times", "again", **settings, passes=passes)


def _single(name: str, what: str, kind: str, **settings: Any) -> Condition:
    """A condition that is a series of its own."""
    label = f"{name}, {what}"
    return Condition(_id(name, what), label, kind, label, settings)


def _own_point(model: Model) -> Point:
    coding = model.coding
    return Point(dims=coding.dims, step_index=coding.step_index, effort=coding.effort)


def _through_codec(model: Model, point: Point) -> dict[str, Any]:
    """Settings of a condition that codes with a model at a point."""
    dims, step_index = point.resolve(model)
    at = {"dims": dims, "step_index": step_index, "effort": point.effort}
    return {"do": "ravecodec", "model": model.id.hex(), **at}


def _condition(name: str, series: str, model: Model, point: Point, label: str) -> Condition:
    settings, own = _through_codec(model, point), _own_point(model)
    settings["fidelity"] = round(model.latent.fidelity(settings["dims"]), 4)
    settings["default"] = point == own
    place = f"d{settings['dims']}g{settings['step_index']}"
    if point.effort != own.effort:
        place += f"e{point.effort}"
    return Condition(_id(name, series, place), series, "model", label, settings)


def anchor_conditions(names: Sequence[str]) -> Iterator[Condition]:
    """The conditions of ANCHORS by name, and the controls, which no report goes without. UsageError
    for other names."""
    for name in dict.fromkeys(names):
        if name not in ANCHORS:
            raise UsageError(f"anchor {name!r}; expected some of {', '.join(ANCHORS)}")
        yield from ANCHORS[name]
    for name, label in CONTROLS.items():
        yield Condition(name, name, "control", label, {"do": name})


def _codec(series: str, label: str, rates: Sequence[int], **settings: Any) -> list[Condition]:
    return [
        Condition(f"{series}-{n}", series, "codec", f"{label} {n}", settings | {"kbps": n})
        for n in rates
    ]


def _id(*parts: str) -> str:
    """A name for files."""
    text = "-".join(part for part in parts if part)
    return "".join(c if c.isalnum() or c in ".-_" else "-" for c in text)


def _low_pass(name: str, hertz: float) -> Condition:
    settings = {"do": "lowpass", "hz": hertz, "transition_hz": TRANSITION}
    series = f"lowpass-{name}"
    return Condition(series, series, "control", f"low-pass {name}Hz", settings)


_AV: dict[str, Any] = {"do": "av", "channels": 1}
_OPUS_LONG = {"codec": "libopus", "container": "ogg", "options": {"frame_duration": "60"}}
_AAC = {"codec": "aac", "container": "adts", "options": {}}
# By name; codecs at these nominal rates in kbit/s.
ANCHORS = {
    "opus": _codec("opus", "Opus (mid)", (6, 8, 12, 16, 24), do="opus", channels=1),
    "opus-stereo": _codec("opus-stereo", "Opus (stereo)", (16, 24, 32), do="opus", channels=2),
    "mp3": _codec("mp3", "MP3 (mid)", (16, 32, 48, 64), do="mp3", channels=1),
    "lowpass": [_low_pass(name, hertz) for name, hertz in LOWPASS.items()],
    "opus-60ms": _codec("opus-60ms", "Opus (mid, 60 ms)", (8, 9, 12, 16), **_OPUS_LONG, **_AV),
    "aac": _codec("aac", "AAC-LC (mid)", (16, 24, 32, 48), **_AAC, **_AV),
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
            return Outcome(repeated(match_channels(other, len(audio)), audio.shape[1]))
        case "noise-vocoded":
            return anchors.noise_vocoded(audio)
        case "lowpass":
            return Outcome(low_pass(audio, settings["hz"]))
        case _:
            done = _by_codec(settings, match_channels(audio, settings["channels"]))
            return replace(done, audio=match_channels(done.audio, len(audio)))


def _by_codec(settings: Settings, sent: Audio) -> Outcome:
    kbps = settings["kbps"]
    if settings["do"] == "opus":
        return anchors.opus(sent, kbps)
    if settings["do"] == "mp3":
        return anchors.mp3(sent, kbps)
    codec, container = settings["codec"], settings["container"]
    return anchors.av_codec(sent, codec, container, kbps, settings["options"])


@lru_cache(maxsize=2)
def _model(path: Path) -> Model:
    from ravecodec.loading import load_model

    return load_model(path, device="cpu")


def _coded(settings: Settings, audio: Audio, model: Model) -> Outcome:
    """Through a real stream."""
    from ravecodec.decoding import decode
    from ravecodec.encoding import encode

    point = Point(**{key: settings[key] for key in ("dims", "step_index", "effort")})
    sent = []
    for _ in range(settings.get("passes", 1)):
        # What a file of integers between two passes would hold.
        data = encode(np.clip(audio, -1, 1), RATE, model, point=point)
        audio = decode(data, model)[0]
        sent.append(data)
    symbols, payload = _symbols(data, model)
    kept = None
    if len(sent) > 1:
        kept = float(np.mean(symbols == _symbols(sent[0], model)[0]))
    return Outcome(audio, len(data), payload, kept, static_bytes(data, model))


def static_bytes(data: bytes, model: Model) -> int | None:
    """What a stream would take if its symbols were coded with static tables alone; None for a model
    without a predictor."""
    from ravecodec.pipeline import with_lead_in

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


def _symbols(data: bytes, model: Model) -> tuple[NDArray[np.int32], int]:
    """(symbols [frames, dims], bytes of payload) of all chunks."""
    reader, tables = StreamReader(io.BytesIO(data)), tables_of(model.coding)
    symbols = [reader.decode_chunk(chunk, tables) for chunk in reader.chunks()]
    return np.concatenate(symbols), reader.bytes.payload


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
