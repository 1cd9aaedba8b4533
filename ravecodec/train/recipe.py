"""Recipes: everything that defines a training run, read from TOML, kept beside the result as it was
resolved.
"""

from __future__ import annotations

import dataclasses
import re
import tomllib
from dataclasses import asdict, dataclass, fields
from importlib import resources
from pathlib import Path
from typing import Any

from ravecodec.errors import UsageError
from ravecodec.models.config import ModelConfig
from ravecodec.precision import AUTO
from ravecodec.train.optimiser import OPTIMISERS

NAME = re.compile(r"\w[\w.-]*")  # of a model: it becomes the name of a file
DISTANCES = ("paper", "stereo")
DISCRIMINATORS = ("waveform", "spectrum", "periods")


@dataclass(frozen=True)
class Stage:
    """What the two stages share: length and learning rate (decays as a half cosine to a
    twentieth).
    """

    steps: int
    rate: float

    def __post_init__(self) -> None:
        if not isinstance(self.steps, int) or self.steps < 0 or not self.rate > 0:
            found = f"{self.steps} steps at learning rate {self.rate}"
            raise UsageError(
                f"recipe: stage of {found}; expected a whole number of steps and a positive rate"
            )


def _fits(value: object, default: object) -> bool:
    """Whether a value has the type of the field's default; whole numbers are fine where a float is
    wanted.
    """
    if isinstance(value, bool) or isinstance(default, bool):
        return isinstance(value, bool) and isinstance(default, bool)
    return isinstance(value, (int, float) if isinstance(default, float) else type(default))


