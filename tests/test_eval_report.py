"""The page of an evaluation: complete, the same bytes from the same input, nothing fetched, and a
player that plays what its buttons say (in headless Chromium, where there is one)."""

import re
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from ravecodec.errors import UsageError
from ravecodec.evaluate.results import (
    STATIC_BYTES,
    Condition,
    Fidelity,
    Item,
    Metric,
    Results,
    Score,
    Speed,
)

pytest.importorskip("jinja2")
pytest.importorskip("matplotlib")
pytest.importorskip("bjontegaard")

from ravecodec.evaluate.page import cells, charts, figures, report, series, tables, verdict

RATE, SECONDS = 48_000, 1.0
METRICS = [
    Metric(
        "visqol",
        "ViSQOL",
        "MOS-LQO",
        "higher",
        4.73,
        "Follows bandwidth & envelopes.",
        headline=True,
    ),
    Metric(
        "peak_f1", "Peak F1", "", "higher", 1.0, "Are harmonics where they belong?", headline=True
    ),
    Metric(
        "log_mel", "Log-mel distance", "dB", "lower", 0.0, "Of two mel spectrograms.", headline=True
    ),
    Metric("spectral_paper", "Spectral distance, paper", "", "lower", 0.0, "RAVE, equation 5."),
    Metric("loudness_error", "Loudness error", "LU", "", 0.0, "Decoded minus reference."),
    Metric(
        "si_sdr",
        "SI-SDR, as it is",
        "dB",
        "higher",
        100.0,
        "No measure of quality.",
        diagnostic=True,
    ),
]
QUALITY = {  # what a control or bound gets, on a scale where 1 is perfect
    "identity": 1.0,
    "noise-vocoded": 0.7,
    "another-excerpt": 0.0,
    "lowpass-3.5k": 0.2,
    "lowpass-7k": 0.32,
}
# Hz: what condition k of an item sounds like at a second t of it.
BASE, STEP, SWEEP = (
    1000.0,
    500.0,
    300.0,
)


def pitch(index: int, seconds: float) -> float:
    """Of the condition at an index: tells both which one plays and where in it."""
    return BASE + STEP * index + SWEEP * seconds


def conditions() -> list[Condition]:
    found = []
    for name, model in (("default", "aa" * 16), ("paper", "bb" * 16)):
        for step in (12, 6, 0, -6):
            settings = {
                "model": model,
                "dims": 24,
                "step_index": step,
                "fidelity": 0.93,
                "default": step == 0,
            }
            found.append(
                Condition(f"{name}-g{step}", name, "model", f"{name}, step {step}", settings)
            )
        for dims, f in ((6, 0.8), (12, 0.9), (48, 0.99)):
            settings = {"model": model, "dims": dims, "step_index": 0, "fidelity": f}
            label = f"{name}, f = {f:g}, {dims} dims"
            found.append(
                Condition(f"{name}-d{dims}", f"{name} by fidelity", "model", label, settings)
            )
        bound = f"{name}, not quantised"
        found.append(
            Condition(f"{name}-bound", bound, "bound", bound, {"model": model, "dims": None})
        )
    for codec, label, rates in (
        ("opus", "Opus (mid)", (6, 8, 12, 16, 24)),
        ("mp3", "MP3 (mid)", (16, 32, 48, 64)),
    ):
        found += [
            Condition(f"{codec}-{k}", codec, "codec", f"{label} {k}", {"kbps": k}) for k in rates
        ]
    for name in QUALITY:
        label = {"lowpass-3.5k": "low-pass 3.5 kHz", "lowpass-7k": "low-pass 7 kHz"}.get(
            name, name.replace("-", " ")
        )
        found.append(Condition(name, name, "control", label, {"do": name}))
    return found


