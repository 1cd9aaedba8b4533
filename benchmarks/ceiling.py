#!/usr/bin/env python3
"""What the istft generator could say if its network were perfect: amplitudes fitted to each excerpt
by gradient.

    python benchmarks/ceiling.py --cache CACHE [--items 3] [--steps 150] [--sinusoids-per-line 1 2]

No encoder, no latents, no rate: the amplitudes of sinusoids and noise are free numbers, and Adam
brings the sound to the excerpt by the distance that training uses. What is missing then is the
fault of the synthesiser (fixed frequencies, no phase); the rest of a model's distance is the
network's and the rate's. Excerpts of ten seconds come from validation tracks of a cache that
`ravecodec train` has built. Needs `ravecodec[eval]`; prints a Markdown table.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ravecodec.evaluate.measures import peaks, perceptual, spectral
from ravecodec.models.clock import Clock
from ravecodec.models.config import STEP, ModelConfig
from ravecodec.models.istft import (
    LINE_COLUMNS,
    LOUDEST,
    NOISE_COLUMNS,
    QUIET,
    STEREO_MAPS,
    Lines,
    ShapedNoise,
)
from ravecodec.models.losses import stereo_distance
from ravecodec.models.pqmf import PQMF
from ravecodec.models.spectrogram import rows
from ravecodec.train.cache import read_index
from ravecodec.train.data import split
from ravecodec.train.recipe import load_recipe

SECONDS = 10
RATES = 0.16, 0.01  # of Adam, first and last
WINDOWS = (8192, 4096, 2048, 1024, 512)  # one long and one other a step


def excerpts(cache: Path, count: int, config: ModelConfig) -> Iterator[tuple[str, Tensor]]:
    """(track, audio [1, 2, samples]) from 40 % into validation tracks, spread over their list."""
    audio = np.memmap(cache / "audio.i16", dtype="<i2", mode="r").reshape(-1, 2)
    length = SECONDS * config.sample_rate // config.hop * config.hop
    _, held = split(read_index(cache / "tracks.jsonl"))
    long = [track for track in held if track.frames > 2 * length]
    for i in np.linspace(0, len(long) - 1, count).round().astype(int):
        start = long[i].start + int(0.4 * long[i].frames)
        yield (
            long[i].path,
            torch.from_numpy(audio[start : start + length].T.astype(np.float32) / 32768)[None],
        )


class Free(torch.nn.Module):
    """The generator's two excitations with log amplitudes that belong to one excerpt."""

    def __init__(self, config: ModelConfig, samples: int) -> None:
        super().__init__()
        columns, count = samples // STEP, rows(config)[1]
        self.synthesis, self.sinusoids, self.shaped = (
            PQMF(),
            Lines(config),
            ShapedNoise(config, count),
        )
        start = torch.full((1, STEREO_MAPS, config.sinusoids, LINE_COLUMNS * columns), QUIET)
        self.line_level = torch.nn.Parameter(start)
        self.noise_level = torch.nn.Parameter(
            torch.full((1, STEREO_MAPS, count, NOISE_COLUMNS * columns), QUIET)
        )

    def forward(self) -> Tensor:
        clock = Clock.at(0)
        lines = self.sinusoids(self.line_level.clamp(max=LOUDEST).exp(), clock)
        return self.synthesis.synthesis(
            lines + self.shaped(self.noise_level.clamp(max=LOUDEST), clock)
        )


def fitted(target: Tensor, config: ModelConfig, steps: int) -> Tensor:
    """The nearest sound [1, 2, samples] that was found."""
    free = Free(config, target.shape[-1])
    optimiser = torch.optim.Adam(free.parameters())
    for step in range(steps):
        optimiser.param_groups[0]["lr"] = RATES[0] + (RATES[1] - RATES[0]) * step / steps
        optimiser.zero_grad()
        windows = (WINDOWS[0], WINDOWS[1 + step % (len(WINDOWS) - 1)])
        stereo_distance(target, free(), windows, config.sample_rate).backward()
        optimiser.step()
    with torch.no_grad():
        return free()


def scores(target: Tensor, output: Tensor, config: ModelConfig) -> list[float]:
    rate = config.sample_rate
    pair = [x[0].mean(0).double().numpy() for x in (target, output)]
    distance = stereo_distance(target, output, load_recipe("default").windows, rate).item()
    measures = (
        peaks.peak_f1,
        spectral.log_mel_distance,
        perceptual.visqol_audio,
        perceptual.zimtohrli,
    )
    return [distance, *(measure(*pair, rate) for measure in measures)]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--cache", type=Path, required=True, help="cache of stereo 48 kHz audio that training built"
    )
    parser.add_argument("--items", type=int, default=3)
    parser.add_argument("--steps", type=int, default=150, help="of the fit")
    parser.add_argument("--sinusoids-per-line", type=int, nargs="+", default=[1, 2])
    args = parser.parse_args()
    print(
        "| sinusoids | excerpt | S | peak F1 | log-mel dB | ViSQOL | Zimtohrli "
        "|\n|---|---|---|---|---|---|---|"
    )
    for count in args.sinusoids_per_line:
        config = replace(load_recipe("default").model, sinusoids_per_line=count)
        for path, target in excerpts(args.cache, args.items, config):
            values = scores(target, fitted(target, config, args.steps), config)
            print(
                f"| {config.sinusoids} | {path} | "
                + " | ".join(f"{value:.2f}" for value in values)
                + " |",
                flush=True,
            )


if __name__ == "__main__":
    main()
