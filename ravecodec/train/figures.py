"""Figures that both the report of a run and TensorBoard show; they need matplotlib (extra `report`)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ravecodec.models.latent import CONVENTIONS, LatentSpace

if TYPE_CHECKING:
    from matplotlib.figure import Figure

WINDOW, HOP = 4096, 1024  # of spectrograms, samples
RANGE_DB = 90


def spectrograms(sounds: Mapping[str, NDArray[np.floating]], rate: int) -> Figure:
    """One row per sound [channels, samples], the first one above, its channels averaged: 0-20 kHz on the left, 0-4 kHz
    on the right; one scale of level for all, up to the loudest of the first."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 2.5 * len(sounds)), layout="constrained")
    grid = figure.subplots(len(sounds), 2, squeeze=False)
    levels = {name: _levels(sound.mean(0)) for name, sound in sounds.items()}
    top = float(next(iter(levels.values())).max())
    look: dict[str, Any] = {"origin": "lower", "aspect": "auto", "vmin": top - RANGE_DB, "vmax": top, "cmap": "magma"}
    for row, (name, sound) in zip(grid, sounds.items(), strict=True):
        for axes, khz in zip(row, (min(20, rate / 2000), 4), strict=True):
            extent = (0.0, sound.shape[1] / rate, 0.0, float(khz))
            image = levels[name][: int(khz * 1000 * WINDOW / rate) + 1]
            axes.imshow(image, extent=extent, **look)
            axes.set_title(name, loc="left")
            axes.set_ylabel("kHz")
    for axes in grid[-1]:
        axes.set_xlabel("s")
    return figure


def _levels(mono: NDArray[np.floating]) -> NDArray[np.floating]:
    """Levels in dB [bins, frames] of a sound [samples]."""
    frames = np.lib.stride_tricks.sliding_window_view(np.pad(mono, WINDOW // 2), WINDOW)[::HOP]
    return 20 * np.log10(np.abs(np.fft.rfft(frames * np.hanning(WINDOW))).T + 1e-6)


def fidelity(latent: LatentSpace, default_dims: int) -> Figure:
    """Fidelity over the number of axes that are sent, by both conventions, and the default number of them."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 2.6), layout="constrained")
    axes = figure.subplots()
    dims = np.arange(1, len(latent.mean) + 1)
    for convention in CONVENTIONS:
        axes.plot(dims, [latent.fidelity(int(n), convention) for n in dims], label=convention)
    axes.axvline(default_dims, color="gray", linewidth=0.8, label="default operating point")
    axes.set_xlabel("dims")
    axes.legend(frameon=False)
    return figure


def bits_per_latent(bits: NDArray[np.floating], active: float) -> Figure:
    """KL in bits per frame of every latent [latent]: in the order of the network, and falling; with a line at `active`
    bits and the number of latents above it."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 2.6), layout="constrained")
    axes = figure.subplots()
    shown = np.maximum(bits, 1e-4)  # a logarithmic axis has no zero
    axes.plot(shown, ".", markersize=3, color="gray", label="by latent")
    axes.plot(np.sort(shown)[::-1], label="sorted")
    axes.axhline(active, color="gray", linewidth=0.8, label=f"active: {np.count_nonzero(bits > active)}")
    axes.set_yscale("log")
    axes.set_ylabel("bits per frame")
    axes.set_xlabel("latent")
    axes.legend(frameon=False)
    return figure
