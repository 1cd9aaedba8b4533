"""A model is found by name, path or id, in a fixed order, from its header alone; what is damaged is
named.
"""

import hashlib
import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result
from safetensors.numpy import save_file

from ravecodec import encode, installing, zoo
from ravecodec.cli import main
from ravecodec.codec import stream_info
from ravecodec.errors import ModelError, OutputError, UsageError
from ravecodec.models.package import Model

pytestmark = pytest.mark.usefixtures("installed")

PACKAGE = {"format": "ravecodec-model", "version": "1"}


def write_header(path: Path, header: object, body: bytes = b"") -> Path:
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + body)
    return path


def test_an_entry_says_what_the_loaded_model_says(any_model: Model, model_folder: Path) -> None:
    entry = zoo.find_model(any_model.name)
    assert (entry.name, entry.config, entry.digest, entry.id) == (
        any_model.name,
        any_model.config,
        any_model.digest,
        any_model.id,
    )
    assert entry.digest == hashlib.sha256(entry.path.read_bytes()).digest()
    assert (entry.point["dims"], entry.info["licence"]) == (any_model.coding.dims, "CC0-1.0")
    assert entry.size == entry.path.stat().st_size
    tables = zoo.read_tables(entry)
    assert (tables.shapes == any_model.coding.shapes).all()
    assert (tables.scales == any_model.coding.scales).all()


def test_found_by_name_path_and_id(model_folder: Path) -> None:
    entry = zoo.find_model("paper")
    path = model_folder / "paper.safetensors"
    for wanted in (path, str(path), entry.id.hex(), entry.id.hex()[:8], entry.digest.hex()):
        assert zoo.find_model(wanted).digest == entry.digest


def test_a_path_is_a_path_even_without_the_extension(model_folder: Path, tmp_path: Path) -> None:
    shutil.copy(model_folder / "paper.safetensors", tmp_path / "default")
    assert zoo.find_model(tmp_path / "default").digest == zoo.find_model("paper").digest


def test_unknown_name_lists_the_known_ones(subtests: pytest.Subtests) -> None:
    for wanted in ["nothing", "abcd", "0123456789abcdef", "Default", "*"]:
        with (
            subtests.test(wanted=wanted),
            pytest.raises(
                ModelError,
                match=r"no model called .*; known are default \([0-9a-f]{16}\), paper \(",
            ),
        ):
            zoo.find_model(wanted)


def test_missing_path() -> None:
    with pytest.raises(ModelError, match="no such model file"):
        zoo.find_model("folder/x.safetensors")


