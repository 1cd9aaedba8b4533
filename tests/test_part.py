"""A part of a stream: equal to the slice of the whole, bit for bit, and read through the index
alone.
"""

import io
import os
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import soundfile
from click.testing import CliRunner

from ravecodec import decode, decode_file, encode
from ravecodec.audio import Audio, Resampler
from ravecodec.bitstream import IndexEntry, StaticModel, StreamReader, StreamWriter, find_index
from ravecodec.cli import main
from ravecodec.errors import CorruptError, RavecodecError, UsageError
from ravecodec.models.package import Model
from ravecodec.pipeline import DecodePipeline
from ravecodec.times import Part, parse

pytestmark = pytest.mark.usefixtures("installed")

Music = Callable[..., Audio]
SECONDS = 5


class Counted(io.BytesIO):
    """Bytes in memory that count how many of them were read."""

    count = 0

    def read(self, size: int | None = -1, /) -> bytes:
        data = super().read(size)
        self.count += len(data)
        return data


@pytest.fixture(autouse=True)
def blocks(small_blocks: Callable[[int], None]) -> None:
    """Blocks of 4 frames, so that chunks have 8."""
    small_blocks(4 * 2048)


def tune(music: Music, rate: int, channels: int = 2) -> Audio:
    """Music with a second of silence in the middle."""
    audio = music(SECONDS * rate, channels, rate)
    audio[:, 2 * rate : 3 * rate] = 0
    return audio


def without_index(data: bytes, model: Model) -> bytes:
    """The same symbols in chunks of 32 frames, too few for an index."""
    reader, out = StreamReader(io.BytesIO(data)), io.BytesIO()
    static = StaticModel(model.coding.shapes, model.coding.scales)
    writer = StreamWriter(out, reader.info, static)
    chunks = list(reader.chunks())
    if reader.lead_in:
        writer.write_lead_in(reader.decode_chunk(reader.lead_in, static), reader.lead_in.step_index)
    symbols = np.concatenate(
        [reader.decode_chunk(chunk, static)[:, : reader.info.dims] for chunk in chunks]
    )
    for start in range(0, len(symbols), 32):
        writer.write_chunk(symbols[start : start + 32])
    assert reader.total_samples is not None
    writer.close(reader.total_samples)
    assert find_index(io.BytesIO(out.getvalue())) is None
    return out.getvalue()


# ---- times ---------------------------------------------------------------------------------------


def test_times() -> None:
    for text, rate, sample in [
        ("1:02.5", 8_000, 500_000),
        ("1:00:00", 10, 36_000),
        ("100:00", 10, 60_000),
        ("62.5", 2, 125),
        (".5", 10, 5),
        ("7.", 10, 70),
        ("48000s", 44_100, 48_000),
        ("0", 44_100, 0),
        (1.5, 44_100, 66_150),
        (np.float32(0.25), 48_000, 12_000),
        (3, 48_000, 144_000),
    ]:
        assert parse(text, "start").at(rate) == sample
    texts = ["", "x", "-1", "1:60", "1:60:00", "1:2:3:4", "1.5s", "1e3", "1:", "nan"]
    for wrong in [*texts, -1.0, float("inf"), True, [1]]:
        with pytest.raises(UsageError, match=r"start is .*expected"):
            parse(wrong, "start")  # type: ignore[arg-type]


def test_parts() -> None:
    assert Part.of(None, None, None).whole
    assert Part.of("1:00", None, "2.5").samples(10) == (600, 625)
    assert Part.of("5s", 1.0, None).samples(10) == (5, 10)
    assert Part.of(None, "10s", None).samples(7) == (0, 10)
    with pytest.raises(UsageError, match="both given"):
        Part.of(None, 1, 1)
    for start, end, duration in [(2, 1, None), (1, 1, None), (1, None, 0)]:
        with pytest.raises(UsageError, match="expected an end behind the start"):
            Part.of(start, end, duration).samples(44_100)


# ---- resampler -----------------------------------------------------------------------------------


def test_nothing_reaches_further_through_the_resampler_than_it_says() -> None:
    rng = np.random.default_rng(3)
    for rate in (44_100, 8_000, 96_000, 44_101, 11_025):
        reach = Resampler(48_000, rate, 1).reach
        for start in rng.integers(1, 60_000, 3):
            length = int(start) + 3 * reach
            audio = rng.standard_normal((1, length)).astype(np.float32)
            # Exactly zero again where no block of soxr's has seen what came before.
            audio[:, start:] = 0
            resampler = Resampler(48_000, rate, 1)
            out = np.concatenate([resampler.process(audio), resampler.flush()], axis=1)
            assert np.flatnonzero(out[0])[-1] * 48_000 / rate < start + reach


