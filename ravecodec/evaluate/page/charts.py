"""How reports are drawn, by matplotlib: curves with a legend, named levels, spectrograms, as SVG
text.

Every colour is a CSS variable with the light scheme's value behind it (`var(--ink, #1b1f24)`), so
that a page recolours the figures in the dark. Text stays text. The same input gives the same bytes.
"""

from __future__ import annotations

import hashlib
import io
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from html import escape
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from ravecodec.errors import UsageError
from ravecodec.evaluate.filters import Doubles, Floats
from ravecodec.evaluate.measures.signals import spectra

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Name -> (light, dark); text on `paper` has a contrast of 4.5 or more.
COLOURS: dict[str, tuple[str, str]] = {
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
PAPER, INK, MUTED = COLOURS["paper"][0], COLOURS["ink"][0], COLOURS["muted"][0]
RULE, GREY = COLOURS["rule"][0], COLOURS["control"][0]
STYLE: dict[str, Any] = {
    "axes.axisbelow": True,
    "axes.edgecolor": GREY,
    "axes.grid": True,
    "axes.grid.axis": "y",
    "axes.labelcolor": MUTED,
    "axes.spines.left": False,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlecolor": MUTED,
    "axes.titlelocation": "left",
    "axes.titlesize": 9,
    "figure.constrained_layout.use": True,
    "font.size": 8,
    "grid.color": RULE,
    "grid.linewidth": 0.7,
    "legend.borderaxespad": 0.2,
    "legend.borderpad": 0,
    "legend.fontsize": 9,
    "legend.frameon": False,
    "lines.linewidth": 1.8,
    "lines.markersize": 4.5,
    "svg.fonttype": "none",
    "svg.hashsalt": "ravecodec",
    "text.color": INK,
    "xtick.color": GREY,
    "xtick.labelcolor": MUTED,
    "ytick.color": GREY,
    "ytick.labelcolor": MUTED,
    "ytick.major.size": 0,
    "ytick.minor.size": 0,
}
TEXT_STYLE = "svg text{font-family:system-ui,sans-serif!important}"
NO_METADATA = dict.fromkeys(("Creator", "Date", "Format", "Type"))
WIDTH, HEIGHT, ROW = 480.0, 290.0, 14.0  # points; a row of the legend comes on top
COLUMNS = 3  # of a legend
NAME_APART = 0.062  # of the axes' height between names in the margin: a line of text
LABEL_APART = 0.09  # of the axes' width between the labels of ticks: `f 0.98` is 24 points wide
REACH = 0.35  # of the curves' range: levels farther outside are named at the edge, not drawn
WINDOW, HOP, RANGE_DB, SHADES = 4096, 512, 90.0, 48  # samples, samples, dB, colours


@dataclass(frozen=True)
class Line:
    """A named curve through `points` (x, y); `bars` are intervals (x, low, high). `colour`: of
    COLOURS; `marker` and `dashes`: of matplotlib, "none" for points alone."""

    name: str
    colour: str
    points: Sequence[tuple[float, float]]
    bars: Sequence[tuple[float, float, float]] = ()
    marker: str = ""
    dashes: str = "-"


@dataclass(frozen=True)
class Level:
    """A named horizontal line."""

    name: str
    colour: str
    value: float


@dataclass(frozen=True)
class Chart:
    """Curves with a legend below them and names of levels in the right margin.

    `about`: the line below the title. `x_scale`, `y_scale`: "linear" or "log". `ticks`: labels by
    place on the x axis; without them a logarithmic one has powers of two. `marks`: vertical lines.
    `height`: in points.
    """

    title: str
    about: str
    lines: Sequence[Line]
    levels: Sequence[Level] = ()
    x_scale: str = "log"
    y_scale: str = "linear"
    ticks: Mapping[float, str] = field(default_factory=dict)
    marks: Sequence[float] = ()
    height: float = HEIGHT

    def figure(self) -> Figure:
        """Raises UsageError where matplotlib is missing."""
        with style():
            from matplotlib.figure import Figure

            rows = -(-len(self.lines) // COLUMNS)
            figure = Figure(figsize=(WIDTH / 72, (self.height + ROW * rows) / 72))
            axes = figure.add_subplot(title=self.about, xmargin=0.06, ymargin=0.07)
            axes.annotate(
                self.title,
                (0, 1),
                xycoords="axes fraction",
                xytext=(0, 20 if self.about else 6),
                textcoords="offset points",
                weight="bold",
                fontsize=10.5,
            )
            axes.set_yscale(self.y_scale)
            _draw_lines(axes, self.lines)
            for place in self.marks:
                axes.axvline(place, color=GREY, linewidth=0.8)
            _set_x_axis(axes, self)
            _draw_levels(axes, self.levels)
            if self.lines:
                figure.legend(loc="outside lower left", ncols=COLUMNS)
            return figure

    def svg(self) -> str:
        """The chart as text, described for those who do not see it."""
        heading = f"{self.title}, {self.about}" if self.about else self.title
        return svg_of(self.figure(), f"{heading}: " + "; ".join(map(_spoken, self.lines)))


def style() -> AbstractContextManager[None]:
    """How matplotlib draws within the context. UsageError where it is missing."""
    try:
        import matplotlib as mpl
    except ImportError as error:
        raise UsageError("a report needs matplotlib: `pip install 'ravecodec[report]'`") from error
    return mpl.rc_context(STYLE)  # type: ignore[arg-type]


def svg_of(figure: Figure, spoken: str, dpi: float = 72) -> str:
    """A figure as text, with ids that no other figure of a page has."""
    buffer = io.StringIO()
    with style():
        figure.savefig(buffer, format="svg", dpi=dpi, transparent=True, metadata=NO_METADATA)
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    for name, (light, _) in COLOURS.items():
        text = text.replace(f": {light}", f": var(--{name}, {light})")
    prefix = f"f{hashlib.sha256(text.encode()).hexdigest()[:8]}"
    text = re.sub(r'( id="|href="#|url\(#)', rf"\1{prefix}-", text)
    return text.replace("<svg ", f'<svg role="img" aria-label="{escape(spoken)}" ', 1)


def palette(shade: int) -> dict[str, str]:
    """Colours by name: of the light scheme (0) or the dark one (1)."""
    return {name: pair[shade] for name, pair in COLOURS.items()}


def standalone(svg: str) -> str:
    """A figure as a file of its own: with its colours for light and dark."""
    schemes = (palette(shade).items() for shade in (0, 1))
    light, dark = ("".join(f"--{name}:{colour};" for name, colour in each) for each in schemes)
    sheet = f"svg{{{light}}}@media(prefers-color-scheme:dark){{svg{{{dark}}}}}{TEXT_STYLE}"
    tag, rest = svg.split(">", 1)
    return f"{tag}><style>{sheet}</style>{rest}"


# ---- curves --------------------------------------------------------------------------------------


def _spoken(line: Line) -> str:
    """A curve in words."""
    if not line.points:
        return line.name
    (x0, y0), (x1, y1) = line.points[0], line.points[-1]
    if len(line.points) == 1:
        return f"{line.name}: {y0:.3g} at {x0:.3g}"
    return f"{line.name} from {y0:.3g} at {x0:.3g} to {y1:.3g} at {x1:.3g}"


def _draw_lines(axes: Axes, lines: Sequence[Line]) -> None:
    """The first line is on top."""
    for depth, line in enumerate(lines):
        colour = COLOURS[line.colour][0]
        xs, ys = [x for x, _ in line.points], [y for _, y in line.points]
        face = colour if line.dashes == "-" else PAPER
        look: dict[str, Any] = {"marker": line.marker, "markerfacecolor": face, "color": colour}
        look |= {"linestyle": line.dashes, "zorder": 3 + len(lines) - depth}
        axes.plot(xs, ys, label=line.name, **look)
        for x, low, high in line.bars:
            axes.vlines(x, low, high, color=colour, linewidth=1.2, alpha=0.55, zorder=3)


def _set_x_axis(axes: Axes, chart: Chart) -> None:
    """Plain numbers below the axis, none of which touch."""
    if chart.x_scale == "linear":
        return
    axes.set_xscale("log", base=2)
    low, high = axes.get_xlim()
    labels = {float(2**n): f"{2**n:g}" for n in range(-6, 14) if low <= 2**n <= high}
    if chart.ticks:
        places = [place for place in sorted(chart.ticks) if low <= place <= high]
        least = LABEL_APART * math.log(high / low)
        labels = {place: chart.ticks[place] for place in _apart(places, least)}
    axes.set_xticks(list(labels), list(labels.values()))
    axes.set_xticks([], minor=True)


def _apart(places: Iterable[float], least: float) -> list[float]:
    """Those of rising places whose logarithms are at least so far from the one before."""
    kept: list[float] = []
    for place in places:
        if not kept or math.log(place / kept[-1]) >= least:
            kept.append(place)
    return kept


def _draw_levels(axes: Axes, levels: Sequence[Level]) -> None:
    """Dashed lines where they are near the curves; all names in the right margin, apart from each
    other."""
    if not levels:
        return
    scale = axes.yaxis.get_transform()  # of the values: nothing, or their logarithm
    values = scale.transform(np.array([level.value for level in levels]))
    low, high = _range_with_levels(scale.transform(axes.get_ylim()) if axes.lines else None, values)
    axes.set_ylim(*scale.inverted().transform(np.array([low, high])))
    heights = (values - low) / (high - low)
    places = spread(np.clip(heights, 0, 1), NAME_APART)
    for level, height, place in zip(levels, heights, places, strict=True):
        colour, name = COLOURS[level.colour][0], level.name
        look: dict[str, Any] = {"transform": axes.transAxes, "color": colour}
        if 0 <= height <= 1:
            axes.axhline(level.value, color=colour, linewidth=1, linestyle=(0, (4, 3)), zorder=2)
            axes.plot((1, 1.02), (height, place), linewidth=0.7, clip_on=False, **look)
        else:
            name = f"{'↑' if height > 0 else '↓'} {name}"
        axes.text(1.03, place, name, va="center_baseline", **look)


def _range_with_levels(curves: Doubles | None, values: Doubles) -> tuple[float, float]:
    """The range (low, high) of the curves, widened to hold the levels that are near it; of all
    levels where there are no curves."""
    near = values
    if curves is not None:
        low, high = curves
        reach = REACH * (high - low)
        near = np.concatenate([curves, values[(low - reach <= values) & (values <= high + reach)]])
    pad = 0.02 * (float(np.ptp(near)) or 1.0)
    return float(near.min()) - pad, float(near.max()) + pad


def spread(heights: ArrayLike, least: float) -> list[float]:
    """Places near the heights (0 to 1), in the same order, `least` or more from each other, as far
    as there is room."""
    order = np.argsort(heights, kind="stable")
    steps = least * np.arange(len(order))
    raised = np.maximum.accumulate(np.asarray(heights)[order] - steps) + steps
    places: list[float] = np.minimum(raised, 1 - steps[::-1])[np.argsort(order)].tolist()
    return places


# ---- spectrograms --------------------------------------------------------------------------------


def spectrograms(sounds: Mapping[str, Floats], rate: int) -> Figure:
    """One row per sound (samples,), the first one above: 0 to 20 kHz on the left, 0 to 4 kHz on the
    right; one scale of level for all, 90 dB down from the loudest of the first."""
    levels = {name: spectrum(sound) for name, sound in sounds.items()}
    top = float(next(iter(levels.values())).max())
    with style():
        import matplotlib as mpl
        from matplotlib.figure import Figure

        shades = mpl.colormaps["magma"].resampled(SHADES)  # few colours: a small PNG
        look: dict[str, Any] = {"vmin": top - RANGE_DB, "vmax": top, "cmap": shades}
        look |= {"interpolation": "nearest", "origin": "lower", "aspect": "auto"}
        figure = Figure(figsize=(960 / 72, (150 * len(sounds) + 20) / 72))
        grid = figure.subplots(len(sounds), 2, squeeze=False, sharex=True)
        for row, (name, image) in zip(grid, levels.items(), strict=True):
            for axes, khz in zip(row, (min(20.0, rate / 2000), 4.0), strict=True):
                bins = int(khz * 1000 * WINDOW / rate) + 1
                extent = (0.0, len(sounds[name]) / rate, 0.0, khz)
                axes.imshow(image[:bins], extent=extent, **look)
                axes.set_title(f"{name}, 0 to {khz:g} kHz", color=INK)
                axes.spines[:].set_visible(False)
                axes.grid(visible=False)
        for axes in grid[-1]:
            axes.set_xlabel("seconds")
        return figure


def spectrograms_svg(sounds: Mapping[str, Floats], rate: int) -> str:
    """`spectrograms` as text; the pictures are PNG inside the SVG."""
    return svg_of(spectrograms(sounds, rate), f"Spectrograms of {', '.join(sounds)}", dpi=96)


def spectrum(sound: Floats) -> Floats:
    """Levels in dB [bins, frames] of a sound (samples,)."""
    # Zeros would click.
    padded = np.pad(np.asarray(sound, dtype=np.float32), WINDOW // 2, mode="reflect")
    frames = np.concatenate([*spectra(padded, WINDOW, HOP)])
    return 20 * np.log10(frames.T + np.float32(1e-9))
