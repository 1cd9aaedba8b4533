#!/usr/bin/env python3
"""Whole-process speed and memory of `ravecodec encode` and `ravecodec decode`.

    python benchmarks/speed.py [--model default] [--preset paper] [--minutes 3 10 60] [--audio FILE]
        [--work DIR] [--precision float32] [--runs 1]

    # the table of README.md: default, and paper's network
    python benchmarks/speed.py --minutes 3 10 --runs 3 --write

Every figure is one process from start to exit: interpreter, torch import, model load, audio
decoding, resampling, network, range coder, files. Real-time factor = seconds of audio / wall
seconds of the fastest of `--runs`; memory = largest peak resident set of them, both by
`ravecodec.evaluate.speed.time_command`. `--preset` times a recipe's network with random weights
(speed does not depend on their values), so no trained model is needed. The input is `--audio`
(default: the excerpt that ships) repeated to each length as stereo 44.1 kHz FLAC. Prints a Markdown
table below a line that names the processor; with `--write` README.md gets both (see pages.py). Run
it on a quiet machine.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from pages import Blocks, Found, add_write, joined, show, table

from ravecodec.precision import PRECISIONS

EXAMPLE = Path(__file__).parent.parent / "examples" / "feelings.flac"
DIMS = 24  # of a random-weight preset: what the paper's strings model keeps at fidelity 0.99
COLUMNS = ("network", "audio", "encode", "decode", "peak memory, encode", "decode", "file")


@dataclass(frozen=True)
class Row:
    """Both commands on one file: seconds of audio and of wall clock, peak resident bytes, kbit/s of
    the stream, or None for random weights, whose rate means nothing.
    """

    network: str
    audio_seconds: float
    encode_seconds: float
    decode_seconds: float
    encode_bytes: int
    decode_bytes: int
    kbps: float | None


def repeat_audio(source: Path, seconds: float, target: Path) -> None:
    """`source` again and again, as 44.1 kHz stereo FLAC of this length."""
    audio, rate = soundfile.read(source, dtype="int16", always_2d=True)
    if rate != 44100 or audio.shape[1] != 2:
        sys.exit(f"{source}: {rate} Hz, {audio.shape[1]} channels; expected 44100 Hz stereo")
    left = round(seconds * rate)
    with soundfile.SoundFile(target, "w", rate, 2, "PCM_16") as file:
        while left > 0:
            file.write(audio[:left])
            left -= len(audio[:left])


def random_model(preset: str, target: Path) -> None:
    """A package of the preset's architecture with random weights, at DIMS axes."""
    import torch

    from ravecodec.bitstream import fit_static
    from ravecodec.models.latent import analyse
    from ravecodec.models.package import Coding, save_package
    from ravecodec.models.rave import Rave
    from ravecodec.quantize import base_steps
    from ravecodec.train.recipe import load_recipe

    config = load_recipe(preset).model
    torch.manual_seed(0)
    network = Rave(config).eval()
    audio = torch.randn(1, config.channels, 400 * config.hop) * 0.1
    with torch.inference_mode():
        mean, spread = (x[0].T.numpy() for x in network.encode(audio))
    latent = analyse(mean, spread)
    # a step that leaves some symbols non-zero.
    base = base_steps(latent) * latent.deviation[0] / latent.spread[0]
    static = fit_static(np.rint(latent.project(mean) / base).astype(np.int32))
    dims = min(DIMS, config.latent)
    save_package(
        target,
        network,
        latent,
        Coding(base, static.shapes, static.scales, dims, 0, True),
        preset,
        {},
    )


def measured(
    name: str, model: str, trained: bool, options: argparse.Namespace, work: Path
) -> Iterator[Row]:
    """One row per length."""
    for length in options.minutes:
        flac, rvc, wav = work / "in.flac", work / "out.rvc", work / "out.wav"
        repeat_audio(options.audio, length * 60, flac)
        call = ["encode", "--quiet", "-f", "--model", model, str(flac), str(rvc)]
        encode = fastest(call, options.runs)
        choices = ["--model", model, "--precision", options.precision]
        decode = fastest(["decode", "-q", "-f", *choices, str(rvc), str(wav)], options.runs)
        kbps = rvc.stat().st_size * 8 / (length * 60) / 1000 if trained else None
        yield Row(name, length * 60, encode[0], decode[0], encode[1], decode[1], kbps)
        for path in (flac, rvc, wav):
            path.unlink()


def fastest(call: list[str], runs: int) -> tuple[float, int]:
    """Wall-clock seconds of the fastest of several runs of a command, bytes of the largest."""
    from ravecodec.evaluate.speed import time_command

    seconds, sizes = zip(*(time_command(call) for _ in range(runs)), strict=True)
    return min(seconds), max(sizes)


def machine() -> dict[str, Any]:
    """What the figures depend on: the processor, how many of its cores, torch, threads."""
    from importlib.metadata import version

    from ravecodec.evaluate.evaluation import processor
    from ravecodec.machine import usable_cores

    return {"processor": processor(), "cores": usable_cores(), "torch": version("torch")}


def blocks(found: Found) -> Blocks:
    """What is measured, as Markdown by mark: the machine, then a row per network and length."""
    runs = "one run" if found["runs"] == 1 else f"the fastest of {found['runs']} runs"
    head = (
        f"{found['processor']}, {found['cores']} cores, torch {found['torch']}, "
        f"{found['precision']}, {runs}:"
    )
    rows = []
    for values in found["rows"]:
        row = Row(**values)
        speeds = [
            f"{row.audio_seconds / seconds:.0f}x"
            for seconds in (row.encode_seconds, row.decode_seconds)
        ]
        memory = [f"{size / 1e6:.0f} MB" for size in (row.encode_bytes, row.decode_bytes)]
        rate = "-" if row.kbps is None else f"{row.kbps:.2f} kbit/s"
        rows.append([row.network, f"{row.audio_seconds / 60:g} min", *speeds, *memory, rate])
    return {"speed": joined(head, table(COLUMNS, rows))}


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--model",
        help="installed model or path; default: the shipped one, unless --preset is given",
    )
    parser.add_argument(
        "--preset", help="a recipe name (paper, default, ...): its network with random weights"
    )
    parser.add_argument("--minutes", type=float, nargs="+", default=[3, 10, 60])
    parser.add_argument("--runs", type=int, default=1, help="of which the fastest counts")
    parser.add_argument("--audio", type=Path, default=EXAMPLE)
    parser.add_argument(
        "--precision", choices=PRECISIONS, default=PRECISIONS[0], help="of decoding"
    )
    parser.add_argument(
        "--work", type=Path, help="folder for the files (an hour of WAV is 635 MB); made if missing"
    )
    add_write(parser)
    return parser.parse_args()


def main() -> None:
    options = arguments()
    if options.write:  # README's table
        wanted = [("default", None), ("paper", "paper")]
    else:
        wanted = [(options.preset or options.model or "default", options.preset)]
    if options.work:
        options.work.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(dir=options.work))
    try:
        rows = []
        for name, preset in wanted:
            model = name
            if preset:
                model = str(work / f"{preset}.safetensors")
                random_model(preset, Path(model))
            for row in measured(name, model, not preset, options, work):
                rows.append(asdict(row))
                print(f"{name}, {row.audio_seconds / 60:g} min: done", file=sys.stderr)
        found = machine() | {
            "precision": options.precision,
            "runs": options.runs,
            "rows": rows,
        }
    finally:
        shutil.rmtree(work)
    show("speed", found, blocks, options.write)


if __name__ == "__main__":
    main()
