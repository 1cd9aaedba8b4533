"""A stream cut into overlapping windows, mirrored beyond both ends.

Two users: the high-pass (`highpass.py`), whose windows are those of an overlap-save convolution,
and the `Analyser` of `codec.py`, whose windows are what the encoder's network sees. Beyond its ends
audio is continued by whole-sample symmetric reflection (numpy's "reflect"), as often as it takes; a
single sample is repeated.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from ravecodec.audio import Audio


def mirrored(positions: NDArray[np.int64], samples: int) -> NDArray[np.int64]:
    """Where a signal of `samples` samples, continued by reflection, takes its value from at any
    integer positions.
    """
    period = max(1, 2 * (samples - 1))
    within = positions % period
    return np.minimum(within, period - within)


class MirroredWindows:
    """Audio in pieces of any length -> windows [channels, past + step + future], one for every
    `step` samples.

    Window k shows the samples from k * step - past on. `process` and `flush` yield each with the
    number of samples of its step that the stream has, which is `step` but for the last window.
    There, the step ends with a multiple of `unit` samples, and what lies more than `future` behind
    that end is arbitrary. A stream without samples has no windows. Memory does not grow with
    length.
    """

    def __init__(self, channels: int, step: int, past: int, future: int, unit: int = 1) -> None:
        self._step, self._past, self._future, self._unit = step, past, future, unit
        self._held = np.zeros((channels, 0), np.float32)  # begins at sample `_begin`
        self._pieces: list[Audio] = []  # what came since, not yet joined to it
        self._begin = self._start = self._received = 0  # `_start`: of the next window's step

    def process(self, audio: Audio) -> Iterator[tuple[Audio, int]]:
        """Feed float32 [channels, n]; yields the windows that became complete."""
        self._pieces.append(audio)
        self._received += audio.shape[1]
        while self._received > self._last_needed():
            yield self._window(self._received), self._step
            self._advance()

    def flush(self) -> Iterator[tuple[Audio, int]]:
        """Ends the stream: yields the remaining windows. Nothing may be processed afterwards."""
        while self._start < self._received:
            end = -(-self._received // self._unit) * self._unit + self._future
            yield self._window(end), min(self._step, self._received - self._start)
            self._advance()

    def _last_needed(self) -> int:
        """The last sample that the next window shows, directly or mirrored at the start."""
        return max(self._start + self._step + self._future - 1, self._past - self._start)

    def _window(self, end: int) -> Audio:
        """The next window; positions from `end` on repeat the one before."""
        first = self._start - self._past
        positions = np.arange(first, self._start + self._step + self._future).clip(max=end - 1)
        audio = self._joined()
        if first < 0 or positions[-1] >= self._received:
            positions = mirrored(positions, self._received)
            return audio[:, positions - self._begin]
        return audio[:, positions[0] - self._begin : positions[-1] + 1 - self._begin]

    def _joined(self) -> Audio:
        self._held = np.concatenate([self._held, *self._pieces], axis=1)
        self._pieces = []
        return self._held

    def _advance(self) -> None:
        """Forget what neither the next window nor the mirror at the end can show."""
        self._start += self._step
        keep = max(self._begin, self._start - max(self._past, self._future + self._unit))
        self._held = self._held[:, keep - self._begin :]
        self._begin = keep
