"""Figures of an evaluation as SVG text; they need matplotlib (extra `eval`).

Every colour is a CSS variable with the light scheme's value behind it (`var(--ink, #1b1f24)`), so that a page recolours
them in the dark; `standalone` gives a figure its own two schemes, for use as a file. Text stays text. The same results
give the same bytes.
"""

from __future__ import annotations

import hashlib
import io
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from itertools import takewhile
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ravecodec.errors import UsageError
from ravecodec.evaluate.results import Condition, Metric, Results
from ravecodec.evaluate.statistics import Interval, clusters_of, mean_interval

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLOURS: dict[str, tuple[str, str]] = {  # name -> (light, dark); text on `paper` has a contrast of 4.5 or more
    "paper": ("#ffffff", "#14171b"),
    "panel": ("#f5f6f8", "#1d2127"),
    "ink": ("#1b1f24", "#e8eaed"),
    "muted": ("#59626e", "#a3abb6"),
    "rule": ("#dfe3e8", "#333a43"),
    "control": ("#6a7280", "#99a2ae"),
    "good": ("#166534", "#4ade80"),
    "bad": ("#b42318", "#f98a80"),
    "model-1": ("#c2410c", "#fb923c"),
    "model-2": ("#7e22ce", "#c58bfd"),
    "model-3": ("#be185d", "#f472b6"),
    "model-4": ("#854d0e", "#dfb15b"),
    "codec-1": ("#1d4ed8", "#82a8ff"),
    "codec-2": ("#0f766e", "#2dd4bf"),
    "codec-3": ("#4d7c0f", "#a3d64f"),
    "codec-4": ("#0369a1", "#38bdf8"),
    "codec-5": ("#475569", "#94a3c8"),
}
Box = tuple[float, float, float, float]  # left, bottom, right, top
MARKERS = {"model": "o^Dv", "codec": "sPXdh"}
FONT, SMALL = 9.0, 8.0  # points
LETTER = 0.56  # width of a letter over the size of its font, about
WIDTH, HEIGHT, LEFT, BOTTOM, TOP = 480.0, 300.0, 34.0, 32.0, 40.0  # points; the right margin depends on the names there
LINE = 11.5  # distance of names in the margin, points
APART = 26.0  # places with a label on an axis of dims: `f 0.98` is 24 wide; points
REACH = 0.35  # of the curves' range: controls farther outside are named at the edge, not drawn
STYLE: dict[str, Any] = {"svg.hashsalt": "ravecodec", "svg.fonttype": "none", "font.size": FONT, "axes.linewidth": 0.8}
WINDOW, HOP, RANGE_DB, SHADES = 4096, 512, 90.0, 48  # of spectrograms: samples, samples, dB, colours


@dataclass(frozen=True)
class Line:
    """A named curve: points (x, y with its interval), rising in x. `colour`: of COLOURS; `dashes`: of matplotlib."""

    name: str
    colour: str
    marker: str
    dashes: str
    points: list[tuple[float, Interval]]


@dataclass(frozen=True)
class Level:
    """A named horizontal line."""

    name: str
    colour: str
    value: float


def rate_curves(results: Results, metric: Metric) -> str:
    """A metric over the file's rate in kbit/s (log axis), with 95 % intervals: a curve for every series that has rates,
    dashed lines for bounds and controls."""
    about = f"{_scale(metric)}, over kbit/s of the whole file"
    return _chart((metric.label, about), list(_rate_lines(results, metric)), _levels_of(results, metric), "log")


def over_dims(results: Results, metric: Metric) -> str | None:
    """A metric over the number of dims that are sent at one step, with 95 % intervals and f under the dims; None if no
    series has two points like that."""
    lines = list(_dims_lines(results, metric))
    if not lines:
        return None
    bounds = [level for level in _levels_of(results, metric) if level.colour.startswith("model")]
    title = metric.label, f"{_scale(metric)}, over dims sent"
    return _chart(title, lines, bounds, "dims", _fidelity_of_dims(results))


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
    return (
        _chart(("Fidelity f", "share that the first dims carry, over dims sent"), lines, [], "log") if lines else None
    )


