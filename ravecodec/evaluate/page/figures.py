"""What an evaluation is drawn as: its metrics over the rate and over the number of dims, and its
models' fidelity."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

from ravecodec.evaluate.page import series
from ravecodec.evaluate.page.charts import Chart, Level, Line
from ravecodec.evaluate.results import Condition, Metric, Results

MARKERS = {"model": "o^Dv", "codec": "sPXdh"}  # of matplotlib, one for each shade of a kind
DASHES = ("-", "--", ":", "-.")  # of the first, second, ... series of one model or codec


def rate_curves(results: Results, metric: Metric) -> Chart:
    """A metric over the file's rate in kbit/s, with 95 % intervals: a curve for every series that
    has rates, dashed horizontal lines for bounds and controls."""
    about = f"{_scale(metric)}, over kbit/s of the whole file"
    return Chart(metric.label, about, list(_rate_lines(results, metric)), _levels(results, metric))


def over_dims(results: Results, metric: Metric) -> Chart | None:
    """A metric over the number of dims that are sent at one step, with 95 % intervals and f under
    the dims; None if no series has two points like that."""
    lines = list(_dims_lines(results, metric))
    if not lines:
        return None
    bounds = [level for level in _levels(results, metric) if level.colour.startswith("model")]
    about = f"{_scale(metric)}, over dims sent"
    return Chart(metric.label, about, lines, bounds, ticks=_labels_of_dims(results))


def fidelity(results: Results) -> Chart | None:
    """Fidelity f over the number of dims that are sent, by both conventions; None if no model
    says."""
    lines: list[Line] = []
    for curve in results.fidelity:
        colour = _colour_of_model(results, curve.model)
        prefix = f"{curve.model}: " if len(results.fidelity) > 1 else ""
        conventions = {"singular values": curve.singular, "variances": curve.variance}
        lines += fidelity_lines(conventions, _own_dims(results, curve.model), colour, prefix)
    return fidelity_chart(lines) if lines else None


def fidelity_lines(
    conventions: dict[str, list[float]], own_dims: int, colour: str, prefix: str = ""
) -> Iterator[Line]:
    """Fidelity of 1, 2, ... dims by each of the conventions, and a point at a model's own number of
    dims (0: none)."""
    for (name, values), dashes in zip(conventions.items(), ("-", ":"), strict=True):
        points = [(float(dims), value) for dims, value in enumerate(values, 1)]
        yield Line(prefix + name, colour, points, dashes=dashes)
    if own_dims:
        first = next(iter(conventions.values()))
        point = float(own_dims), first[own_dims - 1]
        yield Line(f"{prefix}{own_dims} by default", colour, [point], marker="o")


def fidelity_chart(lines: Sequence[Line]) -> Chart:
    return Chart("Fidelity f", "share that the first dims carry, over dims sent", lines)


def _scale(metric: Metric) -> str:
    """Unit and direction."""
    direction = f"{metric.better} is better" if metric.better else ""
    return ", ".join(part for part in (metric.unit, direction) if part)


def _rate_lines(results: Results, metric: Metric) -> Iterator[Line]:
    """A family's second series is dashed, its third dotted. Behind a model's own curve comes what
    it would be with static tables, if the model has others."""
    seen: Counter[str] = Counter()
    own = {lead.series for lead in series.leads(results)}
    for name in results.series:
        conditions = [c for c in results.of(name) if c.kind in MARKERS]
        if not conditions:
            continue
        label, family = series.series_name(conditions), series.family(conditions[0])
        rates: dict[str, Callable[[str], float | None]] = {label: results.kbps}
        if name in own:
            rates[f"{label}, static tables"] = results.static_kbps
        for title, rate in rates.items():
            line = _line(results, metric, [(rate(c.id), c) for c in conditions])
            if line is not None:
                yield replace(line, name=title, dashes=DASHES[seen[family] % len(DASHES)])
                seen[family] += 1


def _line(
    results: Results, metric: Metric, placed: Sequence[tuple[float | None, Condition]]
) -> Line | None:
    """Conditions at places on the x axis, in their order; those without a place or values are left
    out. None where none is left."""
    known = sorted(((x, c) for x, c in placed if x), key=lambda place: place[0])
    means = [(x, series.interval(results, condition, metric)) for x, condition in known]
    points = [(x, mean.mean) for x, mean in means if mean is not None]
    if not points:
        return None
    bars = [(x, mean.low, mean.high) for x, mean in means if mean is not None and mean.bounded]
    colour = series.colour(results, known[0][1])
    kind, shade = colour.split("-")
    return Line("", colour, points, bars, MARKERS[kind][int(shade) - 1])


def _levels(results: Results, metric: Metric) -> list[Level]:
    """Bounds and controls that have values."""
    levels = []
    for condition in [c for c in results.conditions if c.kind in ("bound", "control")]:
        mean = series.interval(results, condition, metric)
        if mean is not None:
            levels.append(Level(condition.label, series.colour(results, condition), mean.mean))
    return levels


def _dims_lines(results: Results, metric: Metric) -> Iterator[Line]:
    """By model and step, where there are at least two numbers of dims."""
    groups: dict[tuple[str, int | None], dict[int, Condition]] = {}
    for condition in series.of_kind(results, "model"):
        if condition.dims:
            group = groups.setdefault((series.family(condition), condition.step_index), {})
            group.setdefault(condition.dims, condition)
    for (_, step), by_dims in groups.items():
        line = _line(results, metric, [(float(dims), c) for dims, c in by_dims.items()])
        if line is not None and len(line.points) > 1:
            name = series.model_name(results, next(iter(by_dims.values())))
            yield replace(line, name=name if step is None else f"{name}, step {step}")


def _labels_of_dims(results: Results) -> dict[float, str]:
    """Text under a number of dims: with its f, where all dims are of one model."""
    models = series.of_kind(results, "model")
    single = len({series.family(c) for c in models}) == 1
    labels = {}
    for condition in models:
        if condition.dims:
            f = f"\nf {condition.fidelity:.2f}" if single and condition.fidelity else ""
            labels[float(condition.dims)] = f"{condition.dims}{f}"
    return labels


def _colour_of_model(results: Results, name: str) -> str:
    family = str(results.models.get(name, {}).get("id", name))
    return series.colours(results).get(family, "model-1")


def _own_dims(results: Results, model: str) -> int:
    """Dims of a model's own operating point; 0 if no condition is that."""
    for condition in results.conditions:
        if condition.is_default and series.model_name(results, condition) == model:
            return condition.dims or 0
    return 0