def quality(condition: Condition) -> tuple[float | None, float]:
    """(kbit/s, 0..1) of a made-up codec."""
    settings = condition.settings
    if condition.kind == "model":
        worse = 0.1 if "paper" in condition.id else 0.0
        kbps = (
            1.6 * 2 ** (-settings["step_index"] / 9) * (settings["dims"] / 24) ** 0.6 * (1 - worse)
        )
        return kbps, 0.42 + 0.12 * np.log2(kbps) - worse
    if condition.kind == "codec":
        kbps = settings["kbps"] * 1.1
        return kbps, float(
            np.clip(
                (0.22 if "opus" in condition.id else -0.25) + 0.2 * np.log2(kbps / 6), 0.02, 0.98
            )
        )
    return None, QUALITY.get(condition.id, 0.62)


def values(condition: Condition, share: float, wobble: float) -> dict[str, float]:
    noise = condition.id == "noise-vocoded"
    return {
        "visqol": 1 + 3.73 * min(1.0, share + 0.04 * wobble * (share < 1)),
        "peak_f1": 0.01 if noise else min(1.0, max(0.05, share + 0.05 * wobble * (share < 1))),
        "log_mel": max(0.0, 14 * (1 - share) + wobble * (share < 1)),
        "spectral_paper": max(0.0, 25 * (1 - share) + wobble * (share < 1)),
        "loudness_error": 0.3 * wobble,
        "si_sdr": 100.0 if share == 1 else -8 + 20 * share,
    }


def make_results(items: int = 4) -> Results:
    """Two models of four points and more, Opus, MP3, bounds, controls.

    One item's name is hostile.
    """
    rng = np.random.default_rng(1)
    names = [f"track{i}" for i in range(items - 1)] + ["a & b <i>"]
    things = [
        Item(n, f"music/{n}.ogg", 3.0 + 61 * i, SECONDS, "00", 2, 44_100)
        for i, n in enumerate(names)
    ]
    scores = []
    for item in things:
        mood = rng.standard_normal()
        for condition in conditions():
            kbps, share = quality(condition)
            size = (
                None
                if kbps is None
                else round(kbps * 125 * SECONDS * (1 + 0.05 * rng.standard_normal()))
            )
            wobble = 0.8 * mood + 0.4 * rng.standard_normal()
            payload = None if size is None else round(size * 0.9)
            scores.append(
                Score(item.id, condition.id, size, payload, 0, values(condition, share, wobble))
            )
    rising = [float(1 - 0.75 ** (0.6 * n)) for n in range(1, 65)]
    speed = [
        Speed(what, "default", n, 60.0, 9.0 / n, 3.2, 412 << 20)
        for n in (1, 2)
        for what in ("encode", "decode")
    ]
    facts = {
        name: {"id": key * 16, "bytes": 6_390_716, "parameters": 1_500_000}
        for name, key in (("default", "aa"), ("paper", "bb"))
    }
    return Results(
        name="synthetic <b>evaluation</b>",
        description=f"{items} excerpts of 1 s.",
        items=things,
        conditions=conditions(),
        scores=scores,
        metrics=METRICS,
        fidelity=[Fidelity("default", rising, [f**0.5 for f in rising])],
        speed=speed,
        models=facts,
        unreadable=["broken.wav: not audio"],
        manifest={
            "command": "ravecodec eval music --seed 0",
            "seed": 0,
            "packages": {"numpy": "2.4"},
        },
    )


def write_audio(results: Results, folder: Path, seconds: float = SECONDS) -> None:
    """Sweeps as `pitch` says: the original has index 0, what the player offers beside it 1, 2,
    ...
    """
    clock = np.arange(round(seconds * RATE)) / RATE
    chosen = ["reference", *(c.id for c in series.played(results))]
    for loud, item in enumerate(results.items, 1):
        (folder / "audio" / item.id).mkdir(parents=True)
        for index, name in enumerate(chosen):
            sound = (
                0.1
                * loud
                * np.sin(2 * np.pi * ((BASE + STEP * index) * clock + SWEEP * clock**2 / 2))
            )
            soundfile.write(
                folder / "audio" / item.id / f"{name}.flac", sound, RATE, subtype="PCM_16"
            )


@pytest.fixture(scope="module")
def results() -> Results:
    return make_results()


