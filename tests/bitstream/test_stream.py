"""Streams front to back: through files, pipes and slow readers, always the same bytes and the same
symbols.
"""

import io
import os
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ravecodec.bitstream import (
    IndexEntry,
    Profile,
    StaticModel,
    StreamInfo,
    StreamReader,
    StreamWriter,
    find_index,
    streams,
)
from ravecodec.errors import (
    CorruptError,
    FormatError,
    InputError,
    ModelError,
    OutputError,
    TruncatedError,
    UsageError,
)

Made = tuple[bytes, list[Any]]


class OneByte:
    """A file object that cannot seek and gives one byte at a time."""

    def __init__(self, data: bytes) -> None:
        self._rest = io.BytesIO(data)

    def read(self, size: int) -> bytes:
        return self._rest.read(min(size, 1))


class Stingy:
    """A file object that takes at most three bytes a write, and can do nothing else."""

    def __init__(self) -> None:
        self.data = b""

    def write(self, data: bytes) -> int:
        self.data += data[:3]
        return min(len(data), 3)


def read_all(fileobj: Any, static: StaticModel | None) -> tuple[StreamReader, list[Any]]:
    reader = StreamReader(fileobj)
    return reader, [reader.decode_chunk(chunk, static) for chunk in reader.chunks()]


@given(data=st.data())
@settings(max_examples=60, deadline=None)
def test_round_trip_of_everything(data: st.DataObject, static: StaticModel) -> None:
    dims = data.draw(st.integers(0, 8))
    info = StreamInfo(
        data.draw(st.binary(min_size=8, max_size=8)),
        sample_rate=data.draw(st.integers(1, 768_000)),
        channels=data.draw(st.integers(1, 8)),
        hop=data.draw(st.integers(1, 65_536)),
        dims=dims,
        step_index=data.draw(st.integers(-512, 512)),
        noise_fill=data.draw(st.booleans()),
        seed=data.draw(st.sampled_from([0, 1, 2**32 - 1])),
        model_rate=data.draw(st.sampled_from([48_000, 44_100, 1])),
    )
    out = io.BytesIO()
    writer = StreamWriter(out, info, data.draw(st.sampled_from([None, static])))
    meta = data.draw(st.sampled_from([None, {}, {"title": "ü", "n": [1, 2.5]}]))
    if meta is not None:
        writer.write_meta(meta)
    rng = np.random.default_rng(data.draw(st.integers(0, 99)))
    written = []
    for _ in range(data.draw(st.integers(0, 11))):
        frames, own_dims = data.draw(st.integers(1, 9)), data.draw(st.integers(0, dims))
        spread = data.draw(st.sampled_from([0, 1, 4, 300, 32_767]))
        symbols = rng.integers(-spread, spread, (frames, own_dims), dtype=np.int32, endpoint=True)
        step_index = data.draw(st.sampled_from([info.step_index, 0, -512, 512]))
        writer.write_chunk(symbols, step_index)
        written.append((symbols, step_index))
    total = data.draw(st.integers(0, info.max_samples(writer.frames)))
    if writer.frames * info.hop > 86_400 * info.model_rate:
        return  # longer than a day: beyond the reader's default limit
    writer.close(total)

    reader = StreamReader(io.BytesIO(out.getvalue()))
    assert reader.info == replace(info, minor=writer.info.minor)
    assert reader.meta == (meta or {})
    chunks = list(reader.chunks())
    assert [(c.step_index, c.dims, c.frames) for c in chunks] == [
        (g, s.shape[1], len(s)) for s, g in written
    ]
    for chunk, (symbols, _) in zip(chunks, written, strict=True):
        assert np.array_equal(reader.decode_chunk(chunk, static), symbols)
    assert (reader.total_samples, reader.frames, reader.ended) == (total, writer.frames, True)
    assert reader.bytes == writer.bytes
    assert reader.bytes.total == len(out.getvalue())
    assert reader.bytes.payload == sum(len(c.payload) for c in chunks)


