"""A collapsed posterior is told, with advice, once and then rarely; a healthy one and the warm-up
are left in peace.
"""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile

from ravecodec.train import loop
from ravecodec.train.collapse import PATIENCE, Collapse, fewest_active
from ravecodec.train.overhead import Overhead
from ravecodec.train.recipe import Recipe, Stage, load_recipe
from ravecodec.train.trainer import BETA_WARMUP

RATE = 48_000
TINY = load_recipe("tiny")


def train(folder: Path, recipe: Recipe, quick_training: Overhead) -> list[str]:
    """What a stage 1 says that reports after every step, and may advise after the twelfth."""
    (folder / "music").mkdir()
    time = np.arange(2 * RATE) / RATE
    for hertz in (220, 330):
        sound = np.stack([0.3 * np.sin(2 * np.pi * hertz * time)] * 2, 1)
        soundfile.write(folder / "music" / f"{hertz}.flac", sound, RATE)
    said: list[str] = []
    loop.train(
        folder / "music",
        recipe,
        folder / "run",
        stage="1",
        device="cpu",
        report=said.append,
        overhead=replace(quick_training, advice_after=12),
    )
    return said


def test_a_beta_that_is_far_too_high_is_told_once(tmp_path: Path, quick_training: Overhead) -> None:
    huge = TINY.replace(stage1=Stage(18, 5e-2), beta=1000.0, target_kbps=0, validate_every=0)
    said = train(tmp_path, huge, quick_training)
    advice = [line for line in said if "collapsed" in line]
    assert len(advice) == 1
    assert "step 13/18  the posterior has collapsed:" in advice[0] and "of 16 latents" in advice[0]
    assert "a lower beta than 1000" in advice[0] and "silence" in advice[0]
    lines = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    logged = [line for line in lines if "advice" in line]
    assert [(line["stage"], line["step"]) for line in logged] == [(1, 13)]
    assert advice[0].endswith(logged[0]["advice"])


def test_a_healthy_run_gets_no_advice_and_is_told_how_much_audio_a_second_takes(
    tmp_path: Path, quick_training: Overhead
) -> None:
    said = train(tmp_path, TINY.replace(stage1=Stage(18, 5e-3), validate_every=0), quick_training)
    assert not [line for line in said if "collapsed" in line]
    words = next(line for line in said if "step 18/18" in line).split("  ")[-3:]
    speed, audio = (float(word.split()[0]) for word in words[:2])
    assert (
        words[0].endswith("steps/s")
        and words[1].endswith("x real time")
        and words[2] == "0:00:00 left"
    )
    assert audio == pytest.approx(speed * 2 * 14 * 4096 / RATE, rel=0.02)  # batch, frames, hop


def test_how_few_are_too_few(subtests: pytest.Subtests) -> None:
    for latent, fewest in [(4, 1), (8, 2), (16, 4), (128, 4), (512, 5.12)]:
        with subtests.test(latent=latent, fewest=fewest):
            assert fewest_active(latent) == fewest


def test_advice_waits_for_the_warm_up_and_is_repeated_rarely() -> None:
    watch, few, many = Collapse(TINY), {"active": 3.0, "kbps": 0.01}, {"active": 9.0, "kbps": 1.0}
    assert not watch.advice(BETA_WARMUP, few)
    assert not watch.advice(BETA_WARMUP + 1, many)
    assert not watch.advice(BETA_WARMUP + 1, {"critic": 2.0})  # stage 2
    told = [bool(watch.advice(BETA_WARMUP + 2 + i, few)) for i in range(2 * PATIENCE + 1)]
    assert told == ([True] + [False] * (PATIENCE - 1)) * 2 + [True]


@pytest.mark.parametrize(
    ("target", "kbps", "remedy"),
    [
        (0.0, 0.1, "a lower beta than 0.5, or with a target_kbps"),
        (2.0, 0.1, "beta is falling; if this stays so, start again with a lower one than 0.5"),
        (2.0, 1.9, "start again with a higher target_kbps than 2"),
    ],
)
def test_advice_fits_the_recipe(target: float, kbps: float, remedy: str) -> None:
    watch = Collapse(TINY.replace(beta=0.5, target_kbps=target))
    assert remedy in watch.advice(BETA_WARMUP + 1, {"active": 0.0, "kbps": kbps})
