"""Audio for training: a folder of files becomes one int16 memory map.

The cache is `audio.i16` (interleaved samples at the model's rate and channels) beside
`tracks.jsonl` (one line per finished track). Building it can be killed and started again at any
moment: what no line of `tracks.jsonl` vouches for is cut off. A file that has changed since is
decoded anew.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import IO, Any

import numpy as np

from ravecodec.audio import (
    AUDIO_SUFFIXES,
    AudioInput,
    audio_files,
    match_channels,
    open_input,
    resample_blocks,
)
from ravecodec.errors import InputError, OutputError
from ravecodec.files import AtomicFile, write_file

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

SILENCE_RMS = 10 ** (-70 / 20) * 32768
SILENCE_FRAMES = 4096  # silence is counted in pieces of this length
FULL_SCALE = 32766  # what the largest sample of a 16-bit file comes to
CLIPPED_SHARE = 1e-4  # of samples at full scale, from which a file is named
BLOCK = 1 << 18
# What people keep sound in and libsndfile does not read: such files are named, not passed over in
# silence.
UNREAD_SUFFIXES = {".aac", ".ac3", ".ape", ".dsf", ".m4a", ".m4b", ".mka", ".mkv", ".mov", ".mp4"}
UNREAD_SUFFIXES |= {".mpc", ".spx", ".tta", ".webm", ".wma", ".wv"}


@dataclass(frozen=True)
class Track:
    """One file inside the memory map.

    `start` and `frames` count sample frames. `size` and `changed` (mtime in ns) are the file's;
    `rate` and `channels` its own; `digest` is of its cached audio; `silent` counts frames below -70
    dB, `clipped` samples at full scale. A file that cannot be read has no frames and an `error`.
    """

    path: str
    start: int
    frames: int
    size: int = 0
    changed: int = 0
    rate: int = 0
    channels: int = 0
    digest: str = ""
    silent: int = 0
    clipped: int = 0
    error: str = ""

    @property
    def stop(self) -> int:
        return self.start + self.frames


class Lock:
    """Many runs may read a cache, only one may change it, and only while no other reads. Where the
    system has no such locks (Windows), no call is kept out."""

    def __init__(self, cache: Path) -> None:
        self._cache = cache
        self._file = (cache / "lock").open("a")
        self.share()

    def share(self) -> None:
        """Lets other runs read. InputError if one of them changes the cache."""
        if fcntl is not None:
            self._take(fcntl.LOCK_SH, "is being built by another run; wait for it")

    def exclude(self) -> None:
        """InputError if another run uses the cache."""
        wait = "wait for it or give another --cache"
        if fcntl is not None:
            self._take(fcntl.LOCK_EX, f"needs new audio, but another run uses it; {wait}")

    def _take(self, kind: int, why: str) -> None:
        try:
            fcntl.flock(self._file, kind | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise InputError(f"{self._cache}: {why}") from error


@dataclass(frozen=True)
class Library:
    """What a folder holds: `tracks` to train on, each sound once; files that repeat another one
    (path -> the other's); sentences on files that cannot be read; what was not even tried (see
    `passed_over`). As long as it lives no other run changes the cache."""

    tracks: list[Track]
    duplicates: dict[str, str]
    unreadable: list[str]
    passed_over: dict[str, list[str]]
    lock: Lock = field(compare=False, repr=False)

    def summary(self, rate: int) -> dict[str, Any]:
        """Counts for people and for `data.json`; `rate` is the cache's."""
        frames = sum(t.frames for t in self.tracks)
        return {
            "files": len(self.tracks),
            "hours": round(frames / rate / 3600, 3),
            "silence": round(sum(t.silent for t in self.tracks) / max(1, frames), 4),
            "rates": dict(Counter(t.rate for t in self.tracks).most_common()),
            "channels": dict(Counter(t.channels for t in self.tracks).most_common()),
            "clipped": {
                t.path: t.clipped for t in self.tracks if t.clipped > CLIPPED_SHARE * t.frames
            },
            "duplicates": self.duplicates,
            "unreadable": self.unreadable,
            **self.passed_over,
        }


def describe(summary: dict[str, Any]) -> Iterator[str]:
    """The summary of a library in sentences."""
    rates = ", ".join(f"{count} at {rate} Hz" for rate, count in summary["rates"].items())
    silence = f"{100 * summary['silence']:.1f} % silence"
    yield f"data: {summary['files']} files, {summary['hours']:.2f} h ({rates}), {silence}"
    for kind, what in (REMARKED | PASSED_OVER).items():
        names = list(summary.get(kind, []))
        if names:
            yield f"data: {len(names)} {what}: {_some(names)}"
    if summary["unreadable"]:
        yield f"data: {len(summary['unreadable'])} files cannot be read and are left out"


def _some(names: list[str]) -> str:
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(names[:3]) + more


REMARKED = {
    "clipped": "files reach full scale",
    "duplicates": "files repeat another and are left out",
}
PASSED_OVER = {
    "links": "links lead to folders or to nothing and are not followed",
    "unread": "files are of formats that are not read",
    "closed": "folders may not be read",
}