def test_every_way_in_gives_the_same(
    make_stream: Callable[..., Made], static: StaticModel, tmp_path: Path
) -> None:
    data, expected = make_stream(5, 6, 7, *[2] * 10, meta={"a": 1})
    path = tmp_path / "a.rvc"
    path.write_bytes(data)
    left, right = os.pipe()
    threading.Thread(target=lambda: (os.write(right, data), os.close(right))).start()
    with (
        path.open("rb") as plain,
        path.open("rb", buffering=0) as unbuffered,
        os.fdopen(left, "rb") as pipe,
    ):
        for fileobj in (io.BytesIO(data), OneByte(data), plain, unbuffered, pipe):
            reader, symbols = read_all(fileobj, static)
            assert all(np.array_equal(a, b) for a, b in zip(symbols, expected, strict=True))
            assert (reader.bytes.total, reader.meta) == (len(data), {"a": 1})


def test_nothing_but_write_is_needed(
    static: StaticModel, stream_info: Callable[..., StreamInfo]
) -> None:
    """Objects with write alone, that take what they like; the bytes equal those of a file."""
    sinks: list[Any] = [Stingy(), io.BytesIO()]
    for sink in sinks:
        writer = StreamWriter(sink, stream_info(), static)
        writer.write_meta({"x": "y"})
        for n in range(10):
            writer.write_chunk(np.full((3, 8), n, dtype=np.int64))
        writer.close(30 * 1000)
    assert sinks[0].data == sinks[1].getvalue()


def test_an_output_that_takes_nothing_is_an_error(stream_info: Callable[..., StreamInfo]) -> None:
    class Full:
        def write(self, data: bytes) -> int:
            return 0

    with pytest.raises(OutputError, match="no more bytes"):
        StreamWriter(Full(), stream_info())


def test_chunks_come_out_of_a_pipe_as_they_are_written(
    static: StaticModel, stream_info: Callable[..., StreamInfo]
) -> None:
    """A live listener gets each chunk without waiting for the next one."""
    left, right = os.pipe()
    with os.fdopen(left, "rb") as source, os.fdopen(right, "wb", buffering=0) as sink:
        writer = StreamWriter(sink, stream_info(), static)
        chunks = StreamReader(source).chunks()
        for n in range(3):
            writer.write_chunk(np.full((2, 8), n))
            assert next(chunks).first_frame == 2 * n
        writer.close(0)
        sink.close()
        assert list(chunks) == []


# ---- cost ----


def test_framing_of_a_three_second_clip_is_at_most_64_bytes(
    make_stream: Callable[..., Made],
) -> None:
    for fields in (
        {},
        {"sample_rate": 96_000},
        {"seed": 99},
        {"noise_fill": False, "sample_rate": 48_000},
    ):
        data, _ = make_stream(70, **fields)
        reader = StreamReader(io.BytesIO(data))
        list(reader.chunks())
        assert reader.bytes.framing <= 64
    assert make_stream(70)[0][:7] in (b"\x89RVC\x01\x00\x1d", b"\x89RVC\x01\x01\x1d")


def test_framing_of_ten_minutes_is_at_most_2_percent_of_1500_bits_a_second(
    static: StaticModel, stream_info: Callable[..., StreamInfo]
) -> None:
    frames = round(600 * 48_000 / 2048)
    writer = StreamWriter(io.BytesIO(), stream_info(), static)
    rng = np.random.default_rng(0)
    for first in range(0, frames, 256):
        writer.write_chunk(rng.integers(-9, 9, (min(256, frames - first), 8), endpoint=True))
    writer.close(600 * 44_100)
    assert writer.bytes.framing <= 0.0125 * 600 * 1500 / 8
    assert writer.bytes.payload > 0


# ---- index ----


def test_only_many_chunks_get_an_index(
    make_stream: Callable[..., Made], subtests: pytest.Subtests
) -> None:
    for chunks in [0, 1, 8, 9, 40]:
        with subtests.test(chunks=chunks):
            data, _ = make_stream(*range(1, chunks + 1))
            index = find_index(io.BytesIO(data))
            if chunks <= 8:
                assert index is None
                assert b"RVCE" not in data
            else:
                read = [
                    IndexEntry(c.offset, c.first_frame, c.frames)
                    for c in StreamReader(io.BytesIO(data)).chunks()
                ]
                assert index == read


