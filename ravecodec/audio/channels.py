"""More than two channels: which they are, and how one or two are made of them.

Orders of channels: WAVEFORMATEXTENSIBLE's mask (Microsoft), FLAC (RFC 9639, 9.1.3), Vorbis I
(4.3.9), which Opus shares. The downmix is ITU-R BS.775-3, annex 4, table 2.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ravecodec.audio.samples import Interleaved
from ravecodec.errors import InputError, UsageError

MOST_SOURCE_CHANNELS = 64
MASK = ("FL", "FR", "FC", "LFE", "BL", "BR", "FLC", "FRC", "BC", "SL", "SR")  # from bit 0 on
_USUAL: dict[int, tuple[str, ...]] = {  # of WAV and FLAC, by number of channels
    3: ("FL", "FR", "FC"),
    4: ("FL", "FR", "BL", "BR"),
    5: ("FL", "FR", "FC", "BL", "BR"),
    6: ("FL", "FR", "FC", "LFE", "BL", "BR"),
    7: ("FL", "FR", "FC", "LFE", "BC", "SL", "SR"),
    8: ("FL", "FR", "FC", "LFE", "BL", "BR", "SL", "SR"),
}
_VORBIS: dict[int, tuple[str, ...]] = {
    3: ("FL", "FC", "FR"),
    4: ("FL", "FR", "BL", "BR"),
    5: ("FL", "FC", "FR", "BL", "BR"),
    6: ("FL", "FC", "FR", "BL", "BR", "LFE"),
    7: ("FL", "FC", "FR", "SL", "SR", "BC", "LFE"),
    8: ("FL", "FC", "FR", "SL", "SR", "BL", "BR", "LFE"),
}
_HALF_POWER = 0.5**0.5
_GAINS: dict[str, tuple[float, float]] = {  # to the left and to the right
    "FL": (1.0, 0.0),
    "FR": (0.0, 1.0),
    "FC": (_HALF_POWER, _HALF_POWER),
    "LFE": (0.0, 0.0),
    "BL": (_HALF_POWER, 0.0),
    "BR": (0.0, _HALF_POWER),
    "SL": (_HALF_POWER, 0.0),
    "SR": (0.0, _HALF_POWER),
    "BC": (0.5, 0.5),  # as surround left and right, each with half its power
    "FLC": (1.0, 0.0),  # not in BS.775: as its side
    "FRC": (0.0, 1.0),
}


@dataclass(frozen=True)
class Mix:
    """What is wished of audio with more than two channels. downmix: stereo of all of them. picks:
    these, counted from 1, instead of all."""

    downmix: bool = False
    picks: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if self.downmix and self.picks:
            raise UsageError("downmix and channels are both given; expected one of them")
        if self.picks and not (len(self.picks) <= 2 and min(self.picks) >= 1):
            words = ",".join(map(str, self.picks))
            raise UsageError(f"channels are {words}, expected one or two numbers from 1 up")

    @property
    def wished(self) -> bool:
        """Whether anything is."""
        return self.downmix or bool(self.picks)


def from_mask(mask: int, channels: int) -> tuple[str, ...] | None:
    """The channels of a mask of WAVEFORMATEXTENSIBLE; None where it names another number of them,
    or one that has no place on this page.
    """
    names = tuple(name for bit, name in enumerate(MASK) if mask >> bit & 1)
    return names if mask < 1 << len(MASK) and len(names) == channels else None


def usual_order(container: str, subtype: str, channels: int) -> tuple[tuple[str, ...] | None, bool]:
    """(the channels' order in a container by its own rules, or by custom; whether it is known and
    not assumed).
    """
    if container == "OGG" and subtype in ("VORBIS", "OPUS"):
        return _VORBIS.get(channels), True
    return _USUAL.get(channels), container == "FLAC"


class Mixer:
    """Makes one or two channels of blocks [n, channels].

    remark: a sentence on what is done; "" where nothing is.
    """

    def __init__(
        self, name: str, channels: int, mix: Mix, order: tuple[str, ...] | None, *, known: bool
    ) -> None:
        self.channels = channels
        self.remark = ""
        self._picks = np.array(mix.picks, dtype=int) - 1
        self._matrix: NDArray[np.float32] | None = None
        if mix.picks and max(mix.picks) > channels:
            words = ",".join(map(str, mix.picks))
            expected = f"expected at least {max(mix.picks)} for channels {words}"
            raise InputError(f"{name}: has {channels} channel{'s' * (channels > 1)}, {expected}")
        if mix.picks:
            self.channels = len(mix.picks)
        elif mix.downmix and channels > 2:
            self._mix_down(name, order, known)

    def _mix_down(self, name: str, order: tuple[str, ...] | None, known: bool) -> None:
        if order is None or not set(order) <= _GAINS.keys():
            unknown = f"{self.channels} channels that are not known ({', '.join(order or ['?'])})"
            raise InputError(f"{name}: has {unknown}; --channels takes one or two of them")
        matrix = np.array([_GAINS[each] for each in order]).T
        matrix /= max(1.0, matrix.sum(axis=1).max())  # so that nothing clips
        self._matrix = matrix.astype(np.float32)
        self.channels = 2
        sums = [_sum(order, row) for row in matrix]
        assumed = "" if known else ", an order that is assumed, as the file has none"
        self.remark = (
            f"{name}: {len(order)} channels ({' '.join(order)}{assumed}) are mixed down as in "
            f"ITU-R BS.775: left = {sums[0]}, right = {sums[1]}"
        )

    def original(self, channel: int) -> int:
        """The number from 0 up that a channel has in the file, of those that `picked` gives."""
        return int(self._picks[channel]) if len(self._picks) else channel

    def picked(self, frames: Interleaved) -> Interleaved:
        """[n, channels] of the file -> those that are taken."""
        return frames[:, self._picks] if len(self._picks) else frames

    def mixed(self, frames: Interleaved) -> Interleaved:
        """What `picked` gave -> [n, 1 or 2]."""
        return frames if self._matrix is None else frames @ self._matrix.T


def _sum(order: Sequence[str], gains: Sequence[float]) -> str:
    """A row of the matrix in words."""
    return " + ".join(f"{gain:.3f} {name}" for name, gain in zip(order, gains, strict=True) if gain)
