"""Which condition is what: what it is called, what colour it has, and which ones are set beside
each other."""

from __future__ import annotations

import math
import os.path
import re
from collections.abc import Iterable, Sequence

from ravecodec.evaluate.results import Condition, Item, Metric, Results
from ravecodec.evaluate.statistics import Interval, clusters_of, mean_interval

KEYS = 9  # sounds that a player can switch between: the keys 1 to 9
SHADES = {"model": 4, "codec": 5}  # colours of a kind before they come round again
NOT_PLAYED = ("identity", "another-excerpt")  # controls that need no listening to


def headlines(results: Results) -> list[Metric]:
    """The metrics that have a curve of their own."""
    return [metric for metric in results.metrics if metric.headline]


def of_kind(results: Results, kind: str) -> list[Condition]:
    return [condition for condition in results.conditions if condition.kind == kind]


def control(results: Results, action: str) -> Condition | None:
    """The condition that does `action`, a control's; None if there is none."""
    return next((c for c in results.conditions if c.action == action), None)


def interval(results: Results, condition: Condition, metric: Metric) -> Interval | None:
    """The mean of a condition with its 95 % interval; None where it has no values."""
    values = results.values(condition.id, metric.id)
    return mean_interval(values, clusters_of(results)) if values else None


# ---- names and colours ---------------------------------------------------------------------------


def family(condition: Condition) -> str:
    """What conditions of one colour share: the id of their model, or the series of their codec."""
    if condition.kind == "codec" or condition.model is None:
        return condition.series
    return condition.model


def colours(results: Results) -> dict[str, str]:
    """Names of colours (`charts.COLOURS`) by family."""
    names: dict[str, str] = {}
    for kind, shades in SHADES.items():
        families = dict.fromkeys(family(c) for c in of_kind(results, kind))
        names |= {name: f"{kind}-{index % shades + 1}" for index, name in enumerate(families)}
    return names


def colour(results: Results, condition: Condition) -> str:
    """The name of a condition's colour; that of controls where it has none of its own."""
    return colours(results).get(family(condition), "control")


def series_name(conditions: Sequence[Condition]) -> str:
    """What the conditions of one series are called together: of a codec, what their labels begin
    with."""
    first = conditions[0]
    if first.kind == "model":
        return first.series
    if first.kind != "codec" or len(conditions) == 1:
        return first.label
    labels = [condition.label for condition in conditions]
    alike = os.path.commonprefix(labels)  # noqa: RUF071 (letters are compared, and meant to be)
    return re.sub(r"[\s\d.,]*$", "", alike) or first.series


def model_name(results: Results, condition: Condition) -> str:
    """The model of a condition as `results.models` calls it, or else its series."""
    for name, facts in results.models.items():
        if facts.get("id") == condition.model:
            return name
    return condition.series


def item_title(item: Item) -> str:
    """`song.ogg from 0:12`."""
    name = item.source.replace("\\", "/").rpartition("/")[2] or item.id
    minutes, seconds = divmod(int(item.start), 60)
    return f"{name} from {minutes}:{seconds:02d}"


# ---- what is set beside what ---------------------------------------------------------------------


def leads(results: Results) -> list[Condition]:
    """One condition for each model: its own operating point, or the middle one of its first series
    by rate."""
    models: dict[str, list[Condition]] = {}
    for condition in of_kind(results, "model"):
        models.setdefault(family(condition), []).append(condition)
    return [_lead(results, conditions) for conditions in models.values()]


def _lead(results: Results, conditions: Sequence[Condition]) -> Condition:
    for condition in conditions:
        if condition.is_default:
            return condition
    first = [c for c in conditions if c.series == conditions[0].series]
    return sorted(first, key=lambda c: results.kbps(c.id) or 0.0)[len(first) // 2]


def nearest(results: Results, lead: Condition, candidates: Iterable[Condition]) -> Condition | None:
    """The candidate whose measured rate is nearest to the lead's, as a ratio; None where one of
    both has none."""
    rate = results.kbps(lead.id) or 0.0
    rated = [(results.kbps(c.id) or 0.0, c) for c in candidates]
    apart = [(abs(math.log(other / rate)), c) for other, c in rated if rate and other]
    return min(apart, key=lambda pair: pair[0])[1] if apart else None


def nearest_of_each_codec(results: Results, lead: Condition) -> list[Condition]:
    """Of every series of codecs what is nearest to the lead in rate."""
    codecs = of_kind(results, "codec")
    names = dict.fromkeys(c.series for c in codecs)
    near = [nearest(results, lead, [c for c in codecs if c.series == name]) for name in names]
    return [condition for condition in near if condition is not None]


def series_at_other_efforts(results: Results) -> list[str]:
    """Series of models at other levels of effort than their own."""
    own = {family(lead): lead.effort for lead in leads(results)}
    others = [c.series for c in of_kind(results, "model") if c.effort != own[family(c)]]
    return list(dict.fromkeys(others))


def played(results: Results) -> list[Condition]:
    """What a player offers beside the original, at most 8: each model's point, of each codec what
    is nearest to it in rate, two controls and the models without quantisation."""
    models = leads(results)
    near = {c.id for lead in models for c in nearest_of_each_codec(results, lead)}
    codecs = [c for c in results.conditions if c.id in near]
    controls = [c for c in of_kind(results, "control") if c.action not in NOT_PLAYED]
    controls.sort(key=lambda c: c.action != "noise-vocoded")
    bounds = [c for c in of_kind(results, "bound") if c.dims is None]
    chosen = {c.id: c for c in [*models, *codecs, *controls[:2], *bounds]}
    return list(chosen.values())[: KEYS - 1]


def for_listeners(results: Results) -> list[str]:
    """Ids of conditions worth a listener's time: each model's own point, and of each codec the
    second and third lowest rate."""
    chosen = [c.id for c in results.conditions if c.is_default]
    for name in results.series:
        codecs = [c.id for c in results.of(name) if c.kind == "codec"]
        chosen += sorted(codecs, key=lambda c: results.kbps(c) or 0.0)[1:3]
    return chosen
