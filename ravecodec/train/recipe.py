"""Recipes: everything that defines a training run, read from TOML, kept beside the result as it was
resolved.

The file has the tables [data], [loss], [stage1], [stage2] and [model]; what belongs to none of them
stands above. `Recipe` has all keys side by side; `from_dict` and `to_dict` translate.
"""

# ruff: noqa: RUF009  (`_key` returns a `field`)

from __future__ import annotations

import dataclasses
import json
import re
import tomllib
from dataclasses import asdict, dataclass, field, fields
from importlib import resources
from pathlib import Path
from typing import Any

from ravecodec.errors import UsageError
from ravecodec.models.config import ModelConfig
from ravecodec.precision import AUTO
from ravecodec.train.optimiser import OPTIMISERS

NAME = re.compile(r"\w[\w.-]*")  # of a model: it becomes the name of a file
DISTANCES = ("paper", "stereo")
DISCRIMINATORS = ("waveform", "spectrum")
TABLES = ("data", "loss", "stage1", "stage2")
STAGES = ("stage1", "stage2")
# Keys that were removed, with the values that meant the same as leaving them out, and the last
# commit that has their code.
REMOVED: dict[str, Any] = {"mel": 0.0, "random_grid": True}
REMOVED_DISCRIMINATOR = "periods"
LAST_COMMIT = "1a138ec"


def _key(default: Any, table: str, meaning: str) -> Any:
    """A field of `Recipe`: its default, its table in the file ("": none) and, for
    docs/training.md, what it means.
    """
    return field(default=default, metadata={"table": table, "meaning": meaning})


