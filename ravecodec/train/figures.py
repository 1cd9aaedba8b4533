"""What both the report of a run and TensorBoard draw, as evaluations do (`evaluate.page.charts`;
extra `report`)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ravecodec.evaluate.page.charts import Chart, Level, Line
from ravecodec.evaluate.page.figures import fidelity_chart, fidelity_lines
from ravecodec.models.latent import LatentSpace

LEAST_BITS = 1e-4  # that are drawn: a logarithmic axis has no zero


def fidelity(latent: LatentSpace, own_dims: int) -> Chart:
    """Fidelity over the number of dims that are sent, by both conventions, and the default number
    of them."""
    counts = range(1, len(latent.mean) + 1)
    conventions = {
        "singular values": [latent.fidelity(dims, "singular") for dims in counts],
        "variances": [latent.fidelity(dims, "variance") for dims in counts],
    }
    return fidelity_chart(list(fidelity_lines(conventions, own_dims, "model-1")))


def bits_per_latent(bits: NDArray[np.floating], active: float) -> Chart:
    """KL in bits per frame of every latent [latent]: in the order of the network, and falling; with
    a level at `active` bits that says how many latents are above it."""
    shown = np.maximum(bits, LEAST_BITS)
    by_latent = list(enumerate(shown.tolist()))
    falling = list(enumerate(np.sort(shown)[::-1].tolist()))
    lines = [
        Line("sorted", "codec-1", falling),
        Line("by latent", "control", by_latent, marker=".", dashes="none"),
    ]
    level = Level(f"active: {np.count_nonzero(bits > active)}", "control", active)
    return Chart("KL, bits per frame", "over latents", lines, [level], "linear", "log")
