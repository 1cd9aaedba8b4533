"""How figures are drawn: curves with their names at them, levels, pictures, as SVG text (extra `eval`).

Every colour is a CSS variable with the light scheme's value behind it (`var(--ink, #1b1f24)`), so that a page recolours
them in the dark. Text stays text. The same input gives the same bytes.
"""

from __future__ import annotations

import hashlib
import io
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ravecodec.errors import UsageError
from ravecodec.evaluate.statistics import Interval

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
NAME_STYLE = "svg [id*=-name] text{paint-order:stroke;stroke:var(--paper,#fff);stroke-width:3px;stroke-linejoin:round}"
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


def style() -> Any:
    try:
        import matplotlib as mpl
    except ImportError as error:
        raise UsageError("the report's figures need matplotlib: `pip install 'ravecodec[eval]'`") from error
    style: Any = STYLE
    return mpl.rc_context(style)


def hex_of(name: str) -> str:
    return COLOURS[name][0]


def chart(
    title: tuple[str, str],
    lines: Sequence[Line],
    levels: Sequence[Level],
    scale: str,
    ticks: Mapping[float, str] | None = None,
) -> str:
    """Curves with their names at them; names of levels in the right margin. title: two lines; scale: "log" or
    "dims"."""
    with style():
        from matplotlib.figure import Figure

        right = 16 + max((_wide(level.name, SMALL) for level in levels), default=0.0)
        size = (WIDTH - LEFT - right, HEIGHT - BOTTOM - TOP)
        figure = Figure(figsize=(WIDTH / 72, HEIGHT / 72))
        axes = figure.add_axes((LEFT / WIDTH, BOTTOM / HEIGHT, size[0] / WIDTH, size[1] / HEIGHT))
        ink: dict[str, Any] = {"color": hex_of("ink"), "weight": "bold", "fontsize": FONT + 1.5}
        muted: dict[str, Any] = {"color": hex_of("muted"), "fontsize": FONT}
        for text, down, look in zip(title, (9, 22), (ink, muted), strict=True):
            figure.text(3 / WIDTH, 1 - down / HEIGHT, text, va="center_baseline", **look)
        _limits(axes, lines, levels, scale)
        _ticks(axes, lines, scale, ticks or {}, size[0])
        _draw(axes, lines)
        _draw_levels(axes, levels, size)
        _name_lines(axes, lines, levels, size)
        return svg_of(figure, f"{', '.join(title)}: " + "; ".join(_spoken(line) for line in lines))


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
    axes.grid(axis="y", color=hex_of("rule"), linewidth=0.7)
    axes.set_axisbelow(True)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.spines["bottom"].set_color(hex_of("control"))
    axes.tick_params(colors=hex_of("muted"), labelsize=SMALL, length=0, which="both")
    axes.tick_params(axis="x", length=3, which="major", color=hex_of("control"))
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
        colour = hex_of(line.colour)
        axes.plot(
            xs,
            ys,
            line.dashes,
            marker=line.marker,
            color=colour,
            markerfacecolor=colour if line.dashes == "-" else hex_of("paper"),
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
        colour, name = hex_of(level.colour), level.name
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
            color=hex_of(line.colour),
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


def panel(figure: Figure, row: int, column: int, rows: int) -> Axes:
    """Axes of a spectrogram."""
    wide, high, total = 960.0, 150.0, 150.0 * rows + 20
    place = (28 + column * 480, total - 20 - (row + 1) * high + 36, 440, high - 34)
    axes: Axes = figure.add_axes((place[0] / wide, place[1] / total, place[2] / wide, place[3] / total))
    axes.tick_params(colors=hex_of("muted"), labelsize=SMALL, length=2, color=hex_of("control"), pad=2)
    axes.spines[:].set_visible(False)
    return axes


def picture(axes: Axes, image: NDArray[np.floating], extent: Box, top: float, figure: Figure) -> None:
    import matplotlib as mpl

    shades = mpl.colormaps["magma"].resampled(SHADES)  # few colours: a small PNG
    look: dict[str, Any] = {"origin": "lower", "aspect": "auto", "vmin": top - RANGE_DB, "vmax": top, "cmap": shades}
    axes.imshow(image, extent=extent, interpolation="nearest", **look)


def svg_of(figure: Figure, spoken: str, dpi: float = 72) -> str:
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
