"""`ravecodec compare`: the scores of one pair are those of eval, whatever the two files are."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from click.testing import CliRunner, Result

from ravecodec import decode_file, encode_file
from ravecodec.cli import main
from ravecodec.errors import InputError, UsageError
from ravecodec.evaluate.comparing import compare_files
from ravecodec.evaluate.measures.scores import METRICS, score
from ravecodec.models.package import Model

for package in ("scipy", "pyloudnorm", "pystoi"):
    pytest.importorskip(package)
pytestmark = pytest.mark.usefixtures("installed")

Music = Callable[..., Any]
SLOW = {"visqol", "zimtohrli"}  # tested where they are, in test_scores.py


def call(*args: object) -> Result:
    return CliRunner().invoke(main, list(map(str, args)))


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if the slow scores were not installed."""
    monkeypatch.setattr("ravecodec.evaluate.measures.scores.absent", lambda: sorted(SLOW))
    monkeypatch.setattr("ravecodec.evaluate.comparing.absent", lambda: sorted(SLOW))


@pytest.fixture
def pair(tmp_path: Path, music: Music) -> tuple[Path, Path]:
    """a.wav and b.wav: 1.2 s of stereo, the second with noise."""
    audio = music(57_600, rate=48_000).T
    noise = 0.01 * np.random.default_rng(0).standard_normal(audio.shape)
    soundfile.write(tmp_path / "a.wav", audio, 48_000)
    soundfile.write(tmp_path / "b.wav", audio + noise, 48_000)
    return tmp_path / "a.wav", tmp_path / "b.wav"


def test_the_scores_are_those_of_eval(pair: tuple[Path, Path]) -> None:
    a, b = (soundfile.read(path, dtype="float32")[0].T for path in pair)
    for speech in (False, True):
        expected, _ = score(a, b, 48_000, speech=speech)
        found = compare_files(*pair, speech=speech)
        assert found.scores == pytest.approx(expected, abs=1e-6)  # ESTOI has noise in its last bits
        assert not found.remarks and found.delay == 0
        assert set(SLOW) <= set(found.absent)
    assert "estoi" in found.scores
    same = compare_files(pair[0], pair[0]).scores
    best = {metric.id: metric.best for metric in METRICS}
    assert {name: pytest.approx(best[name], abs=1e-6) for name in same} == same


def test_a_stream_is_decoded_first(
    pair: tuple[Path, Path], stereo_model: Model, tmp_path: Path
) -> None:
    stream, decoded = tmp_path / "x.rvc", tmp_path / "x.wav"
    encode_file(pair[0], stream, model=stereo_model)
    decode_file(stream, decoded, model=stereo_model)
    found = compare_files(pair[0], stream, model=stereo_model)
    assert found.scores == compare_files(pair[0], decoded).scores
    assert found.decoded.kbps == pytest.approx(stream.stat().st_size * 8 / 1000 / 1.2)
    assert found.reference.kbps is None and found.decoded.name == str(stream)
    both = call("compare", stream, stream, "--json")
    assert both.exit_code == 0, both.stderr
    assert json.loads(both.stdout)["scores"]["log_mel"] == 0


def test_what_is_not_alike_is_made_so_and_said(pair: tuple[Path, Path], tmp_path: Path) -> None:
    audio, _ = soundfile.read(pair[0])
    made = tmp_path / "c.wav"
    soundfile.write(made, audio.mean(1)[:40_000], 44_100)
    found = compare_files(pair[0], made)
    assert "44100 Hz is resampled to 48000 Hz" in found.remarks[0]
    assert "c.wav: is mono" in found.remarks[1]
    assert "lasts 0.907 s" in found.remarks[2]
    late = np.concatenate([np.zeros((480, 2)), audio])
    soundfile.write(made, late, 48_000)
    found = compare_files(pair[0], made)
    assert found.delay == pytest.approx(0.01) and found.scores["log_mel"] < 0.5
    soundfile.write(made, np.zeros((100, 2)), 48_000)
    found = compare_files(made, made)
    assert not found.scores and "nothing can be scored" in found.remarks[0]


def test_missing_packages_are_named(
    pair: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    def without(*names: str) -> None:
        monkeypatch.setattr(
            "ravecodec.evaluate.comparing.find_spec",
            lambda name: None if name in names else object(),
        )

    without("pyloudnorm", "pesq")
    done = call("compare", *pair, "--speech")
    assert done.exit_code == 0, done.stderr
    assert (
        "visqol, zimtohrli, pyloudnorm, pesq (`pip install 'ravecodec[eval]' pesq`)" in done.stderr
    )
    assert "Loudness error" not in done.stdout and "Peak F1" in done.stdout
    assert "pesq" not in call("compare", *pair).stderr
    without("scipy")
    done = call("compare", *pair)
    assert done.exit_code == 2 and "pip install 'ravecodec[eval]'" in done.stderr


def test_the_command(pair: tuple[Path, Path], tmp_path: Path) -> None:
    done = call("compare", *pair)
    assert done.exit_code == 0, done.stderr
    assert done.stdout.startswith(f"A  {pair[0]}: 1.200 s of 48000 Hz stereo\n")
    assert "Log-mel distance" in done.stdout and "dB  (lower is better)" in done.stdout
    remarks = [line for line in done.stdout.splitlines() if "SI-SDR" in line]
    assert remarks and all("no measure of quality" in line for line in remarks)
    found = json.loads(call("compare", *pair, "--json").stdout)
    assert found["scores"] == compare_files(*pair).scores
    assert found["absent"] == sorted(SLOW)
    (tmp_path / "no.wav").write_bytes(b"no audio at all")
    soundfile.write(tmp_path / "empty.wav", np.zeros((0, 1)), 48_000)
    for other, code in (("none.wav", 3), ("no.wav", 3), ("empty.wav", 3)):
        assert call("compare", pair[0], tmp_path / other).exit_code == code
    assert call("compare", "-", pair[0]).exit_code == 2
    with pytest.raises(UsageError, match="pipe"):
        compare_files(pair[0], "-")
    with pytest.raises(InputError, match="holds no sound"):
        compare_files(tmp_path / "empty.wav", pair[0])
