"""The loudness of one sound given to another, second by second, as streams.

Loudness is ITU-R BS.1770's: the power of both channels behind its K-weighting. Here it is taken of
overlapping windows of a second, from their spectra; so one filter, which the standard gives for 48
kHz, serves every rate.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from ravecodec.audio import Audio

# BS.1770-5, annex 1, tables 1 and 2: the two biquads of the K-weighting at 48 kHz, b and a
STANDARD_RATE = 48_000
SHELF = (
    (1.53512485958697, -2.69169618940638, 1.19839281085285),
    (1.0, -1.69065929318241, 0.73248077421585),
)
HIGH_PASS = ((1.0, -2.0, 1.0), (1.0, -1.99004745483398, 0.99007225036621))
OFFSET_DB = -0.691  # loudness of a power of 1, in LUFS

HOP_SECONDS = 0.5  # between the middles of windows, which last twice as long
FLOOR_LUFS = -70.0  # BS.1770's absolute gate: what is below it has no loudness to speak of
MOST_DB = 20.0  # of gain, either way


def k_weighting(hz: NDArray[np.floating]) -> NDArray[np.float64]:
    """The K-weighting's power gain at frequencies in Hz; above 24 kHz, which it does not know, that
    of 24 kHz.
    """
    z = np.exp(-2j * np.pi * np.minimum(hz, STANDARD_RATE / 2) / STANDARD_RATE)
    gain = np.ones(hz.shape)
    for b, a in (SHELF, HIGH_PASS):
        gain = gain * np.abs(np.polyval(b[::-1], z) / np.polyval(a[::-1], z)) ** 2
    return gain


class Levels:
    """Audio in pieces of any length -> the K-weighted power of every window, a mean over its
    second.

    Window k lies around sample k * hop. They overlap by half, and their shapes, squared sines, add
    up to 1. Beyond both ends there are zeros. Memory does not grow with length.
    """

    def __init__(self, rate: int, channels: int) -> None:
        self.hop = max(1, round(rate * HOP_SECONDS))
        size = 2 * self.hop
        self._shape = np.sin(np.pi * (np.arange(size) + 0.5) / size)
        sides = np.full(self.hop + 1, 2.0)
        sides[[0, -1]] = 1.0
        # Parseval: the mean over `hop` samples, half the window, because the squared shape has half
        # its area
        self._weights = k_weighting(np.fft.rfftfreq(size, 1 / rate)) * sides / (size * self.hop)
        self._held = np.zeros((channels, self.hop), np.float32)

    def process(self, audio: Audio) -> Iterator[float]:
        """Feed float32 [channels, n]; yields the powers of windows that became complete."""
        self._held = np.concatenate([self._held, audio], axis=1)
        while self._held.shape[1] >= 2 * self.hop:
            spectrum = np.fft.rfft(self._held[:, : 2 * self.hop] * self._shape)
            yield float((np.abs(spectrum) ** 2 @ self._weights).sum())
            self._held = self._held[:, self.hop :]

    def flush(self) -> Iterator[float]:
        """Ends the stream: yields the rest, up to a window whose middle is at the end or behind
        it.
        """
        behind = -self._held.shape[1] % self.hop
        yield from self.process(np.zeros((len(self._held), behind + self.hop), np.float32))


class Follower:
    """Gives one sound the loudness of another of the same rate, channels and length.

    `follow` feeds the sound that is followed, `process` the one that is changed, in any pieces and
    in either order as long as the first is not behind; `flush` ends both. The gain of a window is
    bounded, and goes towards none where both fall below FLOOR_LUFS; between the middles of windows
    it moves evenly in dB, so it never jumps.
    """

    def __init__(self, rate: int, channels: int) -> None:
        self._theirs, self._ours = Levels(rate, channels), Levels(rate, channels)
        self._wanted: list[float] = []  # powers, from the next window on
        self._found: list[float] = []
        self._held = np.zeros((channels, 0), np.float32)  # from the middle of the window before on
        self._gain_db: float | None = None  # of that window

    def follow(self, audio: Audio) -> None:
        """Feed float32 [channels, n] of the sound that is followed."""
        self._wanted.extend(self._theirs.process(audio))

    def process(self, audio: Audio) -> Iterator[Audio]:
        """Feed float32 [channels, n] of the sound that is changed; yields what is ready."""
        self._held = np.concatenate([self._held, audio], axis=1)
        self._found.extend(self._ours.process(audio))
        yield from self._ready()

    def flush(self) -> Iterator[Audio]:
        """Ends both sounds: yields the rest."""
        self._wanted.extend(self._theirs.flush())
        self._found.extend(self._ours.flush())
        yield from self._ready()

    def _ready(self) -> Iterator[Audio]:
        while self._wanted and self._found:
            gain_db = gain_between(self._found.pop(0), self._wanted.pop(0))
            before, self._gain_db = self._gain_db, gain_db
            if before is None:
                continue
            part, self._held = np.split(self._held, [self._ours.hop], axis=1)
            way = np.arange(part.shape[1]) / self._ours.hop
            curve = 10 ** ((before + (gain_db - before) * way) / 20)
            yield (part * curve).astype(np.float32)


def gain_between(found: float, wanted: float) -> float:
    """dB that bring one K-weighted power to another, within MOST_DB."""
    floor = 10 ** ((FLOOR_LUFS - OFFSET_DB) / 10)
    return float(np.clip(10 * np.log10((wanted + floor) / (found + floor)), -MOST_DB, MOST_DB))