def spectrograms(sounds: Mapping[str, NDArray[np.floating]], rate: int) -> str:
    """One row per sound (samples,), the first one above: 0-20 kHz on the left, 0-4 kHz on the right; one scale of level
    for all, 90 dB down from the loudest of the first. Pictures are PNG inside the SVG."""
    levels = {name: _spectrum(sound) for name, sound in sounds.items()}
    top = float(next(iter(levels.values())).max())
    with _style():
        from matplotlib.figure import Figure

        figure = Figure(figsize=(960 / 72, (150 * len(sounds) + 20) / 72))
        for row, (name, image) in enumerate(levels.items()):
            seconds = len(sounds[name]) / rate
            for column, khz in enumerate((min(20.0, rate / 2000), 4.0)):
                axes = _panel(figure, row, column, len(sounds))
                bins = int(khz * 1000 * WINDOW / rate) + 1
                _picture(axes, image[:bins], (0.0, seconds, 0.0, khz), top, figure)
                axes.set_title(f"{name}, 0 to {khz:g} kHz", loc="left", fontsize=FONT, color=_hex("ink"), pad=4)
                axes.tick_params(labelbottom=row == len(sounds) - 1)
                if row == len(sounds) - 1:
                    axes.set_xlabel("seconds", fontsize=SMALL, color=_hex("muted"), labelpad=2)
        return _svg(figure, f"Spectrograms of {', '.join(sounds)}", dpi=96)


def standalone(svg: str) -> str:
    """A figure as a file of its own: with its colours for light and dark."""
    light, dark = (";".join(f"--{name}:{pair[i]}" for name, pair in COLOURS.items()) for i in (0, 1))
    style = f"svg{{{light}}}@media(prefers-color-scheme:dark){{svg{{{dark}}}}}{NAME_STYLE}"
    return re.sub(r"(<svg[^>]*>)", lambda found: f"{found[1]}<style>{style}</style>", svg, count=1)


NAME_STYLE = "svg [id*=-name] text{paint-order:stroke;stroke:var(--paper,#fff);stroke-width:3px;stroke-linejoin:round}"


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


def _style() -> Any:
    try:
        import matplotlib as mpl
    except ImportError as error:
        raise UsageError("the report's figures need matplotlib: `pip install 'ravecodec[eval]'`") from error
    style: Any = STYLE
    return mpl.rc_context(style)


def _hex(name: str) -> str:
    return COLOURS[name][0]


def _chart(
    title: tuple[str, str],
    lines: Sequence[Line],
    levels: Sequence[Level],
    scale: str,
    ticks: Mapping[float, str] | None = None,
) -> str:
    """Curves with their names at them; names of levels in the right margin. title: two lines; scale: "log" or
    "dims"."""
    with _style():
        from matplotlib.figure import Figure

        right = 16 + max((_wide(level.name, SMALL) for level in levels), default=0.0)
        size = (WIDTH - LEFT - right, HEIGHT - BOTTOM - TOP)
        figure = Figure(figsize=(WIDTH / 72, HEIGHT / 72))
        axes = figure.add_axes((LEFT / WIDTH, BOTTOM / HEIGHT, size[0] / WIDTH, size[1] / HEIGHT))
        ink: dict[str, Any] = {"color": _hex("ink"), "weight": "bold", "fontsize": FONT + 1.5}
        muted: dict[str, Any] = {"color": _hex("muted"), "fontsize": FONT}
        for text, down, look in zip(title, (9, 22), (ink, muted), strict=True):
            figure.text(3 / WIDTH, 1 - down / HEIGHT, text, va="center_baseline", **look)
        _limits(axes, lines, levels, scale)
        _ticks(axes, lines, scale, ticks or {}, size[0])
        _draw(axes, lines)
        _draw_levels(axes, levels, size)
        _name_lines(axes, lines, levels, size)
        return _svg(figure, f"{', '.join(title)}: " + "; ".join(_spoken(line) for line in lines))


def _spoken(line: Line) -> str:
    """A curve in words, for those who do not see it."""
    if not line.points:
        return line.name
    (x0, y0), (x1, y1) = line.points[0], line.points[-1]
    if len(line.points) == 1:
        return f"{line.name}: {y0.mean:.3g} at {x0:.3g}"
    return f"{line.name} from {y0.mean:.3g} at {x0:.3g} to {y1.mean:.3g} at {x1:.3g}"


def _wide(text: str, size: float) -> float:
    return LETTER * size * len(text)


