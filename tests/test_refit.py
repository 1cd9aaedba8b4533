"""`model refit`: fewer bytes for the same symbols, the same sound, another id."""

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
from click.testing import CliRunner

import ravecodec
from ravecodec.bitstream import Profile, StreamReader
from ravecodec.cli import main
from ravecodec.errors import ModelError
from ravecodec.models.header import read_header
from ravecodec.models.package import load_package
from ravecodec.refit import refit_model
from ravecodec.tables import tables_of

Music = Callable[..., np.ndarray]


@pytest.fixture
def records(tmp_path: Path, music: Music) -> Path:
    """Three pieces, and a file that is none."""
    folder = tmp_path / "records"
    folder.mkdir()
    for seed in range(3):
        soundfile.write(folder / f"{seed}.wav", music(48_000 * 20, 2, 48_000, seed).T, 48_000)
    (folder / "none.wav").write_bytes(b"RIFF")
    return folder


def test_a_refit_model_codes_the_same_symbols_in_fewer_bytes(
    records: Path, model_folder: Path, tmp_path: Path, music: Music
) -> None:
    old, new = model_folder / "default.safetensors", tmp_path / "new.safetensors"
    said: list[str] = []
    refit_model(old, records, new, fewest=100, steps=(12, 0), report=said.append)
    assert any("none.wav" in line for line in said)
    models = [load_package(path) for path in (old, new)]
    assert read_header(new).version == 5 and read_header(old).version == 4
    assert models[1].info["refit_of"] == [models[0].id.hex()] and models[0].id != models[1].id
    for key, value in models[0].network.state_dict().items():
        assert value.equal(models[1].network.state_dict()[key])

    audio = music(48_000 * 20, 2, 48_000, seed=1)
    streams = [ravecodec.encode(audio, 48_000, model) for model in models]
    readers = [StreamReader(io.BytesIO(stream)) for stream in streams]
    symbols = [
        [reader.decode_chunk(chunk, tables_of(model.coding)) for chunk in reader.chunks()]
        for reader, model in zip(readers, models, strict=True)
    ]
    assert all(np.array_equal(a, b) for a, b in zip(*symbols, strict=True))
    assert [reader.info.minor for reader in readers] == [0, 1]
    assert len(streams[1]) < len(streams[0])
    profiles = [chunk.profile for chunk in StreamReader(io.BytesIO(streams[1])).chunks()]
    assert Profile.PREDICTED in profiles
    sounds = [
        ravecodec.decode(stream, model)[0] for stream, model in zip(streams, models, strict=True)
    ]
    assert np.array_equal(*sounds)
    assert np.array_equal(sounds[0], ravecodec.decode(streams[0], models[1])[0])
    with pytest.raises(ModelError, match="made with model"):
        ravecodec.decode(streams[1], models[0])


def test_a_curve_alone_leaves_the_predictor_and_plays_its_streams(
    model_folder: Path, tmp_path: Path, music: Music
) -> None:
    """Those of the model that it was made of, and of the one before it without a predictor."""
    records = tmp_path / "records"
    records.mkdir()
    for seed in range(2):
        soundfile.write(records / f"{seed}.wav", music(48_000 * 3, 2, 48_000, seed).T, 48_000)
    old, middle, new = (
        model_folder / "default.safetensors",
        *(tmp_path / f"{name}.safetensors" for name in ("middle", "new")),
    )
    refit_model(old, records, middle, fewest=100, steps=(12, 0, -12))
    call = ["model", "refit", str(middle), str(new), "--data", str(records), "--curve"]
    done = CliRunner().invoke(main, call)
    assert done.exit_code == 0 and "curve of" in done.stderr, done.stderr
    assert "its id is new" in done.stderr
    before, after = load_package(middle), load_package(new)
    assert after.info["same_tables_as"] == [before.id.hex()] and after.id != before.id
    assert after.info["refit_of"] == [load_package(old).id.hex()]
    assert after.coding.prediction is not None and before.coding.prediction is not None
    assert np.array_equal(after.coding.prediction.weights, before.coding.prediction.weights)
    assert after.coding.ladder == before.coding.ladder or len(after.coding.ladder) in (0, 11)
    audio = music(48_000 * 2, 2, 48_000)
    one, other = (ravecodec.encode(audio, 48_000, model) for model in (before, after))
    assert len(one) == len(other) and StreamReader(io.BytesIO(one)).info.minor == 1
    sound = ravecodec.decode(one, before)[0]
    assert np.array_equal(sound, ravecodec.decode(one, after)[0])
    assert np.array_equal(sound, ravecodec.decode(other, after)[0])
    static = ravecodec.encode(audio, 48_000, load_package(old))
    assert np.array_equal(
        ravecodec.decode(static, load_package(old))[0], ravecodec.decode(static, after)[0]
    )


