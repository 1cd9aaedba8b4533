"""Bad streams: every truncation, every flipped bit, lost and foreign chunks, hostile numbers.

The rule: a documented error or correct data; never another exception, a hang, an abort or a large
allocation.
"""

import io
import resource
import tracemalloc
import zlib
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ravecodec.bitstream import Chunk, Damage, Limits, StaticModel, StreamInfo, StreamReader
from ravecodec.bitstream import reader as reader_module
from ravecodec.bitstream.container import (
    SYNC,
    ChunkType,
    crc32_bytes,
    encode_audio,
    encode_chunk,
    encode_header,
    header_crc,
)
from ravecodec.bitstream.entropy import Profile
from ravecodec.bitstream.varint import encode_uvarint
from ravecodec.errors import CorruptError, FormatError, RavecodecError, TruncatedError

Made = tuple[bytes, list[Any]]


def decode(data: bytes, static: StaticModel) -> list[Any]:
    """All symbols, strictly."""
    reader = StreamReader(io.BytesIO(data))
    symbols = [reader.decode_chunk(chunk, static) for chunk in reader.chunks()]
    assert reader.total_samples is not None
    return symbols


def salvage(
    data: bytes, limits: Limits | None = None
) -> tuple[list[Chunk], list[Damage], StreamReader]:
    reader = StreamReader(io.BytesIO(data), limits)
    events = list(reader.chunks("skip"))
    return (
        [e for e in events if isinstance(e, Chunk)],
        [e for e in events if isinstance(e, Damage)],
        reader,
    )


def offsets(data: bytes) -> list[int]:
    """Offsets of the AUDIO chunks, then of END."""
    chunks = list(StreamReader(io.BytesIO(data)).chunks())
    return [c.offset for c in chunks] + [chunks[-1].offset + chunks[-1].size]


@pytest.fixture(scope="module", params=["three chunks", "meta and index"])
def made(request: pytest.FixtureRequest, make_stream: Callable[..., Made]) -> Made:
    if request.param == "three chunks":
        return make_stream(9, 8, 7)
    return make_stream(*[1] * 9, meta={"title": "x"})


@pytest.fixture
def one_gibibyte() -> Iterator[None]:
    """No more than 1 GiB of address space beyond what is mapped already: a huge allocation fails,
    or is the end of this process.
    """
    if not Path("/proc/self/statm").exists():
        yield
        return
    limits = resource.getrlimit(resource.RLIMIT_AS)
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + 2**30, limits[1]))
    yield
    resource.setrlimit(resource.RLIMIT_AS, limits)


def test_the_limit_of_memory_is_one(one_gibibyte: None) -> None:
    """So that the exhaustive tests, which run under it, would see what asks for too much."""
    if Path("/proc/self/statm").exists():
        with pytest.raises(MemoryError):
            np.ones(2**31, np.uint8)


@pytest.mark.usefixtures("one_gibibyte")
def test_every_truncation_is_noticed(made: Made, static: StaticModel) -> None:
    data, expected = made
    for cut in range(len(data)):
        with pytest.raises(TruncatedError):
            decode(data[:cut], static)
        if cut < 30:
            continue
        chunks, damage, reader = salvage(data[:cut])
        assert len(damage) == 1
        for chunk, symbols in zip(chunks, expected, strict=False):
            assert np.array_equal(reader.decode_chunk(chunk, static), symbols)
        assert sum(c.frames for c in chunks) == damage[0].first_frame


