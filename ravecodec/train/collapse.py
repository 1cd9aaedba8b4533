"""Posterior collapse: the encoder says nothing, and the generator plays the average of the music.

It happens where the KL weighs more than what the latents win: a beta that is too high, a rate that
is too low, or data that is mostly silence, in which there is nothing to say.
"""

from __future__ import annotations

from collections.abc import Mapping

from ravecodec.train.recipe import Recipe
from ravecodec.train.stages import ACTIVE_BITS
from ravecodec.train.trainer import BETA_WARMUP

PATIENCE = 40  # reports until it is said again: ten minutes


def fewest_active(latent: int) -> float:
    """Active latents below which the posterior of `latent` dimensions counts as collapsed: 4 or 1
    %, whichever is more, but never more than a quarter of a small model's.

    The paper's models, which are not collapsed, have 9 to 16 of 128 (RAVE, appendix D).
    """
    return min(max(4.0, latent / 100), latent / 4)


class Collapse:
    """Watches the reports of stage 1, silently for its first `warmup` steps."""

    def __init__(self, recipe: Recipe, warmup: int = BETA_WARMUP) -> None:
        self._recipe, self._warmup = recipe, warmup
        self._quiet = 0  # reports that pass before the next advice

    def advice(self, step: int, means: Mapping[str, float]) -> str:
        """One sentence if the means of a report show a collapsed posterior, after the warm-up;
        the next one PATIENCE reports later. Else, and for reports without `active`, the empty
        string."""
        self._quiet = max(0, self._quiet - 1)
        latent = self._recipe.model.latent
        active = means.get("active", float(latent))
        if step <= self._warmup or active >= fewest_active(latent) or self._quiet:
            return ""
        self._quiet = PATIENCE
        return (
            f"the posterior has collapsed: {active:.1f} of {latent} latents carry more than "
            f"{ACTIVE_BITS} bit; "
            f"{self._remedy(means['kbps'])}, and see in data.json that the data is not mostly "
            "silence"
        )

    def _remedy(self, kbps: float) -> str:
        """What to do about it: where beta follows a rate that is not reached yet, it may still help
        itself.
        """
        target, start = self._recipe.target_kbps, self._recipe.beta
        if not target:
            return (
                f"start again with a lower beta than {start:g}, or with a target_kbps for it to "
                "follow"
            )
        if kbps < target / 2:
            return f"beta is falling; if this stays so, start again with a lower one than {start:g}"
        return f"start again with a higher target_kbps than {target:g}"
