"""Pitch without time: `PitchShift`, a phase vocoder and a resampler, as a stream.

The audio is made `ratio` times as long at its own pitch, then played `ratio` times as fast. Longer:
Laroche & Dolson, "Improved phase vocoder time-scale modification of audio" (1999), with identity
phase locking; a spectrum's bins are turned together with the peak that they belong to, in both
channels alike, so that the stereo image stays.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from ravecodec.audio import Audio, Resampler
from ravecodec.errors import UsageError

Spectrum = NDArray[np.complex128]  # [channels, bins]

MOST_SEMITONES = 24.0
FRAME_SECONDS = 4096 / 48_000  # about, of a window: a power of two
OVERLAP = 4  # windows that lie over each sample of the longer sound
PEAK_REACH = 2  # bins: a peak is above so many on both sides
ANALYSIS_SCALE = 2 / 3  # squared Hann windows that overlap four times add up to 3 / 2


def check_pitch(semitones: float) -> None:
    """UsageError for more than MOST_SEMITONES either way."""
    if not -MOST_SEMITONES <= semitones <= MOST_SEMITONES:
        expected = f"{-MOST_SEMITONES:g} to {MOST_SEMITONES:g}"
        raise UsageError(f"pitch is {semitones:g} semitones, expected {expected}")


class PitchShift:
    """Audio at `rate` Hz in pieces of any length -> the same time, `semitones` higher, as many
    samples.

    The joined output depends only on the joined input. No shift passes everything on as it is.
    Memory does not grow with length. UsageError for more than MOST_SEMITONES either way.
    """

    def __init__(self, rate: int, channels: int, semitones: float) -> None:
        check_pitch(semitones)
        faster = max(1, round(rate * 2 ** (semitones / 12)))
        self._stretch = None if faster == rate else Stretch(rate, channels, faster / rate)
        self._resampler = Resampler(faster, rate, channels)
        self._samples = 0

    def process(self, audio: Audio) -> Iterator[Audio]:
        """Feed float32 [channels, n]; yields what is ready."""
        self._samples += audio.shape[1]
        for longer in self._stretched(audio):
            yield self._resampler.process(longer)

    def flush(self) -> Iterator[Audio]:
        """Ends the stream: yields the rest. Nothing may be processed afterwards."""
        if self._stretch is not None:
            for longer in self._stretch.flush():
                yield self._resampler.process(longer)
        yield self._resampler.flush(self._samples)

    def _stretched(self, audio: Audio) -> Iterator[Audio]:
        if self._stretch is None:
            yield audio
        else:
            yield from self._stretch.process(audio)


class Stretch:
    """Audio at `rate` Hz in pieces of any length -> `ratio` times as long at the same pitch,
    rounded to samples.

    Window k is taken around sample k * hop / ratio and put around sample k * hop, turned in phase
    so that it goes on where the one before it leaves off. Beyond both ends there are zeros.
    """

    def __init__(self, rate: int, channels: int, ratio: float) -> None:
        self._size = 1 << max(6, round(np.log2(rate * FRAME_SECONDS)))
        self._hop = self._size // OVERLAP
        self._ratio = ratio
        self._window = np.hanning(self._size + 1)[:-1]
        # Of the next window, and of the first that reaches sample 0.
        self._number = self._first = 1 - OVERLAP // 2
        # Sample of the input where `_held` begins.
        self._begin = self._middle() - self._hop - self._size // 2
        self._held = np.zeros((channels, -self._begin), np.float32)
        self._received = self._emitted = 0
        # Of windows, from the start of the next one on.
        self._sum = np.zeros((channels, self._size))
        bins = self._size // 2 + 1
        self._turn = np.zeros(bins)  # of the window before, radians
        self._before: Spectrum = np.zeros((channels, bins), np.complex128)

    def process(self, audio: Audio) -> Iterator[Audio]:
        """Feed float32 [channels, n]; yields what is ready."""
        self._received += audio.shape[1]
        self._held = np.concatenate([self._held, audio], axis=1)
        while self._middle() + self._size // 2 <= self._begin + self._held.shape[1]:
            yield self._next()

    def flush(self) -> Iterator[Audio]:
        """Ends the stream: yields the rest. Nothing may be processed afterwards."""
        length = round(self._received * self._ratio)
        while (left := length - self._emitted) > 0:
            missing = self._middle() + self._size // 2 - self._begin - self._held.shape[1]
            self._held = np.pad(self._held, ((0, 0), (0, max(0, missing))))
            yield self._next()[:, :left]

    def _middle(self) -> int:
        """Sample of the input in the middle of the next window."""
        return round(self._number * self._hop / self._ratio)

    def _spectrum(self, middle: int) -> Spectrum:
        start = middle - self._size // 2 - self._begin
        return np.fft.rfft(self._held[:, start : start + self._size] * self._window)

    def _next(self) -> Audio:
        """Adds the next window; returns the hop of samples that it completes, none of which is
        before the start.
        """
        middle = self._middle()
        spectrum = self._spectrum(middle)
        if self._number > self._first:
            self._turn = self._turned(spectrum, self._spectrum(middle - self._hop))
        self._before = spectrum
        self._sum += (
            np.fft.irfft(spectrum * np.exp(1j * self._turn)) * self._window * ANALYSIS_SCALE
        )
        ready = self._sum[:, : self._hop].astype(np.float32)
        self._sum = np.pad(self._sum[:, self._hop :], ((0, 0), (0, self._hop)))
        before_start = self._size // 2 - self._number * self._hop
        self._number += 1
        self._forget()
        ready = ready[:, max(0, before_start) :]
        self._emitted += ready.shape[1]
        return ready

    def _turned(self, spectrum: Spectrum, hop_ago: Spectrum) -> NDArray[np.float64]:
        """The turn of each bin: that of its peak, for which the input's window one hop ago would
        follow on without a seam from the window that was put out before."""
        peaks = peaks_of((np.abs(spectrum) ** 2).sum(0))
        step = np.angle((self._before[:, peaks] * hop_ago[:, peaks].conj()).sum(0))
        turns = self._turn[peaks] + step
        borders = (peaks[1:] + peaks[:-1]) / 2
        nearest = np.searchsorted(borders, np.arange(spectrum.shape[1]))
        wrapped: NDArray[np.float64] = np.angle(np.exp(1j * turns))[nearest]
        return wrapped

    def _forget(self) -> None:
        """Drop what no window will see."""
        drop = self._middle() - self._hop - self._size // 2 - self._begin
        if drop > 0:
            self._held, self._begin = self._held[:, drop:], self._begin + drop


def peaks_of(power: NDArray[np.float64]) -> NDArray[np.intp]:
    """Bins that are greater than PEAK_REACH ones on both sides; the greatest alone where there are
    none.
    """
    padded = np.pad(power, PEAK_REACH, constant_values=-1.0)
    beside = np.stack(
        [
            padded[PEAK_REACH + k : PEAK_REACH + k + len(power)]
            for k in range(-PEAK_REACH, PEAK_REACH + 1)
            if k
        ]
    )
    peaks = np.flatnonzero(power > beside.max(axis=0))
    return peaks if len(peaks) else np.array([int(power.argmax())])
