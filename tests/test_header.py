"""A hostile model file is refused from its header, in one short sentence, before anything of its
size is allocated.

The cases of `shared/cases` are here too: configs that ask for gigabytes, points of wrong types,
weights that are NaN.
"""

import json
import os
import sys
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from ravecodec import zoo
from ravecodec.cli import main
from ravecodec.errors import ModelError
from ravecodec.models import header as header_module
from ravecodec.models.header import DTYPES, expected_tensors, read_header
from ravecodec.models.latent import USUAL
from ravecodec.models.package import load_package

pytestmark = pytest.mark.usefixtures("installed")

Json = dict[str, Any]


def parts(data: bytes) -> tuple[Json, bytes]:
    """Header and tensors of a safetensors file."""
    size = int.from_bytes(data[:8], "little")
    return json.loads(data[8 : 8 + size]), data[8 + size :]


def joined(header: Any, body: bytes = b"") -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + body


def with_json(data: bytes, part: str, **values: Any) -> bytes:
    """The package with some values of its config or point changed."""
    header, body = parts(data)
    meta = header["__metadata__"]
    meta[part] = json.dumps(json.loads(meta[part]) | values)
    return joined(header, body)


def with_entry(data: bytes, name: str, **values: Any) -> bytes:
    """The package with some values of one tensor's header changed."""
    header, body = parts(data)
    header[name] |= values
    return joined(header, body)


def with_value(data: bytes, name: str, value: Any, place: int = 0) -> bytes:
    """The package with one number of one tensor changed."""
    header, body = parts(data)
    start, stop = header[name]["data_offsets"]
    array = np.frombuffer(body[start:stop], DTYPES[header[name]["dtype"]]).copy()
    array[place] = value
    return joined(header, body[:start] + array.tobytes() + body[stop:])


CONFIGS: dict[str, Any] = {
    "blocks": [1, 1, 2, 10**9],
    "sinusoids_per_line": 10_000,
    "lines": 65_536,
    "capacity": 10**6,
    "sample_rate": 10**12,
    "dilations": [10**9],
    "ratios": [2] * 1000,
    "latent": 10**9,
    "frequency_ratios": [1] * 5000,
}
POINTS: list[tuple[str, Any]] = [
    ("step_index", "-4"),
    ("step_index", 513),
    ("step_index", 1.0),
    ("fill", "yes"),
    ("fill", 1),
    ("dims", True),
    ("dims", 0),
    ("dims", 10**30),
    ("frames", None),
    ("frames", -1),
    ("usual", 1.0),
    ("usual", [1.0]),
    ("usual", [2.0, 1.0]),
    ("usual", [0.5, True]),
    ("usual", [-1.0, 1.0]),
    ("usual", [0.5, 10**40]),
    ("ladder", {}),
    ("ladder", [[1, 0, 1.0, 1.0]]),
    ("ladder", [[0, 0, 1.0, 1.0]] * 11),
    ("ladder", [[10**6, 0, 1.0, 1.0]] * 11),
    ("ladder", [[1, 513, 1.0, 1.0]] * 11),
    ("ladder", [[1, 0.0, 1.0, 1.0]] * 11),
    ("ladder", [[1, 0, True, 1.0]] * 11),
    ("ladder", [[1, 0, -1.0, 1.0]] * 11),
    ("ladder", [[1, 0, 1.0]] * 11),
    ("ladder", [[1, 0, 11.0 - n, 1.0] for n in range(11)]),
]
WEIGHT = "weights.generator.entry.bias"
VALUES: list[tuple[str, float]] = [
    *((WEIGHT, value) for value in (np.nan, np.inf, -np.inf)),
    *(
        (f"latent.{key}", np.nan)
        for key in ("mean", "analysis", "synthesis", "deviation", "spread")
    ),
    *(("latent.spread", value) for value in (0, -1, 1e35)),
    ("latent.deviation", -1e-3),
    *(("coding.base", value) for value in (0, -1, np.inf, 1e-40, 1e40)),
    ("coding.shapes", 5),
    *(("coding.scales", value) for value in (-513, 608)),
]