def test_seeking_gives_the_chunks_from_there(
    make_stream: Callable[..., Made], static: StaticModel
) -> None:
    data, expected = make_stream(*[3, 1, 4, 1, 5, 9, 2, 6, 5, 3])
    prefixed = io.BytesIO(b"x" * 77 + data)
    index = find_index(prefixed)
    assert index is not None
    prefixed.seek(77)
    reader = StreamReader(prefixed)
    for number in (7, 0, 9, 3):
        reader.seek(index[number])
        symbols = [reader.decode_chunk(chunk, static) for chunk in reader.chunks()]
        assert all(np.array_equal(a, b) for a, b in zip(symbols, expected[number:], strict=True))
        assert reader.total_samples == 39 * 2048 * 44_100 // 48_000


def test_a_wrong_entry_is_noticed(make_stream: Callable[..., Made]) -> None:
    data, _ = make_stream(*[2] * 9)
    index = find_index(io.BytesIO(data))
    assert index is not None
    reader = StreamReader(io.BytesIO(data))
    for entry in (
        IndexEntry(index[3].offset, 5, 2),
        IndexEntry(index[3].offset + 1, 6, 2),
        IndexEntry(9**9, 6, 2),
    ):
        reader.seek(entry)
        with pytest.raises(CorruptError):
            next(reader.chunks())


def test_a_damaged_index_is_no_index(make_stream: Callable[..., Made]) -> None:
    data, _ = make_stream(*[2] * 9)
    whole = find_index(io.BytesIO(data))
    at = len(data) - 12 - int.from_bytes(data[-12:-8], "little")
    for position in [*range(at, at + 30), *range(len(data) - 12, len(data))]:
        for bit in range(8):
            bad = bytearray(data)
            bad[position] ^= 1 << bit
            assert find_index(io.BytesIO(bytes(bad))) in (None, whole)
    for cut in range(len(data)):
        assert find_index(io.BytesIO(data[:cut])) is None


# ---- several streams ----


def test_concatenated_streams_are_read_one_by_one(
    make_stream: Callable[..., Made], static: StaticModel
) -> None:
    made = [make_stream(4), make_stream(*[2] * 9, seed=1), make_stream(), make_stream(3, seed=2)]
    data = b"".join(d for d, _ in made)
    readers = []
    for reader, (_, expected) in zip(streams(OneByte(data)), made, strict=True):
        symbols = [reader.decode_chunk(chunk, static) for chunk in reader.chunks()]
        assert all(np.array_equal(a, b) for a, b in zip(symbols, expected, strict=True))
        readers.append(reader)
    assert sum(r.bytes.total for r in readers) == len(data)


def test_a_second_stream_is_not_ignored(make_stream: Callable[..., Made]) -> None:
    data, _ = make_stream(4)
    with pytest.raises(FormatError, match=f"second stream begins at byte {len(data)}"):
        list(StreamReader(io.BytesIO(data + data)).chunks())
    with pytest.raises(UsageError, match="before the end"):
        list(streams(io.BytesIO(data + data)))


def test_bytes_behind_the_end_are_an_error(
    make_stream: Callable[..., Made], subtests: pytest.Subtests
) -> None:
    for tail in [b"\0", b"\x89", b"\x89RV", b"garbage", bytes(5000)]:
        with subtests.test(tail=tail):
            for frames in ((4,), (2,) * 9):
                data, _ = make_stream(*frames)
                with pytest.raises(CorruptError, match=f"at byte {len(data)}"):
                    list(StreamReader(io.BytesIO(data + tail)).chunks())


# ---- calls that make no sense ----


def test_calls_out_of_order(static: StaticModel, stream_info: Callable[..., StreamInfo]) -> None:
    writer = StreamWriter(io.BytesIO(), stream_info(), static)
    writer.write_meta({})
    with pytest.raises(UsageError, match="once"):
        writer.write_meta({})
    writer.write_chunk(np.zeros((1, 8), dtype=int))
    with pytest.raises(UsageError, match="before the first chunk"):
        writer.write_meta({})
    for total in (-1, writer.info.max_samples(1) + 1):
        with pytest.raises(UsageError, match="samples"):
            writer.close(total)
    writer.close(writer.info.max_samples(1))
    for call in (lambda: writer.close(0), lambda: writer.write_chunk(np.zeros((1, 8), dtype=int))):
        with pytest.raises(UsageError, match="closed"):
            call()