def test_skipped_samples_leave_the_rest_as_it_is(music: Music) -> None:
    for rate in (44_100, 48_000, 16_000, 44_101):
        audio = music(110_000, 2, 48_000)
        whole = Resampler(48_000, rate, 2)
        expected = np.concatenate([whole.process(audio), whole.flush()], axis=1)
        for skipped in (0, 1, 70_001):
            part = Resampler(48_000, rate, 2)
            part.skip(skipped)
            at = part.emitted
            found = np.concatenate([part.process(audio[:, skipped:]), part.flush()], axis=1)
            safe = -(-(skipped + part.reach) * rate // 48_000) if skipped else 0
            assert at + found.shape[1] == expected.shape[1]
            assert np.array_equal(found[:, safe - at :], expected[:, safe:])


# ---- parts ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("rate", [48_000, 44_100])
def test_a_part_is_the_slice_of_the_whole(any_model: Model, music: Music, rate: int) -> None:
    data = encode(tune(music, rate), rate, any_model)
    assert find_index(io.BytesIO(data)) is not None
    rng, length = np.random.default_rng(rate), SECONDS * rate
    places = [(0, 1), (length - 1, length), (2 * rate - 3, 2 * rate + 9), (5 * rate // 2, 10**9)]
    places += [(start, start + 5_000) for start in rng.choice(length - 5_000, 3, replace=False)]
    for stream in (data, without_index(data, any_model)):
        whole = decode(stream, any_model)[0]
        for start, end in places:
            part, found_rate = decode(stream, any_model, start=f"{start}s", end=f"{end}s")
            assert found_rate == rate
            assert part.dtype == np.float32
            assert np.array_equal(part, whole[:, start:end])
    assert not decode(data, any_model, start=2.4, end=2.6)[0].any()


def test_another_rate_duration_and_seconds(stereo_model: Model, music: Music) -> None:
    data = encode(tune(music, 44_100, 1), 44_100, stereo_model)
    whole = decode(data, stereo_model, rate=22_050)[0]
    part = decode(data, stereo_model, rate=22_050, start=3.5, duration="1.25")[0]
    assert np.array_equal(part, whole[:, 77_175 : 77_175 + 27_562])  # 27562.5, to even
    assert np.array_equal(
        decode(data, stereo_model, rate=22_050, start=4)[0], whole[:, 4 * 22_050 :]
    )


def test_only_what_is_needed_is_read(stereo_model: Model, music: Music) -> None:
    data = encode(tune(music, 48_000), 48_000, stereo_model)
    index = find_index(io.BytesIO(data), start=0)
    assert index is not None
    file = Counted(data)
    reader = StreamReader(file)
    header = file.count
    decoder = stereo_model.network.decoder_reach
    start, end = 4 * 48_000, 4 * 48_000 + 100
    first = (
        start // 2048 // 4
    ) * 4 - decoder.past  # by hand: the blocks of 4 frames, and what they see
    last = (start // 2048 // 4) * 4 + 4 + decoder.future
    pipeline = DecodePipeline(reader, stereo_model, 48_000, part=(start, end), index=index)
    part = np.concatenate(list(pipeline.decode()), axis=1)
    assert np.array_equal(part, decode(data, stereo_model)[0][:, start:end])
    needed = [
        n for n, e in enumerate(index) if e.first_frame < last and e.first_frame + e.frames > first
    ]
    bounds = [*(entry.offset for entry in index), len(data)]
    before = 15  # the header of the chunk before
    assert file.count <= header + before + bounds[needed[-1] + 1] - bounds[needed[0]] + 15
    assert file.count < len(data) // 2
    summary = pipeline.summary()
    assert summary.chunks == len(needed)
    assert summary.frames == sum(index[n].frames for n in needed)


def test_what_is_not_needed_may_be_damaged(
    stereo_model: Model, music: Music, tmp_path: Path
) -> None:
    data = encode(tune(music, 44_100), 44_100, stereo_model)
    whole = decode(data, stereo_model)[0]
    index = find_index(io.BytesIO(data))
    assert index is not None
    for damaged in (1, len(index) - 1):
        broken = bytearray(data)
        broken[index[damaged].offset + 25] ^= 1
        path, out = tmp_path / f"{damaged}.rvc", tmp_path / f"{damaged}.wav"
        path.write_bytes(broken)
        with pytest.raises(CorruptError):
            decode(bytes(broken), stereo_model)
        decode_file(path, out, model=stereo_model, start="0:03.5", end="3.6", subtype="FLOAT")
        assert np.array_equal(soundfile.read(out, dtype="float32")[0].T, whole[:, 154_350:158_760])
    broken = bytearray(data)
    broken[index[-3].offset + 25] ^= 1
    with pytest.raises(CorruptError):
        decode(bytes(broken), stereo_model, start="4.2", end="4.9")


def test_salvage_of_a_part_is_the_slice_of_the_salvaged_whole(
    stereo_model: Model, music: Music, tmp_path: Path
) -> None:
    data = encode(tune(music, 44_100), 44_100, stereo_model)
    index = find_index(io.BytesIO(data))
    assert index is not None
    broken = bytearray(data)
    broken[index[4].offset + 25] ^= 1
    (tmp_path / "x.rvc").write_bytes(broken)
    given = {"model": stereo_model, "subtype": "FLOAT", "salvage": True}
    decode_file(tmp_path / "x.rvc", tmp_path / "whole.wav", **given)
    done = decode_file(tmp_path / "x.rvc", tmp_path / "part.wav", start="0.5", end="2.1", **given)
    whole, part = (soundfile.read(tmp_path / name)[0] for name in ("whole.wav", "part.wav"))
    assert np.array_equal(part, whole[22_050:92_610])
    assert len(done.damage) == 1


def test_a_start_behind_the_end_is_refused(stereo_model: Model, music: Music) -> None:
    data = encode(music(44_100), 44_100, stereo_model)
    for start in ("44100s", "1", "1000000000"):
        with pytest.raises(
            UsageError, match="has 44100 samples, expected more up to the start at sample"
        ):
            decode(data, stereo_model, start=start)
    assert decode(data, stereo_model, start="44099s")[0].shape == (2, 1)


def test_the_index_of_another_stream_in_the_file_is_not_used(
    stereo_model: Model, music: Music
) -> None:
    first, second = (encode(tune(music, 48_000) * gain, 48_000, stereo_model) for gain in (1, 0.5))
    assert find_index(io.BytesIO(first + second)) is not None
    assert find_index(io.BytesIO(first + second), start=0) is None
    assert find_index(io.BytesIO(first + second), start=len(first)) is not None
    part = decode(first + second, stereo_model, start=4, end=4.1)[0]
    assert np.array_equal(part, decode(first, stereo_model)[0][:, 4 * 48_000 : 41 * 4_800])


def test_a_lying_index_is_an_error(stereo_model: Model, music: Music) -> None:
    data = encode(tune(music, 48_000), 48_000, stereo_model)
    index = find_index(io.BytesIO(data))
    assert index is not None
    for offset, frame in [(1, 0), (0, 1)]:
        wrong = [
            IndexEntry(entry.offset + offset, entry.first_frame + frame, entry.frames)
            for entry in index
        ]
        reader = StreamReader(io.BytesIO(data))
        with pytest.raises(RavecodecError, match="byte"):
            DecodePipeline(reader, stereo_model, 48_000, part=(4 * 48_000, None), index=wrong)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
def test_from_a_pipe_and_by_the_command(stereo_model: Model, music: Music, tmp_path: Path) -> None:
    data = encode(tune(music, 44_100), 44_100, stereo_model)
    expected = decode(data, stereo_model)[0][:, 3 * 44_100 : 4 * 44_100]
    (tmp_path / "x.rvc").write_bytes(data)
    os.mkfifo(tmp_path / "pipe")

    def feed() -> None:
        with suppress(BrokenPipeError):  # nothing behind the part is read
            (tmp_path / "pipe").write_bytes(data)

    writer = threading.Thread(target=feed, daemon=True)
    writer.start()
    decode_file(tmp_path / "pipe", tmp_path / "a.wav", start=3, end=4, subtype="FLOAT")
    writer.join(10)
    call = [
        "decode",
        str(tmp_path / "x.rvc"),
        str(tmp_path / "b.wav"),
        "--bits",
        "float",
        "--start",
        "0:03",
    ]
    done = CliRunner().invoke(main, [*call, "--duration", "44100s"])
    assert done.exit_code == 0, done.output
    for name in ("a.wav", "b.wav"):
        assert np.array_equal(soundfile.read(tmp_path / name, dtype="float32")[0].T, expected)
    assert CliRunner().invoke(main, [*call, "-f", "--end", "0:02"]).exit_code == 2
    assert CliRunner().invoke(main, [*call, "-f", "--end", "soon"]).exit_code == 2
