#!/usr/bin/env python3
"""How much level quiet passages lose: sounds at falling levels through the codec.

    python benchmarks/quiet.py --music FOLDER [--model default] [--write]

A chord of four sines, white noise, and --count pieces of music, five seconds of each from two
fifths of the file on, all at the same RMS. Prints a Markdown table of level, decoded minus
original, in dB; with --write docs/evaluation.md gets it (see pages.py).
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from one_shots import chosen, read
from pages import Blocks, Found, add_write, joined, of_model, show, table

from ravecodec import decode, encode, load_model
from ravecodec.audio import Audio
from ravecodec.models.package import Model

RATE = 48_000
SECONDS = 5
LEVELS = (-20, -40, -60, -70, -80)  # dBFS RMS
TONES = (220.0, 277.2, 329.6, 440.0)  # Hz


def sounds(music: Path, count: int) -> Iterator[tuple[str, Audio, int]]:
    """Name, float32 [channels, samples], Hz."""
    time = np.arange(SECONDS * RATE) / RATE
    chord = sum(np.sin(2 * np.pi * hertz * time) for hertz in TONES)
    yield "chord of four sines", np.array([chord], np.float32), RATE
    noise = np.random.default_rng(0).standard_normal((1, len(time)))
    yield "white noise", noise.astype(np.float32), RATE
    for path in chosen(music)[:count]:
        audio, rate = read(path)
        start = audio.shape[1] * 2 // 5
        yield f"music: {path.stem}", audio[:, start : start + SECONDS * rate], rate


def level(audio: Audio) -> float:
    """RMS in dBFS."""
    return float(10 * np.log10(np.square(audio.astype(np.float64)).mean()))


def change(audio: Audio, rate: int, wanted: float, model: Model) -> float:
    """Level of what is decoded of audio at `wanted` dBFS, minus that."""
    quiet = audio * np.float32(10 ** ((wanted - level(audio)) / 20))
    output, _ = decode(encode(quiet, rate, model), model)
    return level(output) - wanted


def blocks(found: Found) -> Blocks:
    """What is measured, as Markdown by mark."""
    head = ["sound", *(f"{wanted} dBFS" for wanted in found["levels"])]
    rows = [[name, *(f"{db:+.1f}" for db in changes)] for name, changes in found["rows"].items()]
    return {"quiet": joined(of_model(found), table(head, rows))}


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--music", type=Path, required=True, help="folder of music")
    parser.add_argument("--count", type=int, default=3)
    parser.add_argument("--model", default="default")
    add_write(parser)
    options = parser.parse_args()
    model = load_model(options.model)
    rows = {
        name: [change(audio, rate, wanted, model) for wanted in LEVELS]
        for name, audio, rate in sounds(options.music, options.count)
    }
    found = {"model": model.id.hex(), "levels": LEVELS, "rows": rows}
    show("quiet", found, blocks, options.write)
    return 0


if __name__ == "__main__":
    sys.exit(main())
