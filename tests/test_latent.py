"""The latent space: r_f in every corner, coordinates that come back, reproducible axes, and refusal
of nonsense.
"""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from ravecodec.errors import ModelError
from ravecodec.models.latent import CONVENTIONS, NEGLIGIBLE, LatentSpace, analyse

Array = NDArray[np.float64]


def space(deviation: list[float]) -> LatentSpace:
    """A latent space with these standard deviations, in trivial coordinates."""
    sigma = np.array(deviation, dtype=np.float64)
    eye = np.eye(len(sigma))
    return LatentSpace(np.zeros(len(sigma)), eye, eye, sigma, np.ones(len(sigma)), 100)


def data(frames: int = 500, latent: int = 6, seed: int = 0) -> tuple[Array, Array]:
    """Correlated means with a falling spectrum and an offset; spreads that differ by dimension and
    frame.
    """
    random = np.random.default_rng(seed)
    mixing = random.normal(size=(latent, latent)) * 2.0 ** -np.arange(latent)[:, None]
    means = random.normal(size=(frames, latent)) @ mixing + random.normal(size=latent)
    spreads = (0.1 + random.random((frames, latent))) * np.linspace(0.2, 1, latent)
    return means, spreads


@pytest.mark.parametrize("convention", CONVENTIONS)
def test_r_f_at_zero_and_one(convention: str) -> None:
    latent = space([4, 2, 1, 1e-3])
    assert latent.dims_for(0, convention) == 1
    assert latent.dims_for(1, convention) == 4
    assert latent.fidelity(4, convention) == 1
    assert latent.fidelity(0, convention) == 0


def test_r_f_by_hand(subtests: pytest.Subtests) -> None:
    for fidelity, singular, variance in [
        (0.5, 1, 1),
        (0.6, 2, 1),
        (0.75, 2, 1),
        (0.9, 3, 2),
        (0.99, 4, 4),
        (1, 4, 4),
    ]:
        with subtests.test(fidelity=fidelity, singular=singular, variance=variance):
            latent = space(
                [4, 2, 1, 0.5]
            )  # shares 0.533 0.8 0.933 1, of squares 0.753 0.941 0.988 1
            assert latent.dims_for(fidelity, "singular") == singular
            assert latent.dims_for(fidelity, "variance") == variance


def test_ties_need_no_further_axis(subtests: pytest.Subtests) -> None:
    """r of n equal axes are a fidelity of exactly r / n, whatever floating point makes of it."""
    for size, convention in itertools.product([4, 7, 10, 100, 128], CONVENTIONS):
        with subtests.test(size=size, convention=convention):
            latent = space([0.3] * size)
            for r in range(1, size + 1):
                assert latent.dims_for(r / size, convention) == r


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.floats(0, 1e3), min_size=1, max_size=20),
    st.floats(0, 1),
    st.floats(0, 1),
    st.sampled_from(CONVENTIONS),
)
def test_r_f_is_the_smallest_that_suffices_and_monotone(
    deviation: list[float], f: float, g: float, convention: str
) -> None:
    latent = space(sorted(deviation, reverse=True))
    r = latent.dims_for(f, convention)
    assert 1 <= r <= len(deviation)
    assert latent.fidelity(r, convention) >= f - 1e-9
    if r > 1:
        assert latent.fidelity(r - 1, convention) < f
    low, high = sorted((f, g))
    assert latent.dims_for(low, convention) <= latent.dims_for(high, convention)


def test_collapsed_axes_are_never_counted() -> None:
    latent = space([2, 1, 1e-12, 0])
    assert [latent.dims_for(1, c) for c in CONVENTIONS] == [2, 2]
    nothing = space([0, 0, 0])
    assert [nothing.dims_for(f) for f in (0, 0.5, 1)] == [1, 1, 1]
    assert nothing.fidelity(1) == 1


def test_fidelity_out_of_range_is_refused(subtests: pytest.Subtests) -> None:
    for fidelity in [-0.1, 1.0001, float("nan"), float("inf")]:
        with subtests.test(fidelity=fidelity), pytest.raises(ModelError, match="expected 0 to 1"):
            space([1.0]).dims_for(fidelity)


def test_unknown_convention_is_refused() -> None:
    with pytest.raises(ModelError, match="expected one of"):
        space([1.0]).dims_for(0.5, "energy")


