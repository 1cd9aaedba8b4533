"""Variable-length integers: one value, one byte string, nothing unbounded."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ravecodec.bitstream.varint import Cursor, encode_svarint, encode_uvarint
from ravecodec.errors import CorruptError, TruncatedError

UNLIMITED = 2**63 - 1


@given(st.integers(0, UNLIMITED))
def test_uvarint_round_trip(value: int) -> None:
    data = encode_uvarint(value)
    cursor = Cursor(data + b"\xff", 0, "s")
    assert cursor.uvarint(UNLIMITED, "x") == value
    assert cursor.pos == len(data) == max(1, -(-value.bit_length() // 7))


@given(st.integers(-(2**40), 2**40))
def test_svarint_round_trip(value: int) -> None:
    assert Cursor(encode_svarint(value), 0, "s").svarint(2**40, "x") == value


def test_svarint_counts_outwards_from_zero() -> None:
    assert [encode_svarint(v)[0] for v in (0, -1, 1, -2, 2)] == [0, 1, 2, 3, 4]


@given(st.binary(min_size=1, max_size=8))
def test_only_the_shortest_form_is_read(data: bytes) -> None:
    cursor = Cursor(data, 0, "s")
    try:
        value = cursor.uvarint(UNLIMITED, "x")
    except CorruptError:
        return
    assert encode_uvarint(value) == data[: cursor.pos]


def test_padded_and_endless_forms_are_refused(subtests: pytest.Subtests) -> None:
    for data in [b"\x80\x00", b"\xff\x80\x00", b"\x80" * 12 + b"\x01", b"\xff" * 30]:
        with subtests.test(data=data), pytest.raises(CorruptError, match="at byte 40"):
            Cursor(data, 40, "s").uvarint(UNLIMITED, "x")


@given(st.integers(0, 2**20), st.integers(0, 2**20))
def test_the_maximum_is_exact(value: int, maximum: int) -> None:
    cursor = Cursor(encode_uvarint(value), 0, "s")
    if value <= maximum:
        assert cursor.uvarint(maximum, "x") == value
    else:
        with pytest.raises(CorruptError, match=r"limit|overlong"):
            cursor.uvarint(maximum, "x")


def test_running_out_is_truncation_only_where_the_stream_is_open() -> None:
    with pytest.raises(TruncatedError):
        Cursor(b"\x80", 0, "s", open_ended=True).uvarint(300, "x")
    with pytest.raises(CorruptError) as caught:
        Cursor(b"\x80", 0, "s").uvarint(300, "x")
    assert not isinstance(caught.value, TruncatedError)


def test_leftovers_are_refused() -> None:
    cursor = Cursor(b"ab", 7, "s")
    cursor.u8("x")
    with pytest.raises(CorruptError, match="1 bytes left over after x at byte 8"):
        cursor.end("x")
