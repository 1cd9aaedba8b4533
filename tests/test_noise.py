"""Counter-based noise: statistics, independence of how it is asked for, and golden values: decoders
rely on these.
"""

import itertools

import pytest
import torch

from ravecodec.models import noise
from ravecodec.models.noise import LATENT_STREAM, LINE_STREAM, NOISE_STREAM

N = 1 << 17
GOLDEN: dict[str, list[float]] = {
    "zero": [344099415, 4292455290, 1263872698, 2764950708],
    "large": [3360503441, 2139442341, 1709581904, 1231396863],
    "lanes": [280702831, 3440986300, 2702020398, 179569264],
    "uniform": [0.5028946399688721, -0.47550249099731445, 0.7024414539337158, 0.8392934799194336],
    "normal": [-2.7972496, 0.52537012, 0.90585518, -0.21351257],
}


def seed(value: int = 0) -> torch.Tensor:
    return torch.tensor(value)


def test_golden_values() -> None:
    """These must never change: every .rvc stream with noise fill would sound different."""
    place = torch.tensor([0, 1, 2, 1 << 20])
    assert noise.bits(seed(0), LATENT_STREAM, place, seed(0)).tolist() == GOLDEN["zero"]
    assert noise.bits(seed(2**32 - 1), NOISE_STREAM, place, seed(127)).tolist() == GOLDEN["large"]
    assert noise.bits(seed(7), LINE_STREAM, seed(-3), torch.arange(4)).tolist() == GOLDEN["lanes"]
    assert noise.uniform(seed(1), NOISE_STREAM, place, seed(5)).tolist() == GOLDEN["uniform"]
    assert noise.normal(seed(1), LATENT_STREAM, place, seed(5)).tolist() == pytest.approx(
        GOLDEN["normal"], rel=1e-6
    )


def reference(seed: int, stream: int, position: int, lane: int) -> int:
    """The same function in Python's unbounded integers."""
    mask = 0xFFFFFFFF

    def mix(x: int) -> int:
        x ^= x >> 16
        x = x * 0x85EBCA6B & mask
        x ^= x >> 13
        x = x * 0xC2B2AE35 & mask
        return x ^ x >> 16

    keyed = mix(seed & mask ^ mix(stream * 0x9E3779B1 & mask))
    placed = mix(keyed + (position & mask) * 0x9E3779B1 & mask)
    return mix(placed + lane * 0x85EBCA77 & mask)


def test_int64_overflow_is_harmless(subtests: pytest.Subtests) -> None:
    for key, position in itertools.product(
        [0, 1, 0x7FFFFFFF, 0xFFFFFFFF],
        [0, 1, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 0x100000000, -1, -4096],
    ):
        with subtests.test(key=key, position=position):
            for stream in (LATENT_STREAM, NOISE_STREAM, LINE_STREAM):
                for lane in (0, 1, 543, 1 << 20):
                    drawn = noise.bits(seed(key), stream, seed(position), seed(lane))
                    assert int(drawn) == reference(key, stream, position, lane)
                    assert 0 <= int(drawn) < 2**32


def test_uniform_statistics() -> None:
    drawn = noise.uniform(seed(3), NOISE_STREAM, torch.arange(N), seed(0))
    assert drawn.dtype == torch.float32
    assert float(drawn.min()) >= -1 and float(drawn.max()) < 1
    assert torch.equal(drawn * 2**23, (drawn * 2**23).round())  # exact multiples of 2^-23
    assert float(drawn.mean()) == pytest.approx(0, abs=0.01)
    assert float(drawn.square().mean()) == pytest.approx(1 / 3, rel=0.01)
    counts = torch.histc(drawn, 64, -1, 1)
    chi = float(((counts - N / 64) ** 2 / (N / 64)).sum())
    assert chi < 63 + 5 * (2 * 63) ** 0.5


def test_normal_statistics() -> None:
    drawn = noise.normal(seed(3), LATENT_STREAM, torch.arange(N), seed(0)).double()
    assert drawn.isfinite().all()
    assert float(drawn.mean()) == pytest.approx(0, abs=0.015)
    assert float(drawn.std()) == pytest.approx(1, abs=0.01)
    assert float((drawn**3).mean()) == pytest.approx(0, abs=0.05)
    assert float((drawn**4).mean()) == pytest.approx(3, abs=0.15)
    assert float((drawn.abs() < 1).double().mean()) == pytest.approx(0.6827, abs=0.01)


def correlation(a: torch.Tensor, b: torch.Tensor) -> float:
    return abs(float(torch.corrcoef(torch.stack([a.double(), b.double()]))[0, 1]))


def test_neighbours_are_not_correlated() -> None:
    place, limit = torch.arange(N), 5 / N**0.5
    drawn = noise.uniform(seed(0), NOISE_STREAM, place, seed(0))
    others = [
        noise.uniform(seed(0), NOISE_STREAM, place, seed(1)),
        noise.uniform(seed(1), NOISE_STREAM, place, seed(0)),
        noise.uniform(seed(0), LATENT_STREAM, place, seed(0)),
        noise.uniform(seed(0), NOISE_STREAM, place + 1, seed(0)),
        noise.uniform(seed(0), NOISE_STREAM, place + 64, seed(0)),
    ]
    for other in others:
        assert correlation(drawn, other) < limit
        assert correlation(drawn.abs(), other.abs()) < limit


def test_any_order_and_shape_gives_the_same_numbers() -> None:
    place, lane = torch.arange(100)[:, None], torch.arange(8)
    whole = noise.normal(seed(5), LATENT_STREAM, place, lane)
    pieces = [
        noise.normal(seed(5), LATENT_STREAM, place[i : i + 7], lane) for i in range(0, 100, 7)
    ]
    assert torch.equal(torch.cat(pieces), whole)
    single = noise.normal(seed(5), LATENT_STREAM, seed(42), seed(3))
    assert float(single) == float(whole[42, 3])
    batch = noise.bits(torch.tensor([5, 6])[:, None], LATENT_STREAM, torch.arange(10), seed(0))
    assert torch.equal(batch[0], noise.bits(seed(5), LATENT_STREAM, torch.arange(10), seed(0)))


def test_seeds_count_modulo_2_to_32() -> None:
    place = torch.arange(10)
    drawn = [noise.bits(seed(s), LATENT_STREAM, place, seed(0)) for s in (9, 9 + 2**32)]
    assert torch.equal(*drawn)
