"""The choice of evaluation excerpts in benchmarks/excerpts.py and the filters that it brings."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest

_SPEC = importlib.util.spec_from_file_location(
    "benchmark_excerpts", Path(__file__).parent.parent / "benchmarks" / "excerpts.py"
)
assert _SPEC and _SPEC.loader
excerpts = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(excerpts)


def manifest() -> list[dict]:
    """Six packages of 2 to 12 pieces, each piece with two stems."""
    return [
        {"path": f"p{p}/t{t:02}-{stem}.ogg", "package": f"p{p}", "piece": f"p{p}/t{t:02}"}
        for p in range(6)
        for t in range(2 + 2 * p)
        for stem in ("guitar", "song")
    ]


def test_choice_is_spread_over_packages_and_pieces():
    items = excerpts.choose(manifest(), 24)
    assert len(items) == 24
    assert len({item["piece"] for item in items}) == 24
    assert len({item["package"] for item in items[:6]}) == 6
    assert {item["path"].split("-")[1] for item in items} == {"guitar.ogg", "song.ogg"}


def test_choice_does_not_depend_on_the_order_of_the_manifest():
    assert excerpts.choose(manifest()[::-1], 12) == excerpts.choose(manifest(), 12)


def test_choice_takes_all_where_there_are_too_few():
    few = [track for track in manifest() if track["package"] in ("p0", "p1")]
    assert len(excerpts.choose(few, 24)) == 6


@pytest.mark.parametrize(("frequency", "gain"), [(0.0, 0.0), (5.0, 0.0), (50.0, 1.0), (10000.0, 1.0)])
def test_high_pass_removes_dc_and_keeps_music_in_place(frequency, gain):
    wave = np.cos(2 * np.pi * frequency * np.arange(96000) / 48000)[:, None] * np.ones(2)
    middle = slice(40000, 56000)
    assert np.abs(excerpts.high_pass(wave)[middle] - gain * wave[middle]).max() < 0.005


@pytest.mark.parametrize(("frequency", "gain"), [(100.0, 1.0), (3000.0, 1.0), (4000.0, 0.0), (15000.0, 0.0)])
def test_low_pass_keeps_what_is_below_the_cut(frequency, gain):
    wave = np.cos(2 * np.pi * frequency * np.arange(24000) / 48000)
    middle = slice(4000, 20000)
    assert np.abs(excerpts.low_pass(wave, 3500.0)[middle] - gain * wave[middle]).max() < 0.002
