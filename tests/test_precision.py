"""Which precision is faster here: timed, remembered by a run, the same in all its processes."""

import pytest
import torch

from ravecodec import precision
from ravecodec.precision import resolved
from ravecodec.train.parallel import World
from ravecodec.train.recipe import Recipe, load_recipe
from ravecodec.train.trainer import Trainer

CPU = torch.device("cpu")


def pretend(monkeypatch: pytest.MonkeyPatch, seconds: dict[str, float]) -> None:
    monkeypatch.setattr(precision, "_seconds", lambda name, device, training: seconds[name])


@pytest.mark.parametrize(
    ("exact", "fast", "expected"),
    [(1.0, 0.5, "bfloat16"), (1.0, 0.95, "float32"), (1.0, 8.0, "float32")],
)
def test_auto_takes_what_is_clearly_faster(
    monkeypatch: pytest.MonkeyPatch, exact: float, fast: float, expected: str
) -> None:
    pretend(monkeypatch, {"float32": exact, "bfloat16": fast})
    assert resolved("auto", CPU) == resolved("auto", CPU, training=True) == expected


def test_a_choice_is_not_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(precision, "_seconds", None)
    assert [resolved(name, CPU) for name in ("float32", "bfloat16")] == ["float32", "bfloat16"]


def test_both_can_be_timed_here() -> None:
    for training in (False, True):
        assert all(precision._seconds(name, CPU, training) > 0 for name in precision.PRECISIONS)
    assert resolved("auto", CPU) in precision.PRECISIONS


def test_a_resumed_run_keeps_what_it_had(monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = load_recipe("tiny").replace(bfloat16="auto")
    pretend(monkeypatch, {"float32": 1.0, "bfloat16": 0.5})
    first = Trainer(recipe, World(CPU))
    assert first.recipe.bfloat16 is True
    pretend(monkeypatch, {"float32": 1.0, "bfloat16": 8.0})
    second = Trainer(recipe, World(CPU))
    assert second.recipe.bfloat16 is False
    second.restore(first.state())
    assert second.recipe.bfloat16 is True


def test_the_default_recipe_asks_for_it() -> None:
    assert load_recipe("default").bfloat16 == "auto"
    assert Recipe.from_dict({"bfloat16": True}).bfloat16 is True
