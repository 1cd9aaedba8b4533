"""The golden streams: every version reads them to the same integers, and still writes them."""

import hashlib
import importlib.util
import io
import itertools
import json
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from ravecodec.bitstream import Predictor, StaticModel, StreamReader
from ravecodec.bitstream import reader as reader_module
from ravecodec.bitstream.coder import PYTHON
from ravecodec.bitstream.entropy import decode_symbols
from ravecodec.bitstream.predict import decode_predicted

VECTORS = Path(__file__).parents[1] / "vectors"
NAMES = sorted(f"{path.parent.name}/{path.stem}" for path in VECTORS.glob("*/*.rvc"))


def load(name: str) -> tuple[bytes, dict[str, Any], StaticModel | None]:
    data = (VECTORS / f"{name}.rvc").read_bytes()
    expected = json.loads((VECTORS / f"{name}.json").read_text(encoding="utf-8"))
    tables = expected["static"]
    if not tables:
        return data, expected, None
    shapes, scales = np.array(tables["shapes"], np.uint8), np.array(tables["scales"], np.int16)
    if listed := tables.get("predictor"):
        weights, its_shapes, its_scales = listed["weights"], listed["shapes"], listed["scales"]
        predictor = Predictor(
            np.array(weights, np.int16),
            np.array(its_shapes, np.uint8),
            np.array(its_scales, np.int16),
        )
        return data, expected, StaticModel(shapes, scales, predictor)
    return data, expected, StaticModel(shapes, scales)


@pytest.fixture(scope="module")
def maker() -> ModuleType:
    spec = importlib.util.spec_from_file_location("make_vectors", VECTORS / "make_vectors.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_all_kinds_are_there(maker: ModuleType) -> None:
    made = [
        f"{version}/{make.__name__}" for version, makers in maker.VECTORS.items() for make in makers
    ]
    assert sorted(made) == NAMES
    assert len(NAMES) >= 10


def test_golden_stream_reads_to_its_integers(
    monkeypatch: pytest.MonkeyPatch, subtests: pytest.Subtests
) -> None:
    for coder, name in itertools.product(["best", "python"], NAMES):
        with subtests.test(coder=coder, name=name):
            if coder == "python":
                monkeypatch.setattr(
                    reader_module, "decode_symbols", lambda *args: decode_symbols(*args, PYTHON)
                )
                monkeypatch.setattr(
                    reader_module, "decode_predicted", lambda *args: decode_predicted(*args, PYTHON)
                )
            data, expected, static = load(name)
            reader = StreamReader(io.BytesIO(data))
            assert {**vars(reader.info), "model_id": reader.info.model_id.hex()} == expected["info"]
            assert reader.meta == expected["meta"]
            brought = reader.model
            assert (brought.sha256.hex() if brought else None) == expected.get("model")
            assert brought is None or hashlib.sha256(brought.unpack("x")).digest() == brought.sha256
            chunks = list(reader.chunks())
            for chunk, wanted in zip(chunks, expected["chunks"], strict=True):
                assert (chunk.profile.name, chunk.step_index, chunk.offset) == (
                    wanted["profile"],
                    wanted["step_index"],
                    wanted["offset"],
                )
                assert reader.decode_chunk(chunk, static).tolist() == wanted["symbols"]
            assert reader.total_samples == expected["total_samples"]
            assert reader.bytes.total == expected["bytes"] == len(data)


ZSTD = {"1.0/with_meta", "1.2/with_model"}


def test_golden_stream_is_still_written(maker: ModuleType, subtests: pytest.Subtests) -> None:
    """META and MODEL are compressed by zstd, whose bytes may change with its version; everything
    else is ours.
    """
    for name in [name for name in NAMES if name not in ZSTD]:
        with subtests.test(name=name):
            assert maker.encode(getattr(maker, Path(name).name)()) == load(name)[0]
