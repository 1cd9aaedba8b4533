"""A high-pass for the encoder: an offset and what lies below hearing are no sound, but the network
makes one of it.

What a symmetric low-pass finds (FIR, Kaiser window) is subtracted, so there is no shift in time.
Beyond both ends the audio is continued by reflection: an offset that is there from the first sample
on is gone without a transient. The low-pass works on triangular averages, one for 16 samples, and
its output is interpolated linearly: what that folds or mirrors lies 90 dB below.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from ravecodec.audio import Audio
from ravecodec.windows import MirroredWindows

# -6 dB; from 20 Hz on all passes within 0.03 dB, up to 10 Hz at least 49 dB are taken off.
CUTOFF_HZ = 14.5
HALF_SECONDS = 8192 / 48_000  # of the low-pass's impulse response on each side
BETA = 4.5  # of the Kaiser window
# at least so many averages a second: at that frequency triangles fold only what is 90 dB down
COARSE_HZ = 3000
COARSE = 16  # samples per average, where the rate allows it


def low_pass(rate: float, half: int) -> NDArray[np.float64]:
    """The impulse response [2 half + 1] at `rate` Hz, symmetric and of sum 1."""
    time = np.arange(-half, half + 1)
    response = np.sinc(2 * CUTOFF_HZ / rate * time) * np.kaiser(2 * half + 1, BETA)
    return response / response.sum()


class HighPass:
    """Audio at `rate` Hz in pieces of any length -> the same, high-passed, as many samples, in
    whatever pieces.

    The joined output depends only on the joined input, bit for bit: it is computed in float64 in
    blocks at fixed places of the stream. Memory does not grow with length.
    """

    def __init__(self, rate: int, channels: int) -> None:
        coarse = max(1, min(COARSE, rate // COARSE_HZ))
        half = round(HALF_SECONDS * rate / coarse)
        size = 8 * half  # of the transform, in averages: about three quarters of them are new ones
        kernel = np.pad(low_pass(rate / coarse, half), (0, size - 2 * half - 1))
        self._response = np.fft.rfft(np.roll(kernel, -half)).real
        # Rising and falling.
        self._ramps = np.stack([np.arange(coarse), coarse - np.arange(coarse)]) / coarse
        self._margin = (half + 1) * coarse
        self._step = size * coarse - 2 * self._margin
        self._windows = MirroredWindows(channels, self._step, self._margin, self._margin)

    def process(self, audio: Audio) -> Iterator[Audio]:
        """Feed float32 [channels, n]; yields what is ready."""
        for window, count in self._windows.process(audio):
            yield self._filtered(window, count)

    def flush(self) -> Iterator[Audio]:
        """Ends the stream: yields the rest. Nothing may be processed afterwards."""
        for window, count in self._windows.flush():
            yield self._filtered(window, count)

    def _filtered(self, window: Audio, count: int) -> Audio:
        high = window - self._low(window.astype(np.float64))
        return high[:, self._margin : self._margin + count].astype(np.float32)

    def _low(self, window: NDArray[np.float64]) -> NDArray[np.float64]:
        """What the low-pass lets through, right but for a margin at both ends of the window."""
        blocks = window.reshape(len(window), -1, self._ramps.shape[1])
        rising, falling = (np.einsum("cbs,s->cb", blocks, ramp) for ramp in self._ramps)
        # Each centred on the first sample of its block.
        averages = (np.roll(rising, 1, axis=1) + falling) / len(self._ramps[0])
        low = np.fft.irfft(np.fft.rfft(averages) * self._response, averages.shape[1])
        lines = np.einsum("kcb,ks->cbs", [np.roll(low, -1, axis=1), low], self._ramps)
        return lines.reshape(window.shape)
