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
from numpy.typing import ArrayLike, NDArray

from ravecodec.errors import InputError
from ravecodec.evaluate.extras import extra
from ravecodec.evaluate.measures.signals import Signal, checked_pair

# Seconds: audio mode compares patches of 0.96 s, speech mode fails below, too.
SHORTEST_VISQOL = 1.0
SHORTEST_ZIMTOHRLI = 0.1  # seconds: on 0.06 s the library damages its memory
UNDEFINED_ESTOI = 1e-5  # what pystoi returns where less than 30 frames are left without silence


def visqol_audio(reference: ArrayLike, decoded: ArrayLike, rate: int) -> float:
    """ViSQOL MOS-LQO in audio mode, 1 .. 4.73 (visqol-python, models inside). Needs
    `ravecodec[eval]`.

    Any rate (brought to 48 kHz), 1 s or more; NaN for silence. Raises UsageError where the extra is
    missing, InputError as `peak_score` does and for shorter audio.
    """
    left, right = checked_pair(reference, decoded)
    _at_least(SHORTEST_VISQOL, left, rate)
    if not (left.any() and right.any()):
        return float("nan")
    result = _visqol("audio").measure_from_arrays(_at_48k(left, rate), _at_48k(right, rate), 48000)
    return float(result.moslqo)


def visqol_speech(reference: ArrayLike, decoded: ArrayLike, rate: int) -> float:
    """ViSQOL MOS-LQO in speech mode at 16 kHz, 1 .. 5; identical signals score 4.5 to 5. Needs
    `ravecodec[eval]`.

    Not on one scale with the audio mode. Raises as `visqol_audio` does.
    """
    left, right = checked_pair(reference, decoded)
    _at_least(SHORTEST_VISQOL, left, rate)
    if not (left.any() and right.any()):
        return float("nan")
    result = _visqol("speech").measure_from_arrays(_at_16k(left, rate), _at_16k(right, rate), 16000)
    return float(result.moslqo)


def estoi(reference: ArrayLike, decoded: ArrayLike, rate: int) -> float:
    """Extended short-time objective intelligibility of speech, up to 1, more is better (Jensen &
    Taal 2016; pystoi).

    Any rate (brought to 10 kHz by pystoi). NaN where there is too little sound for it (some 0.4 s).
    Raises as `peak_score` does, UsageError without `ravecodec[eval]`.
    """
    left, right = checked_pair(reference, decoded)
    module = extra("pystoi")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        value = float(module.stoi(_at_16k(left, rate), _at_16k(right, rate), 16000, extended=True))
    return float("nan") if value == UNDEFINED_ESTOI else value


def pesq_wb(reference: ArrayLike, decoded: ArrayLike, rate: int) -> float:
    """Wideband PESQ of speech, MOS-LQO 1.02 .. 4.64, more is better (ITU-T P.862.2; the package
    pesq).

    Any rate (brought to 16 kHz). NaN where it finds no speech, and for silence and less than 0.25
    s. Raises as `peak_score` does, UsageError without the package.
    """
    left, right = checked_pair(reference, decoded)
    module = extra("pesq")
    if not (left.any() and right.any()):
        return float("nan")
    try:
        return float(module.pesq(16000, _at_16k(left, rate), _at_16k(right, rate), "wb"))
    except module.PesqError:
        return float("nan")


def zimtohrli(reference: ArrayLike, decoded: ArrayLike, rate: int) -> float:
    """Zimtohrli MOS, 1 .. 5 (Google's psychoacoustic metric). Needs `ravecodec[eval]`.

    Any rate (brought to 48 kHz), 0.1 s or more. Raises UsageError where the extra is missing,
    InputError as `peak_score` does and for shorter audio.
    """
    left, right = checked_pair(reference, decoded)
    module = extra("zimtohrli")
    _at_least(SHORTEST_ZIMTOHRLI, left, rate)
    first, second = (_at_48k(signal, rate).astype(np.float32) for signal in (left, right))
    return float(module.mos_from_signals(first, second))


def _at_least(seconds: float, signal: Signal, rate: int) -> None:
    """InputError for a shorter signal."""
    if len(signal) < seconds * rate:
        raise InputError(
            f"this score takes {seconds:g} s or more, found {len(signal)} samples at {rate} Hz"
        )


def _at_48k(signal: Signal, rate: int) -> NDArray[np.float64]:
    """The signal at 48 kHz."""
    audio = signal if rate == 48000 else soxr.resample(signal, rate, 48000, quality="VHQ")
    return np.asarray(audio, dtype=np.float64)


def _at_16k(signal: Signal, rate: int) -> NDArray[np.float64]:
    """The signal at 16 kHz, where scores of speech are taken."""
    audio = np.asarray(signal, dtype=np.float64)
    return audio if rate == 16000 else np.asarray(soxr.resample(audio, rate, 16000, quality="VHQ"))


@lru_cache(maxsize=2)
def _visqol(mode: str) -> Any:
    """One ViSQOL instance."""
    api = extra("visqol").VisqolApi()
    api.create(mode=mode)
    return api
