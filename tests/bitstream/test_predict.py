"""The predicted profile: exact both ways, on both coders; what it refuses; and that fitting finds
what is there.
"""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ravecodec.bitstream import Predictor, StaticModel, fit_predictor, fit_static
from ravecodec.bitstream.coder import PYTHON, best_coder
from ravecodec.bitstream.entropy import encode_symbols, ideal_code_length
from ravecodec.bitstream.predict import (
    decode_predicted,
    encode_predicted,
    expected,
    predicted_code_lengths,
)
from ravecodec.errors import CorruptError, ModelError


def predictor(weights: list[list[int]], shapes: list[int], scales: list[int]) -> Predictor:
    return Predictor(
        np.array(weights, np.int16).reshape(-1, 2),
        np.array(shapes, np.uint8),
        np.array(scales, np.int16),
    )


def following(frames: int, dims: int, seed: int = 0) -> np.ndarray:
    """Symbols of which each is two thirds of the one before it, and noise: int32 [frames, dims]."""
    rng = np.random.default_rng(seed)
    values = np.zeros((frames + 1, dims))
    for frame in range(1, frames + 1):
        values[frame] = (
            0.66 * values[frame - 1] + rng.standard_normal(dims) * 2.0 ** -np.arange(dims) * 8
        )
    return np.rint(values[1:]).astype(np.int32)


@given(st.data())
@settings(max_examples=150, deadline=None)
def test_round_trip_and_the_same_bytes_from_both_coders(data: st.DataObject) -> None:
    dims, frames = data.draw(st.integers(0, 6)), data.draw(st.integers(1, 12))

    def number(low: int, high: int) -> list[int]:
        return data.draw(st.lists(st.integers(low, high), min_size=dims, max_size=dims))

    weights = list(zip(number(-32768, 32767), number(-5000, 5000), strict=True))
    found = predictor(weights, number(0, 4), number(-600, 600))
    step = data.draw(st.integers(-512, 512))
    spread = data.draw(st.sampled_from([1, 5, 60, 4000]))
    symbols = np.random.default_rng(data.draw(st.integers(0, 99))).integers(
        -spread, spread + 1, (frames, dims)
    )
    message = encode_predicted(symbols, found, step)
    assert message == encode_predicted(symbols, found, step, PYTHON)
    if message is None:
        return
    for coder in (best_coder(), PYTHON):
        assert np.array_equal(decode_predicted(message, found, step, frames, dims, coder), symbols)


@given(st.binary(max_size=40), st.integers(0, 5))
@settings(max_examples=150, deadline=None)
def test_garbage_decodes_to_symbols_or_is_refused(message: bytes, seed: int) -> None:
    found = predictor([[3000, 300], [-32768, 32767], [32767, 32767]], [0, 2, 4], [50, 20, 90])
    for coder in (best_coder(), PYTHON):
        try:
            symbols = decode_predicted(message, found, seed - 3, 9, 3, coder)
        except CorruptError:
            continue
        assert np.abs(symbols).max() <= 32767


def test_a_chunk_needs_nothing_from_before_it() -> None:
    symbols = following(30, 4)
    found = fit_predictor([symbols])
    message = encode_predicted(symbols[10:], found, 0)
    assert message is not None
    assert np.array_equal(decode_predicted(message, found, 0, 20, 4), symbols[10:])
    assert (expected(found, symbols[10:])[0] == 0).all()


def test_code_lengths_are_those_of_the_message() -> None:
    symbols = following(400, 5)
    found = fit_predictor([symbols], 0)
    for step in (-3, 0, 6):
        message = encode_predicted(symbols, found, step)
        assert message is not None
        ideal = predicted_code_lengths(symbols, found, step).sum() / 8
        assert ideal - 1 <= len(message) <= 1.005 * ideal + 4