@dataclass(frozen=True)
class Stage:
    """What the two stages share: length and learning rate."""

    steps: int = field(metadata={"meaning": "how many steps"})
    rate: float = field(
        metadata={
            "meaning": "learning rate; after 100 steps of warm-up it falls as half a cosine to a "
            "twentieth"
        }
    )

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
    """A training run: a model, its data settings and both stages. Raises UsageError for values
    outside of their range.
    """

    model: ModelConfig
    name: str = _key("model", "", "name of the model and of its file")
    seed: int = _key(0, "", "seed of weights, crops and noise")
    optimiser: str = _key(
        "adam",
        "",
        '`"adam"`, or `"muon"` for the matrices of the network; all other weights and the '
        "discriminator keep Adam",
    )
    average: float = _key(
        0.999,
        "",
        "decay of the moving average of the weights, which is what is packed; 0: the last weights",
    )
    bfloat16: bool | str = _key(
        False,
        "",
        'whether the networks compute in bfloat16; `"auto"`: whichever is faster on this device '
        "(the log says which)",
    )
    validate_every: int = _key(
        250,
        "",
        "steps from one validation to the next; 0: none, and then TensorBoard has excerpts of the "
        "finished model only",
    )
    whiten: bool = _key(
        True, "", "order the latent axes by signal-to-noise; false: by variance (the paper)"
    )
    rate_kbps: float = _key(
        0.0,
        "",
        "the default step is the finest whose coded validation audio stays below this rate; 0: "
        "step index 0. Stage 2 trains around that step, so it belongs with `target_kbps`: a little "
        "above it",
    )
    batch: int = _key(8, "data", "crops per step and process")
    crop_frames: int = _key(
        32,
        "data",
        "latent frames per crop. The reach of encoder and decoder is cut off at both ends; what is "
        "left has to hold the longest spectrum of the losses, or the recipe is refused",
    )
    placed: float = _key(
        0.0,
        "data",
        "share of stereo crops that are panned, narrowed or widened at random",
    )
    allpass: float = _key(
        0.0,
        "data",
        "share of crops whose phases are turned by a random all-pass; the paper: 0.8",
    )
    faint: float = _key(
        0.0,
        "data",
        "share of crops that are turned down by another 20 to 60 dB; where it is not 0, crops "
        "below -40 dBFS are lifted to that level before S is taken",
    )
    speed: float = _key(
        0.0,
        "data",
        "share of crops that are played up to a semitone (6 %) faster or slower, which moves their "
        "pitch as well",
    )
    distance: str = _key(
        "paper",
        "loss",
        'S: `"paper"`, of bands and full band, with those windows that fit into each; or '
        '`"stereo"`, octave-weighted, of left, right, mid and side, on a random grid',
    )
    windows: tuple[int, ...] = _key(
        (2048, 1024, 512, 256, 128),
        "loss",
        "window lengths of S in samples; one that is named twice is drawn twice as often",
    )
    windows_per_step: int = _key(
        0, "loss", "how many of the windows are drawn anew in every step; 0: all are used"
    )
    transport: float = _key(
        0.0,
        "loss",
        '`"stereo"`: weight in S of how far magnitudes have to be moved within each octave',
    )
    target_kbps: float = _key(
        0.0, "loss", "KL in kbit/s that beta is adapted to hold; 0: constant beta"
    )
    beta: float = _key(
        0.1,
        "loss",
        "weight of the KL in bits per frame: the initial value if `target_kbps` is set, else "
        "constant",
    )
    stage1: Stage = _key(Stage(100_000, 1e-3), "stage1", "")
    init_rate: float = _key(
        0.0,
        "stage1",
        "learning rate in place of `rate` for a run that begins with the weights of a model "
        "(`--init-from`); 0: `rate`",
    )
    refine: tuple[int, ...] = _key(
        (1,),
        "stage1",
        "for a model with a refiner: numbers of learned corrections, one drawn in every step; the "
        "first is used in validation, stage 2 and the packed model",
    )
    stage2: Stage = _key(Stage(100_000, 1e-4), "stage2", "")
    discriminator: str = _key("waveform", "stage2", '`"waveform"` (the paper) or `"spectrum"`')
    adversarial: float = _key(
        1.0,
        "stage2",
        "weight of the adversarial loss; with this and `feature_matching` 0 there is no "
        "discriminator, and a step takes less time",
    )
    feature_matching: float = _key(10.0, "stage2", "weight of feature matching")
    warmup: int = _key(1000, "stage2", "steps in which the generator learns on the distance alone")
    quantised: bool = _key(
        True,
        "stage2",
        "train on latents as a decoder will receive them; false: on samples of the posterior, as "
        "in stage 1",
    )
    keep_best: bool = _key(
        True,
        "stage2",
        "keep the generator with the smallest S on validation audio after `warmup`; false: the "
        "last one. It needs `validate_every`",
    )

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
        self._check(
            not self.transport or self.distance == "stereo", "transport", '0, or distance "stereo"'
        )
        self._check(self.optimiser in OPTIMISERS, "optimiser", f"one of {OPTIMISERS}")
        self._check(
            self.discriminator in DISCRIMINATORS, "discriminator", f"one of {DISCRIMINATORS}"
        )
        counts = all(isinstance(w, int) and w >= 4 for w in self.windows)
        self._check(counts and len(self.windows) > 0, "windows", "a list of window lengths")
        steps = all(isinstance(n, int) and n >= 0 for n in self.refine)
        self._check(steps and len(self.refine) > 0, "refine", "a list of numbers of corrections")
        for key in ("placed", "allpass", "faint", "speed", "average"):
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
            "transport",
            "target_kbps",
            "beta",
            "warmup",
            "rate_kbps",
            "init_rate",
            "validate_every",
            "seed",
        ):
            self._check(getattr(self, key) >= 0, key, "at least 0")

    def from_weights(self) -> Recipe:
        """The recipe of a run that begins with the weights of a model: stage 1 at `init_rate`."""
        if not self.init_rate:
            return self
        return self.replace(stage1=dataclasses.replace(self.stage1, rate=self.init_rate))

    @property
    def has_critic(self) -> bool:
        """Whether stage 2 trains against a discriminator."""
        return self.adversarial > 0 or self.feature_matching > 0

    def _check(self, good: bool, name: str, expected: str) -> None:
        if not good:
            raise UsageError(f"recipe: {name} is {getattr(self, name)!r}; expected {expected}")

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Recipe:
        """A recipe from its tables. Keys of tables may also stand at the top, as in recipes before
        there were tables.

        Raises UsageError for keys that are unknown, removed, in the wrong table or given twice.
        """
        refuse_removed(values)
        values = dict(values)
        model = ModelConfig.from_dict(values.pop("model", {}))
        keys: dict[str, Any] = {}
        unknown = []
        for table in TABLES:
            for key, value in _entries(table, values.pop(table, {})).items():
                if key != table and _table_of(key) != table:
                    unknown.append(f"{table}.{key}")
                keys[key] = value
        twice = sorted(set(keys) & set(values))
        if twice:
            raise UsageError(
                f"recipe: {', '.join(twice)} is given twice, at the top and in a table"
            )
        unknown += set(values) - {f.name for f in fields(cls)}
        if unknown:
            raise UsageError(f"recipe: unknown key {', '.join(sorted(unknown))}")
        return cls(model, **keys, **values)

    def to_dict(self) -> dict[str, Any]:
        """The tables of the recipe, as `from_dict` reads them."""
        values: dict[str, Any] = {}
        tables: dict[str, dict[str, Any]] = {table: {} for table in TABLES}
        for f in fields(self):
            table = f.metadata.get("table", "")
            value = getattr(self, f.name)
            if isinstance(value, Stage):
                tables[table] |= asdict(value)
            elif table:
                tables[table][f.name] = value
            elif f.name != "model":
                values[f.name] = value
        return values | tables | {"model": asdict(self.model)}

    def replace(self, **changes: Any) -> Recipe:
        return dataclasses.replace(self, **changes)