def test_coordinates_come_back(subtests: pytest.Subtests) -> None:
    for whiten, frames in itertools.product([True, False], [1, 2, 3, 6, 500]):
        with subtests.test(whiten=whiten, frames=frames):
            latent = analyse(*data(frames), whiten)
            z = np.random.default_rng(1).normal(size=(4, 9, 6)) * 10
            assert np.allclose(latent.unproject(latent.project(z)), z, atol=1e-9)
            assert np.allclose(latent.project(latent.unproject(z)), z, atol=1e-9)
            assert np.allclose(latent.project(latent.mean), 0, atol=1e-12)
            assert latent.frames == frames


@pytest.mark.parametrize("whiten", [True, False])
def test_axes_are_what_they_say(whiten: bool) -> None:
    means, spreads = data()
    latent = analyse(means, spreads, whiten)
    y = latent.project(means)
    covariance = y.T @ y / len(y)
    assert np.allclose(np.sqrt(np.diag(covariance)), latent.deviation)
    # Decorrelated.
    assert np.abs(covariance - np.diag(np.diag(covariance))).max() < 1e-9 * covariance.max()
    assert (np.diff(latent.deviation) <= 0).all()
    noise = np.random.default_rng(2).normal(size=(400, *spreads.shape)) * spreads
    measured = np.sqrt(np.mean((noise @ latent.analysis.T) ** 2, axis=(0, 1)))
    assert np.allclose(measured, latent.spread, rtol=0.02)
    assert np.allclose(latent.prior**2, latent.deviation**2 + latent.spread**2)


@pytest.mark.parametrize("whiten", [True, False])
def test_what_is_usual(whiten: bool) -> None:
    """1 on average over the training data, of which one frame in a hundred is unusual: too far out
    or too near.
    """
    means, spreads = data(4000)
    latent = analyse(means, spreads, whiten)
    y = latent.project(means)
    assert latent.distance(y).mean() == pytest.approx(1)
    assert latent.unusual(y).mean() == pytest.approx(0.01, abs=1e-3)
    assert latent.unusual(10 * y).mean() > 0.9
    assert latent.unusual(np.zeros((2, 3, 6))).all()
    assert latent.distance(y[7]) == pytest.approx(latent.distance(y)[7])
    assert not analyse(*data(1)).unusual(np.zeros((1, 6))).any()


def test_whitening_makes_the_noise_the_unit() -> None:
    latent = analyse(*data(), whiten=True)
    assert np.allclose(latent.spread, 1)


def test_without_whitening_the_basis_is_orthonormal_and_the_paper_s() -> None:
    means, spreads = data()
    latent = analyse(means, spreads, whiten=False)
    assert np.allclose(latent.analysis @ latent.analysis.T, np.eye(6), atol=1e-12)
    sigma = np.linalg.svd(means - means.mean(0), compute_uv=False)
    assert np.allclose(latent.deviation, sigma / np.sqrt(len(means)))


@pytest.mark.parametrize("whiten", [True, False])
def test_signs_are_fixed(whiten: bool) -> None:
    means, spreads = data()
    first, again, mirrored = (analyse(m, spreads, whiten) for m in (means, means[::-1], -means))
    assert np.allclose(first.analysis, again.analysis, atol=1e-9)
    assert np.allclose(first.analysis, mirrored.analysis, atol=1e-9)
    unit = np.sqrt(np.mean(spreads**2, axis=0)) if whiten else np.ones(6)
    rotation = first.analysis * unit
    assert (rotation[np.arange(6), np.abs(rotation).argmax(1)] > 0).all()


def correlations(latent: LatentSpace, means: Array, level: Array) -> Array:
    """Of each axis with the level."""
    return np.array([np.corrcoef(y, level)[0, 1] for y in latent.project(means).T])


