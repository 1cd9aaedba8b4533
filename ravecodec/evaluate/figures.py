"""What an evaluation is drawn as: curves over rate and dims, fidelity, spectrograms; SVG by charts.py (matplotlib).

`standalone` gives a figure both colour schemes of its own, for use as a file.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import takewhile
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ravecodec.evaluate.charts import (
    COLOURS,
    FONT,
    HOP,
    MARKERS,
    NAME_STYLE,
    SMALL,
    WINDOW,
    Level,
    Line,
    chart,
    hex_of,
    panel,
    picture,
    style,
    svg_of,
)
from ravecodec.evaluate.results import Condition, Metric, Results
from ravecodec.evaluate.statistics import Interval, clusters_of, mean_interval

if TYPE_CHECKING:
    pass


def rate_curves(results: Results, metric: Metric) -> str:
    """A metric over the file's rate in kbit/s (log axis), with 95 % intervals: a curve for every series that has rates,
    dashed lines for bounds and controls."""
    about = f"{_scale(metric)}, over kbit/s of the whole file"
    return chart((metric.label, about), list(_rate_lines(results, metric)), _levels_of(results, metric), "log")


def over_dims(results: Results, metric: Metric) -> str | None:
    """A metric over the number of dims that are sent at one step, with 95 % intervals and f under the dims; None if no
    series has two points like that."""
    lines = list(_dims_lines(results, metric))
    if not lines:
        return None
    bounds = [level for level in _levels_of(results, metric) if level.colour.startswith("model")]
    title = metric.label, f"{_scale(metric)}, over dims sent"
    return chart(title, lines, bounds, "dims", _fidelity_of_dims(results))


def fidelity(results: Results) -> str | None:
    """Fidelity f over the number of dims that are sent, by both conventions; None if no model says."""
    lines = []
    for curve in results.fidelity:
        colour = colours(results).get(_model_id(results, curve.model), "model-1")
        for name, values, dashes in (("singular values", curve.singular, "-"), ("variances", curve.variance, ":")):
            points = [(float(n), _exact(f)) for n, f in enumerate(values, 1)]
            label = f"{curve.model}: {name}" if len(results.fidelity) > 1 else name
            lines.append(Line(label, colour, "", dashes, points))
        if dims := _default_dims(results, curve.model):
            point = float(dims), _exact(curve.singular[dims - 1])
            lines.append(Line(f"{dims} by default", colour, "o", "-", [point]))
    return chart(("Fidelity f", "share that the first dims carry, over dims sent"), lines, [], "log") if lines else None


def spectrograms(sounds: Mapping[str, NDArray[np.floating]], rate: int) -> str:
    """One row per sound (samples,), the first one above: 0-20 kHz on the left, 0-4 kHz on the right; one scale of level
    for all, 90 dB down from the loudest of the first. Pictures are PNG inside the SVG."""
    levels = {name: _spectrum(sound) for name, sound in sounds.items()}
    top = float(next(iter(levels.values())).max())
    with style():
        from matplotlib.figure import Figure

        figure = Figure(figsize=(960 / 72, (150 * len(sounds) + 20) / 72))
        for row, (name, image) in enumerate(levels.items()):
            seconds = len(sounds[name]) / rate
            for column, khz in enumerate((min(20.0, rate / 2000), 4.0)):
                axes = panel(figure, row, column, len(sounds))
                bins = int(khz * 1000 * WINDOW / rate) + 1
                picture(axes, image[:bins], (0.0, seconds, 0.0, khz), top, figure)
                axes.set_title(f"{name}, 0 to {khz:g} kHz", loc="left", fontsize=FONT, color=hex_of("ink"), pad=4)
                axes.tick_params(labelbottom=row == len(sounds) - 1)
                if row == len(sounds) - 1:
                    axes.set_xlabel("seconds", fontsize=SMALL, color=hex_of("muted"), labelpad=2)
        return svg_of(figure, f"Spectrograms of {', '.join(sounds)}", dpi=96)


def standalone(svg: str) -> str:
    """A figure as a file of its own: with its colours for light and dark."""
    light, dark = (";".join(f"--{name}:{pair[i]}" for name, pair in COLOURS.items()) for i in (0, 1))
    sheet = f"svg{{{light}}}@media(prefers-color-scheme:dark){{svg{{{dark}}}}}{NAME_STYLE}"
    return re.sub(r"(<svg[^>]*>)", lambda found: f"{found[1]}<style>{sheet}</style>", svg, count=1)


# ---- what is drawn ---------------------------------------------------------------------------------------------------


def colours(results: Results) -> dict[str, str]:
    """Colour names: of models by id (`settings["model"]`, or else the series), of codecs by series."""
    found: dict[str, str] = {}
    for kind in ("model", "codec"):
        keys = dict.fromkeys(colour_key(c) for c in results.conditions if c.kind == kind)
        shades = len(MARKERS[kind]) if kind == "codec" else 4
        found |= {key: f"{kind}-{index % shades + 1}" for index, key in enumerate(keys)}
    return found


def colour_key(condition: Condition) -> str:
    """What conditions of one colour share."""
    return condition.series if condition.kind == "codec" else str(condition.settings.get("model", condition.series))


def series_label(conditions: Sequence[Condition]) -> str:
    """A series as people call it: what the labels of a codec's points begin with."""
    if conditions[0].kind != "codec" or len(conditions) == 1:
        return conditions[0].series if conditions[0].kind == "model" else conditions[0].label
    alike = takewhile(lambda letters: len(set(letters)) == 1, zip(*(c.label for c in conditions), strict=False))
    return re.sub(r"[\s\d.,]*$", "", "".join(letters[0] for letters in alike)) or conditions[0].series


