"""The range coder: the specification's arithmetic in Python, and constriction doing the same
faster.
"""

import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ravecodec.bitstream import coder as coder_module
from ravecodec.bitstream.coder import PYTHON, Coder, best_coder, self_test
from ravecodec.bitstream.rangecoder import shortest_bytes
from ravecodec.bitstream.tables import COIN, ROWS, frequencies
from ravecodec.errors import CorruptError

fastcoder = pytest.importorskip("ravecodec.bitstream.fastcoder")
FAST = Coder("constriction", fastcoder.RangeEncoder, fastcoder.RangeDecoder)
Message = list[tuple[int, list[int]]]


@st.composite
def messages(draw: st.DrawFn) -> Message:
    """Runs of indices, likely, unlikely and extreme, over any rows."""
    message = []
    for _ in range(draw(st.integers(0, 6))):
        row = draw(st.integers(0, ROWS))
        last = len(frequencies(row)) - 1
        indices = st.sampled_from([0, last, last // 2, max(0, last - 1)]) | st.integers(0, last)
        message.append((row, draw(st.lists(indices, max_size=40))))
    return message


def encode(coder: Coder, message: Message) -> bytes:
    encoder = coder.encoder()
    for row, indices in message:
        encoder.encode(np.array(indices, dtype=np.int32), row)
    return encoder.finish()


def decode(coder: Coder, data: bytes, message: Message) -> Message | None:
    """The indices, or None for an impossible message."""
    decoder = coder.decoder(data)
    try:
        return [(row, decoder.decode(row, len(indices)).tolist()) for row, indices in message]
    except CorruptError:
        return None


@given(messages())
@settings(max_examples=300, deadline=None)
def test_both_coders_write_the_same_bytes_and_read_them_back(message: Message) -> None:
    data = encode(PYTHON, message)
    assert encode(FAST, message) == data
    assert not data.endswith(b"\0")
    for coder in (PYTHON, FAST):
        assert decode(coder, data, message) == message


@given(st.binary(max_size=40), messages())
@settings(max_examples=300, deadline=None)
def test_both_coders_agree_on_garbage(data: bytes, message: Message) -> None:
    """Wrong symbols or CorruptError, the same from both, and nothing else ever."""
    assert decode(PYTHON, data, message) == decode(FAST, data, message)


def test_single_indices_are_read_like_runs() -> None:
    bits = [1, 0, 0, 1, 1, 1, 0, 1]
    data = encode(PYTHON, [(COIN, bits)])
    for coder in (PYTHON, FAST):
        decoder = coder.decoder(data)
        assert [decoder.decode_bit(COIN) for _ in bits] == bits


def test_a_carry_runs_through_words_of_ones() -> None:
    """Fair bits 0111...: the interval ends just below one half; an unlikely last index then carries
    over all words.
    """
    row = 0
    last = len(frequencies(row)) - 1
    for ones in range(60, 140):
        message = [(COIN, [0] + [1] * ones), (row, [last] * 4)]
        data = encode(PYTHON, message)
        assert data == encode(FAST, message)
        assert decode(FAST, data, message) == message


@given(st.integers(0, 2**96), st.integers(1, 2**64 - 1))
def test_shortest_bytes_is_inside_and_nothing_shorter_is(low: int, width: int) -> None:
    size = 16
    data = shortest_bytes(low, width, size)
    assert low <= int.from_bytes(data.ljust(size, b"\0"), "big") < low + width
    if data:
        unit = 1 << 8 * (size - len(data) + 1)
        assert -(-low // unit) * unit >= low + width


def test_the_bytes_of_a_fixed_message_never_change() -> None:
    message = [(0, [4, 4, 3]), (1234, [2, 5, 1]), (COIN, [1, 0, 1, 1]), (4200, [30, 90])]
    for coder in (PYTHON, FAST):
        assert encode(coder, message).hex() == "00000b0177ce3a19ce"


def test_a_coder_that_writes_other_bytes_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    class Wrong(fastcoder.RangeEncoder):  # type: ignore[misc, name-defined]
        def finish(self) -> bytes:
            return bytes(super().finish()) + b"\1"

    assert self_test(FAST)
    assert not self_test(Coder("wrong", Wrong, fastcoder.RangeDecoder))
    monkeypatch.setattr(fastcoder, "RangeEncoder", Wrong)
    assert best_coder.__wrapped__() is PYTHON


def test_without_constriction_the_python_coder_serves(monkeypatch: pytest.MonkeyPatch) -> None:
    assert best_coder().name == "constriction"
    monkeypatch.delitem(sys.modules, "ravecodec.bitstream.fastcoder")
    monkeypatch.delattr(sys.modules["ravecodec.bitstream"], "fastcoder")
    monkeypatch.setitem(sys.modules, "constriction", None)
    assert coder_module.best_coder.__wrapped__() is PYTHON


def test_a_panic_becomes_our_error() -> None:
    class PanicException(BaseException):
        pass

    with pytest.raises(CorruptError, match="gave up"), fastcoder._own_errors():
        raise PanicException("boom")
    with pytest.raises(KeyboardInterrupt), fastcoder._own_errors():
        raise KeyboardInterrupt
