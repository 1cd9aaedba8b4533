"""results.json of an evaluation: everything that a report shows, and nothing that was not measured.

Like CompressAI's, the file has `name`, `description` and `results`, parallel arrays over the
operating points of each series; beside them what those means were taken of: items, conditions and
one score per item and condition. Written and read again it is the same bytes.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from ravecodec.errors import FormatError
from ravecodec.files import write_file

FORMAT, VERSION = "ravecodec-evaluation", 1
# Among the values of a score: bytes of the file, had its symbols been coded with static tables
# alone. Only models with a predictor have it; it is no metric.
STATIC_BYTES = "static_bytes"


def check_format(name: str, values: dict[str, Any], expected: str, version: int) -> None:
    """FormatError if a JSON file is of another format or version; KeyError if it says neither."""
    if (values["format"], values["version"]) != (expected, version):
        raise FormatError(
            f"{name}: format {values['format']} {values['version']}; expected {expected} {version}"
        )


@dataclass(frozen=True)
class Item:
    """An excerpt: `id` is a file name without extension; `source` the path it was cut from, as
    given; `start` and `seconds` of it; `sha256` of its samples (float32, interleaved); channels and
    rate of the source."""

    id: str
    source: str
    start: float
    seconds: float
    sha256: str
    channels: int
    rate: int


@dataclass(frozen=True)
class Condition:
    """One thing that was done to every item.

    `series`: conditions of one curve share it, e.g. all points of a model. `kind`: `model`
    (ravecodec), `codec` (an anchor with a rate), `bound` (the model without quantisation: no rate),
    `again` (a model's output coded again) or `control` (identity, low-passes, noise-vocoded,
    another excerpt: no rate). `label`: for people. `settings`: JSON, what reproduces it; only
    `conditions.apply` looks into it, and what a page asks for has a name here.
    """

    id: str
    series: str
    kind: str
    label: str
    settings: dict[str, Any] = field(default_factory=dict)

    @property
    def action(self) -> str:
        """What is done (`conditions.apply`); the id where the settings do not say."""
        return str(self.settings.get("do", self.id))

    @property
    def model(self) -> str | None:
        """The id of the model that did it, hexadecimal; None for anchors and controls."""
        return self.settings.get("model")

    @property
    def dims(self) -> int | None:
        """How many dims a model sends; None for all of them."""
        return self.settings.get("dims")

    @property
    def step_index(self) -> int | None:
        """A model's quantiser step."""
        return self.settings.get("step_index")

    @property
    def effort(self) -> int | None:
        """A model's level of effort."""
        return self.settings.get("effort")

    @property
    def fidelity(self) -> float | None:
        """The share f of a model's latent deviation that its dims carry, 0..1."""
        return self.settings.get("fidelity")

    @property
    def is_default(self) -> bool:
        """Whether this is a model's own operating point."""
        return bool(self.settings.get("default", False))

    @property
    def mid_only(self) -> bool:
        """Whether the mid channel alone is sent."""
        return self.settings.get("channels") == 1


@dataclass(frozen=True)
class Score:
    """What a condition made of an item.

    `bytes`: of the whole file, `payload` of them without headers and framing; None where nothing is
    coded. `delay`: by how many samples at 48 kHz the output came late, before it was aligned.
    `values`: metric id -> number; a metric that says nothing about this item (a silent one, a short
    one) is missing.
    """

    item: str
    condition: str
    bytes: int | None
    payload: int | None
    delay: int
    values: dict[str, float]


@dataclass(frozen=True)
class Metric:
    """A metric as a report explains it. `better`: "higher", "lower" or "" (neither, e.g. a signed
    error, whose ideal is 0); `best`: the value of an identical signal; `headline`: worth a curve of
    its own; `diagnostic`: not a measure of quality."""

    id: str
    label: str
    unit: str
    better: str
    best: float | None
    about: str
    headline: bool = False
    diagnostic: bool = False


@dataclass(frozen=True)
class Speed:
    """One measured command: `what` ("encode" or "decode"), a model's name, `threads`, seconds of
    audio, of wall clock and of them before the first sample (start-up), peak resident memory in
    bytes."""

    what: str
    model: str
    threads: int
    audio_seconds: float
    seconds: float
    startup_seconds: float
    peak_bytes: int


