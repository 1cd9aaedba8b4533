"""Latents <-> symbols: error bounds, centroids, exact steps, and a fill that depends on (seed,
frame, axis) only.
"""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from ravecodec.bitstream import SHAPES, SIGMAS, fit_static
from ravecodec.bitstream.limits import MAX_SYMBOL
from ravecodec.errors import ModelError
from ravecodec.models.latent import LatentSpace, analyse
from ravecodec.models.package import Coding
from ravecodec.quantize import CENTROIDS, Quantizer, base_steps, centroids

LATENT = 12
Array = NDArray[np.float64]


def latents(frames: int = 3000, seed: int = 0) -> Array:
    random = np.random.default_rng(seed)
    mixing = np.linalg.qr(np.random.default_rng(99).normal(size=(LATENT, LATENT)))[0]
    return (random.laplace(size=(frames, LATENT)) * 2.0 ** -np.arange(LATENT)) @ mixing * 4 + 1


@pytest.fixture(scope="module")
def made() -> tuple[LatentSpace, Coding]:
    z = latents()
    space = analyse(z, np.full_like(z, 0.2))
    base = base_steps(space)
    static = fit_static(np.rint(space.project(z) / (base / 2)).astype(np.int32), -8)
    return space, Coding(base, static.shapes, static.scales, LATENT, 0, True)


def quantizer(
    made: tuple[LatentSpace, Coding], dims: int = LATENT, step_index: int = 0, fill: bool = True
) -> Quantizer:
    return Quantizer(*made, dims, step_index, fill)


def test_base_step_makes_the_noise_of_training(made: tuple[LatentSpace, Coding]) -> None:
    space, coding = made
    assert np.allclose(coding.base**2 / 12, space.spread**2)
    # a step far below the signal's spread: rounding noise is uniform.
    fine = quantizer(made, step_index=-16)
    y = space.project(latents())[:, 0]
    back = space.project(fine.latents(fine.symbols(latents())).astype(float))[:, 0]
    assert np.std(back - y) == pytest.approx(fine.step[0] / np.sqrt(12), rel=0.05)


