"""A listening test of an evaluation's audio by ITU-R BS.1534-3 (MUSHRA): its key and its scores.

`listening_kit.write_kit` makes what webMUSHRA plays, with names that tell nothing, and the key that
stays at home; `score_kit` reads what webMUSHRA wrote, leaves out listeners by the recommendation's
post-screening and gives means with intervals. Only what people answered ever comes out of here: no
objective score passes through.
"""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ravecodec.errors import FormatError, InputError
from ravecodec.evaluate.results import check_format
from ravecodec.evaluate.statistics import Interval, t_interval

FORMAT, VERSION = "ravecodec-listening-test", 1
REFERENCE, LOW, MID = "reference", "anchor35", "anchor70"  # as webMUSHRA calls them in its answers
LABELS = {
    REFERENCE: "hidden reference",
    MID: "anchor: 7 kHz low-pass",
    LOW: "anchor: 3.5 kHz low-pass",
}
SCREEN_SCORE = 90.0  # BS.1534-3: the hidden reference is below it, the mid anchor above it,
SCREEN_PERCENT = 15  # in more than this share of trials: the listener's answers are left out
# Of webMUSHRA's mushra.csv that we read.
COLUMNS = "session_test_id", "trial_id", "rating_stimulus", "rating_score"
# All other columns are fields of the listener.
NOT_LISTENER = frozenset({*COLUMNS, "rating_time", "rating_comment"})

Ratings = dict[str, dict[str, dict[str, float]]]  # score by listener, trial, condition


@dataclass(frozen=True)
class Stimulus:
    """A file of the kit: what it really is, its loudness in LUFS before (None: too short or silent
    for BS.1770), and by how many dB all of it was changed."""

    condition: str
    loudness: float | None
    gain_db: float


@dataclass(frozen=True)
class Trial:
    """A page of the test: the item, and its stimuli by code."""

    item: str
    stimuli: dict[str, Stimulus]


@dataclass(frozen=True)
class Key:
    """key.json: `test` is webMUSHRA's testId; labels by condition; trials by webMUSHRA's
    trial_id."""

    test: str
    seed: int
    labels: dict[str, str]
    trials: dict[str, Trial]

    def condition(self, trial: str, signal: str) -> str | None:
        """What webMUSHRA's `rating_stimulus` was, a code or the reference; None for one that is not
        in the trial."""
        if trial not in self.trials:
            return None
        if signal == REFERENCE:
            return REFERENCE
        stimulus = self.trials[trial].stimuli.get(signal)
        return stimulus.condition if stimulus else None

    @classmethod
    def load(cls, path: Path) -> Key:
        """FormatError if it is not the key of a listening test."""
        try:
            values = json.loads(path.read_text("utf-8"))
            check_format(str(path), values, FORMAT, VERSION)
            trials = {name: _trial(entry) for name, entry in values["trials"].items()}
            return cls(values["test"], values["seed"], dict(values["labels"]), trials)
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise FormatError(f"{path}: not the key of a listening test ({error})") from error

    def to_json(self) -> str:
        values = {"format": FORMAT, "version": VERSION} | asdict(self)
        return json.dumps(values, indent=1, ensure_ascii=False) + "\n"


@dataclass(frozen=True)
class MushraScores:
    """Answers of listeners, 0..100 (higher is better, the reference is 100).

    `conditions`: by condition, the mean over the kept listeners' own means, and its 95 % t interval
    over listeners: it speaks of other listeners, not of other excerpts. `by_item`: the same for a
    condition and an item. `kept`: who; `dropped`: who not, and why. `labels`: by condition.
    """

    conditions: dict[str, Interval]
    by_item: dict[tuple[str, str], Interval]
    kept: list[str]
    dropped: dict[str, str]
    labels: dict[str, str]

    def table(self) -> str:
        """Plain text, best condition first, with who was left out and why."""
        order = sorted(self.conditions, key=lambda name: -self.conditions[name].mean)
        width = max(len(self.labels[name]) for name in order)
        lines = [
            f"{len(self.kept)} listeners kept, {len(self.dropped)} left out; "
            "0..100: mean [95 % interval]"
        ]
        lines += [f"{self.labels[name]:{width}}  {self.conditions[name].text(1)}" for name in order]
        lines += [f"left out: {name}: {why}" for name, why in self.dropped.items()]
        return "\n".join(lines) + "\n"