def _table_of(key: str) -> str | None:
    """The table that a key belongs to, "" for the top, None for no key."""
    for f in fields(Recipe):
        if f.name == key:
            return str(f.metadata.get("table", ""))
    return None


def _entries(table: str, values: Any) -> dict[str, Any]:
    """The keys of one table; steps and rate of a stage are joined to a `Stage`."""
    if not isinstance(values, dict):
        raise UsageError(f"recipe: {table} is {values!r}; expected a table")
    entries = dict(values)
    if table in STAGES:
        stage = {f.name: entries.pop(f.name) for f in fields(Stage) if f.name in entries}
        if stage:
            entries[table] = Stage(**stage)
    return entries


def _all_keys(values: dict[str, Any]) -> dict[str, Any]:
    """The keys at the top and in [loss] and [stage2], where removed ones were or would be."""
    both = dict(values)
    for table in ("loss", "stage2"):
        inner = values.get(table)
        if isinstance(inner, dict):
            both |= inner
    return both


def refuse_removed(values: dict[str, Any]) -> None:
    """UsageError if a recipe's dictionary has keys or values that were removed."""
    keys = _all_keys(values)
    found = sorted(keys.keys() & REMOVED.keys())
    if keys.get("discriminator") == REMOVED_DISCRIMINATOR:
        found.append(f'discriminator = "{REMOVED_DISCRIMINATOR}"')
    if found:
        raise UsageError(
            f"recipe: {', '.join(found)} was removed because trials showed no gain "
            f"(docs/experiments.md); leave it out, or use ravecodec at commit {LAST_COMMIT}"
        )


def without_removed_defaults(values: dict[str, Any]) -> dict[str, Any]:
    """The dictionary of a recipe that an older version wrote, without removed keys that had their
    default.
    """
    return {k: v for k, v in values.items() if k not in REMOVED or v != REMOVED[k]}


def load_recipe(name_or_path: str) -> Recipe:
    """A recipe by path (.toml, or a run's recipe.json), or by the name of one that ships with
    ravecodec (`recipe_names`). UsageError.
    """
    path = Path(name_or_path)
    shipped = resources.files("ravecodec.models.recipes") / f"{name_or_path}.toml"
    if path.suffix in (".toml", ".json") and path.is_file():
        data = path.read_bytes()
    elif shipped.is_file():
        data = shipped.read_bytes()
    else:
        names = ", ".join(recipe_names())
        raise UsageError(
            f"recipe {name_or_path!r}: no such .toml or .json file or shipped recipe; expected one "
            f"of {names}"
        )
    try:
        if path.suffix == ".json":
            return Recipe.from_dict(without_removed_defaults(json.loads(data)))
        return Recipe.from_dict(tomllib.loads(data.decode()))
    except (ValueError, TypeError, AttributeError, RecursionError, UsageError) as error:
        found = str(error).removeprefix("recipe: ")
        raise UsageError(f"recipe {name_or_path}: {found}") from error


def recipe_names() -> list[str]:
    folder = resources.files("ravecodec.models.recipes")
    return sorted(
        p.name.removesuffix(".toml") for p in folder.iterdir() if p.name.endswith(".toml")
    )
