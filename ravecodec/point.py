"""`Point`: an operating point as it is wished for. No torch."""

from __future__ import annotations

import operator
from collections.abc import Iterator
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

import numpy as np

from ravecodec.effort import check_effort
from ravecodec.errors import UsageError
from ravecodec.ladder import ladder_of, quality_of

if TYPE_CHECKING:  # imports torch
    from ravecodec.models.package import Model

STEP_LIMIT = 64  # eight octaves of the step either way; beyond, symbols saturate or nothing is sent


def whole(value: Any, what: str) -> int:
    """A whole number, Python's or numpy's, as an int; UsageError for anything else."""
    try:
        if isinstance(value, bool | np.bool_):
            raise TypeError
        return operator.index(value)
    except TypeError as error:
        raise UsageError(f"{what} is {value!r}, expected a whole number") from error


def real(value: Any, what: str) -> float:
    """A number, Python's or numpy's, as a float; UsageError for anything else."""
    try:
        if isinstance(value, bool | np.bool_ | str):
            raise TypeError
        return float(value)
    except (TypeError, ValueError) as error:
        raise UsageError(f"{what} is {value!r}, expected a number") from error


@dataclass(frozen=True)
class Point:
    """An operating point as wished; None leaves it to the model.

    quality: 0 to 10, small, standard or best; it chooses dims and step from the model's ladder.
    fidelity: chooses the dims (paper, eq. 11). dims: axes coded. step_index: g, the quantiser's
    step is 2^(g/8) times the model's base step. bitrate: chooses that instead, so that the file is
    at most so many kbit/s. cbr: it is at most that in every ten seconds, too. effort: how much the
    encoder tries, 0 to 5 (docs/cli.md).

    UsageError for values out of range, and for two that choose the same.
    """

    fidelity: float | None = None
    dims: int | None = None
    step_index: int | None = None
    bitrate: float | None = None
    effort: int | None = None
    quality: int | str | None = None
    cbr: bool = False

    def __post_init__(self) -> None:
        converters = {
            "fidelity": real,
            "dims": whole,
            "step_index": whole,
            "bitrate": real,
            "effort": whole,
        }
        for name, convert in converters.items():
            if (value := getattr(self, name)) is not None:
                object.__setattr__(self, name, convert(value, _word(name)))
        if self.quality is not None:
            object.__setattr__(self, "quality", quality_of(self.quality))
        check_effort(self.effort)
        for pair in _CONFLICTS:
            if all(getattr(self, name) is not None for name in pair):
                one, other = map(_word, pair)
                raise UsageError(f"{one} and {other} are both given; expected one of them")
        self._check_ranges()

    def _check_ranges(self) -> None:
        if self.bitrate is not None and not 0 < self.bitrate < float("inf"):
            raise UsageError(f"bitrate is {self.bitrate} kbit/s, expected more than 0")
        if self.cbr and self.bitrate is None:
            raise UsageError("cbr is given without bitrate; expected the rate to keep")
        if self.step_index is not None and not -STEP_LIMIT <= self.step_index <= STEP_LIMIT:
            raise UsageError(f"step is {self.step_index}, expected {-STEP_LIMIT} to {STEP_LIMIT}")
        if self.fidelity is not None and not 0 <= self.fidelity <= 1:
            raise UsageError(f"fidelity is {self.fidelity}, expected 0 to 1")

    @classmethod
    def of(cls, point: Point | None, **values: Any) -> Point:
        """`point`, or where there is none one of these values, whose names are the fields that the
        calling function uses.

        UsageError where both are given, or the point sets what is not among the values.
        """
        if point is None:
            return cls(**values)
        if not isinstance(point, cls):
            raise UsageError(f"point is {point!r}, expected a ravecodec.Point")
        for name in _set_among(values):
            raise UsageError(f"point and {_word(name)} are both given; expected one of them")
        for name in _set_among(vars(point)):
            if name not in values:
                used = " or ".join(map(_word, values))
                raise UsageError(
                    f"point sets {_word(name)}, which is not used here; expected {used}"
                )
        return point

    def check(self, name: str, latent: int) -> None:
        """UsageError where it makes no sense with a model of `latent` axes."""
        if self.dims is not None and not 1 <= self.dims <= latent:
            raise UsageError(f"dims is {self.dims}; model {name} has 1 to {latent}")

    def resolve(self, model: Model) -> tuple[int, int]:
        """dims and step_index for a model."""
        if self.quality is not None:
            rung = ladder_of(model.coding)[quality_of(self.quality)]
            return rung.dims, rung.step_index
        dims = model.coding.dims if self.dims is None else self.dims
        if self.fidelity is not None:
            dims = model.latent.dims_for(self.fidelity)
        return dims, model.coding.step_index if self.step_index is None else self.step_index


def _set_among(values: dict[str, Any]) -> Iterator[str]:
    """The names of the values that are not what a point has by default."""
    defaults = {field.name: field.default for field in fields(Point)}
    return (name for name, value in values.items() if value != defaults[name])


def _word(name: str) -> str:
    """What messages call a field."""
    return name.removesuffix("_index")


_CONFLICTS = (
    ("bitrate", "step_index"),
    ("fidelity", "dims"),
    ("quality", "bitrate"),
    ("quality", "step_index"),
    ("quality", "fidelity"),
    ("quality", "dims"),
)
