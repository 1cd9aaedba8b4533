"""A listening test of an evaluation's audio by ITU-R BS.1534-3 (MUSHRA): the kit that is given
away, and its scores.

`write_kit` makes what webMUSHRA plays, with names that tell nothing, and a key that stays at home;
`score_kit` reads what webMUSHRA wrote, leaves out listeners by the recommendation's post-screening
and gives means with intervals. Only what people answered ever comes out of here: no objective score
passes through.
"""

from __future__ import annotations

import csv
import hashlib
import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import soundfile

from ravecodec.errors import FormatError, InputError, OutputError, UsageError
from ravecodec.evaluate.excerpts import RATE, Audio
from ravecodec.evaluate.extras import extra
from ravecodec.evaluate.filters import low_pass
from ravecodec.evaluate.results import Results
from ravecodec.evaluate.runner import write_sound
from ravecodec.evaluate.statistics import Interval, t_interval

FORMAT, VERSION = "ravecodec-listening-test", 1
MOST_SIGNALS = (
    12  # in a trial, hidden reference and anchors among them (BS.1534-3); webMUSHRA checks it
)
MOST_SECONDS = 12.0  # of a signal (BS.1534-3); webMUSHRA checks it
REFERENCE, LOW, MID = "reference", "anchor35", "anchor70"  # as webMUSHRA calls them in its answers
LABELS = {
    REFERENCE: "hidden reference",
    MID: "anchor: 7 kHz low-pass",
    LOW: "anchor: 3.5 kHz low-pass",
}
CUTOFFS = {LOW: 3500.0, MID: 7000.0}  # Hz
CODE_LETTERS = "bcdfghjklmnpqrstvwxz"  # no vowels: no words
CODE_LENGTH = 6
HEADROOM = 1 - 2**-15  # largest 16-bit sample
SCREEN_SCORE = 90.0  # BS.1534-3: the hidden reference is below it, the mid anchor above it,
SCREEN_PERCENT = 15  # in more than this share of trials: the listener's answers are left out
# Of webMUSHRA's mushra.csv that we read.
COLUMNS = (
    "session_test_id",
    "trial_id",
    "rating_stimulus",
    "rating_score",
)
# All other columns are fields of the listener.
NOT_LISTENER = frozenset({*COLUMNS, "rating_time", "rating_comment"})

Ratings = dict[str, dict[str, dict[str, float]]]  # score by listener, trial, condition
README = """A listening test by ITU-R BS.1534-3 (MUSHRA): {trials} trials of {signals} signals each.

1. Get webMUSHRA (https://github.com/audiolabs/webMUSHRA) and copy what is in listeners/ into its
   folder configs/.
2. Open http://HOST/webMUSHRA/?config={test}.yaml in a browser, on a sound card that runs at 48 kHz.
3. webMUSHRA's server writes all answers to results/{test}/mushra.csv; score them with this folder's
   key.json.

key.json says which file is what. Keep it away from the listeners. The recommendation asks for
experienced listeners, about 20 of them, good headphones or loudspeakers in a quiet room, and for
training with the same signals before the test.
"""


WELCOME = (
    "You will hear short recordings. Each comes with several versions; compare every version "
    "with the reference, and rate its quality from 0 (bad) to 100 (excellent: no difference "
    "from the reference can be heard). One version is the reference itself: please give 100 to "
    "the version that you believe it is. Use headphones in a quiet room."
)
VOLUME = "Please set a comfortable volume, and leave it as it is from now on."
QUESTION = "How good is each version, compared with the reference? Any difference from it counts."
TEST_OPTIONS = {
    "bufferSize": 2048,
    "stopOnErrors": True,
    "showButtonPreviousPage": True,
    "remoteService": "service/write.php",
}
TRIAL_OPTIONS: dict[str, Any] = {
    "showWaveform": True,
    "enableLooping": True,
    "randomize": True,
    "showConditionNames": False,
    "createAnchor35": False,  # both are among the stimuli, as loud as the reference
    "createAnchor70": False,
}
FINISH = {
    "type": "finish",
    "name": "Thank you",
    "content": "Please say who you are, and send your answers.",
    "showResults": False,
    "writeResults": True,
    "questionnaire": [{"type": "text", "label": "Name or number", "name": "listener"}],
}


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
            if values["format"] != FORMAT or values["version"] != VERSION:
                raise FormatError(
                    f"{path}: format {values['format']} {values['version']}; "
                    f"expected {FORMAT} {VERSION}"
                )
            trials = {name: _trial(entry) for name, entry in values["trials"].items()}
            return cls(values["test"], values["seed"], dict(values["labels"]), trials)
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise FormatError(f"{path}: not the key of a listening test ({error})") from error

    def to_json(self) -> str:
        return (
            json.dumps(
                {"format": FORMAT, "version": VERSION} | asdict(self), indent=1, ensure_ascii=False
            )
            + "\n"
        )


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