def _scale(metric: Metric) -> str:
    """Unit and direction."""
    return ", ".join(part for part in (metric.unit, f"{metric.better} is better" if metric.better else "") if part)


def _default_dims(results: Results, model: str) -> int:
    """Dims of a model's default operating point; 0 if no condition is that."""
    for condition in results.conditions:
        if condition.settings.get("default") and model_name(results, condition) == model:
            return int(condition.settings.get("dims") or 0)
    return 0


def _model_id(results: Results, name: str) -> str:
    return str(results.models.get(name, {}).get("id", name))


def _exact(value: float) -> Interval:
    return Interval(value, math.nan, math.nan, 1, 1)


def interval(results: Results, condition: str, metric: str) -> Interval | None:
    """Mean of a condition with its 95 % interval; None where it has no values."""
    values = results.values(condition, metric)
    return mean_interval(values, clusters_of(results)) if values else None


def _rate_lines(results: Results, metric: Metric) -> Iterator[Line]:
    seen: dict[str, int] = {}
    for series in results.series:
        conditions = [c for c in results.of(series) if c.kind in MARKERS]
        points = [(results.kbps(c.id), interval(results, c.id, metric.id)) for c in conditions]
        curve = sorted(((x, y) for x, y in points if x and y is not None), key=lambda point: point[0])
        if curve:
            key = colour_key(conditions[0])
            seen[key] = seen.get(key, 0) + 1
            yield _line(results, conditions, curve, seen[key] - 1)


def _line(results: Results, conditions: Sequence[Condition], curve: list[tuple[float, Interval]], nth: int) -> Line:
    """The nth series of its model or codec."""
    colour = colours(results)[colour_key(conditions[0])]
    kind, index = colour.split("-")
    marker = MARKERS[kind][(int(index) - 1) % len(MARKERS[kind])]
    return Line(series_label(conditions), colour, marker, ("-", "--", ":", "-.")[nth % 4], curve)


def _levels_of(results: Results, metric: Metric) -> list[Level]:
    """Bounds and controls that have values."""
    found = []
    for condition in results.conditions:
        mean = interval(results, condition.id, metric.id) if condition.kind in ("bound", "control") else None
        if mean is not None:
            colour = colours(results).get(colour_key(condition), "control")
            found.append(Level(condition.label, colour, mean.mean))
    return found


def _dims_lines(results: Results, metric: Metric) -> Iterator[Line]:
    """By model and step, at least two numbers of dims."""
    groups: dict[tuple[str, Any], dict[int, Condition]] = {}
    for condition in results.conditions:
        settings = condition.settings
        if condition.kind == "model" and settings.get("dims"):
            key = colour_key(condition), settings.get("step_index")
            groups.setdefault(key, {}).setdefault(int(settings["dims"]), condition)
    for (_, step), by_dims in groups.items():
        points = [(float(dims), interval(results, by_dims[dims].id, metric.id)) for dims in sorted(by_dims)]
        curve = [(x, y) for x, y in points if y is not None]
        if len(curve) > 1:
            line = _line(results, list(by_dims.values()), curve, 0)
            name = model_name(results, next(iter(by_dims.values())))
            yield Line(name if step is None else f"{name}, step {step}", line.colour, line.marker, "-", curve)


def model_name(results: Results, condition: Condition) -> str:
    """The model of a condition as `results.models` calls it, or else its series."""
    wanted = condition.settings.get("model")
    return next((name for name, facts in results.models.items() if facts.get("id") == wanted), condition.series)


def _fidelity_of_dims(results: Results) -> dict[float, str]:
    """Text under a number of dims."""
    pairs = [(c.settings.get("dims"), c.settings.get("fidelity")) for c in results.conditions if c.kind == "model"]
    models = {colour_key(c) for c in results.conditions if c.kind == "model"}
    return {float(d): f"{d}\nf {f:.2f}" if f and len(models) == 1 else str(d) for d, f in pairs if d}


def _spectrum(signal: NDArray[np.floating]) -> NDArray[np.floating]:
    """Levels in dB [bins, frames] of a sound (samples,)."""
    padded = np.pad(np.asarray(signal, dtype=np.float32), WINDOW // 2, mode="reflect")  # zeros would click
    frames = np.lib.stride_tricks.sliding_window_view(padded, WINDOW)[::HOP]
    window = np.hanning(WINDOW).astype(np.float32)
    return np.asarray(20 * np.log10(np.abs(np.fft.rfft(frames * window)).T + 1e-6))


# ---- how it is drawn -------------------------------------------------------------------------------------------------
