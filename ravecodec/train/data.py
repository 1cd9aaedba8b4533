"""Training audio: a folder of files becomes one int16 memory map, split by file, from which random crops are drawn.

The cache is `audio.i16` (interleaved samples at the model's rate and channels) beside `tracks.jsonl` (one line per
finished track). Building it can be killed and started again at any moment: what no line of `tracks.jsonl` vouches for
is cut off.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np

from ravecodec.audio import Resampler, match_channels, open_input
from ravecodec.errors import InputError
from ravecodec.files import AtomicFile

AUDIO_SUFFIXES = frozenset(
    (".wav", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".aif", ".aiff", ".aifc", ".w64", ".caf", ".rf64", ".au")
)
SILENCE_RMS = 10 ** (-70 / 20) * 32768  # crops below this level are drawn again: nothing can be learnt from them
VALIDATION_SHARE = 0.05
BLOCK = 1 << 18


@dataclass(frozen=True)
class Track:
    """One file inside the memory map; `start` and `frames` count sample frames."""

    path: str
    start: int
    frames: int

    @property
    def stop(self) -> int:
        return self.start + self.frames


def scan(folder: Path) -> list[Path]:
    """All audio files below `folder`, sorted, so that the split does not depend on the file system."""
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder; expected a folder of audio files")
    files = sorted(p for p in folder.rglob("*") if p.suffix.lower() in AUDIO_SUFFIXES and p.is_file())
    if not files:
        raise InputError(f"{folder}: no audio files found; expected {', '.join(sorted(AUDIO_SUFFIXES))}")
    return files


def _int16_blocks(path: Path, rate: int, channels: int) -> Iterator[np.ndarray]:
    """Blocks int16 [frames, channels] of one file at the model's rate and channel count."""
    with open_input(path) as source:
        resampler = Resampler(source.sample_rate, rate, source.channels)
        pieces = (resampler.process(block) for block in source.blocks(BLOCK))
        for piece in _then(pieces, resampler.flush):
            matched = match_channels(piece, channels)
            yield np.clip(np.rint(matched.T * 32767), -32768, 32767).astype("<i2")


def _then(pieces: Iterator[np.ndarray], last: Callable[[], np.ndarray]) -> Iterator[np.ndarray]:
    yield from pieces
    yield last()


def _finished(index: Path) -> list[Track]:
    """Tracks vouched for by whole lines of the index; a torn last line (kill -9 while writing) does not count."""
    if not index.exists():
        return []
    text = index.read_text()
    return [Track(**json.loads(line)) for line in text[: text.rfind("\n") + 1].splitlines()]


def _line(track: Track) -> str:
    return json.dumps(asdict(track)) + "\n"


def _recover(index: Path, audio: Path, frame_bytes: int) -> list[Track]:
    """Tracks that are whole in both files; what lies behind them in either file is cut off."""
    for path in (index, audio):
        path.touch()
    size = audio.stat().st_size
    tracks = [t for t in _finished(index) if t.stop * frame_bytes <= size]
    os.truncate(index, sum(len(_line(t)) for t in tracks))
    os.truncate(audio, tracks[-1].stop * frame_bytes if tracks else 0)
    return tracks


def _check_settings(cache: Path, settings: dict[str, Any]) -> None:
    """InputError if the cache was made of another folder or in another form; else it is stamped with these settings."""
    stamp = cache / "settings.json"
    if not stamp.exists():
        with AtomicFile(stamp) as file:
            file.write(json.dumps(settings).encode())
    elif json.loads(stamp.read_text()) != settings:
        found, expected = stamp.read_text(), json.dumps(settings)
        raise InputError(f"{cache}: holds the audio of other settings {found}; expected {expected}")


def _append(data: IO[bytes], path: Path, rate: int, channels: int) -> int:
    """Appends one file's audio, synced to disk, and returns its frames; after an InputError nothing is appended."""
    start, frames = data.seek(0, os.SEEK_END), 0
    try:
        for block in _int16_blocks(path, rate, channels):
            data.write(block.tobytes())
            frames += len(block)
    except InputError:
        data.truncate(start)
        raise
    data.flush()
    os.fsync(data.fileno())
    return frames


def build_cache(
    folder: Path, cache: Path, rate: int, channels: int, report: Callable[[str], None] = lambda line: None
) -> list[Track]:
    """Decodes every audio file of `folder` into `cache/audio.i16`; skips what is there already.

    Files that cannot be read are reported by name and left out; InputError if none can be read.
    """
    files = scan(folder)
    cache.mkdir(parents=True, exist_ok=True)
    _check_settings(cache, {"folder": str(folder.resolve()), "rate": rate, "channels": channels})
    index, audio = cache / "tracks.jsonl", cache / "audio.i16"
    tracks = _recover(index, audio, channels * 2)
    done = {t.path for t in tracks}
    with audio.open("ab") as data, index.open("a") as lines:
        for path in files:
            name = path.relative_to(folder).as_posix()
            if name in done:
                continue
            start = tracks[-1].stop if tracks else 0
            try:
                tracks.append(Track(name, start, _append(data, path, rate, channels)))
            except InputError as error:
                report(f"left out: {error}")
                continue
            lines.write(_line(tracks[-1]))
            lines.flush()
            report(f"cached {len(tracks)}/{len(files)} {name}")
    if not any(t.frames for t in tracks):
        raise InputError(f"{folder}: none of {len(files)} audio files holds readable sound")
    return tracks


