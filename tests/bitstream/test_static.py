"""The static model: fitted rows, and another step without another table."""

import numpy as np
import pytest

from ravecodec.bitstream import (
    SCALES,
    SIGMAS,
    StaticModel,
    fit_static,
    ideal_code_length,
    static_rows,
)
from ravecodec.bitstream.tables import row_index
from ravecodec.errors import ModelError, UsageError


def model(shapes: list[int], scales: list[int]) -> StaticModel:
    return StaticModel(np.array(shapes, dtype=np.uint8), np.array(scales, dtype=np.int16))


def sources(n: int, sigmas: np.ndarray) -> np.ndarray:
    """Gaussian and Laplace columns in turn, float [n, dims]."""
    rng = np.random.default_rng(5)
    columns = [
        rng.normal(size=n) if i % 2 else rng.laplace(size=n) / np.sqrt(2)
        for i in range(sigmas.size)
    ]
    return np.stack(columns, axis=1) * sigmas


def test_another_step_is_an_exact_shift() -> None:
    static = model([0, 1, 2], [40, 50, 60])
    assert static.rows(7).tolist() == row_index(np.arange(3), np.array([33, 43, 53])).tolist()
    assert np.array_equal(SIGMAS[:-8] * 2, SIGMAS[8:])


def test_rows_are_clamped_after_the_shift() -> None:
    static = model([0, 0], [200, -100])
    assert static.rows(0).tolist() == row_index(0, np.array([SCALES - 1, 0])).tolist()
    assert static.rows(150).tolist() == row_index(0, np.array([50, 0])).tolist()
    assert static.rows(-180).tolist() == row_index(0, np.array([95, 80])).tolist()


def test_fit_finds_shape_and_scale() -> None:
    scales = np.array([30, 35, 44, 51, 60, 67])
    static = fit_static(np.round(sources(40_000, SIGMAS[scales])).astype(np.int32))
    assert np.abs(static.scales - scales).max() <= 1
    assert static.shapes[2:].tolist() == [2, 0, 2, 0]


@pytest.mark.parametrize("step_index", [-16, 5, 24])
def test_a_model_fitted_at_one_step_serves_another(step_index: int) -> None:
    """Fitted where the step is fine, used at step_index: less than 1 % over the rows fitted right
    there.
    """
    values = sources(20_000, np.array([8.0, 6.0, 3.0, 2.0, 0.7, 0.5]))
    at = {g: np.round(values * 2 ** (-g / 8)).astype(np.int32) for g in (-16, step_index)}
    used = ideal_code_length(at[step_index], fit_static(at[-16], -16).rows(step_index))
    own = ideal_code_length(at[step_index], fit_static(at[step_index], step_index).rows(step_index))
    assert own <= used <= 1.01 * own


def test_fit_is_the_least_code_length_of_all_rows() -> None:
    symbols = np.random.default_rng(2).poisson(2, size=(300, 3)).astype(np.int32) - 1
    fitted = ideal_code_length(symbols, fit_static(symbols).rows(0))
    every = [
        sum(_cost(symbols[:, [d]], s, c) for d in range(3))
        for s in range(5)
        for c in range(0, 96, 3)
    ]
    assert fitted <= min(every)


def _cost(symbols: np.ndarray, shape: int, scale: int) -> float:
    return ideal_code_length(symbols, [int(row_index(shape, scale))])


def test_empty_fits() -> None:
    assert fit_static(np.zeros((10, 0), dtype=np.int32)).dims == 0
    assert fit_static(np.zeros((0, 4), dtype=np.int32)).dims == 4
    # The largest scale that costs least.
    assert fit_static(np.zeros((9, 1), dtype=np.int32), 4).scales[0] > 4


def test_models_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ModelError, match="2 dims, the stream codes 8"):
        model([0, 1], [3, 4]).rows(0, 8)
    with pytest.raises(ModelError, match="shape 5"):
        model([5], [3])
    with pytest.raises(ModelError, match="one entry per dim"):
        model([1, 2], [3])
    with pytest.raises(ModelError, match="uint8"):
        StaticModel(np.zeros(2, dtype=np.int64), np.zeros(2, dtype=np.int16))  # type: ignore[arg-type]
    with pytest.raises(UsageError):
        fit_static(np.zeros(7, dtype=np.int32))


def test_static_rows_does_not_overflow_its_small_types() -> None:
    rows = static_rows(np.array([4], dtype=np.uint8), np.array([-32768], dtype=np.int16), 512)
    assert rows.tolist() == [int(row_index(4, 0))]
