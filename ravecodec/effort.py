"""How much the encoder tries: from the encoder network alone to a long search, as one number.

Level 0 is the network alone. What the others are depends on whether the model was trained to encode
with learned corrections (recipe key `refine`), which its own level says. If not, they search: a
correction that was learned aside brings less than two iterations do (docs/experiments.md).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ravecodec.audio import Audio
from ravecodec.errors import UsageError
from ravecodec.models.config import MOST_EFFORT

if TYPE_CHECKING:  # these import torch
    from ravecodec.analysis import Analysed
    from ravecodec.models.package import Model


@dataclass(frozen=True)
class Effort:
    """What a level consists of: learned corrections of the latents (`refinement.py`), then
    iterations of a search for symbols (`search.py`)."""

    corrections: int
    iterations: int


# Of models that encode with learned corrections of their own accord.
CORRECTED = (Effort(0, 0), Effort(1, 0), Effort(3, 0), Effort(3, 10), Effort(3, 30), Effort(3, 100))
# Of all others: a search from where the encoder network ends.
SEARCHED = tuple(Effort(0, iterations) for iterations in (0, 2, 5, 10, 30, 100))
assert len(CORRECTED) == len(SEARCHED) == MOST_EFFORT + 1, "a model file may name every level"


def check_effort(level: int | None) -> None:
    """UsageError unless it is None or the number of a level."""
    if level is not None and level not in range(MOST_EFFORT + 1):
        raise UsageError(f"effort is {level}, expected 0 to {MOST_EFFORT}")


def effort_of(model: Model, level: int | None) -> Effort:
    """A level for a model, None being the model's default."""
    own = model.coding.effort
    levels = CORRECTED if model.config.refiner and own else SEARCHED
    return levels[own if level is None else level]


def level_of(corrections: int) -> int:
    """The highest level that makes at most so many corrections and does not search."""
    return max(
        level
        for level, effort in enumerate(CORRECTED)
        if effort.corrections <= corrections and not effort.iterations
    )


class Analysis:
    """Audio in pieces -> `Analysed` frames whose latents are corrected: an `Analyser` and the
    corrections behind it.

    `process` feeds, `flush` ends the stream.
    """

    def __init__(self, model: Model, sample_rate: int, seed: int, corrections: int) -> None:
        from ravecodec.analysis import Analyser
        from ravecodec.refinement import Correction

        self._analyser = Analyser(model, sample_rate)
        self._corrections = [Correction(model, seed) for _ in range(corrections)]

    @property
    def samples(self) -> int:
        """Samples per channel of the original audio, so far."""
        return self._analyser.samples

    def process(self, block: Audio) -> Iterator[Analysed]:
        """Feed float32 [channels, n]; yields frames that became complete."""
        yield from self._corrected(self._analyser.process(block), 0)

    def flush(self) -> Iterator[Analysed]:
        """Ends the stream: yields the remaining frames. Nothing may be processed afterwards."""
        yield from self._corrected(self._analyser.flush(), 0)
        for done, correction in enumerate(self._corrections):
            yield from self._corrected(correction.flush(), done + 1)

    def _corrected(self, frames: Iterable[Analysed], done: int) -> Iterator[Analysed]:
        """Frames that went through the first `done` corrections, after the others."""
        if done == len(self._corrections):
            yield from frames
            return
        for part in frames:
            yield from self._corrected(self._corrections[done].process(part), done + 1)
