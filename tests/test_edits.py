"""Edits of latents against numpy written out, and through `ravecodec edit`: order, lengths, streams
that play.
"""

import io
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result
from numpy.typing import NDArray

from ravecodec import edits
from ravecodec.bitstream import StreamReader
from ravecodec.cli import main
from ravecodec.codec import stream_info
from ravecodec.decoding import decode
from ravecodec.encoding import encode
from ravecodec.errors import InputError, ModelError, UsageError
from ravecodec.examine import verify_file
from ravecodec.latents import Latents, frames_of
from ravecodec.models.package import Model

pytestmark = pytest.mark.usefixtures("installed")

Music = Callable[..., NDArray[np.float32]]


def made(
    model: Model, frames: int = 40, seed: int = 0, rate: int = 44_100, dims: int = 6
) -> Latents:
    """Random latents with a lead-in, frames 10 to 19 silent, the last frame used in part."""
    info = stream_info(model, rate, 2, dims, 0)
    rng = np.random.default_rng(seed)
    values = rng.standard_normal((frames + 1, dims)).astype(np.float32)
    silent = (np.arange(frames) >= 10) & (np.arange(frames) < 20)
    samples = (frames * info.hop - info.hop // 3) * rate // info.model_rate
    return Latents(values[1:], samples, info, silent, values[:1])


def test_values_change_as_told_and_silence_stays(stereo_model: Model) -> None:
    before = made(stereo_model)
    loud = ~before.silent
    for edit, expected in (
        (lambda x: edits.scale(x, 2, 1.5), lambda v: v * [1, 1, 1.5, 1, 1, 1]),
        (lambda x: edits.scale(x, "all", 0), lambda v: v * 0),
        (lambda x: edits.shift(x, 0, -2), lambda v: v - np.eye(6)[0] * 2),
        (lambda x: edits.randomise(x, "all", 0, 1), lambda v: v),
        (lambda x: edits.smooth(x, 0), lambda v: v),
    ):
        after = edit(before)
        assert np.allclose(after.values[loud], expected(before.values[loud]), atol=1e-6)
        assert np.allclose(after.lead, expected(before.lead), atol=1e-6)
        assert np.array_equal(after.values[before.silent], before.values[before.silent])
        assert (after.samples, after.info) == (before.samples, before.info)


def test_random_is_a_function_of_seed_frame_and_axis(stereo_model: Model) -> None:
    zero = replace(made(stereo_model, 3000), silent=None)
    zero = replace(zero, values=zero.values * 0)
    noise = edits.randomise(zero, "all", 2, 5).values
    assert np.array_equal(noise, edits.randomise(zero, "all", 2, 5).values)
    assert np.array_equal(noise[:, 3], edits.randomise(zero, 3, 2, 5).values[:, 3])
    assert not np.array_equal(noise, edits.randomise(zero, "all", 2, 6).values)
    assert abs(noise.std() - 2) < 0.05
    assert abs(noise.mean()) < 0.05
    assert np.abs(np.corrcoef(noise.T) - np.eye(6)).max() < 0.08


def test_smoothing_averages_what_sounds(stereo_model: Model) -> None:
    before = made(stereo_model)
    frames = 5
    after = edits.smooth(before, frames / before.frame_rate)
    known = np.concatenate([before.lead, before.values]).astype(float)
    loud = np.concatenate([[True], ~before.silent])
    for i in np.flatnonzero(loud):
        around = [j for j in range(i - 2, i + 3) if 0 <= j < len(known) and loud[j]]
        result = after.lead[0] if i == 0 else after.values[i - 1]
        assert np.allclose(result, known[around].mean(axis=0), atol=1e-5)
    whole = edits.smooth(before, 1e6)
    assert np.allclose(whole.values[~before.silent], known[loud].mean(axis=0), atol=1e-5)


def test_time_can_be_stretched(stereo_model: Model) -> None:
    before = made(stereo_model)
    same = edits.stretch(before, 1)
    assert np.array_equal(same.values, before.values)
    assert np.array_equal(same.lead, before.lead)
    assert same.samples == before.samples
    for factor in (0.01, 0.3, 0.5, 1.7, 2, 10):
        after = edits.stretch(before, factor)
        assert after.samples == max(1, round(before.samples * factor))
        assert len(after) == frames_of(before.info, after.samples)
        places = (np.arange(len(after)) + 0.5) / factor - 0.5
        known = np.concatenate([before.lead, before.values])
        expected = [np.interp(places, np.arange(-1, len(before)), column) for column in known.T]
        assert np.allclose(after.values, np.transpose(expected), atol=1e-5)
        sure = np.abs(places - 9.5) > 0.5
        sure &= np.abs(places - 19.5) > 0.5
        assert np.array_equal(after.silent[sure], ((places > 9.5) & (places < 19.5))[sure])


def test_time_can_be_cut_reversed_and_joined(stereo_model: Model) -> None:
    one = made(stereo_model)
    rate, hop = one.frame_rate, 2048
    middle = edits.crop(one, 3.4 / rate, 8 / rate)
    assert np.array_equal(middle.values, one.values[3:8])
    assert np.array_equal(middle.lead, one.values[2:3])
    assert abs(middle.samples - 5 * hop * 44_100 / 48_000) <= 1
    assert len(edits.crop(one, 12 / rate).lead) == 0, "before silence nothing is heard"
    assert edits.crop(one).samples == one.samples
    assert np.array_equal(edits.crop(one).lead, one.lead)
    assert edits.crop(one, 0, 99).samples == one.samples
    assert edits.crop(one, 0, 0.1).samples == 4_410

    back = edits.reverse(one)
    assert np.array_equal(back.values, one.values[::-1])
    assert (back.samples, len(back.lead)) == (one.samples, 0)
    assert np.array_equal(edits.reverse(back).values, one.values)

    for other_rate in (44_100, 8_000):
        two = made(stereo_model, 7, seed=1, rate=other_rate, dims=4)
        both = edits.concat(one, two)
        assert np.array_equal(both.values[:40], one.values)
        assert np.array_equal(both.values[40:, :4], two.values)
        assert not both.values[40:, 4:].any()
        assert both.info == one.info
        assert abs(both.samples - 40 * hop * 44_100 / 48_000 - two.duration * 44_100) <= 6


def test_mixing_goes_from_one_to_the_other(stereo_model: Model) -> None:
    one, two = made(stereo_model), made(stereo_model, 15, seed=1)
    assert np.array_equal(edits.mix(one, two, 0).values, one.values)
    assert np.array_equal(edits.mix(one, two, 0).silent, one.silent)
    other = edits.mix(one, two, 1)
    assert np.array_equal(other.values[:15], two.values)
    assert np.array_equal(other.values[15:], one.values[15:])
    assert np.array_equal(other.lead, two.lead)
    half = edits.mix(one, replace(two, silent=None), 0.25)
    assert np.allclose(half.values[:15], 0.75 * one.values[:15] + 0.25 * two.values, atol=1e-6)
    assert not half.silent[:15].any()
    assert half.silent[15:20].all()


def test_every_edit_gives_a_stream_that_plays(any_model: Model, music: Music) -> None:
    audio = music(44_100 * 3 + 5)
    audio[:, 44_100 : 44_100 * 2] = 0
    one = Latents.from_stream(encode(audio, 44_100, any_model, seed=4), any_model)
    two = Latents.from_stream(encode(music(9_001, 1), 8_000, any_model, dims=3), any_model)
    for edit in (
        lambda x: edits.scale(x, 0, 3),
        lambda x: edits.randomise(x, "all", 0.1, 1),
        lambda x: edits.smooth(x, 0.3),
        lambda x: edits.stretch(x, 1.37),
        lambda x: edits.stretch(x, 1e-9),
        lambda x: edits.crop(x, 0.7, 2.1),
        edits.reverse,
        lambda x: edits.mix(x, two, 0.5),
        lambda x: edits.concat(two, x),
        lambda x: edits.concat(x, two),
    ):
        after = edit(one)
        data = after.to_stream(any_model)
        reader = StreamReader(io.BytesIO(data))
        decoded, rate = decode(data, any_model)
        assert decoded.shape == (after.channels, after.samples)
        assert rate == after.sample_rate
        assert reader.info == after.info
        assert np.array_equal(Latents.from_stream(data, any_model).silent, after.silent)


def test_wrong_edits_are_refused(stereo_model: Model, mono_model: Model) -> None:
    one = made(stereo_model)
    for edit, message in (
        (lambda: edits.scale(one, 6, 1), "axis is 6, these latents have 0 to 5, or all"),
        (lambda: edits.shift(one, -1, 1), "axis is -1"),
        (lambda: edits.shift(one, "first", 1), "axis is first"),
        (lambda: edits.scale(one, 1.5, 1), "axis is 1.5, expected a whole number"),
        (lambda: edits.scale(one, None, 1), "axis is None, expected a whole number"),
        (lambda: edits.scale(one, 0, "2"), "the factor is '2', expected a number"),
        (lambda: edits.randomise(one, 0, 1, -1), "the seed is -1"),
        (lambda: edits.randomise(one, 0, 1, 2**70), "the seed is"),
        (lambda: edits.randomise(one, 0, 1, None), "the seed is None, expected a whole number"),
        (lambda: edits.mix(one, "x.rvc", 0.5), "are of type str, expected Latents"),
        (lambda: edits.concat(one, one.values), "are of type ndarray, expected Latents"),
        (lambda: edits.shift(one, 0, float("nan")), "nan, expected a finite number"),
        (lambda: edits.randomise(one, 0, -1), "expected 0 or more"),
        (lambda: edits.smooth(one, -1), "expected 0 or more"),
        (lambda: edits.stretch(one, 0), "expected more than 0"),
        (lambda: edits.stretch(one, 1e9), "expected at most 86400 s"),
        (lambda: edits.crop(one, 5), "nothing lies between"),
        (lambda: edits.crop(one, -1), "nothing lies between"),
        (lambda: edits.crop(one, 1, 0.5), "nothing lies between"),
        (lambda: edits.mix(one, one, 1.5), "expected 0 to 1"),
    ):
        with pytest.raises(UsageError, match=message):
            edit()
    for join in (edits.concat, lambda a, b: edits.mix(a, b, 0.5)):
        with pytest.raises(ModelError, match="other latents are of model"):
            join(one, made(mono_model))
    with pytest.raises(InputError, match="expected finite"):
        edits.scale(one, "all", 1e39)


# ---- commands ------------------------------------------------------------------------------------


def cli(*args: object) -> Result:
    return CliRunner().invoke(main, [str(arg) for arg in args])


@pytest.fixture
def songs(stereo_model: Model, music: Music, tmp_path: Path) -> tuple[Path, Path]:
    """Two streams, of 3 s and 1 s."""
    paths = tmp_path / "one.rvc", tmp_path / "two.rvc"
    for seed, path in enumerate(paths):
        audio = music(44_100 * (3 - 2 * seed), seed=seed)
        path.write_bytes(encode(audio, 44_100, stereo_model, meta={"tags": {"n": str(seed)}}))
    return paths


def test_edits_come_in_the_order_given(
    stereo_model: Model, songs: tuple[Path, Path], tmp_path: Path
) -> None:
    one, two = (Latents.from_stream(path, stereo_model) for path in songs)
    out = tmp_path / "out.rvc"
    for line, expected in (
        ([], one),
        (
            ["--scale", "0=2", "--shift", "0=1", "--scale", "0=3"],
            edits.scale(edits.shift(edits.scale(one, 0, 2), 0, 1), 0, 3),
        ),
        (["--shift", "0=1", "--scale", "0=6"], edits.scale(edits.shift(one, 0, 1), 0, 6)),
        (["--start", 1, "--end", 2], edits.crop(one, 1, 2)),
        (["--end=2", "--start=1"], edits.crop(one, 1, 2)),
        (
            ["--start", 1, "--reverse", "--end", 1],
            edits.crop(edits.reverse(edits.crop(one, 1)), 0, 1),
        ),
        (
            ["--reverse", "--start", 1, "--reverse"],
            edits.reverse(edits.crop(edits.reverse(one), 1)),
        ),
        (["--stretch", 1.5, "--smooth", 0.2], edits.smooth(edits.stretch(one, 1.5), 0.2)),
        (["--smooth", 0.2, "--stretch", 1.5], edits.stretch(edits.smooth(one, 0.2), 1.5)),
        (
            ["--mix", f"{songs[1]}:0.5", "--concat", songs[1]],
            edits.concat(edits.mix(one, two, 0.5), two),
        ),
        (
            ["--random", "all=0.5,3", "--random", "1=2"],
            edits.randomise(edits.randomise(one, "all", 0.5, 3), 1, 2, 0),
        ),
    ):
        done = cli("edit", songs[0], out, "-f", *line)
        assert done.exit_code == 0, done.stderr
        assert out.read_bytes() == expected.to_stream(stereo_model), line
        assert f"3.000 s became {expected.duration:.3f} s of 44100 Hz stereo" in done.stderr
        assert verify_file(out).ok
    assert cli("edit", songs[0], out, "-f").exit_code == 0
    assert out.read_bytes() == songs[0].read_bytes()


def test_wrong_calls_are_told(songs: tuple[Path, Path], tmp_path: Path) -> None:
    one, out = songs[0], tmp_path / "out.rvc"
    for code, args in (
        (2, [one, out, "--scale", "x=1"]),
        (2, [one, out, "--scale", "0"]),
        (2, [one, out, "--shift", "0=x"]),
        (2, [one, out, "--scale", "99=1"]),
        (2, [one, out, "--random", "0=1,x"]),
        (2, [one, out, "--mix", "0.5"]),
        (2, [one, out, "--smooth", "x"]),
        (2, [one, out, "--start", "9"]),
        (2, [one, one, "-f", "--reverse"]),
        (2, [one, tmp_path / "out.wav"]),
        (3, [one, out, "--concat", tmp_path / "none.rvc"]),
        (3, [one, out, "--scale", "0=1e30"]),
        (8, [one, songs[1]]),
    ):
        done = cli("edit", *args)
        assert done.exit_code == code, (args, done.stderr)
        assert len(done.stderr.splitlines()) == 1
    assert not out.exists()
