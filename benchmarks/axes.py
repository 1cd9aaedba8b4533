#!/usr/bin/env python3
"""What the axes of a model do: docs/latents.md's tables and pictures, one axis moved at a time.

    python benchmarks/axes.py [--model default] [--axes 8] [--write]

The example that ships is analysed, one axis of all its frames is shifted by -2 to 2 standard
deviations of the training data, and the result is synthesised and measured at the model's rate.
Table: what a shift by one deviation, taken from one down and one up, changes:

level      RMS of both channels, dB
brightness centroid of the power spectrum on the model's frequency scale (log(f + 500 Hz)), in
           semitones at the centroid
balance    level of left over right, dB
width      level of side over mid, dB

Picture: the mean spectra of all shifts. Prints the table; with --write docs/latents.md gets both
(see pages.py). Needs matplotlib.
"""

from __future__ import annotations

import argparse
from dataclasses import asdict, dataclass, replace
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pages import Blocks, Found, add_write, joined, show, table
from speed import EXAMPLE

from ravecodec import Latents, load_model
from ravecodec.edits import crop
from ravecodec.latents import analyse_file
from ravecodec.models.package import Model
from ravecodec.models.spectrogram import KNEE_HZ

ROOT = Path(__file__).resolve().parent.parent
PICTURES = ROOT / "docs" / "pictures"
SHIFTS = (-2, -1, 0, 1, 2)  # standard deviations
START, END = 5.0, 10.0  # seconds of the example: guitar, then the band
WINDOW = 4096
TINY = 1e-12

Spectrum = NDArray[np.float64]  # power by bin


@dataclass(frozen=True)
class Effect:
    """Of one axis, for a standard deviation; see above."""

    axis: int
    deviation: float
    share: float
    level: float
    brightness: float
    balance: float
    width: float


def power(signal: NDArray[np.float32]) -> Spectrum:
    """Mean power spectrum of a signal (samples,)."""
    count = len(signal) // WINDOW
    frames = signal[: count * WINDOW].reshape(count, WINDOW) * np.hanning(WINDOW)
    mean: Spectrum = np.mean(np.abs(np.fft.rfft(frames)) ** 2, axis=0)
    return mean


def shifted(latents: Latents, model: Model, axis: int, deviations: float) -> NDArray[np.float32]:
    """Audio [2, samples] at the model's rate, with one axis moved."""
    values = latents.values.copy()
    values[:, axis] += np.float32(deviations * model.latent.deviation[axis])
    audio, _ = replace(latents, values=values).synthesise(model, rate=model.config.sample_rate)
    return np.resize(audio, (2, audio.shape[1]))


def features(audio: NDArray[np.float32], rate: int) -> NDArray[np.float64]:
    """Level dB, centroid in semitones, balance dB, width dB."""
    left, right = audio.astype(np.float64)
    spectrum = power(audio[0]) + power(audio[1])
    warped = np.log(np.fft.rfftfreq(WINDOW, 1 / rate) + KNEE_HZ)
    centroid = np.exp((warped * spectrum).sum() / (spectrum.sum() + TINY)) - KNEE_HZ

    def energy(signal: NDArray[np.float64]) -> float:
        return float(10 * np.log10(np.mean(signal**2) + TINY))

    level = 10 * np.log10(np.mean(left**2 + right**2) + TINY)
    balance = energy(left) - energy(right)
    width = energy((left - right) / 2) - energy((left + right) / 2)
    return np.array([level, 12 * np.log2(centroid), balance, width])


def measured(model: Model, count: int) -> tuple[list[Effect], list[dict[int, Spectrum]]]:
    """The effects of the first axes, and the mean spectra behind them by shift."""
    latents = crop(analyse_file(EXAMPLE, model), START, END)
    rate, space = model.config.sample_rate, model.latent
    effects, spectra = [], []
    for axis in range(count):
        sounds = {shift: shifted(latents, model, axis, shift) for shift in SHIFTS}
        change = (features(sounds[1], rate) - features(sounds[-1], rate)) / 2
        mass = float(space.fidelity(axis + 1) - (space.fidelity(axis) if axis else 0))
        fixed = (axis, float(space.deviation[axis]), mass)
        effects.append(Effect(*fixed, *(float(value) for value in change)))
        spectra.append({shift: power(sound.mean(0)) for shift, sound in sounds.items()})
        print(effects[-1], flush=True)
    return effects, spectra


def picture(spectra: list[dict[int, Spectrum]], rate: int, path: Path) -> None:
    """A panel for each axis, a line for each shift, into a PNG file."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    hertz = np.fft.rfftfreq(WINDOW, 1 / rate)
    columns = 4
    rows = -(-len(spectra) // columns)
    size = (11, 2.3 * rows)
    figure, grid = plt.subplots(
        rows, columns, figsize=size, sharex=True, sharey=True, layout="constrained"
    )
    colours = plt.get_cmap("coolwarm")(np.linspace(0, 1, len(SHIFTS)))
    edges = np.geomspace(40, 20_000, 70)
    middle, place = np.sqrt(edges[1:] * edges[:-1]), np.searchsorted(hertz, edges)
    for axis, (axes, found) in enumerate(zip(grid.flat, spectra, strict=False)):
        for (shift, spectrum), colour in zip(found.items(), colours, strict=True):
            colour = (0.2, 0.2, 0.2, 1) if shift == 0 else colour
            sums = [spectrum[a : max(b, a + 1)].mean() for a, b in pairwise(place)]
            axes.semilogx(middle, 10 * np.log10(np.array(sums) + TINY), color=colour, lw=1.2)
        axes.set_title(f"axis {axis}", fontsize=9)
        axes.grid(alpha=0.3)
    grid.flat[0].legend([f"{shift:+d}" if shift else "0" for shift in SHIFTS], fontsize=7)
    figure.supxlabel("Hz", fontsize=9)
    figure.supylabel("dB", fontsize=9)
    figure.savefig(path, dpi=80)
    from PIL import Image

    Image.open(path).convert("RGB").quantize(64).save(path, optimize=True)


def blocks(found: Found) -> Blocks:
    """What is measured, as Markdown by mark."""
    head = ("axis", "deviation", "share of the mass", "level", "brightness", "balance", "width")
    rows = []
    for values in found["axes"]:
        e = Effect(**values)
        cells = [str(e.axis), f"{e.deviation:.1f}", f"{100 * e.share:.1f} %", f"{e.level:+.1f} dB"]
        cells += [f"{e.brightness:+.1f} semitones", f"{e.balance:+.1f} dB", f"{e.width:+.1f} dB"]
        rows.append(cells)
    text = f"Model {found['name']} (`{found['model']}`), for one standard deviation up:"
    return {f"axes {found['name']}": joined(text, table(head, rows))}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default="default", help="name, file or id")
    parser.add_argument("--axes", type=int, default=8, help="how many, from the first on")
    add_write(parser)
    args = parser.parse_args()
    model = load_model(args.model)
    effects, spectra = measured(model, args.axes)
    rows = [asdict(effect) for effect in effects]
    found = {"name": model.name, "model": model.id.hex(), "axes": rows}
    show(f"axes-{model.name}", found, blocks, args.write)
    if args.write:
        picture(spectra, model.config.sample_rate, PICTURES / f"axes-{model.name}.png")


if __name__ == "__main__":
    main()
