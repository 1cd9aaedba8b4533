"""Recipes: what ships loads and can be built, TOML in, the same JSON in and out, and nonsense is
refused by name.
"""

import importlib
import json
import tomllib
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import soundfile
import torch

from ravecodec.audio import Audio
from ravecodec.errors import ModelError, UsageError
from ravecodec.models.rave import Rave
from ravecodec.train.folder import Run
from ravecodec.train.overhead import Overhead
from ravecodec.train.recipe import Recipe, Stage, load_recipe, recipe_names
from ravecodec.train.stages import Valid, build_discriminator, check_crop


def test_what_ships_is_listed() -> None:
    assert {"default", "live", "paper", "tiny"} <= set(recipe_names())


def test_shipped_recipes_can_be_built(subtests: pytest.Subtests) -> None:
    for name in ["default", "live", "paper", "tiny"]:
        with subtests.test(name=name):
            recipe = load_recipe(name)
            assert recipe.name == name
            network = Rave(recipe.model)
            check_crop(recipe, Valid.of(network, recipe.crop_frames), build_discriminator(recipe))


def test_the_paper_recipe_is_the_paper() -> None:
    recipe = load_recipe("paper")
    assert sum(p.numel() for p in Rave(recipe.model).parameters()) == pytest.approx(
        17.6e6, rel=0.01
    )
    assert (recipe.model.hop, recipe.model.latent, recipe.model.channels) == (2048, 128, 1)
    assert recipe.crop_frames * recipe.model.hop == 65536
    assert recipe.batch == 8 and recipe.stage1.rate == recipe.stage2.rate == 1e-4
    assert recipe.stage1.steps + recipe.stage2.steps == 3_000_000
    assert (recipe.adversarial, recipe.feature_matching) == (1, 10)
    assert recipe.allpass == 0.8


def test_json_round_trip(subtests: pytest.Subtests) -> None:
    for name in ["default", "live", "paper", "tiny"]:
        with subtests.test(name=name):
            recipe = load_recipe(name)
            assert Recipe.from_dict(json.loads(json.dumps(recipe.to_dict()))) == recipe