@pytest.mark.usefixtures("one_gibibyte")
def test_every_flipped_bit_is_noticed_and_stays_in_its_chunk(
    made: Made, static: StaticModel
) -> None:
    data, expected = made
    starts, header = offsets(data), data[6]
    for bit in range(8 * len(data)):
        bad = bytearray(data)
        bad[bit // 8] ^= 1 << bit % 8
        with pytest.raises((CorruptError, FormatError)):
            decode(bytes(bad), static)
        if bit // 8 < header:
            continue
        chunks, damage, reader = salvage(bytes(bad))
        # -1: META, len(expected): INDEX, END or trailer.
        hit = sum(start <= bit // 8 for start in starts) - 1
        intact = [n for n in range(len(expected)) if n != hit]
        assert len(chunks) == len(intact)
        for chunk, number in zip(chunks, intact, strict=True):
            assert np.array_equal(reader.decode_chunk(chunk, static), expected[number])
        assert len(damage) >= 1
        assert damage[0].offset <= bit // 8
        lost = len(expected[hit]) if 0 <= hit < len(expected) else 0
        assert damage[0].frames == lost or (damage[0].frames is None and hit == len(expected))


def test_random_bytes_and_overwritten_stretches(made: Made, static: StaticModel) -> None:
    data, _ = made
    rng = np.random.default_rng(3)
    for _ in range(300):
        bad = bytearray(data)
        start, length = rng.integers(0, len(data)), rng.integers(1, 60)
        bad[start : start + length] = rng.integers(0, 256, length, dtype=np.uint8).tobytes()
        with pytest.raises((CorruptError, FormatError)):
            decode(bytes(bad), static)
        if start >= data[6]:
            salvage(bytes(bad))
    for _ in range(300):
        with pytest.raises((CorruptError, FormatError)):
            decode(rng.integers(0, 256, 80, dtype=np.uint8).tobytes(), static)


# ---- chunks that are intact but do not belong ----


def pieces(data: bytes) -> list[bytes]:
    """Header, each AUDIO chunk, END."""
    cuts = [0, *offsets(data), len(data)]
    return [data[a:b] for a, b in pairwise(cuts)]


def test_lost_repeated_and_swapped_chunks(
    make_stream: Callable[..., Made], static: StaticModel
) -> None:
    header, a, b, c, end = pieces(make_stream(4, 5, 6)[0])
    for order, kept, gaps in (
        ([a, c, end], [0, 9], [(4, 5)]),
        ([b, c, end], [4, 9], [(0, 4)]),
        ([a, b, end], [0, 4], [(9, 6)]),
        ([a, a, b, c, end], [0, 4, 9], [(4, 0)]),
        ([a, c, b, end], [0, 9], [(4, 5), (15, 0)]),
        ([end], [], [(0, 15)]),
    ):
        data = header + b"".join(order)
        with pytest.raises(CorruptError, match="lost, repeated or misplaced"):
            decode(data, static)
        chunks, damage, reader = salvage(data)
        assert [chunk.first_frame for chunk in chunks] == kept
        assert [(d.first_frame, d.frames) for d in damage] == gaps
        assert reader.total_samples == 15 * 2048 * 44_100 // 48_000


def test_a_chunk_of_another_recording_is_noticed(
    make_stream: Callable[..., Made], static: StaticModel
) -> None:
    """Same header, same place, same number of frames, all CRCs of its own right: END's CRC over all
    tells.
    """
    header, a, _, c, end = pieces(make_stream(4, 5, 6)[0])
    foreign = pieces(make_stream(4, 5, 6, seed=1)[0])[2]
    with pytest.raises(CorruptError, match="CRC"):
        decode(header + a + foreign + c + end, static)


def test_an_inserted_ancillary_chunk_is_skipped_only_by_its_writers_leave(
    make_stream: Callable[..., Made], static: StaticModel
) -> None:
    """Unknown ancillary chunks are skipped, but END's CRC counts them: nobody adds one
    unnoticed.
    """
    header, a, end = pieces(make_stream(4)[0])
    extra = encode_chunk(0x41, 4, b"private")
    with pytest.raises(CorruptError, match="CRC"):
        decode(header + a + extra + end, static)
    chain = 0
    for piece in (header, a, extra):
        chain = zlib.crc32(piece[-4:], chain)
    own_end = encode_chunk(ChunkType.END, 4, end[7:-4], chain)
    assert len(decode(header + a + extra + own_end, static)) == 1


# ---- what a newer writer may do ----


def stream_of(*chunks: bytes, info: StreamInfo, total: int = 0) -> bytes:
    """Header, these chunks, END with the right CRC over all."""
    parts = [encode_header(info), *chunks]
    chain = 0
    for part in parts:
        chain = zlib.crc32(part[-4:], chain)
    return b"".join([*parts, encode_chunk(ChunkType.END, total, encode_uvarint(0), chain)])


@pytest.mark.parametrize("on_damage", ["raise", "skip"])
def test_unknown_critical_chunks_and_modes_need_a_newer_reader(
    on_damage: Any, stream_info: Callable[..., StreamInfo]
) -> None:
    info = stream_info()
    modes = [
        encode_chunk(ChunkType.AUDIO, 0, b"\1" + bytes([mode]) + bytes(9))
        for mode in (3, 15, 0x20, 0x81)
    ]
    for chunk in (encode_chunk(0x83, 0, b"new"), *modes):
        with pytest.raises(FormatError, match="newer reader"):
            list(StreamReader(io.BytesIO(stream_of(chunk, info=info))).chunks(on_damage))


def reheader(info: StreamInfo, change: Callable[[bytearray], None]) -> bytes:
    """A header with some bytes changed and its length and CRC made right again."""
    head = bytearray(encode_header(info)[:-4])
    change(head)
    head[6] = len(head) + 4
    return bytes(head) + crc32_bytes(bytes(head))


def test_header_extensions(stream_info: Callable[..., StreamInfo]) -> None:
    info = stream_info(seed=5, model_rate=44_100)

    def minor(head: bytearray) -> None:
        head[5] = 9
        head += b"more"

    def feature(head: bytearray) -> None:
        head[15] = 1

    def flag(head: bytearray) -> None:
        head[-5] |= 0x7E

    read = StreamReader(io.BytesIO(reheader(info, minor))).info
    assert read == StreamInfo(**{**vars(info), "minor": 9})
    assert StreamReader(io.BytesIO(reheader(info, flag))).info == info
    with pytest.raises(FormatError, match="features 0x1"):
        StreamReader(io.BytesIO(reheader(info, feature)))


# ---- hostile numbers ----


def repair(parts: list[bytearray]) -> bytes:
    """Make the CRCs of header, chunks and END right again."""
    parts[0][-4:] = crc32_bytes(bytes(parts[0][:-4]))
    chain = zlib.crc32(parts[0][-4:])
    for part in parts[1:]:
        is_end = part is parts[-1]
        part[-4:] = crc32_bytes(bytes(part[:-4]), chain if is_end else 0)
        chain = zlib.crc32(part[-4:], chain)
    return b"".join(parts)


def test_flipped_bits_with_repaired_crcs(
    make_stream: Callable[..., Made], static: StaticModel
) -> None:
    """What a fuzzer that knows the CRCs would do: the checks behind them are reached."""
    whole = pieces(make_stream(9, 8, meta={"title": "x"})[0])
    whole[0:1] = [whole[0][: whole[0][6]], whole[0][whole[0][6] :]]  # header, META
    outcomes = set()
    for number, part in enumerate(whole):
        for bit in range(8 * (len(part) - 4)):
            parts = [bytearray(p) for p in whole]
            parts[number][bit // 8] ^= 1 << bit % 8
            data = repair(parts)
            try:
                decode(data, static)
                outcomes.add("read")  # a field that only describes, such as the sample rate
                salvage(data)
            except RavecodecError as error:
                outcomes.add(type(error).__name__)
    assert outcomes == {"read", "CorruptError", "FormatError", "ModelError"}


def audio(info: StreamInfo, symbols: Any, payload: bytes = b"\1", position: int = 0) -> bytes:
    body = encode_audio(
        info, Profile.STATIC, info.step_index, np.asarray(symbols, dtype=np.int32), payload
    )
    return encode_chunk(ChunkType.AUDIO, position, body)


def raw_chunk(kind: int, position: bytes, length: bytes, body: bytes = b"") -> bytes:
    """A chunk with any header bytes, its CRCs right."""
    head = SYNC + bytes([kind]) + position + length
    data = head + header_crc(head) + body
    return data + crc32_bytes(data)


def bombs(info: StreamInfo) -> dict[str, bytes]:
    huge = b"\xff" * 5 + b"\x7f"
    crc = bytes(4)
    audio_body = {
        "frames": encode_uvarint(4097) + b"\1" + crc,
        "huge frames": b"\xff" * 8 + b"\x7f\1" + crc,
        "no frames": b"\0\1" + crc,
        "dims": b"\1\x11" + encode_uvarint(info.dims + 1) + b"\0" + crc,
        "huge dims": b"\1\x11" + b"\xff\xff\xff\xff\x7f\0" + crc,
        "huge step": b"\1\x11\1" + encode_uvarint(1025) + crc,
        "repeated parameters": b"\1\x11"
        + encode_uvarint(info.dims)
        + encode_uvarint(2 * info.step_index)
        + crc,
        "no symbol CRC": b"\1\1\0\0",
        "empty": b"",
    }
    made = {name: encode_chunk(ChunkType.AUDIO, 0, body) for name, body in audio_body.items()}
    return made | {
        "huge length": raw_chunk(ChunkType.AUDIO, b"\0", b"\xff\xff\xff\x7f"),
        "length above the limit": raw_chunk(ChunkType.AUDIO, b"\0", encode_uvarint(2**22 + 1)),
        "largest length": raw_chunk(ChunkType.AUDIO, b"\0", encode_uvarint(2**22)),
        "huge position": raw_chunk(ChunkType.AUDIO, huge, b"\0"),
        "padded length": raw_chunk(0x41, b"\0", b"\x80\x00"),
        "padded position": raw_chunk(0x41, b"\x80\x00", b"\0"),
        "END of too many samples": encode_chunk(ChunkType.END, 0, encode_uvarint(10**6)),
        "END with leftovers": encode_chunk(ChunkType.END, 0, b"\0\0"),
        "END without samples": encode_chunk(ChunkType.END, 0, b""),
        "INDEX of many": encode_chunk(ChunkType.INDEX, 0, b"\x1d" + b"\xff\xff\xff\xff\x0f"),
        "META of a gigabyte": encode_chunk(
            ChunkType.META, 0, encode_uvarint(2**30) + b"(\xb5/\xfd"
        ),
        "late META": audio(info, np.zeros((1, 8))) + encode_chunk(ChunkType.META, 1, b"\2{}"),
        "raw of the wrong size": encode_chunk(ChunkType.AUDIO, 0, b"\1\0" + crc + b"\x10"),
    }


def test_hostile_numbers_are_refused_without_allocating(
    stream_info: Callable[..., StreamInfo], static: StaticModel
) -> None:
    info = stream_info()
    for name, chunk in bombs(info).items():
        data = encode_header(info) + chunk + (bytes(50) if name == "largest length" else b"")
        tracemalloc.start()
        with pytest.raises(CorruptError):
            decode(data, static)
        with pytest.raises((CorruptError, FormatError)):
            decode(data + bytes(3000), static)
        salvage(data + bytes(3000))
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 2**21, name


def test_limits_are_obeyed(make_stream: Callable[..., Made]) -> None:
    data, _ = make_stream(20, 20, meta={"a": "b" * 50})
    for limits, match in (
        (Limits(dims=7), "dims"),
        (Limits(chunk_frames=19), "frames"),
        (Limits(chunk_symbols=159), "symbols"),
        (Limits(body=50), "length"),
        (Limits(meta=50), "metadata"),
        (Limits(seconds=1.7), "1.7 s"),
    ):
        with pytest.raises(CorruptError, match=match):
            list(StreamReader(io.BytesIO(data), limits).chunks())
    assert len(list(StreamReader(io.BytesIO(data), Limits(seconds=1.71)).chunks())) == 2


def test_false_chunks_cannot_make_the_search_quadratic(
    stream_info: Callable[..., StreamInfo], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Intact headers that claim megabytes, thousands of them: each would cost a CRC over what it
    claims.
    """
    monkeypatch.setattr(reader_module, "SEARCH_FREE", 2**18)
    fake = raw_chunk(ChunkType.AUDIO, b"\1", encode_uvarint(2**20))[:-4]
    data = encode_header(stream_info()) + fake * 150_000
    with pytest.raises(CorruptError, match="too many false chunks"):
        salvage(data)


def test_a_hole_of_zeros_is_searched_in_one_pass(make_stream: Callable[..., Made]) -> None:
    header, a, b, end = pieces(make_stream(4, 5)[0])
    chunks, damage, _ = salvage(header + a + bytes(3_000_000) + SYNC * 1000 + b + end)
    assert [c.first_frame for c in chunks] == [0, 4]
    assert [(d.first_frame, d.frames, d.size) for d in damage] == [(4, 0, 3_002_000)]


def test_salvage_without_end_says_that_the_length_is_unknown(
    make_stream: Callable[..., Made],
) -> None:
    *parts, _ = pieces(make_stream(4, 5)[0])
    chunks, damage, reader = salvage(b"".join(parts))
    assert [c.frames for c in chunks] == [4, 5]
    assert [(d.first_frame, d.frames) for d in damage] == [(9, None)]
    assert (reader.total_samples, reader.ended) == (None, True)


def test_errors_name_the_file_and_the_byte(
    make_stream: Callable[..., Made], tmp_path: Path
) -> None:
    data, _ = make_stream(4, 5)
    at = offsets(data)[1]
    bad = bytearray(data)
    bad[at + 12] ^= 4
    path = tmp_path / "song.rvc"
    path.write_bytes(bytes(bad))
    with (
        path.open("rb") as file,
        pytest.raises(RavecodecError, match=rf"song\.rvc.* byte {at} \(frame 4\)"),
    ):
        list(StreamReader(file).chunks())