def passed_over(folder: Path) -> dict[str, list[str]]:
    """What below `folder` looks as if it were meant, but is not searched or read, by the kinds of
    `PASSED_OVER`.
    """
    closed: list[str] = []
    links, unread = [], []
    for place, folders, files in os.walk(folder, onerror=lambda e: closed.append(str(e.filename))):
        inside = Path(place)
        links += [str(inside / name) for name in folders if (inside / name).is_symlink()]
        for path in map(inside.joinpath, files):
            suffix = path.suffix.lower()
            if suffix in UNREAD_SUFFIXES:
                unread.append(str(path))
            if suffix in AUDIO_SUFFIXES | UNREAD_SUFFIXES and not path.exists():
                links.append(str(path))
    return {"links": sorted(links), "unread": sorted(unread), "closed": sorted(closed)}


def read_json(path: Path, lost: str) -> dict[str, Any] | None:
    """A JSON object of a run or a cache, None if there is none; InputError, with what is `lost`
    behind it, if it is damaged."""
    if not path.exists():
        return None
    with suppress(ValueError, RecursionError):
        values = json.loads(path.read_text())
        if isinstance(values, dict):
            return values
    raise InputError(f"{path}: is damaged; {lost}")


def scan(folder: Path) -> list[Path]:
    """All audio files below `folder`, sorted, so that the split does not depend on the file
    system.
    """
    if folder.is_file():
        raise InputError(f"{folder}: is a file; expected a folder of audio files")
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder; expected a folder of audio files")
    files = audio_files(folder)
    if not files:
        raise InputError(
            f"{folder}: no audio files found; expected {', '.join(sorted(AUDIO_SUFFIXES))}"
        )
    return files


def build_cache(
    folder: Path,
    cache: Path,
    rate: int,
    channels: int,
    report: Callable[[str], None] = lambda line: None,
    *,
    ignore_length: bool = False,
) -> Library:
    """Decodes every audio file of `folder` into `cache/audio.i16`; skips what is there already.

    Files that cannot be read are reported by name and left out; InputError if none can be read;
    OutputError if the disk is full. ignore_length: take what is there of a file that is truncated
    (see `open_input`).
    """
    files = scan(folder)
    cache.mkdir(parents=True, exist_ok=True)
    _check_settings(cache, {"folder": str(folder.resolve()), "rate": rate, "channels": channels})
    index, audio = cache / "tracks.jsonl", cache / "audio.i16"
    sources = {path.relative_to(folder).as_posix(): path for path in files}
    lock = Lock(cache)
    known = {t.path: t for t in read_index(index) if _is_current(t, sources)}
    if not sources.keys() <= known.keys() or not _is_whole(index, audio, channels * 2):
        lock.exclude()
        known = {t.path: t for t in _recover(index, audio, channels * 2, sources)}
        try:
            with audio.open("ab") as data, index.open("a") as lines:
                for name, path in sources.items():
                    if name in known:
                        continue
                    known[name] = track = _append(
                        data, path, name, rate, channels, report, ignore_length
                    )
                    lines.write(_line(track))
                    lines.flush()
                    cached = f"cached {len(known)}/{len(files)} {name}"
                    report(f"left out: {track.error}" if track.error else cached)
        except OSError as error:
            raise OutputError(
                f"{audio}: cannot be written ({error.strerror}); call again to go on"
            ) from error
        lock.share()
    tracks = sorted((known[name] for name in sources), key=lambda t: (t.start, t.stop))
    if not any(t.frames for t in tracks):
        raise InputError(f"{folder}: none of {len(files)} audio files holds readable sound")
    return _library(tracks, passed_over(folder), lock)


def _library(tracks: list[Track], others: dict[str, list[str]], lock: Lock) -> Library:
    """Leaves out what cannot be read, and what repeats another track sample for sample."""
    first: dict[str, Track] = {}
    duplicates: dict[str, str] = {}
    for track in tracks:
        other = first.setdefault(track.digest, track) if track.frames else track
        if other is not track:
            duplicates[track.path] = other.path
    unreadable = [t.error for t in tracks if t.error]
    once = [t for t in tracks if t.path not in duplicates and not t.error]
    return Library(once, duplicates, unreadable, others, lock)


def _line(track: Track) -> str:
    return json.dumps(asdict(track)) + "\n"


def read_index(index: Path) -> list[Track]:
    """Tracks vouched for by whole lines of the index; a torn last line (kill -9 while writing) does
    not count.

    InputError if another line is damaged.
    """
    if not index.exists():
        return []
    text = index.read_text(errors="replace")
    return [
        _track(index, number, line)
        for number, line in enumerate(text[: text.rfind("\n") + 1].splitlines(), 1)
    ]


