"""The fixed evaluation set: 10 s excerpts of the evaluation list, chosen without chance and written once to a cache.

Used by quality.py. One excerpt per piece, spread over all packages of the corpus folder that scripts/corpus.py built;
the first six items come from six different packages, so that a short run (`--items 6`) sees all of them. Every excerpt
is 48 kHz stereo, high-passed at 20 Hz (one source track carries strong DC, which Opus removes and linear
scores then punish) and stored as 24-bit WAV.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import soundfile
import soxr
from numpy.typing import NDArray

RATE = 48000
SECONDS = 10
MARGIN = 1
ITEMS = 24
FORMAT = 1
Audio = NDArray[np.float64]


def choose(manifest: list[dict], count: int = ITEMS) -> list[dict]:
    """`count` tracks of distinct pieces, round robin over the packages, evenly spaced inside each package."""
    packages: dict[str, dict[str, list[dict]]] = {}
    for track in sorted(manifest, key=lambda entry: entry["path"]):
        packages.setdefault(track["package"], {}).setdefault(track["piece"], []).append(track)
    share = {name: 0 for name in packages}
    while sum(share.values()) < min(count, sum(map(len, packages.values()))):
        open_packages = [name for name in packages if share[name] < len(packages[name])]
        share[min(open_packages, key=lambda name: share[name])] += 1
    picks = {name: spread(list(pieces.values()), share[name]) for name, pieces in packages.items()}
    rounds = max(share.values())
    return [picks[name][turn] for turn in range(rounds) for name in packages if turn < len(picks[name])]


def spread(pieces: list[list[dict]], count: int) -> list[dict]:
    """`count` of the pieces at equal distances; of a piece with several stems, the stems in turn."""
    chosen = [pieces[(2 * i + 1) * len(pieces) // (2 * count)] for i in range(count)]
    return [stems[i % len(stems)] for i, stems in enumerate(chosen)]


def quietest_block(audio: Audio) -> float:
    """RMS in dBFS of the quietest half second of a stereo signal."""
    blocks = audio[: len(audio) // 24000 * 24000].reshape(-1, 24000 * audio.shape[1])
    return float(10 * np.log10(np.min(np.mean(blocks**2, axis=1)) + 1e-12))


def high_pass(audio: Audio, cut: float = 20.0, taps: int = 16385) -> Audio:
    """Linear-phase FIR high-pass (Blackman, -6 dB at `cut` Hz) along axis 0, without delay; zeros outside."""
    t = np.arange(taps) - taps // 2
    low = np.sinc(2 * cut / RATE * t) * np.blackman(taps)
    kernel = -low / low.sum()
    kernel[taps // 2] += 1.0
    return convolve(audio, kernel)


def low_pass(audio: Audio, cut: float, taps: int = 1025) -> Audio:
    """Linear-phase FIR low-pass (Blackman, -6 dB at `cut` Hz) along axis 0, without delay; zeros outside."""
    t = np.arange(taps) - taps // 2
    kernel = np.sinc(2 * cut / RATE * t) * np.blackman(taps)
    return convolve(audio, kernel / kernel.sum())


def convolve(audio: Audio, kernel: Audio) -> Audio:
    """Same-length FFT convolution along axis 0 with an odd, centred kernel."""
    size = len(audio) + len(kernel) - 1
    shape = (-1,) + (1,) * (audio.ndim - 1)
    spectrum = np.fft.rfft(audio, size, axis=0) * np.fft.rfft(kernel, size).reshape(shape)
    start = len(kernel) // 2
    return np.fft.irfft(spectrum, size, axis=0)[start : start + len(audio)]


def cut(path: Path) -> tuple[Audio, float]:
    """The excerpt of a track and its start in seconds: from 40 % on, the first 10 s without a silent half second."""
    with soundfile.SoundFile(path) as file:
        total = file.frames / file.samplerate
        last = total - SECONDS - MARGIN
        starts = [0.4 * total + step for step in range(0, int(0.6 * total), 5)] + [MARGIN + 0.3 * total, MARGIN]
        candidates = [min(max(start, MARGIN), last) for start in starts]
        for start in candidates:
            audio = read(file, start)
            if quietest_block(audio) > -45.0:
                return audio, start
        return read(file, candidates[0]), candidates[0]


def read(file: soundfile.SoundFile, start: float) -> Audio:
    """10 s from `start` as (480000, 2) at 48 kHz, filtered with a second of context on both sides."""
    file.seek(int((start - MARGIN) * file.samplerate))
    audio = file.read(int((SECONDS + 2 * MARGIN) * file.samplerate), always_2d=True)
    audio = soxr.resample(audio, file.samplerate, RATE, quality="VHQ")
    audio = np.repeat(audio, 2, axis=1)[:, :2] if audio.shape[1] == 1 else audio[:, :2]
    excerpt = high_pass(audio)[MARGIN * RATE : (MARGIN + SECONDS) * RATE]
    return excerpt * min(1.0, 0.99 / float(np.abs(excerpt).max() + 1e-9))


def prepare(corpus: Path, cache: Path) -> list[dict]:
    """The items of the evaluation set, their WAV files made where the cache has none.

    An item has name, track (path in the corpus), start (seconds), package, licence, author, and the absolute `path` of
    its WAV file and of the following item's (`next`).
    """
    index = cache / "items.json"
    if index.exists() and (content := json.loads(index.read_text()))["format"] == FORMAT:
        return located(content["items"], cache)
    (cache / "reference").mkdir(parents=True, exist_ok=True)
    items = []
    for track in choose(json.loads((corpus / "manifest.json").read_text())["tracks"]):
        audio, start = cut(corpus / track["path"])
        name = track["path"].removesuffix(".ogg").replace("/", "--")
        soundfile.write(cache / "reference" / f"{name}.wav", audio, RATE, "PCM_24")
        kept = {key: track[key] for key in ("package", "licence", "author")}
        items.append({"name": name, "track": track["path"], "start": round(start, 3), **kept})
    index.write_text(json.dumps({"format": FORMAT, "items": items}, indent=1))
    return located(items, cache)


def located(items: list[dict], cache: Path) -> list[dict]:
    """The items with the path of their WAV file in this cache and of the following item's (`next`)."""
    paths = [str(cache / "reference" / f"{item['name']}.wav") for item in items]
    following = paths[1:] + paths[:1]
    return [{**item, "path": path, "next": other} for item, path, other in zip(items, paths, following, strict=True)]
