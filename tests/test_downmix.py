"""More than two channels: refused, mixed down as ffmpeg does it, or picked; orders of channels are
those of the format."""

import json
import shutil
import struct
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from click.testing import CliRunner, Result
from numpy.typing import NDArray

from ravecodec import encode_file, inspect_file
from ravecodec.audio import Mix, open_input
from ravecodec.cli import main
from ravecodec.errors import InputError, UsageError
from ravecodec.models.package import Model

pytestmark = pytest.mark.usefixtures("installed")

RATE = 48_000
LAYOUTS = {3: "3.0", 4: "quad", 5: "5.0", 6: "5.1", 7: "6.1", 8: "7.1"}
GUID = bytes.fromhex("0100000000001000800000aa00389b71")  # PCM


def call(*args: object, stdin: bytes | None = None) -> Result:
    return CliRunner().invoke(main, list(map(str, args)), input=stdin)


def tones(channels: int, seconds: float = 0.5) -> NDArray[np.float64]:
    """[samples, channels]: another pitch on each."""
    time = np.arange(int(seconds * RATE)) / RATE
    return np.stack([0.5 * np.sin(2 * np.pi * (300 + 100 * k) * time) for k in range(channels)], 1)


def masked(path: Path, samples: NDArray[np.float64], mask: int) -> Path:
    """WAVE_FORMAT_EXTENSIBLE of 16 bits."""
    frames = np.rint(samples * 32767).astype("<i2")
    channels = frames.shape[1]
    fmt = struct.pack("<HHIIHH", 0xFFFE, channels, RATE, RATE * 2 * channels, 2 * channels, 16)
    fmt += struct.pack("<HHI", 22, 16, mask) + GUID
    data = frames.tobytes()
    body = b"WAVEfmt " + struct.pack("<I", len(fmt)) + fmt
    body += b"data" + struct.pack("<I", len(data)) + data
    path.write_bytes(b"RIFF" + struct.pack("<I", len(body)) + body)
    return path


def read(path: Path, mix: Mix) -> tuple[NDArray[np.float32], list[str]]:
    with open_input(path, mix=mix) as source:
        return np.concatenate(list(source.blocks(4096)), axis=1).T, source.remarks


def mixed_by_ffmpeg(path: Path) -> NDArray[np.float32]:
    """Its own stereo of a file; floats, so it is not scaled."""
    command = ["ffmpeg", "-nostdin", "-v", "error", "-i", path, "-ac", "2", "-f", "f32le", "-"]
    data = subprocess.run(command, capture_output=True, check=True).stdout
    return np.frombuffer(data, "<f4").reshape(-1, 2)


def test_the_downmix_is_that_of_ffmpeg_in_every_layout_and_format(tmp_path: Path) -> None:
    if shutil.which("ffmpeg") is None:
        pytest.skip("no ffmpeg")
    pytest.importorskip("av")
    tried = 0
    for channels, layout in LAYOUTS.items():
        soundfile.write(tmp_path / "plain.wav", tones(channels), RATE)
        for name, options in (
            ("x.wav", ""),
            ("x.flac", ""),
            ("x.ogg", "-c:a libvorbis -q:a 8"),
            ("x.mka", "-c:a pcm_s24le"),
            ("x.m4a", "-c:a alac"),
        ):
            command = ["ffmpeg", "-nostdin", "-v", "error", "-y", "-channel_layout"]
            command += [layout, "-i", "plain.wav", *options.split(), name]
            if subprocess.run(command, cwd=tmp_path, capture_output=True).returncode:
                continue  # a layout that the format does not have
            audio, remarks = read(tmp_path / name, Mix(downmix=True))
            if not remarks:  # ffmpeg itself has mixed it down, because the format lacks the layout
                read(tmp_path / name, Mix())
                continue
            assert "BS.775" in remarks[0]
            if "an order that is assumed" in remarks[0]:  # where ffmpeg assumes what it likes
                continue
            expected = mixed_by_ffmpeg(tmp_path / name)
            size = min(len(audio), len(expected))
            assert size >= 0.49 * RATE
            audio, expected = audio[:size], expected[:size]
            scale = float((audio * expected).sum() / (expected**2).sum())
            difference = np.abs(audio - scale * expected).max()
            assert difference < 2e-3 and scale <= 1.001, (name, layout, scale, difference)
            tried += 1
    assert tried > 20