def hostile(good: bytes) -> Iterator[tuple[str, bytes, str]]:
    """(what, file, what the message must match)."""
    for key, value in CONFIGS.items():
        yield f"config {key}", with_json(good, "config", **{key: value}), "model config"
    for key, value in POINTS:
        yield (
            f"point {key} {value!r}",
            with_json(good, "point", **{key: value}),
            f"{key} of the operating point",
        )
    header, body = parts(good)
    spread = header["latent.spread"]["data_offsets"]
    yield "another shape", with_entry(good, WEIGHT, shape=[1]), "expected"
    yield (
        "another type",
        with_entry(good, "latent.spread", dtype="U8", shape=[4 * 16]),
        "latent.spread is U8",
    )
    yield "unknown type", with_entry(good, "latent.spread", dtype="F8_E4M3"), "F8_E4M3"
    yield (
        "negative offset",
        with_entry(good, "latent.spread", data_offsets=[-spread[1], 0]),
        "whole numbers",
    )
    yield "offset is true", with_entry(good, "latent.spread", shape=[True]), "whole numbers"
    yield (
        "backwards",
        with_entry(good, "latent.spread", data_offsets=spread[::-1]),
        "bytes, expected",
    )
    yield (
        "overlap",
        with_entry(good, "latent.spread", data_offsets=header["latent.mean"]["data_offsets"]),
        "overlap",
    )
    yield "huge shape", with_entry(good, "latent.spread", shape=[2**62, 2**62]), "bytes, expected"
    yield "many dimensions", with_entry(good, "latent.spread", shape=[1] * 99), "whole numbers"
    yield (
        "a tensor more",
        joined(header | {"x" * 9000: {"dtype": "U8", "shape": [0], "data_offsets": [0, 0]}}, body),
        "has",
    )
    yield (
        "a tensor less",
        joined({k: v for k, v in header.items() if k != "coding.scales"}, body),
        "scales|bytes|gaps",
    )
    yield (
        "deep",
        joined(b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}"),
        "header of the model file is damaged",
    )
    yield (
        "twice",
        joined(b'{"__metadata__": {}, "__metadata__": {}}'),
        "header of the model file is damaged",
    )
    yield "NaN", joined(b'{"__metadata__": NaN}'), "header of the model file is damaged"
    yield "not UTF-8", joined(b'{"\xff": 1}'), "header of the model file is damaged"
    for part in ("config", "point", "info"):
        meta = header["__metadata__"] | {part: "[" * 100_000}
        yield f"deep {part}", joined(header | {"__metadata__": meta}, body), "x.safetensors"
    meta = header["__metadata__"] | {"config": json.dumps({"k" * 200_000: 1})}
    yield "long key", joined(header | {"__metadata__": meta}, body), "unknown key"
    for name in ("", "a\nb", "\x1b[31m", "n" * 300):
        meta = header["__metadata__"] | {"name": name}
        yield (
            f"name {name[:3]!r}",
            joined(header | {"__metadata__": meta}, body),
            "the model's name",
        )


@pytest.fixture
def offered(tmp_path: Path) -> Callable[[bytes], Path]:
    """Writes bytes as a model file."""

    def write(data: bytes) -> Path:
        path = tmp_path / "x.safetensors"
        path.unlink(missing_ok=True)
        path.write_bytes(data)
        return path

    return write


def test_hostile_headers_are_refused_at_once(
    model_folder: Path, offered: Callable[[bytes], Path]
) -> None:
    good = (model_folder / "default.safetensors").read_bytes()
    for what, data, match in hostile(good):
        path = offered(data)
        tracemalloc.start()
        with pytest.raises(ModelError, match=match) as caught:
            zoo.read_entry(path)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        message = str(caught.value).replace(str(path), "x.safetensors")
        assert peak < 2**26, what
        assert (
            len(message) < 350 and "\n" not in message and message.startswith("x.safetensors: ")
        ), what


def test_a_model_that_does_not_say_what_is_usual_has_the_default(
    model_folder: Path, offered: Callable[[bytes], Path]
) -> None:
    """As those packed before there was timbre transfer."""
    good = (model_folder / "default.safetensors").read_bytes()
    header, body = parts(good)
    point = json.loads(header["__metadata__"]["point"])
    stored = point.pop("usual")
    header["__metadata__"]["point"] = json.dumps(point)
    assert load_package(offered(joined(header, body))).latent.usual == USUAL
    assert load_package(offered(good)).latent.usual == tuple(stored) != USUAL


def test_values_that_no_model_can_have_are_refused_by_tensor(
    model_folder: Path, offered: Callable[[bytes], Path]
) -> None:
    good = (model_folder / "default.safetensors").read_bytes()
    for name, value in VALUES:
        path = offered(with_value(good, name, value))
        for read in (load_package, zoo.check_values):
            with pytest.raises(ModelError, match=rf"x\.safetensors: {name} h"):
                read(path)
    with pytest.raises(ModelError, match=r"coding\.scales has values"):
        zoo.read_tables(zoo.read_entry(offered(with_value(good, "coding.scales", 30_000))))


