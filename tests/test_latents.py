"""Latents: streams come back byte for byte, audio through them is the codec's own, bad ones are
told in a sentence.
"""

import io
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from click.testing import CliRunner, Result

from ravecodec.audio import Audio
from ravecodec.bitstream import StaticModel, StreamReader, StreamWriter
from ravecodec.cli import main
from ravecodec.codec import stream_info
from ravecodec.decoding import decode
from ravecodec.encoding import encode
from ravecodec.errors import InputError, ModelError, UsageError
from ravecodec.latents import Latents, analyse
from ravecodec.models.clock import Clock
from ravecodec.models.package import Model
from ravecodec.point import Point
from ravecodec.quantize import Quantizer

pytestmark = pytest.mark.usefixtures("installed")

Music = Callable[..., Audio]
META = {"tags": {"title": "a b", "artist": "\u00e4"}}


def with_silence(music: Music, samples: int = 44_100 * 13 + 77) -> Audio:
    """Longer than a chunk, silent from the third to the sixth second."""
    audio = music(samples)
    audio[:, 44_100 * 3 : 44_100 * 6] = 0
    return audio


def varied(model: Model, chunks: int = 11) -> bytes:
    """A stream such as cutting and joining make: chunks of their own length, step and dims; an
    INDEX; a lead-in.
    """
    info = replace(stream_info(model, 32_000, 1, 5, 3, seed=9), noise_fill=False)
    rng, file = np.random.default_rng(0), io.BytesIO()
    writer = StreamWriter(file, info, StaticModel(model.coding.shapes, model.coding.scales))
    writer.write_meta(META)
    writer.write_lead_in(rng.integers(-2, 3, (1, 4)), 5)
    for i in range(chunks):
        symbols = rng.integers(-40, 41, (i % 3 + 1, 5 - i % 2))
        writer.write_chunk(symbols, i - 4, silent=i == 4)
    frames = sum(i % 3 + 1 for i in range(chunks))
    writer.close((frames * info.hop - 100) * 32_000 // 48_000)
    return file.getvalue()


def cli(*args: object) -> Result:
    return CliRunner().invoke(main, [str(arg) for arg in args])


def test_streams_come_back_byte_for_byte(any_model: Model, music: Music, tmp_path: Path) -> None:
    tune = with_silence(music)
    streams = [
        encode(tune, 44_100, any_model, seed=7, meta=META, step_index=-8),
        encode(music(5_000, 1), 8_000, any_model, dims=3, step_index=20),
        encode(music(1), 44_100, any_model),
        encode(music(0), 44_100, any_model),
        encode(np.zeros((1, 99_999), np.float32), 48_000, any_model),
        varied(any_model),
    ]
    for number, data in enumerate(streams):
        latents = Latents.from_stream(data, any_model)
        latents.save(path := tmp_path / f"{number}.npz")
        assert latents.to_stream(any_model) == data
        assert Latents.load(path).to_stream(any_model) == data
        audio, rate = latents.synthesise(any_model)
        expected, expected_rate = decode(data, any_model)
        assert (audio.shape, rate) == (expected.shape, expected_rate)
        assert np.abs(audio - expected).max(initial=0) <= 1e-5


def test_values_are_those_that_the_symbols_stand_for(stereo_model: Model) -> None:
    data = varied(stereo_model)
    reader = StreamReader(io.BytesIO(data))
    latents = Latents.from_stream(data, stereo_model)
    coding, first = stereo_model.coding, 0
    for chunk in reader.chunks():
        symbols = reader.decode_chunk(chunk, StaticModel(coding.shapes, coding.scales))
        steps = coding.base[: chunk.dims] * 2 ** (chunk.step_index / 8)
        values = latents.values[first : first + chunk.frames, : chunk.dims]
        assert np.all(np.abs(values / steps - symbols) <= 0.5)
        assert not latents.values[first : first + chunk.frames, chunk.dims :].any()
        first += chunk.frames
    assert (first, latents.samples, latents.channels) == (len(latents), reader.total_samples, 1)
    assert latents.frame_rate == pytest.approx(48_000 / stereo_model.config.hop)


def test_every_symbol_survives_float32(stereo_model: Model) -> None:
    symbols = np.concatenate([np.arange(-300, 301), [-32_767, 32_767, -20_001]])[:, None]
    symbols = np.repeat(symbols, 14, axis=1).astype(np.int32)
    for step in (-64, -7, 0, 24, 64):
        quantizer = Quantizer(stereo_model.latent, stereo_model.coding, 14, step, True)
        values = quantizer.values(symbols).astype(np.float32)
        assert np.array_equal(quantizer.rounded(values.astype(np.float64)), symbols)


def test_latents_of_audio_make_the_encoders_stream(any_model: Model, music: Music) -> None:
    for audio, rate, options in (
        (with_silence(music), 44_100, {"seed": 3, "dims": 5}),
        (music(7_001, 1), 16_000, {"step_index": -9}),
        (music(0), 44_100, {}),
    ):
        seed, point = options.get("seed", 0), {k: v for k, v in options.items() if k != "seed"}
        latents = analyse(audio, rate, any_model, point=Point(effort=0, **point), seed=seed)
        data = encode(audio, rate, any_model, effort=0, **options)
        assert latents.to_stream(any_model) == data
        assert np.array_equal(latents.silent, Latents.from_stream(data, any_model).silent)


def test_a_point_of_latents_says_only_what_they_have(stereo_model: Model) -> None:
    for point in (Point(bitrate=2), Point(quality=3), Point(bitrate=2, cbr=True)):
        with pytest.raises(UsageError, match=r"point sets .*expected fidelity or dims or step or"):
            analyse(np.zeros((1, 9)), 44_100, stereo_model, point=point)


def test_tensors_are_arrays(stereo_model: Model, music: Music) -> None:
    audio = music(20_000)
    latents = analyse(torch.from_numpy(audio).requires_grad_(), 44_100, stereo_model)
    assert np.array_equal(latents.values, analyse(audio, 44_100, stereo_model).values)
    for values in (
        torch.from_numpy(latents.values).double().requires_grad_(),
        latents.values.astype(np.float64),
        latents.values.tolist(),
    ):
        assert np.array_equal(replace(latents, values=values).values, latents.values)
    half = replace(latents, values=torch.from_numpy(latents.values).bfloat16())
    assert np.allclose(half.values, latents.values, rtol=0.01)


def test_the_network_is_differentiable_in_the_axes(stereo_model: Model, music: Music) -> None:
    """As docs/latents.md shows."""
    latents = analyse(music(50_000), 44_100, stereo_model, dims=16)
    y = torch.tensor(latents.values, requires_grad=True)
    space = stereo_model.latent
    z = y @ torch.tensor(space.synthesis.T, dtype=torch.float32) + torch.tensor(
        space.mean, dtype=torch.float32
    )
    network = stereo_model.network
    clock = Clock.at(0, latents.info.seed, torch.device("cpu"))
    audio = network.pqmf.synthesis(network.decode_bands(z.T[None], clock))
    audio.square().mean().backward()
    assert y.grad is not None
    assert torch.isfinite(y.grad).all()
    assert y.grad.abs().max() > 0


def test_what_does_not_fit_is_refused(stereo_model: Model, mono_model: Model, music: Music) -> None:
    latents = analyse(music(44_100), 44_100, stereo_model)
    frames, dims = latents.values.shape
    nan = latents.values.copy()
    nan[3, 2] = np.nan
    cases: list[tuple[dict[str, Any], str]] = [
        ({"values": nan}, "nan at frame 3, axis 2"),
        ({"values": latents.values[0]}, r"shape \(14,\), expected real numbers"),
        ({"values": latents.values[:, 1:]}, rf"expected real numbers \[frames, {dims}\]"),
        ({"values": latents.values.astype(complex)}, "complex"),
        ({"values": latents.values[1:]}, rf"silent is bool of shape \({frames},\)"),
        ({"values": latents.values[3:], "silent": None}, "frames last .* but samples is 44100"),
        ({"silent": np.zeros(frames)}, "silent is float64"),
        ({"samples": 0}, "expected them to agree"),
        ({"samples": 90_000}, "expected them to agree"),
        ({"lead": latents.values[:2]}, "lead has 2 frames"),
        ({"chunks": np.array([[frames, 0, dims]])}, "chunks do not divide"),
        ({"chunks": np.array([frames, 0, dims])}, "expected whole numbers"),
        ({"values": latents.values.astype(float) * 1e60}, "expected finite numbers"),
    ]
    for change, message in cases:
        with pytest.raises(InputError, match=message):
            replace(latents, **change)
    with pytest.raises(UsageError, match="whole number"):
        replace(latents, samples=44_100.5)
    with pytest.raises(InputError, match="a stream at this step holds at most"):
        replace(latents, values=latents.values * 1e9).to_stream(stereo_model)
    for use in (latents.to_stream, latents.synthesise):
        with pytest.raises(ModelError, match=latents.model_id.hex()):
            use(mono_model)
    with pytest.raises(InputError, match="int16"):
        analyse(np.zeros(9, np.int16), 44_100, stereo_model)


def test_what_is_no_array_or_number_is_told(stereo_model: Model, music: Music) -> None:
    """In one sentence, whatever it is; another device's tensors are taken, and `meta` has none of
    their data.
    """
    audio = music(20_000)
    latents = analyse(audio, 44_100, stereo_model)
    no_arrays: list[Any] = [
        "abc",
        {},
        [[1.0, 2.0], [3.0]],
        np.array([[object()] * 14]),
        np.array([["a"] * 14]),
        np.array([["2020-01-01"] * 14], "M8[D]"),
        np.ma.masked_array(np.ones((2, 14)), mask=True),
        torch.empty(2, 14, device="meta"),
        torch.eye(14).to_sparse(),
        torch.zeros(2, 14, dtype=torch.complex64),
        np.zeros((2, 3, 14)),
    ]
    for wrong in no_arrays:
        for use in (
            lambda wrong: replace(latents, values=wrong),
            lambda wrong: replace(latents, lead=wrong),
            lambda wrong: replace(latents, silent=wrong),
            lambda wrong: replace(latents, chunks=wrong),
            lambda wrong: analyse(wrong, 44_100, stereo_model),
        ):
            with pytest.raises(InputError) as caught:
                use(wrong)
            assert "\n" not in str(caught.value) and len(str(caught.value)) < 300
    for rate in (44_100.0, np.float32(44_100), "44100", True, np.array([44_100])):
        for call in (
            lambda r: analyse(audio, r, stereo_model),
            lambda r: latents.synthesise(stereo_model, rate=r),
        ):
            with pytest.raises(UsageError, match=r"rate is .*expected a whole number"):
                call(rate)
    for rate in (-1, 0, 10**9):
        with pytest.raises((UsageError, InputError), match="expected 1000 to 768000 Hz"):
            analyse(audio, rate, stereo_model)
        with pytest.raises(UsageError, match="expected 1000 to 768000 Hz"):
            latents.synthesise(stereo_model, rate=rate)
    for model in (1.5, True, [stereo_model], stereo_model.network):
        for play in (
            latents.synthesise,
            latents.to_stream,
            lambda model: analyse(audio, 44_100, model),
        ):
            with pytest.raises(
                UsageError, match="expected a name, a path, an id or a loaded model"
            ):
                play(model)
    with pytest.raises(InputError, match="info is dict, expected StreamInfo"):
        replace(latents, info={})
    assert (
        analyse(audio, np.int64(44_100), stereo_model).synthesise(
            stereo_model, rate=np.int32(8_000)
        )[1]
        == 8_000
    )


def test_npz_files_are_not_trusted(stereo_model: Model, music: Music, tmp_path: Path) -> None:
    latents = analyse(music(44_100), 44_100, stereo_model)
    latents.save(tmp_path / "good.npz")
    with np.load(tmp_path / "good.npz") as file:
        good = dict(file)
    bad = tmp_path / "bad.npz"
    for key, value, message in (
        ("version", 2, "version 2"),
        ("sample_rate", 44_100.5, "sample_rate is 44100.5, expected a whole number"),
        ("sample_rate", np.array([1, 2]), "expected a whole number"),
        ("channels", 0, "channels"),
        ("model_id", "xyz", "expected hex digits"),
        ("model_id", "ab", "expected 8"),
        ("seed", -1, "seed"),
        ("meta", "[1]", "expected one"),
        ("meta", "{", "no JSON"),
        ("values", np.array([[object()]]), "no npz file of latents"),
        ("samples", None, "samples is missing"),
        ("lead", None, "no array 'lead'"),
    ):
        changed = (
            good | {key: value}
            if value is not None
            else {k: v for k, v in good.items() if k != key}
        )
        np.savez(bad, **changed)
        with pytest.raises(InputError, match=rf"bad\.npz.*{message}"):
            Latents.load(bad)
    np.savez(bad, **good | {"sample_rate": 44_100.0})
    assert Latents.load(bad).sample_rate == 44_100
    data = (tmp_path / "good.npz").read_bytes()
    for damaged in (b"", b"no zip", data[:-30], data[:200] + b"\xff" * 40 + data[240:]):
        bad.write_bytes(damaged)
        with pytest.raises(InputError, match=r"bad\.npz: is no npz file of latents"):
            Latents.load(bad)


# ---- commands ------------------------------------------------------------------------------------


def test_export_and_import_on_the_command_line(
    stereo_model: Model, music: Music, tmp_path: Path
) -> None:
    data = encode(with_silence(music), 44_100, stereo_model, seed=7, meta=META)
    (stream := tmp_path / "x.rvc").write_bytes(data)
    done = cli("latents", "export", stream, tmp_path / "x.npz")
    assert (done.exit_code, done.stdout) == (0, "")
    assert "44100 Hz stereo" in done.stderr
    assert cli("latents", "import", tmp_path / "x.npz", tmp_path / "y.rvc").exit_code == 0
    assert (tmp_path / "y.rvc").read_bytes() == data
    assert cli("latents", "import", tmp_path / "x.npz", tmp_path / "y.wav").exit_code == 0
    audio, rate = soundfile.read(tmp_path / "y.wav", dtype="float32")
    assert rate == 44_100
    assert np.abs(audio.T - decode(data, stereo_model)[0]).max() <= 1e-4
    latents = Latents.from_stream(data, stereo_model)
    for suffix in ("npy", "csv"):
        assert cli("latents", "export", stream, tmp_path / f"x.{suffix}").exit_code == 0
    assert np.array_equal(np.load(tmp_path / "x.npy"), latents.values)
    table = np.genfromtxt(tmp_path / "x.csv", delimiter=",", skip_header=1)
    assert np.array_equal(table[:, 2:].astype(np.float32), latents.values)
    assert np.array_equal(table[:, 1], latents.silent)
    assert np.allclose(table[:, 0] * latents.frame_rate, np.arange(len(latents)), atol=1e-4)


def test_export_of_audio(stereo_model: Model, music: Music, tmp_path: Path) -> None:
    soundfile.write(tmp_path / "x.wav", music(44_100).T, 44_100, subtype="FLOAT")
    done = cli(
        "latents",
        "export",
        tmp_path / "x.wav",
        tmp_path / "x.npz",
        "--dims",
        4,
        "--effort",
        0,
        "--json",
    )
    assert done.exit_code == 0, done.stderr
    assert json.loads(done.stdout)["dims"] == 4
    found = Latents.load(tmp_path / "x.npz")
    assert found.to_stream(stereo_model) == encode(
        music(44_100), 44_100, stereo_model, dims=4, effort=0
    )


def test_wrong_calls_are_told(stereo_model: Model, music: Music, tmp_path: Path) -> None:
    (stream := tmp_path / "x.rvc").write_bytes(encode(music(9_000), 44_100, stereo_model))
    (tmp_path / "x.npz").write_bytes(b"x")
    for code, args in (
        (2, ["export", stream, tmp_path / "x.txt"]),
        (2, ["export", stream, tmp_path / "y.npz", "--dims", 3]),
        (8, ["export", stream, tmp_path / "x.npz"]),
        (3, ["export", tmp_path / "none.wav", tmp_path / "y.npz"]),
        (3, ["import", tmp_path / "x.npz", tmp_path / "y.rvc"]),
        (7, ["export", stream, tmp_path / "y.npz", "--model", "paper"]),
    ):
        done = cli("latents", *args)
        assert done.exit_code == code, done.stderr
        assert len(done.stderr.splitlines()) == 1
    assert sorted(path.name for path in tmp_path.iterdir() if path.is_file()) == ["x.npz", "x.rvc"]
