#!/usr/bin/env python3
"""What a second channel costs: the bytes of music in mono, of its copy on two channels, and of the
music as it is, in stereo.

    python benchmarks/stereo.py FILE... [--model default] [--page docs/evaluation.md]

Of every stereo FILE so many seconds are taken, from two fifths of its length on. Mono is the mid
channel, half the sum of both. All three are coded at the model's own point; bytes are those of
whole streams. Prints a Markdown table, and with --page writes it there between `<!-- stereo -->`
and `<!-- end -->`.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np
from pages import write_block

from ravecodec import encode, load_model
from ravecodec.analysis import Audio
from ravecodec.audio import open_input
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


def row(path: Path, model: Model, seconds: float) -> str:
    """A line of the table."""
    stereo, rate = excerpt(path, seconds)
    mono = stereo.mean(axis=0, keepdims=True)
    forms = (mono, np.repeat(mono, 2, axis=0), stereo)
    sizes = [len(encode(form, rate, model)) for form in forms]
    more = f"{100 * (sizes[2] / sizes[0] - 1):+.1f} %"
    return "| " + " | ".join([path.name, *map(str, sizes), more]) + " |"


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("files", metavar="FILE", nargs="+", type=Path)
    parser.add_argument("--model", default="default")
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--page", type=Path, help="Markdown page that gets the table")
    options = parser.parse_args()
    model = load_model(options.model, threads=1)
    lines = ["| " + " | ".join(HEAD) + " |", "|---" * len(HEAD) + "|"]
    lines += [row(path, model, options.seconds) for path in options.files]
    print("\n".join(lines))
    if options.page:
        write_block(options.page, "stereo", lines)
    return 0


if __name__ == "__main__":
    sys.exit(main())
