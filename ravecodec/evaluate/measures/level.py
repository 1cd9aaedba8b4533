"""Level, waveform and stereo image of decoded audio against its reference: [channels, samples],
full scale = 1."""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from ravecodec.evaluate.extras import extra
from ravecodec.evaluate.filters import Doubles
from ravecodec.evaluate.measures.signals import hann

MOST_SI_SDR = 100.0  # dB: what an identical signal gets
SHORTEST_LOUDNESS = 0.4  # seconds: one block of BS.1770
# Hz: edges of the stereo bands.
OCTAVES = 88.0, 177.0, 354.0, 707.0, 1414.0, 2828.0, 5657.0, 11314.0, 20000.0
STEREO_WINDOW, STEREO_FRAMES = 2048, 8  # a tile lasts about 0.1 s at 48 kHz
LEAST_ENERGY = 1e-9  # of a tile (of unscaled spectra); the tiles of any sound have more
AUDIBLE = 1e-6  # of the loudest tile's energy: quieter ones say nothing of a stereo image
MOST_LEVEL = 40.0  # dB between left and right


def loudness(audio: Doubles, rate: int) -> float:
    """Integrated loudness in LUFS (ITU-R BS.1770-4, by pyloudnorm); -inf for silence, NaN below 0.4
    s.

    Raises UsageError where `ravecodec[eval]` is missing.
    """
    meter = extra("pyloudnorm").Meter(rate)
    if audio.shape[1] <= SHORTEST_LOUDNESS * rate:
        return float("nan")
    with np.errstate(divide="ignore"):
        return float(meter.integrated_loudness(audio.T))


def loudness_error(reference: Doubles, decoded: Doubles, rate: int) -> float:
    """Loudness of `decoded` minus that of `reference` in LU; 0 is equal, NaN where one of them has
    none."""
    levels = [loudness(audio, rate) for audio in (reference, decoded)]
    return levels[1] - levels[0] if np.isfinite(levels).all() else float("nan")


def si_sdr(reference: Doubles, decoded: Doubles) -> float:
    """Scale-invariant signal-to-distortion ratio in dB (Le Roux et al. 2019), of mono signals
    (samples,).

    Up to 100; more is nearer in *waveform*: codecs that do not keep phases score below 0 whatever
    they sound like. NaN where one of them is silent.
    """
    x, y = reference - reference.mean(), decoded - decoded.mean()
    power = float(x @ x)
    if power < 1e-12 or float(y @ y) < 1e-12:
        return float("nan")
    target = (float(x @ y) / power) * x
    error = float(((y - target) ** 2).sum())
    ratio = float(target @ target) / max(error, 1e-300)
    return float(np.clip(10 * np.log10(max(ratio, 1e-30)), -MOST_SI_SDR, MOST_SI_SDR))


def stereo_errors(reference: Doubles, decoded: Doubles, rate: int) -> tuple[float, float]:
    """(level, correlation) errors of the stereo image of [2, samples]: means of |difference| over
    tiles of an octave and 0.1 s, weighted by the reference's energy in the tile.

    level: of 10 lg (left / right energy), in dB within +-40. correlation: of Re <L, R> / (|L| |R|),
    -1 to 1. 0 is equal; NaN for a silent reference. After the inter-channel cues of parametric
    stereo (Breebaart et al. 2005).
    """
    cues = [_stereo_cues(audio, rate) for audio in (reference, decoded)]
    energy = cues[0][2]
    weight = np.where(energy > AUDIBLE * energy.max(initial=0.0), energy, 0.0)
    if energy.max(initial=0.0) < LEAST_ENERGY:
        return float("nan"), float("nan")
    errors = [(np.abs(cues[0][i] - cues[1][i]) * weight).sum() / weight.sum() for i in range(2)]
    return float(errors[0]), float(errors[1])


def _stereo_cues(audio: Doubles, rate: int) -> tuple[Doubles, Doubles, Doubles]:
    """Level difference in dB, correlation, and energy of each tile [tiles, bands]."""
    window = STEREO_WINDOW
    frames = np.lib.stride_tricks.sliding_window_view(audio, window, axis=1)[:, :: window // 4]
    left, right = np.fft.rfft(frames * hann(window), axis=2)
    parts = np.stack([np.abs(left) ** 2, np.abs(right) ** 2, (left * right.conj()).real])
    parts = np.pad(parts, ((0, 0), (0, -parts.shape[1] % STEREO_FRAMES), (0, 0)))
    tiles = parts.reshape(3, -1, STEREO_FRAMES, parts.shape[2]).sum(2)
    edges = np.round(np.array(OCTAVES) * window / rate).astype(int)
    sums = np.stack([tiles[..., low:high].sum(-1) for low, high in pairwise(edges)], -1)
    one, other, cross = sums + np.array([1e-12, 1e-12, 0.0])[:, None, None]
    level = np.clip(10 * np.log10(one / other), -MOST_LEVEL, MOST_LEVEL)
    return level, cross / np.sqrt(one * other), one + other
