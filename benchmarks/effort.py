#!/usr/bin/env python3
"""What the levels of `encode --effort` bring at the same bits, and how long they take.

    python benchmarks/effort.py --music CORPUS/eval [--model default] [--steps 14,5,-7]
        [--levels 0,1,3] [--jobs 2] [--write]

The excerpts are those of `ravecodec eval` (24 of 10 s), the scores of the mid channel, rates of
whole files. Differences are paired with level 0, with 95 % intervals (Student's t). Speed is audio
over processor time of one thread. Needs the extra `ravecodec[eval]`. Prints a Markdown
table; with --write docs/evaluation.md gets it (see pages.py).
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import cache
from itertools import product
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from pages import Blocks, Found, add_write, joined, of_model, show, table

from ravecodec import decode, encode, load_model
from ravecodec.audio import Audio
from ravecodec.effort import effort_of
from ravecodec.evaluate.evaluation import processor
from ravecodec.evaluate.excerpts import choose, find_sources
from ravecodec.evaluate.filters import RATE
from ravecodec.evaluate.measures import peaks, perceptual, spectral
from ravecodec.evaluate.statistics import t_interval
from ravecodec.models.package import Model

Task = tuple[str, int, int, Audio]  # model, step, level, excerpt

COUNT, SECONDS, SEED = 24, 10.0, 0
MEASURES = {
    "ViSQOL": perceptual.visqol_audio,
    "Zimtohrli": perceptual.zimtohrli,
    "peak F1": peaks.peak_f1,
    "log-mel, dB": spectral.log_mel_distance,
}
HEAD = ("step", "level", "iterations", "kbit/s", *MEASURES, "x real time")


@cache
def loaded(name: str) -> Model:
    torch.set_num_threads(1)
    return load_model(name)


def measured(task: Task) -> list[float]:
    """kbit/s, every measure, and the seconds that encoding took."""
    name, step, level, audio = task
    model, seconds = loaded(name), audio.shape[1] / RATE
    begun = time.process_time()
    data = encode(audio, RATE, model, step_index=step, effort=level)
    took = time.process_time() - begun
    mids = audio.mean(axis=0), decode(data, model)[0].mean(axis=0)
    scores = [measure(*mids, RATE) for measure in MEASURES.values()]
    return [len(data) * 8 / 1000 / seconds, *scores, took / seconds]


def rows(values: NDArray[np.float64], steps: list[int], levels: list[int]) -> Iterator[Found]:
    """values [steps, levels, excerpts, measures]: means, and differences to the first level."""
    for step, of_step in zip(steps, values, strict=True):
        for level, of_level in zip(levels, of_step, strict=True):
            kbps, *scores, slowness = of_level.mean(axis=0)
            gains = [t_interval(gain) for gain in (of_level - of_step[0])[:, 1:-1].T]
            yield {
                "step": step,
                "level": level,
                "kbps": kbps,
                "scores": scores,
                "gains": [[gain.mean, gain.low, gain.high] for gain in gains if level],
                "speed": 1 / slowness,
            }


def cells(row: Found, iterations: int) -> Iterator[str]:
    """A row of the table."""
    yield from (str(row["step"]), str(row["level"]), str(iterations), f"{row['kbps']:.2f}")
    gains = [" ({:+.2f} [{:+.2f}, {:+.2f}])".format(*gain) for gain in row["gains"]]
    for score, gain in zip(row["scores"], gains or [""] * len(MEASURES), strict=True):
        yield f"{score:.2f}{gain}"
    yield f"{row['speed']:.2g}"


def blocks(found: Found) -> Blocks:
    """What is measured, as Markdown by mark."""
    said = f"{of_model(found)[:-1]}, one thread of {found['processor']}:"
    lines = [list(cells(row, found["iterations"][str(row["level"])])) for row in found["rows"]]
    return {"effort": joined(said, table(HEAD, lines))}


def numbers(text: str) -> list[int]:
    return [int(number) for number in text.split(",")]


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--music", type=Path, required=True, help="folder of the excerpts")
    parser.add_argument("--model", default="default")
    parser.add_argument("--steps", type=numbers, default=[14, 5, -7])
    parser.add_argument("--levels", type=numbers, default=[0, 1, 3], help="the first one is 0")
    parser.add_argument("--count", type=int, default=COUNT)
    parser.add_argument("--jobs", type=int, default=2)
    add_write(parser)
    options = parser.parse_args()
    if options.levels[0] != 0:
        parser.error(f"--levels begins with {options.levels[0]}, expected 0")
    sources, unreadable = find_sources([options.music])
    chosen, damaged = choose(sources, options.count, SECONDS, SEED)
    print(*unreadable, *damaged, sep="\n", file=sys.stderr)
    tasks = [
        (options.model, step, level, audio)
        for step, level, (_, audio) in product(options.steps, options.levels, chosen)
    ]
    with ProcessPoolExecutor(options.jobs, mp_context=get_context("spawn")) as pool:
        values = np.array(list(pool.map(measured, tasks)))
    shape = len(options.steps), len(options.levels), len(chosen), -1
    model = load_model(options.model)
    found = {
        "model": model.id.hex(),
        "processor": processor(),
        "iterations": {str(n): effort_of(model, n).iterations for n in options.levels},
        "rows": list(rows(values.reshape(shape), options.steps, options.levels)),
    }
    show("effort", found, blocks, options.write)
    return 0


if __name__ == "__main__":
    sys.exit(main())
