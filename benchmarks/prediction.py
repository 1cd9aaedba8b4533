#!/usr/bin/env python3
"""What the predicted profile saves: the same symbols with static tables and with the model's
predictor.

    python benchmarks/prediction.py --music FOLDER [--model default] [--write]

Of every file below --music an excerpt of --seconds is analysed, from two fifths of its length on,
and coded at steps around the model's own, in chunks as `encode` makes them. Rates are of payloads,
without framing. Speed is processor time of one thread for an hour of audio, at each step. Prints a
Markdown table; with --write docs/evaluation.md gets it (see pages.py).
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pages import Blocks, Found, add_write, joined, of_model, show, table

from ravecodec import load_model
from ravecodec.analysis import block_frames
from ravecodec.audio import open_input
from ravecodec.bitstream import encode_symbols
from ravecodec.bitstream.predict import decode_predicted, encode_predicted
from ravecodec.codec import BLOCKS_PER_CHUNK
from ravecodec.models.package import Model
from ravecodec.quantize import Quantizer
from ravecodec.refit import excerpt_latents
from ravecodec.train.cache import scan

STEPS = (-16, -10, -4, 0, 4, 10, 16)  # finer and coarser than the model's own
HEAD = (
    "step",
    "static, kbit/s",
    "predicted, kbit/s",
    "saved",
    "encode, s an hour",
    "decode, s an hour",
)


def latents(folder: Path, model: Model, seconds: float) -> Iterator[NDArray[np.float32]]:
    """Of every excerpt."""
    for path in scan(folder):
        with open_input(path) as audio:
            yield excerpt_latents(model, audio, round(seconds * model.config.frame_rate))


def timed(work: Callable[[], Any]) -> tuple[Any, float]:
    began = time.process_time()
    return work(), time.process_time() - began


def measured(model: Model, step_index: int, pieces: list[NDArray[np.float32]]) -> Found:
    """Rates in kbit/s, the share that is saved, and seconds for an hour."""
    dims = model.coding.dims
    quantizer = Quantizer(model.latent, model.coding, dims, step_index, model.coding.fill)
    static, predictor = quantizer.static, quantizer.static.predictor
    longest = block_frames(model) * BLOCKS_PER_CHUNK
    symbols = [quantizer.symbols(piece) for piece in pieces]
    chunks = [piece[at : at + longest] for piece in symbols for at in range(0, len(piece), longest)]
    plain = sum(len(encode_symbols(chunk, static.rows(step_index, dims))) for chunk in chunks)
    coded, encoding = timed(
        lambda: [encode_predicted(chunk, predictor, step_index) for chunk in chunks]
    )
    sizes = [(data, len(chunk)) for data, chunk in zip(coded, chunks, strict=True)]
    decoded, decoding = timed(
        lambda: [decode_predicted(d, predictor, step_index, n, dims) for d, n in sizes]
    )
    assert all(np.array_equal(a, b) for a, b in zip(decoded, chunks, strict=True))
    seconds = sum(map(len, chunks)) / model.config.frame_rate
    size = sum(map(len, coded))
    return {
        "step": step_index,
        "static": plain * 8 / 1000 / seconds,
        "predicted": size * 8 / 1000 / seconds,
        "saved": 1 - size / plain,
        "encode": 3600 * encoding / seconds,
        "decode": 3600 * decoding / seconds,
    }


def blocks(found: Found) -> Blocks:
    """What is measured, as Markdown by mark."""
    rows = [
        [
            str(row["step"]),
            f"{row['static']:.2f}",
            f"{row['predicted']:.2f}",
            f"{100 * row['saved']:.1f} %",
            f"{row['encode']:.1f}",
            f"{row['decode']:.1f}",
        ]
        for row in found["rows"]
    ]
    return {"prediction": joined(of_model(found), table(HEAD, rows))}


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--music", type=Path, required=True)
    parser.add_argument("--model", default="default")
    parser.add_argument("--seconds", type=float, default=60)
    add_write(parser)
    options = parser.parse_args()
    model = load_model(options.model, threads=1)
    if not model.coding.prediction:
        raise SystemExit(
            f"{options.model}: has no predictor; `ravecodec model refit` makes a copy with one"
        )
    pieces = list(latents(options.music, model, options.seconds))
    rows = [measured(model, model.coding.step_index + offset, pieces) for offset in STEPS]
    found = {"model": model.id.hex(), "rows": rows}
    show("prediction", found, blocks, options.write)
    return 0


if __name__ == "__main__":
    sys.exit(main())
