"""Writes the golden streams into tests/vectors/VERSION: NAME.rvc and, beside it, what it holds as
NAME.json.

    python tests/vectors/make_vectors.py

The streams stay: every later version must read them to the same integers. A new vector
may be added; an existing one must never change, and the script refuses to overwrite one with other
bytes (zstd's bytes in META and MODEL excepted, which may differ between its versions: then the
stored file stays). `tests/bitstream/test_vectors.py` reads them.
"""

import hashlib
import io
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ravecodec.bitstream import (
    EmbeddedModel,
    Predictor,
    StaticModel,
    StreamInfo,
    StreamReader,
    StreamWriter,
)

FOLDER = Path(__file__).parent
MODEL_ID = bytes.fromhex("00112233445566ff")
TINY_ID = bytes.fromhex("6ffe59b0ff40d817")
Symbols = NDArray[np.int32]


def lcg(seed: int) -> Iterator[int]:
    """Knuth's MMIX generator, its top 16 bits: the same on every machine and in every language."""
    state = seed
    while True:
        state = (6364136223846793005 * state + 1442695040888963407) % 2**64
        yield state >> 48


def noise(seed: int, frames: int, dims: int, spread: int) -> Symbols:
    """Roughly bell-shaped integers [frames, dims]: the sum of four uniform ones, smaller in later
    dims.
    """
    source = lcg(seed)
    values = [
        (sum(next(source) for _ in range(4)) - 2 * 65535) * spread // (65536 * (1 + dim))
        for _ in range(frames)
        for dim in range(dims)
    ]
    return np.array(values, dtype=np.int32).reshape(frames, dims)


def info(dims: int, **fields: Any) -> StreamInfo:
    """A stereo stream of 44.1 kHz audio through a 48 kHz model with 2048 samples a frame."""
    usual = {"model_id": MODEL_ID, "sample_rate": 44_100, "channels": 2, "hop": 2048}
    return StreamInfo(**usual | {"dims": dims} | fields)


def model(
    shapes: list[int],
    scales: list[int],
    weights: list[list[int]] | None = None,
    residual: list[int] | None = None,
) -> StaticModel:
    """The tables from lists; with weights and the residual's scales, a predictor of the same
    shapes.
    """
    rows = np.array(shapes, dtype=np.uint8)
    predictor = (
        Predictor(np.array(weights, np.int16), rows, np.array(residual, np.int16))
        if weights
        else None
    )
    return StaticModel(rows, np.array(scales, dtype=np.int16), predictor)


def one_chunk() -> dict[str, Any]:
    """A short clip: one AUDIO chunk, no INDEX."""
    return {
        "info": info(4, step_index=2, noise_fill=True),
        "static": model([0, 1, 2, 3], [58, 50, 44, 40]),
        "chunks": [(noise(1, 12, 4, 9), 2)],
        "total_samples": 12 * 1881 - 500,
    }


def three_chunks() -> dict[str, Any]:
    """Three chunks, of which the second has its own step and fewer dims; every optional header
    field present.
    """
    return {
        "info": info(5, step_index=-3, seed=7, model_rate=44_100, noise_fill=True),
        "static": model([4, 3, 2, 1, 0], [59, 51, 47, 43, 41]),
        "chunks": [(noise(2, 6, 5, 12), -3), (noise(3, 4, 3, 5), 6), (noise(4, 5, 5, 12), -3)],
        "total_samples": 15 * 2048,
    }


def zero_frames() -> dict[str, Any]:
    """No audio at all."""
    return {"info": info(4), "static": model([0] * 4, [40] * 4), "chunks": [], "total_samples": 0}


def with_meta() -> dict[str, Any]:
    """META before the audio, with text beyond ASCII."""
    return one_chunk() | {
        "meta": {"tags": {"title": "Ré ♯", "track": 3}, "encoder": "golden vector"}
    }


def raw() -> dict[str, Any]:
    """No static model: the raw profile, in chunks of width 0, 1, 5 and 16."""
    chunks = [np.zeros((3, 2)), -np.ones((3, 2)), noise(5, 7, 2, 15), np.array([[32767, -32767]])]
    return {
        "info": info(2),
        "static": None,
        "chunks": [(c.astype(np.int32), 0) for c in chunks],
        "total_samples": 14,
    }


def escapes() -> dict[str, Any]:
    """Symbols beyond the reach of their rows, up to the largest, and rows clamped at both ends of
    the family.
    """
    symbols = noise(6, 40, 4, 3)
    symbols[::7, 0], symbols[3, :], symbols[5, 1], symbols[6, 2] = (
        5,
        [32767, -32767, 40, -5],
        -6,
        33,
    )
    static = model([0, 2, 4, 1], [20, -30, 47, 300])
    return {"info": info(4), "static": static, "chunks": [(symbols, 0)], "total_samples": 40 * 1881}


def indexed() -> dict[str, Any]:
    """Nine chunks, the fewest that get INDEX and trailer."""
    chunks = [(noise(10 + i, 3 + i % 3, 2, 6), 0) for i in range(9)]
    static = model([0, 0], [52, 44])
    return {
        "info": info(2, sample_rate=48_000),
        "static": static,
        "chunks": chunks,
        "total_samples": 36 * 2048 - 1,
    }


