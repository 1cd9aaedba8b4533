"""Symbols of a chunk to bytes and back, in both profiles."""

import itertools
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from ravecodec.bitstream import (
    Profile,
    decode_raw,
    decode_symbols,
    encode_raw,
    encode_symbols,
    ideal_code_length,
)
from ravecodec.bitstream.coder import PYTHON, best_coder
from ravecodec.bitstream.entropy import code_lengths, escape_bits, raw_size
from ravecodec.bitstream.limits import MAX_CHUNK_SYMBOLS, MAX_SYMBOL
from ravecodec.bitstream.tables import ROWS, SIGMAS, row_index, row_reach
from ravecodec.errors import CorruptError, InputError, UsageError

EXTREMES = st.sampled_from([0, 1, -1, MAX_SYMBOL, -MAX_SYMBOL])
SYMBOLS = hnp.arrays(
    np.int32,
    st.tuples(st.integers(0, 30), st.integers(0, 6)),
    elements=EXTREMES | st.integers(-5, 5) | st.integers(-MAX_SYMBOL, MAX_SYMBOL),
)


@given(SYMBOLS, st.data())
@settings(max_examples=200, deadline=None)
def test_static_round_trip_and_same_bytes_from_both_coders(
    symbols: np.ndarray, data: st.DataObject
) -> None:
    frames, dims = symbols.shape
    rows = data.draw(st.lists(st.integers(0, ROWS - 1), min_size=dims, max_size=dims))
    message = encode_symbols(symbols, rows)
    assert message == encode_symbols(symbols, rows, PYTHON)
    for coder in (best_coder(), PYTHON):
        decoded = decode_symbols(message, rows, frames, dims, coder)
        assert decoded.dtype == np.int32
        assert decoded.flags.c_contiguous
        assert np.array_equal(decoded, symbols)


@given(SYMBOLS)
@settings(max_examples=100, deadline=None)
def test_raw_round_trip(symbols: np.ndarray) -> None:
    data = encode_raw(symbols)
    assert len(data) == raw_size(symbols)
    assert np.array_equal(decode_raw(data, *symbols.shape), symbols)


@given(st.binary(max_size=60), st.integers(0, 12), st.integers(0, 4))
@settings(deadline=None)
def test_garbage_decodes_to_symbols_in_range_or_our_error(
    data: bytes, frames: int, dims: int
) -> None:
    rows = [int(row_index(4, 60))] * dims
    for decode in (
        lambda: decode_symbols(data, rows, frames, dims),
        lambda: decode_raw(data, frames, dims),
    ):
        try:
            symbols = decode()
        except CorruptError:
            continue
        assert symbols.shape == (frames, dims)
        assert np.abs(symbols).max(initial=0) <= MAX_SYMBOL


@given(st.binary(max_size=8), st.integers(0, 6))
def test_raw_has_one_encoding(data: bytes, count: int) -> None:
    try:
        symbols = decode_raw(data, count, 1)
    except CorruptError:
        return
    assert encode_raw(symbols) == data


def test_coded_size_is_within_half_a_percent_and_4_bytes_of_the_ideal(
    subtests: pytest.Subtests,
) -> None:
    for frames, shift in itertools.product([1, 7, 70, 256], [-24, -8, 0, 12, 30]):
        with subtests.test(frames=frames, shift=shift):
            rng = np.random.default_rng(frames)
            scales = np.linspace(72, 30, 32).astype(int) - shift
            symbols = np.round(
                rng.laplace(size=(frames, 32)) * SIGMAS[np.clip(scales, 0, 95)]
            ).astype(np.int32)
            rows = row_index(2, scales)
            ideal = ideal_code_length(symbols, rows) / 8
            assert ideal - 1 <= len(encode_symbols(symbols, rows)) <= 1.005 * ideal + 4


def test_code_lengths_count_every_bit_of_an_escape() -> None:
    for row in (0, int(row_index(1, 48)), int(row_index(2, 63)), int(row_index(4, 95))):
        reach = row_reach(row)
        inside = code_lengths([reach], row)[0]
        escape_index_cost = 24 - np.log2(float(_frequency_of_escape(row)))
        assert inside < 24.01
        for symbol in (reach + 1, -reach - 1, reach + 2, reach + 100, MAX_SYMBOL, -MAX_SYMBOL):
            expected = escape_index_cost + len(escape_bits(symbol, row))
            assert code_lengths([symbol], row)[0] == pytest.approx(expected)


