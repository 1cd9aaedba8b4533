#!/usr/bin/env python3
"""What a second channel costs: the bytes of music in mono, of its copy on two channels, and of the
music as it is, in stereo.

    python benchmarks/stereo.py FILE... [--model default] [--write]

Of every stereo FILE so many seconds are taken, from two fifths of its length on. Mono is the mid
channel, half the sum of both. All three are coded at the model's own point; bytes are those of
whole streams. Prints a Markdown table; with --write docs/evaluation.md gets it (see pages.py).
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np
from pages import Blocks, Found, add_write, joined, of_model, show, table

from ravecodec import encode, load_model
from ravecodec.audio import Audio, open_input
from ravecodec.models.package import Model
from ravecodec.refit import excerpt_blocks

HEAD = ("file", "mono", "its copy on two channels", "in stereo", "stereo against mono")


def excerpt(path: Path, seconds: float) -> tuple[Audio, int]:
    """Audio [2, samples] from the middle of a file, and its rate in Hz; SystemExit unless it is
    stereo.
    """
    with open_input(path) as audio:
        if audio.channels != 2:
            raise SystemExit(f"{path}: has {audio.channels} channel, expected 2")
        return np.concatenate(list(excerpt_blocks(audio, seconds)), axis=1), audio.sample_rate


def sizes(path: Path, model: Model, seconds: float) -> list[int]:
    """Bytes of the three streams."""
    stereo, rate = excerpt(path, seconds)
    mono = stereo.mean(axis=0, keepdims=True)
    forms = (mono, np.repeat(mono, 2, axis=0), stereo)
    return [len(encode(form, rate, model)) for form in forms]


def blocks(found: Found) -> Blocks:
    """What is measured, as Markdown by mark."""
    rows = [
        [name, str(mono), str(copied), str(stereo), f"{100 * (stereo / mono - 1):+.1f} %"]
        for name, (mono, copied, stereo) in found["rows"].items()
    ]
    return {"stereo": joined(of_model(found), table(HEAD, rows))}


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("files", metavar="FILE", nargs="+", type=Path)
    parser.add_argument("--model", default="default")
    parser.add_argument("--seconds", type=float, default=10)
    add_write(parser)
    options = parser.parse_args()
    model = load_model(options.model, threads=1)
    rows = {path.name: sizes(path, model, options.seconds) for path in options.files}
    found = {"model": model.id.hex(), "rows": rows}
    show("stereo", found, blocks, options.write)
    return 0


if __name__ == "__main__":
    sys.exit(main())
