#!/usr/bin/env python3
"""What one more file costs the process that hands out the work, and what that means for a million
hours.

    python benchmarks/scale.py [--files 3000] [--write]

Measured, in seconds of the processor, because clocks say little on a busy machine: the calling
process per file, on a Ray cluster of two workers on this machine (extra `ray`) and with two
processes of its own, with a manifest, where the work itself is nothing; its bytes of memory per
file that is waiting, and of manifest per file that is done; and one core's encode and decode of the
excerpt that ships, with a loaded model. All the rest is arithmetic. With `--write` docs/scale.md
gets the results (see pages.py).
"""

from __future__ import annotations

import argparse
import math
import os
import tempfile
import time
import tracemalloc
from collections.abc import Callable
from contextlib import closing
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path

from pages import Blocks, Found, add_write, joined, show, table
from speed import EXAMPLE, machine

from ravecodec.batch.items import DONE, Item, Outcome
from ravecodec.batch.manifest import MANIFEST, Manifest
from ravecodec.batch.run import Cluster, run_batch
from ravecodec.pool import Hear

HOURS = 1_000_000
MINUTES = 4  # of each file
MACHINES, CORES = (1, 10, 100), 64


class Nothing:
    """Work that is done at once."""

    def start(self) -> Callable[[Item, Hear], Outcome]:
        """Loads nothing."""
        return lambda item, hear: Outcome(item, DONE)


@dataclass(frozen=True)
class Costs:
    """What was measured. ray, pool: processor seconds of the calling process per file; waiting,
    record: bytes per file; encode, decode: times real time of one core; kbps: kbit/s.
    """

    ray: float
    pool: float
    waiting: float
    record: float
    encode: float
    decode: float
    kbps: float


def per_file(folder: Path, files: int, cluster: Cluster | None) -> tuple[float, float]:
    """Processor seconds of this process, and bytes of manifest, for one more file: the difference
    of a run of that many files and of one of a tenth, so that starting does not count.
    """
    costs, sizes = [], []
    for count in (files // 10, files):
        items = [Item(str(folder / f"{n}.wav"), str(folder / f"{n}.rvc"), 0) for n in range(count)]
        manifest = Manifest(folder / MANIFEST, "encode", {})
        began = time.process_time()
        work = run_batch(Nothing(), items, jobs=2, manifest=manifest, cluster=cluster)
        with closing(work) as outcomes:
            assert all(outcome.verdict == DONE for outcome in outcomes)
        costs.append(time.process_time() - began)
        manifest.close()
        sizes.append(manifest.path.stat().st_size)
        manifest.path.unlink()
    more = files - files // 10
    return (costs[1] - costs[0]) / more, (sizes[1] - sizes[0]) / more


def waiting_bytes(count: int = 20_000) -> float:
    """Bytes of memory of a file that waits, with names of 60 characters."""
    tracemalloc.start()
    kept = [Item(f"/archive/{n:051}.wav", f"/streams/{n:051}.rvc", n) for n in range(count)]
    size = tracemalloc.get_traced_memory()[0] / len(kept)
    tracemalloc.stop()
    return size


def speeds(folder: Path) -> tuple[float, float, float]:
    """Times real time of encode and decode, per second of one core, and kbit/s."""
    from ravecodec import decode_file, encode_file, load_model

    model = load_model(threads=1)
    stream, audio = folder / "x.rvc", folder / "x.wav"
    found = []
    for _ in range(2):  # the first one warms up
        times = [time.process_time()]
        encoded = encode_file(EXAMPLE, stream, model=model, force=True)
        times.append(time.process_time())
        decode_file(stream, audio, model=model, force=True)
        times.append(time.process_time())
        found = [encoded.stream.duration / (b - a) for a, b in pairwise(times)]
    return found[0], found[1], encoded.stream.kbps


def measure(files: int) -> Costs:
    """All of it."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        ray, record = per_file(folder, files, Cluster("local", jobs=2))
        pool, _ = per_file(folder, files, None)
        encode, decode, kbps = speeds(folder)
    return Costs(ray, pool, waiting_bytes(), record, encode, decode, kbps)


def days(hours: float) -> str:
    """Hours of the clock in words."""
    return f"{hours:.0f} h" if hours < 48 else f"{hours / 24:.0f} days"


def blocks(found: Found) -> Blocks:
    """What is measured, as Markdown by mark."""
    files = HOURS * 60 // MINUTES
    costs = Costs(**found["costs"])
    most = math.floor(1 / costs.ray)
    fastest = most * MINUTES * 60 / max(costs.encode, costs.decode)
    measured = [
        ["the calling process, per file, on Ray", f"{1000 * costs.ray:.2f} ms"],
        ["the same with processes of its own (`-j`)", f"{1000 * costs.pool:.2f} ms"],
        ["memory of the calling process, per file that waits", f"{costs.waiting:.0f} bytes"],
        ["manifest, per file", f"{costs.record:.0f} bytes"],
        ["encode, one core", f"{costs.encode:.1f} times real time"],
        ["decode, one core", f"{costs.decode:.1f} times real time"],
    ]
    calculated = []
    for machines in MACHINES:
        cores = machines * CORES
        took = [HOURS / (speed * cores) for speed in (costs.encode, costs.decode)]
        rate = files / took[0] / 3600
        calculated.append([str(machines), days(took[0]), days(took[1]), f"{rate:.1f}"])
    size = HOURS * 3600 * costs.kbps * 1000 / 8 / 1e9
    paragraphs = [
        f"Measured with `benchmarks/scale.py` on {found['processor']} (load {found['load']:.0f}), "
        "in processor seconds:",
        table(["what", "cost"], measured),
        f"Calculated from that: {HOURS:,} hours in {files:,} files of {MINUTES} minutes, on "
        f"machines of {CORES} cores as fast as this one's, without what storage adds:",
        table(["machines", "encode", "decode", "files/s"], calculated),
        f"The calling process hands out up to {most} files a second, enough for {fastest:,.0f} "
        f"such cores at {MINUTES} minutes a file. It needs {files * costs.waiting / 1e9:.1f} GB of "
        f"memory for {files:,} waiting files, its manifest is {files * costs.record / 1e9:.1f} GB, "
        f"and the streams are {size:,.0f} GB at the excerpt's {costs.kbps:.2f} kbit/s.",
    ]
    return {"scale": joined(*paragraphs)}


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--files", type=int, default=3000, help="of the longer run")
    add_write(parser)
    wanted = parser.parse_args()
    costs = asdict(measure(wanted.files))
    found = machine() | {"load": os.getloadavg()[0], "costs": costs}
    show("scale", found, blocks, wanted.write)


if __name__ == "__main__":
    main()
