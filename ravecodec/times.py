"""Places in audio as people write them: `1:02.5`, `62.5` or `48000s`; and parts of audio from one
place to another.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from ravecodec.errors import UsageError

Time = float | int | str  # seconds, or text as `parse` reads it

_SAMPLES = re.compile(r"(\d{1,18})s")
_CLOCK = re.compile(r"(?:(?:(\d{1,9}):)?(\d{1,9}):)?(\d{1,18}(?:\.\d{0,18})?|\.\d{1,18})", re.ASCII)
_EXPECTED = "expected h:m:s, m:s, seconds (62.5), or samples (48000s), not below 0"


@dataclass(frozen=True)
class Moment:
    """A place in audio, or a length: in seconds, or in samples of whatever rate the audio has."""

    value: Fraction
    in_samples: bool = False

    def at(self, rate: int) -> int:
        """The nearest sample at this rate in Hz; the even one of two."""
        return round(self.value) if self.in_samples else round(self.value * rate)


def parse(time: Time, what: str) -> Moment:
    """Seconds as a number, or text as the command line takes it.

    UsageError for anything else, named as `what`.
    """
    if isinstance(time, str):
        return _parse_text(time.strip(), what)
    if isinstance(time, bool | np.bool_):
        raise UsageError(f"{what} is {time!r}, {_EXPECTED}")
    try:
        seconds = float(time)
    except (TypeError, ValueError) as error:
        raise UsageError(f"{what} is {time!r}, {_EXPECTED}") from error
    if not 0 <= seconds < math.inf:
        raise UsageError(f"{what} is {seconds} s, {_EXPECTED}")
    return Moment(Fraction(seconds))


def _parse_text(text: str, what: str) -> Moment:
    if samples := _SAMPLES.fullmatch(text):
        return Moment(Fraction(int(samples[1])), in_samples=True)
    clock = _CLOCK.fullmatch(text)
    if not clock:
        raise UsageError(f"{what} is {text!r}, {_EXPECTED}")
    hours, minutes, seconds = int(clock[1] or 0), int(clock[2] or 0), Fraction(f"0{clock[3]}")
    if (clock[2] and seconds >= 60) or (clock[1] and minutes >= 60):
        raise UsageError(f"{what} is {text!r}, expected less than 60 behind a colon")
    return Moment(hours * 3600 + minutes * 60 + seconds)


@dataclass(frozen=True)
class Part:
    """A part of audio, as wished: from `start` up to `end` or for `duration`; None: from the
    beginning, to the end.
    """

    start: Moment | None = None
    end: Moment | None = None
    duration: Moment | None = None

    @classmethod
    def of(cls, start: Time | None, end: Time | None, duration: Time | None) -> Part:
        """From times as people write them. UsageError where they make no sense."""
        if end is not None and duration is not None:
            raise UsageError("end and duration are both given; expected one of them")
        given = {"start": start, "end": end, "duration": duration}
        return cls(**{name: parse(time, name) for name, time in given.items() if time is not None})

    @property
    def whole(self) -> bool:
        """Whether it is all of the audio."""
        return self == Part()

    def samples(self, rate: int) -> tuple[int, int | None]:
        """First sample and the one behind the last (None: to the end) at a rate in Hz.

        UsageError for an empty part.
        """
        start = self.start.at(rate) if self.start else 0
        end = self.end.at(rate) if self.end else None
        if self.duration:
            end = start + self.duration.at(rate)
        if end is not None and end <= start:
            raise UsageError(
                f"the part ends at sample {end} and starts at {start}; expected an end behind the "
                "start"
            )
        return start, end
