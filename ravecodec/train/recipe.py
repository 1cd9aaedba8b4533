"""Recipes: everything that defines a training run, read from TOML, kept beside the result as it was resolved."""

from __future__ import annotations

import dataclasses
import tomllib
from dataclasses import asdict, dataclass, fields
from importlib import resources
from pathlib import Path
from typing import Any

from ravecodec.errors import UsageError
from ravecodec.models.config import ModelConfig

DISTANCES = ("paper", "stereo")
DISCRIMINATORS = ("waveform", "spectrum")


@dataclass(frozen=True)
class Stage:
    """What the two stages share: length and learning rate (decays as a half cosine to a twentieth)."""

    steps: int
    rate: float

    def __post_init__(self) -> None:
        if self.steps < 0 or self.rate <= 0:
            raise UsageError(f"recipe: stage of {self.steps} steps at learning rate {self.rate}; expected positive numbers")


@dataclass(frozen=True)
class Recipe:
    """A training run: a model, its data settings and both stages."""

    model: ModelConfig
    stage1: Stage = Stage(100_000, 1e-3)
    stage2: Stage = Stage(100_000, 1e-4)
    batch: int = 8
    crop_frames: int = 32  # latent frames per training crop
    distance: str = "paper"  # S as in the paper (bands and full band), or octave-weighted on left, right and mid
    windows: tuple[int, ...] = (2048, 1024, 512, 256, 128)
    windows_per_step: int = 0  # 0: all of them; n: n drawn anew every step, unbiased and cheaper
    target_kbps: float = 0.0  # KL to hold by adapting beta; 0: constant beta
    beta: float = 0.1  # weight of the KL in bits per frame: at the start, or for ever
    discriminator: str = "waveform"
    adversarial: float = 1.0
    feature_matching: float = 10.0
    warmup: int = 1000  # stage 2 steps in which only the discriminator learns
    whiten: bool = True  # latent axes by signal-to-noise (default preset) or by variance alone (paper)
    rate_kbps: float = 0.0  # the default step is the finest whose coded validation audio stays below this; 0: step index 0
    bfloat16: bool = False
    seed: int = 0
    name: str = "model"

    def __post_init__(self) -> None:
        object.__setattr__(self, "windows", tuple(self.windows))
        if self.distance not in DISTANCES:
            raise UsageError(f"recipe: distance is {self.distance!r}; expected one of {DISTANCES}")
        if self.discriminator not in DISCRIMINATORS:
            raise UsageError(f"recipe: discriminator is {self.discriminator!r}; expected one of {DISCRIMINATORS}")

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
        text = path.read_text()
    elif shipped.is_file():
        text = shipped.read_text()
    else:
        raise UsageError(f"recipe {name_or_path!r}: no such file or shipped recipe; expected one of {', '.join(recipe_names())}")
    try:
        return Recipe.from_dict(tomllib.loads(text))
    except (tomllib.TOMLDecodeError, TypeError) as error:
        raise UsageError(f"recipe {name_or_path}: {error}") from error


def recipe_names() -> list[str]:
    folder = resources.files("ravecodec.models.recipes")
    return sorted(p.name.removesuffix(".toml") for p in folder.iterdir() if p.name.endswith(".toml"))