def _limits(axes: Axes, lines: Sequence[Line], levels: Sequence[Level], scale: str) -> None:
    """Axes that hold all curves with their intervals, and the levels that are near them."""
    xs = [x for line in lines for x, _ in line.points] or [1.0]
    ys = [v for line in lines for _, y in line.points for v in ((y.low, y.high) if y.bounded else (y.mean, y.mean))]
    ys = ys or [level.value for level in levels] or [0.0]
    low, high = min(ys), max(ys)
    reach = REACH * ((high - low) or 1.0)
    near = [level.value for level in levels if low - reach <= level.value <= high + reach]
    low, high = min([low, *near]), max([high, *near])
    pad = 0.07 * ((high - low) or 1.0)
    axes.set_ylim(low - pad, high + pad)
    axes.set_xscale("log", base=2)
    room = 1.25 if scale == "log" else 1.12
    axes.set_xlim(min(xs) / room, max(xs) * room)


def _ticks(axes: Axes, lines: Sequence[Line], scale: str, texts: Mapping[float, str], width: float) -> None:
    """A quiet frame: horizontal rules, no box; plain numbers below."""
    axes.grid(axis="y", color=_hex("rule"), linewidth=0.7)
    axes.set_axisbelow(True)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.spines["bottom"].set_color(_hex("control"))
    axes.tick_params(colors=_hex("muted"), labelsize=SMALL, length=0, which="both")
    axes.tick_params(axis="x", length=3, which="major", color=_hex("control"))
    low, high = axes.get_xlim()
    if scale == "log":
        places = [2.0**n for n in range(-6, 10) if low <= 2.0**n <= high]
        labels = [f"{place:g}" for place in places]
    else:
        places = _apart(sorted({x for line in lines for x, _ in line.points}), low, high, width)
        labels = [texts.get(place, f"{place:g}") for place in places]
    axes.set_xticks(places, labels)
    axes.set_xticks([], minor=True)


def _apart(places: Iterable[float], low: float, high: float, width: float) -> list[float]:
    """Those places on a log axis whose labels do not touch."""
    kept: list[float] = []
    for place in places:
        if not kept or math.log(place / kept[-1]) / math.log(high / low) * width > APART:
            kept.append(place)
    return kept


def _draw(axes: Axes, lines: Sequence[Line]) -> None:
    for order, line in enumerate(reversed(lines)):
        xs, ys = [x for x, _ in line.points], [y.mean for _, y in line.points]
        colour = _hex(line.colour)
        axes.plot(
            xs,
            ys,
            line.dashes,
            marker=line.marker,
            color=colour,
            markerfacecolor=colour if line.dashes == "-" else _hex("paper"),
            linewidth=1.8,
            markersize=4.5,
            zorder=3 + order,
        )
        bars = [(x, y) for x, y in line.points if y.bounded]
        axes.vlines(
            [x for x, _ in bars],
            [y.low for _, y in bars],
            [y.high for _, y in bars],
            color=colour,
            linewidth=1.2,
            alpha=0.55,
            zorder=3,
        )


def _draw_levels(axes: Axes, levels: Sequence[Level], size: tuple[float, float]) -> None:
    """Dashed lines where they fit; all names in the margin, apart from each other."""
    low, high = axes.get_ylim()
    heights = [float(np.clip((level.value - low) / (high - low), -0.001, 1.001)) * size[1] for level in levels]
    for level, height, place in zip(levels, heights, spread(heights, LINE, size[1]), strict=True):
        colour, name = _hex(level.colour), level.name
        if 0 <= height <= size[1]:
            axes.axhline(level.value, color=colour, linewidth=1, linestyle=(0, (4, 3)), zorder=2)
            rise = (height / size[1], place / size[1])
            axes.plot((1, 1 + 8 / size[0]), rise, color=colour, linewidth=0.7, transform=axes.transAxes, clip_on=False)
        else:
            name = f"{'↑' if height > 0 else '↓'} {name}"
        where = (1 + 12 / size[0], place / size[1])
        axes.text(*where, name, transform=axes.transAxes, fontsize=SMALL, color=colour, va="center_baseline")


