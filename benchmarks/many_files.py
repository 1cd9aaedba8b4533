#!/usr/bin/env python3
"""What one call with many files saves over one call per file, and which way to use the cores is the
faster one.

    python benchmarks/many_files.py [--files 60] [--seconds 3] [--calls 6] [--jobs 2]
        [--command encode]
    python benchmarks/many_files.py --ways [--files 200] [--long 8] [--minutes 3] [--jobs 2]

The first measures `ravecodec encode a b c ... -o DIR --jobs N` on `--files` files, and `--calls`
calls with one file each, before and after it; it prints seconds per file of both, and the ratio.
The second compares N processes of one thread with one process of N threads, on short files and on
long ones, each way twice in turn. Wall-clock seconds are what counts on a quiet machine; processor
seconds (of all processes together) say what is left of that on a busy one. The audio is the excerpt
that ships, each file another part of it, stereo 44.1 kHz WAV, in a temporary folder.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile

EXAMPLE = Path(__file__).parent.parent / "examples" / "feelings.flac"


@dataclass(frozen=True)
class Cost:
    """Seconds on the clock, and of the processor."""

    wall: float
    processor: float

    def __truediv__(self, files: float) -> Cost:
        return Cost(self.wall / files, self.processor / files)

    def __add__(self, other: Cost) -> Cost:
        return Cost(self.wall + other.wall, self.processor + other.processor)

    def __str__(self) -> str:
        return f"{self.wall:.3f} s wall, {self.processor:.3f} s processor"


def make_files(folder: Path, count: int, seconds: float) -> list[str]:
    """`count` WAV files of this length, each beginning elsewhere in the excerpt."""
    folder.mkdir()
    audio, rate = soundfile.read(EXAMPLE, dtype="int16", always_2d=True)
    length, names = round(seconds * rate), []
    for number in range(count):
        start = number * len(audio) // count
        names.append(str(folder / f"{number:04}.wav"))
        soundfile.write(
            names[-1], np.resize(np.roll(audio, -start, 0), (length, audio.shape[1])), rate
        )
    return names


def run(*arguments: object) -> Cost:
    """What a call of ravecodec costs, its own processes included."""
    command = [sys.executable, "-m", "ravecodec", *map(str, arguments)]
    before, began = os.times(), time.perf_counter()
    subprocess.run(command, check=True, capture_output=True)
    wall, after = time.perf_counter() - began, os.times()
    spent = (
        after.children_user - before.children_user + after.children_system - before.children_system
    )
    return Cost(wall, spent)


def one_call_and_many(work: Path, options: argparse.Namespace) -> None:
    """Prints seconds per file of one call for all files and of a call for each, and the ratio."""
    files = make_files(work / "in", options.files, options.seconds)
    if options.command == "decode":
        run("encode", *files, "-o", work / "streams", "--no-manifest")
        files = sorted(map(str, (work / "streams").glob("*.rvc")))
    some = files[:: max(1, len(files) // options.calls)][: options.calls]

    def alone(names: Sequence[str], suffix: str) -> Cost:
        total = Cost(0.0, 0.0)
        for name in names:
            total += run(options.command, name, work / f"{Path(name).stem}.{suffix}")
        return total / len(names)

    suffix = "rvc" if options.command == "encode" else "wav"
    half = (len(some) + 1) // 2
    first = alone(some[:half], suffix)
    together = run(options.command, *files, "-o", work / "out", "--jobs", options.jobs) / len(files)
    second = alone(some[half:], suffix) if some[half:] else first
    each = (first + second) / 2
    print(
        f"{options.command}, {len(files)} files of {options.seconds:g} s, --jobs {options.jobs}, "
        f"{cores()}"
    )
    print(f"a call per file ({len(some)} calls): {each} per file")
    print(f"one call for all:           {together} per file")
    print(
        f"ratio: {each.wall / together.wall:.1f} wall, {each.processor / together.processor:.1f} "
        "processor"
    )


def ways(work: Path, options: argparse.Namespace) -> None:
    """Prints what N processes of one thread cost, and one process of N threads."""
    print(f"{cores()}; each way twice in turn")
    sets = {"short": (options.files, options.seconds), "long": (options.long, options.minutes * 60)}
    for name, (count, seconds) in sets.items():
        files = make_files(work / name, count, seconds)
        choices = {
            f"{options.jobs} processes of 1 thread": ["--jobs", options.jobs],
            f"1 process of {options.jobs} threads": ["--jobs", 1, "--threads", options.jobs],
        }
        found = {way: Cost(0.0, 0.0) for way in choices}
        for _ in range(2):
            for way, arguments in choices.items():
                found[way] += run("encode", *files, "-o", work / "out", *arguments) / 2
                shutil.rmtree(work / "out")
        for way, cost in found.items():
            speed = count * seconds / cost.wall
            print(f"encode, {count} files of {seconds:g} s, {way}: {cost}, {speed:.1f}x real time")


def cores() -> str:
    """The machine, and how busy it is."""
    from ravecodec.evaluate.evaluation import processor
    from ravecodec.machine import usable_cores

    return f"{processor()}, {usable_cores()} cores, load {os.getloadavg()[0]:.1f}"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--files", type=int, default=0, help="default: 60, with --ways 200")
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--calls", type=int, default=6)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--command", choices=["encode", "decode"], default="encode")
    parser.add_argument("--ways", action="store_true")
    parser.add_argument("--long", type=int, default=8)
    parser.add_argument("--minutes", type=float, default=3.0)
    options = parser.parse_args()
    options.files = options.files or (200 if options.ways else 60)
    with tempfile.TemporaryDirectory() as folder:
        (ways if options.ways else one_call_and_many)(Path(folder), options)


if __name__ == "__main__":
    main()
