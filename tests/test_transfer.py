"""Timbre transfer: the codec's own path without symbols, loudness and pitch by independent
measures, folders.
"""

import importlib
import json
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from click.testing import CliRunner, Result

import ravecodec
from ravecodec.audio import Audio
from ravecodec.cli import main
from ravecodec.codec import stream_info
from ravecodec.errors import InputError, UsageError
from ravecodec.latents import analyse
from ravecodec.loudness import (
    FLOOR_LUFS,
    HOP_SECONDS,
    MOST_DB,
    OFFSET_DB,
    Follower,
    Levels,
    k_weighting,
)
from ravecodec.models.package import Model, load_package
from ravecodec.pitch import PitchShift, Stretch
from ravecodec.point import Point
from ravecodec.timbre import Transfer, transfer, transfer_file

pytestmark = pytest.mark.usefixtures("installed")

Music = Callable[..., Audio]


def cli(*args: object) -> Result:
    return CliRunner().invoke(main, [str(arg) for arg in args])


def sine(hz: float, rate: int, seconds: float, phase: float = 0.0) -> Audio:
    time = np.arange(round(rate * seconds)) / rate
    return np.sin(2 * np.pi * hz * time + phase).astype(np.float32)


def in_pieces(audio: Audio, sizes: list[int]) -> list[Audio]:
    """Cut at sizes that are gone through again and again."""
    places = np.cumsum(np.resize(sizes, 1 + audio.shape[1] // min(sizes)))
    return np.split(audio, places[places < audio.shape[1]], axis=1)


# ---- loudness ------------------------------------------------------------------------------------


def lufs(power: float) -> float:
    """Loudness of a K-weighted power."""
    return OFFSET_DB + 10 * float(np.log10(max(power, 1e-30)))


def test_k_weighting_is_the_standards() -> None:
    """BS.1770: a 997 Hz sine of full scale in one channel reads -3.01; BS.2217 has -23 for -23 dBFS
    in two.
    """
    for rate in (8_000, 44_100, 48_000, 96_001):
        one = sine(997, rate, 4)[None]
        middle = list(Levels(rate, 1).process(one))[2:5]
        assert [lufs(power) for power in middle] == pytest.approx([-3.01] * 3, abs=0.02)
    assert 10 * np.log10(k_weighting(np.array([10_000.0, 96_000.0]))) == pytest.approx(
        [3.999, 4.042], abs=0.05
    )


def test_levels_are_those_of_a_loudness_meter(music: Music) -> None:
    """pyloudnorm filters in time, at coefficients of its own for the rate."""
    pyloudnorm = pytest.importorskip("pyloudnorm")
    rng = np.random.default_rng(0)
    for rate, audio in (
        (48_000, music(48_000 * 6)),
        (44_100, 0.1 * rng.standard_normal((1, 44_100 * 5))),
    ):
        levels = Levels(rate, len(audio))
        powers = [*levels.process(audio.astype(np.float32)), *levels.flush()]
        assert len(powers) == -(-audio.shape[1] // levels.hop) + 1
        weighted = audio.astype(np.float64)
        for stage in pyloudnorm.Meter(rate)._filters.values():
            weighted = np.stack([stage.apply_filter(channel) for channel in weighted])
        mean = np.sum(np.square(weighted)) / audio.shape[1]
        assert 10 * np.log10(sum(powers) * levels.hop / audio.shape[1] / mean) == pytest.approx(
            0, abs=0.05
        )


def followed(wanted: Audio, changed: Audio, rate: int, sizes: list[int]) -> Audio:
    follower, parts = Follower(rate, len(wanted)), []
    for one, other in zip(in_pieces(wanted, sizes), in_pieces(changed, sizes), strict=True):
        follower.follow(one)
        parts += follower.process(other)
    return np.concatenate([*parts, *follower.flush()], axis=1)


def test_loudness_follows() -> None:
    rng, rate = np.random.default_rng(0), 16_000
    time = np.arange(rate * 12) / rate
    swell = 10 ** ((-30 + 14 * np.sin(2 * np.pi * time / 9)) / 20)
    wanted = (rng.standard_normal((2, len(time))) * swell).clip(-1, 1).astype(np.float32)
    changed = (0.05 * rng.standard_normal((2, len(time)))).astype(np.float32)
    found = followed(wanted, changed, rate, [7_000])
    assert found.shape == changed.shape
    levels = [list(Levels(rate, 2).process(audio)) for audio in (wanted, found)]
    difference = np.subtract(*[[lufs(power) for power in powers] for powers in levels])
    assert np.abs(difference[1:]).max() < 0.5  # the first window is half outside
    assert (
        np.abs(
            np.subtract(*[[lufs(p) for p in Levels(rate, 2).process(a)] for a in (wanted, changed)])
        ).max()
        > 5
    )
    assert np.array_equal(found, followed(wanted, changed, rate, [1, 333, 20_000]))


def test_gain_is_smooth_bounded_and_none_where_nothing_is_to_do() -> None:
    rate = 8_000
    steady = np.full((1, rate * 8), 1e-2, np.float32) * sine(440, rate, 8)
    steps = steady * np.repeat([1, 1000, 1e-6, 30], rate * 2).astype(np.float32)
    gain = followed(steps.clip(-1, 1), steady, rate, [999])[0] / np.where(
        steady[0] == 0, 1, steady[0]
    )
    curve = 20 * np.log10(np.abs(gain[np.abs(steady[0]) > 1e-3]))
    assert np.abs(curve).max() <= MOST_DB + 1e-3 and curve.max() > 19 and curve.min() < -19
    # No more than the steepest ramp.
    assert np.abs(np.diff(curve)).max() < 4 * 2 * MOST_DB / (HOP_SECONDS * rate)
    assert followed(steady, steady, rate, [999]) == pytest.approx(steady, rel=1e-6)
    quiet = steady * np.float32(10 ** ((FLOOR_LUFS - 40) / 20) / 1e-2)
    assert followed(np.zeros_like(quiet), quiet, rate, [999]) == pytest.approx(quiet, rel=1e-3)
    assert not followed(steady, np.zeros_like(steady), rate, [999]).any()


# ---- pitch ---------------------------------------------------------------------------------------


def shifted(audio: Audio, rate: int, semitones: float, sizes: list[int]) -> Audio:
    shift = PitchShift(rate, len(audio), semitones)
    parts = [part for piece in in_pieces(audio, sizes) for part in shift.process(piece)]
    return np.concatenate([*parts, *shift.flush()], axis=1)


def test_pitch_moves_and_the_stereo_image_stays() -> None:
    for rate, semitones in ((48_000, 7.0), (44_100, -12.0), (16_000, 0.5)):
        stereo = np.stack([0.5 * sine(440, rate, 3), 0.25 * sine(440, rate, 3, phase=1.0)])
        found = shifted(stereo, rate, semitones, [7_777])
        assert found.shape == stereo.shape
        spectrum = np.fft.rfft(found[:, rate : 2 * rate] * np.hanning(rate))
        peak = int(np.abs(spectrum[0]).argmax())
        assert peak == pytest.approx(440 * 2 ** (semitones / 12), abs=1)
        level, phase = (
            np.abs(spectrum[1, peak] / spectrum[0, peak]),
            np.angle(spectrum[1, peak] / spectrum[0, peak]),
        )
        assert (level, phase) == (pytest.approx(0.5, rel=1e-3), pytest.approx(1.0, abs=1e-3))
        other = np.delete(np.abs(spectrum[0]), range(peak - 5, peak + 6)).max()
        assert 20 * np.log10(other / np.abs(spectrum[0, peak])) < -40


def test_pitch_keeps_time_and_does_not_depend_on_pieces(music: Music) -> None:
    audio = music(30_011, 2, 16_000)
    audio[:, :12_000] *= 0.01
    for semitones in (-5.0, 9.0):
        found = shifted(audio, 16_000, semitones, [30_011])
        assert np.array_equal(found, shifted(audio, 16_000, semitones, [1_000, 13, 4_000]))
        energy = np.convolve(np.square(found).sum(0), np.ones(400))
        attack = int(np.argmax(energy > 0.1 * energy.max()))
        wanted = np.convolve(np.square(audio).sum(0), np.ones(400))
        assert attack == pytest.approx(
            int(np.argmax(wanted > 0.1 * wanted.max())), abs=0.06 * 16_000
        )
    for samples in (0, 1, 100):
        assert shifted(audio[:, :samples], 16_000, 5, [samples + 1]).shape == (2, samples)
    assert np.array_equal(shifted(audio, 16_000, 0, [5_000]), audio)
    longer = Stretch(16_000, 2, 1.0)
    same = np.concatenate([*longer.process(audio), *longer.flush()], axis=1)
    assert np.abs(same - audio).max() < 1e-5


# ---- transfer ------------------------------------------------------------------------------------


def test_without_loudness_it_is_the_latents_played(any_model: Model, music: Music) -> None:
    """Of audio longer than a block, with silence in it: `analyse` and `synthesise` are another
    caller of the codec.
    """
    audio = music(44_100 * 13 + 77)
    audio[:, 44_100 * 3 : 44_100 * 6] = 0
    for sound, rate, options in (
        (audio, 44_100, {"dims": 5, "seed": 3}),
        (music(7_001, 1), 16_000, {"fidelity": 0.7}),
    ):
        latents = analyse(sound, rate, any_model, **options)
        expected, _ = latents.synthesise(any_model)
        seed = options.pop("seed", 0)
        done = transfer(sound, rate, any_model, point=Point(**options), seed=seed, loudness=False)
        assert done.rate == rate and done.audio.dtype == np.float32
        assert done.audio.shape == expected.shape and np.abs(done.audio - expected).max() < 1e-6
        assert done.known.frames == int((~latents.silent).sum())


def test_pieces_change_nothing_and_nothing_is_held_for_long(
    stereo_model: Model, music: Music, small_blocks: Callable[[int], None]
) -> None:
    small_blocks(stereo_model.config.hop * 8)
    audio, info = music(44_100 * 9), stream_info(stereo_model, 44_100, 2, 6, 0)
    results, most = [], 0
    for sizes in ([65_536], [5_000, 17, 30_000]):
        running, parts, fed = Transfer(stereo_model, info, pitch=3.0), [], 0
        for piece in in_pieces(audio, sizes):
            fed += piece.shape[1]
            parts += running.process(piece)
            most = max(most, fed - sum(part.shape[1] for part in parts))
        results.append(np.concatenate([*parts, *running.flush()], axis=1))
    assert results[0].shape == audio.shape and np.array_equal(*results)
    assert most < 44_100 * 6  # whatever the length


def test_lengths(any_model: Model, music: Music) -> None:
    for samples in (0, 1, 2_047, 8_193):
        done = transfer(music(samples, 1, 8_000), 8_000, any_model, pitch=-2, dims=3)
        assert done.audio.shape == (1, samples) and np.isfinite(done.audio).all()


def test_loudness_of_the_output_is_the_inputs(stereo_model: Model, music: Music) -> None:
    pyloudnorm = pytest.importorskip("pyloudnorm")
    time = np.arange(48_000 * 6) / 48_000
    audio = 0.02 * np.random.default_rng(0).standard_normal((2, len(time))) * (1.2 + np.sin(time))
    meter = pyloudnorm.Meter(48_000)
    follows, free = (
        transfer(audio, 48_000, stereo_model, loudness=way).audio for way in (True, False)
    )
    wanted, found, before = (meter.integrated_loudness(sound.T) for sound in (audio, follows, free))
    assert abs(found - wanted) < min(1.0, abs(before - wanted))


def test_fewer_axes_leave_more_to_the_prior(stereo_model: Model, music: Music) -> None:
    """With few axes the seed of the noise decides more of the sound than with many."""
    audio = music(48_000 * 2, 2, 48_000)
    apart = {}
    for dims in (1, stereo_model.config.latent):
        one, other = (
            transfer(audio, 48_000, stereo_model, dims=dims, seed=seed, loudness=False)
            for seed in (1, 2)
        )
        apart[dims] = float(np.abs(one.audio - other.audio).mean())
    assert apart[1] > apart[stereo_model.config.latent]


def test_what_the_model_knows(stereo_model: Model, music: Music) -> None:
    audio = music(48_000 * 4, 2, 48_000)
    latents = analyse(audio, 48_000, stereo_model, dims=stereo_model.config.latent)
    space = stereo_model.latent
    squares = np.sum((latents.values / space.prior) ** 2, axis=1) / np.sum(
        (space.deviation / space.prior) ** 2
    )
    low, high = np.quantile(squares, [0.25, 0.75])
    halved = replace(stereo_model, latent=replace(space, usual=(low, high)))
    known = transfer(audio, 48_000, halved).known
    assert (known.frames, known.share) == (len(latents), pytest.approx(0.5, abs=0.1)) and known.far
    assert not transfer(np.zeros((2, 100_000)), 48_000, halved).known.frames


def test_tensors_and_arrays(stereo_model: Model, music: Music) -> None:
    audio = music(20_000)
    expected = transfer(audio, 44_100, stereo_model).audio
    for same in (torch.from_numpy(audio).requires_grad_(), audio.astype(np.float64)):
        assert np.array_equal(transfer(same, np.int64(44_100), stereo_model).audio, expected)
    assert transfer(audio[0], 44_100, stereo_model).audio.shape == (1, 20_000)


def test_bad_calls_are_told(stereo_model: Model, music: Music) -> None:
    audio = music(5_000)
    bad = audio.copy()
    bad[1, 7] = np.nan
    cases: list[tuple[Any, Any, dict[str, Any], type[Exception], str]] = [
        (bad, 44_100, {}, InputError, "nan at sample 7 of channel 2"),
        ((audio * 100).astype(np.int16), 44_100, {}, InputError, "int16"),
        (audio[None], 44_100, {}, InputError, "shape"),
        (audio, 44_100.5, {}, UsageError, "the rate is 44100.5"),
        (audio, 44_100, {"pitch": 25}, UsageError, "pitch is 25 semitones"),
        (audio, 44_100, {"pitch": float("nan")}, UsageError, "pitch is nan"),
        (audio, 44_100, {"pitch": "up"}, UsageError, "pitch is 'up'"),
        (audio, 44_100, {"dims": 17}, UsageError, "dims is 17"),
        (audio, 44_100, {"dims": 3, "fidelity": 0.5}, UsageError, "both given"),
        (audio, 44_100, {"fidelity": 1.5}, UsageError, "fidelity is 1.5"),
        (audio, 44_100, {"seed": -1}, UsageError, "seed is -1"),
        (audio, 44_100, {"point": Point(dims=17)}, UsageError, "dims is 17"),
        (audio, 44_100, {"point": Point(dims=3), "dims": 3}, UsageError, "both given"),
        (audio, 44_100, {"point": Point(step_index=3)}, UsageError, "sets step.*fidelity or dims"),
    ]
    with pytest.raises(UsageError, match="expected a name, a path, an id or a loaded model"):
        transfer(audio, 44_100, 1.5)  # type: ignore[arg-type]
    for sound, rate, options, kind, words in cases:
        with pytest.raises(kind, match=words):
            transfer(sound, rate, stereo_model, **options)


# ---- the measures of docs/latents.md -------------------------------------------------------------


@pytest.fixture(scope="module")
def benchmark() -> ModuleType:
    """benchmarks/transfer.py, which makes the table."""
    folder = Path(__file__).resolve().parent.parent / "benchmarks"
    if not folder.exists():
        pytest.skip("no benchmarks beside the tests")
    sys.path.append(str(folder))
    return importlib.import_module("transfer")


def test_the_measures(benchmark: ModuleType, music: Music) -> None:
    """Chroma follows the notes in any octave and timbre does not; timbre follows the filter, and
    level neither.
    """
    rate = benchmark.RATE
    notes = [
        sum(sine(110 * 2 ** ((note + up) / 12), rate, 1) for note in (0, 4, 7)) for up in (0, 5, 2)
    ]
    song, octave, other = (
        np.concatenate([k * notes[i] for i in order])
        for k, order in ((1, (0, 1, 2)), (0.1, (0, 1, 2)), (1, (1, 2, 0)))
    )
    assert benchmark.chroma_correlation(song, octave) == pytest.approx(1, abs=1e-6)
    assert benchmark.chroma_correlation(song, other) < 0.5
    noise = np.random.default_rng(0).standard_normal(rate * 2)
    dull = np.convolve(noise, np.hanning(16), "same")
    ruler = benchmark.Ruler(benchmark.timbre(noise), np.ones(benchmark.COEFFICIENTS))
    assert ruler.distance(benchmark.timbre(0.03 * noise)) == pytest.approx(0, abs=1e-6)
    assert (
        ruler.distance(benchmark.timbre(noise[::-1]))
        < 0.3
        < 2
        < ruler.distance(benchmark.timbre(dull))
    )


# ---- files and folders ---------------------------------------------------------------------------


def test_a_file_is_what_memory_gives(stereo_model: Model, music: Music, tmp_path: Path) -> None:
    audio = music(44_100 * 3)
    soundfile.write(source := tmp_path / "in.flac", audio.T, 44_100, "PCM_24")
    heard, _ = soundfile.read(source, dtype="float32", always_2d=True)
    expected = transfer(heard.T, 44_100, stereo_model, pitch=2, dims=7, seed=5).audio
    for name, subtype, apart in (
        ("out.wav", "FLOAT", 0),
        ("out.flac", "PCM_24", 2**-23),
        ("out.ogg", None, 0.3),
    ):
        options: dict[str, Any] = {"pitch": 2, "dims": 7, "seed": 5, "subtype": subtype}
        done = transfer_file(source, tmp_path / name, model=stereo_model, **options)
        found, rate = soundfile.read(tmp_path / name, dtype="float32", always_2d=True)
        assert (rate, done.sample_rate, done.samples, done.dims) == (
            44_100,
            44_100,
            audio.shape[1],
            7,
        )
        assert found.T.shape == expected.shape
        assert np.abs(found.T - np.clip(expected, -1, 1)).max() <= apart or subtype == "FLOAT"
        if subtype == "FLOAT":
            assert np.array_equal(found.T, expected)


def test_the_command(music: Music, tmp_path: Path) -> None:
    soundfile.write(source := tmp_path / "in.wav", music(30_000).T, 44_100)
    done = cli(
        "transfer",
        source,
        tmp_path / "out.wav",
        "--model",
        "paper",
        "--fidelity",
        0.6,
        "--pitch",
        -3,
    )
    assert done.exit_code == 0, done.stderr
    assert (
        "model paper" in done.stderr
        and "pitch -3" in done.stderr
        and "% of frames outside" in done.stderr
    )
    assert soundfile.info(tmp_path / "out.wav").frames == 30_000
    found = json.loads(cli("transfer", source, tmp_path / "other.wav", "--json", "-q").stdout)
    assert found["model"] == "default" and found["samples"] == 30_000 and 0 <= found["outside"] <= 1
    assert ravecodec.transfer is transfer
    for options, code, words in (
        ([tmp_path / "out.wav"], 8, "exists already"),
        ([tmp_path / "x.xyz"], 2, "extension"),
        ([tmp_path / "x.wav", "--model", "nobody"], 7, "no model called"),
        ([tmp_path / "x.wav", "--pitch", 30], 2, "pitch is 30"),
        ([tmp_path / "x.wav", "--dims", 99], 2, "dims is 99"),
        ([source, "-f"], 2, "is the input file itself"),
        (["-", "--json"], 2, "standard output"),
    ):
        done = cli("transfer", source, *options)
        assert done.exit_code == code and words in done.stderr and done.stderr.count("\n") == 1, (
            done.stderr
        )
    assert sorted(path.name for path in tmp_path.glob("*.wav")) == [
        "in.wav",
        "other.wav",
        "out.wav",
    ]


def test_a_stream_is_no_input(stereo_model: Model, music: Music, tmp_path: Path) -> None:
    (stream := tmp_path / "song.rvc").write_bytes(
        ravecodec.encode(music(9_000), 44_100, stereo_model)
    )
    done = cli("transfer", stream, tmp_path / "out.wav")
    assert done.exit_code == 3 and "decode" in done.stderr
    assert not (tmp_path / "out.wav").exists()


def test_a_far_input_is_warned_of(music: Music, tmp_path: Path, model_folder: Path) -> None:
    model = load_package(model_folder / "default.safetensors")
    strict = replace(model, latent=replace(model.latent, usual=(0.0, 0.0)))
    soundfile.write(source := tmp_path / "in.wav", music(48_000 * 2).T, 44_100)
    done = transfer_file(source, tmp_path / "out.wav", model=strict)
    assert done.far and done.outside == 1 and "100 % of its frames" in done.remarks[-1]
    lax = replace(model, latent=replace(model.latent, usual=(0.0, 1e9)))
    done = transfer_file(source, tmp_path / "other.wav", model=lax)
    assert not done.far and done.outside == 0 and not done.remarks


def test_folders(stereo_model: Model, music: Music, tmp_path: Path) -> None:
    """Structure stays, what cannot be written becomes wav, a bad file stops nothing and is
    listed.
    """
    (inner := tmp_path / "in" / "deep" / "er").mkdir(parents=True)
    soundfile.write(tmp_path / "in" / "a.flac", music(9_000).T, 44_100)
    soundfile.write(inner / "b.mp3", music(9_000, 1).T, 44_100)
    (inner / "broken.wav").write_bytes(b"RIFF1234WAVEjunk")
    (inner / "notes.txt").write_text("no audio")
    done = cli("transfer", tmp_path / "in", tmp_path / "out", "--model", "paper")
    assert done.exit_code == 3 and "broken.wav" in done.stderr.splitlines()[-1]
    assert "2 of 3 files, 1 failed" in done.stderr
    found = sorted(
        str(path.relative_to(tmp_path / "out")) for path in (tmp_path / "out").rglob("*.*")
    )
    assert found == ["a.flac", "deep/er/b.wav", "manifest.jsonl"]
    assert soundfile.info(tmp_path / "out" / "a.flac").frames == 9_000
    again = cli("transfer", tmp_path / "in", tmp_path / "out", "--model", "paper", "--json", "-q")
    *lines, totals = map(json.loads, again.stdout.splitlines())
    assert again.exit_code == 3 and totals["totals"]["skipped"] == 2  # the manifest has them
    assert [line["verdict"] for line in lines] == ["skipped", "skipped", "failed"]
    other = cli("transfer", tmp_path / "in", tmp_path / "out", "--model", "paper", "--pitch", 1)
    assert other.exit_code == 1 and "exists already" in other.stderr
    before = (tmp_path / "out" / "a.flac").read_bytes()
    (tmp_path / "more").mkdir()
    more = cli(
        "transfer", tmp_path / "in/a.flac", inner / "b.mp3", "-o", tmp_path / "more",
        "--model", "paper", "--jobs", 1, "--threads", 1,
    )  # fmt: skip
    assert more.exit_code == 0, more.stderr
    assert (tmp_path / "more" / "a.flac").read_bytes() == before
    assert cli("transfer", tmp_path / "in", tmp_path / "out", "-f").exit_code == 3


def test_folders_that_cannot_be(music: Music, tmp_path: Path) -> None:
    (folder := tmp_path / "in").mkdir()
    out = tmp_path / "out"

    def refused(code: int, words: str, *args: object) -> None:
        done = cli("transfer", *args)
        assert done.exit_code == code and words in done.stderr, done.stderr
        assert done.stderr.count("\n") == 1 and not out.exists()

    refused(3, "holds no audio files", folder, out)
    soundfile.write(folder / "a.wav", music(5_000, 1).T, 44_100)
    refused(2, "lies within", folder, folder / "out")
    (tmp_path / "file").write_text("x")
    refused(8, "is no folder", folder, tmp_path / "file")
    refused(2, "pitch", folder, out, "--pitch", 99)
    refused(2, "-o FOLDER", folder / "a.wav")
    refused(2, "-o FOLDER", folder / "a.wav", folder / "a.wav", folder / "a.wav")
    soundfile.write(folder / "a.mp3", music(5_000, 1).T, 44_100)
    refused(2, "would both become", folder, out)
