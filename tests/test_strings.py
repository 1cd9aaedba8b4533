"""scripts/strings.py: which scores are taken, and what is made of their notes.

What renders them is not here.
"""

import importlib.util
import sys
import zipfile
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest


@pytest.fixture(scope="module")
def strings() -> ModuleType:
    path = Path(__file__).resolve().parent.parent / "scripts" / "strings.py"
    if not path.exists():
        pytest.skip("no scripts beside the tests")
    spec = importlib.util.spec_from_file_location("script_of_strings", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # where dataclasses look for their annotations
    spec.loader.exec_module(module)
    return module


def score(parts: int = 4, more: str = "") -> str:
    listed = '<score-part id="P"/>' * parts
    return f"<score-partwise>{more}<part-list>{listed}</part-list></score-partwise>"


def mxl(path: Path, xml: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("mimetype", "application/zip")
        archive.writestr(
            "META-INF/container.xml", '<container><rootfile full-path="in/score.xml"/></container>'
        )
        archive.writestr("in/score.xml", xml)


def test_scores_with_notices_and_other_numbers_of_parts_are_left_out(
    strings: ModuleType, tmp_path: Path
) -> None:
    mxl(tmp_path / "haydn" / "opus1no1" / "movement2.mxl", score())
    mxl(tmp_path / "mozart" / "k80.mxl", score(more="<rights>(c) somebody</rights>"))
    mxl(tmp_path / "bach" / "x.mxl", score())
    found = {
        name: strings.reason_against(strings.music_xml(path))
        for name, path in strings.scores(tmp_path)
    }
    assert found == {"haydn/opus1no1/movement2": "", "mozart/k80": "carries a notice of rights"}
    assert strings.reason_against(score(3)) == "has 3 parts"
    for notice in (
        "Copyright 1999",
        "All Rights Reserved",
        "for non-commercial use",
        "http://creativecommons.org/x",
    ):
        assert strings.reason_against(score(more=f"<credit>{notice}</credit>"))
    assert strings.work_of("haydn/opus1no1/movement2") == "haydn/opus1no1" in strings.HELD_OUT
    assert strings.work_of("mozart/k80") == "mozart/k80"


def test_playing_changes_no_note_and_keeps_near_the_beat(strings: ModuleType) -> None:
    rng = np.random.default_rng(0)
    starts = np.sort(rng.uniform(0, 120, 400))
    notes = [
        strings.Note(
            float(start),
            float(start + rng.uniform(0.05, 2)),
            int(rng.integers(36, 90)),
            90,
            int(part),
        )
        for start, part in zip(starts, rng.integers(0, 4, 400), strict=True)
    ]
    for seed in (0, 1):
        played = strings.humanised(notes, seed)
        assert [(note.pitch, note.part) for note in played] == [
            (note.pitch, note.part) for note in notes
        ]
        assert all(0 <= note.start < note.end for note in played)
        velocities = [note.velocity for note in played]
        assert (
            min(velocities) >= strings.QUIET
            and max(velocities) <= strings.LOUD
            and np.std(velocities) > 3
        )
        slower = np.polyfit(starts, [note.start for note in played], 1)[0]
        assert 0.7 < slower < 1.4
        away = np.diff([note.start for note in played]) / slower - np.diff(starts)
        assert np.abs(away).max() < 0.3
        assert played == strings.humanised(notes, seed)
    assert strings.humanised(notes, 0) != strings.humanised(notes, 1)
    assert strings.humanised([], 0) == []


@dataclass
class Message:
    """As mido's."""

    type: str
    time: int
    note: int = 0
    velocity: int = 0
    tempo: int = 0


@dataclass
class File:
    tracks: list[list[Message]]
    ticks_per_beat: int = 100


def test_times_follow_the_tempi(strings: ModuleType) -> None:
    """120 beats a minute for two beats, then 60; a repeated note is two."""
    tempi = [Message("set_tempo", 200, tempo=1_000_000)]
    part = [
        Message("note_on", 100, 60, 80),
        Message("note_off", 200, 60),
        Message("note_on", 0, 60, 70),
        Message("note_on", 100, 60, 0),
    ]
    found = strings.track_notes(File([tempi, part]), part, 2)
    assert found == [strings.Note(0.5, 2.0, 60, 80, 2), strings.Note(2.0, 3.0, 60, 70, 2)]