def test_bad_chunks_write_nothing(
    static: StaticModel, stream_info: Callable[..., StreamInfo]
) -> None:
    out = io.BytesIO()
    writer = StreamWriter(out, stream_info(), static)
    header = out.getvalue()
    for symbols in (
        np.zeros((0, 8), int),
        np.zeros((4097, 8), int),
        np.zeros((3, 9), int),
        np.zeros((3, 8)),
    ):
        with pytest.raises(UsageError):
            writer.write_chunk(symbols)
    with pytest.raises(UsageError, match="step index"):
        writer.write_chunk(np.zeros((3, 8), int), 513)
    with pytest.raises(InputError):
        writer.write_chunk(np.full((3, 8), 32_768))
    assert out.getvalue() == header


def test_info_that_the_header_cannot_hold(
    stream_info: Callable[..., StreamInfo], subtests: pytest.Subtests
) -> None:
    for fields in [
        {"sample_rate": 0},
        {"sample_rate": 768_001},
        {"channels": 0},
        {"channels": 9},
        {"hop": 0},
        {"dims": 1025},
        {"dims": -1},
        {"step_index": 513},
        {"seed": -1},
        {"seed": 2**32},
        {"model_rate": 0},
        {"minor": 3},
    ]:
        with subtests.test(fields=fields):
            with pytest.raises(UsageError, match=next(iter(fields))):
                StreamWriter(io.BytesIO(), stream_info(**fields))
            with pytest.raises(UsageError, match="model_id"):
                StreamWriter(io.BytesIO(), StreamInfo(b"short", 48_000, 2, 2048, 8))


def test_tables_must_cover_the_dims(
    static: StaticModel, stream_info: Callable[..., StreamInfo]
) -> None:
    with pytest.raises(ModelError, match="8 dims"):
        StreamWriter(io.BytesIO(), stream_info(dims=9), static)


def test_reading_with_the_wrong_tables_or_none(
    make_stream: Callable[..., Made], static: StaticModel
) -> None:
    data, _ = make_stream(20)
    reader = StreamReader(io.BytesIO(data))
    chunk = next(reader.chunks())
    assert chunk.profile == Profile.STATIC
    with pytest.raises(ModelError, match="none were given"):
        reader.decode_chunk(chunk, None)
    for dim in range(8):  # one dim's table one scale off is enough to be noticed
        scales = static.scales.copy()
        scales[dim] += 1
        with pytest.raises(CorruptError, match="frame 0"):
            reader.decode_chunk(chunk, StaticModel(static.shapes, scales))


def test_symbols_far_from_the_tables_are_coded_raw(
    static: StaticModel, stream_info: Callable[..., StreamInfo]
) -> None:
    out = io.BytesIO()
    writer = StreamWriter(out, stream_info(), static)
    symbols = np.full((50, 8), 30_000)
    writer.write_chunk(symbols)
    writer.close(0)
    reader, decoded = read_all(io.BytesIO(out.getvalue()), static)
    assert np.array_equal(decoded[0], symbols)
    assert reader.bytes.payload == 1 + 50 * 8 * 2


def test_text_and_non_blocking_files_are_refused() -> None:
    with pytest.raises(UsageError, match="str"):
        StreamReader(io.StringIO("abc"))  # type: ignore[arg-type]

    class Empty:
        name = "socket"

        def read(self, size: int) -> None:
            return None

    with pytest.raises(UsageError, match="socket"):
        StreamReader(Empty())


def test_what_is_no_stream(subtests: pytest.Subtests) -> None:
    for data, error in [
        (b"", TruncatedError),
        (b"\x89RV", TruncatedError),
        (b"RIFF1234WAVE", FormatError),
        (b"\x89PNG\r\n\x1a\n", FormatError),
        (b"\x89RVC\x02\x00\x20" + bytes(40), FormatError),
        (b"\x89RVC\x01\x00\x00" + bytes(40), CorruptError),
        (b"\x89RVC\x01\x00\xff" + bytes(40), TruncatedError),
    ]:
        with subtests.test(data=data, error=error):
            with pytest.raises(error) as caught:
                StreamReader(io.BytesIO(data))
            assert type(caught.value) is error