def write_kit(
    results: Results, audio: Path, out: Path, conditions: list[str], seed: int = 0
) -> None:
    """Make the folder `out` (new or empty): README.txt, key.json, and listeners/ with webMUSHRA's
    config and the audio.

    Every trial has an item's reference, the same once more under a code (for other players:
    webMUSHRA hides the reference by itself), the 3.5 and 7 kHz low-pass anchors made of it, and
    `conditions` of audio/ITEM/CONDITION.flac. All are 16-bit 48 kHz WAV of one length and one
    channel count, brought to the loudness of their reference (BS.1770, integrated); a trial that
    would clip is turned down as a whole. The key has every gain. Codes depend on `seed` only, and
    the same call writes the same bytes. Needs `ravecodec[eval]`.

    Raises UsageError for conditions that are unknown, twice or too many, InputError for audio that
    is missing, not at 48 kHz or longer than 12 s, OutputError if `out` is not empty or cannot be
    written; nothing is left there then.
    """
    _check_conditions(results, conditions)
    check_empty(out)
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(prefix=f".{out.name}.", dir=out.parent) as temporary:
            folder = Path(temporary) / "kit"
            _fill(folder, results, audio, conditions, seed)
            if out.exists():
                out.rmdir()
            folder.rename(out)
    except OSError as error:
        raise OutputError(f"{out}: the listening test cannot be written ({error})") from error


def score_kit(key: Path, answers: Path) -> MushraScores:
    """Scores of the listeners in webMUSHRA's mushra.csv, by the key that `write_kit` made.

    Post-screening of BS.1534-3: a listener who gave the hidden reference less than 90 in more than
    15 % of trials, or the 7 kHz anchor more than 90 in more than 15 %, is left out. Listeners are
    told apart by all columns that are not webMUSHRA's own (the kit asks for a name); the order of
    columns does not matter. Needs `ravecodec[eval]`.

    Raises FormatError if `key` is none, InputError for answers that do not fit it, are there twice
    or lack a signal, or come from nobody, before or after post-screening.
    """
    found = Key.load(key)
    ratings = _read_answers(answers, found)
    if not ratings:
        raise InputError(f"{answers}: no listeners, expected the answers of at least one")
    dropped = {listener: why for listener, trials in ratings.items() if (why := _screen(trials))}
    kept = {listener: trials for listener, trials in ratings.items() if listener not in dropped}
    if not kept:
        listener, why = next(iter(dropped.items()))
        raise InputError(
            f"{answers}: post-screening leaves none of {len(dropped)} listeners ({listener}: {why})"
        )
    conditions = {name: _over_trials(kept, name) for name in found.labels}
    return MushraScores(conditions, dict(_by_item(kept, found)), list(kept), dropped, found.labels)


def _check_conditions(results: Results, conditions: list[str]) -> None:
    """UsageError unless the conditions are some of the results', each once, and leave room for the
    anchors."""
    known = [condition.id for condition in results.conditions]
    for name in conditions:
        if name not in known or name in LABELS:
            raise UsageError(
                f"condition {name} is not in the results, expected some of {', '.join(known)}"
            )
    if len(set(conditions)) < len(conditions):
        raise UsageError(f"conditions {', '.join(conditions)}: expected each once")
    most = MOST_SIGNALS - len(LABELS)
    if not 1 <= len(conditions) <= most:
        raise UsageError(f"{len(conditions)} conditions for a listening test, expected 1 to {most}")


