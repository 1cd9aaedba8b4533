"""Whether the tones of decoded audio are where they belong: prominent spectral peaks of both
signals, compared.

Takes two mono signals of one rate that are aligned to the sample. Needs numpy only.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ravecodec.evaluate.measures.signals import Signal, checked_pair, spectra

Spectrum = NDArray[np.float32]  # [frames, bins]
Mask = NDArray[np.bool_]

# The peak measure is this project's own, and so are these values: no standard defines them
# (`peak_score` says what each does). A change of any makes new scores incomparable with old ones.
PEAK_BAND = (50.0, 5000.0)
PEAK_SECONDS = 8192 / 48000
PEAK_PROMINENCE_DB = 12.0
PEAK_MEDIAN_HZ = 150.0
PEAK_RANGE_DB = 50.0
PEAK_ACTIVE_DB = 60.0
PEAK_CENTS = 10.0
PEAK_LEVEL_DB = 12.0


@dataclass(frozen=True)
class PeakScore:
    """Result of `peak_score`: counts of prominent spectral peaks and of those that the other signal
    has as well."""

    reference: int
    decoded: int
    found: int
    right: int

    @property
    def recall(self) -> float:
        """Share of the reference's peaks that the decoded signal has; 1 where the reference has
        none."""
        return self.found / self.reference if self.reference else 1.0

    @property
    def precision(self) -> float:
        """Share of the decoded signal's peaks that the reference has; 1 where the decoded signal
        has none."""
        return self.right / self.decoded if self.decoded else 1.0

    @property
    def f1(self) -> float:
        """Harmonic mean of precision and recall, 0..1; 1 where neither signal has a peak."""
        total = self.recall + self.precision
        return 2 * self.recall * self.precision / total if total else 0.0


def peak_f1(reference: ArrayLike, decoded: ArrayLike, rate: int) -> float:
    """F1 of the prominent spectral peaks of `decoded` against those of `reference`; see
    `peak_score`."""
    return peak_score(reference, decoded, rate).f1


def peak_score(reference: ArrayLike, decoded: ArrayLike, rate: int) -> PeakScore:
    """Whether the partials of tones are where they belong: peaks of both signals, compared frame by
    frame.

    A peak is a maximum over +-2 bins of a Hann spectrum of about 0.17 s (8192 samples at 48 kHz,
    hop a quarter) between 50 and 5000 Hz that stands 12 dB over the median of +-150 Hz around it,
    is within 50 dB of the loudest bin of its frame, in a frame within 60 dB of the signal's loudest
    bin. It counts as met when the other signal has a peak in the same frame within one bin or 10
    cents, whichever is wider, and within 12 dB of its level (after the two signals were brought to
    one level overall). Identical signals score 1, noise with the reference's envelope next to
    nothing; docs/evaluation.md has what codecs score, and another piece of music, which is the
    level of chance.

    reference, decoded: mono, (samples,), same rate in Hz. Raises InputError on other shapes,
    lengths or NaN.
    """
    left, right = checked_pair(reference, decoded)
    left, right = left / _rms(left), right / _rms(right)
    levels = [list(_levels(signal, rate)) for signal in (left, right)]  # 80 kB a second
    floors = [max(float(block.max()) for block in blocks) - PEAK_ACTIVE_DB for blocks in levels]
    counts = np.zeros(4, dtype=np.int64)
    for first, second in zip(*levels, strict=True):
        peaks = _peaks(first, floors[0], rate), _peaks(second, floors[1], rate)
        of_reference = _met(peaks[0], first, peaks[1], second, rate)
        of_decoded = _met(peaks[1], second, peaks[0], first, rate)
        counts += [np.count_nonzero(mask) for mask in (*peaks, of_reference, of_decoded)]
    return PeakScore(*(int(count) for count in counts))


def _rms(signal: Signal) -> float:
    """Root mean square, kept off zero."""
    return float(np.sqrt(np.mean(signal.astype(np.float64) ** 2))) + 1e-9


def _peak_size(rate: int) -> int:
    """Window length of the peak measure: the power of two nearest to 0.17 s."""
    return 1 << max(6, round(np.log2(PEAK_SECONDS * rate)))


def _levels(signal: Signal, rate: int) -> Iterator[Spectrum]:
    """Levels in dB from bin 0 to the last bin that the peak measure looks at."""
    size = _peak_size(rate)
    bins = round((PEAK_BAND[1] + PEAK_MEDIAN_HZ) * size / rate) + 1
    for block in spectra(signal, size, size // 4):
        yield 20 * np.log10(block[:, :bins] + np.float32(1e-9))


def _peaks(levels: Spectrum, floor: float, rate: int) -> Mask:
    """Mask of the prominent peaks in levels (frames, bins); `floor` in dB silences quiet frames."""
    width = rate / _peak_size(rate)
    low, high = (round(edge / width) for edge in PEAK_BAND)
    loudest = levels[:, low:high].max(axis=1, keepdims=True)
    neighbours = np.lib.stride_tricks.sliding_window_view(
        np.pad(levels, ((0, 0), (2, 2)), mode="edge"), 5, axis=1
    )
    mask = (
        (levels >= neighbours.max(axis=2)) & (levels > loudest - PEAK_RANGE_DB) & (loudest > floor)
    )
    mask[:, :low] = False
    mask[:, high:] = False
    return mask & _prominent(levels, mask, round(PEAK_MEDIAN_HZ / width))


def _prominent(levels: Spectrum, mask: Mask, reach: int) -> Mask:
    """Of the bins in `mask`, those 12 dB over the median of the bins within `reach`."""
    padded = np.pad(levels, ((0, 0), (reach, reach)), mode="reflect")
    around = np.lib.stride_tricks.sliding_window_view(padded, 2 * reach + 1, axis=1)
    frames, bins = np.nonzero(mask)
    out = np.zeros_like(mask)
    out[frames, bins] = (
        levels[frames, bins] - np.median(around[frames, bins], axis=1) > PEAK_PROMINENCE_DB
    )
    return out


def _met(
    peaks: Mask,
    levels: Spectrum,
    others: Mask,
    other_levels: Spectrum,
    rate: int,
) -> Mask:
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