def _rank(track: Track) -> bytes:
    return hashlib.sha256(track.path.encode(errors="surrogateescape")).digest()


def split(tracks: list[Track]) -> tuple[list[Track], list[Track]]:
    """(training, validation): whole files, chosen by a hash of their names; never a file on both sides.

    Files without sound count for nothing. A single file is divided in time instead: its last tenth validates.
    """
    tracks = [t for t in tracks if t.frames > 0]
    if len(tracks) == 1:
        only = tracks[0]
        cut = only.frames - only.frames // 10
        return [Track(only.path, only.start, cut)], [Track(only.path, only.start + cut, only.frames - cut)]
    ranked = sorted(tracks, key=_rank)
    held = max(1, round(len(tracks) * VALIDATION_SHARE))
    return sorted(ranked[held:], key=lambda t: t.start), sorted(ranked[:held], key=lambda t: t.start)


def _place(crop: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Another stereo image of a crop [frames, 2]: side times 0 to 1.5, then one channel turned down, once in five times
    to silence; once in ten its polarity is turned as well. Most music is mixed around the middle: without this a
    network hardly ever sees a sound on one side."""
    mid, side = crop.mean(axis=1), crop[:, 0] - crop[:, 1]
    side *= random.uniform(0, 0.75)
    gain = max(0.0, random.uniform(-0.25, 1))
    if random.random() < 0.1:
        gain = -gain
    return np.stack([mid + side, gain * (mid - side)], axis=1).astype(np.float32)


class Crops:
    """Random crops of the memory map: every second of audio is about as likely as any other.

    `placed` is the share of stereo crops that get another place in the stereo image.

    `batch(step, size)` depends on nothing but its arguments and the seed, so a resumed run sees the audio it would have
    seen. InputError if the tracks hold no audio.
    """

    def __init__(
        self, cache: Path, tracks: list[Track], channels: int, length: int, seed: int, placed: float = 0.0
    ) -> None:
        self.audio = np.memmap(cache / "audio.i16", dtype="<i2", mode="r").reshape(-1, channels)
        self.tracks = [t for t in tracks if t.frames > 0]
        self.length = length
        self.seed = seed
        self.placed = placed if channels == 2 else 0.0
        if not self.tracks:
            raise InputError(f"{cache}: no audio to draw crops from; expected more or longer files")
        frames = np.array([t.frames for t in self.tracks], dtype=np.float64)
        self.weights = frames / frames.sum()

    def _crop(self, random: np.random.Generator) -> np.ndarray:
        track = self.tracks[random.choice(len(self.tracks), p=self.weights)]
        start = track.start + int(random.integers(max(track.frames - self.length, 0) + 1))
        crop = np.asarray(self.audio[start : min(start + self.length, track.stop)], dtype=np.float32)
        return np.pad(crop, ((0, self.length - len(crop)), (0, 0)))

    def _audible_crop(self, random: np.random.Generator) -> np.ndarray:
        for _ in range(8):
            crop = self._crop(random)
            if np.sqrt(np.mean(crop**2)) > SILENCE_RMS:
                break
        return crop  # the eighth may be silent: a decoder has to know silence too

    def batch(self, step: int, size: int) -> np.ndarray:
        """float32 [size, channels, length] in [-1, 1]: random gain of -9..+3 dB, channels swapped half of the time,
        dequantised by uniform noise of one 16-bit step (RAVE, section 4.1)."""
        random = np.random.default_rng((self.seed, step))
        crops = np.stack([self._audible_crop(random) for _ in range(size)])
        crops += random.uniform(-0.5, 0.5, crops.shape).astype(np.float32)
        for i in np.flatnonzero(random.random(size) < self.placed):
            crops[i] = _place(crops[i], random)
        gain = 10 ** (random.uniform(-9, 3, (size, 1, 1)) / 20) / 32768
        peak = np.abs(crops).max(axis=(1, 2), keepdims=True) + 1
        crops *= np.minimum(gain, 1 / peak).astype(np.float32)
        swapped = random.random(size) < 0.5
        crops[swapped] = crops[swapped][..., ::-1]
        return np.ascontiguousarray(crops.transpose(0, 2, 1), dtype=np.float32)