def test_louder_is_positive(subtests: pytest.Subtests) -> None:
    """Whatever the largest entry of a direction is, and whatever signs the encoder's latents have;
    nothing else changes."""
    random = np.random.default_rng(3)
    turned = 0
    for whiten, seed in itertools.product([True, False], range(8)):
        with subtests.test(whiten=whiten, seed=seed):
            means, spreads = data(seed=seed)
            level = means @ random.normal(size=6) + random.normal(size=500) - 30
            plain, loud = analyse(means, spreads, whiten), analyse(means, spreads, whiten, level)
            before, after = correlations(plain, means, level), correlations(loud, means, level)
            clear = np.abs(before) > NEGLIGIBLE
            assert clear.any()
            assert np.allclose(after, np.where(clear, np.abs(before), before))
            assert np.allclose(loud.analysis @ loud.synthesis, np.eye(6), atol=1e-9)
            for name in ("mean", "deviation", "spread", "usual", "frames"):
                assert np.array_equal(getattr(loud, name), getattr(plain, name)), name
            signs = random.choice([-1, 1], 6)
            mirrored = analyse(signs * means, spreads, whiten, level)
            one, other = loud.project(means), mirrored.project(signs * means)
            assert np.allclose(one[:, clear], other[:, clear], atol=1e-6)
            turned += (before[clear] < 0).sum()
    assert turned > 20


def test_an_axis_that_has_nothing_to_do_with_the_level_keeps_its_sign(
    subtests: pytest.Subtests,
) -> None:
    means, spreads = data()
    means[:, 2] = 0.7  # the last axis does not vary
    plain = analyse(means, spreads)
    known = np.c_[np.ones(500), plain.project(means)]
    noise = np.random.default_rng(4).normal(size=500)
    apart = noise - known @ np.linalg.lstsq(known, noise, rcond=None)[0]
    first = known[:, 1] / known[:, 1].std() * apart.std()
    for share, turns in [(0.0, False), (-0.009, False), (-0.011, True), (0.011, False)]:
        with subtests.test(share=share):
            level = apart + share * first
            sign = np.where(turns & (np.arange(6) == 0), -1, 1)
            loud = analyse(means, spreads, level=level)
            assert np.array_equal(loud.analysis, sign[:, None] * plain.analysis)
            assert np.array_equal(loud.synthesis, sign * plain.synthesis)
    for frames, level in [(500, np.full(500, -80.1)), (1, np.array([-12.3]))]:
        with subtests.test(frames=frames):
            pair = means[:frames], spreads[:frames]
            assert np.array_equal(analyse(*pair, level=level).analysis, analyse(*pair).analysis)


def test_levels_that_do_not_fit_are_refused(subtests: pytest.Subtests) -> None:
    for shape in [(9,), (11,), (10, 1), (10, 6), ()]:
        with subtests.test(shape=shape), pytest.raises(ModelError, match="one level per frame"):
            analyse(*data(10), level=np.zeros(shape))
    for value in [np.nan, -np.inf]:
        with subtests.test(value=value), pytest.raises(ModelError, match="expected finite"):
            analyse(*data(10), level=np.append(np.zeros(9), value))


def test_tiny_data() -> None:
    one = analyse(*data(1))
    assert np.array_equal(one.deviation, np.zeros(6))
    assert one.dims_for(1) == 1
    three = analyse(*data(3))
    assert three.dims_for(1) == 2  # three frames span two directions around their mean
    single = analyse(np.arange(5.0)[:, None], np.ones((5, 1)))
    assert single.dims_for(1) == 1 and single.deviation[0] == pytest.approx(np.sqrt(2))


def test_collapsed_dimensions() -> None:
    means, spreads = data()
    means[:, 2] = 0.7
    spreads[:, 2] = 1
    latent = analyse(means, spreads)
    assert latent.dims_for(1) == 5
    assert latent.deviation[-1] < 1e-9
    z = np.zeros(6)
    z[2] = 1
    y = latent.project(latent.mean + z)
    assert np.abs(y[:-1]).max() < 1e-7 and abs(y[-1]) == pytest.approx(1)


def test_nan_is_refused(subtests: pytest.Subtests) -> None:
    for where, value in itertools.product([0, 1], [np.nan, np.inf]):
        with subtests.test(where=where, value=value):
            pair = data(10)
            pair[where][3, 2] = value
            with pytest.raises(ModelError, match="diverged"):
                analyse(*pair)


def test_spreads_that_are_not_positive_are_refused() -> None:
    means, spreads = data(10)
    spreads[3, 2] = 0
    with pytest.raises(ModelError, match="expected positive"):
        analyse(means, spreads)


def test_shapes_that_do_not_fit_are_refused(subtests: pytest.Subtests) -> None:
    for a, b in [((0, 6), (0, 6)), ((5, 6), (4, 6)), ((6,), (6,)), ((2, 3, 4), (2, 3, 4))]:
        with subtests.test(a=a, b=b), pytest.raises(ModelError, match="expected equal"):
            analyse(np.ones(a), np.ones(b))
