"""Long work in flat memory: a day through pipes, a start late in a file, thousands of files in one
process.

    nice python tests/fuzz/endurance.py day --hours 24       encode and decode, from pipe to pipe
    nice python tests/fuzz/endurance.py seek --hours 6       decode --start near the end of a file
    nice python tests/fuzz/endurance.py files --count 10000  encode and decode small files

The audio is synthetic, mono, 8 kHz; the model is a tiny untrained one of that rate, so a day takes
minutes. Samples are counted, and resident memory (Linux: /proc) is compared between the first
quarter of the work and the last. Prints rows of the table in docs/reliability.md; the exit code is
1 where something was lost or memory grew by more than GROWTH.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import fuzz
import numpy as np
from long import row, stamp

RATE = 8000
SECONDS = 10  # of audio that are made at a time
STEP = -64  # of the quantiser: the finest, so that there are symbols to code
GROWTH = 16 << 20  # bytes that memory may differ by
COMMAND = [sys.executable, "-m", "ravecodec"]


def sound(hours: float, seed: int = 0) -> Iterator[bytes]:
    """16-bit PCM: a tone that moves, with noise and a pause in every minute."""
    draw = np.random.default_rng(seed)
    time = np.arange(SECONDS * RATE) / RATE
    for number in range(round(hours * 3600 / SECONDS)):
        tone = np.sin(2 * np.pi * (200 + number % 97) * time) * (number % 6 > 0)
        noise = draw.standard_normal(len(time)) * (number % 6 > 0)
        yield (6000 * tone + 600 * noise).astype("<i2").tobytes()


@dataclass
class Memory:
    """Resident memory of a process in the course of its work."""

    process: int
    # (share of the work that is done, bytes).
    seen: list[tuple[float, int]] = field(default_factory=list)

    def look(self, share: float) -> None:
        """Notes the memory at this moment."""
        pages = Path(f"/proc/{self.process}/statm").read_text().split()
        if len(pages) > 1:
            self.seen.append((share, int(pages[1]) * os.sysconf("SC_PAGE_SIZE")))

    def quarter(self, number: int) -> int:
        """The most in a quarter of the work, 0 to 3, without its first twentieth, in which
        everything is loaded.
        """
        return max(
            size for share, size in self.seen if max(0.05, number / 4) <= share <= (number + 1) / 4
        )

    @property
    def flat(self) -> bool:
        return self.quarter(3) <= self.quarter(0) + GROWTH

    def __str__(self) -> str:
        first, last = (self.quarter(number) / (1 << 20) for number in (0, 3))
        return f"{first:.0f} MiB in the first quarter, {last:.0f} MiB in the last"


def piped(
    command: list[str], pieces: Iterator[bytes], whole: int, counts_output: bool
) -> tuple[int, bytes, Memory]:
    """Feeds a command; bytes that it wrote, the first of them, and its memory by its progress.

    whole: bytes that are fed, or with `counts_output` that come out, which is what progress is
    measured by.
    """
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as run:
        assert run.stdin is not None and run.stdout is not None
        memory, fed = Memory(run.pid), 0

        def feed() -> None:
            nonlocal fed
            assert run.stdin is not None
            with run.stdin:
                for piece in pieces:
                    run.stdin.write(piece)
                    fed += len(piece)
                    if not counts_output:
                        memory.look(fed / whole)

        feeder = threading.Thread(target=feed)
        feeder.start()
        head, count = b"", 0
        while piece := run.stdout.read(1 << 20):
            head = (head + piece)[:4096]
            count += len(piece)
            if counts_output:
                memory.look(count / whole)
        feeder.join()
    if run.returncode:
        sys.exit(f"{' '.join(command)} ended with code {run.returncode}")
    return count, head, memory


def read(path: Path) -> Iterator[bytes]:
    """The bytes of a file."""
    with path.open("rb") as file:
        while piece := file.read(1 << 16):
            yield piece


def encoded(folder: Path, hours: float) -> Path:
    """A stream of so many hours, written from a pipe."""
    stream = folder / "long.rvc"
    options = [
        "--raw-rate",
        str(RATE),
        "--model",
        str(tiny(folder)),
        "--step",
        str(STEP),
        "--quiet",
        "-f",
    ]
    command = [*COMMAND, "encode", "-", str(stream), *options]
    began = time.monotonic()
    _, _, memory = piped(command, sound(hours), round(hours * 3600 * RATE * 2), counts_output=False)
    row(
        f"encode {hours:g} h from a pipe",
        f"{stream.stat().st_size} bytes",
        took(began),
        memory,
        stamp(),
    )
    check(memory.flat, "memory grew")
    return stream


def tiny(folder: Path) -> Path:
    """The tiny model, installed."""
    os.environ["RAVECODEC_MODELS"] = str(folder)
    path = folder / "tiny.safetensors"
    if not path.exists():
        fuzz.write_tiny_model(path, RATE)
    return path


def day(folder: Path, hours: float, count: int) -> None:
    """A day from pipe to pipe."""
    stream = encoded(folder, hours)
    samples, began = round(hours * 3600 * RATE), time.monotonic()
    command = [*COMMAND, "decode", "-", "-", "-q"]
    size, head, memory = piped(command, read(stream), samples * 2, counts_output=True)
    found = (size - head.index(b"data") - 8) // 2
    row(
        f"decode {hours:g} h from pipe to pipe",
        f"{found} samples of {samples}",
        took(began),
        memory,
        stamp(),
    )
    check(found == samples, "samples are lost")
    check(memory.flat, "memory grew")


def seek(folder: Path, hours: float, count: int) -> None:
    """Ten seconds near the end: the same as of the whole, for a fraction of its time."""
    stream, whole, part = encoded(folder, hours), folder / "whole.wav", folder / "part.wav"
    start, length = round(hours * 3600) - 100, 10
    began = time.monotonic()
    subprocess.run([*COMMAND, "decode", str(stream), str(whole), "-q", "-f"], check=True)
    row(f"decode {hours:g} h to a file", f"{whole.stat().st_size} bytes", took(began), "", stamp())
    began = time.monotonic()
    span = ["--start", str(start), "--duration", str(length)]
    subprocess.run([*COMMAND, "decode", str(stream), str(part), "-q", "-f", *span], check=True)
    row(
        f"decode 10 s of {hours:g} h, from {start} s on",
        f"{part.stat().st_size} bytes",
        took(began),
        "",
        stamp(),
    )
    with whole.open("rb") as file:
        file.seek(44 + start * RATE * 2)
        check(
            file.read(length * RATE * 2) == part.read_bytes()[44:],
            "the part is not that of the whole",
        )


def files(folder: Path, hours: float, count: int) -> None:
    """Small files, encoded and decoded one after the other with one model, and 1 in 100 that cannot
    be.
    """
    import soundfile

    import ravecodec
    from ravecodec.errors import RavecodecError

    model = ravecodec.load_model(tiny(folder), device="cpu", threads=1)
    draw, memory, began, refused = (
        np.random.default_rng(0),
        Memory(os.getpid()),
        time.monotonic(),
        0,
    )
    song, stream, back = folder / "a.wav", folder / "a.rvc", folder / "b.wav"
    open_before, threads_before = 0, 0
    for number in range(count):
        samples = draw.integers(1, 2000)
        soundfile.write(song, draw.uniform(-0.5, 0.5, samples), RATE)
        if number % 100 == 99:
            song.write_bytes(song.read_bytes()[:-2])
        try:
            ravecodec.encode_file(song, stream, model=model, force=True)
            ravecodec.decode_file(stream, back, model=model, force=True)
            check(soundfile.info(back).frames == samples, "samples are lost")
        except RavecodecError:
            refused += 1
        memory.look((number + 1) / count)
        if number == count // 20:
            open_before, threads_before = len(os.listdir("/proc/self/fd")), threading.active_count()  # noqa: PTH208
    open_after, threads_after = len(os.listdir("/proc/self/fd")), threading.active_count()  # noqa: PTH208
    found = (
        f"{refused} refused as they should; files open {open_before}, then {open_after}; threads "
        f"{threads_after}"
    )
    row(f"encode and decode {count} files in one process", found, took(began), memory, stamp())
    check(refused == count // 100, "other files were refused than should be")
    check(
        (open_after, threads_after) == (open_before, threads_before),
        "files or threads are left open",
    )
    check(memory.flat, "memory grew")


def took(began: float) -> str:
    """Seconds since then."""
    return f"{time.monotonic() - began:.0f} s"


def check(good: bool, sentence: str) -> None:
    """Ends the program where something is not as it should be."""
    if not good:
        sys.exit(sentence)


WORK: dict[str, Callable[[Path, float, int], None]] = {"day": day, "seek": seek, "files": files}


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("work", choices=WORK)
    parser.add_argument("--hours", type=float, default=24.0)
    parser.add_argument("--count", type=int, default=10_000)
    wanted = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        WORK[wanted.work](Path(folder), wanted.hours, wanted.count)


if __name__ == "__main__":
    main()
