#!/usr/bin/env python3
"""Spectrograms of an excerpt and of what several models make of it, one row each: 0-20 kHz and 0-4
kHz.

    python scripts/before_after.py AUDIO OUT.png --start 20 --seconds 8 --model old=old.safetensors
        --model now=default

A maintainer's tool; needs matplotlib. Every model codes the excerpt by itself, bitstream and all;
the row says at which rate.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import soundfile

from ravecodec.audio import match_channels
from ravecodec.decoding import decode
from ravecodec.encoding import encode
from ravecodec.evaluate.page.charts import spectrograms
from ravecodec.loading import load_model


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("audio", type=Path)
    parser.add_argument("out", type=Path, help="a PNG file")
    parser.add_argument("--model", action="append", required=True, metavar="LABEL=MODEL")
    parser.add_argument("--start", type=float, default=0.0, help="seconds")
    parser.add_argument("--seconds", type=float, default=8.0)
    args = parser.parse_args()
    rate = soundfile.info(args.audio).samplerate
    first, count = round(args.start * rate), round(args.seconds * rate)
    samples, _ = soundfile.read(args.audio, count, first, dtype="float32", always_2d=True)
    audio = np.ascontiguousarray(samples.T)
    rows = {"original": audio}
    for entry in args.model:
        label, _, name = entry.partition("=")
        data = encode(audio, rate, model := load_model(name))
        kbps = len(data) * 8 / 1000 / args.seconds
        rows[f"{label}, {kbps:.2f} kbit/s"] = match_channels(decode(data, model)[0], len(audio))
    figure = spectrograms({label: sound.mean(0) for label, sound in rows.items()}, rate)
    figure.savefig(args.out, dpi=80)
    from PIL import Image

    Image.open(args.out).convert("RGB").quantize(128).save(args.out, optimize=True)


if __name__ == "__main__":
    main()
