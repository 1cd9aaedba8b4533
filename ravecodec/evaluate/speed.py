"""How fast the command line is: whole processes, as a user starts them."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from ravecodec.audio import Audio
from ravecodec.errors import RavecodecError
from ravecodec.evaluate.filters import RATE
from ravecodec.evaluate.results import Speed
from ravecodec.evaluate.sounds import repeated, write_sound

# Linux counts the memory of whoever started a process as that process' peak: the one that starts
# it has to be small.
MEASURING_CODE = """
import os, sys, time
began = time.perf_counter()
_, status, usage = os.wait4(os.posix_spawn(sys.argv[1], sys.argv[1:], os.environ), 0)
print(time.perf_counter() - began, usage.ru_maxrss)
sys.exit(os.waitstatus_to_exitcode(status))
"""
LENGTH, SHORT = 60.0, 0.5  # seconds: what is measured, and what takes as long as starting does


def measure(
    name: str,
    model: Path,
    sounds: Sequence[Audio],
    threads: Sequence[int],
    seconds: float = LENGTH,
) -> Iterator[Speed]:
    """Encoding and decoding of so many seconds made of the sounds, at each number of threads;
    nothing else should run.
    """
    with tempfile.TemporaryDirectory() as folder:
        long, short = Path(folder) / "long.flac", Path(folder) / "short.flac"
        alike = [sound for sound in sounds if len(sound) == len(sounds[0])]
        audio = repeated(np.concatenate(alike, axis=1), round(seconds * RATE))
        write_sound(long, audio)
        write_sound(short, audio[:, : round(SHORT * RATE)])
        for count in threads:
            for what, endings in (("encode", (".flac", ".rvc")), ("decode", (".rvc", ".wav"))):
                files = [[path.with_suffix(end) for end in endings] for path in (short, long)]
                startup, _ = _run(what, model, count, *files[0])
                took, peak = _run(what, model, count, *files[1])
                yield Speed(what, name, count, seconds, took, startup, peak)


def _run(what: str, model: Path, threads: int, source: Path, target: Path) -> tuple[float, int]:
    """(seconds, peak resident bytes) of one command."""
    options = ["--quiet", "-f", "--device", "cpu", "--threads", str(threads), "--model", str(model)]
    return time_command([what, *options, str(source), str(target)])


def time_command(arguments: Sequence[str]) -> tuple[float, int]:
    """(wall seconds, peak resident bytes) of one `ravecodec` process with these arguments, from
    start to exit.

    The one meter of time and memory: benchmarks measure with it, too. RavecodecError if the command
    fails.
    """
    command = [sys.executable, "-m", "ravecodec", *arguments]
    try:
        done = subprocess.run(
            [sys.executable, "-S", "-c", MEASURING_CODE, *command],
            stdout=subprocess.PIPE,
            check=True,
        )
    except subprocess.CalledProcessError as error:
        raise RavecodecError(f"{arguments[0]} failed while its speed was measured") from error
    seconds, peak = done.stdout.split()[-2:]  # behind what the command itself may have printed
    return float(seconds), int(peak) * (1 if sys.platform == "darwin" else 1024)
