"""Metadata: plain JSON in, plain JSON out, and no bomb."""

import json
import tracemalloc

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from ravecodec.bitstream.limits import MAX_META
from ravecodec.bitstream.meta import decode_meta, encode_meta
from ravecodec.bitstream.varint import encode_uvarint
from ravecodec.errors import CorruptError, UsageError

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=False, allow_infinity=False)
    | TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
    max_leaves=12,
)


def body_of(text: bytes, size: int | None = None, **options: bool) -> bytes:
    """META body with this JSON, whatever it is."""
    frame = zstandard.ZstdCompressor(**options).compress(text)  # type: ignore[arg-type]
    return encode_uvarint(len(text) if size is None else size) + frame


@given(st.dictionaries(TEXT, JSON, max_size=5))
def test_round_trip(meta: dict[str, object]) -> None:
    assert decode_meta(encode_meta(meta), 0, "s") == meta


def test_key_order_does_not_change_the_bytes() -> None:
    assert encode_meta({"a": 1, "b": 2}) == encode_meta({"b": 2, "a": 1})


def test_what_is_not_json_is_not_written(subtests: pytest.Subtests) -> None:
    for meta in [{"x": float("nan")}, {"x": {1, 2}}, {"x": "\ud800"}, {"x": "y" * MAX_META}]:
        with subtests.test(meta=meta), pytest.raises(UsageError):
            encode_meta(meta)


def test_what_is_not_a_json_object_is_corrupt(subtests: pytest.Subtests) -> None:
    for text in [
        b"[1]",
        b"7",
        b"",
        b"{",
        b'{"a":NaN}',
        b'{"a":-Infinity}',
        b'{"a":"\\ud800"}',
        b"\xff\xfe{}",
        b'{"a":' * 50_000,
        b'{"a":1e999}',
        b'{"a":[-1e400]}',
        b'{"a":' * 600 + b"1" + b"}" * 600,
        b'{"a":' + b"[" * 64 + b"]" * 64 + b"}",
        b"[" * 200_000,
        b'{"a":' + b"9" * 5000 + b"}",
    ]:
        with subtests.test(text=text), pytest.raises(CorruptError, match="at byte 33"):
            decode_meta(body_of(text), 33, "s")


def test_sizes_must_agree() -> None:
    text = json.dumps({"a": "b" * 100}).encode()
    for body in (
        body_of(text, size=len(text) - 1),
        body_of(text, size=len(text) + 1),
        body_of(text, write_content_size=False),
        body_of(text)[:-1],
        body_of(text)[:3],
        b"",
    ):
        with pytest.raises(CorruptError):
            decode_meta(body, 0, "s")


def test_bombs_are_refused_without_being_inflated() -> None:
    """A gigabyte in 32 kB: with its true size, and with a small one declared beside a frame that
    has none.
    """
    compressor = zstandard.ZstdCompressor(level=3).compressobj(size=2**30)
    block = bytes(2**20)
    declared = b"".join(compressor.compress(block) for _ in range(2**10)) + compressor.flush()
    compressor = zstandard.ZstdCompressor(level=3).compressobj()
    silent = b"".join(compressor.compress(block) for _ in range(2**10)) + compressor.flush()
    tracemalloc.start()
    for size, frame in ((2**30, declared), (100, declared), (100, silent), (2**20, silent)):
        with pytest.raises(CorruptError):
            decode_meta(encode_uvarint(size) + frame, 0, "s")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2**24


def test_a_limit_below_the_formats_is_obeyed() -> None:
    body = encode_meta({"a": "b" * 100})
    with pytest.raises(CorruptError, match="limit 50"):
        decode_meta(body, 0, "s", maximum=50)


def test_a_frame_is_all_there_is_and_all_of_it_is_there() -> None:
    """SPEC 4.3: nothing behind the frame, no missing end, no window above 8 MiB."""
    good = body_of(b'{"a":"' + b"xyz" * 9000 + b'"}', write_checksum=True)
    assert decode_meta(good, 0, "s") == {"a": "xyz" * 9000}
    for bad in (good + b"\0", good + b"x" * 500, good[:-1], good[:-4], good[:-5], good + good[3:]):
        with pytest.raises(CorruptError):
            decode_meta(bad, 0, "s")
    for cut in range(len(good)):
        with pytest.raises(CorruptError):
            decode_meta(good[:cut], 0, "s")
    wide = bytearray(zstandard.ZstdCompressor(write_content_size=True).compress(b'{"a":1}'))
    assert wide[4] & 0xE0 == 0x20  # a single segment without a window of its own, one byte of size
    # RFC 8878, 3.1.1.1: 16 MiB.
    header = b"\x28\xb5\x2f\xfd" + bytes([0x80, 14 << 3]) + (7).to_bytes(4, "little")
    with pytest.raises(CorruptError, match="window"):
        decode_meta(encode_uvarint(7) + header + wide[6:], 0, "s")
    narrow = b"\x28\xb5\x2f\xfd" + bytes([0x80, 13 << 3]) + (7).to_bytes(4, "little")  # 8 MiB
    assert decode_meta(encode_uvarint(7) + narrow + wide[6:], 0, "s") == {"a": 1}
