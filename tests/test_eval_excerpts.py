"""Excerpts: chosen by seed and name, spread over folders, the same for everybody; what cannot be
read is named.
"""

from pathlib import Path

import numpy as np
import pytest
import soundfile

from ravecodec.errors import InputError
from ravecodec.evaluate.excerpts import choose, find_sources
from ravecodec.evaluate.filters import RATE, correlation, low_pass


def tones(
    seconds: float, rate: int = RATE, channels: int = 2, hertz: float = 440.0, glide: float = 0.0
) -> np.ndarray:
    time = np.arange(round(seconds * rate)) / rate
    return np.stack(
        [
            0.4 * np.sin(2 * np.pi * hertz * (c + 1) * (time + glide * time**2))
            for c in range(channels)
        ],
        1,
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two groups of three files, one of them short, one mono at 44.1 kHz; one that is no audio, one
    without sound.
    """
    music = tmp_path_factory.mktemp("music")
    for group in ("a", "b"):
        (music / group).mkdir()
        for i in range(3):
            soundfile.write(
                music / group / f"{group}{i}.flac",
                tones(6 + i, hertz=200 * (i + 1), glide=0.01),
                RATE,
            )
    soundfile.write(music / "a" / "a0.flac", tones(2, 44_100, 1), 44_100)
    (music / "broken.wav").write_bytes(b"RIFF nothing")
    soundfile.write(music / "short.wav", tones(0.2), RATE)
    (music / "notes.txt").write_text("none")
    return music


def test_files_are_found_and_those_that_cannot_be_read_are_named(folder: Path) -> None:
    sources, unreadable = find_sources([folder])
    assert len(sources) == 6 and {s.path.suffix for s in sources} == {".flac"}
    assert (
        len(unreadable) == 2
        and "broken.wav" in unreadable[0]
        and "short.wav: lasts 9600 samples" in unreadable[1]
    )
    assert len(find_sources([folder / "a" / "a1.flac", folder])[0]) == 6  # each once


def test_the_choice_depends_on_seed_and_names_only(folder: Path, tmp_path: Path) -> None:
    sources, _ = find_sources([folder])
    first, damaged = choose(sources, 4, 1.0, 0)
    assert damaged == []
    assert [item.source for item, _ in first] == [
        item.source for item, _ in choose(sources[::-1], 4, 1.0, 0)[0]
    ]
    orders = {tuple(item.id for item, _ in choose(sources, 4, 1.0, seed)[0]) for seed in range(6)}
    assert len(orders) > 1
    # Groups take turns.
    assert {Path(item.source).parent.name for item, _ in first[:2]} == {
        "a",
        "b",
    }


def test_every_file_gives_one_excerpt_before_any_gives_two(folder: Path) -> None:
    found, _ = choose(find_sources([folder])[0], 8, 1.0, 0)
    names = [item.source for item, _ in found]
    assert len(set(names[:6])) == 6 and len(set(names)) == 6
    assert len({item.id for item, _ in found}) == 8  # the second time elsewhere in the file


def test_there_are_no_more_excerpts_than_audio(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "x.wav", tones(2.0), RATE)
    soundfile.write(tmp_path / "y.wav", tones(2.0, hertz=300), RATE)
    assert len(choose(find_sources([tmp_path])[0], 5, 3.0, 0)[0]) == 2


def test_an_excerpt_is_what_the_item_says(folder: Path) -> None:
    for item, audio in choose(find_sources([folder])[0], 6, 3.0, 0)[0]:
        assert audio.dtype == np.float32 and audio.shape == (
            item.channels,
            round(item.seconds * RATE),
        )
        assert item.seconds == (2.0 if "a0" in item.source else 3.0)
        assert np.array_equal(audio * 32768, np.rint(audio * 32768))  # 16 bits
        assert 0.38 < np.abs(audio).max() < 0.42


def test_dc_is_gone_and_the_rest_is_where_it_was(tmp_path: Path) -> None:
    sound = tones(4.0, channels=1, hertz=1000)
    soundfile.write(tmp_path / "x.wav", sound + 0.3, RATE, "FLOAT")
    [(item, audio)], _ = choose(find_sources([tmp_path])[0], 1, 1.0, 0)
    start = round(item.start * RATE)
    wanted = sound[start : start + RATE, 0]
    assert abs(audio.mean()) < 1e-4
    assert np.abs(audio[0] - wanted).max() < 1e-3


def test_a_quiet_passage_is_passed_over(tmp_path: Path) -> None:
    sound = tones(30.0, channels=1)
    sound[int(10 * RATE) : int(16 * RATE)] = 0
    soundfile.write(tmp_path / "x.wav", sound, RATE)
    [(item, audio)], _ = choose(find_sources([tmp_path])[0], 1, 2.0, 0)
    assert item.start > 15.9 and np.abs(audio).max() > 0.3


def test_a_damaged_file_gives_its_place_to_another(folder: Path, tmp_path: Path) -> None:
    whole = (folder / "a" / "a2.flac").read_bytes()
    (tmp_path / "torn.flac").write_bytes(whole[: len(whole) // 3])
    soundfile.write(tmp_path / "good.wav", tones(5), RATE)
    found, damaged = choose(find_sources([tmp_path])[0], 1, 3.0, 0)
    assert [Path(item.source).name for item, _ in found] == ["good.wav"] or damaged == []
    found, damaged = choose(find_sources([tmp_path])[0], 2, 3.0, 0)
    assert len(damaged) == 1 and "torn.flac" in damaged[0]
    with pytest.raises(InputError, match="none of 1 files"):
        choose(find_sources([tmp_path / "torn.flac"])[0], 1, 3.0, 0)


def test_nothing_to_evaluate_on_is_an_input_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no audio to evaluate on"):
        find_sources([tmp_path])
    with pytest.raises(InputError, match="no such file"):
        find_sources([tmp_path / "missing"])


def test_a_low_pass_keeps_below_and_removes_above() -> None:
    for hertz, kept in ((1000, True), (3000, True), (4200, False), (9000, False)):
        out = low_pass(tones(1.0, channels=1, hertz=hertz).T, 3500)[0, 5000:-5000]
        level = np.abs(out).max() / 0.4
        assert level > 0.99 if kept else level < 1e-3, hertz


def test_a_correlation_has_the_lags_that_are_asked_for() -> None:
    """Also where they are longer than the signals; against the sum that defines it."""
    rng = np.random.default_rng(0)
    a, b = rng.standard_normal(50), rng.standard_normal(30)
    for lags in (range(-5, 6), range(10), range(-80, 60)):
        wanted = [sum(a[i] * b[i + lag] for i in range(50) if 0 <= i + lag < 30) for lag in lags]
        assert np.allclose(correlation(a, b, lags), wanted)
