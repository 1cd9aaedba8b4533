"""The kit of a listening test by ITU-R BS.1534-3 (MUSHRA), which is given away: webMUSHRA's config
and the audio, and beside them the key, which stays at home. `listening.py` scores the answers.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from ravecodec.audio import Audio, match_channels
from ravecodec.errors import InputError, OutputError, UsageError
from ravecodec.evaluate.extras import extra
from ravecodec.evaluate.filters import RATE, low_pass
from ravecodec.evaluate.listening import LABELS, LOW, MID, REFERENCE, Key, Stimulus, Trial
from ravecodec.evaluate.measures.level import loudness
from ravecodec.evaluate.results import Results
from ravecodec.evaluate.sounds import fitted, read_sound, write_sound

# In a trial, hidden reference and anchors among them (BS.1534-3); webMUSHRA checks it.
MOST_SIGNALS = 12
MOST_SECONDS = 12.0  # of a signal (BS.1534-3); webMUSHRA checks it
CUTOFFS = {LOW: 3500.0, MID: 7000.0}  # Hz
CODE_LETTERS = "bcdfghjklmnpqrstvwxz"  # no vowels: no words
CODE_LENGTH = 6
HEADROOM = 1 - 2**-15  # largest 16-bit sample

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


# webMUSHRA's configuration and its pages. Values that differ from kit to kit are empty here.
CONFIG = {
    "testname": "Listening test",
    "testId": "",
    "bufferSize": 2048,
    "stopOnErrors": True,
    "showButtonPreviousPage": True,
    "remoteService": "service/write.php",
}
WELCOME_PAGE = {
    "type": "generic",
    "id": "welcome",
    "name": "Welcome",
    "content": "You will hear short recordings. Each comes with several versions; compare every "
    "version with the reference, and rate its quality from 0 (bad) to 100 (excellent: no "
    "difference from the reference can be heard). One version is the reference itself: please "
    "give 100 to the version that you believe it is. Use headphones in a quiet room.",
}
VOLUME_PAGE = {
    "type": "volume",
    "id": "volume",
    "name": "Volume",
    "content": "Please set a comfortable volume, and leave it as it is from now on.",
    "defaultVolume": 0.5,
}
MUSHRA_PAGE: dict[str, Any] = {
    "type": "mushra",
    "id": "",
    "name": "Listening test",
    "content": "How good is each version, compared with the reference? Any difference from it "
    "counts.",
    "showWaveform": True,
    "enableLooping": True,
    "randomize": True,
    "showConditionNames": False,
    "createAnchor35": False,  # both are among the stimuli, as loud as the reference
    "createAnchor70": False,
}
FINISH_PAGE = {
    "type": "finish",
    "name": "Thank you",
    "content": "Please say who you are, and send your answers.",
    "showResults": False,
    "writeResults": True,
    "questionnaire": [{"type": "text", "label": "Name or number", "name": "listener"}],
}


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
    reference = read_sound(folder / f"{REFERENCE}.flac")
    channels, samples = reference.shape
    if samples > MOST_SECONDS * RATE:
        most = f"expected at most {MOST_SECONDS:g} s for a listening test"
        raise InputError(f"{folder}: lasts {samples / RATE:g} s, {most}")
    signals = {REFERENCE: reference}
    for name, hertz in CUTOFFS.items():
        signals[name] = low_pass(reference, hertz)
    for name in conditions:
        audio = match_channels(read_sound(folder / f"{name}.flac"), channels)
        signals[name] = fitted(audio, samples)
    return signals


def _write_trial(
    folder: Path, signals: dict[str, Audio], rng: np.random.Generator
) -> dict[str, Stimulus]:
    """Write reference.wav and CODE.wav of every signal, all as loud as the reference; stimuli by
    code, sorted."""
    levels = {name: _loudness(audio) for name, audio in signals.items()}
    gains = _gains(signals, levels)
    codes = sorted(zip(_codes(len(signals), rng), signals, strict=True))
    stimuli = {code: Stimulus(name, levels[name], gains[name]) for code, name in codes}
    write_sound(folder / f"{REFERENCE}.wav", _louder(signals[REFERENCE], gains[REFERENCE]))
    for code, stimulus in stimuli.items():
        write_sound(folder / f"{code}.wav", _louder(signals[stimulus.condition], stimulus.gain_db))
    return stimuli


def _loudness(audio: Audio) -> float | None:
    """Integrated loudness by BS.1770 in LUFS; None if it is shorter than a block or silent
    throughout."""
    value = loudness(audio.astype(np.float64), RATE)
    return round(value, 4) if math.isfinite(value) else None


def _gains(signals: Mapping[str, Audio], levels: Mapping[str, float | None]) -> dict[str, float]:
    """Gain in dB that makes each signal as loud as the reference, less what would clip any of
    them."""
    wanted = levels[REFERENCE]
    gains = {
        name: 0.0 if wanted is None or own is None else wanted - own for name, own in levels.items()
    }
    peak = max(float(np.abs(_louder(audio, gains[name])).max()) for name, audio in signals.items())
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
        others = [code for code, each in trial.stimuli.items() if each.condition != REFERENCE]
        stimuli = {code: f"{folder}/{name}/{code}.wav" for code in others}
        reference = f"{folder}/{name}/{REFERENCE}.wav"
        trials.append(MUSHRA_PAGE | {"id": name, "reference": reference, "stimuli": stimuli})
    volume = VOLUME_PAGE | {"stimulus": trials[0]["reference"]}
    pages = [WELCOME_PAGE, volume, ["random", *trials], FINISH_PAGE]
    config = CONFIG | {"testId": key.test, "pages": pages}
    return str(extra("yaml").safe_dump(config, sort_keys=False, allow_unicode=True))