@pytest.fixture(scope="module")
def page(results: Results, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("report")
    write_audio(results, folder)
    return report.write_page(results, folder, embed=1)


class Outline(HTMLParser):
    """Tags with their attributes, text of the page outside style and script, and whether all tags
    are closed.
    """

    VOID = frozenset(("meta", "link", "input", "br", "img", "hr"))

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.open: list[str] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, {name: value or "" for name, value in attrs}))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, {name: value or "" for name, value in attrs}))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if not {"style", "script"} & set(self.open):
            self.text += data


@pytest.fixture(scope="module")
def outline(page: Path) -> Outline:
    return Outline(page.read_text("utf-8"))


def test_same_results_same_bytes_and_audio_inside_only_where_asked(
    results: Results, page: Path, tmp_path: Path
) -> None:
    shutil.copytree(page.parent / "audio", tmp_path / "audio")
    read = Results.from_json(results.to_json())
    assert report.write_page(read, tmp_path, embed=1).read_bytes() == page.read_bytes()
    assert page.read_text("utf-8").count("data:audio/flac") == 1 + len(series.played(results))


def test_page_is_well_formed_and_ids_are_unique(outline: Outline) -> None:
    assert outline.open == []
    ids = [attributes["id"] for _, attributes in outline.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    inner = {
        attributes["href"][1:]
        for tag, attributes in outline.tags
        if tag == "a" and attributes["href"][0] == "#"
    }
    assert inner <= set(ids)


def test_nothing_is_fetched_from_elsewhere_and_links_lead_to_files(
    outline: Outline, page: Path
) -> None:
    from urllib.parse import unquote

    for tag, attributes in outline.tags:
        for name in ("src", "href", "xlink:href", "data", "action"):
            url = attributes.get(name, "")
            assert not re.match(r"[a-z]+:|//", url) or url.startswith("data:"), (tag, url[:80])
            if url.startswith("audio/"):
                assert (page.parent / unquote(url)).is_file()
    assert "http" not in re.sub(r'xmlns(:xlink)?="[^"]*"', "", page.read_text("utf-8")).replace(
        "http-equiv", ""
    )


def test_hostile_names_are_text(outline: Outline, page: Path) -> None:
    assert (
        "synthetic <b>evaluation</b>" in outline.text and "a & b <i>.ogg from 3:06" in outline.text
    )
    assert not any(tag == "b" and not attributes for tag, attributes in outline.tags[:40])


def test_everything_that_was_measured_is_on_the_page(results: Results, outline: Outline) -> None:
    for condition in results.conditions:
        assert condition.label in outline.text
    for metric in results.metrics:
        assert metric.about in outline.text
    for text in (
        "broken.wav: not audio",
        "ravecodec eval music --seed 0",
        "6\u202f390\u202f716",
        "no overlap",
    ):
        assert text in outline.text
    curves = [a["aria-label"] for tag, a in outline.tags if tag == "svg"]
    assert sum("over kbit/s" in label for label in curves) == 3
    # f, the paper's distance, three headline metrics.
    assert sum("over dims" in label for label in curves) == 5
    assert (
        sum(
            "Spectrograms of original, default, step 0, paper, step 0, " in label
            for label in curves
        )
        == 2
    )


def test_verdict_says_rate_scores_and_limits(results: Results) -> None:
    first, second, limits = verdict.verdict(results)
    lead = series.leads(results)[0]
    assert lead.id == "default-g0"
    assert first.startswith(f"At {results.kbps(lead.id):.2f} kbit/s, model default scores ViSQOL ")
    assert (
        "the anchor nearest in rate is Opus (mid) 6 at " in first
        and "without the container" not in first
    )
    assert "beside it the model is better on ViSQOL (anchor: " in first
    assert "paper scores" in second
    assert (
        "no listener was asked" in limits
        and "4 excerpts from 4 files" in limits
        and "Peak F1 0.01" in limits
    )
    assert "too narrow, as they are of fewer than 20 files" in limits
    assert "too narrow" not in verdict.verdict(make_results(20))[-1]


def test_verdict_names_the_rate_of_an_anchor_that_is_mostly_container(results: Results) -> None:
    scores = [
        replace(s, payload=s.bytes // 2) if s.condition == "opus-6" and s.bytes else s
        for s in results.scores
    ]
    heavy = replace(results, scores=scores)
    rates = [heavy.kbps("opus-6", payload=payload) for payload in (False, True)]
    assert (
        "Opus (mid) 6 at {:.2f} kbit/s ({:.2f} without the container)".format(*rates)
        in verdict.verdict(heavy)[0]
    )


def test_the_static_curve_stands_beside_the_predicted_one(results: Results) -> None:
    """Counted so that static tables always take a quarter more: then prediction saves 20 %, at
    every point and of whole curves. A model without a predictor has neither curve nor table."""
    mine = {c.id for c in results.conditions if c.series == "default"}
    scores = [
        replace(s, values={**s.values, STATIC_BYTES: 1.25 * (s.bytes or 0)})
        if s.condition in mine
        else s
        for s in results.scores
    ]
    counted = replace(results, scores=scores)
    (table,) = tables.prediction_tables(counted)
    points, curves = (rows for _, rows in table.groups)
    assert [len(points), len(curves)] == [4, len([m for m in METRICS if m.headline and m.better])]
    assert {row.cells[2].text for row in (*points, *curves)} == {"20.0"}
    for row, point in zip(points, ("default-g12", "default-g6", "default-g0"), strict=False):
        rate = counted.kbps(point)
        assert rate is not None and counted.static_kbps(point) == pytest.approx(1.25 * rate)
        assert row.cells[0].text == f"{1.25 * rate:.2f}"
    lines = {line.name: line for line in figures.rate_curves(counted, METRICS[0]).lines}
    one, other = lines["default"], lines["default, static tables"]
    assert [y for _, y in one.points] == [y for _, y in other.points]
    assert [x for x, _ in other.points] == pytest.approx([1.25 * x for x, _ in one.points])
    assert one.dashes != other.dashes and not other.name.startswith("paper")
    assert "paper, static tables" not in lines and not list(tables.prediction_tables(results))
    assert Results.from_json(counted.to_json()) == counted


def test_too_few_points_have_a_reason_and_no_overlap(results: Results) -> None:
    few = replace(results, conditions=[c for c in results.conditions if c.id != "default-g12"])
    groups = dict(next(iter(tables.delta_tables(few))).groups)
    rate, overlap, score, span = groups["against Opus (mid)"][0].cells
    assert rate.note == score.note == "too few points: default has 3 of 4"
    assert rate.text == overlap.text == score.text == span.text == cells.NONE


def test_glance_bars_run_from_worst_to_best(results: Results) -> None:
    rows = {row.label: row.cells for row in tables.glance(results).groups[0][1]}
    assert [cell.share for cell in rows["identity"][1:]] == [1.0, 1.0, 1.0]
    # Log-mel: lower is better, and this is the highest.
    assert rows["another excerpt"][3].share == 0.0
    assert rows["noise vocoded"][2].share == 0.0


def test_paired_cells_have_signs_tones_and_counts(results: Results) -> None:
    table = next(iter(tables.paired_tables(results)))
    rows = {row.label: row.cells for _, group in table.groups for row in group}
    visqol, mel = rows["Opus (mid) 24"][1], rows["Opus (mid) 24"][3]
    assert visqol.text[0] == "\u2212" and visqol.tone == "bad" and visqol.note.endswith("0/0/4")
    assert mel.text[0] == "+" and mel.tone == "bad"
    assert rows["Opus (mid) 6"][1].tone == "good"


def test_without_models_anchors_or_audio_there_is_still_a_page(
    results: Results, tmp_path: Path
) -> None:
    kept = [c for c in results.conditions if c.kind == "control"][:1]
    scores = [s for s in results.scores if s.condition == kept[0].id]
    bare = replace(
        results, conditions=kept, scores=scores, fidelity=[], speed=[], models={}, unreadable=[]
    )
    text = report.write_page(bare, tmp_path).read_text("utf-8")
    assert '<h2 id="h-scores">' in text and 'id="listen"' not in text and 'id="speed"' not in text


@pytest.mark.parametrize("missing", ["jinja2", "matplotlib"])
def test_a_missing_package_is_one_sentence(
    results: Results, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, missing: str
) -> None:
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(UsageError, match=r"pip install 'ravecodec\[report\]'"):
        report.write_page(results, tmp_path)
    assert not list(tmp_path.iterdir())


# ---- figures -------------------------------------------------------------------------------------


def test_figures_have_no_colour_of_their_own_and_keep_text(results: Results) -> None:
    svg = figures.rate_curves(results, METRICS[0]).svg()
    # Of groups, under colours of their children.
    bare = set(re.findall(r": ?(#[0-9a-f]{6})", svg)) - {"#000000"}
    assert bare == set()
    for name in ("default", "paper by fidelity", "Opus (mid)", "MP3 (mid)", "noise vocoded"):
        assert f">{name}</text>" in svg or f" {name}</text>" in svg
    whole = charts.standalone(svg)
    assert whole.startswith("<svg ") and "prefers-color-scheme:dark" in whole
    Outline(whole)


def test_the_legend_says_how_each_curve_is_drawn(results: Results) -> None:
    legend = figures.rate_curves(results, METRICS[0]).figure().legends[0]
    looks = {
        text.get_text(): (line.get_color(), line.get_marker(), line.get_linestyle())
        for text, line in zip(legend.get_texts(), legend.get_lines(), strict=True)
    }
    names = [
        "default",
        "default by fidelity",
        "paper",
        "paper by fidelity",
        "Opus (mid)",
        "MP3 (mid)",
    ]
    assert list(looks) == names
    assert len(set(looks.values())) == len(looks)
    assert looks["default"][0] == looks["default by fidelity"][0] != looks["paper"][0]


@pytest.mark.parametrize("metric", METRICS[:3])
def test_no_text_of_a_figure_covers_another_or_leaves_it(results: Results, metric: Metric) -> None:
    figure = figures.rate_curves(results, metric).figure()
    figure.draw_without_rendering()
    legend, axes = figure.legends[0], figure.axes[0]
    words = [*axes.texts, axes.title, *axes.get_xticklabels(), *legend.get_texts()]
    low, high = axes.get_ylim()
    words += [label for label in axes.get_yticklabels() if low <= label.get_position()[1] <= high]
    boxes = [word.get_window_extent() for word in words if word.get_text()]
    for i, box in enumerate(boxes):
        assert figure.bbox.x0 <= box.x0 and box.x1 <= figure.bbox.x1 and box.y1 <= figure.bbox.y1
        for other in boxes[i + 1 :]:
            assert not (
                box.x0 < other.x1
                and other.x0 < box.x1
                and box.y0 + 1 < other.y1
                and other.y0 + 1 < box.y1
            )


def test_levels_far_from_the_curves_are_named_at_the_edge() -> None:
    line = charts.Line("curve", "model-1", [(1.0, 1.0), (2.0, 2.0)])
    levels = [charts.Level(str(value), "control", value) for value in (2.1, 9.0, -5.0)]
    axes = charts.Chart("t", "", [line], levels).figure().axes[0]
    assert {text.get_text() for text in axes.texts} == {"t", "2.1", "↑ 9.0", "↓ -5.0"}
    assert 2.1 < axes.get_ylim()[1] < 3


def test_levels_of_a_logarithmic_axis_are_named_where_they_are() -> None:
    line = charts.Line("curve", "model-1", [(1, 1e-4), (2, 1.0)])
    axes = (
        charts.Chart("", "", [line], [charts.Level("x", "control", 1e-2)], y_scale="log")
        .figure()
        .axes[0]
    )
    named = next(text for text in axes.texts if text.get_text() == "x")
    assert named.get_position()[1] == pytest.approx(0.5, abs=0.01)


def test_spread_keeps_order_and_distance() -> None:
    heights = [0.50, 0.51, 0.03, 0.52, 0.99, 1.0, 0.51]
    places = charts.spread(heights, 0.1)
    assert [places[i] for i in np.argsort(heights, kind="stable")] == sorted(places)
    assert np.diff(sorted(places)).min() >= 0.1 - 1e-9
    assert min(places) >= 0 and max(places) <= 1
    assert charts.spread([0.2, 0.6], 0.1) == [0.2, 0.6]


def test_every_number_of_dims_has_its_label(results: Results) -> None:
    """Those of the shipped model, whose last two are near each other."""
    real = {6: (141, 0.8), 12: (214, 0.9), 24: (334, 0.98), 48: (380, 0.99)}
    kept = [c for c in results.conditions if c.model == "aa" * 16]
    moved = [
        replace(
            c, settings=c.settings | dict(zip(("dims", "fidelity"), real[c.dims or 0], strict=True))
        )
        if c.kind == "model"
        else replace(c, label="default, cropped, not quantised")  # takes room on the right
        for c in kept
    ]
    chart = figures.over_dims(replace(results, conditions=moved), METRICS[0])
    assert chart is not None
    svg = chart.svg()
    for dims, f in real.values():
        assert f">{dims}</" in svg and f">f {f:.2f}</" in svg


def test_a_picture_has_no_click_at_its_ends() -> None:
    tone = np.cos(2 * np.pi * 1000 * np.arange(RATE) / RATE)
    levels = charts.spectrum(tone)
    far = int(10_000 * charts.WINDOW / RATE)
    assert levels[far:, [0, -1]].max() < levels.max() - 80


def test_tables_print_as_markdown(results: Results) -> None:
    lines = cells.markdown(next(tables.score_tables(results))).splitlines()
    assert lines[0].startswith(
        "| Condition | kbit/s, whole file | kbit/s, payload | ViSQOL, MOS-LQO, "
    )
    assert set(lines[1]) == set("|-") and len(lines) == 2 + len(results.conditions)
    assert len({line.count("|") for line in lines}) == 1
    mean = results.kbps("opus-8")
    assert any(line.startswith(f"| Opus (mid) 8 | {mean:.2f} | ") and "[" in line for line in lines)


# ---- in a browser --------------------------------------------------------------------------------


LISTENER = """
{ const connect = AudioNode.prototype.connect;
  AudioNode.prototype.connect = function (target, ...rest) {
    if (target instanceof AudioDestinationNode) {
      window.ear ??= new AnalyserNode(this.context, { fftSize: 4096, smoothingTimeConstant: 0 });
      connect.call(this, window.ear);
    }
    return connect.call(this, target, ...rest);
  };
  window.loudest = () => {
    const levels = new Float32Array(window.ear.frequencyBinCount);
    window.ear.getFloatFrequencyData(levels);
    const bin = levels.indexOf(Math.max(...levels));
    const place = Number(document.querySelector('.place').value);
    return levels[bin] > -60 ? [bin * window.ear.context.sampleRate / 4096, place] : null;
  }; }
"""  # hears what reaches the loudspeaker: [Hz, position that the page shows], or null for silence


@pytest.fixture(scope="module")
def opened(browser: Any, page: Path, watch_page: Callable[..., Any]) -> Iterator[Any]:
    """The page in a wide window, with an ear at the loudspeaker; `complaints` and `addresses` are
    what the browser has said and asked for so far.
    """
    with browser.new_context(viewport={"width": 1280, "height": 900}) as context:
        shown = context.new_page()
        shown.add_init_script(LISTENER)
        shown.complaints, shown.addresses = watch_page(shown)
        shown.goto(page.as_uri())
        yield shown


def until(page: Any, expression: str) -> Any:
    """The value of an expression as soon as it is true.

    Asked for again and again from here: the page's policy lets nothing in it evaluate a string, so
    Playwright's wait_for_function is refused.
    """
    end = time.monotonic() + 20
    while not (value := page.evaluate(expression)):
        assert time.monotonic() < end, f"{expression} did not become true"
        page.wait_for_timeout(20)
    return value


def sound_settles(page: Any, index: int) -> float:
    """Waits until a condition is heard, at the place that the page shows (within 0.2 s, by its
    pitch); that place.
    """
    end = time.monotonic() + 10
    while True:
        hertz, place = until(page, "window.ear && window.loudest()")
        if abs(hertz - pitch(index, place)) < 0.2 * SWEEP:
            return float(place)
        heard = (hertz - pitch(0, place)) / STEP
        assert time.monotonic() < end, (
            f"heard {hertz} Hz at {place} s (index {heard:.2f}), expected index {index}"
        )


def test_the_page_fits_every_window_and_both_colour_schemes(
    page: Path, check_page: Callable[[Path], None]
) -> None:
    check_page(page)


def test_figures_show(opened: Any) -> None:
    sizes = [svg.bounding_box() for svg in opened.locator("figure svg").all()]
    assert len(sizes) == 10
    assert all(size["width"] > 400 and size["height"] > 200 for size in sizes)
    assert opened.locator("svg image").count() == 2 * 4 * 2


def test_long_reasons_do_not_push_columns_out_of_sight(opened: Any) -> None:
    assert opened.locator("#bd .scroll").first.evaluate(
        """box => {
            const note = box.querySelector("td small"), text = note.textContent;
            note.textContent = "why ".repeat(50);
            const fits = box.scrollWidth <= box.clientWidth;
            note.textContent = text;
            return fits;
        }"""
    )


def test_keys_switch_what_plays_and_keep_its_position(opened: Any) -> None:
    player = opened.locator(".player").first
    opened.keyboard.press("Space")
    before = sound_settles(opened, 0)
    began = time.monotonic()
    opened.keyboard.press("3")
    after = sound_settles(opened, 2)
    passed = time.monotonic() - began
    gap = (after - before - passed) % SECONDS  # the loop is one second long
    assert min(gap, SECONDS - gap) < 0.25
    pressed = [switch.get_attribute("aria-pressed") for switch in player.locator(".switch").all()]
    assert pressed.index("true") == 2
    opened.keyboard.press("1")
    sound_settles(opened, 0)
    opened.keyboard.press("Space")
    until(opened, "!window.loudest()")
    place = player.locator(".place").input_value()
    opened.keyboard.press("2")
    assert player.locator(".place").input_value() == place
    opened.keyboard.press("Space")
    resumed = sound_settles(opened, 1)
    assert player.locator(".play").text_content() == "Pause"
    # Goes on from there.
    assert abs((resumed - float(place) + SECONDS / 2) % SECONDS - SECONDS / 2) < 0.45
    opened.keyboard.press("Space")


def test_files_beside_the_page_play_in_step_too(opened: Any) -> None:
    opened.locator("details.item").first.evaluate("item => { item.open = true; }")
    player = opened.locator(".player").nth(1)
    play, sounds = player.locator(".play"), player.locator("audio")
    play.click()
    until(opened, "document.querySelectorAll('.play')[1].textContent == 'Pause'")
    for index in (0, 4, 1):
        opened.keyboard.press(str(index + 1))
        heard = sounds.evaluate_all("all => all.map(sound => !sound.muted)")
        assert heard.index(True) == index and sum(heard) == 1
        assert sounds.evaluate_all("all => all.every(sound => !sound.paused)")
    places = sounds.evaluate_all("all => all.map(sound => sound.currentTime)")
    spans = [(place - places[0] + SECONDS / 2) % SECONDS - SECONDS / 2 for place in places]
    assert max(spans) - min(spans) < 0.2
    play.click()
    assert sounds.evaluate_all("all => all.every(sound => sound.paused)")


def test_no_request_left_the_page_and_nothing_was_refused(opened: Any, page: Path) -> None:
    assert page.as_uri() in opened.addresses
    assert all(at.startswith(("data:", "blob:", page.parent.as_uri())) for at in opened.addresses)
    assert opened.complaints == []
    broken = opened.locator("audio").evaluate_all("all => all.map(sound => sound.error !== null)")
    assert broken and not any(broken)


def test_without_scripts_there_are_plain_players(browser: Any, page: Path) -> None:
    with browser.new_context(java_script_enabled=False) as context:
        shown = context.new_page()
        shown.goto(page.as_uri())
        boxes = [sound.bounding_box() for sound in shown.locator("#listen-1 audio").all()]
        assert sum(box is not None and box["height"] > 10 for box in boxes) >= 5
        assert not any(switch.is_visible() for switch in shown.locator(".switch").all())
