#!/usr/bin/env python3
"""How long a model takes to be played through: docs/latents.md's table of `ravecodec live`.

    python benchmarks/live.py [--model strings-live] [--recipe live] [--minutes 10] [--threads 1 2]
    python benchmarks/live.py --write --note "on a quiet machine"

Plays audio (default: the excerpt that ships, again and again, at the model's rate) through a `Live`
in blocks of one hop, as fast as it goes. `--recipe` times a recipe's network with random weights,
on which speed does not depend. Per network and number of threads: the latency; of the time that a
block takes, the median, the 999th of 1000 and the longest by the wall clock, and the shortest and
the median of the processor's time, all as shares of what a block lasts; blocks that took longer
than that. On a busy machine the wall clock tells of the others. Prints a Markdown table below a
line that names the processor; with `--write` docs/latents.md gets both (see pages.py).
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from pages import Blocks, Found, add_write, joined, show, table
from speed import EXAMPLE, machine, random_model

from ravecodec import Live, load_model
from ravecodec.audio import open_input, resample_blocks
from ravecodec.models.package import Model

WARM_UP = 20  # blocks that do not count
COLUMNS = (
    "network",
    "threads",
    "latency",
    "block",
    "median",
    "99.9 % within",
    "longest",
    "processor: shortest",
    "median",
    "too late",
)


@dataclass(frozen=True)
class Row:
    """Seconds are of audio; shares are of the time that a block lasts."""

    network: str
    threads: int
    block: int
    latency_ms: float
    seconds: float
    median: float
    slow: float
    longest: float
    processor_shortest: float
    processor_median: float
    late: int


def example(path: Path, rate: int, channels: int) -> np.ndarray:
    """float32 [channels, n] at this rate."""
    with open_input(path) as source:
        blocks = resample_blocks(source.blocks(1 << 16), source.sample_rate, rate, source.channels)
        audio = np.concatenate(list(blocks), axis=1)
    return np.ascontiguousarray(np.resize(audio, (channels, audio.shape[1])))


def measured(model: Model, audio: np.ndarray, minutes: float, threads: int) -> Row:
    torch.set_num_threads(threads)
    live = Live(model)
    count = round(minutes * 60 * live.sample_rate / live.block)
    looped = np.concatenate([audio, audio[:, : live.block]], axis=1)
    times = np.zeros((2, count + WARM_UP))  # wall clock and processor
    for i in range(count + WARM_UP):
        start = i * live.block % audio.shape[1]
        piece = looped[:, start : start + live.block]
        cpu, wall = time.process_time(), time.perf_counter()
        live.process(piece)
        times[:, i] = time.perf_counter() - wall, time.process_time() - cpu
    walls, busy = times[:, WARM_UP:] * live.sample_rate / live.block
    slow, longest = float(np.quantile(walls, 0.999)), float(walls.max())
    late = int((walls > 1).sum())
    spread = (
        float(np.median(walls)),
        slow,
        longest,
        float(busy.min()),
        float(np.median(busy)),
        late,
    )
    seconds = count * live.block / live.sample_rate
    return Row(model.name, threads, live.block, live.latency_ms, seconds, *spread)


def blocks(found: Found) -> Blocks:
    """What is measured, as Markdown by mark."""
    text = f"{found['processor']}, {found['cores']} cores, torch {found['torch']}{found['note']}:"
    rows = []
    for values in found["rows"]:
        row = Row(**values)
        lasts = f"{row.block} samples"
        shares = [f"{100 * x:.0f} %" for x in values_of(row)]
        blocks = round(row.seconds * 48_000 / row.block)
        late = f"{row.late} of {blocks}"
        cells = [row.network, str(row.threads), f"{row.latency_ms:.1f} ms", lasts, *shares, late]
        rows.append(cells)
    return {"live": joined(text, table(COLUMNS, rows))}


def values_of(row: Row) -> tuple[float, ...]:
    """The shares."""
    processor = (row.processor_shortest, row.processor_median)
    return row.median, row.slow, row.longest, *processor


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--recipe", nargs="*", default=[], help="networks, random weights")
    parser.add_argument("--model", nargs="*", default=["strings-live"], help="names or paths")
    parser.add_argument("--minutes", type=float, default=10.0, help="of audio, for each row")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--audio", type=Path, default=EXAMPLE)
    parser.add_argument("--note", default="", help="what else there is to say of the machine")
    add_write(parser)
    return parser.parse_args()


def main() -> None:
    options = arguments()
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        models = [load_model(name) for name in options.model]
        for recipe in options.recipe:
            path = Path(folder) / f"{recipe}.safetensors"
            random_model(recipe, path)
            models.append(load_model(path))
        for model in models:
            config = model.config
            audio = example(options.audio, config.sample_rate, config.channels)
            for threads in options.threads:
                row = measured(model, audio, options.minutes, threads)
                rows.append(asdict(row))
                print(f"{model.name}, {threads} threads: done", file=sys.stderr)
    note = f", {options.note}" if options.note else ""
    found = machine() | {"note": note, "rows": rows}
    show("live", found, blocks, options.write)


if __name__ == "__main__":
    main()