def test_eight_step_indices_are_an_octave(
    made: tuple[LatentSpace, Coding], subtests: pytest.Subtests
) -> None:
    for step_index in [-127, -8, -1, 0, 1, 8, 33, 127]:
        with subtests.test(step_index=step_index):
            assert np.allclose(
                quantizer(made, step_index=step_index).step,
                made[1].base * 2 ** (step_index / 8),
                rtol=1e-15,
            )
            if step_index % 8 == 0:
                assert np.array_equal(
                    quantizer(made, step_index=step_index).step,
                    made[1].base * 2.0 ** (step_index // 8),
                )


def test_symbols_are_the_nearest_cells_and_come_back_within_them(
    made: tuple[LatentSpace, Coding], subtests: pytest.Subtests
) -> None:
    for step_index in [-16, -3, 0, 5, 16]:
        with subtests.test(step_index=step_index):
            coder = quantizer(made, step_index=step_index)
            z = latents(500, seed=1)
            symbols = coder.symbols(z)
            assert symbols.dtype == np.int32 and symbols.shape == (500, LATENT)
            y = made[0].project(z) / coder.step
            assert np.abs(y - symbols).max() <= 0.5 + 1e-9
            back = made[0].project(coder.latents(symbols).astype(float)) / coder.step
            assert np.abs(back - symbols).max() <= 0.5 + 1e-3  # float32 latents
            assert np.abs(back - y).max() <= 1 + 1e-3
            assert (
                np.array_equal(coder.symbols(coder.latents(symbols).astype(float)), symbols)
                or step_index < 0
            )


def test_centroids_beat_the_middles_of_cells(made: tuple[LatentSpace, Coding]) -> None:
    coder = quantizer(made, step_index=4)
    z = latents(4000, seed=2)
    y, symbols = made[0].project(z), coder.symbols(z)
    with_centroids = np.mean((made[0].project(coder.latents(symbols).astype(float)) - y) ** 2)
    with_middles = np.mean((symbols * coder.step - y) ** 2)
    assert with_centroids < with_middles


def test_centroids_lie_in_their_cells_on_the_side_of_zero(subtests: pytest.Subtests) -> None:
    for shape in SHAPES:
        with subtests.test(shape=shape):
            q = np.arange(1, CENTROIDS + 1)
            for sigma in SIGMAS:
                values = centroids(shape, float(sigma))
                assert values.shape == (CENTROIDS + 1,)
                assert values[0] == 0
                assert (values[1:] >= q - 0.5).all() and (values[1:] <= q).all(), (shape, sigma)
                assert (np.diff(values) > 0).all()


def test_centroids_shrink_more_where_the_density_falls_faster(subtests: pytest.Subtests) -> None:
    for shape in SHAPES:
        with subtests.test(shape=shape):
            firsts = [centroids(shape, float(sigma))[1] for sigma in SIGMAS]
            assert (np.diff(firsts) >= -1e-12).all()
            assert firsts[-1] == pytest.approx(1, abs=0.03)


def test_centroids_are_conditional_means() -> None:
    random = np.random.default_rng(0)
    for shape, drawn in (
        ("gaussian", random.normal(size=400_000)),
        ("laplace", random.laplace(size=400_000) / 2**0.5),
    ):
        values = centroids(shape, 1.0)
        for q in (1, 2):
            cell = drawn[np.rint(drawn) == q]
            assert cell.mean() == pytest.approx(values[q], abs=0.01)


def test_symmetry(made: tuple[LatentSpace, Coding]) -> None:
    coder = quantizer(made, step_index=3, fill=False)
    symbols = np.random.default_rng(0).integers(-50, 51, (100, LATENT)).astype(np.int32)
    plus, minus = (made[0].project(coder.latents(s).astype(float)) for s in (symbols, -symbols))
    assert np.allclose(plus, -minus, atol=1e-3)


def test_far_symbols_come_back_at_the_middle_and_are_limited(
    made: tuple[LatentSpace, Coding],
) -> None:
    coder = quantizer(made, dims=1)
    symbols = np.array([[CENTROIDS + 1], [-1000], [MAX_SYMBOL]], dtype=np.int32)
    back = made[0].project(coder.latents(symbols).astype(float))[:, :1] / coder.step
    assert np.allclose(back, symbols, rtol=1e-5)
    huge = made[0].unproject(np.eye(LATENT)[:1] * 1e12)
    assert coder.symbols(np.concatenate([huge, 2 * made[0].mean - huge])).tolist() == [
        [MAX_SYMBOL],
        [-MAX_SYMBOL],
    ]


def test_nan_and_infinity_are_refused(
    made: tuple[LatentSpace, Coding], subtests: pytest.Subtests
) -> None:
    for value in [np.nan, np.inf, -np.inf]:
        with subtests.test(value=value):
            z = latents(5)
            z[2, 3] = value
            with pytest.raises(ModelError, match="NaN or infinity"):
                quantizer(made).symbols(z)


@pytest.mark.parametrize("dims", [-1, LATENT + 1])
def test_dims_out_of_range_are_refused(made: tuple[LatentSpace, Coding], dims: int) -> None:
    with pytest.raises(ModelError, match=f"to {LATENT}"):
        quantizer(made, dims=dims)


@settings(max_examples=30, deadline=None)
@given(
    st.integers(1, LATENT - 1), st.integers(0, 40), st.integers(0, 2**32 - 1), st.integers(0, 10**6)
)
def test_fill_depends_on_seed_frame_and_axis_only(
    dims: int, cut: int, seed: int, first: int
) -> None:
    z = latents(200)
    space = analyse(z, np.full_like(z, 0.2))
    coding = Coding(
        base_steps(space),
        np.zeros(LATENT, np.uint8),
        np.full(LATENT, 40, np.int16),
        LATENT,
        0,
        True,
    )
    symbols = np.zeros((40, dims), np.int32)
    coder = Quantizer(space, coding, dims, 0, True)
    whole = coder.latents(symbols, first, seed)
    parts = [
        coder.latents(symbols[:cut], first, seed),
        coder.latents(symbols[cut:], first + cut, seed),
    ]
    assert np.array_equal(np.concatenate(parts), whole)
    other_step = Quantizer(space, coding, dims, 7, True).latents(symbols, first, seed)
    assert np.array_equal(other_step, whole)  # symbols are 0: only the fill is heard
    fewer = space.project(
        Quantizer(space, coding, 1, 0, True).latents(symbols[:, :1], first, seed).astype(float)
    )
    assert np.allclose(fewer[:, dims:], space.project(whole.astype(float))[:, dims:], atol=1e-4)


def test_fill_has_the_deviation_of_the_prior(made: tuple[LatentSpace, Coding]) -> None:
    coder = quantizer(made, dims=2)
    y = made[0].project(coder.latents(np.zeros((20_000, 2), np.int32), 5, 3).astype(float))
    assert np.abs(y[:, :2]).max() < 1e-4
    assert np.allclose(y[:, 2:].std(axis=0), made[0].prior[2:], rtol=0.03)
    assert np.abs(np.corrcoef(y[:, 2:].T) - np.eye(LATENT - 2)).max() < 0.05


def test_without_fill_cropped_axes_are_zero(made: tuple[LatentSpace, Coding]) -> None:
    y = made[0].project(
        quantizer(made, dims=2, fill=False).latents(np.ones((7, 2), np.int32), 5, 3).astype(float)
    )
    assert np.abs(y[:, 2:]).max() < 1e-5


def test_no_frames(made: tuple[LatentSpace, Coding]) -> None:
    coder = quantizer(made, dims=3)
    assert coder.symbols(np.zeros((0, LATENT))).shape == (0, 3)
    assert coder.latents(np.zeros((0, 3), np.int32)).shape == (0, LATENT)
