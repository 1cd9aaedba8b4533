"""The formula behind `tables.bin`: how the frozen frequencies were computed (SPEC section 6).

The data file is normative, this module documents it and a test recomputes it. Everything runs in
`decimal`, whose exp, ln and sqrt are correctly rounded, so every machine gets the same integers.
Print the file's hash with

    python -m ravecodec.bitstream.maketables OUT
"""

import hashlib
import sys
from collections.abc import Callable, Iterator
from decimal import Decimal, localcontext
from itertools import pairwise
from pathlib import Path

import numpy as np

from ravecodec.bitstream.tables import (
    OFFSETS,
    PRECISION_BITS,
    SCALES,
    SHAPES,
    SIGMA_ONE,
    offsets_of,
    reach_of,
)

DIGITS = 60
PI = Decimal("3.14159265358979323846264338327950288419716939937510582097494459230781640628620899")
HALF = Decimal("0.5")
ONE = Decimal(1)


def sigma_of(scale: int) -> Decimal:
    """Standard deviation, in quantiser steps, of row `scale`: 2^((scale - 40) / 8)."""
    whole, eighths = divmod(scale - SIGMA_ONE, 8)
    root = Decimal(2).sqrt().sqrt().sqrt()
    return Decimal(2) ** whole * root**eighths


def erfc(x: Decimal) -> Decimal:
    """Complementary error function for x >= 0, to about 10^-55 absolute.

    erf(x) = 2/sqrt(pi) exp(-x^2) sum_n 2^n x^(2n+1) / (1 3 5 ... (2n+1)); all terms are positive,
    nothing cancels.
    """
    if x > 12:  # erfc(12) < 10^-64
        return Decimal(0)
    term, total, n = x, x, 0
    while term > total * Decimal(10) ** -DIGITS:
        n += 1
        term *= 2 * x * x / (2 * n + 1)
        total += term
    return ONE - 2 / PI.sqrt() * (-x * x).exp() * total


def tail_gaussian(x: Decimal) -> Decimal:
    """P(X > x) of the unit Gaussian, x >= 0."""
    return HALF * erfc(x / Decimal(2).sqrt())


def tail_logistic(x: Decimal) -> Decimal:
    """P(X > x) of the unit-variance logistic density."""
    return ONE / (ONE + (x * PI / Decimal(3).sqrt()).exp())


def tail_laplace(x: Decimal) -> Decimal:
    """P(X > x) of the unit-variance Laplace density."""
    return HALF * (-x * Decimal(2).sqrt()).exp()


def tail_power23(x: Decimal) -> Decimal:
    """P(X > x) of the unit-variance density ~ exp(-|x/a|^(2/3)), a = 13.125^(-1/2): half of Q(3/2,
    (x/a)^(2/3)).
    """
    if not x:
        return HALF
    root = ((x * Decimal("13.125").sqrt()).ln() / 3).exp()  # (x/a)^(1/3)
    return HALF * (erfc(root) + 2 * root / PI.sqrt() * (-root * root).exp())


def tail_power12(x: Decimal) -> Decimal:
    """P(X > x) of the unit-variance density ~ exp(-|x/a|^(1/2)), a = 120^(-1/2): half of Q(2,
    (x/a)^(1/2)).
    """
    root = (x * Decimal(120).sqrt()).sqrt()
    return HALF * (ONE + root) * (-root).exp()


TAILS: dict[str, Callable[[Decimal], Decimal]] = {
    "gaussian": tail_gaussian,
    "logistic": tail_logistic,
    "laplace": tail_laplace,
    "power23": tail_power23,
    "power12": tail_power12,
}


def masses(
    tail: Callable[[Decimal], Decimal], sigma: Decimal, mean: Decimal, reach: int
) -> list[Decimal]:
    """Probabilities of the symbols from -reach to reach, then of the escape; sigma and mean are in
    steps.
    """

    def above(edge: Decimal) -> Decimal:  # P(X > edge)
        x = (edge - mean) / sigma
        return tail(x) if x >= 0 else ONE - tail(-x)

    edges = [above(q - HALF) for q in range(-reach, reach + 2)]
    inside = [left - right for left, right in pairwise(edges)]
    return [*inside, ONE - edges[0] + edges[-1]]


def integers(probabilities: list[Decimal]) -> list[int]:
    """Frequencies >= 1 that sum to 2^24: 1 + floor(p (2^24 - K)), the remainder to the first most
    probable symbol.
    """
    spare = 2**PRECISION_BITS - len(probabilities)
    weights = [int(p * spare) for p in probabilities]
    weights[probabilities.index(max(probabilities))] += spare - sum(weights)
    return [weight + 1 for weight in weights]


def make_row(shape: int, scale: int, offset: int) -> list[int]:
    """Frequencies of one row of the family."""
    with localcontext() as context:
        context.prec = DIGITS
        mean = Decimal(offset) / (2 * (OFFSETS - 1))
        return integers(masses(TAILS[SHAPES[shape]], sigma_of(scale), mean, reach_of(scale)))


def make_rows() -> Iterator[list[int]]:
    """All rows in file order."""
    for shape in range(len(SHAPES)):
        for scale in range(SCALES):
            for offset in range(offsets_of(scale)):
                yield make_row(shape, scale, offset)


def main(path: Path) -> None:
    """Write the family to `path` and print its SHA-256."""
    data = np.concatenate([np.array(row, dtype="<u4") for row in make_rows()]).tobytes()
    path.write_bytes(data)
    sys.stdout.write(f"{len(data)} bytes, sha256 {hashlib.sha256(data).hexdigest()}\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
