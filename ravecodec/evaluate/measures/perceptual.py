"""What models of hearing predict of decoded audio: ViSQOL, Zimtohrli; of speech ESTOI and PESQ
(extra `eval`).

Everything here takes two mono signals of one rate that are aligned to the sample, full scale = 1.
No score stands for quality alone: ViSQOL's audio mode and Zimtohrli follow bandwidth and envelopes
and rate noise with the right envelope above Opus at 8 kbit/s (docs/evaluation.md has the numbers);
whether harmonics are there they hardly see. `peaks.peak_f1` sees only that.
"""

from __future__ import annotations

import warnings
from functools import lru_cache
from typing import Any

import numpy as np
import soxr
from numpy.typing import ArrayLike

from ravecodec.errors import InputError
from ravecodec.evaluate.extras import extra
from ravecodec.evaluate.filters import RATE, Doubles
from ravecodec.evaluate.measures.signals import checked_pair

# Seconds: audio mode compares patches of 0.96 s, speech mode fails below, too.
SHORTEST_VISQOL = 1.0
SHORTEST_ZIMTOHRLI = 0.1  # seconds: on 0.06 s the library damages its memory
SPEECH_RATE = 16_000  # Hz: where scores of speech are taken
UNDEFINED_ESTOI = 1e-5  # what pystoi returns where less than 30 frames are left without silence


def visqol_audio(reference: ArrayLike, decoded: ArrayLike, rate: int) -> float:
    """ViSQOL MOS-LQO in audio mode, 1 .. 4.73 (visqol-python, models inside). Needs
    `ravecodec[eval]`.

    Any rate (brought to 48 kHz), 1 s or more; NaN for silence. Raises UsageError where the extra is
    missing, InputError as `peak_score` does and for shorter audio.
    """
    return _visqol_mos("audio", RATE, reference, decoded, rate)


def visqol_speech(reference: ArrayLike, decoded: ArrayLike, rate: int) -> float:
    """ViSQOL MOS-LQO in speech mode at 16 kHz, 1 .. 5; identical signals score 4.5 to 5. Needs
    `ravecodec[eval]`.

    Not on one scale with the audio mode. Raises as `visqol_audio` does.
    """
    return _visqol_mos("speech", SPEECH_RATE, reference, decoded, rate)


def estoi(reference: ArrayLike, decoded: ArrayLike, rate: int) -> float:
    """Extended short-time objective intelligibility of speech, up to 1, more is better (Jensen &
    Taal 2016; pystoi).

    Any rate (brought to 10 kHz by pystoi). NaN where there is too little sound for it (some 0.4 s).
    Raises as `peak_score` does, UsageError without `ravecodec[eval]`.
    """
    x, y = _pair(reference, decoded, rate, SPEECH_RATE)
    module = extra("pystoi")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        value = float(module.stoi(x, y, SPEECH_RATE, extended=True))
    return float("nan") if value == UNDEFINED_ESTOI else value


def pesq_wb(reference: ArrayLike, decoded: ArrayLike, rate: int) -> float:
    """Wideband PESQ of speech, MOS-LQO 1.02 .. 4.64, more is better (ITU-T P.862.2; the package
    pesq).

    Any rate (brought to 16 kHz). NaN where it finds no speech, and for silence and less than 0.25
    s. Raises as `peak_score` does, UsageError without the package.
    """
    x, y = _pair(reference, decoded, rate, SPEECH_RATE)
    module = extra("pesq")
    if not (x.any() and y.any()):
        return float("nan")
    try:
        return float(module.pesq(SPEECH_RATE, x, y, "wb"))
    except module.PesqError:
        return float("nan")


def zimtohrli(reference: ArrayLike, decoded: ArrayLike, rate: int) -> float:
    """Zimtohrli MOS, 1 .. 5 (Google's psychoacoustic metric). Needs `ravecodec[eval]`.

    Any rate (brought to 48 kHz), 0.1 s or more. Raises UsageError where the extra is missing,
    InputError as `peak_score` does and for shorter audio.
    """
    module = extra("zimtohrli")
    pair = _pair(reference, decoded, rate, RATE, SHORTEST_ZIMTOHRLI)
    x, y = (signal.astype(np.float32) for signal in pair)
    return float(module.mos_from_signals(x, y))


def _visqol_mos(
    mode: str, wanted: int, reference: ArrayLike, decoded: ArrayLike, rate: int
) -> float:
    """ViSQOL in a mode, at the rate that it takes; NaN for silence."""
    x, y = _pair(reference, decoded, rate, wanted, SHORTEST_VISQOL)
    if not (x.any() and y.any()):
        return float("nan")
    return float(_visqol(mode).measure_from_arrays(x, y, wanted).moslqo)


def _pair(
    reference: ArrayLike, decoded: ArrayLike, rate: int, wanted: int, shortest: float = 0.0
) -> list[Doubles]:
    """Both signals at the rate `wanted`. InputError as `checked_pair`, and below `shortest`
    seconds."""
    pair = [signal.astype(np.float64) for signal in checked_pair(reference, decoded)]
    samples = len(pair[0])
    if samples < shortest * rate:
        raise InputError(
            f"this score takes {shortest:g} s or more, found {samples} samples at {rate} Hz"
        )
    if rate == wanted:
        return pair
    return [soxr.resample(signal, rate, wanted, quality="VHQ") for signal in pair]


@lru_cache(maxsize=2)
def _visqol(mode: str) -> Any:
    """One ViSQOL instance."""
    api = extra("visqol").VisqolApi()
    api.create(mode=mode)
    return api