def test_a_file_is_read_like_a_shipped_one(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(
        'name = "mine"\nbatch = 3\nstage1 = { steps = 7, rate = 1e-3 }\n[model]\ncapacity = 16\n'
    )
    recipe = load_recipe(str(path))
    assert (recipe.name, recipe.batch, recipe.stage1, recipe.model.capacity) == (
        "mine",
        3,
        Stage(7, 1e-3),
        16,
    )
    assert recipe.crop_frames == 32  # a default
    of_a_run = tmp_path / "recipe.json"
    of_a_run.write_text(json.dumps(recipe.to_dict() | {"mel": 0.0}))  # as an older version wrote it
    assert load_recipe(str(of_a_run)) == recipe
    for damaged in ("[]", "{", '{"windows": 7}'):
        of_a_run.write_text(damaged)
        with pytest.raises(UsageError, match=r"recipe\.json"):
            load_recipe(str(of_a_run))


def test_unknown_recipe_names_the_known_ones() -> None:
    for name in ("nightingale", "nightingale.toml", "../recipes"):
        with pytest.raises(UsageError, match="default, live, paper, tiny"):
            load_recipe(name)


def test_what_cannot_be_read_is_a_usage_error(tmp_path: Path, subtests: pytest.Subtests) -> None:
    for text in [
        b"batch = ",
        b"\xff\xfe",
        b"stage1 = 5",
        b"windows = 7",
        b"stage1 = { steps = 3 }",
    ]:
        with subtests.test(text=text):
            path = tmp_path / "bad.toml"
            path.write_bytes(text)
            with pytest.raises(UsageError, match=r"bad\.toml"):
                load_recipe(str(path))


def test_unknown_keys_are_refused() -> None:
    with pytest.raises(UsageError, match="unknown key learning_rate, zoom"):
        Recipe.from_dict({"zoom": 1, "learning_rate": 2})
    with pytest.raises(ModelError, match="unknown key zoom"):
        Recipe.from_dict({"model": {"zoom": 1}})
    with pytest.raises(UsageError, match=r"unknown key stage1\.zoom"):
        Recipe.from_dict({"stage1": {"steps": 1, "rate": 1, "zoom": 1}})
    with pytest.raises(UsageError, match=r"unknown key loss\.batch"):
        Recipe.from_dict({"loss": {"batch": 1}})
    with pytest.raises(UsageError, match="data is 7; expected a table"):
        Recipe.from_dict({"data": 7})


def test_a_recipe_from_before_there_were_tables_means_the_same() -> None:
    stage2 = {"steps": 3, "rate": 1e-4}
    flat = {"name": "old", "batch": 3, "beta": 0.2, "refine": [0], "warmup": 5, "stage2": stage2}
    tables = {
        "name": "old",
        "data": {"batch": 3},
        "loss": {"beta": 0.2},
        "stage1": {"refine": [0]},
        "stage2": {**stage2, "warmup": 5},
    }
    assert Recipe.from_dict(flat) == Recipe.from_dict(tables)
    with pytest.raises(UsageError, match="batch is given twice"):
        Recipe.from_dict({"batch": 3, "data": {"batch": 3}})


def test_keys_that_were_removed_are_refused_with_the_reason() -> None:
    for table in (None, "loss", "stage2"):
        for key, value in (("mel", 0.25), ("mel", 0.0), ("random_grid", False)):
            values = {key: value} if table is None else {table: {key: value}}
            with pytest.raises(UsageError, match=rf"{key} was removed .*experiments\.md.* commit"):
                Recipe.from_dict(values)
    for values in ({"discriminator": "periods"}, {"stage2": {"discriminator": "periods"}}):
        with pytest.raises(UsageError, match='discriminator = "periods" was removed'):
            Recipe.from_dict(values)


def test_a_run_of_before_goes_on_unless_it_needs_what_was_removed(tmp_path: Path) -> None:
    recipe = load_recipe("tiny")
    tables = recipe.to_dict()
    flat = {k: v for k, v in tables.items() if k not in ("data", "loss", "stage1", "stage2")}
    for name in ("data", "loss"):
        flat |= tables[name]
    for name in ("stage1", "stage2"):
        keys = dict(tables[name])
        flat[name] = {k: keys.pop(k) for k in ("steps", "rate")}
        flat |= keys
    del flat["speed"]  # a key that came later
    path = tmp_path / "recipe.json"
    path.write_text(json.dumps(flat | {"mel": 0.0, "random_grid": True}))
    assert Run(tmp_path, recipe).longer == []
    for change in ({"mel": 0.25}, {"random_grid": False}, {"discriminator": "periods"}):
        path.write_text(json.dumps(flat | change))
        with pytest.raises(UsageError, match=r"recipe\.json: .* was removed"):
            Run(tmp_path, recipe)


def test_bad_values_are_named(subtests: pytest.Subtests) -> None:
    for key, value in [
        ("batch", 0),
        ("batch", 2.5),
        ("batch", True),
        ("crop_frames", "32"),
        ("distance", "cosine"),
        ("discriminator", "judge"),
        ("windows", []),
        ("windows", [2048, -1]),
        ("windows", ["2048"]),
        ("windows_per_step", 6),
        ("target_kbps", -1),
        ("transport", -1),
        ("init_rate", -1e-3),
        ("transport", 1.0),  # of the paper's distance
        ("beta", -0.1),
        ("placed", 1.5),
        ("speed", 1.5),
        ("average", 1.5),
        ("target_kbps", "2"),
        ("quantised", "no"),
        ("allpass", -0.1),
        ("bfloat16", 1),
        ("whiten", "yes"),
        ("seed", -1),
        ("warmup", -1),
        ("name", "../up"),
        ("name", ""),
    ]:
        with (
            subtests.test(key=key, value=value),
            pytest.raises(UsageError, match=rf"recipe: {key} is .*expected"),
        ):
            Recipe.from_dict({key: value})


def test_bad_stages_are_refused(subtests: pytest.Subtests) -> None:
    for steps, rate in [(-1, 1e-3), (1, 0), (1, -1e-3), (1.5, 1e-3), (1, float("nan"))]:
        with subtests.test(steps=steps, rate=rate), pytest.raises(UsageError, match="stage of"):
            Stage(steps, rate)


def test_crops_too_short_for_the_losses_are_refused() -> None:
    tiny = load_recipe("tiny")
    network, discriminator = Rave(tiny.model), build_discriminator(tiny)
    short = tiny.replace(crop_frames=1, windows=(8192, 256))
    with pytest.raises(
        UsageError, match=r"leave 4096 samples .* 10239, the longest window and its hop"
    ):
        check_crop(short, Valid.of(network, 1), discriminator)
    # Takes the windows that fit.
    check_crop(short.replace(distance="paper"), Valid.of(network, 1), discriminator)


@pytest.mark.parametrize("name", ["default", "live", "paper", "tiny"])
def test_valid_frames_saw_no_padding(name: str) -> None:
    """The regions that losses look at: encoder and decoder context is cut from both ends."""
    recipe = load_recipe(name)
    network = Rave(recipe.model)
    encoder, decoder = network.encoder_reach, network.decoder_reach
    frames, hop = recipe.crop_frames, recipe.model.hop
    valid = Valid.of(network, frames)
    assert valid.encoder == (encoder.past, encoder.future)
    assert valid.total == (encoder.past + decoder.past, encoder.future + decoder.future)
    kept = frames - sum(valid.total)
    assert (
        valid.latents(torch.zeros(1, 2, frames)).shape[-1] == frames - encoder.past - encoder.future
    )
    assert valid.audio(torch.zeros(1, 2, frames * hop), hop).shape[-1] == kept * hop
    assert valid.bands(torch.zeros(1, 2, frames * hop // 16), hop).shape[-1] == kept * hop // 16
    places = torch.arange(frames * hop)
    assert int(valid.audio(places[None, None], hop)[0, 0, 0]) == valid.total[0] * hop


@pytest.mark.parametrize("name", ["scratch", "muon", "windows", "stage2"])
def test_ablations_are_recipes_and_have_their_rows_in_the_documents(name: str) -> None:
    root = Path(__file__).resolve().parent.parent
    plan_file = root / "benchmarks" / "ablations" / f"{name}.toml"
    if not plan_file.exists() or not (root / "docs").exists():
        pytest.skip("no benchmarks and docs beside the tests")
    plan = tomllib.loads(plan_file.read_text("utf-8"))
    common = merged(load_recipe(plan["recipe"]).to_dict(), plan["changes"])
    page = (root / "docs" / "experiments.md").read_text("utf-8")
    _, marker, rest = page.partition(f"<!-- ablation: {name} -->\n")
    assert marker
    rows = [line.split("|")[1].strip() for line in rest.split("<!-- end -->")[0].splitlines()]
    for variant, changes in plan["variants"].items():
        Recipe.from_dict(merged(common, changes))
        assert variant in rows


def test_an_ablation_trains_and_is_not_repeated(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    music: Callable[..., Audio],
    quick_training: Overhead,
) -> None:
    benchmarks = Path(__file__).resolve().parent.parent / "benchmarks"
    if not benchmarks.exists():
        pytest.skip("no benchmarks beside the tests")
    monkeypatch.syspath_prepend(str(benchmarks))
    ablation = importlib.import_module("ablation")
    monkeypatch.setattr(ablation, "train", partial(ablation.train, overhead=quick_training))
    monkeypatch.setattr(ablation, "scores", lambda *_: {"kbit/s": 2.0})
    recipe, data = load_recipe("tiny").replace(batch=1), tmp_path / "data"
    data.mkdir()
    for i in range(2):
        audio = music(4 * 48_000, recipe.model.channels, 48_000)
        soundfile.write(data / f"{i}.wav", audio.T, 48_000)
    job = ablation.Job(tmp_path / "run", recipe, "1", 0.05, data, tmp_path / "cache", None)
    found = ablation.run(job)
    assert found["steps"] == round(3 / found["s/step"]) > 0 and found["kbit/s"] == 2.0
    monkeypatch.setattr(ablation, "train", None)
    assert ablation.run(job) == found


def merged(values: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """Tables with changes in them."""
    both = dict(values)
    for key, value in changes.items():
        both[key] = merged(both.get(key, {}), value) if isinstance(value, dict) else value
    return both
