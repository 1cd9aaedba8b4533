"""Qualities 0 to 10: the hull of a measured curve, or what follows from the latent analysis; and
how `Point` takes them.
"""

from collections.abc import Callable
from dataclasses import astuple, fields, replace
from pathlib import Path

import numpy as np
import pytest
import torch

from ravecodec import Point
from ravecodec.curve import (
    Piece,
    bits_of_axes,
    measured_ladder,
    measured_points,
    piece_of,
)
from ravecodec.errors import UsageError
from ravecodec.ladder import (
    STANDARD,
    WORDS,
    axis_bits,
    derived_ladder,
    hull,
    ladder_from,
    ladder_of,
    quality_of,
)
from ravecodec.models.coding import QUALITIES, Rung
from ravecodec.models.header import read_header
from ravecodec.models.package import Model, load_package, package_with
from ravecodec.quantize import Quantizer
from ravecodec.train.finish import FIRST_MEASURED, write_package

STEPS, EXCERPTS = (12, 0, -12), 4


def cloud(seed: int) -> list[Rung]:
    """Points whose distance falls with the rate, but not evenly."""
    random = np.random.default_rng(seed)
    rates = np.geomspace(0.3, 6, 25) * random.uniform(0.9, 1.1, 25)
    distances = 2 - np.log(rates) / 4 + random.exponential(0.1, 25)
    return [
        Rung(100 + n, 20 - n, float(kbps), float(distance))
        for n, (kbps, distance) in enumerate(zip(rates, distances, strict=True))
    ]


def test_no_point_lies_below_the_hull_and_its_corners_are_points() -> None:
    for seed in range(20):
        points = cloud(seed)
        corners = hull(points)
        assert set(corners) <= set(points)
        rates = [corner.kbps for corner in corners]
        assert rates == sorted(rates) and rates[0] == min(point.kbps for point in points)
        assert corners[-1].distance == min(point.distance for point in points)
        for point in points:
            line = np.interp(point.kbps, rates, [corner.distance for corner in corners])
            assert point.distance >= line - 1e-9
        slopes = np.diff([c.distance for c in corners]) / np.diff(rates)
        assert (slopes < 0).all() and (np.diff(slopes) > 0).all()


def test_qualities_go_along_the_hull_evenly_in_the_logarithm_of_the_rate() -> None:
    for seed in range(20):
        points = cloud(seed)
        corners = hull(points)
        ladder = ladder_from(points, 2.0)
        assert len(ladder) == QUALITIES
        rates = np.array([rung.kbps for rung in ladder])
        assert rates[0] == pytest.approx(corners[0].kbps, abs=1e-3)
        assert rates[-1] == pytest.approx(corners[-1].kbps, abs=1e-3)
        assert rates[STANDARD] == pytest.approx(min(2.0, corners[-1].kbps), abs=1e-3)
        for half in (rates[: STANDARD + 1], rates[STANDARD:]):
            assert np.ptp(np.diff(np.log(half))) < 2e-3
        known = [corner.kbps for corner in corners]
        for rung in ladder:
            where = np.clip(np.searchsorted(known, rung.kbps, side="right") - 1, 0, len(known) - 2)
            low, high = corners[where], corners[where + 1]
            assert high.step_index - 1 <= rung.step_index <= low.step_index + 1
            assert low.dims - 1 <= rung.dims <= high.dims + 1


def test_quality_0_is_not_so_low_that_hardly_anything_is_sent() -> None:
    points = [Rung(8, 60, 0.01, 2.5), *cloud(0)]
    assert ladder_from(points, 2.0)[0].kbps == pytest.approx(2.0 / 8, abs=1e-3)
    assert ladder_from(points, 0.05)[0].kbps == pytest.approx(0.01, abs=1e-3)


def test_a_curve_that_says_nothing_gives_no_ladder() -> None:
    """As that of a model which plays the same whatever it is sent."""
    flat = [Rung(9, 20 - n, 0.5 + n, 1.0) for n in range(9)]
    assert ladder_from(flat, 2.0) == ()
    assert ladder_from([Rung(1, 0, 0.0, 1.0), Rung(1, -9, 2.0, 0.5)], 2.0) == ()


