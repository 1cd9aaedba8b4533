"""The reproductions of `shared/cases`, where they lie beside the checkout: each file ends as it
should.

The kinds that they stand for have tests of their own; here it is the files themselves.
RAVECODEC_CASES: the folder.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from ravecodec import decode, encode, load_model, zoo
from ravecodec.audio import Audio, open_input
from ravecodec.cli import main
from ravecodec.errors import InputError

BESIDE = Path(__file__).resolve().parents[2]
READ = {  # seconds; what is decoded of MP3 may have a frame more
    "vbr-without-xing.mp3": 6.0,
    "joined.mp3": 6.0,
    "chained.ogg": 6.0,
    "leading-junk.mp3": 3.0,
    "mp3-in-wav.wav": 3.0,
    "ogg-flac.oga": 3.0,
    "bw64.wav": 1.0,
    "tone.m4a": 3.0,
    "header-only.wav": 0.0,
}
REFUSED = {
    "data-size-zero.wav": "announces 0 samples",
    "data-size-half.wav": "announces 22050 samples",
    "cut-3-gigabyte.wav": "is truncated after 44100 samples, expected 1500000000",
    "cut-short.wav": "is truncated after 44100 samples, expected 88200",
}


@pytest.fixture(scope="module")
def cases(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the files, and with those that make.py makes, of the shipped model too."""
    folders = [
        Path(os.environ.get("RAVECODEC_CASES", "")),
        *(p / "shared" / "cases" for p in (BESIDE, BESIDE.parent)),
    ]
    found = next((folder for folder in folders if (folder / "make.py").is_file()), None)
    if found is None:
        pytest.skip("there is no shared/cases beside the checkout")
    folder = tmp_path_factory.mktemp("cases")
    for path in found.iterdir():
        shutil.copy(path, folder)
    shipped = zoo.shipped_folder() / "default.safetensors"
    subprocess.run([sys.executable, found / "make.py", folder, shipped], check=True)
    return folder


def test_audio_is_read_whole_or_refused(cases: Path) -> None:
    for name, seconds in READ.items():
        if name.endswith(".m4a"):
            pytest.importorskip("av")
        with open_input(cases / name) as source:
            count = sum(block.shape[1] for block in source.blocks(65_536))
            assert seconds <= count / source.sample_rate < seconds + 0.03, name
            assert (count > 0) or "holds no sound" in source.remarks[0]
    for name, sentence in REFUSED.items():
        with pytest.raises(InputError, match=sentence), open_input(cases / name) as source:
            list(source.blocks(65_536))
        with open_input(cases / name, ignore_length=True) as source:
            assert sum(block.shape[1] for block in source.blocks(65_536)) == 44_100, name


def test_models_are_refused(cases: Path, installed: Path) -> None:
    models = sorted(cases.glob("model-*.safetensors"))
    assert len(models) == 9
    for path in models:
        done = CliRunner().invoke(main, ["model", "add", str(path), "--name", "x"])
        assert done.exit_code == 7 and done.stderr.count("\n") == 1, (path.name, done.output)
        assert "a bug?" not in done.stderr
    assert not installed.exists() or not [path for path in installed.rglob("*") if path.is_file()]


def test_integers_kept_as_floats_are_refused(cases: Path) -> None:
    with (
        pytest.raises(InputError, match="--full-scale 32768"),
        open_input(cases / "float-at-16-bit-scale.wav") as source,
    ):
        list(source.blocks(65_536))
    with open_input(cases / "float-at-16-bit-scale.wav", full_scale=32_768) as source:
        assert 0.3 < max(np.abs(block).max() for block in source.blocks(65_536)) < 0.5


def there_and_back(path: Path) -> tuple[int, int, Audio, Audio]:
    """Size of the stream of the shipped model, rate, the audio, and what is decoded."""
    with open_input(path) as source:
        audio = np.concatenate(list(source.blocks(65_536)), axis=1)
        rate = source.sample_rate
    data = encode(audio, rate, load_model("default"))
    return len(data), rate, audio, decode(data)[0]


def gain(audio: Audio, output: Audio) -> float:
    """Difference of level, in dB."""
    power = [float(np.mean(part.astype(np.float64) ** 2)) for part in (output, audio)]
    return 10 * float(np.log10(power[0] / power[1]))


def test_sound_keeps_its_level(cases: Path) -> None:
    _, _, audio, output = there_and_back(cases / "chord-200-ms.wav")
    assert abs(gain(audio, output)) < 1.5
    _, rate, audio, output = there_and_back(cases / "starts-in-sound.wav")
    for part in (slice(0, rate // 10), slice(-rate // 10, None)):
        assert abs(gain(audio[:, part], output[:, part])) < 1.5
    # The level of 20 ms of a chord depends on phases, which are not kept: in its middle, too, it is
    # 2.6 dB off in places; the end is 3.5 dB too loud. Without mirroring it was 5 to 11 dB.
    for part in (slice(0, rate // 50), slice(-rate // 50, None)):
        assert abs(gain(audio[:, part], output[:, part])) < 4
    _, _, audio, output = there_and_back(cases / "very-quiet.wav")
    assert abs(gain(audio, output)) < 2


def test_silence_and_an_offset_are_no_sound(cases: Path) -> None:
    size, _, _, output = there_and_back(cases / "silence.wav")
    assert size < 100 and not output.any()
    _, rate, audio, output = there_and_back(cases / "dc-offset.wav")
    assert abs(float(audio[0].mean())) > 0.2
    low = np.abs(np.fft.rfft(output, axis=1))[:, : 60 * output.shape[1] // rate]
    assert np.sqrt(2 * np.sum(low**2)) / output.shape[1] < 1e-3  # RMS of a hum below 60 Hz
