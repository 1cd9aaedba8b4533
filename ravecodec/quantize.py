"""Latents <-> symbols: project on the model's axes, divide by the step, round; and back, at
centroids.

The step of axis i is base_i * 2^(g / 8), g the stream's step index; base_i = sqrt(12) * (posterior
spread along the axis), so that at g = 0 rounding adds as much noise as the generator was trained
with. Training (stage 2) and the codec call the same functions.
"""

from __future__ import annotations

from functools import cached_property, lru_cache
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from ravecodec.bitstream import SHAPES, SIGMAS, StreamInfo
from ravecodec.bitstream.limits import MAX_SYMBOL
from ravecodec.errors import ModelError
from ravecodec.models import noise
from ravecodec.models.latent import LatentSpace
from ravecodec.models.package import Coding
from ravecodec.tables import tables_of

if TYPE_CHECKING:
    from ravecodec.models.package import Model

CENTROIDS = 32  # symbols of larger magnitude are reconstructed at the middle of their cell
GRID = 64  # points of numerical integration per cell

Symbols = NDArray[np.int32]  # [frames, dims]


def base_steps(latent: LatentSpace) -> NDArray[np.float64]:
    """Steps at step index 0, float64 [latent]."""
    return np.sqrt(12) * latent.spread


def _density(shape: str, x: NDArray[np.float64]) -> NDArray[np.float64]:
    """Unit-variance density, up to a constant factor, of a shape of the format's table family (SPEC
    section 6).
    """
    x = np.abs(x)
    if shape == "gaussian":
        return np.exp(-(x**2) / 2)
    if shape == "logistic":
        tail = np.exp(-np.pi / np.sqrt(3) * x)
        return 4 * tail / (1 + tail) ** 2  # 1 / cosh^2 without overflow
    if shape == "laplace":
        return np.exp(-np.sqrt(2) * x)
    if shape == "power23":
        return np.exp(-((x * np.sqrt(13.125)) ** (2 / 3)))
    return np.exp(-np.sqrt(x * np.sqrt(120)))


@lru_cache(maxsize=4096)
def centroids(shape: str, sigma: float) -> NDArray[np.float64]:
    """Mean value in steps of each cell q = 0 .. CENTROIDS, float64, for a source of this shape and
    standard deviation (in steps): between the cell's inner edge and its middle."""
    cells = np.arange(CENTROIDS + 1)[:, None]
    points = cells + (np.arange(GRID) + 0.5) / GRID - 0.5
    weights = _density(shape, points / sigma)
    weights = np.where(weights.sum(axis=1, keepdims=True) > 1e-300, weights, _nearest_edge(weights))
    values = (weights * points).sum(axis=1) / weights.sum(axis=1)
    values[0] = 0.0
    return values


def _nearest_edge(weights: NDArray[np.float64]) -> NDArray[np.float64]:
    """All weight on the edge nearest zero: the limit for cells that lie too far out for float64."""
    edge = np.zeros_like(weights)
    edge[:, 0] = 1
    return edge


class Quantizer:
    """One operating point: the first `dims` axes at step index `step_index`."""

    def __init__(
        self, latent: LatentSpace, coding: Coding, dims: int, step_index: int, fill: bool
    ) -> None:
        if not 0 <= dims <= len(coding.base):
            raise ModelError(f"dims is {dims}; this model has 0 to {len(coding.base)}")
        self.latent = latent
        self.dims = dims
        self.fill = fill
        self.step = coding.base[:dims] * 2 ** (step_index / 8)
        self.static = tables_of(coding)
        self.step_index = step_index

    @cached_property
    def centroids(self) -> NDArray[np.float64]:
        """[dims, CENTROIDS + 1] in steps."""
        scales = np.clip(
            self.static.scales[: self.dims].astype(int) - self.step_index, 0, len(SIGMAS) - 1
        )
        shapes = self.static.shapes[: self.dims]
        rows = [
            centroids(SHAPES[shape], SIGMAS[scale])
            for shape, scale in zip(shapes, scales, strict=True)
        ]
        return np.reshape(rows, (self.dims, CENTROIDS + 1))

    def symbols(self, z: NDArray[np.floating]) -> Symbols:
        """Latents [frames, latent] -> int32 [frames, dims], limited to what the format can hold.

        ModelError for NaN and infinity: an encoder that makes them cannot code this sound.
        """
        return self.rounded(self.axes(z))

    def axes(self, z: NDArray[np.floating]) -> NDArray[np.float64]:
        """The first half of `symbols`: latents [frames, latent] -> axis vectors float64 [frames,
        dims].
        """
        y = self.latent.project(z.astype(np.float64))[:, : self.dims]
        if not np.isfinite(y).all():
            raise ModelError("latents hold NaN or infinity; the model cannot code this sound")
        return y

    def rounded(self, y: NDArray[np.float64]) -> Symbols:
        """The second half of `symbols`: axis vectors in steps."""
        return np.clip(np.rint(y / self.step), -MAX_SYMBOL, MAX_SYMBOL).astype(np.int32)

    def latents(self, symbols: Symbols, first_frame: int = 0, seed: int = 0) -> NDArray[np.float32]:
        """Symbols [frames, dims] -> latents float32 [frames, latent]; cropped axes: from the prior,
        or zero.
        """
        return self.filled(self.values(symbols), first_frame, seed)

    def values(self, symbols: Symbols) -> NDArray[np.float64]:
        """The first step of `latents`: symbols [frames, dims] -> axis vectors [frames, dims], which
        round to them.
        """
        size = np.abs(symbols)
        inner = np.take_along_axis(self.centroids.T, np.minimum(size, CENTROIDS), axis=0)
        values: NDArray[np.float64] = (
            np.where(size <= CENTROIDS, np.sign(symbols) * inner, symbols) * self.step
        )
        return values

    def filled(
        self, y: NDArray[np.float64], first_frame: int = 0, seed: int = 0
    ) -> NDArray[np.float32]:
        """The last step of `latents`: axis vectors [frames, dims], quantised or not -> latents
        [frames, latent].
        """
        rest = self._rest(first_frame, len(y), seed)
        return self.latent.unproject(np.concatenate([y, rest], axis=1)).astype(np.float32)

    def _rest(self, first_frame: int, frames: int, seed: int) -> NDArray[np.float64]:
        """Values of the cropped axes [frames, latent - dims]; noise depends on (seed, frame, axis)
        only.
        """
        cropped = len(self.latent.mean) - self.dims
        if not self.fill or cropped == 0:
            return np.zeros((frames, cropped))
        position = first_frame + torch.arange(frames)[:, None]
        lane = self.dims + torch.arange(cropped)[None]
        drawn = noise.normal(torch.tensor(seed), noise.LATENT_STREAM, position, lane)
        return drawn.double().numpy() * self.latent.prior[self.dims :]


def quantizer_of(
    model: Model, info: StreamInfo, *, dims: int | None = None, step_index: int | None = None
) -> Quantizer:
    """The quantizer of a stream of this model, or of a chunk that has its own dims or step index.

    ModelError for more dims than the model has.
    """
    dims = info.dims if dims is None else dims
    step_index = info.step_index if step_index is None else step_index
    return Quantizer(model.latent, model.coding, dims, step_index, info.noise_fill)