@dataclass(frozen=True)
class Recipe:
    """A training run: a model, its data settings and both stages."""

    model: ModelConfig
    stage1: Stage = Stage(100_000, 1e-3)
    stage2: Stage = Stage(100_000, 1e-4)
    batch: int = 8  # crops per step and process
    # A crop loses the reach of encoder and decoder at both ends; what is left has to hold the
    # longest spectrum of the losses (`windows` with distance "stereo", those of discriminators but
    # "waveform"), or the recipe is refused.
    crop_frames: int = 32  # latent frames per training crop
    # share of stereo crops that are panned, narrowed or widened at random; mono crops never are
    placed: float = 0.0
    allpass: float = (
        0.0  # share of crops whose phases are turned by a random all-pass; the paper: 0.8
    )
    # Share of crops that are turned down by another 20 to 60 dB. Where it is not 0, all crops below
    # -40 dBFS are lifted to that level before S is taken, so that the floor of its logarithm does
    # not hide them.
    faint: float = 0.0
    # S as in the paper: of bands and full band, with those `windows` that fit into each. Or
    # "stereo": octave-weighted, of left, right, mid and side, with all windows; in training their
    # grid begins anywhere within the longest hop.
    distance: str = "paper"
    # One may be named twice, to be drawn twice as often.
    windows: tuple[int, ...] = (
        2048,
        1024,
        512,
        256,
        128,
    )
    windows_per_step: int = 0  # 0: all of them; n: n drawn anew every step, unbiased and cheaper
    random_grid: bool = (
        True  # stereo: false lets the spectra of every step begin at the same sample of a crop
    )
    mel: float = 0.0  # weight of the log-mel distance beside S, in nepers
    # or "muon", for the network's matrices: Adam keeps all other weights and the discriminator
    optimiser: str = "adam"
    # decay of the moving average of the weights, which is what is packed; 0: the last weights
    average: float = 0.999
    # How many learned corrections the latents get, of a model that has a refiner: drawn anew in
    # every step of stage 1; the first is the number that is validated and packed, and that stage 2
    # uses.
    refine: tuple[int, ...] = (1,)
    target_kbps: float = 0.0  # KL to hold by adapting beta; 0: constant beta
    # weight of the KL in bits per frame: with target_kbps at the start, without it for ever
    beta: float = 0.1
    # Stage 2. Both weights count from step `warmup` on: before, the generator learns on the
    # distance alone. With both 0 there is no discriminator, and a step takes a third of the time.
    discriminator: str = (
        "waveform"  # the paper's; "spectrum"; or "periods", DAC's multi-period and multi-band pair
    )
    adversarial: float = 1.0
    feature_matching: float = 10.0
    warmup: int = 1000
    # latents as a decoder will receive them; false: samples of the posterior, as in stage 1
    quantised: bool = True
    whiten: bool = (
        True  # latent axes by signal-to-noise (default preset) or by variance alone (paper)
    )
    # Stage 2 learns around the default step that `rate_kbps` finds, so it belongs with target_kbps:
    # a little above it.
    # the default step is the finest whose coded validation audio stays below; 0: step index 0
    rate_kbps: float = 0.0
    validate_every: int = (
        250  # steps; 0: never, and then TensorBoard has excerpts of the finished model only
    )
    # Of stage 2 the generator with the smallest S on validation audio; false: the last one. It
    # needs validate_every, and only validations after `warmup` count.
    keep_best: bool = True
    # What the networks compute in: true, false, or "auto", whichever is faster on this device; said
    # in the log.
    bfloat16: bool | str = False
    seed: int = 0
    name: str = "model"

    def __post_init__(self) -> None:
        for key in ("windows", "refine"):
            object.__setattr__(self, key, tuple(getattr(self, key)))
        for f in fields(self):
            if f.name == "bfloat16":
                known = isinstance(self.bfloat16, bool) or self.bfloat16 == AUTO
                self._check(known, f.name, 'true, false or "auto"')
            elif f.default is not dataclasses.MISSING:
                self._check(
                    _fits(getattr(self, f.name), f.default), f.name, f"a value like {f.default!r}"
                )
        self._check(self.distance in DISTANCES, "distance", f"one of {DISTANCES}")
        self._check(self.optimiser in OPTIMISERS, "optimiser", f"one of {OPTIMISERS}")
        self._check(
            self.discriminator in DISCRIMINATORS, "discriminator", f"one of {DISCRIMINATORS}"
        )
        counts = all(isinstance(w, int) and w >= 4 for w in self.windows)
        self._check(counts and len(self.windows) > 0, "windows", "a list of window lengths")
        steps = all(isinstance(n, int) and n >= 0 for n in self.refine)
        self._check(steps and len(self.refine) > 0, "refine", "a list of numbers of corrections")
        for key in ("placed", "allpass", "faint", "average"):
            self._check(0 <= getattr(self, key) <= 1, key, "0 to 1")
        self._check(
            self.windows_per_step <= len(self.windows),
            "windows_per_step",
            f"at most {len(self.windows)}",
        )
        self._check(
            NAME.fullmatch(self.name) is not None,
            "name",
            "letters, digits, dot, dash and underscore",
        )
        for key in ("batch", "crop_frames"):
            self._check(getattr(self, key) > 0, key, "at least 1")
        for key in (
            "windows_per_step",
            "mel",
            "target_kbps",
            "beta",
            "warmup",
            "rate_kbps",
            "validate_every",
            "seed",
        ):
            self._check(getattr(self, key) >= 0, key, "at least 0")

    @property
    def has_critic(self) -> bool:
        """Whether stage 2 trains against a discriminator."""
        return self.adversarial > 0 or self.feature_matching > 0

    def _check(self, good: bool, name: str, expected: str) -> None:
        if not good:
            raise UsageError(f"recipe: {name} is {getattr(self, name)!r}; expected {expected}")

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Recipe:
        """Raises UsageError for unknown keys."""
        unknown = sorted(set(values) - {f.name for f in fields(cls)})
        if unknown:
            raise UsageError(f"recipe: unknown key {', '.join(unknown)}")
        values = dict(values, model=ModelConfig.from_dict(values.get("model", {})))
        for stage in ("stage1", "stage2"):
            if stage in values:
                values[stage] = Stage(**values[stage])
        return cls(**values)

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    def replace(self, **changes: Any) -> Recipe:
        return dataclasses.replace(self, **changes)


def load_recipe(name_or_path: str) -> Recipe:
    """A recipe by path, or by the name of one that ships with ravecodec (`recipe_names`)."""
    path = Path(name_or_path)
    shipped = resources.files("ravecodec.models.recipes") / f"{name_or_path}.toml"
    if path.suffix == ".toml" and path.is_file():
        data = path.read_bytes()
    elif shipped.is_file():
        data = shipped.read_bytes()
    else:
        names = ", ".join(recipe_names())
        raise UsageError(
            f"recipe {name_or_path!r}: no such .toml file or shipped recipe; expected one of "
            f"{names}"
        )
    try:
        return Recipe.from_dict(tomllib.loads(data.decode()))
    except (ValueError, TypeError) as error:
        raise UsageError(f"recipe {name_or_path}: {error}") from error


def recipe_names() -> list[str]:
    folder = resources.files("ravecodec.models.recipes")
    return sorted(
        p.name.removesuffix(".toml") for p in folder.iterdir() if p.name.endswith(".toml")
    )