def test_model_add_refuses_them_with_exit_code_7(
    model_folder: Path, offered: Callable[[bytes], Path]
) -> None:
    good = (model_folder / "default.safetensors").read_bytes()
    for data in (
        with_json(good, "config", capacity=10**6),
        with_value(good, WEIGHT, np.nan),
        good[:-1],
        b"",
    ):
        done = CliRunner().invoke(main, ["model", "add", str(offered(data))])
        assert done.exit_code == 7 and done.stderr.count("\n") == 1, done.stderr
    assert not zoo.user_folder().exists()


@pytest.mark.skipif(sys.platform != "linux", reason="needs sparse files")
def test_a_sparse_file_of_40_gigabytes_is_not_hashed(
    model_folder: Path, offered: Callable[[bytes], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither one that is larger than its header says, nor one whose header says so."""
    good = (model_folder / "default.safetensors").read_bytes()
    header, body = parts(good)
    header["more"] = {
        "dtype": "U8",
        "shape": [40 << 30],
        "data_offsets": [len(body), len(body) + (40 << 30)],
    }
    monkeypatch.setattr(header_module, "_digest", lambda *_: pytest.fail("hashed"))
    for data, size in (
        (good, 40 << 30),
        (joined(header, body), len(joined(header, body)) + (40 << 30)),
    ):
        path = offered(data)
        os.truncate(path, size)
        with pytest.raises(ModelError, match=r"partial download|do not fit its config"):
            zoo.read_entry(path)


def test_a_file_that_shrinks_while_it_is_read_is_a_model_error(
    model_folder: Path, offered: Callable[[bytes], Path]
) -> None:
    path = offered((model_folder / "default.safetensors").read_bytes())
    header = read_header(path)
    os.truncate(path, path.stat().st_size // 2)
    with pytest.raises(ModelError, match="cannot be read"):
        header.arrays(header.tensors)


def test_a_header_is_read_once_and_a_file_hashed_once(
    model_folder: Path, offered: Callable[[bytes], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = offered((model_folder / "default.safetensors").read_bytes())
    read, opened = Path.open, []

    def counted(self: Path, *rest: Any, **more: Any) -> Any:
        opened.append(self)
        return read(self, *rest, **more)

    monkeypatch.setattr(Path, "open", counted)
    for _ in range(3):
        zoo.read_entry(path)
    load_package(path)
    assert opened.count(path) == 3  # header, hash, tensors


def test_finding_a_model_by_id_stops_at_the_first_match(
    model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The shipped default is looked at first; nothing else is read when it is the one."""
    monkeypatch.setattr("ravecodec.zoo.shipped_folder", lambda: model_folder)
    monkeypatch.setenv("RAVECODEC_MODELS", str(tmp_path))
    (tmp_path / "a.safetensors").write_bytes((model_folder / "paper.safetensors").read_bytes())
    (tmp_path / "b.safetensors").write_bytes(b"damaged")
    wanted = zoo.read_entry(model_folder / "default.safetensors")
    seen: list[Path] = []
    whole = zoo.read_entry
    monkeypatch.setattr(zoo, "read_entry", lambda path: (seen.append(path), whole(path))[1])
    assert zoo.installed(wanted.id) == wanted
    assert zoo.find_model(wanted.digest.hex()) == wanted
    assert seen == [wanted.path] * 2
    other = whole(tmp_path / "a.safetensors")
    found = zoo.installed(other.id)
    assert found is not None and found.digest == other.digest
    assert zoo.installed(bytes(8)) is None


def test_the_expected_tensors_are_those_of_a_good_model(model_folder: Path) -> None:
    for name in ("default", "paper"):
        found = read_header(model_folder / f"{name}.safetensors")
        expected = expected_tensors(found.config, found.version)
        assert {key: tensor.shape for key, tensor in found.tensors.items()} == {
            k: v[0] for k, v in expected.items()
        }


def test_an_error_of_torch_is_not_called_a_damaged_model(
    model_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> None:
        raise RuntimeError("out of memory")

    monkeypatch.setattr("ravecodec.models.package._build", fail)
    with pytest.raises(RuntimeError, match="out of memory"):
        load_package(model_folder / "default.safetensors")
