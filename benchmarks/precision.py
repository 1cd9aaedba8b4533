#!/usr/bin/env python3
"""What decoding in bfloat16 costs: distance from float32's output, and the scores of both against the original.

    python benchmarks/precision.py FILE... [--model default]

Of every audio file the excerpt that `excerpts.cut` chooses (10 s; a shorter file whole) is encoded once and decoded in
both precisions. Signal to noise: energy of the float32 output over that of the difference, all channels; scores: mid
channel at 48 kHz, as in quality.py. Needs the extra `ravecodec[eval]`. Prints a Markdown table with the mean below.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import soundfile
import soxr
from excerpts import MARGIN, RATE, SECONDS, Audio, cut

from ravecodec import decode, encode, load_model
from ravecodec.evaluate import metrics
from ravecodec.models.package import Model
from ravecodec.transcode import PRECISIONS

MEASURES = {
    "ViSQOL": metrics.visqol_audio,
    "Zimtohrli": metrics.zimtohrli,
    "log-mel, dB": metrics.log_mel_distance,
    "peak F1": metrics.peak_f1,
}


def excerpt(path: Path) -> Audio:
    """At most 10 s of a file, stereo at 48 kHz, (samples, 2)."""
    if soundfile.info(path).duration > SECONDS + 2 * MARGIN:
        return cut(path)[0]
    audio, rate = soundfile.read(path, always_2d=True)
    return soxr.resample(audio[:, [0, -1]], rate, RATE, quality="VHQ")


def measured(audio: Audio, model: Model) -> list[float]:
    """Signal to noise in dB, then every measure of float32 and of bfloat16."""
    data = encode(audio.T, RATE, model)
    exact, fast = (decode(data, model, precision=name)[0] for name in PRECISIONS)
    ratio = 10 * np.log10(np.square(exact).mean() / np.square(exact - fast).mean())
    mids = [output.mean(axis=0) for output in (exact, fast)]
    scores = [measure(audio.mean(axis=1), mid, RATE) for measure in MEASURES.values() for mid in mids]
    return [float(ratio), *scores]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE")
    parser.add_argument("--model", default="default", help="installed model or path")
    options = parser.parse_args()
    model = load_model(options.model)
    print(f"| | signal to noise, dB | {' | '.join(f'{name}, float32 | bfloat16' for name in MEASURES)} |")
    print("|---" * (2 + 2 * len(MEASURES)) + "|")
    rows = []
    for path in options.files:
        rows.append(measured(excerpt(path), model))
        print(f"| {path.stem} | {' | '.join(f'{value:.3f}' for value in rows[-1])} |", flush=True)
    print(f"| mean | {' | '.join(f'{value:.3f}' for value in np.mean(rows, axis=0))} |")


if __name__ == "__main__":
    main()