def spread(heights: Sequence[float], apart: float, top: float) -> list[float]:
    """Places near the heights, in the same order, `apart` or more from each other, within 0..top as far as that goes.

    Neighbours that are too close become a block around their mean; blocks that touch become one.
    """
    blocks: list[list[int]] = []
    middle = {index: height for index, height in enumerate(heights)}

    def centre(block: list[int]) -> float:
        half = apart * (len(block) - 1) / 2
        mean = sum(middle[i] for i in block) / len(block)
        return max(half, min(mean, top - half))

    for index in sorted(middle, key=lambda i: (middle[i], i)):
        blocks.append([index])
        while (
            len(blocks) > 1
            and centre(blocks[-1]) - centre(blocks[-2]) < apart * (len(blocks[-1]) + len(blocks[-2])) / 2
        ):
            last = blocks.pop()
            blocks[-1] += last
    places = {
        index: centre(block) + apart * (rank - (len(block) - 1) / 2)
        for block in blocks
        for rank, index in enumerate(block)
    }
    return [places[index] for index in range(len(heights))]


def _name_lines(axes: Axes, lines: Sequence[Line], levels: Sequence[Level], size: tuple[float, float]) -> None:
    """Each name beside one of its curve's points, where it covers the least: other names, curves, dashed lines."""
    tracks = [_track(axes, line, size) for line in lines]
    tracks_drawn = [
        np.concatenate([_filled(track), *_bars(axes, line, track, size)])
        for line, track in zip(lines, tracks, strict=True)
    ]
    low, high = axes.get_ylim()
    flat = [(level.value - low) / (high - low) * size[1] for level in levels]
    taken: list[Box] = []
    for index, (line, track) in enumerate(zip(lines, tracks, strict=True)):
        drawn = np.concatenate(tracks_drawn)
        others = np.concatenate([[[-99.0, -99.0]], *(t for i, t in enumerate(tracks_drawn) if i != index)])
        boxes = list(_boxes(track, _wide(line.name, FONT)))
        costs = [
            _cost(box, taken, drawn, flat, size) + _doubt(place[:2], others) + 0.02 * rank
            for rank, (box, place, _) in enumerate(boxes)
        ]
        box, _, (x, y, align) = boxes[int(np.argmin(costs))]
        taken.append(box)
        axes.text(
            x / size[0],
            y / size[1],
            line.name,
            transform=axes.transAxes,
            ha=align,
            va="center_baseline",
            fontsize=FONT,
            color=_hex(line.colour),
            weight="bold",
            zorder=20,
            gid=f"name{len(taken)}",
        )


def _track(axes: Axes, line: Line, size: tuple[float, float]) -> NDArray[np.float64]:
    """A curve's points [n, 2] in typographic points from the axes' corner."""
    data = np.array([[x, y.mean] for x, y in line.points])
    (x0, x1), (y0, y1) = axes.get_xlim(), axes.get_ylim()
    data[:, 0], x0, x1 = np.log(data[:, 0]), math.log(x0), math.log(x1)
    return np.column_stack(((data[:, 0] - x0) / (x1 - x0) * size[0], (data[:, 1] - y0) / (y1 - y0) * size[1]))


def _bars(
    axes: Axes, line: Line, track: NDArray[np.float64], size: tuple[float, float]
) -> Iterator[NDArray[np.float64]]:
    """Points along the intervals of a curve."""
    low, high = axes.get_ylim()
    for (_, y), (place, _) in zip(line.points, track, strict=True):
        if y.bounded:
            values = np.linspace(y.low, y.high, 8)
            yield np.column_stack((np.full(8, place), (values - low) / (high - low) * size[1]))


def _filled(track: NDArray[np.float64]) -> NDArray[np.float64]:
    """Points every 3 along a polyline."""
    steps = np.linalg.norm(np.diff(track, axis=0), axis=1)
    way = np.concatenate(([0.0], np.cumsum(steps)))
    places = np.arange(0.0, way[-1] + 3, 3)
    return np.column_stack([np.interp(places, way, track[:, i]) for i in (0, 1)])


