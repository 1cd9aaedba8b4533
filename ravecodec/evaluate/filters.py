"""Linear-phase filters and cross-correlation of an evaluation, by scipy (extra `eval`)."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from ravecodec.evaluate.extras import extra

RATE = 48_000  # Hz, of all audio here
TRANSITION = 500.0  # Hz above a low-pass' edge at which it is down by STOPBAND_DB:
STOPBAND_DB = 60.0  # BS.1534 asks for 25 dB there and for 50 dB at 1000 Hz above the edge
HIGH_PASS_HZ, HIGH_PASS_TAPS = 20.0, 16385

Floats = NDArray[np.floating]
Doubles = NDArray[np.float64]


def low_pass(audio: Floats, hertz: float) -> NDArray[np.float32]:
    """Audio [..., samples] at 48 kHz without what is above `hertz`, not delayed: an anchor of ITU-R
    BS.1534-3.

    A linear-phase FIR (Kaiser window): flat within 0.01 dB up to `hertz`, down by 60 dB from 500 Hz
    above it on.
    """
    return _filtered(audio, _low_pass_taps(hertz)).astype(np.float32)


def high_pass(audio: Floats) -> Doubles:
    """Audio [..., samples] at 48 kHz without what is below 20 Hz (-6 dB there), not delayed.

    A linear-phase FIR (Blackman window). The ids of excerpts are hashes of what comes out: other
    taps mean other ids.
    """
    time = np.arange(HIGH_PASS_TAPS) - HIGH_PASS_TAPS // 2
    low = np.sinc(2 * HIGH_PASS_HZ / RATE * time) * np.blackman(HIGH_PASS_TAPS)
    taps = -low / low.sum()
    taps[HIGH_PASS_TAPS // 2] += 1.0
    return _filtered(audio, taps)


def correlation(reference: Doubles, decoded: Doubles, lags: range) -> Doubles:
    """Cross-correlation [lags] of two signals (samples,); a lag is by how many samples `decoded` is
    late."""
    values = extra("scipy.signal").correlate(decoded, reference, method="fft")
    zero = len(reference) - 1  # where the lag is 0
    padded = np.pad(values, (max(0, -lags.start - zero), max(0, zero + lags.stop - len(values))))
    first = max(0, zero + lags.start)
    return np.asarray(padded[first : first + len(lags)])


@lru_cache(maxsize=4)
def _low_pass_taps(hertz: float) -> Doubles:
    """An odd number of taps that sum to 1."""
    signal = extra("scipy.signal")
    count, beta = signal.kaiserord(STOPBAND_DB, TRANSITION / (RATE / 2))
    window = ("kaiser", beta)
    return np.asarray(signal.firwin(count | 1, hertz + TRANSITION / 2, window=window, fs=RATE))


def _filtered(audio: Floats, taps: Doubles) -> Doubles:
    """Convolution along the last axis with an odd number of centred taps; the length stays."""
    shaped = taps.reshape([1] * (audio.ndim - 1) + [-1])
    long = extra("scipy.signal").fftconvolve(np.asarray(audio, dtype=np.float64), shaped, axes=-1)
    start = len(taps) // 2
    return np.asarray(long[..., start : start + audio.shape[-1]])
