"""`generate`: the same call makes the same sound, more seconds only add to it, what is continued
stays as it is, and what comes out is a stream like any other."""

import io
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from click.testing import CliRunner

import ravecodec
from ravecodec import Latents, generate
from ravecodec.bitstream import StreamReader
from ravecodec.cli import main
from ravecodec.errors import ModelError, UsageError
from ravecodec.models.package import Model, load_package
from ravecodec.models.prior import Prior, prior_package
from ravecodec.models.prior_file import PriorConfig

Music = Callable[..., np.ndarray]


def write_prior(path: Path, model: Model, **config: int) -> None:
    """A random prior for a model."""
    torch.manual_seed(1)
    dims = model.coding.dims
    made = PriorConfig(dims, hidden=8, units=12, groups=3, mixture=2, **config)
    step = model.coding.base[:dims] * 2 ** (made.step_index / 8)
    path.write_bytes(prior_package(Prior(made, step, 3 * step), model.name, model.id, {}))


@pytest.fixture
def speaking(
    installed: Path, model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Path:
    """A folder of lookup whose `default` has a prior on a finer grid than its own, and whose
    `paper` has none."""
    folder = tmp_path / "zoo"
    folder.mkdir()
    for name in ("default", "paper"):
        data = (model_folder / f"{name}.safetensors").read_bytes()
        (folder / f"{name}.safetensors").write_bytes(data)
    model = load_package(folder / "default.safetensors")
    write_prior(folder / "default.prior.safetensors", model, step_index=-3)
    monkeypatch.setenv("RAVECODEC_MODELS", str(folder))
    return folder


def test_the_same_call_makes_the_same_and_more_seconds_add(speaking: Path) -> None:
    first, again = (generate("default", 3, seed=5) for _ in range(2))
    assert np.array_equal(first.values, again.values) and np.array_equal(first.lead, again.lead)
    longer = generate("default", 5.5, seed=5)
    whole = 3 * 48_000 // first.info.hop
    assert np.array_equal(longer.values[:whole], first.values[:whole])
    assert not np.array_equal(generate("default", 3, seed=6).values, first.values)
    assert (first.samples, first.sample_rate, first.channels) == (3 * 48_000, 48_000, 2)
    assert longer.samples == 5.5 * 48_000 and len(first.lead) == 1
    model = ravecodec.load_model("default")
    assert np.array_equal(generate(model, 3, seed=5).values, first.values)


def test_what_comes_out_is_a_stream_like_any_other(speaking: Path) -> None:
    """Its symbols stand for the values exactly, and decoding it gives their sound."""
    found = generate("default", 12, seed=1)
    data = found.to_stream()
    back = Latents.from_stream(data)
    assert np.array_equal(back.values, found.values) and np.array_equal(back.lead, found.lead)
    assert back.info.step_index == -3 and back.samples == found.samples
    list(StreamReader(io.BytesIO(data)).chunks())
    sound, rate = ravecodec.decode(data)
    played = found.synthesise()[0]  # of float32 values, where a decoder has float64
    assert rate == 48_000 and np.allclose(sound, played, atol=1e-5)
    assert np.isfinite(sound).all() and sound.shape == (2, 12 * 48_000)


def test_a_piece_that_is_continued_stays_as_it_is(speaking: Path, music: Music) -> None:
    audio = music(44_100 * 4, 1)
    data = ravecodec.encode(audio, 44_100, "default", seed=9)
    heard = Latents.from_stream(data)
    longer = generate("default", 3, seed=2, continue_from=heard)
    frames = len(heard)
    assert np.array_equal(longer.values[:frames], heard.values)
    assert (longer.sample_rate, longer.channels, longer.info.seed) == (44_100, 1, 2)
    new = longer.samples - frames * heard.info.hop * 44_100 // 48_000
    assert 3 * 44_100 <= new < 3 * 44_100 + heard.info.hop
    back = Latents.from_stream(longer.to_stream())
    assert np.array_equal(back.values, longer.values)  # each part on its own grid
    other = generate("default", 3, seed=2)
    assert not np.array_equal(longer.values[frames:], other.values[: len(longer) - frames])
    few = Latents.from_stream(ravecodec.encode(audio, 44_100, "default", dims=3))
    longer = generate("default", 2, continue_from=few)
    assert longer.info.dims == 3 and len(longer.to_stream())


def test_like_is_listened_to_and_left_out(speaking: Path, music: Music, tmp_path: Path) -> None:
    song, stream = tmp_path / "song.wav", tmp_path / "song.rvc"
    soundfile.write(song, music(48_000 * 3, 2, 48_000).T, 48_000)
    ravecodec.encode_file(song, stream, model="default")
    plain = generate("default", 2, seed=3)
    for source in (song, str(stream), Latents.from_stream(stream)):
        found = generate("default", 2, seed=3, like=source)
        assert len(found) == len(plain) and found.samples == plain.samples
        assert not np.array_equal(found.values, plain.values)


def test_the_command_writes_audio_and_streams(speaking: Path, music: Music, tmp_path: Path) -> None:
    sounds = [tmp_path / "a.wav", tmp_path / "b.wav"]
    stream = tmp_path / "a.rvc"
    for target in (*sounds, stream):
        call = ["generate", str(target), "--seconds", "2", "--seed", "4", "--bits", "float"]
        done = CliRunner().invoke(main, call[: 6 if target is stream else None])
        assert done.exit_code == 0, done.stderr
        assert "2.000 s of new sound" in done.stderr
    assert sounds[0].read_bytes() == sounds[1].read_bytes()
    expected, _ = ravecodec.decode(stream.read_bytes())
    assert np.allclose(soundfile.read(sounds[0], dtype="float32")[0].T, expected, atol=1e-5)
    more = tmp_path / "more.wav"
    done = CliRunner().invoke(
        main, ["generate", str(more), "--continue-from", str(stream), "--seconds", "1", "--json"]
    )
    assert done.exit_code == 0 and '"prompt_seconds": ' in done.stdout
    assert soundfile.info(more).duration > 3


def test_what_makes_no_sense_is_refused(speaking: Path, tmp_path: Path, music: Music) -> None:
    out = tmp_path / "x.wav"
    cases = [
        (["generate", str(out), "--seconds", "0"], 2, "seconds is 0"),
        (["generate", str(out), "--seconds", "nan"], 2, "seconds is nan"),
        (["generate", str(out), "--temperature", "-1"], 2, "temperature is -1"),
        (["generate", str(out), "--model", "paper"], 7, "has no prior"),
        (["generate", str(tmp_path / "x.txt")], 2, "extension '.txt'"),
        (["generate", str(tmp_path / "x.rvc"), "--bits", "24"], 2, "--bits is for audio"),
        (["generate", str(out), "--like", "a", "--continue-from", "b"], 2, "expected one of them"),
        (["generate", str(out), "--like", str(tmp_path / "none.wav")], 3, "none.wav"),
        (["generate", str(out), "--prior", str(tmp_path / "no")], 7, "no such prior file"),
    ]
    for call, code, sentence in cases:
        done = CliRunner().invoke(main, call)
        assert (done.exit_code, sentence in done.stderr) == (code, True), done.stderr
        assert not list(tmp_path.glob("x.*"))
    with pytest.raises(UsageError, match="seed"):
        generate("default", 1, seed=-1)
    paper = ravecodec.load_model("paper")
    strange = ravecodec.analyse(music(48_000, 1, 48_000), 48_000, paper)
    with pytest.raises(ModelError):
        generate("default", 1, like=strange)
    own = speaking / "default.prior.safetensors"
    with pytest.raises(ModelError, match="is a prior for model"):
        generate(paper, 1, prior=own)
    with pytest.raises(ModelError, match="not installed"):
        generate(replace(paper, digest=bytes(32)), 1)
