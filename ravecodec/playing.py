"""A `Live` between an input and an output in real time: raw PCM on pipes, or sound devices.

    play_pipe(live, source, target)            play_devices(live, "microphone", None)

Both measure how long the longest block took and how often there was no sound in time. Devices are
driven through the package sounddevice (extra `live`), whose blocking streams are all that is used
of it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, BinaryIO

import numpy as np

from ravecodec.audio import Audio
from ravecodec.errors import InputError, UsageError
from ravecodec.files import STDIN_NAME
from ravecodec.live import Live

FORMATS = {"16": "<i2", "float": "<f4"}  # of raw PCM, by their names: numpy's


@dataclass(frozen=True)
class Played:
    """What was played. latency: samples, from the block and the receptive fields; samples: per
    channel; longest: seconds that the slowest block took; late: blocks that took longer than they
    last; underruns: how often the devices had no sound to play or no room for their input;
    clipped: samples beyond full scale, over all channels; device_latency: seconds that the devices
    add, as they say."""

    model: str
    sample_rate: int
    channels: int
    block: int
    latency: int
    samples: int
    longest: float
    late: int
    underruns: int = 0
    clipped: int = 0
    device_latency: float = 0.0

    @property
    def latency_ms(self) -> float:
        return 1000 * self.latency / self.sample_rate

    @property
    def load(self) -> float:
        """The slowest block's time as a share of the time that a block lasts."""
        return self.longest * self.sample_rate / self.block


class Player:
    """Plays pieces of at most a block through a `Live`, and takes down how long each takes.

    seconds: after so many it is at its end; None: never.
    """

    def __init__(self, live: Live, seconds: float | None = None) -> None:
        self._live = live
        whole = None if seconds is None else round(seconds * live.sample_rate)
        self._left = whole
        self.samples = self.late = self.underruns = self.clipped = 0
        self.longest = self.device_latency = 0.0

    @property
    def wanted(self) -> int:
        """Samples that the next piece may have at most; 0 at the end."""
        block = self._live.block
        return block if self._left is None else min(block, self._left)

    def play(self, audio: Audio) -> Audio:
        """float32 [channels, n], n <= `wanted`, -> as many samples of the output."""
        began = time.perf_counter()
        output = self._live.process(audio)
        took = time.perf_counter() - began
        self.longest = max(self.longest, took)
        self.late += took * self._live.sample_rate > self._live.block
        self.samples += audio.shape[1]
        if self._left is not None:
            self._left -= audio.shape[1]
        return output

    def played(self) -> Played:
        """What was played so far."""
        live = self._live
        return Played(
            model=live.model.name,
            sample_rate=live.sample_rate,
            channels=live.channels,
            block=live.block,
            latency=live.latency,
            samples=self.samples,
            longest=self.longest,
            late=self.late,
            underruns=self.underruns,
            clipped=self.clipped,
            device_latency=self.device_latency,
        )


# ---- pipes ---------------------------------------------------------------------------------------


def play_pipe(player: Player, source: BinaryIO, target: BinaryIO, form: str, channels: int) -> None:
    """Raw little-endian PCM, interleaved, from source to target as it comes, up to the end of
    either. form: of FORMATS.

    InputError where source ends within a sample, or holds what is no audio; OutputError where
    target cannot be written.
    """
    for audio in _pieces(player, source, form, channels):
        target.write(_to_pcm(player, player.play(audio), form))
        target.flush()


def _pieces(player: Player, source: BinaryIO, form: str, channels: int) -> Iterator[Audio]:
    """What is there of source, at most a block at a time, as float32 [channels, n]."""
    size = np.dtype(FORMATS[form]).itemsize * channels
    read: Callable[[int], bytes] = getattr(source, "read1", source.read)
    rest = b""
    while (wanted := player.wanted * size - len(rest)) > 0:
        if not (data := read(wanted)):
            break
        data = rest + data
        rest = data[len(data) // size * size :]
        if whole := data[: len(data) - len(rest)]:
            yield _from_pcm(whole, form, channels)
    if rest:
        found = f"ends {len(rest)} bytes into a sample of {size}"
        raise InputError(f"{STDIN_NAME}: {found}, expected whole samples of {channels} channels")


def _from_pcm(data: bytes, form: str, channels: int) -> Audio:
    values = np.frombuffer(data, FORMATS[form]).astype(np.float32)
    scale = np.float32(1 / 32768 if form == "16" else 1)
    return np.ascontiguousarray(values.reshape(-1, channels).T) * scale


def _to_pcm(player: Player, audio: Audio, form: str) -> bytes:
    if form == "float":
        return audio.T.astype(FORMATS[form]).tobytes()
    player.clipped += int(np.count_nonzero(np.abs(audio) > 1))
    scaled = np.clip(np.rint(audio.T * 32768), -32768, 32767)
    return scaled.astype(FORMATS[form]).tobytes()


# ---- devices -------------------------------------------------------------------------------------


def sounddevice() -> Any:
    """The package of that name; UsageError where it, or the library that it drives, is missing."""
    try:
        import sounddevice
    except ImportError as error:
        needs = "this needs `pip install 'ravecodec[live]'`"
        raise UsageError(f"sounddevice is not installed; {needs}") from error
    except OSError as error:  # it does not find PortAudio
        raise UsageError(
            f"sounddevice does not work here ({error}), expected the library PortAudio"
        ) from error
    return sounddevice


def list_devices() -> str:
    """The sound devices, a line each."""
    return str(sounddevice().query_devices())


def play_devices(player: Player, live: Live, source: str | None, target: str | None) -> None:
    """From one sound device to another until the player is at its end or Ctrl-C.

    source, target: a device's number, or a part of its name; None: the system's. UsageError where
    they cannot be opened so, or fail.
    """
    package = sounddevice()
    names = tuple(int(n) if n and n.isdecimal() else n for n in (source, target))
    silence = np.zeros((live.block, live.channels), np.float32)
    with _failures(package):
        stream = package.Stream(
            samplerate=live.sample_rate,
            blocksize=live.block,
            device=names,
            channels=live.channels,
            dtype="float32",
            latency="low",
        )
        with stream:
            player.device_latency = float(sum(np.atleast_1d(stream.latency)))
            stream.write(silence)  # what is played while the first block is recorded
            while player.wanted:
                recorded, over = stream.read(player.wanted)
                audio = player.play(np.ascontiguousarray(recorded.T))
                player.clipped += int(np.count_nonzero(np.abs(audio) > 1))
                under = stream.write(np.ascontiguousarray(audio.T.clip(-1, 1)))
                player.underruns += bool(over) + bool(under)


@contextmanager
def _failures(package: Any) -> Iterator[None]:
    """What PortAudio has against devices, as UsageError; Ctrl-C is the end."""
    try:
        yield
    except (package.PortAudioError, ValueError) as error:
        what = " ".join(str(part) for part in error.args[:1]) or type(error).__name__
        expected = "expected devices of this rate (--list-audio has their names)"
        raise UsageError(f"the sound devices cannot be used ({what}), {expected}") from error
    except KeyboardInterrupt:
        return
