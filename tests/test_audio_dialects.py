"""Every dialect of the formats gives the samples that ffmpeg gives; without PyAV, the sentence
names the command that installs it.

The files are made by ffmpeg and sox, Debian packages; where one is missing its files are skipped.
"""

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray

from ravecodec.audio import open_input
from ravecodec.errors import InputError

RATE = 44_100
EXACT = 1e-6  # of what is PCM or companded
# Of ADPCM, whose decoders round differently: sox and libsndfile agree, ffmpeg does not.
CODED = 3e-2
# name -> (command that makes OUT of in.wav, how far a sample may be from ffmpeg's)
BY_LIBSNDFILE = {
    "alaw.wav": ("ffmpeg -i in.wav -c:a pcm_alaw OUT", EXACT),
    "mulaw.wav": ("ffmpeg -i in.wav -c:a pcm_mulaw OUT", EXACT),
    "u8.wav": ("ffmpeg -i in.wav -c:a pcm_u8 OUT", EXACT),
    "s24.wav": ("ffmpeg -i in.wav -c:a pcm_s24le OUT", EXACT),
    "s32.wav": ("ffmpeg -i in.wav -c:a pcm_s32le OUT", EXACT),
    "f32.wav": ("ffmpeg -i in.wav -c:a pcm_f32le OUT", EXACT),
    "f64.wav": ("ffmpeg -i in.wav -c:a pcm_f64le OUT", EXACT),
    "ima.wav": ("ffmpeg -i in.wav -c:a adpcm_ima_wav OUT", CODED),
    "ms.wav": ("ffmpeg -i in.wav -c:a adpcm_ms OUT", CODED),
    "phone.wav": ("ffmpeg -i in.wav -c:a pcm_mulaw -ar 8000 -ac 1 OUT", EXACT),
    "sox-alaw.wav": ("sox in.wav -e a-law OUT", EXACT),
    "sox-mulaw.wav": ("sox in.wav -e mu-law OUT", EXACT),
    "sox-u8.wav": ("sox in.wav -b 8 -e unsigned OUT", EXACT),
    "sox-f64.wav": ("sox in.wav -b 64 -e floating-point OUT", EXACT),
    "sox-ima.wav": ("sox in.wav -e ima-adpcm OUT", CODED),
    "sox-ms.wav": ("sox in.wav -e ms-adpcm OUT", CODED),
    "sox-s24.wav": ("sox in.wav -b 24 OUT", EXACT),  # WAVE_FORMAT_EXTENSIBLE
    "sowt.aifc": ("ffmpeg -i in.wav -c:a pcm_s16le -f aiff OUT", EXACT),
    "alaw.aifc": ("ffmpeg -i in.wav -c:a pcm_alaw -f aiff OUT", EXACT),
    "f64.aifc": ("ffmpeg -i in.wav -c:a pcm_f64be -f aiff OUT", EXACT),
    "s8.aiff": ("ffmpeg -i in.wav -c:a pcm_s8 OUT", EXACT),
    "f64.au": ("ffmpeg -i in.wav -c:a pcm_f64be OUT", EXACT),
    "mulaw.caf": ("ffmpeg -i in.wav -c:a pcm_mulaw OUT", EXACT),
}
BY_AV = {
    "aac.m4a": ("ffmpeg -i in.wav OUT", EXACT),
    "alac.m4a": ("ffmpeg -i in.wav -c:a alac OUT", EXACT),
    "adts.aac": ("ffmpeg -i in.wav -f adts OUT", EXACT),
    "x.wma": ("ffmpeg -i in.wav OUT", EXACT),
    "flac.mka": ("ffmpeg -i in.wav -c:a flac OUT", EXACT),
    "opus.webm": ("ffmpeg -i in.wav -c:a libopus OUT", EXACT),
    "x.ac3": ("ffmpeg -i in.wav OUT", EXACT),
    "x.eac3": ("ffmpeg -i in.wav OUT", EXACT),
    "ac3.mp4": ("ffmpeg -i in.wav -c:a ac3 OUT", EXACT),
    "pcm.mov": ("ffmpeg -i in.wav -c:a pcm_s16le OUT", EXACT),
    "pcm.avi": ("ffmpeg -i in.wav -c:a pcm_s16le OUT", EXACT),
    "aac.ts": ("ffmpeg -i in.wav -c:a aac -f mpegts OUT", EXACT),
    "x.dts": ("ffmpeg -i in.wav -c:a dca -strict -2 OUT", EXACT),
    "x.tta": ("ffmpeg -i in.wav OUT", EXACT),
    "x.wv": ("ffmpeg -i in.wav OUT", EXACT),
    "x.voc": ("ffmpeg -i in.wav OUT", EXACT),
    "ac3.wav": ("ffmpeg -i in.wav -c:a ac3 OUT", EXACT),  # in a container that libsndfile knows
    "alac.caf": ("ffmpeg -i in.wav -c:a alac OUT", EXACT),
    "f64.w64": ("ffmpeg -i in.wav -c:a pcm_f64le OUT", EXACT),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With in.wav: half a second of stereo."""
    if shutil.which("ffmpeg") is None:
        pytest.skip("no ffmpeg")
    made = tmp_path_factory.mktemp("dialects")
    time = np.arange(RATE // 2) / RATE
    noise = 0.02 * np.random.default_rng(0).standard_normal(len(time))
    left, right = np.sin(2 * np.pi * 440 * time), np.sin(2 * np.pi * 660 * time)
    soundfile.write(made / "in.wav", np.stack([0.4 * left + noise, 0.3 * right], 1), RATE, "PCM_16")
    return made


def make(folder: Path, name: str, command: str) -> Path | None:
    """The file, None where its program is missing."""
    words = command.replace("ffmpeg ", "ffmpeg -nostdin -v error -y ").replace("OUT", name).split()
    if shutil.which(words[0]) is None:
        return None
    done = subprocess.run(words, cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return folder / name


def by_ffmpeg(path: Path, channels: int) -> NDArray[np.float32]:
    command = ["ffmpeg", "-nostdin", "-v", "error", "-i", path, "-f", "f32le", "-"]
    data = subprocess.run(command, capture_output=True, check=True).stdout
    return np.frombuffer(data, "<f4").reshape(-1, channels)


def compare(folder: Path, files: dict[str, tuple[str, float]]) -> None:
    """All samples of each file against ffmpeg's, which pads MP4 to whole frames."""
    for name, (command, tolerance) in files.items():
        if (path := make(folder, name, command)) is None:
            continue
        with open_input(path) as source:
            audio = np.concatenate(list(source.blocks(4096)), axis=1).T
            expected = by_ffmpeg(path, source.channels)
            least = RATE // 2 * source.sample_rate / RATE
            assert not source.remarks, name
        assert len(audio) >= 0.9 * least and len(audio) <= len(expected) + 2048, name
        size = min(len(audio), len(expected))
        assert np.abs(audio[:size] - expected[:size]).max() <= tolerance, name


def test_dialects_of_wav_aiff_au_and_caf(folder: Path) -> None:
    compare(folder, BY_LIBSNDFILE)


def test_what_pyav_reads(folder: Path) -> None:
    pytest.importorskip("av")
    compare(folder, BY_AV)


def test_without_pyav_the_sentence_names_the_command(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ravecodec.audio.opening.has_av", lambda: False)
    for name, (command, _) in BY_AV.items():
        path = make(folder, name, command)
        assert path is not None
        with pytest.raises(InputError, match=r"`pip install 'ravecodec\[formats\]'` \(PyAV\)"):
            open_input(path)
    (folder / "unknown").write_bytes(b"nothing that anybody knows" * 9)
    with pytest.raises(InputError, match=r"ravecodec\[formats\]"):
        open_input(folder / "unknown")
