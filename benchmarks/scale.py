#!/usr/bin/env python3
"""What one more file costs the process that hands out the work, and what that means for a million
hours.

    python benchmarks/scale.py [--files 3000] [--page docs/scale.md]

Measured, in seconds of the processor, because clocks say little on a busy machine: the calling
process per file, on a Ray cluster of two workers on this machine (extra `ray`) and with two
processes of its own, with a manifest, where the work itself is nothing; its bytes of memory per
file that is waiting, and of manifest per file that is done; and one core's encode and decode of the
excerpt that ships, with a loaded model. All the rest is arithmetic. `--page` writes the results
between `<!-- scale -->` and `<!-- end -->`.
"""

from __future__ import annotations

import argparse
import math
import os
import platform
import re
import sys
import tempfile
import time
import tracemalloc
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from ravecodec.batch.items import DONE, Item, Outcome
from ravecodec.batch.manifest import MANIFEST, Manifest
from ravecodec.batch.run import Cluster, run_batch
from ravecodec.pool import Hear

EXAMPLE = Path(__file__).parent.parent / "examples" / "feelings.flac"
PLACE = re.compile(r"<!-- scale -->\n.*?<!-- end -->", re.DOTALL)
HOURS = 1_000_000
MINUTES = 4  # of each file
MACHINES, CORES = (1, 10, 100), 64


class Nothing:
    """Work that is done at once."""

    def start(self) -> Callable[[Item, Hear], Outcome]:
        """Loads nothing."""
        return lambda item, hear: Outcome(item, DONE)


@dataclass(frozen=True)
class Found:
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


def measure(files: int) -> Found:
    """All of it."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        ray, record = per_file(folder, files, Cluster("local", jobs=2))
        pool, _ = per_file(folder, files, None)
        encode, decode, kbps = speeds(folder)
    return Found(ray, pool, waiting_bytes(), record, encode, decode, kbps)


def days(hours: float) -> str:
    """Hours of the clock in words."""
    return f"{hours:.0f} h" if hours < 48 else f"{hours / 24:.0f} days"


def lines(found: Found) -> list[str]:
    """Markdown."""
    files = HOURS * 60 // MINUTES
    most = math.floor(1 / found.ray)
    fastest = most * MINUTES * 60 / max(found.encode, found.decode)
    result = [
        f"Measured with `benchmarks/scale.py` on {processor()}, in processor seconds:",
        "",
        "| what | cost |",
        "|---|---|",
        f"| the calling process, per file, on Ray | {1000 * found.ray:.2f} ms |",
        f"| the same with processes of its own (`-j`) | {1000 * found.pool:.2f} ms |",
        f"| memory of the calling process, per file that waits | {found.waiting:.0f} bytes |",
        f"| manifest, per file | {found.record:.0f} bytes |",
        f"| encode, one core | {found.encode:.1f} times real time |",
        f"| decode, one core | {found.decode:.1f} times real time |",
        "",
        f"Calculated from that: {HOURS:,} hours in {files:,} files of {MINUTES} minutes, on "
        f"machines of {CORES} cores as fast as this one's, without what storage adds:",
        "",
        "| machines | encode | decode | files/s |",
        "|---|---|---|---|",
    ]
    for machines in MACHINES:
        cores = machines * CORES
        took = [HOURS / (speed * cores) for speed in (found.encode, found.decode)]
        rate = files / took[0] / 3600
        result.append(f"| {machines} | {days(took[0])} | {days(took[1])} | {rate:.1f} |")
    size = HOURS * 3600 * found.kbps * 1000 / 8 / 1e9
    return [
        *result,
        "",
        f"The calling process hands out up to {most} files a second, enough for {fastest:,.0f} "
        f"such cores at {MINUTES} minutes a file. It needs {files * found.waiting / 1e9:.1f} GB of "
        f"memory for {files:,} waiting files, its manifest is {files * found.record / 1e9:.1f} GB, "
        f"and the streams are {size:,.0f} GB at the excerpt's {found.kbps:.2f} kbit/s.",
    ]


def processor() -> str:
    """Name of the processor, and the load of the machine meanwhile."""
    info = Path("/proc/cpuinfo")
    text = info.read_text() if info.exists() else ""
    named = re.search(r"model name\s*: (.*)", text)
    return f"{named[1] if named else platform.processor()} (load {os.getloadavg()[0]:.0f})"


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--files", type=int, default=3000, help="of the longer run")
    parser.add_argument("--page", type=Path, help="Markdown page to write into")
    wanted = parser.parse_args()
    if wanted.page and not PLACE.search(wanted.page.read_text()):
        sys.exit(f"{wanted.page}: has no place for the results")
    text = "\n".join(lines(measure(wanted.files)))
    print(text)
    if wanted.page:
        block = f"<!-- scale -->\n{text}\n<!-- end -->"
        wanted.page.write_text(PLACE.sub(lambda _: block, wanted.page.read_text()))


if __name__ == "__main__":
    main()