def check_empty(out: Path) -> None:
    """OutputError unless the listening test may be written there."""
    if out.exists() and not (out.is_dir() and not any(out.iterdir())):
        raise OutputError(
            f"{out}: exists already, expected a new or empty folder for the listening test"
        )


def _fill(folder: Path, results: Results, audio: Path, conditions: list[str], seed: int) -> None:
    """Write the whole kit into a folder that is not there yet."""
    labels = LABELS | {c.id: c.label for c in results.conditions if c.id in conditions}
    facts = json.dumps([seed, conditions, [item.sha256 for item in results.items]])
    test = f"ravecodec-{hashlib.sha256(facts.encode()).hexdigest()[:6]}"
    rng = np.random.default_rng(seed)
    trials = {}
    for number, item in enumerate(results.items, 1):
        place = folder / "listeners" / test / f"trial{number:02d}"
        place.mkdir(parents=True)
        trials[place.name] = Trial(
            item.id, _write_trial(place, _signals(audio / item.id, conditions), rng)
        )
    key = Key(test, seed, labels, trials)
    readme = README.format(test=test, trials=len(trials), signals=len(labels))
    texts = {
        "key.json": key.to_json(),
        f"listeners/{test}.yaml": _config(key),
        "README.txt": readme,
    }
    for name, text in texts.items():
        (folder / name).write_text(text, "utf-8")


def _signals(folder: Path, conditions: list[str]) -> dict[str, Audio]:
    """By condition, audio of one shape: the reference, its anchors, and the conditions as they are
    in the folder."""
    reference = _read(folder / f"{REFERENCE}.flac")
    if reference.shape[1] > MOST_SECONDS * RATE:
        seconds = reference.shape[1] / RATE
        raise InputError(
            f"{folder}: lasts {seconds:g} s, "
            f"expected at most {MOST_SECONDS:g} s for a listening test"
        )
    signals = {REFERENCE: reference} | {
        name: low_pass(reference, hertz) for name, hertz in CUTOFFS.items()
    }
    return signals | {
        name: _fit(_read(folder / f"{name}.flac"), reference.shape) for name in conditions
    }


def _read(path: Path) -> Audio:
    try:
        samples, rate = soundfile.read(path, dtype="float32", always_2d=True)
    except (soundfile.SoundFileError, OSError) as error:
        raise InputError(f"{path}: cannot be read for the listening test ({error})") from error
    if rate != RATE or not len(samples):
        raise InputError(
            f"{path}: has {len(samples)} samples at {rate} Hz, expected some at {RATE} Hz"
        )
    return np.ascontiguousarray(samples.T)


def _fit(audio: Audio, shape: tuple[int, ...]) -> Audio:
    """Cut or padded with silence at the end, and the mean of its channels, or one of them twice, if
    need be."""
    channels, samples = shape
    if len(audio) != channels:
        audio = np.repeat(audio.mean(axis=0, keepdims=True), channels, axis=0)
    return np.pad(audio[:, :samples], ((0, 0), (0, max(0, samples - audio.shape[1]))))


def _write_trial(
    folder: Path, signals: dict[str, Audio], rng: np.random.Generator
) -> dict[str, Stimulus]:
    """Write reference.wav and CODE.wav of every signal, all as loud as the reference; stimuli by
    code, sorted."""
    loudness = {name: _loudness(audio) for name, audio in signals.items()}
    gains = _gains(signals, loudness)
    codes = dict(zip(_codes(len(signals), rng), signals, strict=True))
    stimuli = {
        code: Stimulus(name, loudness[name], gains[name]) for code, name in sorted(codes.items())
    }
    write_sound(folder / f"{REFERENCE}.wav", _louder(signals[REFERENCE], gains[REFERENCE]))
    for code, stimulus in stimuli.items():
        write_sound(folder / f"{code}.wav", _louder(signals[stimulus.condition], stimulus.gain_db))
    return stimuli


