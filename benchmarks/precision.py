#!/usr/bin/env python3
"""What decoding in bfloat16 costs: distance from float32's output, and the scores of both against
the original.

    python benchmarks/precision.py FILE... [--model default]

Of every audio file the excerpt that `ravecodec eval` would take (10 s; a shorter file whole) is
encoded once, decoded in both precisions. Signal to noise: energy of the float32 output over that of
the difference, all channels; scores: mid channel at 48 kHz. Needs the extra `ravecodec[eval]`.
Prints a Markdown table with the mean below.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np

from ravecodec import decode, encode, load_model
from ravecodec.audio import Audio
from ravecodec.evaluate.excerpts import cut, find_sources
from ravecodec.evaluate.filters import RATE
from ravecodec.evaluate.measures import peaks, perceptual, spectral
from ravecodec.models.package import Model
from ravecodec.precision import PRECISIONS

SECONDS = 10.0
MEASURES = {
    "ViSQOL": perceptual.visqol_audio,
    "Zimtohrli": perceptual.zimtohrli,
    "log-mel, dB": spectral.log_mel_distance,
    "peak F1": peaks.peak_f1,
}


def measured(audio: Audio, model: Model) -> list[float]:
    """Signal to noise in dB, then every measure of float32 and of bfloat16."""
    data = encode(audio, RATE, model)
    exact, fast = (decode(data, model, precision=name)[0] for name in PRECISIONS)
    ratio = 10 * np.log10(np.square(exact).mean() / np.square(exact - fast).mean())
    mids = [output.mean(axis=0) for output in (exact, fast)]
    scores = [
        measure(audio.mean(axis=0), mid, RATE) for measure in MEASURES.values() for mid in mids
    ]
    return [float(ratio), *scores]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE")
    parser.add_argument("--model", default="default", help="installed model or path")
    options = parser.parse_args()
    model = load_model(options.model)
    print(
        "| | signal to noise, dB | "
        f"{' | '.join(f'{name}, float32 | bfloat16' for name in MEASURES)} |"
    )
    print("|---" * (2 + 2 * len(MEASURES)) + "|")
    rows = []
    sources, unreadable = find_sources(options.files)
    for sentence in unreadable:
        print(sentence, file=sys.stderr)
    for source in sources:
        rows.append(measured(cut(source, 0, SECONDS)[0], model))
        print(
            f"| {source.path.stem} | {' | '.join(f'{value:.3f}' for value in rows[-1])} |",
            flush=True,
        )
    print(f"| mean | {' | '.join(f'{value:.3f}' for value in np.mean(rows, axis=0))} |")


if __name__ == "__main__":
    main()