def test_derived_qualities_turn_finer_around_the_models_own_point(any_model: Model) -> None:
    coding = any_model.coding
    assert coding.ladder == () and ladder_of(coding) == derived_ladder(coding)
    ladder = ladder_of(coding)
    own = ladder[STANDARD]
    assert len(ladder) == QUALITIES
    assert (own.dims, own.step_index) == (coding.dims, coding.step_index)
    assert (np.diff([rung.step_index for rung in ladder]) < 0).all()
    assert (np.diff([rung.dims for rung in ladder]) >= 0).all()
    spent = [axis_bits(coding, rung.step_index)[: rung.dims].sum() for rung in ladder]
    assert (np.diff(spent) > 0).all()


def test_tables_expect_what_their_own_symbols_cost(stereo_model: Model) -> None:
    """Entropy of a row, against code lengths of symbols drawn from it."""
    from ravecodec.bitstream.entropy import code_lengths
    from ravecodec.bitstream.tables import frequencies, row_reach

    coding, random = stereo_model.coding, np.random.default_rng(0)
    quantizer = Quantizer(stereo_model.latent, coding, len(coding.base), 0, True)
    for row, bits in zip(quantizer.static.rows(0)[:4], axis_bits(coding, 0)[:4], strict=True):
        share = frequencies(int(row)) / 2**24
        drawn = random.choice(len(share) - 1, 20_000, p=share[:-1] / share[:-1].sum())
        cost = code_lengths(drawn - row_reach(int(row)), int(row)).mean()
        assert bits == pytest.approx(cost, rel=0.05)


def test_the_curve_is_that_of_real_streams(stereo_model: Model, any_model: Model) -> None:
    """Bits of axes, against the payload of the coder itself."""
    from ravecodec.bitstream import encode_symbols

    quantizer = Quantizer(any_model.latent, any_model.coding, any_model.config.latent, 0, True)
    random = np.random.default_rng(0)
    latents = random.standard_normal((200, any_model.config.latent)).astype(np.float32)
    symbols = quantizer.symbols(latents)
    bits = bits_of_axes(quantizer, [symbols[:90], symbols[90:]]).sum() * 200
    coded = 8 * len(encode_symbols(symbols, quantizer.static.rows(0)))
    assert bits == pytest.approx(coded, rel=0.01, abs=32)


def test_a_model_is_measured_at_its_own_point_and_around_it(
    any_model: Model,
) -> None:
    config, coding = any_model.config, any_model.coding
    random = np.random.default_rng(0)
    pieces = [
        Piece(
            random.standard_normal((n, config.latent)).astype(np.float32),
            (0.1 * random.standard_normal((config.channels, n * config.hop))).astype(np.float32),
        )
        for n in (3, 5)
    ]
    points = list(measured_points(any_model, pieces, STEPS))
    assert points == list(measured_points(any_model, pieces, STEPS))
    assert {p.step_index - coding.step_index for p in points} == set(STEPS)
    assert (coding.dims, coding.step_index) in {(p.dims, p.step_index) for p in points}
    for one in points:
        for other in points:
            if one.dims <= other.dims and one.step_index == other.step_index:
                assert one.kbps <= other.kbps
    said: list[str] = []
    assert len(measured_ladder(any_model, pieces, said.append, STEPS)) in (0, QUALITIES)
    assert len(said) == 1 and "points" in said[0]


def test_a_ladder_is_kept_in_the_package_and_changes_nothing_else(
    model_folder: Path, tmp_path: Path
) -> None:
    before = model_folder / "default.safetensors"
    ladder = tuple(Rung(n + 1, 20 - n, 0.5 * n, 2.0 - n / 10) for n in range(QUALITIES))
    (tmp_path / "x.safetensors").write_bytes(package_with(before, {"a": 1}, ladder=ladder))
    model, old = load_package(tmp_path / "x.safetensors"), load_package(before)
    assert ladder_of(model.coding) == model.coding.ladder == ladder
    assert model.info == {**old.info, "a": 1} and model.id != old.id
    assert read_header(tmp_path / "x.safetensors").version == read_header(before).version
    for key, value in old.network.state_dict().items():
        assert value.equal(model.network.state_dict()[key])
    assert [Point(quality=n).resolve(model) for n in range(QUALITIES)] == [
        astuple(rung)[:2] for rung in ladder
    ]