def no_dims() -> dict[str, Any]:
    """Nothing is coded: every dim is filled by the decoder."""
    static, chunks = model([], []), [(np.zeros((4, 0), dtype=np.int32), 0)]
    return {
        "info": info(0, noise_fill=True),
        "static": static,
        "chunks": chunks,
        "total_samples": 1,
    }


def rising(seed: int, frames: int, dims: int, spread: int) -> Symbols:
    """Symbols [frames, dims] that follow their past: running sums of `noise` that forget a quarter
    in every frame.
    """
    sums, found = np.zeros(dims, dtype=np.int64), []
    for row in noise(seed, frames, dims, spread):
        sums = sums - (sums >> 2) + row
        found.append(sums.copy())
    return np.array(found, dtype=np.int32)


def predicted() -> dict[str, Any]:
    """The predicted profile, at the stream's step and, with fewer dims, at a coarser one; then a
    frame alone.
    """
    weights = [[2800, 200], [2800, 200], [2600, 0], [3000, -400], [2048, 0], [0, 1500]]
    return {
        "info": info(6, step_index=2, noise_fill=True),
        "static": model(
            [0, 1, 2, 3, 4, 0], [66, 60, 56, 52, 48, 46], weights, [62, 56, 52, 48, 44, 42]
        ),
        "chunks": [(rising(7, 24, 6, 14), 2), (rising(8, 16, 4, 8), 8), (noise(9, 1, 6, 12), 2)],
        "total_samples": 41 * 1881,
    }


def predicted_escapes() -> dict[str, Any]:
    """Residuals beyond the reach of their rows in both directions, rows clamped at both ends,
    weights of both signs.
    """
    symbols = rising(11, 30, 4, 5)
    symbols[4, 0], symbols[5, 1], symbols[9, 2], symbols[20, :] = (
        700,
        -90,
        41,
        [-9, 12, -300, 32000],
    )
    weights = [[4096, -2048], [-4096, 0], [9, 0], [-1, 16384]]
    static = model([0, 2, 4, 1], [0, 0, 0, 0], weights, [20, -30, 47, 300])
    return {"info": info(4), "static": static, "chunks": [(symbols, 0)], "total_samples": 30 * 1881}


def with_model() -> dict[str, Any]:
    """A stream that brings the decoder of a tiny untrained model along, tiny-decoder.safetensors,
    in one part.
    """
    return {
        "info": info(3, model_id=TINY_ID, channels=1, hop=1024, step_index=2, noise_fill=True),
        "static": model([1] * 4, [40] * 4, [[900, 900]] * 4, [40] * 4),
        "chunks": [(noise(1, 12, 3, 9), 2)],
        "total_samples": 12 * 940 - 500,
        "model": (FOLDER / "1.2/tiny-decoder.safetensors").read_bytes(),
    }


VECTORS = {
    "1.0": (one_chunk, three_chunks, zero_frames, with_meta, raw, escapes, indexed, no_dims),
    "1.1": (predicted, predicted_escapes),
    "1.2": (with_model,),
}


def encode(content: dict[str, Any]) -> bytes:
    """The stream of a vector."""
    out = io.BytesIO()
    writer = StreamWriter(out, content["info"], content["static"])
    if "meta" in content:
        writer.write_meta(content["meta"])
    if "model" in content:
        writer.write_model(EmbeddedModel.of(content["model"]))
    for symbols, step_index in content["chunks"]:
        writer.write_chunk(symbols, step_index)
    writer.close(content["total_samples"])
    return out.getvalue()


def _listed(static: StaticModel) -> dict[str, Any]:
    listed: dict[str, Any] = {"shapes": static.shapes.tolist(), "scales": static.scales.tolist()}
    if predictor := static.predictor:
        names = ("weights", "shapes", "scales")
        listed["predictor"] = {name: getattr(predictor, name).tolist() for name in names}
    return listed


def describe(content: dict[str, Any], data: bytes) -> dict[str, Any]:
    """What NAME.json says: everything a reader must get out of NAME.rvc, and the static tables it
    needs.
    """
    fields, static = StreamReader(io.BytesIO(data)).info, content["static"]
    return {
        "about": content["about"],
        "bytes": len(data),
        "info": {**vars(fields), "model_id": fields.model_id.hex()},
        "static": static and _listed(static),
        "meta": content.get("meta", {}),
        "model": hashlib.sha256(content["model"]).hexdigest() if "model" in content else None,
        "chunks": [
            {
                "profile": c.profile.name,
                "step_index": c.step_index,
                "offset": c.offset,
                "symbols": s.tolist(),
            }
            for c, (s, _) in zip(
                StreamReader(io.BytesIO(data)).chunks(), content["chunks"], strict=True
            )
        ],
        "total_samples": content["total_samples"],
    }


def main() -> int:
    """Write what is missing; 1 if a stored vector differs."""
    changed = 0
    for version, make in (
        (version, make) for version, makers in VECTORS.items() for make in makers
    ):
        (FOLDER / version).mkdir(exist_ok=True)
        content = make() | {"about": make.__doc__}
        data, path = encode(content), FOLDER / version / f"{make.__name__}.rvc"
        if path.exists():
            changed += path.read_bytes() != data and not {"meta", "model"} & content.keys()
            continue
        path.write_bytes(data)
        text = json.dumps(describe(content, data), ensure_ascii=False)
        path.with_suffix(".json").write_text(text + "\n", encoding="utf-8")
    return int(changed > 0)


if __name__ == "__main__":
    sys.exit(main())
