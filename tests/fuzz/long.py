"""The long run of docs/reliability.md: every target by plain mutation, then guided by coverage, one
after the other.

    nice python tests/fuzz/long.py                              the long run
    nice python tests/fuzz/long.py --share 0.01 --guided 36     a hundredth of it

The long run tries 10^6 containers and METAs, 10^4 models and decodes, then an hour by coverage.
Each run is a process of its own under the limits of fuzz.py. The rows of the table in
docs/reliability.md are printed as they come: target, cases, seconds, memory, how cases ended,
findings, date, commit and machine. The exit code is 1 if there were findings; they are left in the
folder that --out names, with the logs of the runs and the corpus that coverage has grown.
"""

from __future__ import annotations

import argparse
import platform
import re
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path

HERE = Path(__file__).resolve().parent
PLAIN = {
    "model": 10_000,
    "embedded": 10_000,
    "decode": 10_000,
    "container": 1_000_000,
    "meta": 1_000_000,
}
GUIDED = {"container": 0.4, "decode": 0.3, "model": 0.2, "meta": 0.1}  # shares of the time


def stamp() -> str:
    """Date, commit and machine."""
    command = ["git", "-C", str(HERE), "describe", "--always", "--dirty"]
    commit = subprocess.run(command, capture_output=True, text=True).stdout.strip() or "no commit"
    return (
        f"{time.strftime('%Y-%m-%d')}, {commit}, {processor()}, Python {platform.python_version()}"
    )


def processor() -> str:
    """The name of the processor, where Linux tells it."""
    told = Path("/proc/cpuinfo")
    names = re.findall(r"^model name\s*: (.*)$", told.read_text(), re.M) if told.exists() else []
    return names[0] if names else platform.machine()


def row(*cells: object) -> None:
    """A row of the table."""
    print("|", " | ".join(str(cell) for cell in cells), "|", flush=True)


def plain(target: str, cases: int, out: Path, seed: int) -> bool:
    """Runs fuzz.py; whether nothing was found."""
    command = [
        sys.executable,
        str(HERE / "fuzz.py"),
        target,
        "--cases",
        str(cases),
        "--seed",
        str(seed),
    ]
    done = subprocess.run(
        [*command, "--findings", str(out / "findings")], capture_output=True, text=True
    )
    (out / f"{target}.log").write_text(done.stdout + done.stderr)
    told = re.search(
        r": (\d+) cases in (\d+) s, (\d+) MiB; (.*); (\d+) findings$", done.stdout.strip()
    )
    if told is None:
        row(
            target,
            "?",
            "?",
            "?",
            f"ended with code {done.returncode}: {out / target}.log",
            "?",
            stamp(),
        )
        return False
    count, seconds, memory, ends, findings = told.groups()
    row(target, count, seconds, f"{memory} MiB", ends, findings, stamp())
    return done.returncode == 0


def guided(target: str, seconds: float, out: Path) -> bool:
    """Runs guided.py, in a folder of its own, in which libFuzzer leaves what it finds; whether that
    is nothing.
    """
    folder = out / f"guided-{target}"
    folder.mkdir(exist_ok=True)
    command = [sys.executable, str(HERE / "guided.py"), target, "corpus"]
    options = [f"-max_total_time={max(1, round(seconds))}", "-print_final_stats=1"]
    done = subprocess.run(
        [*command, *options], capture_output=True, text=True, errors="replace", cwd=folder
    )
    (folder / "log").write_text(done.stdout + done.stderr)
    found = [
        path for kind in ("crash", "timeout", "oom", "leak") for path in folder.glob(f"{kind}-*")
    ]

    def last(pattern: str) -> str:
        return (re.findall(pattern, done.stderr) or ["?"])[-1]

    ends = f"coverage {last(r'cov: ([0-9]+)')} (edges), corpus {last(r'corp: ([0-9]+)')}"
    row(
        f"{target}, guided",
        last(r"stat::number_of_executed_units: ([0-9]+)"),
        last(r"Done [0-9]+ runs in ([0-9]+) second"),
        f"{last(r'stat::peak_rss_mb: +([0-9]+)')} MiB",
        ends if done.returncode == 0 else f"{ends}, ended with code {done.returncode}",
        len(found),
        stamp(),
    )
    return done.returncode == 0 and not found


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("fuzz-findings"))
    parser.add_argument("--share", type=float, default=1.0, help="of the cases of plain mutation")
    parser.add_argument(
        "--guided",
        type=float,
        default=3600.0,
        help="seconds guided by coverage, all targets together",
    )
    parser.add_argument("--seed", type=int, default=1)
    wanted = parser.parse_args()
    wanted.out.mkdir(parents=True, exist_ok=True)
    cases = {name: round(count * wanted.share) for name, count in PLAIN.items()}
    clean = [plain(name, count, wanted.out, wanted.seed) for name, count in cases.items() if count]
    if find_spec("atheris") is None:
        print(
            "atheris is not installed (pip install 'ravecodec[fuzz]'): nothing was guided by "
            "coverage"
        )
    elif wanted.guided:
        clean += [guided(name, share * wanted.guided, wanted.out) for name, share in GUIDED.items()]
    sys.exit(not all(clean))


if __name__ == "__main__":
    main()
