#!/usr/bin/env python3
"""Short sounds through the codec: their level, whole and at both ends, and what scores say of so
little sound.

    python benchmarks/one_shots.py --samples FOLDER --music FOLDER [--model default]
        [--write]

--samples: one-shots as they are, by length, 20 ms to 3 s. --music: files that clips of 20 ms to 3 s
are cut out of, at two fifths of their length, so that they begin and end within sound. At most
--count clips a row, chosen by a hash of their names.

Levels are of all channels together, in dB, decoded minus original, of powers to which -60 dBFS were
added on both sides: how much quieter than that a tail has become is not heard. A row gives the
median and, in brackets, the 10th and 90th percentile. Scores are of the mid channel. Prints a
Markdown table; with --write docs/evaluation.md gets it (see pages.py).
"""

from __future__ import annotations

import argparse
import hashlib
import sys
from collections.abc import Iterator
from itertools import chain, pairwise
from pathlib import Path

import numpy as np
from pages import Blocks, Found, add_write, joined, of_model, show, table

from ravecodec import decode, encode, load_model
from ravecodec.audio import AUDIO_SUFFIXES, Audio, open_input
from ravecodec.evaluate.measures import peaks, spectral
from ravecodec.models.package import Model

Clip = tuple[Audio, int]  # float32 [channels, samples], Hz

EDGES = (0.02, 0.1, 0.3, 1.0, 3.0)  # seconds: rows of one-shots
LENGTHS = (0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 3.0)  # seconds: rows of clips cut out of music
END = 0.02  # seconds of what is called first and last
UNHEARD = 1e-6  # power
HEAD = ("clips", "number", "bytes", "level", "first 20 ms", "last 20 ms", "log-mel, dB", "peak F1")


def read(path: Path) -> Clip:
    """A whole file."""
    with open_input(path) as source:
        pieces = [np.zeros((source.channels, 0), np.float32), *source.blocks(1 << 16)]
        return np.concatenate(pieces, axis=1), source.sample_rate


def chosen(folder: Path) -> list[Path]:
    """The audio files within a folder, in the order of a hash of their names."""
    found = [path for path in folder.rglob("*") if path.suffix.lower() in AUDIO_SUFFIXES]
    return sorted(found, key=lambda path: hashlib.sha256(path.name.encode()).digest())


def one_shots(folder: Path, count: int) -> Iterator[tuple[str, list[Clip]]]:
    """Rows of whole files by length."""
    clips = [read(path) for path in chosen(folder)]
    for low, high in pairwise(EDGES):
        row = [clip for clip in clips if low <= clip[0].shape[1] / clip[1] < high and clip[0].any()]
        yield f"one-shots of {text(low)} to {text(high)}", row[:count]


def cuts(folder: Path, count: int) -> Iterator[tuple[str, list[Clip]]]:
    """Rows of clips that begin and end within music."""
    tracks = [read(path) for path in chosen(folder)[:count]]
    for seconds in LENGTHS:
        row = []
        for audio, rate in tracks:
            start = audio.shape[1] * 2 // 5
            row.append((audio[:, start : start + round(seconds * rate)], rate))
        yield f"music cut to {text(seconds)}", row


def text(seconds: float) -> str:
    return f"{seconds:g} s" if seconds >= 1 else f"{1000 * seconds:g} ms"


def level(audio: Audio) -> float:
    return float(10 * np.log10(np.square(audio.astype(np.float64)).mean() + UNHEARD))


def measured(clip: Clip, model: Model) -> list[float]:
    """Bytes, the three level differences, log-mel distance, peak F1."""
    audio, rate = clip
    data = encode(audio, rate, model)
    output, _ = decode(data, model)
    end = round(END * rate)
    parts = (slice(None), slice(0, end), slice(-end, None))
    levels = [level(output[:, part]) - level(audio[:, part]) for part in parts]
    mids = (audio.mean(axis=0), output.mean(axis=0))
    return [len(data), *levels, spectral.log_mel_distance(*mids, rate), peaks.peak_f1(*mids, rate)]


def summary(name: str, clips: list[Clip], model: Model) -> Found:
    """A row of the table: means, and of each level the median, 10th and 90th percentile."""
    values = np.array([measured(clip, model) for clip in clips])
    print(name, file=sys.stderr)
    return {
        "clips": name,
        "number": len(clips),
        "bytes": values[:, 0].mean(),
        "levels": np.percentile(values[:, 1:4], [50, 10, 90], axis=0).T.tolist(),
        "log_mel": values[:, 4].mean(),
        "peak_f1": values[:, 5].mean(),
    }


def blocks(found: Found) -> Blocks:
    """What is measured, as Markdown by mark."""
    rows = [
        [
            row["clips"],
            str(row["number"]),
            f"{row['bytes']:.0f}",
            *("{:+.1f} [{:+.1f}, {:+.1f}]".format(*spread) for spread in row["levels"]),
            f"{row['log_mel']:.1f}",
            f"{row['peak_f1']:.2f}",
        ]
        for row in found["rows"]
    ]
    return {"one-shots": joined(of_model(found), table(HEAD, rows))}


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--samples", type=Path, required=True, help="folder of one-shots")
    parser.add_argument("--music", type=Path, required=True, help="folder of music to cut from")
    parser.add_argument("--model", default="default")
    parser.add_argument("--count", type=int, default=12, help="clips a row")
    add_write(parser)
    options = parser.parse_args()
    model = load_model(options.model)
    kinds = chain(one_shots(options.samples, options.count), cuts(options.music, options.count))
    rows = [summary(name, clips, model) for name, clips in kinds if clips]
    found = {"model": model.id.hex(), "rows": rows}
    show("one_shots", found, blocks, options.write)
    return 0


if __name__ == "__main__":
    sys.exit(main())