def _frequency_of_escape(row: int) -> int:
    from ravecodec.bitstream.tables import frequencies

    return int(frequencies(row)[-1])


def test_escape_bits_as_specified() -> None:
    """Order 0 at scale 40, order 2 at scale 56: sign, zeros, prefix, low bits."""
    row = int(row_index(0, 40))
    assert escape_bits(5, row) == [0, 1]
    assert escape_bits(-6, row) == [1, 0, 1, 0]
    row = int(row_index(0, 56))
    assert row_reach(row) == 16
    # Excess 9 = 2 * 4 + 1: prefix 3 = "11", low "01".
    assert escape_bits(17 + 9, row) == [
        0,
        0,
        1,
        1,
        0,
        1,
    ]


@pytest.mark.parametrize("worst", [MAX_SYMBOL + 1, -MAX_SYMBOL - 1, 2**31 - 1, -(2**31)])
def test_symbols_beyond_the_range_are_refused_before_anything_is_coded(worst: int) -> None:
    symbols = np.array([[0, worst]], dtype=np.int64)
    with pytest.raises(InputError, match=str(worst)):
        encode_symbols(symbols, [0, 0])
    with pytest.raises(InputError, match=str(worst)):
        encode_raw(symbols)


def test_wrong_calls_are_usage_errors() -> None:
    for symbols, rows in (
        (np.zeros((3, 2)), [0, 0]),
        (np.zeros(3, dtype=int), [0]),
        (np.zeros((3, 2), dtype=int), [0]),
        (np.zeros((3, 2), dtype=int), [0, ROWS]),
        (np.zeros((3, 2), dtype=int), [0, -1]),
        (np.zeros((3, 1), dtype=int), [0.5]),
        (np.zeros((MAX_CHUNK_SYMBOLS + 1, 1), dtype=int), [0]),
    ):
        with pytest.raises(UsageError):
            encode_symbols(symbols, rows)


def test_impossible_messages_are_refused() -> None:
    rows = [0]
    with pytest.raises(CorruptError, match="zero byte"):
        decode_symbols(b"\1\0", rows, 3, 1)
    with pytest.raises(CorruptError, match="at most"):
        decode_symbols(b"", rows, MAX_CHUNK_SYMBOLS + 1, 1)
    with pytest.raises(CorruptError):
        decode_raw(b"\x10" + bytes(4), 2**40, 2**20)
    with pytest.raises(CorruptError):
        decode_raw(b"\x11" + bytes(17), 8, 1)


def test_endless_escapes_end() -> None:
    """An escape whose zeros never stop, and one to a symbol beyond the range, cannot come from an
    encoder.
    """
    row, escape = 0, 2 * row_reach(0) + 1
    for bits in ([0] * 20, [0] + [0] * 15 + [1] * 16):
        encoder = PYTHON.encoder()
        encoder.encode(np.array([escape], dtype=np.int32), row)
        encoder.encode(np.array(bits, dtype=np.int32), ROWS)
        data = encoder.finish()
        for coder in (PYTHON, best_coder()):
            with pytest.raises(CorruptError, match="escape"):
                decode_symbols(data, [row], 1, 1, coder)


def test_profile_numbers_are_frozen() -> None:
    assert {p.name: p.value for p in Profile} == {"RAW": 0, "STATIC": 1, "PREDICTED": 2}


def test_stdout_stays_clean() -> None:
    """constriction prints a warning there when a table is made the wrong way."""
    code = (
        "import numpy as np\n"
        "from ravecodec.bitstream import encode_symbols, decode_symbols\n"
        "q = np.arange(-20, 20, dtype=np.int32).reshape(10, 4)\n"
        "decode_symbols(encode_symbols(q, [300] * 4), [300] * 4, 10, 4)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
    assert (done.stdout, done.stderr) == (b"", b"")


def test_works_without_constriction_and_without_torch() -> None:
    code = (
        "import sys\n"
        "sys.modules['constriction'] = None\n"
        "sys.modules['torch'] = None\n"
        "import numpy as np\n"
        "from ravecodec.bitstream import encode_symbols\n"
        "from ravecodec.bitstream.coder import best_coder\n"
        "assert best_coder().name == 'python'\n"
        "sys.stdout.write(encode_symbols(np.arange(-20, 20, dtype=np.int32).reshape(10, 4), [300] "
        "* 4).hex())\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True)
    expected = encode_symbols(np.arange(-20, 20, dtype=np.int32).reshape(10, 4), [300] * 4)
    assert done.stdout == expected.hex()
