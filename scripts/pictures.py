#!/usr/bin/env python3
"""Spectrograms of input and output side by side, one PNG per pair of WAV files.

A maintainer's tool beside `ravecodec eval` (whose REPORT/audio holds originals and decoded files); needs matplotlib.

    python scripts/pictures.py --out DIR IN.wav OUT.wav [IN2.wav OUT2.wav ...] [--chunk SECONDS] [--start S --seconds S]

Left the input, right the output; above 0-20 kHz, below 0-4 kHz. Hann 4096, hop 512, mid channel, both on one scale of
-100..0 dB relative to the input's loudest bin, so that any difference in level is seen. `--chunk` marks the borders of
the stream's chunks by ticks at the top edge of the output, where seams would show.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import matplotlib as mpl
import numpy as np
import soundfile
from numpy.typing import NDArray

mpl.use("Agg")
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image

SIZE, HOP, RANGE_DB = 4096, 512, 100.0
BANDS_KHZ = (20.0, 4.0)


def levels(audio: NDArray[np.float64]) -> NDArray[np.float64]:
    """Levels in dB of a mono signal, (bins, frames); a full-scale sine is 0 dB."""
    window = np.hanning(SIZE + 1)[:-1]
    padded = np.pad(audio, (SIZE // 2, SIZE), mode="reflect" if len(audio) > SIZE else "constant")
    frames = np.lib.stride_tricks.sliding_window_view(padded, SIZE)[::HOP]
    return 20 * np.log10(np.abs(np.fft.rfft(frames * window, axis=1)).T / (window.sum() / 2) + 1e-9)


def load(path: Path, start: float, seconds: float | None) -> tuple[NDArray[np.float64], int]:
    """Mid channel of a part of a file, and its rate."""
    rate = soundfile.info(path).samplerate
    frames = -1 if seconds is None else round(seconds * rate)
    audio, _ = soundfile.read(path, frames=frames, start=round(start * rate), always_2d=True)
    return audio.mean(axis=1), rate


def panel(axes: Axes, image: NDArray[np.float64], rate: int, top: float, khz: float) -> None:
    """Draw the part of a spectrogram below `khz`, `top` dB being the upper end of the scale."""
    rows = int(khz * 1000 * SIZE / rate) + 1
    extent = (0.0, image.shape[1] * HOP / rate, 0.0, khz)
    axes.imshow(image[:rows], origin="lower", aspect="auto", extent=extent, vmin=top - RANGE_DB, vmax=top, cmap="magma")


def ticks(axes: Axes, seconds: float, chunk: float, start: float) -> None:
    """Mark the borders of the chunks by ticks at the top edge."""
    axes.set_xticks(np.arange(np.ceil(start / chunk) * chunk - start, seconds, chunk), minor=True)
    axes.tick_params(which="minor", top=True, bottom=False, direction="out", length=7, width=1.5)


def picture(source: Path, decoded: Path, out: Path, args: argparse.Namespace) -> Path:
    """Write out/<name of source>.png and return its path."""
    pair = [load(path, args.start, args.seconds) for path in (source, decoded)]
    if pair[0][1] != pair[1][1]:
        raise SystemExit(f"{decoded}: expected {pair[0][1]} Hz as in {source}, found {pair[1][1]} Hz")
    images, rate = [levels(audio) for audio, _ in pair], pair[0][1]
    figure, grid = plt.subplots(len(BANDS_KHZ), 2, figsize=(10, 5.5), sharey="row", layout="constrained")
    for row, khz in enumerate(BANDS_KHZ):
        for column, image in enumerate(images):
            panel(grid[row][column], image, rate, float(images[0].max()), khz)
            grid[row][column].tick_params(which="minor", bottom=False)
        grid[row][0].set_ylabel("kHz")
        if args.chunk:
            ticks(grid[row][1], len(pair[1][0]) / rate, args.chunk, args.start)
    for column, title in enumerate((f"in: {source.stem}", f"out{': ' + args.label if args.label else ''}")):
        grid[0][column].set_title(title, fontsize=9)
        grid[-1][column].set_xlabel("s")
    target = out / f"{source.stem}.png"
    save(figure, target)
    plt.close(figure)
    return target


def save(figure: Figure, target: Path, dpi: int = 90) -> None:
    """Write a figure as a PNG of 64 colours, which a spectrogram does not suffer from and which is a third in size."""
    figure.set_dpi(dpi)
    figure.canvas.draw()
    pixels = np.asarray(figure.canvas.buffer_rgba())[:, :, :3]  # type: ignore[attr-defined]
    Image.fromarray(pixels).quantize(64).save(target, optimize=True)


def main() -> int:
    """Command line; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="+", type=Path, help="pairs: input, output, input, output ...")
    parser.add_argument("--out", type=Path, required=True, help="folder of the PNG files")
    parser.add_argument("--chunk", type=float, help="chunk length in seconds, to mark the borders")
    parser.add_argument("--start", type=float, default=0.0, help="first second drawn")
    parser.add_argument("--seconds", type=float, help="how much is drawn (default: to the end)")
    parser.add_argument("--label", default="", help="title over the output, such as the model and rate")
    args = parser.parse_args()
    if len(args.files) % 2:
        parser.error("files come in pairs: input, output")
    args.out.mkdir(parents=True, exist_ok=True)
    for source, decoded in zip(args.files[::2], args.files[1::2], strict=True):
        target = picture(source, decoded, args.out, args)
        print(f"{target}: {target.stat().st_size // 1000} kB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
