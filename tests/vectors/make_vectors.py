"""Writes the golden streams of format 1.0 into tests/vectors/1.0: NAME.rvc and, beside it, what it holds as NAME.json.

    python tests/vectors/make_vectors.py

The streams are kept for ever: every later version must read them to the same integers. A new vector may be added; an
existing one must never change, and the script refuses to overwrite one with other bytes (META's zstd bytes excepted,
which may differ between zstd versions: then the stored file stays). `tests/bitstream/test_vectors.py` reads them.
"""

import io
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ravecodec.bitstream import StaticModel, StreamInfo, StreamReader, StreamWriter

FOLDER = Path(__file__).with_name("1.0")
MODEL_ID = bytes.fromhex("00112233445566ff")
Symbols = NDArray[np.int32]


def lcg(seed: int) -> Iterator[int]:
    """Knuth's MMIX generator, its top 16 bits: the same on every machine and in every language."""
    state = seed
    while True:
        state = (6364136223846793005 * state + 1442695040888963407) % 2**64
        yield state >> 48


def noise(seed: int, frames: int, dims: int, spread: int) -> Symbols:
    """Roughly bell-shaped integers [frames, dims]: the sum of four uniform ones, smaller in later dims."""
    source = lcg(seed)
    values = [
        (sum(next(source) for _ in range(4)) - 2 * 65535) * spread // (65536 * (1 + dim))
        for _ in range(frames)
        for dim in range(dims)
    ]
    return np.array(values, dtype=np.int32).reshape(frames, dims)


def info(dims: int, **fields: Any) -> StreamInfo:
    """A stereo stream of 44.1 kHz audio through a 48 kHz model with 2048 samples a frame."""
    return StreamInfo(MODEL_ID, **{"sample_rate": 44_100, "channels": 2, "hop": 2048, "dims": dims} | fields)


def model(shapes: list[int], scales: list[int]) -> StaticModel:
    """A static model from lists."""
    return StaticModel(np.array(shapes, dtype=np.uint8), np.array(scales, dtype=np.int16))


def one_chunk() -> dict[str, Any]:
    """A short clip: one AUDIO chunk, no INDEX."""
    return {
        "info": info(4, step_index=2, noise_fill=True),
        "static": model([0, 1, 2, 3], [58, 50, 44, 40]),
        "chunks": [(noise(1, 12, 4, 9), 2)],
        "total_samples": 12 * 1881 - 500,
    }


def three_chunks() -> dict[str, Any]:
    """Three chunks, of which the second has its own step and fewer dims; every optional header field present."""
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
    return one_chunk() | {"meta": {"tags": {"title": "Ré ♯", "track": 3}, "encoder": "golden vector"}}


def raw() -> dict[str, Any]:
    """No static model: the raw profile, in chunks of width 0, 1, 5 and 16."""
    chunks = [np.zeros((3, 2)), -np.ones((3, 2)), noise(5, 7, 2, 15), np.array([[32767, -32767]])]
    return {"info": info(2), "static": None, "chunks": [(c.astype(np.int32), 0) for c in chunks], "total_samples": 14}


def escapes() -> dict[str, Any]:
    """Symbols beyond the reach of their rows, up to the largest, and rows clamped at both ends of the family."""
    symbols = noise(6, 40, 4, 3)
    symbols[::7, 0], symbols[3, :], symbols[5, 1], symbols[6, 2] = 5, [32767, -32767, 40, -5], -6, 33
    static = model([0, 2, 4, 1], [20, -30, 47, 300])
    return {"info": info(4), "static": static, "chunks": [(symbols, 0)], "total_samples": 40 * 1881}


def indexed() -> dict[str, Any]:
    """Nine chunks, the fewest that get INDEX and trailer."""
    chunks = [(noise(10 + i, 3 + i % 3, 2, 6), 0) for i in range(9)]
    static = model([0, 0], [52, 44])
    return {"info": info(2, sample_rate=48_000), "static": static, "chunks": chunks, "total_samples": 36 * 2048 - 1}


def no_dims() -> dict[str, Any]:
    """Nothing is coded: every dim is filled by the decoder."""
    static, chunks = model([], []), [(np.zeros((4, 0), dtype=np.int32), 0)]
    return {"info": info(0, noise_fill=True), "static": static, "chunks": chunks, "total_samples": 1}


VECTORS = (one_chunk, three_chunks, zero_frames, with_meta, raw, escapes, indexed, no_dims)


def encode(content: dict[str, Any]) -> bytes:
    """The stream of a vector."""
    out = io.BytesIO()
    writer = StreamWriter(out, content["info"], content["static"])
    if "meta" in content:
        writer.write_meta(content["meta"])
    for symbols, step_index in content["chunks"]:
        writer.write_chunk(symbols, step_index)
    writer.close(content["total_samples"])
    return out.getvalue()


def describe(content: dict[str, Any], data: bytes) -> dict[str, Any]:
    """What NAME.json says: everything a reader must get out of NAME.rvc, and the static tables it needs."""
    fields, static = content["info"], content["static"]
    return {
        "about": content["about"],
        "bytes": len(data),
        "info": {**vars(fields), "model_id": fields.model_id.hex()},
        "static": static and {"shapes": static.shapes.tolist(), "scales": static.scales.tolist()},
        "meta": content.get("meta", {}),
        "chunks": [
            {"profile": c.profile.name, "step_index": c.step_index, "offset": c.offset, "symbols": s.tolist()}
            for c, (s, _) in zip(StreamReader(io.BytesIO(data)).chunks(), content["chunks"], strict=True)
        ],
        "total_samples": content["total_samples"],
    }


def main() -> int:
    """Write what is missing; 1 if a stored vector differs."""
    FOLDER.mkdir(exist_ok=True)
    changed = 0
    for make in VECTORS:
        content = make() | {"about": make.__doc__}
        data, path = encode(content), FOLDER / f"{make.__name__}.rvc"
        if path.exists():
            changed += path.read_bytes() != data and "meta" not in content
            continue
        path.write_bytes(data)
        text = json.dumps(describe(content, data), ensure_ascii=False)
        path.with_suffix(".json").write_text(text + "\n", encoding="utf-8")
    return int(changed > 0)


if __name__ == "__main__":
    sys.exit(main())
