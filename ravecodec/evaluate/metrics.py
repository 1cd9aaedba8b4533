"""Scores of decoded audio against its reference: tonal peaks, log-mel distance, ViSQOL and Zimtohrli.

Everything here takes two mono signals of one rate that are aligned to the sample, full scale = 1. The tonal and the
log-mel measure need numpy only; ViSQOL and Zimtohrli come with the extra `ravecodec[eval]` and are imported when
called. No score stands for quality alone: ViSQOL's audio mode, Zimtohrli and the log-mel distance follow bandwidth and
envelopes and rate noise with the right envelope above Opus at 8 kbit/s (docs/evaluation.md has the numbers); whether
harmonics are there they hardly see. `peak_f1` sees only that.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import soxr
from numpy.typing import ArrayLike, NDArray

from ravecodec.errors import InputError
from ravecodec.evaluate.extras import extra

Signal = NDArray[np.float32]
Spectrum = NDArray[np.float32]

# The peak measure is this project's own, and so are these values: no standard defines them (`peak_score` says what each
# does). A change of any makes new scores incomparable with old ones.
PEAK_BAND = (50.0, 5000.0)
PEAK_SECONDS = 8192 / 48000
PEAK_PROMINENCE_DB = 12.0
PEAK_MEDIAN_HZ = 150.0
PEAK_RANGE_DB = 50.0
PEAK_ACTIVE_DB = 60.0
PEAK_CENTS = 10.0
PEAK_LEVEL_DB = 12.0
SHORTEST_VISQOL = 1.0  # seconds: audio mode compares patches of 45 frames (0.96 s), speech mode fails below as well
SHORTEST_ZIMTOHRLI = 0.1  # seconds: on 0.06 s the library damages its memory
UNDEFINED_ESTOI = 1e-5  # what pystoi returns, with a warning, where less than 30 frames are left after silence is cut
_FRAMES_AT_ONCE = 256


@dataclass(frozen=True)
class PeakScore:
    """Result of `peak_score`: counts of prominent spectral peaks and of those that the other signal has as well."""

    reference: int
    decoded: int
    found: int
    right: int

    @property
    def recall(self) -> float:
        """Share of the reference's peaks that the decoded signal has; 1 where the reference has none."""
        return self.found / self.reference if self.reference else 1.0

    @property
    def precision(self) -> float:
        """Share of the decoded signal's peaks that the reference has; 1 where the decoded signal has none."""
        return self.right / self.decoded if self.decoded else 1.0

    @property
    def f1(self) -> float:
        """Harmonic mean of precision and recall, 0..1; 1 where neither signal has a peak."""
        total = self.recall + self.precision
        return 2 * self.recall * self.precision / total if total else 0.0


def peak_f1(reference: ArrayLike, decoded: ArrayLike, rate: int) -> float:
    """F1 of the prominent spectral peaks of `decoded` against those of `reference`; see `peak_score`."""
    return peak_score(reference, decoded, rate).f1


def peak_score(reference: ArrayLike, decoded: ArrayLike, rate: int) -> PeakScore:
    """Whether the partials of tones are where they belong: peaks of both signals, compared frame by frame.

    A peak is a maximum over +-2 bins of a Hann spectrum of about 0.17 s (8192 samples at 48 kHz, hop a quarter)
    between 50 and 5000 Hz that stands 12 dB over the median of +-150 Hz around it, is within 50 dB of the loudest bin
    of its frame, in a frame within 60 dB of the signal's loudest bin. It counts as met when the other signal has a peak
    in the same frame within one bin or 10 cents, whichever is wider, and within 12 dB of its level (after the two
    signals were brought to one level overall). Identical signals score 1, noise with the reference's envelope next to
    nothing; docs/evaluation.md has what codecs score, and another piece of music, which is the level of chance.

    reference, decoded: mono, (samples,), same rate in Hz. Raises InputError on other shapes, lengths or NaN.
    """
    left, right = _pair(reference, decoded)
    left, right = left / _rms(left), right / _rms(right)
    levels = [list(_levels(signal, rate)) for signal in (left, right)]  # 80 kB a second
    floors = [max(float(block.max()) for block in blocks) - PEAK_ACTIVE_DB for blocks in levels]
    counts = np.zeros(4, dtype=np.int64)
    for first, second in zip(*levels, strict=True):
        peaks = _peaks(first, floors[0], rate), _peaks(second, floors[1], rate)
        found = _met(peaks[0], first, peaks[1], second, rate)
        also = _met(peaks[1], second, peaks[0], first, rate)
        counts += [np.count_nonzero(mask) for mask in (*peaks, found, also)]
    return PeakScore(*(int(count) for count in counts))