def test_a_model_is_packed_with_its_curve_on_held_out_audio(
    stereo_model: Model, music: Callable[..., np.ndarray], tmp_path: Path
) -> None:
    """That of the model as it is in the file, which is told in a line."""
    config, path, said = stereo_model.config, tmp_path / "x.safetensors", list[str]()

    class Held:
        length = 8 * config.hop

        def batch(self, step: int, size: int) -> torch.Tensor:
            assert step == FIRST_MEASURED
            crops = [music(self.length, 2, config.sample_rate, seed) for seed in range(size)]
            return torch.from_numpy(np.stack(crops))

    write_package(
        path,
        network=stereo_model.network,
        latent=stereo_model.latent,
        coding=stereo_model.coding,
        name="tiny",
        info={"a": 1},
        held=Held(),  # type: ignore[arg-type]
        report=said.append,
        excerpts=EXCERPTS,
        steps=STEPS,
    )
    model = load_package(path)
    crops = list(Held().batch(FIRST_MEASURED, EXCERPTS).numpy())
    pieces = [piece_of(model, crops, config.sample_rate)]
    assert len(pieces[0].latents) == 8 * EXCERPTS
    assert model.coding.ladder == measured_ladder(model, pieces, said.append, STEPS)
    assert len(said) == 2 and said[0] == said[1] and "curve of" in said[0]
    assert model.info == {"a": 1} and not (tmp_path / "x.part").exists()


def test_qualities_are_numbers_and_words() -> None:
    assert [quality_of(n) for n in range(QUALITIES)] == list(range(QUALITIES))
    assert [quality_of(str(n)) for n in range(QUALITIES)] == list(range(QUALITIES))
    assert {word: quality_of(word) for word in WORDS} == WORDS
    assert quality_of(np.int64(3)) == 3
    for wrong in (-1, 11, "11", "9" * 5000, "-1", "3.5", 3.5, True, None, "", "Best", "²", [3]):
        with pytest.raises(UsageError, match=r"quality is .* expected one of 0 to 10, small"):
            quality_of(wrong)


def test_what_chooses_the_same_is_refused_in_a_sentence() -> None:
    values = {"fidelity": 0.9, "dims": 3, "step_index": 2, "bitrate": 2.0, "quality": 5}
    together = {("fidelity", "step_index"), ("dims", "step_index"), ("fidelity", "bitrate")}
    together |= {("dims", "bitrate")}
    names = list(values)
    for at, one in enumerate(names):
        for other in names[at + 1 :]:
            wish = {one: values[one], other: values[other]}
            if {(one, other), (other, one)} & together:
                Point(**wish)
                continue
            with pytest.raises(UsageError, match="are both given; expected one of them"):
                Point(**wish)
    with pytest.raises(UsageError, match="cbr is given without bitrate"):
        Point(cbr=True)
    with pytest.raises(UsageError, match="cbr is given without bitrate"):
        Point(cbr=True, quality=3)


def test_a_point_stands_in_place_of_its_values() -> None:
    nothing = {field.name: field.default for field in fields(Point)}
    point = Point(bitrate=2, cbr=True)
    assert Point.of(point, **nothing) is point
    assert Point.of(None, **{**nothing, "quality": "best"}) == Point(quality=10)
    for given in ({"dims": 3}, {"quality": 0}, {"step_index": 0}, {"cbr": True}):
        with pytest.raises(UsageError, match=r"point and .* are both given"):
            Point.of(point, **{**nothing, **given})
    with pytest.raises(UsageError, match=r"expected a ravecodec\.Point"):
        Point.of(5, **nothing)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match=r"point sets bitrate, .*expected fidelity or dims"):
        Point.of(point, fidelity=None, dims=None)
    assert Point.of(Point(dims=3), dims=None) == Point(dims=3)
    assert replace(point, cbr=False) == Point(bitrate=2.0)
