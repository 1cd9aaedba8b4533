"""Latent analysis: which directions of the latent space carry information, how many a fidelity
needs, how fine.

RAVE, section 3.2 and eq. 11: centre the posterior means of the training data, take their SVD, keep
the first r_f directions. With `whiten`, every latent is first divided by its RMS posterior spread:
in these coordinates the noise that the generator was trained with has the same size in every
direction, so directions are ranked by what stands out of the noise, not by variance alone
(docs/design.md has the measurement).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from ravecodec.errors import ModelError

# Share of sum(sigma_i), paper eq. 11; of sum(sigma_i^2), RAVE's released code.
CONVENTIONS = (
    "singular",
    "variance",
)
# an axis that varies less, as a share of the one that varies most, does not vary at all
COLLAPSED = 1e-9
# Correlation with the level up to which an axis says nothing of it: about the standard error over
# the 20,000 frames that training analyses.
NEGLIGIBLE = 0.01
# shares closer than this to a fidelity count as equal: 9 of 10 equal axes are a fidelity of 0.9
TIE = 1e-12
TAILS = (0.005, 0.995)  # quantiles between which frames are usual
# Of models that do not say: the default model's, over 15 min of its training data.
USUAL = (
    0.50,
    2.62,
)


@dataclass(frozen=True)
class LatentSpace:
    """An affine change of coordinates: y = analysis @ (z - mean), z = synthesis @ y + mean; y is
    called an axis vector.

    mean [latent], analysis and synthesis [latent, latent], float64; `deviation` [latent] is the
    standard deviation of the means along each axis, falling; `spread` [latent] the RMS posterior
    spread along each axis; `frames` how many frames were seen; `usual` two values of `distance`
    between which 99 in 100 of them lie.
    """

    mean: np.ndarray
    analysis: np.ndarray
    synthesis: np.ndarray
    deviation: np.ndarray
    spread: np.ndarray
    frames: int
    usual: tuple[float, float] = USUAL

    @cached_property
    def prior(self) -> np.ndarray:
        """Standard deviation [latent] along each axis of what the generator was fed in training:
        means plus noise.
        """
        return np.sqrt(self.deviation**2 + self.spread**2)

    # einsum, not @: BLAS wakes threads that go on spinning and slow the network's own down.

    def project(self, z: np.ndarray) -> np.ndarray:
        """[..., latent] -> axis vectors [..., latent]."""
        return np.einsum("...j,ij->...i", z - self.mean, self.analysis)

    def unproject(self, y: np.ndarray) -> np.ndarray:
        """Axis vectors [..., latent] -> latents [..., latent]."""
        return np.einsum("...j,ij->...i", y, self.synthesis) + self.mean

    def distance(self, y: np.ndarray) -> np.ndarray:
        """How far axis vectors [..., latent] are from the training data's mean: squares in units of
        `prior`, summed over all axes, and divided by what that is on average over the training
        data."""
        expected = np.sum((self.deviation / self.prior) ** 2)
        return np.sum((y / self.prior) ** 2, axis=-1) / max(expected, TIE)

    def unusual(self, y: np.ndarray) -> np.ndarray:
        """Whether axis vectors [..., latent] are not like the training data's: further from its
        mean than all but a few of those, or nearer to it (in many dimensions next to no sound is
        near the mean); bool [...]."""
        distance = self.distance(y)
        return (distance < self.usual[0]) | (distance > self.usual[1])

    def oriented(self, y: np.ndarray, level: np.ndarray) -> LatentSpace:
        """The same axes, turned so that louder is positive: axis vectors `y` [frames, latent] of
        audio covary positively with the level [frames] of each frame, in dB.

        An axis whose correlation with the level is at most NEGLIGIBLE, or that does not vary, keeps
        its sign. Tables, predictor and prior belong to the axes as they were when these were
        fitted, so this comes before them. ModelError unless there is one finite level per frame.
        """
        if level.shape != y.shape[:1]:
            shapes = f"levels of shape {level.shape}, axis vectors {y.shape}"
            raise ModelError(f"latent analysis: {shapes}; expected one level per frame")
        if not np.isfinite(level).all():
            raise ModelError("latent analysis: levels hold NaN or infinity; expected finite ones")
        above = level.astype(np.float64) - level.mean(dtype=np.float64)
        deviation = y.std(axis=0)
        least = NEGLIGIBLE * np.maximum(deviation, COLLAPSED * deviation.max()) * above.std()
        sign = np.where(y.T @ above / len(y) < -least, -1.0, 1.0)
        return replace(
            self, analysis=sign[:, None] * self.analysis, synthesis=self.synthesis * sign
        )

    def fidelity(self, dims: int, convention: str = "singular") -> float:
        """Share of the mass that the first `dims` axes carry, in [0, 1]; 1 if there is no mass at
        all.
        """
        mass = self._mass(convention)
        total = mass.sum()
        return float(mass[:dims].sum() / total) if total > 0 else 1.0

    def dims_for(self, fidelity: float, convention: str = "singular") -> int:
        """r_f: the smallest number of axes, at least 1, whose share of the mass is >=
        `fidelity`.
        """
        if not 0 <= fidelity <= 1:
            raise ModelError(f"fidelity is {fidelity}; expected 0 to 1")
        mass = self._mass(convention)
        # the mass beyond the first r axes: summed from the small end, so that it is exactly 0 where
        # nothing is left
        left_out = np.concatenate([np.cumsum(mass[::-1])[::-1][1:], [0.0]])
        allowed = 1 - fidelity + TIE if fidelity < 1 else 0.0
        return int(np.argmax(left_out <= allowed * mass.sum())) + 1

    def _mass(self, convention: str) -> np.ndarray:
        if convention not in CONVENTIONS:
            raise ModelError(
                f"fidelity convention is {convention!r}; expected one of {CONVENTIONS}"
            )
        negligible = self.deviation <= COLLAPSED * self.deviation[0]
        sigma = np.where(negligible, 0.0, self.deviation)
        return sigma if convention == "singular" else sigma**2


def analyse(
    means: np.ndarray, spreads: np.ndarray, whiten: bool = True, level: np.ndarray | None = None
) -> LatentSpace:
    """LatentSpace of posterior means and spreads [frames, latent] over training data; any number of
    frames >= 1.

    Axes are sorted by deviation. The sign of each makes its largest entry positive, so files are
    reproducible; with the level [frames] of the audio of each frame, in dB, louder is positive on
    every axis that has to do with it (`oriented`). ModelError for shapes that do not fit, NaN,
    infinity, and spreads that are not positive.
    """
    means, spreads = means.astype(np.float64), spreads.astype(np.float64)
    if means.ndim != 2 or means.shape != spreads.shape or len(means) == 0:
        shapes = f"means of shape {means.shape}, spreads {spreads.shape}"
        raise ModelError(f"latent analysis: {shapes}; expected equal [frames >= 1, latent]")
    if not (np.isfinite(means).all() and np.isfinite(spreads).all()):
        raise ModelError(
            "latent analysis: latents hold NaN or infinity; the training run has diverged"
        )
    if not (spreads > 0).all():
        raise ModelError(
            f"latent analysis: the smallest spread is {spreads.min():g}; expected positive ones"
        )
    mean = means.mean(axis=0)
    noise = np.sqrt(np.mean(spreads**2, axis=0))
    unit = noise if whiten else np.ones_like(noise)
    centred = (means - mean) / unit
    _, vectors = np.linalg.eigh(centred.T @ centred / len(means))
    rotation = vectors[:, ::-1].T  # the right singular vectors of `centred`, orthonormal
    rotation = (
        rotation
        * np.sign(rotation[np.arange(len(rotation)), np.abs(rotation).argmax(axis=1)])[:, None]
    )
    deviation = np.sqrt(np.mean((centred @ rotation.T) ** 2, axis=0))
    order = np.argsort(-deviation, kind="stable")
    rotation, deviation = rotation[order], deviation[order]
    spread = np.sqrt(rotation**2 @ (noise / unit) ** 2)
    space = LatentSpace(
        mean, rotation / unit, unit[:, None] * rotation.T, deviation, spread, len(means)
    )
    y = centred @ rotation.T
    low, high = np.quantile(space.distance(y), TAILS)
    space = replace(space, usual=(float(low), float(high)))
    return space if level is None else space.oriented(y, level)
