"""Distances of spectra, numpy only. Everything takes two mono signals (samples,), aligned, full
scale = 1; 0 is equal and less is better."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ravecodec.evaluate.filters import Doubles
from ravecodec.evaluate.measures.signals import checked_pair, hann, spectra

PAPER_WINDOWS = (2048, 1024, 512, 256, 128)
DAC_MELS = {32: 5, 64: 10, 128: 20, 256: 40, 512: 80, 1024: 160, 2048: 320}  # window: bands
DAC_FLOOR = 1e-5
LSD_WINDOW, LSD_HOP, LSD_FLOOR = 2048, 512, 1e-5
LSD_BANDS = {
    "low": (0.0, 1000.0),
    "mid": (1000.0, 4000.0),
    "high": (4000.0, 12000.0),
    "top": (12000.0, 20000.0),
}


def magnitudes(signal: Doubles, window: int, hop: int) -> Doubles:
    """[frames, window // 2 + 1], periodic Hann, no padding, scaled so that a full-scale sine has
    magnitude 1/2."""
    frames = np.lib.stride_tricks.sliding_window_view(signal, window)[::hop]
    return np.abs(np.fft.rfft(frames * (hann(window) * 2 / window), axis=1))


def multiscale(
    reference: Doubles, decoded: Doubles, *, added: float = 0.0, floor: float = 0.0
) -> float:
    """RAVE's multiscale spectral distance (Caillon & Esling 2021, eq. 5): the sum over windows of
    2048 to 128 samples, hop a quarter, of ||X - Y|| / ||X|| + mean |ln X - ln Y|.

    The linear term is the paper's (the code of RAVE 2 leaves its roots out); the logarithmic one is
    the code's, as the paper's has no lower bound. X, Y: `magnitudes`, whose scale is not the
    code's. `added` is added to magnitudes inside the logarithm (the code: 1e-7, which measures the
    noise floor of a decoder as much as the codec), `floor` is the least that they count as. 0 and
    up; NaN for a silent reference.
    """
    total = 0.0
    for window in PAPER_WINDOWS:
        x, y = (magnitudes(signal, window, window // 4) for signal in (reference, decoded))
        size = np.linalg.norm(x)
        if size < 1e-9:
            return float("nan")
        logs = np.abs(np.log(np.maximum(x, floor) + added) - np.log(np.maximum(y, floor) + added))
        total += float(np.linalg.norm(x - y) / size + logs.mean())
    return total


def dac_mel_distance(reference: Doubles, decoded: Doubles, rate: int) -> float:
    """The mel distance of the Descript Audio Codec (Kumar et al. 2023, section 4; seven windows of
    32 to 2048 samples with 5 to 320 bands): the sum over windows of mean |log10 X - log10 Y|,
    magnitudes clamped at 1e-5.

    Slaney's mel scale and normalisation, hop a quarter, centred frames, unscaled spectra, no term
    of magnitudes, as its training has it (its evaluation script has other settings); at `rate`,
    where theirs is 44.1 kHz. Bands narrower than a bin hold nothing and count as equal. 0 and up.
    """
    total = 0.0
    for window, bands in DAC_MELS.items():
        logs = []
        filters = slaney_filters(rate, window, bands)
        for signal in (reference, decoded):
            padded = np.pad(signal, window // 2, mode="reflect")
            mels = magnitudes(padded, window, window // 4) * (window / 2) @ filters
            logs.append(np.log10(np.maximum(mels, DAC_FLOOR)))
        total += float(np.abs(logs[0] - logs[1]).mean())
    return total


@lru_cache(maxsize=16)
def slaney_filters(rate: int, window: int, bands: int) -> Doubles:
    """[window // 2 + 1, bands]: triangles between points that are equally spaced on Slaney's mel
    scale (linear to 1 kHz, then 27 steps to a factor of 6.4), from 0 to half the rate, each of area
    1 in Hz."""
    step, knee = 200 / 3, 15.0
    slope = 27 / np.log(6.4)
    top = knee + slope * np.log(max(1.0, rate / 2 / 1000)) if rate > 2000 else rate / 2 / step
    mels = np.linspace(0, top, bands + 2)
    edges = np.where(mels < knee, mels * step, 1000 * np.exp((mels - knee) / slope))
    hertz = np.arange(window // 2 + 1)[:, None] * (rate / window)
    rising = (hertz - edges[:-2]) / (edges[1:-1] - edges[:-2])
    falling = (edges[2:] - hertz) / (edges[2:] - edges[1:-1])
    triangles = np.maximum(0, np.minimum(rising, falling))
    return np.asarray(triangles * 2 / (edges[2:] - edges[:-2]))


def log_spectral_distance(reference: Doubles, decoded: Doubles, rate: int) -> dict[str, float]:
    """Log-spectral distance in dB by band (LSD_BANDS, Hz): per frame the root of the mean square
    over bins of the level difference, then the mean over frames (Gray & Markel 1976). Hann 2048,
    hop 512, levels from -100 dB. 0 and up."""
    levels = [
        20 * np.log10(np.maximum(2 * magnitudes(signal, LSD_WINDOW, LSD_HOP), LSD_FLOOR))
        for signal in (reference, decoded)
    ]
    square = (levels[0] - levels[1]) ** 2
    distances = {}
    for name, band in LSD_BANDS.items():
        low, high = (round(hertz * LSD_WINDOW / rate) for hertz in band)
        distances[name] = float(np.sqrt(square[:, low:high].mean(axis=1)).mean())
    return distances


def log_mel_distance(
    reference: ArrayLike, decoded: ArrayLike, rate: int, bands: int = 128
) -> float:
    """Mean absolute difference in dB of two mel spectrograms (Hann 2048, hop 512, magnitude clamped
    at 1e-5).

    reference, decoded: mono, (samples,), same rate in Hz, full scale = 1. Raises InputError as
    `peak_score` does.
    """
    weights = _htk_filters(rate, 2048, bands)
    levels = []
    for signal in checked_pair(reference, decoded):
        mels = np.concatenate([block @ weights for block in spectra(signal, 2048, 512)])
        levels.append(20 * np.log10(np.maximum(mels, 1e-5)))
    return float(np.abs(levels[0] - levels[1]).mean(dtype=np.float64))


@lru_cache(maxsize=4)
def _htk_filters(rate: int, size: int, bands: int) -> NDArray[np.float32]:
    """(bins, bands) triangles on the HTK mel scale, each summing to 1 and at least one bin wide on
    both sides."""
    bins = np.arange(size // 2 + 1) * rate / size
    mels = np.linspace(0, 2595 * np.log10(1 + rate / 2 / 700), bands + 2)
    edges = 700 * (10 ** (mels / 2595) - 1)
    centre = edges[1:-1]
    below = np.maximum(centre - edges[:-2], rate / size)
    above = np.maximum(edges[2:] - centre, rate / size)
    offset = bins[:, None] - centre
    weights = np.maximum(0, 1 - np.where(offset < 0, -offset / below, offset / above))
    return (weights / weights.sum(axis=0)).astype(np.float32)