def test_prediction_saves_what_theory_says() -> None:
    """Of a process with correlation 0.66: half a log2 of 1 - 0.66^2, 0.41 bits a symbol where
    symbols are large.
    """
    train, test = following(20_000, 3), following(20_000, 3, seed=1)
    found, static = fit_predictor([train]), fit_static(train)
    before = [
        ideal_code_length(test[:, [dim]], static.rows(0)[[dim]]) / len(test) for dim in range(3)
    ]
    saved = np.array(before) - predicted_code_lengths(test, found, 0).mean(0)
    assert saved[0] == pytest.approx(-0.5 * np.log2(1 - 0.66**2), abs=0.05)
    assert (saved > 0.25).all()
    assert found.weights[0, 0] / 4096 == pytest.approx(0.66, abs=0.03)
    assert abs(found.weights[0, 1]) / 4096 < 0.04


def test_a_fit_at_a_fine_step_serves_coarser_ones() -> None:
    fine = 8 * following(12_000, 4) + np.random.default_rng(2).integers(-4, 5, (12_000, 4)).astype(
        np.int32
    )
    found, static = fit_predictor([fine], -24), fit_static(fine, -24)
    for step in (-24, -8, 0):
        symbols = np.rint(fine / 2 ** ((step + 24) / 8)).astype(np.int32)
        predicted = encode_predicted(symbols, found, step)
        assert predicted is not None
        assert len(predicted) < 0.96 * len(encode_symbols(symbols, static.rows(step)))


def test_runs_are_not_predicted_from_each_other() -> None:
    """Two frames that differ in every run: if a run looked back into the one before it, the weights
    would show it.
    """
    rng = np.random.default_rng(3)
    runs = [np.rint(np.full((3, 1), 50) * rng.choice([-1, 1])).astype(np.int32) for _ in range(400)]
    found = fit_predictor(runs)
    assert found.weights[0].sum() / 4096 == pytest.approx(1, abs=0.02)
    assert fit_predictor([np.zeros((1, 2), np.int32)]).weights.tolist() == [[0, 0], [0, 0]]


def test_arrays_that_do_not_fit() -> None:
    with pytest.raises(ModelError, match="shapes"):
        predictor([[1, 2]], [0, 0], [40, 40])
    with pytest.raises(ModelError, match="int16"):
        Predictor(np.zeros((1, 2), np.int32), np.zeros(1, np.uint8), np.zeros(1, np.int16))  # type: ignore[arg-type]
    with pytest.raises(ModelError, match="shape 5"):
        predictor([[1, 2]], [5], [40])
    with pytest.raises(ModelError, match="2 dims, expected 1"):
        StaticModel(
            np.zeros(1, np.uint8),
            np.zeros(1, np.int16),
            predictor([[0, 0], [0, 0]], [0, 0], [0, 0]),
        )
    with pytest.raises(ModelError, match="predicts 1 dims"):
        predictor([[1, 2]], [0], [40]).rows(0, 2)


def test_payloads_that_no_encoder_writes() -> None:
    found = predictor([[0, 0]], [0], [40])
    with pytest.raises(CorruptError, match="zero byte"):
        decode_predicted(b"\1\0", found, 0, 3, 1)
    with pytest.raises(CorruptError, match="at most"):
        decode_predicted(b"", found, 0, 2**20 + 1, 1)
    # Eight times the past, and eight times what was before.
    pushed = predictor([[32767, 32767]], [0], [40])
    symbols = np.array([[4000], [32767]], dtype=np.int32)
    assert encode_predicted(symbols, pushed, 0) is not None
    assert encode_predicted(np.array([[32767], [-32767]], dtype=np.int32), pushed, 0) is None
    beyond = encode_predicted(
        np.array([[10_000], [0]], dtype=np.int32), predictor([[0, 0]], [0], [40]), 0
    )
    assert beyond is not None
    with pytest.raises(CorruptError, match="beyond 32767"):
        decode_predicted(beyond, pushed, 0, 2, 1)