def log_mel_distance(reference: ArrayLike, decoded: ArrayLike, rate: int, bands: int = 128) -> float:
    """Mean absolute difference in dB of two mel spectrograms (Hann 2048, hop 512, magnitude clamped at 1e-5).

    reference, decoded: mono, (samples,), same rate in Hz, full scale = 1. Raises InputError as `peak_score` does.
    """
    left, right = _pair(reference, decoded)
    weights = _mel_weights(rate, 2048, bands)
    total, count = 0.0, 0
    for first, second in zip(_spectra(left, 2048, 512), _spectra(right, 2048, 512), strict=True):
        mels = [20 * np.log10(np.maximum(spectrum @ weights, 1e-5)) for spectrum in (first, second)]
        total += float(np.abs(mels[0] - mels[1]).sum())
        count += mels[0].size
    return total / count


def visqol_audio(reference: ArrayLike, decoded: ArrayLike, rate: int) -> float:
    """ViSQOL MOS-LQO in audio mode, 1 .. 4.73 (visqol-python, models inside). Needs `ravecodec[eval]`.

    Any rate (brought to 48 kHz), 1 s or more; NaN for silence. Raises UsageError where the extra is missing, InputError
    as `peak_score` does and for shorter audio.
    """
    left, right = _pair(reference, decoded)
    _at_least(SHORTEST_VISQOL, left, rate)
    if not (left.any() and right.any()):
        return float("nan")
    result = _visqol("audio").measure_from_arrays(_at_48k(left, rate), _at_48k(right, rate), 48000)
    return float(result.moslqo)


def visqol_speech(reference: ArrayLike, decoded: ArrayLike, rate: int) -> float:
    """ViSQOL MOS-LQO in speech mode at 16 kHz, 1 .. 5; identical signals score 4.5 to 5. Needs `ravecodec[eval]`.

    Not on one scale with the audio mode. Raises as `visqol_audio` does.
    """
    left, right = _pair(reference, decoded)
    _at_least(SHORTEST_VISQOL, left, rate)
    if not (left.any() and right.any()):
        return float("nan")
    result = _visqol("speech").measure_from_arrays(_at_16k(left, rate), _at_16k(right, rate), 16000)
    return float(result.moslqo)


def estoi(reference: ArrayLike, decoded: ArrayLike, rate: int) -> float:
    """Extended short-time objective intelligibility of speech, up to 1, more is better (Jensen & Taal 2016; pystoi).

    Any rate (brought to 10 kHz by pystoi). NaN where there is too little sound for it (some 0.4 s). Raises as
    `peak_score` does, UsageError without `ravecodec[eval]`.
    """
    left, right = _pair(reference, decoded)
    module = extra("pystoi")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        value = float(module.stoi(_at_16k(left, rate), _at_16k(right, rate), 16000, extended=True))
    return float("nan") if value == UNDEFINED_ESTOI else value


def pesq_wb(reference: ArrayLike, decoded: ArrayLike, rate: int) -> float:
    """Wideband PESQ of speech, MOS-LQO 1.02 .. 4.64, more is better (ITU-T P.862.2; the package pesq).

    Any rate (brought to 16 kHz). NaN where it finds no speech, and for silence and less than 0.25 s. Raises as
    `peak_score` does, UsageError without the package.
    """
    left, right = _pair(reference, decoded)
    module = extra("pesq")
    if not (left.any() and right.any()):
        return float("nan")
    try:
        return float(module.pesq(16000, _at_16k(left, rate), _at_16k(right, rate), "wb"))
    except module.PesqError:
        return float("nan")


def zimtohrli(reference: ArrayLike, decoded: ArrayLike, rate: int) -> float:
    """Zimtohrli MOS, 1 .. 5 (Google's psychoacoustic metric). Needs `ravecodec[eval]`.

    Any rate (brought to 48 kHz), 0.1 s or more. Raises UsageError where the extra is missing, InputError as
    `peak_score` does and for shorter audio.
    """
    left, right = _pair(reference, decoded)
    module = extra("zimtohrli")
    _at_least(SHORTEST_ZIMTOHRLI, left, rate)
    first, second = (_at_48k(signal, rate).astype(np.float32) for signal in (left, right))
    return float(module.mos_from_signals(first, second))


def _pair(reference: ArrayLike, decoded: ArrayLike) -> tuple[Signal, Signal]:
    """Both signals as float32 vectors, checked."""
    left, right = np.asarray(reference, dtype=np.float32), np.asarray(decoded, dtype=np.float32)
    if left.ndim != 1 or left.shape != right.shape or left.size == 0:
        raise InputError(f"scores take two mono signals of one length, found shapes {left.shape} and {right.shape}")
    if not (np.isfinite(left).all() and np.isfinite(right).all()):
        raise InputError("scores take finite samples, found NaN or infinity")
    return left, right


def _at_least(seconds: float, signal: Signal, rate: int) -> None:
    """InputError for a shorter signal."""
    if len(signal) < seconds * rate:
        raise InputError(f"this score takes {seconds:g} s or more, found {len(signal)} samples at {rate} Hz")


