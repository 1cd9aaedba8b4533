"""A stream that brings its decoder along plays where the model has never been; whatever is wrong
with that decoder is found before anything is built of it.
"""

import io
import json
import shutil
import tracemalloc
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from click.testing import CliRunner, Result
from numpy.typing import NDArray

from ravecodec import decode, encode, zoo
from ravecodec.bitstream import EmbeddedModel, StreamReader, StreamWriter
from ravecodec.bitstream.container import ChunkType, encode_chunk
from ravecodec.bitstream.embedded import ModelParts, decode_part
from ravecodec.bitstream.limits import MAX_MODEL
from ravecodec.cli import main
from ravecodec.codec import stream_info
from ravecodec.errors import CorruptError, ModelError, UsageError
from ravecodec.models.header import DECODER_OF, decoder_part, read_decoder
from ravecodec.models.package import Model, load_decoder, load_package

pytestmark = pytest.mark.usefixtures("installed")

Music = Callable[..., NDArray[np.float32]]
RATE = 22_050


def call(*args: str | int | Path) -> Result:
    return CliRunner().invoke(main, [str(arg) for arg in args])


@pytest.fixture
def nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Call it, and no model is installed any more."""
    return lambda: monkeypatch.setenv("RAVECODEC_MODELS", str(tmp_path / "no models"))


def without_embedded(data: bytes) -> bytes:
    """The stream again without MODEL, chunk by chunk, by the public writer."""
    reader, out = StreamReader(io.BytesIO(data)), io.BytesIO()
    writer = StreamWriter(out, reader.info)
    if reader.meta:
        writer.write_meta(reader.meta)
    for chunk in reader.chunks():
        if not writer.frames and reader.lead_in:
            writer.copy_lead_in(reader.lead_in)
        writer.copy_chunk(chunk)
    assert reader.total_samples is not None
    writer.close(reader.total_samples)
    return out.getvalue()


def rewritten(model: Model, file: bytes, **info: Any) -> bytes:
    """A stream without frames that brings `file` along."""
    out = io.BytesIO()
    writer = StreamWriter(out, replace(stream_info(model, RATE, 2, 4, 0), **info))
    writer.write_model(EmbeddedModel.of(file))
    writer.close(0)
    return out.getvalue()


def edited(file: bytes, change: Callable[[dict[str, Any]], None]) -> bytes:
    """A decoder whose JSON was changed."""
    size = int.from_bytes(file[:8], "little")
    header = json.loads(file[8 : 8 + size])
    change(header)
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + file[8 + size :]


def spoilt(file: bytes, value: bytes) -> bytes:
    """A decoder one of whose weights is this float32."""
    at = read_decoder(file, "x").tensors["weights.generator.waveform.bias"].start
    return file[:at] + value + file[at + 4 :]


# ---- the same sound ------------------------------------------------------------------------------


def test_samples_are_those_of_the_installed_model(
    any_model: Model, music: Music, nothing: Callable[[], None]
) -> None:
    audio = music(3 * RATE, 2, RATE)
    plain, whole = (encode(audio, RATE, any_model, embed_model=e) for e in (False, True))
    assert without_embedded(whole) == plain
    expected, _ = decode(plain)
    assert np.array_equal(decode(whole)[0], expected)
    nothing()
    with pytest.raises(ModelError, match=f"{any_model.id.hex()}.*RAVECODEC_MODELS"):
        decode(plain)
    assert np.array_equal(decode(whole)[0], expected)
    part, _ = decode(whole, start=1.0, end=2.0)
    assert np.array_equal(part, expected[:, RATE : 2 * RATE])


def test_a_decoder_is_the_same_tensors_and_a_function_of_its_model(
    any_model: Model, tmp_path: Path
) -> None:
    assert any_model.path is not None
    file = decoder_part(any_model.path)
    shutil.copy(any_model.path, tmp_path / "other.safetensors")
    assert decoder_part(tmp_path / "other.safetensors") == file
    own, whole = read_decoder(file, "x"), zoo.read_header(any_model.path)
    names = {name for name in whole.tensors if not name.startswith("weights.encoder.")}
    assert set(own.tensors) == names - {"latent.analysis"}
    expected = whole.arrays(own.tensors)
    assert all((array == expected[name]).all() for name, array in own.arrays(own.tensors).items())
    assert own.info == whole.info and own.name == whole.name  # licence and credits come along
    loaded = load_decoder(own)
    assert (loaded.id, loaded.network.encoder) == (any_model.id, None)


def test_a_plain_model_file_is_no_decoder_and_a_decoder_no_model(
    any_model: Model, tmp_path: Path
) -> None:
    assert any_model.path is not None
    with pytest.raises(ModelError, match="do not fit its config"):
        read_decoder(any_model.path.read_bytes(), "x")
    path = tmp_path / "x.safetensors"
    path.write_bytes(decoder_part(any_model.path))
    with pytest.raises(ModelError, match="do not fit its config"):
        load_package(path)


# ---- commands ------------------------------------------------------------------------------------


@pytest.fixture
def pair(tmp_path: Path, music: Music) -> tuple[Path, Path]:
    """The same audio in two streams, the second with its decoder."""
    soundfile.write(tmp_path / "a.wav", music(2 * RATE, 2, RATE).T, RATE)
    paths = tmp_path / "plain.rvc", tmp_path / "whole.rvc"
    for path, more in zip(paths, ([], ["--embed-model", "--verify"]), strict=True):
        done = call("encode", tmp_path / "a.wav", path, "--model", "paper", *more)
        assert done.exit_code == 0, done.output
    return paths


def test_every_command_plays_it(
    pair: tuple[Path, Path], tmp_path: Path, nothing: Callable[[], None]
) -> None:
    plain, whole = pair
    one = ("--threads", 1)  # as many files have it: sums differ with the number of threads
    call("decode", plain, tmp_path / "expected.wav", *one)
    call("cut", plain, tmp_path / "expected.rvc", "--start", "0.7")
    nothing()
    expected = (tmp_path / "expected.wav").read_bytes()
    missing = call("decode", plain, tmp_path / "no.wav")
    assert missing.exit_code == 7
    for word in (
        StreamReader(io.BytesIO(plain.read_bytes())).info.model_id.hex(),
        "called 'paper' there",
        "RAVECODEC_MODELS",
        "model add",
    ):
        assert word in missing.stderr
    assert call("decode", whole, tmp_path / "one.wav", *one).exit_code == 0
    assert (tmp_path / "one.wav").read_bytes() == expected
    shutil.copy(whole, tmp_path / "again.rvc")
    many = call("decode", whole, plain, tmp_path / "again.rvc", "-o", tmp_path / "out")
    assert many.exit_code == 7
    assert {path.name for path in (tmp_path / "out").glob("*.wav")} == {"whole.wav", "again.wav"}
    assert (tmp_path / "out/whole.wav").read_bytes() == expected
    shown = call("info", whole).stdout
    assert "(embedded, called 'paper' there)" in shown and "decoder of" in shown
    found = json.loads(call("info", whole, "--json").stdout)
    sizes = found["stream"]
    parts = ("payload_bytes", "meta_bytes", "framing_bytes", "model_bytes")
    assert sum(sizes[part] for part in parts) == sizes["total_bytes"] == whole.stat().st_size
    assert sizes["model_bytes"] == found["embedded"]["bytes"] > 1000
    assert "checked with model embedded" in call("verify", whole).stdout
    assert "not checked" in call("verify", plain).stdout
    assert call("cut", plain, tmp_path / "no.rvc", "--start", "0.7").exit_code == 7
    assert call("cut", whole, tmp_path / "cut.rvc", "--start", "0.7").exit_code == 0
    cut = (tmp_path / "cut.rvc").read_bytes()
    assert without_embedded(cut) == without_embedded((tmp_path / "expected.rvc").read_bytes())
    assert StreamReader(io.BytesIO(cut)).model is not None
    assert call("edit", whole, tmp_path / "edited.rvc").exit_code == 0
    assert (tmp_path / "edited.rvc").read_bytes() == whole.read_bytes()


def test_a_join_holds_the_decoder_once(pair: tuple[Path, Path], tmp_path: Path) -> None:
    plain, whole = pair
    for order in ((plain, whole, whole), (whole, plain, plain), (whole, whole, whole)):
        out = tmp_path / "joined.rvc"
        assert call("concat", *order, out, "-f").exit_code == 0
        reader = StreamReader(io.BytesIO(out.read_bytes()))
        assert reader.model == StreamReader(io.BytesIO(whole.read_bytes())).model
        assert call("verify", out).exit_code == 0
    other = tmp_path / "other.rvc"
    model = zoo.find_model("paper")
    file = edited(decoder_part(model.path), lambda header: header["__metadata__"].update(a="b"))
    other.write_bytes(
        rewritten(load_package(model.path), file, channels=2, sample_rate=RATE, dims=4)
    )
    refused = call("concat", whole, other, tmp_path / "no.rvc")
    assert refused.exit_code == 4 and "SHA-256" in refused.stderr


def test_verify_compares_with_the_installed_model(
    pair: tuple[Path, Path], tmp_path: Path, mono_model: Model
) -> None:
    assert call("verify", pair[1]).exit_code == 0
    assert mono_model.path is not None
    forged = spoilt(decoder_part(mono_model.path), b"\0\0\0\0")
    (tmp_path / "forged.rvc").write_bytes(rewritten(mono_model, forged))
    found = call("verify", tmp_path / "forged.rvc")
    assert found.exit_code == 7 and "decoder of paper" in found.stderr


def test_a_rate_is_kept_without_the_decoder(tmp_path: Path, music: Music) -> None:
    soundfile.write(tmp_path / "a.wav", music(3 * RATE, 2, RATE).T, RATE)
    for name, more in (("a", []), ("b", ["--embed-model"])):
        done = call("encode", tmp_path / "a.wav", tmp_path / f"{name}.rvc", "--bitrate", "4", *more)
        assert done.exit_code == 0, done.output
    a, b = ((tmp_path / f"{name}.rvc").read_bytes() for name in "ab")
    assert without_embedded(b) == a


def test_a_model_whose_file_has_changed_is_not_embedded(
    model_folder: Path, tmp_path: Path, music: Music
) -> None:
    path = tmp_path / "x.safetensors"
    shutil.copy(model_folder / "paper.safetensors", path)
    model = load_package(path)
    shutil.copy(model_folder / "default.safetensors", path)
    with pytest.raises(ModelError, match="has changed"):
        encode(music(RATE, 1, RATE), RATE, model, embed_model=True)


# ---- untrusted -----------------------------------------------------------------------------------


def test_hostile_decoders_are_refused_before_anything_is_built(
    mono_model: Model, nothing: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    nothing()
    monkeypatch.setattr("ravecodec.models.package.Rave", None)  # building would be a TypeError
    assert mono_model.path is not None
    good = decoder_part(mono_model.path)

    def metadata(**values: str) -> bytes:
        return edited(good, lambda header: header["__metadata__"].update(values))

    def without_origin(header: dict[str, Any]) -> None:
        del header["__metadata__"][DECODER_OF]

    def without_bias(header: dict[str, Any]) -> None:
        del header["weights.generator.waveform.bias"]

    def large(header: dict[str, Any]) -> None:
        config = json.loads(header["__metadata__"]["config"])
        header["__metadata__"]["config"] = json.dumps(config | {"capacity": 4096})

    hostile = {
        "is not a model package": b"nothing",
        "header of the model file is damaged": good[:8] + b"x" + good[9:],
        "partial download": good[:-4],
        "SHA-256 of a model": edited(good, without_origin),
        "decoder of 0000000000000000": metadata(**{DECODER_OF: "0" * 64}),
        "do not fit its config|overlap": edited(good, without_bias),
        "expected at most": edited(good, large),
        "version": metadata(version="99"),
        "NaN": spoilt(good, b"\0\0\xff\x7f"),
    }
    for match, file in hostile.items():
        with pytest.raises(ModelError, match=f"stream: the embedded model: .*({match})") as error:
            decode(rewritten(mono_model, file))
        assert len(str(error.value)) < 400


def model_chunks(*bodies: bytes) -> bytes:
    """An empty stream with these MODEL chunks."""
    out = io.BytesIO()
    from ravecodec.bitstream import StreamInfo

    writer = StreamWriter(out, StreamInfo(bytes(8), RATE, 1, 2048, 1))
    for body in bodies:
        writer._put(encode_chunk(ChunkType.MODEL, 0, body))
    writer.close(0)
    return out.getvalue()


def test_parts_come_each_once_and_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ravecodec.bitstream.embedded.PART_BYTES", 10)
    model = EmbeddedModel.of(np.random.default_rng(0).bytes(15))
    a, b, c, *_ = bodies = list(model.bodies())
    assert len(bodies) == 3
    reader = StreamReader(io.BytesIO(model_chunks(a, b, c)))
    assert reader.model == model and reader.model.unpack("x") == model.unpack("x")
    assert StreamReader(io.BytesIO(model_chunks())).model is None
    for wrong in ((a, b), (a, c), (b, a), (b, c), (a, a), (a, b, c, c), (a, b, c, a), (a,), (c,)):
        with pytest.raises(CorruptError, match="part"):
            list(StreamReader(io.BytesIO(model_chunks(*wrong))).chunks())
        damaged = StreamReader(io.BytesIO(model_chunks(*wrong)))
        list(damaged.chunks("skip"))
        assert damaged.model in (None, model)


def test_parts_are_what_numbers_and_bounds_allow() -> None:
    for body in (b"", b"\0", b"\0\1\1", b"\1\1x", b"\0\0x", b"\0\x41", b"\x40\x40x"):
        with pytest.raises(CorruptError):
            decode_part(body, 0, "x", MAX_MODEL)
    part = decode_part(b"\0\1\5" + bytes(32) + b"x", 0, "x", 5)
    assert (part.size, part.sha256, part.piece) == (5, bytes(32), b"x")
    with pytest.raises(CorruptError, match="size"):
        decode_part(b"\0\1\5" + bytes(32) + b"x", 0, "x", 4)
    with pytest.raises(CorruptError, match="empty"):
        decode_part(b"\0\1\0" + bytes(32) + b"x", 0, "x", 5)
    parts = ModelParts()
    assert not parts.begun and parts.fits(part) and parts.whole() is None
    with pytest.raises(UsageError, match="cannot be embedded"):
        EmbeddedModel.of(b"")


def test_a_bomb_costs_what_it_announces_at_most() -> None:
    honest = EmbeddedModel.of(bytes(50_000_000))
    assert len(honest.frame) < 10_000
    for size in (1000, 49_999_999, 50_000_001):
        liar = replace(honest, size=size)
        tracemalloc.start()
        with pytest.raises(CorruptError, match=r"x: the embedded model cannot be read: .*declares"):
            liar.unpack("x")
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 1_000_000
    with pytest.raises(CorruptError, match="SHA-256"):
        replace(EmbeddedModel.of(b"abc"), sha256=bytes(32)).unpack("x")