def _loudness(audio: Audio) -> float | None:
    """Integrated loudness by BS.1770 in LUFS; None if it is shorter than a block or silent
    throughout."""
    module = extra("pyloudnorm")
    if audio.shape[1] < 0.4 * RATE:
        return None
    value = float(module.Meter(RATE).integrated_loudness(audio.T.astype(np.float64)))
    return round(value, 4) if math.isfinite(value) else None


def _gains(signals: Mapping[str, Audio], loudness: Mapping[str, float | None]) -> dict[str, float]:
    """Gain in dB that makes each signal as loud as the reference, less what would clip any of
    them."""
    wanted = loudness[REFERENCE]
    gains = {
        name: 0.0 if wanted is None or own is None else wanted - own
        for name, own in loudness.items()
    }
    peak = max(
        float(np.abs(audio).max()) * 10 ** (gains[name] / 20) for name, audio in signals.items()
    )
    down = max(0.0, 20 * math.log10(peak / HEADROOM)) if peak else 0.0
    return {name: round(gain - down, 4) for name, gain in gains.items()}


def _louder(audio: Audio, gain_db: float) -> Audio:
    return audio * np.float32(10 ** (gain_db / 20))


def _codes(count: int, rng: np.random.Generator) -> list[str]:
    """Different random names that tell nothing."""
    codes: dict[str, None] = {}
    while len(codes) < count:
        codes["".join(rng.choice(list(CODE_LETTERS), CODE_LENGTH))] = None
    return list(codes)


def _config(key: Key) -> str:
    """webMUSHRA's YAML. The trials come in random order; it adds the hidden reference by itself."""
    folder = f"configs/{key.test}"
    trials = []
    for name, trial in key.trials.items():
        others = [
            code for code, stimulus in trial.stimuli.items() if stimulus.condition != REFERENCE
        ]
        page = {
            "type": "mushra",
            "id": name,
            "name": "Listening test",
            "content": QUESTION,
            **TRIAL_OPTIONS,
        }
        page["reference"] = f"{folder}/{name}/{REFERENCE}.wav"
        page["stimuli"] = {code: f"{folder}/{name}/{code}.wav" for code in others}
        trials.append(page)
    welcome = {"type": "generic", "id": "welcome", "name": "Welcome", "content": WELCOME}
    volume = {
        "type": "volume",
        "id": "volume",
        "name": "Volume",
        "content": VOLUME,
        "defaultVolume": 0.5,
    }
    volume["stimulus"] = trials[0]["reference"]
    config = {"testname": "Listening test", "testId": key.test, **TEST_OPTIONS}
    config["pages"] = [welcome, volume, ["random", *trials], FINISH]
    return str(extra("yaml").safe_dump(config, sort_keys=False, allow_unicode=True))


def _trial(values: dict[str, Any]) -> Trial:
    """A trial of key.json."""
    return Trial(
        values["item"], {code: Stimulus(**entry) for code, entry in values["stimuli"].items()}
    )


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
            if missing := [name for name in key.labels if name not in scores]:
                raise InputError(
                    f"{path}: listener {listener!r} has not rated {missing[0]} in {trial}"
                )
    return ratings


def _rows(path: Path) -> list[dict[str, str]]:
    """Lines of mushra.csv by column name."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = list(csv.DictReader(file, restval=""))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path}: cannot be read as webMUSHRA's mushra.csv ({error})") from error
    if rows and (missing := [name for name in COLUMNS if name not in rows[0]]):
        raise InputError(f"{path}: has no column {missing[0]}, expected webMUSHRA's mushra.csv")
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
    return t_interval(
        [float(np.mean([s[condition] for s in trials.values()])) for trials in ratings.values()]
    )


def _by_item(ratings: Ratings, key: Key) -> Iterator[tuple[tuple[str, str], Interval]]:
    """((condition, item), over listeners) of all trials that somebody did."""
    for name, trial in key.trials.items():
        done = [trials[name] for trials in ratings.values() if name in trials]
        for condition in key.labels if done else ():
            yield (condition, trial.item), t_interval([scores[condition] for scores in done])
