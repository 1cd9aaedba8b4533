"""Streams to test with: small, made in-process, the same on every run."""

import io
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from ravecodec.bitstream import SIGMAS, Predictor, StaticModel, StreamInfo, StreamWriter

MODEL_ID = b"\x01\x02\x03\x04\x05\x06\x07\x08"
Made = tuple[bytes, list[Any]]


@pytest.fixture(scope="session", params=["static", "predicted"])
def static(request: pytest.FixtureRequest) -> StaticModel:
    """Eight dims of falling spread and every shape, without and with a predictor."""
    shapes, scales = np.arange(8, dtype=np.uint8) % 5, np.arange(62, 22, -5).astype(np.int16)
    weights = np.array(
        [[0, 0], [900, 0], [0, -900], [400, 300], [-2000, 50], [40, 40], [4096, -4096], [0, 1]]
    )
    predictor = Predictor(weights.astype(np.int16), shapes[::-1].copy(), scales - np.int16(1))
    return StaticModel(shapes, scales, predictor if request.param == "predicted" else None)


@pytest.fixture(scope="session")
def stream_info() -> Callable[..., StreamInfo]:
    """StreamInfo with defaults."""

    def make(**fields: Any) -> StreamInfo:
        values = {
            "sample_rate": 44_100,
            "channels": 2,
            "hop": 2048,
            "dims": 8,
            "step_index": 2,
            "noise_fill": True,
        }
        return StreamInfo(MODEL_ID, **(values | fields))

    return make


@pytest.fixture(scope="session")
def make_stream(static: StaticModel, stream_info: Callable[..., StreamInfo]) -> Callable[..., Made]:
    """(bytes, list of symbols) of a stream with chunks of the given numbers of frames."""

    def make(
        *frames: int, seed: int = 0, meta: dict[str, Any] | None = None, **fields: Any
    ) -> Made:
        rng = np.random.default_rng(seed)
        info = stream_info(**fields)
        sigmas = SIGMAS[np.clip(static.scales - info.step_index, 0, 95)]
        chunks = [
            np.round(rng.laplace(size=(n, 8)) * sigmas * 0.7).astype(np.int32) for n in frames
        ]
        out = io.BytesIO()
        writer = StreamWriter(out, info, static)
        if meta is not None:
            writer.write_meta(meta)
        for chunk in chunks:
            writer.write_chunk(chunk)
        writer.close(sum(frames) * info.hop * info.sample_rate // info.model_rate)
        return out.getvalue(), chunks

    return make
