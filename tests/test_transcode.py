"""Files and memory through the whole codec: exact lengths, the same bytes twice, damage told,
targets kept.
"""

import dataclasses
import io
import itertools
import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray

import ravecodec
from ravecodec.audio import Audio
from ravecodec.bitstream import SIGMAS, StaticModel, StreamReader, StreamWriter
from ravecodec.codec import Decoder, stream_info
from ravecodec.decoding import decode, decode_file
from ravecodec.encoding import encode, encode_file
from ravecodec.errors import (
    CorruptError,
    FormatError,
    InputError,
    ModelError,
    OutputError,
    RavecodecError,
    TruncatedError,
    UsageError,
)
from ravecodec.examine import inspect_file, verify_file
from ravecodec.loading import load_model
from ravecodec.models.coding import Rung
from ravecodec.models.package import Model
from ravecodec.pipeline import EncodePipeline, Progress
from ravecodec.point import Point
from ravecodec.precision import PRECISIONS

pytestmark = pytest.mark.usefixtures("installed")

Music = Callable[..., Audio]


def three_chunks(model: Model, symbols: NDArray[np.int32] | None = None, **info: Any) -> bytes:
    """A stream of three small chunks, about 200 bytes."""
    header = dataclasses.replace(stream_info(model, 44_100, 2, 4, 0), **info)
    file = io.BytesIO()
    writer = StreamWriter(file, header, StaticModel(model.coding.shapes, model.coding.scales))
    symbols = np.arange(36, dtype=np.int32).reshape(9, 4) % 5 - 2 if symbols is None else symbols
    for start in (0, 3, 6):
        writer.write_chunk(symbols[start : start + 3])
    writer.close(8 * 2048 * 441 // 480 + 5)
    return file.getvalue()


@pytest.fixture
def tune(tmp_path: Path, music: Music) -> Path:
    """tune.wav: 3 s, 44.1 kHz, stereo, 16 bits."""
    path = tmp_path / "tune.wav"
    soundfile.write(path, music(132_301).T, 44_100)
    return path


# ---- in memory -----------------------------------------------------------------------------------


def test_audio_to_bytes_and_back(any_model: Model, music: Music, subtests: pytest.Subtests) -> None:
    for channels, samples in itertools.product([1, 2], [0, 1, 2047, 2048, 2049, 44_100]):
        with subtests.test(channels=channels, samples=samples):
            data = encode(music(samples, channels), 44_100, any_model)
            audio, rate = decode(data, any_model)
            assert (audio.shape, audio.dtype, rate) == ((channels, samples), np.float32, 44_100)
            assert encode(music(samples, channels), 44_100, any_model) == data


def test_the_model_is_found_by_the_streams_id(music: Music, mono_model: Model) -> None:
    data = ravecodec.encode(music(5_000), 44_100, "paper", device="cpu")
    audio, _ = ravecodec.decode(data, device="cpu")
    assert np.array_equal(audio, decode(data, mono_model)[0])


def test_precision_reaches_the_network(any_model: Model, music: Music, tmp_path: Path) -> None:
    data = encode(music(44_100), 44_100, any_model)
    (tmp_path / "x.rvc").write_bytes(data)
    exact, fast = (decode(data, any_model, precision=name)[0] for name in PRECISIONS)
    assert not np.array_equal(exact, fast)
    assert np.array_equal(decode(data, any_model)[0], exact)
    for name, audio in zip(PRECISIONS, (exact, fast), strict=True):
        decode_file(
            tmp_path / "x.rvc",
            tmp_path / f"{name}.wav",
            model=any_model,
            precision=name,
            subtype="FLOAT",
        )
        assert np.array_equal(soundfile.read(tmp_path / f"{name}.wav", dtype="float32")[0].T, audio)


def test_another_precision_is_refused(stereo_model: Model) -> None:
    with pytest.raises(
        UsageError, match="precision is 'float16', expected float32, bfloat16 or auto"
    ):
        decode(three_chunks(stereo_model), stereo_model, precision="float16")


def test_bitrate_is_kept_and_used(any_model: Model, music: Music) -> None:
    """Also by a stream of a single chunk: a part of it has the next finer step, and all of it at
    that step would be too much.
    """
    at = partial(encode, music(400_000, 2), 44_100, any_model, meta={"tags": {"title": "x" * 40}})
    whole = len(at())
    for share in (0.7, 1.2):
        most = share * whole
        data = at(bitrate=most * 8 / 1000 / (400_000 / 44_100))
        reader = StreamReader(io.BytesIO(data))
        steps = [chunk.step_index for chunk in reader.chunks() if not chunk.silent]
        step = reader.info.step_index
        assert 0.97 * most <= len(data) <= most
        assert set(steps) <= {step, step - 1} and step in steps
        assert len(at(step_index=step)) <= len(data) <= most < len(at(step_index=step - 1))
        assert decode(data, any_model)[0].shape == (2, 400_000)


def stretches(data: bytes, seconds: float) -> list[tuple[float, int]]:
    """(seconds, bytes) of successive stretches of whole chunks that last `seconds` or more, the
    rest at the end belonging to the last of them; framing included.
    """
    reader = StreamReader(io.BytesIO(data))
    frame = reader.info.hop / reader.info.model_rate
    ends = [(c.first_frame + c.frames, c.offset + c.size) for c in reader.chunks()]
    length = reader.total_samples / reader.info.sample_rate
    marks = [(0.0, 0)]
    for frames, offset in ends[:-1]:
        time = frames * frame
        if time - marks[-1][0] >= seconds and length - time >= seconds:
            marks.append((time, offset))
    marks.append((length, len(data)))
    return [(b - a, q - p) for (a, p), (b, q) in itertools.pairwise(marks)]


def test_a_constant_rate_is_kept_in_every_stretch(
    stereo_model: Model,
    music: Music,
    small_blocks: Callable[[int], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Of sound that is loud, faint and silent in turn."""
    small_blocks(2**15)
    monkeypatch.setattr("ravecodec.ratecontrol.CONSTANT", 2.0)
    audio = music(12 * 44_100)
    audio[:, 4 * 44_100 : 7 * 44_100] *= 0.01
    audio[:, 9 * 44_100 : 10 * 44_100] = 0
    at = partial(encode, audio, 44_100, stereo_model, meta={"tags": {"title": "x" * 40}})
    rate = len(at(step_index=2)) * 8 / 1000 / 12
    data = at(bitrate=rate, cbr=True)
    found = [size * 8 / 1000 / seconds for seconds, size in stretches(data, 2.0)]
    assert len(found) >= 4 and max(found) <= rate
    assert sum(one > 0.85 * rate for one in found) >= len(found) - 2
    assert max(size * 8 / 1000 / s for s, size in stretches(at(bitrate=rate), 2.0)) > rate
    steps = {c.step_index for c in StreamReader(io.BytesIO(data)).chunks() if not c.silent}
    assert len(steps) > 1
    assert decode(data, stereo_model)[0].shape == audio.shape
    with pytest.raises(UsageError, match=r"and constant; the audio from .* needs more|needs at"):
        at(bitrate=0.3, cbr=True)
    with pytest.raises(UsageError, match="cbr and effort 4 are both given"):
        at(bitrate=rate, cbr=True, effort=4)


def test_a_quality_is_a_point_of_the_models_ladder(stereo_model: Model, music: Music) -> None:
    audio = music(20_000)
    at = partial(encode, audio, 44_100, stereo_model)
    ladder = [Rung(n + 1, 20 - 2 * n, n + 1.0, 3.0 - n / 10) for n in range(11)]
    coding = dataclasses.replace(stereo_model.coding, ladder=tuple(ladder))
    laddered = dataclasses.replace(stereo_model, coding=coding)
    assert at(quality=5) == at(quality="standard") == at()
    for quality in (0, 10):
        expected = at(dims=ladder[quality].dims, step_index=ladder[quality].step_index)
        assert encode(audio, 44_100, laddered, quality=quality) == expected
        assert encode(audio, 44_100, laddered, point=Point(quality=quality)) == expected
    sizes = [len(at(quality=quality)) for quality in (0, 5, 10)]
    assert sizes[0] < sizes[1] < sizes[2]


def test_a_stream_says_what_was_chosen(tune: Path, tmp_path: Path) -> None:
    done = encode_file(tune, tmp_path / "a.rvc", quality="small")
    step = done.stream.step_index
    assert (done.quality, done.steps, done.remarks) == (2, (step, step), ())
    rate = 1.3 * done.stream.kbps
    done = encode_file(tune, tmp_path / "b.rvc", bitrate=rate)
    assert done.quality is None and done.steps is not None
    assert 0.97 * rate <= done.stream.kbps <= rate and done.remarks == ()
    assert done.steps[1] == done.stream.step_index and np.diff(done.steps) <= 1
    soundfile.write(tmp_path / "short.wav", np.full((4_000, 2), 0.1), 44_100)
    done = encode_file(tmp_path / "short.wav", tmp_path / "c.rvc", bitrate=20.0)
    assert done.stream.kbps <= 20
    assert done.stream.kbps >= 19.4 or "bitrate is 20 kbit/s" in done.remarks[0]


def test_bitrates_that_cannot_be_are_refused(stereo_model: Model, music: Music) -> None:
    at = partial(encode, music(44_100, 2), 44_100, stereo_model)
    with pytest.raises(UsageError, match="one of them"):
        at(bitrate=2.0, step_index=1)
    for wrong in (0.0, -1.0, float("nan")):
        with pytest.raises(UsageError, match="more than 0"):
            at(bitrate=wrong)
    with pytest.raises(UsageError, match=r"needs at least \d.* dims") as told:
        at(bitrate=0.1)
    least = float(str(told.value).split("at least ")[1].split()[0])
    assert len(at(bitrate=least)) * 8 / 1000 <= least
    assert encode(music(0, 2), 44_100, stereo_model, bitrate=1.0) == encode(
        music(0, 2), 44_100, stereo_model
    )


def test_bitrate_holds_for_files_and_pipes_too(tune: Path, tmp_path: Path) -> None:
    seen: list[Progress] = []
    done = encode_file(tune, tmp_path / "a.rvc", bitrate=2.0, verify=True, progress=seen.append)
    assert done.stream.kbps <= 2.0 and done.verified
    assert done.stream.total_bytes == (tmp_path / "a.rvc").stat().st_size
    assert seen[-1].seconds == pytest.approx(3, abs=0.01)
    audio, _ = decode((tmp_path / "a.rvc").read_bytes())
    assert audio.shape == (2, 132_301)
    before = (tmp_path / "a.rvc").read_bytes()
    with pytest.raises(UsageError, match="needs at least"):
        encode_file(tune, tmp_path / "a.rvc", bitrate=0.01, force=True)
    assert (tmp_path / "a.rvc").read_bytes() == before


def test_one_dimension_is_mono(stereo_model: Model, music: Music) -> None:
    flat = music(5_000, 1)[0]
    assert encode(flat, 44_100, stereo_model) == encode(
        flat[None].astype(np.float64), 44_100, stereo_model
    )


def test_what_is_no_audio_is_refused(stereo_model: Model, subtests: pytest.Subtests) -> None:
    for audio, rate in [
        (np.full((2, 9), np.nan, np.float32), 44_100),
        (np.full((2, 9), np.inf, np.float32), 44_100),
        (np.full((2, 9), 1e6, np.float32), 44_100),
        (np.zeros((3, 9), np.float32), 44_100),
        (np.zeros((0, 9), np.float32), 44_100),
        (np.zeros((1, 2, 9), np.float32), 44_100),
        (np.zeros((2, 9), np.int16), 44_100),
        (np.zeros((2, 9), np.float32), 999),
        (np.zeros((2, 9), np.float32), 768_001),
    ]:
        with (
            subtests.test(audio=audio, rate=rate),
            pytest.raises(InputError, match=r"audio: .*expected"),
        ):
            encode(audio, rate, stereo_model)


def test_operating_point_stands_in_the_stream(stereo_model: Model, music: Music) -> None:
    def point(**options: Any) -> tuple[int, int, int]:
        info = StreamReader(io.BytesIO(encode(music(5_000), 44_100, stereo_model, **options))).info
        return info.dims, info.step_index, info.seed

    assert point() == (14, 0, 0)
    assert point(dims=5, step_index=-7, seed=9) == (5, -7, 9)
    assert point(fidelity=0.0)[0] == 1
    assert point(fidelity=1.0)[0] == stereo_model.latent.dims_for(1.0)
    assert point(fidelity=0.6)[0] == stereo_model.latent.dims_for(0.6) < 16


def test_impossible_operating_points(stereo_model: Model, subtests: pytest.Subtests) -> None:
    for wrong, loaded in itertools.product(
        [{"dims": 0}, {"dims": 17}, {"fidelity": 1.5}, {"fidelity": 0.5, "dims": 3}], [True, False]
    ):
        with (
            subtests.test(wrong=wrong, loaded=loaded),
            pytest.raises(UsageError, match=r"expected|model default has 1 to 16"),
        ):
            encode(np.zeros((1, 9)), 44_100, stereo_model if loaded else "default", **wrong)


def test_another_model_is_refused(stereo_model: Model, mono_model: Model) -> None:
    data = encode(np.zeros((1, 9)), 44_100, stereo_model)
    for wrong in (mono_model, "paper"):
        with pytest.raises(ModelError, match=f"{stereo_model.id.hex()}.*{mono_model.id.hex()}"):
            decode(data, wrong)


# ---- damage --------------------------------------------------------------------------------------


def test_every_truncation_is_an_error(any_model: Model) -> None:
    data = three_chunks(any_model)
    for end in range(len(data)):
        with pytest.raises(TruncatedError, match="stream"):
            decode(data[:end], any_model)
    decode(data, any_model)


def test_every_flipped_bit_is_an_error(any_model: Model) -> None:
    data = three_chunks(any_model)
    for bit in range(8 * len(data)):
        bad = bytearray(data)
        bad[bit // 8] ^= 1 << bit % 8
        with pytest.raises((FormatError, CorruptError, ModelError)):
            decode(bytes(bad), any_model)


HOSTILE = {
    "more channels than 2": {"channels": 6},
    "a rate that cannot be played": {"sample_rate": 1},
    "another hop": {"hop": 4096},
    "another rate of the model": {"model_rate": 44_100},
    "more dims than the model": {"dims": 17},
}


def test_a_valid_stream_that_no_model_fits(stereo_model: Model, subtests: pytest.Subtests) -> None:
    for name in HOSTILE:
        with subtests.test(name=name):
            info = dataclasses.replace(stream_info(stereo_model, 44_100, 2, 4, 0), **HOSTILE[name])
            file = io.BytesIO()
            StreamWriter(file, info).close(0)
            with pytest.raises((FormatError, ModelError)):
                decode(file.getvalue(), stereo_model)


def test_symbols_of_any_size_are_sound_or_corrupt(any_model: Model) -> None:
    for step_index in (0, 100, 200, 300, 400, 512):
        data = three_chunks(any_model, np.full((9, 4), 32_767, np.int32), step_index=step_index)
        try:
            audio, _ = decode(data, any_model)
        except CorruptError:
            continue
        assert np.isfinite(audio).all()


def test_sound_that_is_not_finite_is_corrupt(
    stereo_model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        Decoder, "_synthesise", lambda *_: np.full((2, 128 * 2048), np.nan, np.float32)
    )
    with pytest.raises(CorruptError, match="NaN or infinity"):
        decode(three_chunks(stereo_model), stereo_model)


def test_an_end_before_the_frames_that_came_is_corrupt(stereo_model: Model) -> None:
    file = io.BytesIO()
    writer = StreamWriter(file, stream_info(stereo_model, 44_100, 2, 4, 0))
    writer.write_chunk(np.zeros((500, 4), np.int32))
    writer.close(10)
    with pytest.raises(CorruptError, match="ends with 10 samples, but its chunks hold more"):
        decode(file.getvalue(), stereo_model)


def test_a_chunk_of_no_dims_decodes(stereo_model: Model) -> None:
    file = io.BytesIO()
    writer = StreamWriter(file, stream_info(stereo_model, 44_100, 2, 4, 0))
    writer.write_chunk(np.zeros((3, 0), np.int32))
    writer.close(5_000)
    assert decode(file.getvalue(), stereo_model)[0].shape == (2, 5_000)


def test_salvage_keeps_the_good_chunks(stereo_model: Model, music: Music, tmp_path: Path) -> None:
    good, bad = tmp_path / "good.rvc", tmp_path / "bad.rvc"
    good.write_bytes(encode(music(44_100 * 35), 44_100, stereo_model))
    offsets = [chunk.offset for chunk in StreamReader(io.BytesIO(good.read_bytes())).chunks()]
    data = bytearray(good.read_bytes())
    data[offsets[1] + 40] ^= 255
    bad.write_bytes(data)
    decode_file(good, tmp_path / "good.wav")
    with pytest.raises(CorruptError, match=r"bad\.rvc: .*frame 256"):
        decode_file(bad, tmp_path / "bad.wav")
    assert not (tmp_path / "bad.wav").exists()
    done = decode_file(bad, tmp_path / "bad.wav", salvage=True)
    assert [(d.first_frame, d.frames) for d in done.damage] == [(256, 256)]
    (whole, _), (rest, _) = (soundfile.read(tmp_path / f"{name}.wav") for name in ("good", "bad"))
    assert len(rest) == len(whole) == done.samples == 44_100 * 35
    rate = 48_000 / 2048  # frames a second
    before, after = int(246 / rate * 44_100), int(523 / rate * 44_100)
    assert np.array_equal(rest[:before], whole[:before])
    assert np.array_equal(rest[after:], whole[after:])


def test_salvage_of_a_truncated_stream_ends_where_it_does(
    stereo_model: Model, tmp_path: Path
) -> None:
    data = three_chunks(stereo_model)
    offsets = [chunk.offset for chunk in StreamReader(io.BytesIO(data)).chunks()]
    path = tmp_path / "x.rvc"
    path.write_bytes(data[: offsets[2] + 9])
    done = decode_file(path, tmp_path / "x.wav", salvage=True)
    assert done.samples == 6 * 2048 * 441 // 480
    assert [(d.first_frame, d.frames) for d in done.damage] == [(6, None)]


def test_salvage_of_anything_is_audio_or_an_error(stereo_model: Model, tmp_path: Path) -> None:
    data, path = three_chunks(stereo_model), tmp_path / "x.rvc"
    rng = np.random.default_rng(0)
    for _ in range(60):
        bad = bytearray(data)
        for at in rng.integers(0, len(data), rng.integers(1, 4)):
            bad[at] = rng.integers(0, 256)
        path.write_bytes(bad[: rng.integers(len(data) // 2, len(data) + 1)])
        try:
            done = decode_file(
                path, tmp_path / "x.wav", model=stereo_model, salvage=True, force=True
            )
        except RavecodecError:
            continue
        assert done.samples <= 10 * 2048


def test_a_gap_of_years_is_not_concealed(stereo_model: Model, tmp_path: Path) -> None:
    """A forged END far in the future must not make hours of sound."""
    data = three_chunks(stereo_model)
    far = io.BytesIO()
    writer = StreamWriter(far, stream_info(stereo_model, 44_100, 2, 4, 0))
    header = len(far.getvalue())
    writer.frames = 2**39
    writer.close(5)
    path = tmp_path / "x.rvc"
    path.write_bytes(data[:80] + b"x" + far.getvalue()[header:])
    with pytest.raises(CorruptError, match="frames are missing"):
        decode_file(path, tmp_path / "x.wav", model=stereo_model, salvage=True)


# ---- files ---------------------------------------------------------------------------------------


def test_a_file_there_and_back(tune: Path, tmp_path: Path, stereo_model: Model) -> None:
    steps: list[Progress] = []
    done = encode_file(tune, tmp_path / "x.rvc", verify=True, progress=steps.append)
    assert (tmp_path / "x.rvc").read_bytes() == encode(
        soundfile.read(tune, dtype="float32")[0].T, 44_100, stereo_model
    )
    assert (done.model, done.verified, done.stream.samples) == ("default", True, 132_301)
    assert done.stream.total_bytes == (tmp_path / "x.rvc").stat().st_size
    assert steps[-1].share == 1
    assert [step.seconds for step in steps] == sorted(step.seconds for step in steps)
    back = decode_file(tmp_path / "x.rvc", tmp_path / "y.wav", progress=steps.append)
    header = soundfile.info(tmp_path / "y.wav")
    assert (header.frames, header.samplerate, header.channels, header.subtype) == (
        132_301,
        44_100,
        2,
        "PCM_16",
    )
    assert back.stream == done.stream == inspect_file(tmp_path / "x.rvc").stream
    assert steps[-1].share == 1


def test_rate_channels_and_length_come_back(
    music: Music, tmp_path: Path, subtests: pytest.Subtests
) -> None:
    for channels, rate in ((1, 8_000), (2, 44_100), (1, 48_000), (2, 96_000)):
        with subtests.test(channels=channels, rate=rate):
            soundfile.write(tmp_path / "x.wav", music(rate + 7, channels, rate).T, rate)
            encode_file(tmp_path / "x.wav", tmp_path / "x.rvc", force=True)
            decode_file(tmp_path / "x.rvc", tmp_path / "y.flac", subtype="PCM_24", force=True)
            header = soundfile.info(tmp_path / "y.flac")
            assert (header.frames, header.samplerate, header.channels, header.subtype) == (
                rate + 7,
                rate,
                channels,
                "PCM_24",
            )


def test_another_rate_on_request(tune: Path, tmp_path: Path) -> None:
    encode_file(tune, tmp_path / "x.rvc")
    done = decode_file(tmp_path / "x.rvc", tmp_path / "x.w64", rate=22_050, subtype="FLOAT")
    header = soundfile.info(tmp_path / "x.w64")
    assert (header.samplerate, header.frames, header.subtype) == (22_050, 66_151, "FLOAT")
    assert (done.sample_rate, done.samples, done.container) == (22_050, 66_151, "W64")


def test_clipping_is_counted(stereo_model: Model, tmp_path: Path) -> None:
    data = three_chunks(stereo_model, np.full((9, 4), 30_000, np.int32), step_index=100)
    (tmp_path / "x.rvc").write_bytes(data)
    audio, _ = decode(data)
    over = np.count_nonzero(np.abs(audio) > 1)
    assert over, "the stream of this test is too quiet"
    for name, options, clipped in (
        ("hard", {}, over),
        ("soft", {"soft_clip": True}, over),
        ("float", {"subtype": "FLOAT"}, 0),
    ):
        assert (
            decode_file(tmp_path / "x.rvc", tmp_path / f"{name}.wav", **options).clipped == clipped
        )


def test_metadata_is_stored(tune: Path, tmp_path: Path) -> None:
    meta = {"tags": {"title": "\N{EIGHTH NOTE}"}}
    encode_file(tune, tmp_path / "x.rvc", meta=meta)
    found = inspect_file(tmp_path / "x.rvc")
    assert found.meta == meta
    assert found.stream.meta_bytes > 0
    assert found.model == "default"


def test_a_short_clip_has_little_framing(music: Music, tmp_path: Path) -> None:
    soundfile.write(tmp_path / "x.wav", music(132_300).T, 44_100)
    stream = encode_file(tmp_path / "x.wav", tmp_path / "x.rvc").stream
    assert stream.framing_bytes <= 64 + 22  # the lead-in, which is a chunk of its own
    assert stream.meta_bytes == 0


@pytest.mark.parametrize("wrong", [-1, 0, 1])
def test_verifying_finds_what_was_not_encoded(
    tune: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wrong: int
) -> None:
    """A writer that stores other symbols (with matching checksums), and a target that was there
    before.
    """
    write = StreamWriter.write_chunk
    monkeypatch.setattr(
        StreamWriter,
        "write_chunk",
        lambda self, x, *step, **flags: write(self, x + wrong, *step, **flags),
    )
    target = tmp_path / "x.rvc"
    target.write_bytes(b"old")
    if wrong:
        with pytest.raises(CorruptError, match=r"x\.rvc: what was written"):
            encode_file(tune, target, verify=True, force=True)
        assert target.read_bytes() == b"old"
    else:
        encode_file(tune, target, verify=True, force=True)
    assert sorted(p.name for p in tmp_path.iterdir() if p.is_file()) == ["tune.wav", "x.rvc"]


def test_nothing_slow_before_the_checks(
    tune: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever can be known without the network is found before a model is loaded."""
    (tmp_path / "good.rvc").write_bytes(encode(np.zeros((1, 9)), 44_100, load_model()))
    (tmp_path / "cut.rvc").write_bytes((tmp_path / "good.rvc").read_bytes()[:-1])
    monkeypatch.setattr(
        "ravecodec.loading.load_entry", lambda *_: pytest.fail("a model was loaded")
    )
    good, new = tmp_path / "good.rvc", tmp_path / "new"
    cases: list[tuple[type[RavecodecError], Callable[[], object]]] = [
        (OutputError, lambda: encode_file(tune, good)),
        (OutputError, lambda: encode_file(tune, tmp_path / "no" / "x.rvc")),
        (InputError, lambda: encode_file(tmp_path / "missing.wav", new)),
        (InputError, lambda: encode_file(good, new)),
        (ModelError, lambda: encode_file(tune, new, model="missing")),
        (UsageError, lambda: encode_file(tune, new, dims=99)),
        (UsageError, lambda: encode_file(tune, tune, force=True)),
        (InputError, lambda: decode_file(tmp_path / "missing.rvc", tmp_path / "x.wav")),
        (InputError, lambda: decode_file(tmp_path, tmp_path / "x.wav")),
        (FormatError, lambda: decode_file(tune, tmp_path / "x.wav")),
        (TruncatedError, lambda: decode_file(tmp_path / "cut.rvc", tmp_path / "x.wav")),
        (UsageError, lambda: decode_file(good, tmp_path / "x.mp3")),
        (UsageError, lambda: decode_file(good, tmp_path / "x.flac", subtype="FLOAT")),
        (UsageError, lambda: decode_file(good, tmp_path / "x.wav", rate=10)),
        (UsageError, lambda: decode_file(good, tmp_path / "x.wav", precision="float16")),
        (ModelError, lambda: decode_file(good, tmp_path / "x.wav", model="paper")),
        (OutputError, lambda: decode_file(good, tune)),
    ]
    for error, call in cases:
        with pytest.raises(error):
            call()


def test_existing_targets_survive_failures(
    tune: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "old.rvc"
    encode_file(tune, target)
    before = target.read_bytes()
    soundfile.write(
        tmp_path / "nan.wav", np.array([0.0] * 100_000 + [np.nan]), 44_100, subtype="FLOAT"
    )
    with pytest.raises(InputError, match=r"nan\.wav: holds nan at sample 100000"):
        encode_file(tmp_path / "nan.wav", target, force=True)
    monkeypatch.setattr(
        EncodePipeline, "write", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt)
    )
    with pytest.raises(KeyboardInterrupt):
        encode_file(tune, target, force=True)
    assert target.read_bytes() == before
    assert sorted(p.name for p in tmp_path.iterdir() if p.is_file()) == [
        "nan.wav",
        "old.rvc",
        "tune.wav",
    ]


# ---- looking at streams --------------------------------------------------------------------------


def test_verify_says_where_the_first_bad_chunk_begins(stereo_model: Model, tmp_path: Path) -> None:
    data, path = three_chunks(stereo_model), tmp_path / "x.rvc"
    offsets = [chunk.offset for chunk in StreamReader(io.BytesIO(data)).chunks()]
    path.write_bytes(data)
    good = verify_file(path)
    assert (good.ok, good.exit_code, good.model, good.offset) == (True, 0, "default", None)
    assert good.stream is not None
    assert good.stream.chunks == 3
    for bad, code in ((bytearray(data), 5), (bytearray(data[: offsets[1] + 12]), 6)):
        bad[offsets[1] + 9] ^= 1 if code == 5 else 0
        path.write_bytes(bad)
        found = verify_file(path)
        assert (found.ok, found.exit_code, found.offset) == (False, code, offsets[1])
        assert found.seconds == pytest.approx(3 * 2048 / 48_000)


def test_verify_finds_symbols_of_other_tables(
    stereo_model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every byte is as it was written, but the tables are not the encoder's: only decoding the
    symbols shows it.
    """
    path = tmp_path / "x.rvc"
    scales = np.minimum(stereo_model.coding.scales + 9, len(SIGMAS) - 1).astype(np.int16)
    file = io.BytesIO()
    writer = StreamWriter(
        file,
        stream_info(stereo_model, 44_100, 2, 4, 0),
        StaticModel(stereo_model.coding.shapes, scales),
    )
    writer.write_chunk(np.zeros((3, 4), np.int32))
    writer.write_chunk(np.arange(200, dtype=np.int32).reshape(50, 4) % 5)
    offset = writer.bytes.total
    writer.write_chunk(np.arange(200, dtype=np.int32).reshape(50, 4) % 5)
    writer.close(5_000)
    path.write_bytes(file.getvalue())
    found = verify_file(path)
    assert (found.ok, found.exit_code) == (False, 5)
    assert found.offset is not None
    assert found.offset < offset
    monkeypatch.setenv("RAVECODEC_MODELS", str(tmp_path))
    blind = verify_file(path)
    assert (blind.ok, blind.model) == (True, "")
    assert "symbols" not in blind.error


def test_verify_reports_and_never_raises(tmp_path: Path, stereo_model: Model) -> None:
    (tmp_path / "text").write_text("hello")
    (tmp_path / "empty").write_bytes(b"")
    (tmp_path / "good").write_bytes(three_chunks(stereo_model))
    results = [verify_file(tmp_path / name) for name in ("missing", "text", "empty", "good")]
    assert [result.exit_code for result in results] == [3, 4, 6, 0]
    assert verify_file(tmp_path / "good", model="paper").exit_code == 7
    assert all(json.dumps(dataclasses.asdict(result)) for result in results)


def test_a_stream_in_memory_is_inspected_like_a_file(tmp_path: Path, stereo_model: Model) -> None:
    data = three_chunks(stereo_model)
    (tmp_path / "x.rvc").write_bytes(data)
    for frames in (False, True):
        of_file = inspect_file(tmp_path / "x.rvc", frames=frames)
        assert ravecodec.inspect(data, frames=frames) == dataclasses.replace(of_file, name="stream")
        assert ravecodec.inspect(memoryview(data), frames=frames).stream == of_file.stream
    with pytest.raises(UsageError, match="is str, expected bytes"):
        ravecodec.inspect("x.rvc")  # type: ignore[arg-type]
    with pytest.raises(TruncatedError):
        ravecodec.inspect(data[:-1])


def test_what_people_print_is_one_line(stereo_model: Model) -> None:
    latents = ravecodec.Latents.from_stream(three_chunks(stereo_model), stereo_model)
    assert stereo_model.id.hex() in repr(stereo_model) and stereo_model.name in repr(stereo_model)
    assert stereo_model.id.hex() in repr(latents) and f"{len(latents)} frames" in repr(latents)
    for value in (stereo_model, latents, ravecodec.list_models()[0]):
        assert len(repr(value).splitlines()) == 1 and len(repr(value)) < 300


def test_the_package_offers_its_functions_without_loading_them() -> None:
    assert ravecodec.encode_file is encode_file
    assert ravecodec.verify_file is verify_file
    assert all(callable(getattr(ravecodec, name)) for name in ravecodec.__all__)
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        ravecodec.nonsense  # noqa: B018
