"""The page about a training run: of one that is under way, of one that is finished, and what it
says when it cannot.
"""

import base64
import io
import json
import re
import sys
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import soundfile
from click.testing import CliRunner

from ravecodec.cli import main
from ravecodec.errors import InputError, UsageError
from ravecodec.train import loop
from ravecodec.train.overhead import Overhead
from ravecodec.train.recipe import Stage, load_recipe
from ravecodec.train.report import _line, write_report

pytest.importorskip("jinja2")
pytest.importorskip("matplotlib")

RATE = 48_000


class Page(HTMLParser):
    """Elements, addresses and visible text of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.addresses: list[str] = []
        self.words = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.addresses += [
            value or "" for name, value in attrs if name in ("src", "href", "xlink:href")
        ]

    def handle_data(self, data: str) -> None:
        self.words += data


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, quick_training: Overhead) -> Path:
    """A finished run of a few steps on two tracks, one of them with a name that HTML would trip
    over.
    """
    music, out = tmp_path_factory.mktemp("music"), tmp_path_factory.mktemp("run")
    time = np.arange(3 * RATE) / RATE
    for name, hertz in (("<b>a & b.flac", 220), ("c.flac", 330)):
        soundfile.write(
            music / name, np.stack([0.3 * np.sin(2 * np.pi * hertz * time)] * 2, 1), RATE
        )
    recipe = load_recipe("tiny").replace(
        stage1=Stage(4, 5e-3), stage2=Stage(4, 5e-4), warmup=1, validate_every=2
    )
    loop.train(
        music,
        recipe,
        out,
        device="cpu",
        licence="CC0-1.0",
        packed=write_report,
        overhead=quick_training,
    )
    return out


def test_training_ends_with_a_page_that_needs_nothing_else(run: Path) -> None:
    text = (run / "report.html").read_text()
    page = Page(text)
    spoken = re.findall(r'<svg role="img" aria-label="([^"]*)"', text)
    for title in (
        "Spectral distance S",
        "Share of spectral peaks kept",
        "Discriminator",
        "Fidelity f",
        "Spectrograms",
    ):
        assert sum(label.startswith(title) for label in spoken) == 1, title
    assert page.addresses and all(a.startswith(("#", "data:")) for a in page.addresses)
    assert "@import" not in text and "url(http" not in text and "prefers-color-scheme:dark" in text
    assert "Stage 2, step 4." in page.words
    assert "2 files, 0.00 h (2 at 48000 Hz)" in page.words
    assert "CC0-1.0" in page.words
    assert re.search(r"(<b>a & b|c)\.flac: [\d.]+ kbit/s, peak F1 \d\.\d\d", page.words)
    assert '"crop_frames": 14' in page.words


def test_the_page_fits_every_window_and_both_colour_schemes(
    run: Path, check_page: Callable[[Path], None]
) -> None:
    check_page(run / "report.html")


def test_excerpts_can_be_heard_as_the_codec_leaves_them(run: Path) -> None:
    sounds = [
        a
        for a in Page((run / "report.html").read_text()).addresses
        if a.startswith("data:audio/flac;base64,")
    ]
    original, decoded = (
        soundfile.read(io.BytesIO(base64.b64decode(a.partition(",")[2])))[0] for a in sounds
    )
    assert original.shape == decoded.shape and original.shape[1] == 2
    assert 0.29 < np.abs(original).max() < 0.31 and decoded.std() > 1e-4
    assert not np.array_equal(original, decoded)


def test_what_a_resumed_run_logs_again_replaces_what_it_had_logged(tmp_path: Path) -> None:
    steps = [2, 4, 6, 8, 4, 6, 7]
    log = [{"stage": 1, "step": step, "spectral": 10.0 * i + step} for i, step in enumerate(steps)]
    assert _line(log, "spectral", "codec-1", 0).points == [
        (2, 2.0),
        (4, 44.0),
        (6, 56.0),
        (7, 67.0),
    ]


def test_a_run_under_way_has_curves_only(run: Path, tmp_path: Path) -> None:
    lines = [
        line
        for line in (run / "log.jsonl").read_text().splitlines()
        if json.loads(line)["stage"] == 1
    ]
    advice = ['{"stage": 1, "step": 3, "advice": "lower <beta>"}']
    (tmp_path / "log.jsonl").write_text("\n".join([*lines, *advice, '{"stage": 1, "st']))
    done = CliRunner().invoke(main, ["train", "--report", str(tmp_path)])
    assert done.exit_code == 0, done.output
    assert done.stdout == f"{tmp_path / 'report.html'}\n"
    text = (tmp_path / "report.html").read_text()
    assert "audio" not in Page(text).tags and text.count("<svg") == 5
    assert "Stage 1, step 3: lower <beta>." in Page(text).words
    assert "Discriminator" not in text
    assert write_report(tmp_path).read_text() == text  # again, over the old one, the same


def test_what_is_missing_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match="holds no training log"):
        write_report(tmp_path)
    (tmp_path / "log.jsonl").write_text('{"stage": 1')
    with pytest.raises(InputError, match="log is empty"):
        write_report(tmp_path)
    (tmp_path / "log.jsonl").write_text('{"stage": 1, "step": 1, "spectral": 2.0}\n')
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(UsageError, match=r"pip install 'ravecodec\[report\]'"):
        write_report(tmp_path)
    done = CliRunner().invoke(main, ["train"])
    assert done.exit_code == 2
    assert "expected DATA and --out RUN, or --report RUN" in done.stderr