def _track(index: Path, number: int, line: str) -> Track:
    """The track of one line of the index."""
    with suppress(ValueError, TypeError, RecursionError):
        track = Track(**json.loads(line))
        kinds = {f.name: str if f.type == "str" else int for f in fields(Track)}
        good = all(type(getattr(track, name)) is kind for name, kind in kinds.items())
        if good and track.start >= 0 and track.frames >= 0:
            return track
    lost = "delete it to have all audio of this cache decoded again; nothing else is lost"
    raise InputError(f"{index}: line {number} is damaged; {lost}")


def _is_whole(index: Path, audio: Path, frame_bytes: int) -> bool:
    """Whether index and audio end together, as a build that was not disturbed leaves them."""
    tracks = read_index(index)
    text = "".join(_line(t) for t in tracks)
    end = max((t.stop for t in tracks), default=0) * frame_bytes
    return audio.exists() and audio.stat().st_size == end and index.read_text() == text


def _recover(index: Path, audio: Path, frame_bytes: int, sources: dict[str, Path]) -> list[Track]:
    """Tracks that are whole in both files and whose source has not changed; what is behind the last
    one is cut off.
    """
    audio.touch()
    size = audio.stat().st_size
    tracks = [
        t for t in read_index(index) if t.stop * frame_bytes <= size and _is_current(t, sources)
    ]
    text = "".join(_line(t) for t in tracks).encode()
    if not index.exists() or index.read_bytes() != text:
        write_file(index, text)
    end = tracks[-1].stop * frame_bytes if tracks else 0
    if end < size:
        os.truncate(audio, end)
    return tracks


def _is_current(track: Track, sources: dict[str, Path]) -> bool:
    """Whether the file is as it was; one that is not there any more counts as such."""
    if track.path not in sources:
        return True
    status = sources[track.path].stat()
    return (track.size, track.changed) == (status.st_size, status.st_mtime_ns)


def _check_settings(cache: Path, settings: dict[str, Any]) -> None:
    """InputError if the cache was made of another folder or in another form; else it is stamped
    with these settings.
    """
    stamp = cache / "settings.json"
    again = "delete it with audio.i16 and tracks.jsonl beside it, and the audio is decoded again"
    earlier = read_json(stamp, f"{again}; nothing is lost")
    if earlier is None:
        for name in ("audio.i16", "tracks.jsonl"):
            if (cache / name).exists():
                raise InputError(
                    f"{cache}: holds {name} and no settings.json, so no cache; expected a new "
                    "folder, or delete it"
                )
        try:
            with AtomicFile(stamp) as file:
                file.write(json.dumps(settings).encode())
        except OutputError:
            if not stamp.exists():  # by another call, meanwhile
                raise
        earlier = read_json(stamp, f"{again}; nothing is lost")
    if earlier != settings:
        raise InputError(
            f"{cache}: holds the audio of other settings {earlier}; expected {json.dumps(settings)}"
        )


def _append(
    data: IO[bytes],
    path: Path,
    name: str,
    rate: int,
    channels: int,
    report: Callable[[str], None],
    ignore_length: bool,
) -> Track:
    """Appends one file's audio, synced to disk; after an error nothing is appended.

    Remarks are reported.
    """
    position = data.seek(0, os.SEEK_END)
    frames = silent = clipped = 0
    digest, status = hashlib.sha256(), path.stat()
    track = Track(name, position // (2 * channels), 0, status.st_size, status.st_mtime_ns)
    try:
        with open_input(path, ignore_length=ignore_length) as source:
            track = replace(track, rate=source.sample_rate, channels=source.channels)
            for block in _int16_blocks(source, rate, channels):
                data.write(block.tobytes())
                digest.update(block.tobytes())
                frames += len(block)
                silent += _silent_frames(block)
                clipped += int(np.count_nonzero(np.abs(block.astype(np.int32)) >= FULL_SCALE))
            for remark in source.remarks:
                report(f"warning: {remark}")
        data.flush()
        os.fsync(data.fileno())
    except InputError as error:
        data.truncate(position)
        return replace(track, rate=0, channels=0, error=str(error))
    except OSError:
        data.truncate(position)
        raise
    summary = digest.hexdigest()[:32]
    return replace(track, frames=frames, digest=summary, silent=silent, clipped=clipped)


def _int16_blocks(source: AudioInput, rate: int, channels: int) -> Iterator[np.ndarray]:
    """Blocks int16 [frames, channels] of one file at the model's rate and channel count."""
    blocks = source.blocks(BLOCK)
    for piece in resample_blocks(blocks, source.sample_rate, rate, source.channels):
        matched = match_channels(piece, channels)
        yield np.clip(np.rint(matched.T * 32767), -32768, 32767).astype("<i2")


def _silent_frames(block: np.ndarray) -> int:
    """Frames of a block int16 [frames, channels] in pieces whose RMS is below SILENCE_RMS."""
    cuts = range(0, len(block), SILENCE_FRAMES)
    pieces = (block[i : i + SILENCE_FRAMES].astype(np.float32) for i in cuts)
    return sum(len(piece) for piece in pieces if np.sqrt(np.mean(piece**2)) < SILENCE_RMS)