def _rms(signal: Signal) -> float:
    """Root mean square, kept off zero."""
    return float(np.sqrt(np.mean(signal.astype(np.float64) ** 2))) + 1e-9


def _spectra(signal: Signal, size: int, hop: int) -> Iterator[Spectrum]:
    """Magnitudes (frames, size // 2 + 1) of Hann windows, a sine of amplitude 1 giving 1; blocks of 256 frames."""
    window = np.hanning(size + 1)[:-1].astype(np.float32)
    window /= window.sum() / 2
    padded = np.pad(signal, (0, max(0, size - len(signal))))
    frames = np.lib.stride_tricks.sliding_window_view(padded, size)[::hop]
    for start in range(0, len(frames), _FRAMES_AT_ONCE):
        spectra = np.fft.rfft(frames[start : start + _FRAMES_AT_ONCE] * window, axis=1)
        yield np.abs(spectra).astype(np.float32)


def _peak_size(rate: int) -> int:
    """Window length of the peak measure: the power of two nearest to 0.17 s."""
    return 1 << max(6, round(np.log2(PEAK_SECONDS * rate)))


def _levels(signal: Signal, rate: int) -> Iterator[Spectrum]:
    """Levels in dB from bin 0 to the last bin that the peak measure looks at."""
    size = _peak_size(rate)
    bins = round((PEAK_BAND[1] + PEAK_MEDIAN_HZ) * size / rate) + 1
    for block in _spectra(signal, size, size // 4):
        yield 20 * np.log10(block[:, :bins] + np.float32(1e-9))


def _peaks(levels: Spectrum, floor: float, rate: int) -> NDArray[np.bool_]:
    """Mask of the prominent peaks in levels (frames, bins); `floor` in dB silences quiet frames."""
    width = rate / _peak_size(rate)
    low, high = (round(edge / width) for edge in PEAK_BAND)
    loudest = levels[:, low:high].max(axis=1, keepdims=True)
    neighbours = np.lib.stride_tricks.sliding_window_view(np.pad(levels, ((0, 0), (2, 2)), mode="edge"), 5, axis=1)
    mask = (levels >= neighbours.max(axis=2)) & (levels > loudest - PEAK_RANGE_DB) & (loudest > floor)
    mask[:, :low] = False
    mask[:, high:] = False
    return mask & _prominent(levels, mask, round(PEAK_MEDIAN_HZ / width))


def _prominent(levels: Spectrum, mask: NDArray[np.bool_], reach: int) -> NDArray[np.bool_]:
    """Of the bins in `mask`, those 12 dB over the median of the bins within `reach`."""
    padded = np.pad(levels, ((0, 0), (reach, reach)), mode="reflect")
    around = np.lib.stride_tricks.sliding_window_view(padded, 2 * reach + 1, axis=1)
    frames, bins = np.nonzero(mask)
    out = np.zeros_like(mask)
    out[frames, bins] = levels[frames, bins] - np.median(around[frames, bins], axis=1) > PEAK_PROMINENCE_DB
    return out


def _met(
    peaks: NDArray[np.bool_], levels: Spectrum, others: NDArray[np.bool_], other_levels: Spectrum, rate: int
) -> NDArray[np.bool_]:
    """Of `peaks`, those with one of `others` within 1 bin or 10 cents and within 12 dB."""
    out = np.zeros_like(peaks)
    bins = np.arange(peaks.shape[1])
    reach = np.maximum(1, np.floor(bins * (2 ** (PEAK_CENTS / 1200) - 1) + 0.5)).astype(int)
    for shift in range(-int(reach.max()), int(reach.max()) + 1):
        target = bins + shift
        usable = (target >= 0) & (target < len(bins)) & (abs(shift) <= reach)
        source, target = bins[usable], target[usable]
        close = np.abs(levels[:, source] - other_levels[:, target]) <= PEAK_LEVEL_DB
        out[:, source] |= peaks[:, source] & others[:, target] & close
    return out


@lru_cache(maxsize=4)
def _mel_weights(rate: int, size: int, bands: int) -> Spectrum:
    """(bins, bands) triangles on the HTK mel scale, each summing to 1 and at least one bin wide on both sides."""
    bins = np.arange(size // 2 + 1) * rate / size
    mels = np.linspace(0, 2595 * np.log10(1 + rate / 2 / 700), bands + 2)
    edges = 700 * (10 ** (mels / 2595) - 1)
    centre = edges[1:-1]
    below = np.maximum(centre - edges[:-2], rate / size)
    above = np.maximum(edges[2:] - centre, rate / size)
    offset = bins[:, None] - centre
    weights = np.maximum(0, 1 - np.where(offset < 0, -offset / below, offset / above))
    return (weights / weights.sum(axis=0)).astype(np.float32)


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