def test_coefficients_and_what_is_said_of_them(tmp_path: Path) -> None:
    path, half = tmp_path / "x.wav", 0.5**0.5
    samples = tones(6)
    full = masked(path, samples, 0x3F)
    (audio, (remark,)) = read(full, Mix(downmix=True))
    left, _, centre, _, back, _ = samples.T
    expected = (left + half * centre + half * back) / (1 + 2 * half)
    assert np.abs(audio[:, 0] - expected).max() < 1e-4
    assert "6 channels (FL FR FC LFE BL BR)" in remark
    assert "left = 0.414 FL + 0.293 FC + 0.293 BL, right = 0.414 FR" in remark
    (side, (remark,)) = read(masked(path, samples, 0x60F), Mix(downmix=True))
    assert "SL SR" in remark and np.array_equal(side, audio)
    for mask in (0, 0x3, 0x20003F):  # none, of fewer channels, of more and strange ones
        (same, (remark,)) = read(masked(path, samples, mask), Mix(downmix=True))
        assert np.array_equal(same, audio)
        assert "FL FR FC LFE BL BR, an order that is assumed" in remark
    for channels in (9, 12):
        soundfile.write(path, tones(channels), RATE)
        with pytest.raises(InputError, match=f"has {channels} channels that are not known.*--chan"):
            read(path, Mix(downmix=True))


def test_mono_and_stereo_stay_what_they_are(tmp_path: Path) -> None:
    for channels in (1, 2):
        soundfile.write(tmp_path / "x.wav", tones(channels), RATE)
        audio, remarks = read(tmp_path / "x.wav", Mix(downmix=True))
        plain, _ = read(tmp_path / "x.wav", Mix())
        assert np.array_equal(audio, plain) and not remarks


def test_channels_are_picked_exactly(tmp_path: Path) -> None:
    samples = tones(6)
    for name in ("x.wav", "x.flac", "x.aiff"):
        soundfile.write(tmp_path / name, samples, RATE)
        whole = soundfile.read(tmp_path / name, dtype="float32")[0]
        for picks in ((1, 2), (6,), (4, 3), (2, 2)):
            audio, remarks = read(tmp_path / name, Mix(picks=picks))
            assert np.array_equal(audio, whole[:, np.array(picks) - 1]) and not remarks
        with pytest.raises(InputError, match="has 6 channels, expected at least 7"):
            read(tmp_path / name, Mix(picks=(1, 7)))
    bad = samples.copy()
    bad[100, 3] = np.nan
    soundfile.write(tmp_path / "nan.wav", bad, RATE, subtype="FLOAT")
    read(tmp_path / "nan.wav", Mix(picks=(1, 2)))  # what is not taken is not looked at
    with pytest.raises(InputError, match=r"sample 100 .*channel 4"):
        read(tmp_path / "nan.wav", Mix(picks=(1, 4)))
    with pytest.raises(InputError, match=r"sample 100 .*channel 4"):
        read(tmp_path / "nan.wav", Mix(downmix=True))


def test_the_default_is_a_refusal_that_names_both_options(tmp_path: Path) -> None:
    for name in ("x.wav", "x.flac"):
        soundfile.write(tmp_path / name, tones(4), RATE)
        with pytest.raises(InputError, match=r"4 channels.*--downmix.*--channels 1,2"):
            read(tmp_path / name, Mix())
    for wrong in ({"downmix": True, "picks": (1,)}, {"picks": (0,)}, {"picks": (1, 2, 3)}):
        with pytest.raises(UsageError):
            Mix(**wrong)  # type: ignore[arg-type]


def test_encode(tmp_path: Path, stereo_model: Model, music: Callable[..., Any]) -> None:
    one, six, out = tmp_path / "1.wav", tmp_path / "6.wav", tmp_path / "x.rvc"
    soundfile.write(six, tones(6), RATE)
    soundfile.write(one, music(9000, 1, RATE).T, RATE)
    assert call("encode", six, out).exit_code == 3
    done = call("encode", six, out, "--downmix")
    assert done.exit_code == 0 and "mixed down" in done.stderr
    assert inspect_file(out).stream.channels == 2
    assert call("encode", six, out, "-f", "--channels", "3").exit_code == 0
    assert inspect_file(out).stream.channels == 1
    soundfile.write(tmp_path / "3.wav", tones(6)[:, 2], RATE)
    encode_file(tmp_path / "3.wav", tmp_path / "y.rvc", model=stereo_model)
    assert (tmp_path / "y.rvc").read_bytes() == out.read_bytes()
    piped = call("encode", "-", out, "-f", "--channels", "5,6", stdin=six.read_bytes())
    assert piped.exit_code == 0, piped.stderr
    raw = np.rint(tones(4) * 32767).astype("<i2").tobytes()
    form = ("--raw-rate", RATE, "--raw-channels", 4)
    assert call("encode", "-", out, "-f", *form, stdin=raw).exit_code == 2
    done = call("encode", "-", out, "-f", "--downmix", *form, stdin=raw)
    assert done.exit_code == 0 and "FL FR BL BR, an order that is assumed" in done.stderr
    for words in (["--downmix", "--channels", "1"], ["--channels", "a"], ["--channels", "1,2,3"]):
        assert call("encode", six, out, "-f", *words).exit_code == 2
    many = call("encode", one, six, "-o", tmp_path / "many", "--downmix", "-j", 1, "--json")
    assert many.exit_code == 0, many.stderr
    found = [json.loads(line) for line in many.stdout.splitlines()][:2]
    assert [each["summary"]["stream"]["channels"] for each in found] == [1, 2]
