"""The frozen table family: what the file holds, where it came from, and what it costs."""

import hashlib
import itertools
import math
from pathlib import Path

import numpy as np
import pytest

from ravecodec.bitstream import maketables, tables
from ravecodec.bitstream.entropy import code_lengths
from ravecodec.errors import ModelError


def all_rows() -> list[int]:
    return list(range(tables.ROWS))


def test_file_has_the_hash_that_the_code_names() -> None:
    assert hashlib.sha256(tables.TABLES_PATH.read_bytes()).hexdigest() == tables.TABLES_SHA256


def test_every_row_is_a_distribution_over_2_to_the_24() -> None:
    for row in all_rows():
        frequencies = tables.frequencies(row)
        assert len(frequencies) == 2 * tables.row_reach(row) + 2
        assert frequencies.min() >= 1
        assert frequencies.sum() == 2**24


def test_the_rows_use_up_the_file() -> None:
    own = [
        tables.frequencies(int(tables.row_index(shape, scale, offset)))
        for shape in range(len(tables.SHAPES))
        for scale in range(tables.SCALES)
        for offset in range(tables.offsets_of(scale))
    ]
    assert np.concatenate(own).astype("<u4").tobytes() == tables.TABLES_PATH.read_bytes()


def test_formula_gives_the_file() -> None:
    """A sample of rows through the whole family, recomputed in decimal arithmetic."""
    for row in all_rows()[::61]:
        shape, rest = divmod(row, tables.SCALES * tables.OFFSETS)
        scale, offset = divmod(rest, tables.OFFSETS)
        made = maketables.make_row(shape, scale, min(offset, tables.offsets_of(scale) - 1))
        assert made == tables.frequencies(row).tolist(), (shape, scale, offset)


def test_reach_is_four_sigma() -> None:
    for scale in range(tables.SCALES):
        sigma = float(maketables.sigma_of(scale))
        assert tables.SIGMAS[scale] == pytest.approx(sigma, rel=1e-14)
        assert tables.reach_of(scale) == max(4, math.ceil(4 * sigma - 1e-9))
        assert tables.escape_order(scale) == max(0, math.floor(math.log2(sigma) + 1e-9))


def test_offset_zero_is_symmetric_and_others_lean_right() -> None:
    for scale in range(tables.FINE_SCALES):
        for shape in range(len(tables.SHAPES)):
            centred = tables.frequencies(int(tables.row_index(shape, scale)))[:-1]
            assert np.array_equal(centred, centred[::-1])
            shifted = tables.frequencies(int(tables.row_index(shape, scale, 8)))[:-1]
            assert shifted[len(shifted) // 2 + 1 :].sum() > shifted[: len(shifted) // 2].sum()


def test_a_dead_dim_costs_next_to_nothing() -> None:
    for scale in range(16):  # sigma up to 1/8 of a step
        assert code_lengths([0], int(tables.row_index(0, scale)))[0] < 1e-3


def gaussian_masses(sigma: float) -> tuple[np.ndarray, np.ndarray]:
    symbols = np.arange(-600, 601)
    edges = [math.erf((q - 0.5) / sigma / math.sqrt(2)) / 2 for q in [*symbols, 601]]
    return symbols, np.diff(edges)


def laplace_masses(sigma: float) -> tuple[np.ndarray, np.ndarray]:
    symbols = np.arange(-2500, 2501)
    a, n = math.sqrt(2) / sigma, np.abs(symbols)
    tails = np.exp(-a * (n - 0.5)) * (1 - math.exp(-a)) / 2
    return symbols, np.where(n, tails, 1 - math.exp(-a / 2))


def test_the_best_row_costs_at_most_half_a_percent(subtests: pytest.Subtests) -> None:
    """Sigmas between the scales, symbols beyond the reach: against the exact model of the
    source.
    """
    for masses, sigma in itertools.product(
        [gaussian_masses, laplace_masses], [0.2, 0.3, 0.55, 0.97, 1.9, 4.3, 9.1, 23.0, 70.0, 115.0]
    ):
        with subtests.test(masses=masses, sigma=sigma):
            symbols, p = masses(sigma)
            entropy = -(p[p > 0] * np.log2(p[p > 0])).sum()
            costs = [
                p @ code_lengths(symbols, int(tables.row_index(shape, scale)))
                for shape in (0, 2)
                for scale in range(96)
            ]
            assert min(costs) < 1.005 * entropy + 2e-4


def test_a_changed_file_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = bytearray(tables.TABLES_PATH.read_bytes())
    data[1000] ^= 1
    (tmp_path / "tables.bin").write_bytes(data)
    for path in (tmp_path / "tables.bin", tmp_path / "missing.bin"):
        monkeypatch.setattr(tables, "TABLES_PATH", path)
        with pytest.raises(ModelError, match="reinstall"):
            tables._family.__wrapped__()