def score_kit(key: Path, answers: Path) -> MushraScores:
    """Scores of the listeners in webMUSHRA's mushra.csv, by the key that `write_kit` made.

    Post-screening of BS.1534-3: a listener who gave the hidden reference less than 90 in more than
    15 % of trials, or the 7 kHz anchor more than 90 in more than 15 %, is left out. Listeners are
    told apart by all columns that are not webMUSHRA's own (the kit asks for a name); the order of
    columns does not matter. Needs `ravecodec[eval]`.

    Raises FormatError if `key` is none, InputError for answers that do not fit it, are there twice
    or lack a signal, or leave no listener, before or after post-screening.
    """
    test = Key.load(key)
    ratings = _read_answers(answers, test)
    if not ratings:
        raise InputError(f"{answers}: no listeners, expected the answers of at least one")
    reasons = {listener: _screen(trials) for listener, trials in ratings.items()}
    dropped = {listener: why for listener, why in reasons.items() if why}
    kept = {listener: trials for listener, trials in ratings.items() if listener not in dropped}
    if not kept:
        listener, why = next(iter(dropped.items()))
        raise InputError(
            f"{answers}: post-screening leaves none of {len(dropped)} listeners ({listener}: {why})"
        )
    conditions = {name: _over_trials(kept, name) for name in test.labels}
    return MushraScores(conditions, dict(_by_item(kept, test)), list(kept), dropped, test.labels)


def _trial(values: dict[str, Any]) -> Trial:
    """A trial of key.json."""
    stimuli = {code: Stimulus(**entry) for code, entry in values["stimuli"].items()}
    return Trial(values["item"], stimuli)


def _read_answers(path: Path, key: Key) -> Ratings:
    """Scores of all listeners, each with all conditions of each trial that they did. InputError
    unless they fit."""
    ratings: Ratings = {}
    for number, row in enumerate(_rows(path), 2):
        listener = ", ".join(
            value for name, value in sorted(row.items()) if name not in NOT_LISTENER and value
        )
        trial, condition, score = _rating(f"{path}: line {number}", row, key)
        scores = ratings.setdefault(listener, {}).setdefault(trial, {})
        if condition in scores:
            raise InputError(
                f"{path}: line {number}: listener {listener!r} has rated {trial} before, "
                "expected once"
            )
        scores[condition] = score
    for listener, trials in ratings.items():
        for trial, scores in trials.items():
            for name in key.labels:
                if name not in scores:
                    raise InputError(
                        f"{path}: listener {listener!r} has not rated {name} in {trial}"
                    )
    return ratings


def _rows(path: Path) -> list[dict[str, str]]:
    """Lines of mushra.csv by column name."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = list(csv.DictReader(file, restval=""))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path}: cannot be read as webMUSHRA's mushra.csv ({error})") from error
    for name in COLUMNS:
        if rows and name not in rows[0]:
            raise InputError(f"{path}: has no column {name}, expected webMUSHRA's mushra.csv")
    if any(None in row for row in rows):
        raise InputError(
            f"{path}: has lines with more fields than columns, expected webMUSHRA's mushra.csv"
        )
    return rows


def _rating(place: str, row: Mapping[str, str], key: Key) -> tuple[str, str, float]:
    """(trial, condition, score) of a line. InputError if it is not of this test."""
    test, trial, code, text = (row[name] for name in COLUMNS)
    if test != key.test:
        raise InputError(f"{place}: test {test!r}, expected {key.test!r}, the key's")
    condition = key.condition(trial, code)
    if condition is None:
        raise InputError(f"{place}: trial {trial!r} with signal {code!r} is not in the key")
    try:
        score = float(text)
    except ValueError:
        score = math.nan
    if not 0 <= score <= 100:
        raise InputError(f"{place}: score {text!r}, expected a number from 0 to 100")
    return trial, condition, score


def _screen(trials: Mapping[str, Mapping[str, float]]) -> str:
    """Why BS.1534-3 leaves this listener out, or ""."""
    low = sum(scores[REFERENCE] < SCREEN_SCORE for scores in trials.values())
    high = sum(scores[MID] > SCREEN_SCORE for scores in trials.values())
    for count, what in ((low, "the hidden reference below"), (high, "the 7 kHz anchor above")):
        if 100 * count > SCREEN_PERCENT * len(trials):
            return f"{what} {SCREEN_SCORE:g} in {count} of {len(trials)} trials"
    return ""


def _over_trials(ratings: Ratings, condition: str) -> Interval:
    """Over listeners, of each one's mean over all trials."""
    scores = ([trial[condition] for trial in trials.values()] for trials in ratings.values())
    return t_interval([float(np.mean(each)) for each in scores])


def _by_item(ratings: Ratings, key: Key) -> Iterator[tuple[tuple[str, str], Interval]]:
    """((condition, item), over listeners) of all trials that were done."""
    for name, trial in key.trials.items():
        done = [trials[name] for trials in ratings.values() if name in trials]
        for condition in key.labels if done else ():
            yield (condition, trial.item), t_interval([scores[condition] for scores in done])