@dataclass(frozen=True)
class Fidelity:
    """Of a model: fidelity f by both conventions over the number of dims that are sent (1, 2,
    ...)."""

    model: str
    singular: list[float]
    variance: list[float]


@dataclass(frozen=True)
class Results:
    """A whole evaluation. `models`: facts by series (id, file size in bytes, weights, config,
    licence ...). `manifest`: commit, command line, versions, device, seeds, hashes. `unreadable`:
    sentences about files that were left out."""

    name: str
    description: str
    items: list[Item]
    conditions: list[Condition]
    scores: list[Score]
    metrics: list[Metric]
    fidelity: list[Fidelity]
    speed: list[Speed]
    models: dict[str, dict[str, Any]]
    unreadable: list[str]
    manifest: dict[str, Any]

    @cached_property
    def by_condition(self) -> dict[str, dict[str, Score]]:
        """Scores by condition id and item id."""
        scores: dict[str, dict[str, Score]] = {}
        for score in self.scores:
            scores.setdefault(score.condition, {})[score.item] = score
        return scores

    @property
    def series(self) -> list[str]:
        """Names of all series, in the order of the conditions."""
        return list(dict.fromkeys(condition.series for condition in self.conditions))

    def of(self, series: str) -> list[Condition]:
        """The conditions of a series."""
        return [condition for condition in self.conditions if condition.series == series]

    def kbps(self, condition: str, *, payload: bool = False) -> float | None:
        """Rate in kbit/s: all bytes of a condition over all seconds it was scored on; None where
        nothing is coded."""
        scores = self.by_condition.get(condition, {})
        return self._rate({i: s.payload if payload else s.bytes for i, s in scores.items()})

    def static_kbps(self, condition: str) -> float | None:
        """The rate that the same symbols would take with static tables alone; None where that was
        not counted for every item."""
        scores = self.by_condition.get(condition, {})
        return self._rate({i: s.values.get(STATIC_BYTES) for i, s in scores.items()})

    def _rate(self, sizes: Mapping[str, float | None]) -> float | None:
        """Rate in kbit/s of bytes by item id; None where there are none, or one is not known."""
        known = [size for size in sizes.values() if size is not None]
        if not known or len(known) < len(sizes):
            return None
        seconds = {item.id: item.seconds for item in self.items}
        return sum(known) * 8 / 1000 / sum(seconds[name] for name in sizes)

    def values(self, condition: str, metric: str) -> dict[str, float]:
        """A metric of a condition by item id, in the order of the items, without items that have
        none."""
        scores = self.by_condition.get(condition, {})
        known = [scores[item.id] for item in self.items if item.id in scores]
        return {score.item: score.values[metric] for score in known if metric in score.values}

    def compact(self) -> dict[str, dict[str, Any]]:
        """CompressAI's view: by series, parallel arrays over its conditions of `condition`, `kbps`,
        `payload_kbps` and the mean of every metric."""
        return {series: self._compact(self.of(series)) for series in self.series}

    def _compact(self, conditions: list[Condition]) -> dict[str, Any]:
        arrays: dict[str, Any] = {
            "condition": [c.id for c in conditions],
            "kbps": [self.kbps(c.id) for c in conditions],
            "payload_kbps": [self.kbps(c.id, payload=True) for c in conditions],
        }
        for metric in self.metrics:
            columns = [self.values(c.id, metric.id).values() for c in conditions]
            arrays[metric.id] = [sum(each) / len(each) if each else None for each in columns]
        return arrays

    def to_json(self) -> str:
        values = {"format": FORMAT, "version": VERSION}
        values |= {"name": self.name, "description": self.description, "results": self.compact()}
        values |= asdict(self)
        return json.dumps(values, indent=1, ensure_ascii=False) + "\n"

    @classmethod
    def from_json(cls, text: str, name: str = "results.json") -> Results:
        """Inverse of `to_json`. FormatError if it is not such a file."""
        try:
            values = json.loads(text)
            check_format(name, values, FORMAT, VERSION)
            lists = {key: [kind(**entry) for entry in values[key]] for key, kind in _LISTS.items()}
            return cls(**{f.name: lists.get(f.name, values[f.name]) for f in fields(cls)})
        except (ValueError, KeyError, TypeError) as error:
            raise FormatError(f"{name}: not the results of an evaluation ({error})") from error

    def save(self, path: Path) -> None:
        write_file(path, self.to_json().encode())

    @classmethod
    def load(cls, path: Path) -> Results:
        """FormatError if it is damaged or another file."""
        try:
            return cls.from_json(path.read_text(), str(path))
        except (OSError, UnicodeDecodeError) as error:
            raise FormatError(
                f"{path}: cannot be read as the results of an evaluation ({error})"
            ) from error

    def rows(self) -> Iterator[dict[str, Any]]:
        """One flat row per item and condition, for items.csv."""
        items = {item.id: item for item in self.items}
        conditions = {condition.id: condition for condition in self.conditions}
        for score in self.scores:
            item, condition = items[score.item], conditions[score.condition]
            yield {
                "item": item.id,
                "source": item.source,
                "condition": condition.id,
                "series": condition.series,
                "kbps": _kbps(score.bytes, item.seconds),
                "payload_kbps": _kbps(score.payload, item.seconds),
                "bytes": score.bytes,
                "delay": score.delay,
                **{metric.id: score.values.get(metric.id) for metric in self.metrics},
            }

    def to_csv(self) -> str:
        rows, file = list(self.rows()), io.StringIO()
        writer = csv.DictWriter(file, list(rows[0]) if rows else ["item"], lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        return file.getvalue()


_LISTS: dict[str, Any] = {
    "items": Item,
    "conditions": Condition,
    "scores": Score,
    "metrics": Metric,
    "fidelity": Fidelity,
    "speed": Speed,
}


def _kbps(size: int | None, seconds: float) -> float | None:
    """The rate of `size` bytes in kbit/s; None where nothing is coded."""
    return None if size is None else round(size * 8 / 1000 / seconds, 4)


def merge(parts: list[Results]) -> Results:
    """Several evaluations as one: items and scores side by side; a condition that two of them know
    by one id but not by one meaning gets the name of its evaluation in front, and so does its
    series.

    Of an item and condition that several scored the first score counts. FormatError if there are
    none.
    """
    if not parts:
        raise FormatError("no results; expected at least one results.json")
    if len(parts) == 1:
        return parts[0]
    known: dict[str, Condition] = {}
    scores: dict[tuple[str, str], Score] = {}
    owners = [part.name or str(index) for index, part in enumerate(parts)]
    for owner, part in zip(owners, parts, strict=True):
        names = {c.id: _merged_condition(known, c, owner).id for c in part.conditions}
        for score in part.scores:
            moved = replace(score, condition=names[score.condition])
            scores.setdefault((moved.item, moved.condition), moved)
    return Results(
        name=" + ".join(part.name for part in parts),
        description=" ".join(part.description for part in parts),
        items=_unique(parts, "items", "id"),
        conditions=list(known.values()),
        scores=list(scores.values()),
        metrics=_unique(parts, "metrics", "id"),
        fidelity=_unique(parts, "fidelity", "model"),
        speed=[row for part in parts for row in part.speed],
        models={name: facts for part in parts for name, facts in part.models.items()},
        unreadable=[line for part in parts for line in part.unreadable],
        manifest={owner: part.manifest for owner, part in zip(owners, parts, strict=True)},
    )


def _merged_condition(known: dict[str, Condition], condition: Condition, owner: str) -> Condition:
    """The condition as the merged results call it."""
    if known.setdefault(condition.id, condition) == condition:
        return condition
    series = f"{owner}: {condition.series}"
    renamed = replace(condition, id=f"{owner}-{condition.id}", series=series)
    return known.setdefault(renamed.id, renamed)


def _unique(parts: list[Results], name: str, key: str) -> list[Any]:
    """A list of all parts, the first of each value of `key`."""
    first: dict[str, Any] = {}
    for part in parts:
        for entry in getattr(part, name):
            first.setdefault(getattr(entry, key), entry)
    return list(first.values())