def _boxes(
    track: NDArray[np.float64], wide: float
) -> Iterator[tuple[Box, tuple[float, float], tuple[float, float, str]]]:
    """Candidates: (box, the curve's point, (x, y, alignment) of the text), the best ones first."""
    way = np.concatenate(([0.0], np.cumsum(np.linalg.norm(np.diff(track, axis=0), axis=1))))
    between = np.searchsorted(way, np.linspace(way[-1], 0.0, 12)[1:-1]).tolist()
    for index in dict.fromkeys([len(track) - 1, 0, *between]):
        px, py = (float(v) for v in track[index])
        for dx, dy, align in (
            (7, 0, "left"), (0, 12, "center"), (0, -12, "center"), (7, 10, "left"), (7, -10, "left"),
            (-7, 10, "right"), (-7, -10, "right"), (-7, 0, "right"), (7, 20, "left"), (7, -20, "left"),
            (0, -24, "center"),
        ):  # fmt: skip
            x, y = px + dx, py + dy
            left = x - {"left": 0.0, "center": wide / 2, "right": wide}[align]
            yield (left, y - 5.5, left + wide, y + 5.5), (px, py), (x, y, align)


def _doubt(place: tuple[float, float], others: NDArray[np.float64]) -> float:
    """What it costs to name a curve where another one runs close by."""
    return 4.0 * max(0.0, 1 - float(np.linalg.norm(others - place, axis=1).min()) / 14)


def _cost(
    box: Box,
    taken: Sequence[Box],
    others: NDArray[np.float64],
    flat: Sequence[float],
    size: tuple[float, float],
) -> float:
    """What a name in a box would cover: 0 is nothing."""
    left, bottom, right, top = box
    outside = max(0.0, -left) + max(0.0, right - size[0]) + 5 * max(0.0, 3 - bottom) + max(0.0, top - size[1] - 8)
    names = sum(left < x1 and x0 < right and bottom < y1 and y0 < top for x0, y0, x1, y1 in taken)
    x, y = others.T
    crossed = np.count_nonzero((x > left - 2) & (x < right + 2) & (y > bottom - 1) & (y < top + 1))
    lines = sum(bottom < height < top for height in flat)
    return 2.0 * outside + 100.0 * names + float(crossed) + 3.0 * lines


def _panel(figure: Figure, row: int, column: int, rows: int) -> Axes:
    """Axes of a spectrogram."""
    wide, high, total = 960.0, 150.0, 150.0 * rows + 20
    place = (28 + column * 480, total - 20 - (row + 1) * high + 36, 440, high - 34)
    axes: Axes = figure.add_axes((place[0] / wide, place[1] / total, place[2] / wide, place[3] / total))
    axes.tick_params(colors=_hex("muted"), labelsize=SMALL, length=2, color=_hex("control"), pad=2)
    axes.spines[:].set_visible(False)
    return axes


def _picture(axes: Axes, image: NDArray[np.floating], extent: Box, top: float, figure: Figure) -> None:
    import matplotlib as mpl

    shades = mpl.colormaps["magma"].resampled(SHADES)  # few colours: a small PNG
    look: dict[str, Any] = {"origin": "lower", "aspect": "auto", "vmin": top - RANGE_DB, "vmax": top, "cmap": shades}
    axes.imshow(image, extent=extent, interpolation="nearest", **look)


def _svg(figure: Figure, spoken: str, dpi: float = 72) -> str:
    """The figure as text: ids of its own, colours as CSS variables, the reader's font, no metadata."""
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", dpi=dpi, transparent=True, metadata={"Date": None, "Creator": None})
    text = buffer.getvalue()
    text = re.sub(r"\s*<metadata>.*?</metadata>", "", text[text.index("<svg") :], flags=re.DOTALL)
    text = re.sub(r'("|\s)(font(?:-family)?: ?[^;"]*?)\'DejaVu Sans\'[^;"]*', r"\1\2system-ui, sans-serif", text)
    named = set(re.findall(r'(?:url\(#|href="#)([^")]+)', text))
    text = re.sub(r' id="([^"]*)"', lambda found: found[0] if found[1] in named or "name" in found[1] else "", text)
    for name, (light, _) in COLOURS.items():
        text = text.replace(f": {light}", f": var(--{name}, {light})")
    prefix = f"f{hashlib.sha256(text.encode()).hexdigest()[:8]}"  # many figures share a page
    text = re.sub(r'\bid="', f'id="{prefix}-', text)
    text = re.sub(r'(url\(#|href="#)', rf"\1{prefix}-", text)
    return text.replace("<svg ", f'<svg role="img" aria-label="{escape(spoken)}" ', 1)