def test_streams_of_the_old_model_are_in_order_with_the_new_one_alone(
    records: Path, model_folder: Path, tmp_path: Path, music: Music, monkeypatch: pytest.MonkeyPatch
) -> None:
    """decode, verify, info, cut and edit: what is written names the old id, so it has no predicted
    chunk.
    """
    old, alone = model_folder / "default.safetensors", tmp_path / "models"
    alone.mkdir()
    little = {"fewest": 100, "steps": (12, 0)}
    refit_model(old, records, alone / "middle.safetensors", **little)
    refit_model(alone / "middle.safetensors", records, alone / "new.safetensors", **little)
    assert len(load_package(alone / "new.safetensors").info["refit_of"]) == 2
    (alone / "middle.safetensors").unlink()
    stream = tmp_path / "old.rvc"
    stream.write_bytes(ravecodec.encode(music(48_000 * 20), 44_100, load_package(old)))
    monkeypatch.setenv("RAVECODEC_MODELS", str(alone))
    monkeypatch.setattr("ravecodec.zoo.shipped_folder", lambda: tmp_path / "none")
    monkeypatch.setattr("ravecodec.zoo.user_folder", lambda: tmp_path / "none")
    calls = (
        ("decode", stream, tmp_path / "out.wav"),
        ("verify", stream),
        ("cut", stream, tmp_path / "cut.rvc", "--start", "3", "--end", "15"),
        ("edit", stream, tmp_path / "edited.rvc", "--scale", "0=0.5"),
        ("decode", tmp_path / "cut.rvc", tmp_path / "cut.wav"),
        ("decode", tmp_path / "edited.rvc", tmp_path / "edited.wav"),
    )
    for call in calls:
        done = CliRunner().invoke(main, [str(arg) for arg in call])
        assert done.exit_code == 0, (call, done.stderr)
    for name in ("cut.rvc", "edited.rvc"):
        reader = StreamReader(io.BytesIO((tmp_path / name).read_bytes()))
        assert reader.info.model_id == load_package(old).id and reader.info.minor == 0
        assert all(chunk.profile != Profile.PREDICTED for chunk in reader.chunks())


def test_a_refit_leaves_what_is_there(records: Path, model_folder: Path, tmp_path: Path) -> None:
    old, new = str(model_folder / "default.safetensors"), tmp_path / "new.safetensors"
    new.write_bytes(b"mine")
    done = CliRunner().invoke(main, ["model", "refit", old, str(new), "--data", str(records)])
    assert done.exit_code == 8 and new.read_bytes() == b"mine"


def test_too_little_audio_is_told(model_folder: Path, tmp_path: Path, music: Music) -> None:
    soundfile.write(tmp_path / "short.wav", music(48_000, 2, 48_000).T, 48_000)
    command = [
        "model",
        "refit",
        str(model_folder / "default.safetensors"),
        str(tmp_path / "new.safetensors"),
    ]
    done = CliRunner().invoke(main, [*command, "--data", str(tmp_path)])
    assert done.exit_code == 3 and "expected 1000" in done.stderr
    done = CliRunner().invoke(main, [*command, "--data", str(tmp_path / "missing")])
    assert done.exit_code == 3 and "no such folder" in done.stderr
    assert not (tmp_path / "new.safetensors").exists()