def test_default_is_the_one_called_default_else_the_only_one(
    model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert zoo.find_model().name == "default"
    monkeypatch.setenv("RAVECODEC_MODELS", str(tmp_path))
    with pytest.raises(ModelError, match="no model is installed"):
        zoo.find_model()
    shutil.copy(model_folder / "paper.safetensors", tmp_path / "one.safetensors")
    shutil.copy(model_folder / "paper.safetensors", tmp_path / "the same.safetensors")
    assert zoo.find_model().name == "one"
    shutil.copy(model_folder / "default.safetensors", tmp_path / "two.safetensors")
    with pytest.raises(ModelError, match=r"no default model; choose one of one \("):
        zoo.find_model()


def test_order_is_environment_user_shipped(
    model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second, shipped = tmp_path / "a", tmp_path / "b", tmp_path / "shipped"
    monkeypatch.setenv(
        "RAVECODEC_MODELS",
        os.pathsep.join(["", str(first), str(second), str(tmp_path / "missing")]),
    )
    monkeypatch.setattr("ravecodec.zoo.shipped_folder", lambda: shipped)
    for folder in (shipped, zoo.user_folder(), second, first):
        folder.mkdir(parents=True)
        shutil.copy(model_folder / "paper.safetensors", folder / "x.safetensors")
        assert zoo.find_model("x").path.parent == folder
        assert zoo.scan_models()[0][0].path.parent == folder
    assert len(zoo.scan_models()[0]) == 4


def test_the_model_of_a_stream_is_found_by_its_id(stereo_model: Model, mono_model: Model) -> None:
    for model in (stereo_model, mono_model):
        info = stream_info(model, 44_100, 2, 3, 0)
        assert zoo.model_for_stream(info, "x.rvc").digest == model.digest
        assert zoo.model_for_stream(info, "x.rvc", model.name).digest == model.digest


def test_another_model_than_the_streams_is_refused(
    stereo_model: Model, mono_model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    info = stream_info(stereo_model, 44_100, 2, 3, 0)
    both = f"x.rvc: .*{stereo_model.id.hex()}.*{mono_model.id.hex()}"
    with pytest.raises(ModelError, match=both):
        zoo.model_for_stream(info, "x.rvc", "paper")
    shutil.copy(zoo.find_model("paper").path, tmp_path)
    monkeypatch.setenv("RAVECODEC_MODELS", str(tmp_path))
    with pytest.raises(ModelError, match=both + ".*model add"):
        zoo.model_for_stream(info, "x.rvc")


def test_a_changed_file_is_another_model(model_folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    shutil.copy(model_folder / "paper.safetensors", path)
    before = zoo.read_entry(path)
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    os.utime(path, ns=(0, 1))
    assert zoo.read_entry(path).id != before.id


def damaged_files(good: bytes) -> dict[str, bytes]:
    length = int.from_bytes(good[:8], "little")
    return {
        "empty": b"",
        "short": good[:7],
        "header cut": good[: length // 2],
        "tensors cut": good[:-1],
        "too long": good + b"x",
        "huge header": (2**40).to_bytes(8, "little") + good[8:],
        "not JSON": good[:8] + b"x" * length,
        "an RVC stream": b"\x89RVC" + bytes(100),
    }


def test_a_damaged_file_is_named_and_does_not_hide_the_others(
    model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, subtests: pytest.Subtests
) -> None:
    for damage in damaged_files(bytes(100)):
        with subtests.test(damage=damage):
            good = (model_folder / "paper.safetensors").read_bytes()
            (tmp_path / "bad.safetensors").write_bytes(damaged_files(good)[damage])
            (tmp_path / "good.safetensors").write_bytes(good)
            monkeypatch.setenv("RAVECODEC_MODELS", str(tmp_path))
            entries, problems = zoo.scan_models()
            assert [entry.name for entry in entries] == ["good"]
            assert zoo.list_models() == entries
            assert [type(problem) for problem in problems] == [ModelError]
            with pytest.raises(ModelError, match=r"bad\.safetensors: "):
                zoo.find_model("bad")


def test_any_header_is_an_entry_or_a_model_error(tmp_path: Path, subtests: pytest.Subtests) -> None:
    for header in [
        [],
        {},
        {"__metadata__": None},
        {"__metadata__": {}},
        {"__metadata__": PACKAGE | {"version": "5"}},
        {"__metadata__": PACKAGE},
        {"__metadata__": PACKAGE | {"config": "{}", "point": "[", "info": "{}"}},
        {"__metadata__": PACKAGE | {"config": '{"x": 1}', "point": "{}", "info": "{}"}},
        {"__metadata__": PACKAGE | {"config": "{}", "point": "[]", "info": "{}"}},
        {"w": 1},
        {"w": {"data_offsets": []}},
        {"w": {"data_offsets": [0, "x"]}},
    ]:
        with subtests.test(header=header), pytest.raises(ModelError, match=r"x\.safetensors: "):
            zoo.read_entry(write_header(tmp_path / "x.safetensors", header))


def test_weights_of_another_program_are_no_model(tmp_path: Path, stereo_model: Model) -> None:
    save_file({"w": stereo_model.coding.base}, tmp_path / "x.safetensors")
    with pytest.raises(ModelError, match="no model package"):
        zoo.read_entry(tmp_path / "x.safetensors")


def test_adding_a_model(model_folder: Path) -> None:
    source = model_folder / "paper.safetensors"
    entry = installing.add_model(source, "speech")
    assert entry.path == zoo.user_folder() / "speech.safetensors"
    assert entry.path.read_bytes() == source.read_bytes()
    assert zoo.find_model("speech").digest == zoo.find_model("paper").digest
    assert installing.add_model(source, "speech") == entry  # again: nothing to do


def test_adding_never_replaces_another_model_without_force(model_folder: Path) -> None:
    entry = installing.add_model(model_folder / "paper.safetensors", "mine")
    with pytest.raises(OutputError, match="exists already"):
        installing.add_model(model_folder / "default.safetensors", "mine")
    assert zoo.read_entry(entry.path).digest == entry.digest
    assert (
        installing.add_model(model_folder / "default.safetensors", "mine", force=True).digest
        != entry.digest
    )


def test_impossible_names(model_folder: Path, subtests: pytest.Subtests) -> None:
    for name in ["", "../x", "a/b", ".hidden", "a b"]:
        with subtests.test(name=name), pytest.raises(UsageError, match="model name"):
            installing.add_model(model_folder / "paper.safetensors", name)


def test_only_models_are_added(tmp_path: Path) -> None:
    (tmp_path / "x.safetensors").write_bytes(b"x")
    with pytest.raises(ModelError, match="not a model package"):
        installing.add_model(tmp_path / "x.safetensors")
    assert not zoo.user_folder().exists()


# ---- export, remove, and what streams need -------------------------------------------------------


def call(*args: str | Path) -> Result:
    return CliRunner().invoke(main, [str(arg) for arg in args])


def test_an_exported_model_is_the_model(model_folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "x.safetensors"
    assert call("model", "export", "paper", out).exit_code == 0
    assert out.read_bytes() == (model_folder / "paper.safetensors").read_bytes()
    assert call("model", "export", "default", out).exit_code == 8
    own = zoo.find_model("paper").path
    assert call("model", "export", own, own, "-f").exit_code == 2
    assert call("model", "export", "nothing", tmp_path / "y").exit_code == 7


def test_removing_a_model(
    model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = model_folder / "paper.safetensors"
    for name in ("one", "two"):
        installing.add_model(path, name)
    damaged = zoo.user_folder() / "damaged.safetensors"
    damaged.write_bytes(b"x")
    for name in ("one", "damaged"):
        assert call("model", "remove", name).exit_code == 0
        assert not (zoo.user_folder() / f"{name}.safetensors").exists()
    monkeypatch.setenv("RAVECODEC_MODELS", "")
    assert call("model", "remove", zoo.find_model("two").id.hex()).exit_code == 0
    assert not list(zoo.user_folder().iterdir())
    assert call("model", "remove", "two").exit_code == 7
    shutil.copytree(model_folder, tmp_path / "shipped")
    monkeypatch.setattr("ravecodec.zoo.shipped_folder", lambda: tmp_path / "shipped")
    refused = call("model", "remove", "paper")
    assert refused.exit_code == 2 and "came with ravecodec" in refused.stderr
    assert (tmp_path / "shipped/paper.safetensors").is_file()


def test_what_streams_need(
    stereo_model: Model, mono_model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, model, options in (
        ("a/plain", stereo_model, {}),
        ("a/named", mono_model, {"meta": {"model": "paper"}}),
        ("b/whole", mono_model, {"meta": {"model": "paper"}, "embed_model": True}),
    ):
        path = tmp_path / f"{name}.rvc"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(encode(np.zeros((1, 4000)), 8000, model, **options))
    wanted = ("model", "list", "--used-by", "-r", tmp_path / "a", tmp_path / "b")
    found = call(*wanted)
    assert found.exit_code == 0 and found.stdout.count("installed as") == 3
    monkeypatch.setenv("RAVECODEC_MODELS", "")
    found = call(*wanted, "--json")
    assert found.exit_code == 7
    needs = {Path(n["name"]).stem: n for n in map(json.loads, found.stdout.splitlines())}
    assert [needs[name]["model"] for name in ("plain", "named", "whole")] == [""] * 3
    assert [needs[name]["called"] for name in ("plain", "named", "whole")] == ["", "paper", "paper"]
    assert [needs[name]["embedded"] for name in ("plain", "named", "whole")] == [False, False, True]
    assert needs["named"]["id"] == mono_model.id.hex()
    assert call("model", "list", "--used-by", tmp_path / "b/whole.rvc").exit_code == 0
    (tmp_path / "b/bad.rvc").write_bytes(b"fLaC")
    assert call("model", "list", "--used-by", "-r", tmp_path / "b").exit_code == 4
    assert call(*wanted).exit_code == 1
    for args in (("--used-by",), (str(tmp_path),), ("-r",)):
        assert call("model", "list", *args).exit_code == 2
