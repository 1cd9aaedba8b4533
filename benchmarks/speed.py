#!/usr/bin/env python3
"""Whole-process speed and memory of `ravecodec encode` and `ravecodec decode`.

    python benchmarks/speed.py [--model default] [--preset paper] [--minutes 3 10 60] [--audio FILE] [--work DIR]
                               [--precision float32]

Every figure is one process from start to exit: interpreter, torch import, model load, audio decoding, resampling,
network, range coder, files. Real-time factor = seconds of audio / wall seconds; memory = peak resident set. `--preset`
times a recipe's network with random weights (speed does not depend on their values), so no trained model is needed. The
input is `--audio` (default: the excerpt that ships) repeated to each length as stereo 44.1 kHz FLAC. Prints a Markdown
table.
"""

from __future__ import annotations

import argparse
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile
import torch

from ravecodec.bitstream import fit_static
from ravecodec.models.latent import analyse
from ravecodec.models.package import Coding, save_package
from ravecodec.models.rave import Rave
from ravecodec.precision import PRECISIONS
from ravecodec.quantize import base_steps
from ravecodec.train.recipe import load_recipe

EXAMPLE = Path(__file__).parent.parent / "examples" / "feelings.flac"
DIMS = 24  # of a random-weight preset: what the paper's strings model keeps at fidelity 0.99


@dataclass(frozen=True)
class Cost:
    seconds: float
    megabytes: float


def measured(command: list[str]) -> Cost:
    """Wall time and peak memory of one process; it must succeed."""
    began = time.perf_counter()
    child = subprocess.Popen(command, stdin=subprocess.DEVNULL)
    _, status, usage = os.wait4(child.pid, 0)
    if os.waitstatus_to_exitcode(status):
        sys.exit(f"failed: {' '.join(command)}")
    scale = 1 if platform.system() == "Darwin" else 1024
    return Cost(time.perf_counter() - began, usage.ru_maxrss * scale / 1e6)


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
    config = load_recipe(preset).model
    torch.manual_seed(0)
    network = Rave(config).eval()
    audio = torch.randn(1, config.channels, 400 * config.hop) * 0.1
    with torch.inference_mode():
        mean, spread = (x[0].T.numpy() for x in network.encode(audio))
    latent = analyse(mean, spread)
    base = base_steps(latent) * latent.deviation[0] / latent.spread[0]  # a step that leaves some symbols non-zero
    static = fit_static(np.rint(latent.project(mean) / base).astype(np.int32))
    dims = min(DIMS, config.latent)
    save_package(target, network, latent, Coding(base, static.shapes, static.scales, dims, 0, True), preset, {})


def table(model: str, minutes: list[float], audio: Path, work: Path, precision: str) -> None:
    """Prints one row per length. precision: of decoding."""
    tool = [sys.executable, "-m", "ravecodec"]
    print("| audio | encode | decode | peak memory, encode | decode | file |\n|---|---|---|---|---|---|")
    for length in minutes:
        flac, rvc, wav = work / "in.flac", work / "out.rvc", work / "out.wav"
        repeat_audio(audio, length * 60, flac)
        encode = measured([*tool, "encode", "-q", "-f", "--model", model, str(flac), str(rvc)])
        choices = ["--model", model, "--precision", precision]
        decode = measured([*tool, "decode", "-q", "-f", *choices, str(rvc), str(wav)])
        kbps = rvc.stat().st_size * 8 / (length * 60) / 1000
        speeds = " | ".join(f"{length * 60 / cost.seconds:.0f}x" for cost in (encode, decode))
        memory = " | ".join(f"{cost.megabytes:.0f} MB" for cost in (encode, decode))
        print(f"| {length:g} min | {speeds} | {memory} | {kbps:.2f} kbit/s |", flush=True)
        for path in (flac, rvc, wav):
            path.unlink()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", help="installed model or path; default: the shipped one, unless --preset is given")
    parser.add_argument("--preset", help="a recipe name (paper, default, ...): its network with random weights")
    parser.add_argument("--minutes", type=float, nargs="+", default=[3, 10, 60])
    parser.add_argument("--audio", type=Path, default=EXAMPLE)
    parser.add_argument("--precision", choices=PRECISIONS, default=PRECISIONS[0], help="of decoding")
    parser.add_argument("--work", type=Path, help="folder for the files (1 h of decoded WAV is 635 MB)")
    options = parser.parse_args()
    work = Path(tempfile.mkdtemp(dir=options.work))
    try:
        model = options.model or "default"
        if options.preset:
            model = str(work / f"{options.preset}.safetensors")
            random_model(options.preset, Path(model))
        machine = platform.processor() or platform.machine()
        print(f"{model}: {machine}, {os.cpu_count()} cores, torch {torch.__version__}, {options.precision}\n")
        table(model, options.minutes, options.audio, work, options.precision)
    finally:
        shutil.rmtree(work)


if __name__ == "__main__":
    main()
