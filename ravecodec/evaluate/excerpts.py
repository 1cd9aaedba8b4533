"""What an evaluation listens to: excerpts of audio files, chosen without chance.

An excerpt is 48 kHz, mono or stereo as its source, high-passed at 20 Hz (strong DC in a source,
which Opus removes, would decide every linear score) and rounded to 16 bits: what is coded, scored
and listened to is one and the same.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path

import numpy as np
import soundfile
import soxr

from ravecodec.audio import Audio, audio_files
from ravecodec.errors import InputError
from ravecodec.evaluate.filters import RATE, high_pass
from ravecodec.evaluate.results import Item
from ravecodec.evaluate.sounds import fitted

MARGIN = 1.0  # seconds of context on both sides for the filters
EARLIEST_SHARE = 0.4  # of a file, where the first excerpt is looked for: past the introduction
QUIET_DB = -45.0  # a half second below this: look further
SHORTEST = 1.0  # seconds that an excerpt must last
ANNOUNCED = 8192  # samples that files of lossy formats may announce too many


@dataclass(frozen=True)
class Source:
    """A readable file: its path as given, its length in seconds, the folder that it counts for."""

    path: Path
    seconds: float
    group: str


def find_sources(paths: list[Path]) -> tuple[list[Source], list[str]]:
    """(files that can be read, sentences about those that cannot) of files and folders, folders
    within them too.

    A folder's own subfolders are its groups (see `choose`). InputError where there is nothing to
    read.
    """
    sources, unreadable = [], []
    for path, group in _files(paths):
        try:
            info = soundfile.info(path)
            if info.samplerate <= 0 or info.frames < SHORTEST * info.samplerate:
                raise InputError(
                    f"lasts {info.frames} samples at {info.samplerate} Hz; "
                    f"expected {SHORTEST:g} s or more"
                )
            if info.channels > 2:
                raise InputError(f"has {info.channels} channels; expected 1 or 2")
            sources.append(Source(path, info.frames / info.samplerate, group))
        except (InputError, soundfile.SoundFileError, OSError) as error:
            unreadable.append(f"{path}: {_reason(path, error)}")
    if not sources:
        wanted = ", ".join(map(str, paths))
        why = f" ({unreadable[0]})" if unreadable else ""
        raise InputError(f"{wanted}: no audio to evaluate on{why}")
    return sources, unreadable


def _files(paths: list[Path]) -> Iterator[tuple[Path, str]]:
    """All files with their group, each once."""
    seen = set()
    for path in paths:
        if not path.exists():
            raise InputError(f"{path}: no such file or folder")
        for file in audio_files(path) if path.is_dir() else [path]:
            if file.resolve() not in seen:
                seen.add(file.resolve())
                inside = file.relative_to(path).parts[:-1]
                yield file, f"{path}/{inside[0] if inside else ''}"


def _reason(path: Path, error: Exception) -> str:
    text = " ".join(str(error).split())
    return text.removeprefix(f"Error opening {str(path)!r}: ").removeprefix(f"{path}: ")


def choose(
    sources: list[Source], count: int, seconds: float, seed: int
) -> tuple[list[tuple[Item, Audio]], list[str]]:
    """(`count` excerpts, sentences about files that turned out damaged: others take their place).

    There are fewer where the files hold no more that is not the same. Every source gives one
    excerpt before any gives a second, the groups take turns, and within a group the order is that
    of a hash of seed and name. InputError if no file can be read to its end.
    """
    chosen: dict[str, tuple[Item, Audio]] = {}
    damaged: dict[Path, str] = {}
    before, turn = -1, 0
    while before < len(chosen) < count:
        before = len(chosen)
        for source in _order(sources, seed):
            if source.path in damaged or len(chosen) == count:
                continue
            try:
                audio, start = cut(source, turn, seconds)
            except InputError as error:
                damaged[source.path] = str(error)
            else:
                item = item_of(source, start, audio)
                chosen.setdefault(item.id, (item, audio))
        turn += 1
    if not chosen:
        raise InputError(
            f"none of {len(sources)} files can be read to its end ({next(iter(damaged.values()))})"
        )
    return list(chosen.values()), list(damaged.values())


def _order(sources: list[Source], seed: int) -> list[Source]:
    def rank(source: Source) -> tuple[str, bytes]:
        return source.group, hashlib.sha256(f"{seed} {source.path.name}".encode()).digest()

    groups: dict[str, list[Source]] = {}
    for source in sorted(sources, key=rank):
        groups.setdefault(source.group, []).append(source)
    turns = zip_longest(*groups.values())
    return [source for turn in turns for source in turn if source is not None]


def cut(source: Source, turn: int, seconds: float) -> tuple[Audio, float]:
    """(excerpt float32 [channels, samples], where it starts in seconds).

    It is the first one without a silent half second from `EARLIEST_SHARE` of the file on, and in
    later turns one that lies further on. Files shorter than `seconds` are taken whole. Raises
    InputError if the file cannot be read to its end.
    """
    length = min(seconds, source.seconds)
    free = source.seconds - length
    starts = [
        (EARLIEST_SHARE * source.seconds + 5 * i + turn * (length + 5)) % free if free > 0 else 0.0
        for i in range(12)
    ]
    tried = []
    for start in starts:
        audio = _read(source.path, start, length)
        level = _quietest(audio)
        tried.append((level, start, audio))
        if level > QUIET_DB or free <= 0:
            break
    _, start, audio = max(tried, key=lambda entry: entry[0])
    return audio, round(start, 3)


def _read(path: Path, start: float, seconds: float) -> Audio:
    try:
        with soundfile.SoundFile(path) as file:
            rate, first = file.samplerate, max(0.0, start - MARGIN)
            begin, samples = round(first * rate), round((start - first + seconds + MARGIN) * rate)
            file.seek(begin)
            audio = file.read(samples, always_2d=True)
            missing = min(samples, file.frames - begin) - len(audio)
    except (soundfile.SoundFileError, OSError) as error:
        raise InputError(f"{path}: {_reason(path, error)}") from error
    if missing > ANNOUNCED:
        raise InputError(f"{path}: ends {missing / rate:.2f} s before it should; it is truncated")
    if not np.isfinite(audio).all():
        raise InputError(f"{path}: holds NaN or infinity")
    if rate != RATE:
        audio = soxr.resample(audio, rate, RATE, quality="VHQ")
    clean = fitted(high_pass(audio.T), round(seconds * RATE), round((start - first) * RATE))
    clean = clean * min(1.0, 0.99 / (np.abs(clean).max() + 1e-9))
    return np.ascontiguousarray(np.rint(clean * 32767) / 32768, dtype=np.float32)


def _quietest(audio: Audio) -> float:
    """RMS in dBFS of the quietest half second."""
    half = RATE // 2
    blocks = audio[:, : audio.shape[1] // half * half].reshape(len(audio), -1, half)
    power = (blocks.astype(np.float64) ** 2).mean(axis=(0, 2))
    return float(10 * np.log10(power.min(initial=1.0) + 1e-12)) if blocks.size else 0.0


def item_of(source: Source, start: float, audio: Audio) -> Item:
    """The record of an excerpt. Its id is made of the file's name and its samples' hash."""
    name = "".join(c if c.isalnum() or c in "-_" else "-" for c in source.path.stem)[:48]
    digest = hashlib.sha256(np.ascontiguousarray(audio.T).tobytes()).hexdigest()
    path = str(source.path).encode(errors="replace").decode()
    seconds = audio.shape[1] / RATE
    return Item(f"{name}-{digest[:6]}", path, start, seconds, digest, len(audio), RATE)
