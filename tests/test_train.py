"""Training, end to end on seconds of sound: it learns, its package codes, a killed run ends where
it would have ended.

The recipe is `tiny` with few steps; everything runs on one thread, where results are exact.
"""

import copy
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from torch import Tensor

from ravecodec.codec import Decoder, Encoder, stream_info
from ravecodec.errors import InputError, ModelError, OutputError, UsageError
from ravecodec.models.clock import Clock
from ravecodec.models.config import ModelConfig
from ravecodec.models.discriminator import WaveformDiscriminator
from ravecodec.models.package import fold, load_package
from ravecodec.models.rave import Rave
from ravecodec.train import loop, stages, validation
from ravecodec.train.cache import build_cache, read_index
from ravecodec.train.data import Crops, split
from ravecodec.train.finish import frame_levels
from ravecodec.train.folder import Run, check_folder, held
from ravecodec.train.interrupts import deferred
from ravecodec.train.overhead import Overhead
from ravecodec.train.parallel import World
from ravecodec.train.recipe import Recipe, Stage, load_recipe
from ravecodec.train.trainer import Trainer, learning_rate, stage1_step
from ravecodec.train.validation import validate

Train = Callable[..., Path]

RATE = 48_000
WORLD = World(torch.device("cpu"))
TINY = load_recipe("tiny")
SHORT = TINY.replace(
    stage1=Stage(6, 5e-3), stage2=Stage(5, 5e-4), warmup=2, rate_kbps=0, validate_every=2
)
PAPER = SHORT.replace(
    model=ModelConfig(channels=2, capacity=4, latent=8),
    crop_frames=32,
    distance="paper",
    windows=(2048, 512, 128),
    target_kbps=0,
    discriminator="waveform",
)


@pytest.fixture(scope="module", autouse=True)
def small_discriminator() -> Iterator[None]:
    """The waveform discriminator is a small one."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stages, "WaveformDiscriminator", partial(WaveformDiscriminator, capacity=4))
        yield


@pytest.fixture(scope="module")
def train(quick_training: Overhead) -> Train:
    """`loop.train` on the CPU, with little beside its steps."""
    return partial(loop.train, device="cpu", overhead=quick_training)


@pytest.fixture(scope="module")
def music(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Chords and bursts of noise in four short files."""
    folder = tmp_path_factory.mktemp("music")
    random = np.random.default_rng(0)
    time = np.arange(2 * RATE) / RATE
    for i, root in enumerate((110, 165, 220, 262)):
        chord = sum(np.sin(2 * np.pi * root * ratio * time) for ratio in (1, 5 / 4, 3 / 2, 2))
        bursts = random.normal(size=time.shape) * (np.sin(2 * np.pi * (2 + i) * time) > 0.6)
        sound = np.stack([0.1 * chord + 0.05 * bursts, 0.07 * chord + 0.1 * bursts], 1)
        soundfile.write(folder / f"{i}.flac", sound, RATE)
    (folder / "CREDITS.md").write_text("made by a test\n")
    return folder


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where all runs of this file keep the stereo audio of `music`."""
    return tmp_path_factory.mktemp("cache")


def undisturbed(
    recipe: Recipe, music: Path, cache: Path, folder: Path, train: Train
) -> tuple[Recipe, Path]:
    train(music, recipe, folder, cache=cache)
    return recipe, folder


@pytest.fixture(scope="module")
def default_run(
    music: Path, cache: Path, tmp_path_factory: pytest.TempPathFactory, train: Train
) -> tuple[Recipe, Path]:
    """(recipe, run folder) of a run of the default family that nothing disturbed."""
    return undisturbed(SHORT, music, cache, tmp_path_factory.mktemp("default"), train)


@pytest.fixture(scope="module")
def paper_run(
    music: Path, cache: Path, tmp_path_factory: pytest.TempPathFactory, train: Train
) -> tuple[Recipe, Path]:
    """The same of the paper's family."""
    return undisturbed(PAPER, music, cache, tmp_path_factory.mktemp("paper"), train)


@pytest.fixture(params=["default_run", "paper_run"])
def uninterrupted(request: pytest.FixtureRequest) -> tuple[Recipe, Path]:
    """Both of them, for what differs between the families."""
    run: tuple[Recipe, Path] = request.getfixturevalue(request.param)
    return run


def tensors(value: Any, name: str = "") -> Iterator[tuple[str, Tensor]]:
    """All tensors inside a checkpoint."""
    if isinstance(value, Tensor):
        yield name, value
    elif isinstance(value, dict):
        for key, part in value.items():
            yield from tensors(part, f"{name}.{key}")
    elif isinstance(value, list | tuple):
        for key, part in enumerate(value):
            yield from tensors(part, f"{name}.{key}")


def checkpoint(run: Path) -> dict[str, Any]:
    return torch.load(run / "checkpoint.pt", weights_only=True)


def assert_same_end(run: Path, other: Path, parts: tuple[str, ...] = ()) -> None:
    """Two runs ended with the same state, bit for bit; their packages hold the same weights and
    tables.
    """
    mine, wanted = checkpoint(run), checkpoint(other)
    assert {k: mine[k] for k in ("stage", "step", "beta")} == {
        k: wanted[k] for k in ("stage", "step", "beta")
    }
    pair = dict(tensors(mine)), dict(tensors(wanted))
    assert pair[0].keys() == pair[1].keys()
    assert [name for name, value in pair[0].items() if not torch.equal(value, pair[1][name])] == []
    models = [load_package(next(folder.glob("*.safetensors"))) for folder in (run, other)]
    weights = [dict(model.network.state_dict()) for model in models]
    assert all(torch.equal(value, weights[1][key]) for key, value in weights[0].items())
    assert np.array_equal(models[0].latent.analysis, models[1].latent.analysis)
    assert np.array_equal(models[0].coding.scales, models[1].coding.scales)


def cached_crops(cache: Path, recipe: Recipe, seed: int) -> Crops:
    """Crops of all cached audio, in stereo and as long as the recipe has them."""
    length = recipe.crop_frames * recipe.model.hop
    return Crops(cache, read_index(cache / "tracks.jsonl"), channels=2, length=length, seed=seed)


def history(run: Path, stage: int, key: str = "spectral") -> list[float]:
    lines = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    return [line[key] for line in lines if line["stage"] == stage and key in line]


def spectral_distance(trainer: Trainer, cache: Path) -> float:
    """S of the averaged model, without posterior noise, on a fixed batch of the cached audio."""
    recipe, model = trainer.recipe, trainer.average
    crops = cached_crops(cache, recipe, seed=5)
    audio = crops.batch(0, 6)
    with torch.no_grad():
        bands = model.decode_bands(model.encode(audio)[0], Clock.at(0))
        decoded = stages.Decoded(bands, model.pqmf.synthesis(bands))
        objective = trainer.objective
        return float(objective.distance(model, audio, decoded, objective.all_spectra()))


def test_the_tiny_recipe_learns_and_its_package_codes(
    music: Path, cache: Path, tmp_path: Path, train: Train
) -> None:
    recipe = TINY.replace(stage1=Stage(80, 1e-2), stage2=Stage(6, 5e-4))
    said: list[str] = []
    path = train(music, recipe, tmp_path, cache=cache, licence="CC0-1.0", report=said.append)
    assert path == tmp_path / "tiny.safetensors"
    assert (len(history(tmp_path, 1)), len(history(tmp_path, 2, "critic"))) == (80, 6)
    untrained, trained = Trainer(recipe, WORLD), Trainer(recipe, WORLD)
    trained.restore(checkpoint(tmp_path))
    assert spectral_distance(trained, cache) < 0.85 * spectral_distance(untrained, cache)
    assert any("stage 1  step 80/80" in line for line in said)
    assert sum("curve of" in line for line in said) == 1

    model = load_package(path)
    assert model.name == "tiny" and model.info["licence"] == "CC0-1.0"
    assert model.info["credits"] == "made by a test\n" and model.info["tracks"] == 3
    audio = (
        np.stack([np.sin(np.arange(30_001) / 20), np.cos(np.arange(30_001) / 30)]).astype(
            np.float32
        )
        * 0.3
    )
    info = stream_info(model, RATE, 2, model.coding.dims, model.coding.step_index)
    encoder, decoder = Encoder(model, info), Decoder(model, info)
    chunks = [*encoder.process(audio), *encoder.flush()]
    symbols = [chunk.symbols for chunk in chunks if not chunk.lead_in]
    assert sum(map(len, symbols)) == -(-30_001 // recipe.model.hop)
    heard = [
        *(part for chunk in symbols for part in decoder.process(chunk)),
        *decoder.flush(30_001),
    ]
    output = np.concatenate(heard, axis=1)
    assert output.shape == audio.shape and np.isfinite(output).all() and np.abs(output).max() > 1e-4


def test_stage_by_stage_is_the_same_as_at_once(
    uninterrupted: tuple[Recipe, Path], music: Path, cache: Path, tmp_path: Path, train: Train
) -> None:
    recipe, whole = uninterrupted
    first = train(music, recipe, tmp_path, stage="1", cache=cache)
    assert load_package(first).info["steps"] == {"stage 1": recipe.stage1.steps}
    after_one = checkpoint(tmp_path)
    assert (after_one["stage"], after_one["step"]) == (1, recipe.stage1.steps)
    second = train(music, recipe, tmp_path, stage="2", cache=cache)
    at_once = load_package(next(whole.glob("*.safetensors"))).info["steps"]
    assert load_package(second).info["steps"] == at_once
    assert at_once["stage 1"] == recipe.stage1.steps
    assert recipe.warmup < at_once["stage 2"] <= recipe.stage2.steps  # the best on validation audio
    assert_same_end(tmp_path, whole)
    with pytest.raises(UsageError, match="in stage 2 already"):
        train(music, recipe, tmp_path, stage="1", cache=cache)


def test_stage_two_leaves_the_encoder_alone(
    uninterrupted: tuple[Recipe, Path], tmp_path: Path
) -> None:
    """Weights and batch-norm statistics; the generator and the discriminator move."""
    recipe, run = uninterrupted
    state = checkpoint(run)
    model, average = state["model"], state["average"]
    for key, value in model.items():
        if key.startswith("encoder."):
            assert torch.equal(value, average[key]), key
    assert any(
        not torch.equal(value, average[key])
        for key, value in model.items()
        if key.startswith("generator.")
    )
    assert all(value.isfinite().all() for _, value in tensors(state))
    if recipe is PAPER:
        assert int(model["encoder.network.1.num_batches_tracked"]) == recipe.stage1.steps


def test_louder_is_positive_on_the_axes_of_a_package(
    uninterrupted: tuple[Recipe, Path], cache: Path
) -> None:
    """On every axis that has to do with the level of the training audio that was analysed."""
    recipe, run = uninterrupted
    model = load_package(next(run.glob("*.safetensors")))
    channels, hop, size = recipe.model.channels, recipe.model.hop, recipe.crop_frames
    tracks, _ = split(read_index(cache / "tracks.jsonl"))
    crops = Crops(cache, tracks, channels=channels, length=size * hop, seed=recipe.seed)
    first, last = stages.Valid.of(model.network, size).encoder
    batches = -(-model.latent.frames // ((size - first - last) * recipe.batch))
    audio = torch.cat([crops.batch((1 << 41) + step, recipe.batch) for step in range(batches)])
    with torch.inference_mode():
        means = model.network.encode(audio)[0].transpose(1, 2).numpy()
    frames = audio.numpy().reshape(len(audio), channels, size, hop)
    level = np.maximum(10 * np.log10(np.square(frames).mean((1, 3)) + 1e-20), -80)
    y, level = (x[:, first : size - last] for x in (model.latent.project(means), level))
    assert level.size == model.latent.frames
    axes = y.reshape(level.size, -1).T
    found = np.array([np.corrcoef(axis, level.ravel())[0, 1] for axis in axes])
    assert found.max() > 0.3
    assert found.min() > -0.02, found  # its weights were rounded to float16 after the analysis


def test_levels_of_frames() -> None:
    """A full-scale square wave has 0 dBFS, on one of two channels 3 dB less; silence is bounded."""
    audio = torch.ones(2, 2, 5 * 64)
    audio[0, :, 64:128] = 0.1
    audio[0, :, 128:192] = 0
    audio[0, :, 192:256] = 1e-5
    audio[1, 1] = 0
    first, second = frame_levels(audio, 64).numpy()
    assert np.allclose(first, [0, -20, -80, -80, 0], atol=1e-4)
    assert np.allclose(second, -10 * np.log10(2), atol=1e-4)


# A process that imports torch once, and forks one for every run that a line of its standard input
# asks for. The run kills itself at a chosen moment; how it ended is a line of standard output.
KILLED = """
import io, json, os, signal, sys, traceback
from functools import partial
from pathlib import Path
import torch
from ravecodec.models.discriminator import WaveformDiscriminator
from ravecodec.train import cache, loop, stages
from ravecodec.train.overhead import Overhead
from ravecodec.train.recipe import Recipe

torch.set_num_threads(1)
stages.WaveformDiscriminator = partial(WaveformDiscriminator, capacity=4)

def die():
    os.kill(os.getpid(), signal.SIGKILL)

def in_cache():
    append, count = cache._append, cache._silent_frames
    def dying(data, path, *rest):
        cache._silent_frames = (lambda block: die()) if path.name == "2.flac" else count
        return append(data, path, *rest)
    cache._append = dying

def in_step(stage, step):
    name = f"stage{stage}_step"
    whole = getattr(loop, name)
    def dying(trainer, *rest):
        log = whole(trainer, *rest)
        if trainer.step == step:
            die()
        return log
    setattr(loop, name, dying)

def interrupted(stage, step):
    in_step(stage, step)
    globals()["die"] = lambda: os.kill(os.getpid(), signal.SIGINT)

def in_checkpoint(stage, step):
    whole = torch.save
    def dying(state, file):
        memory = io.BytesIO()
        whole(state, memory)
        if (state["stage"], state["step"]) == (stage, step):
            file.write(memory.getvalue()[: memory.tell() // 2])
            file.flush()
            die()
        file.write(memory.getvalue())
    torch.save = dying

MOMENTS = {
    "cache": in_cache,
    "step of stage 1": lambda: in_step(1, 3),
    "checkpoint": lambda: in_checkpoint(1, 5),
    "step of stage 2": lambda: in_step(2, 3),
    "Ctrl-C": lambda: interrupted(1, 2),
}
def run(moment, recipe, overhead, music, out):
    signal.alarm(120)
    os.dup2(2, 1)
    MOMENTS[moment]()
    how = {"device": "cpu", "overhead": Overhead(**overhead)}
    loop.train(Path(music), Recipe.from_dict(recipe), Path(out), **how)

for line in sys.stdin:
    child = os.fork()
    if child == 0:
        code = 1
        try:
            run(*json.loads(line))
            code = 0
        except KeyboardInterrupt:
            code = 130
        except Exception:
            traceback.print_exc()
        finally:
            os._exit(code)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""
Killed = Callable[[str, Recipe, Path, Path], int]


@pytest.fixture(scope="module")
def killed(quick_training: Overhead) -> Iterator[Killed]:
    """Exit code of a run that kills itself at this moment: of (moment, recipe, music, out)."""
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", KILLED]
    with subprocess.Popen(
        command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        asked, told = process.stdin, process.stdout
        assert asked is not None and told is not None

        def call(moment: str, recipe: Recipe, music: Path, out: Path) -> int:
            overhead = asdict(replace(quick_training, checkpoint_seconds=0.0))
            words = [moment, recipe.to_dict(), overhead, str(music), str(out)]
            print(json.dumps(words), file=asked)
            asked.flush()
            return int(told.readline())

        yield call


def test_a_run_killed_at_any_moment_ends_where_it_would_have_ended(
    uninterrupted: tuple[Recipe, Path], killed: Killed, music: Path, tmp_path: Path, train: Train
) -> None:
    recipe, whole = uninterrupted
    moments = (
        ["cache", "step of stage 1", "checkpoint", "step of stage 2"]
        if recipe is SHORT
        else ["step of stage 2"]
    )
    steps = []
    for moment in moments:
        assert killed(moment, recipe, music, tmp_path) == -9, moment
        state = (
            checkpoint(tmp_path)
            if (tmp_path / "checkpoint.pt").exists()
            else {"stage": 0, "step": 0}
        )
        steps.append((state["stage"], state["step"]))
    assert steps == [(0, 0), (1, 3), (1, 4), (2, 3)][-len(moments) :]
    with (tmp_path / "log.jsonl").open("a") as log:
        log.write('{"stage": 2, "st')  # as a kill in the middle of a write leaves it
    train(music, recipe, tmp_path)
    assert_same_end(tmp_path, whole)
    assert history(tmp_path, 2)


def test_ctrl_c_is_obeyed_after_the_step_with_nothing_lost(
    default_run: tuple[Recipe, Path], killed: Killed, music: Path, tmp_path: Path, train: Train
) -> None:
    recipe, whole = default_run
    assert killed("Ctrl-C", recipe, music, tmp_path) in (-2, 130)
    assert (checkpoint(tmp_path)["stage"], checkpoint(tmp_path)["step"]) == (1, 3)
    train(music, recipe, tmp_path)
    assert_same_end(tmp_path, whole)


def test_a_second_ctrl_c_acts_at_once() -> None:
    with pytest.raises(KeyboardInterrupt), deferred() as stop:
        os.kill(os.getpid(), signal.SIGINT)
        assert stop
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(10)
    with deferred() as stop:
        pass
    stop.obey()
    assert not stop


def test_a_full_disk_is_told_and_the_last_checkpoint_stays(
    default_run: tuple[Recipe, Path], tmp_path: Path
) -> None:
    before = (default_run[1] / "checkpoint.pt").read_bytes()
    run = Run(tmp_path / "run", SHORT)
    run.checkpoint.write_bytes(before)
    handler, limit = (
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN),
        resource.getrlimit(resource.RLIMIT_FSIZE),
    )
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, limit[1]))
    try:
        with pytest.raises(
            OutputError, match=r"checkpoint.pt: cannot be written \(.*the last one is kept"
        ):
            run.save(Trainer(SHORT, WORLD).state())
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
        signal.signal(signal.SIGXFSZ, handler)
    assert run.checkpoint.read_bytes() == before
    assert sorted(p.name for p in run.folder.iterdir()) == ["checkpoint.pt", "recipe.json"]


@pytest.mark.parametrize(
    ("batch", "advice"), [(2, "batch = 1"), (1, f"crop_frames = {SHORT.crop_frames // 2}")]
)
def test_out_of_memory_says_what_to_try(
    music: Path,
    cache: Path,
    tmp_path: Path,
    batch: int,
    advice: str,
    monkeypatch: pytest.MonkeyPatch,
    train: Train,
) -> None:
    def hungry(trainer: Trainer, audio: Tensor) -> dict[str, float]:
        return {"bytes": float(torch.empty(1 << 60).sum())}

    monkeypatch.setattr(loop, "stage1_step", hungry)
    with pytest.raises(UsageError, match=f"out of memory at stage 1 step 0.*try {advice} "):
        train(music, SHORT.replace(batch=batch), tmp_path, cache=cache)


def test_validation_is_told_at_its_steps_and_the_best_generator_is_packed(
    default_run: tuple[Recipe, Path],
    music: Path,
    cache: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    train: Train,
) -> None:
    recipe, run = default_run
    lines = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    lines = [line for line in lines if "validation" in line]
    told = [(line["stage"], line["step"]) for line in lines]
    assert told == [(1, 2), (1, 4), (1, 6), (2, 2), (2, 4), (2, 5)]
    assert all(
        0 < line["validation"] < 100 and 0 <= line["validation_peaks"] <= 1 for line in lines
    )
    distances, kept = iter([3.0, 1.0, 2.0]), []
    monkeypatch.setattr(loop, "validate", lambda *_: {"validation": next(distances)})
    keep = Trainer.keep_if_best

    def keep_and_tell(trainer: Trainer, distance: float) -> None:
        kept.append(copy.deepcopy(trainer.average.generator.state_dict()))
        keep(trainer, distance)

    monkeypatch.setattr(Trainer, "keep_if_best", keep_and_tell)
    path = train(
        music,
        recipe,
        tmp_path,
        stage="2",
        init_from=next(run.glob("*.safetensors")),
        cache=cache,
    )
    packed = load_package(path).network.generator.state_dict()
    reference = Trainer(recipe, WORLD).average
    same = []
    for weights in kept:
        reference.generator.load_state_dict(weights)
        folded = fold(reference).generator.state_dict()
        same.append(
            all(
                torch.equal(folded[name].half().float(), value)
                for name, value in packed.items()
                if not name.endswith("head.bias")  # which was set to a level
            )
        )
    assert same == [False, True, False]


def test_validation_hears_the_same_every_time(cache: Path) -> None:
    held = cached_crops(cache, SHORT, seed=1)
    trainer = Trainer(SHORT, WORLD)
    first = validate(trainer, held, 4)
    assert first == validate(trainer, held, 4)
    stage1_step(trainer, held.batch(0, 2))
    for _ in range(50):
        trainer.step += 1
        trainer.update_average()
    assert validate(trainer, held, 4) != first


def test_a_finished_run_is_left_alone(
    default_run: tuple[Recipe, Path], music: Path, cache: Path, tmp_path: Path, train: Train
) -> None:
    """Whatever became of the data; the licence of the first call stays, and another one is
    refused.
    """
    recipe, run = default_run
    package = next(run.glob("*.safetensors"))
    before = package.read_bytes(), package.stat().st_mtime_ns, (run / "checkpoint.pt").read_bytes()
    changed = tmp_path / "changed"
    shutil.copytree(music, changed)
    soundfile.write(changed / "new.wav", np.zeros((RATE, 2)), RATE)
    for data in (music, changed):
        said: list[str] = []
        assert train(data, recipe, run, cache=cache, report=said.append) == package
        assert (
            said[0] == f"resumed at stage 2 step {recipe.stage2.steps}"
            and "left as it is" in said[1]
        )
        assert before == (
            package.read_bytes(),
            package.stat().st_mtime_ns,
            (run / "checkpoint.pt").read_bytes(),
        )
    with pytest.raises(UsageError, match=r"its licence is 'unstated', not 'CC0-1\.0'"):
        train(music, recipe, run, cache=cache, licence="CC0-1.0")
    facts = json.loads((run / "run.json").read_text())
    assert facts["packed"] == [2, recipe.stage2.steps] and facts["made_with"].startswith("torch ")
    (run / "run.json").unlink()  # as in a run from before there was one
    train(music, recipe, run, cache=cache)
    assert before[0] == package.read_bytes()
    Run(run, recipe).remember(**facts)


def test_equal_trainings_give_equal_models(
    default_run: tuple[Recipe, Path],
    music: Path,
    cache: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    train: Train,
) -> None:
    """On another machine, at another speed, with a licence that is said only once."""
    recipe, run = default_run
    monkeypatch.setattr("ravecodec.train.outcome.platform.machine", lambda: "abacus")
    monkeypatch.setattr(
        Trainer, "seconds", property(lambda self: 1e6, lambda self, value: None), raising=False
    )
    path = train(music, recipe, tmp_path, stage="1", cache=cache, licence="unstated")
    path = train(music, recipe, tmp_path, cache=cache)
    assert path.read_bytes() == next(run.glob("*.safetensors")).read_bytes()
    assert json.loads((tmp_path / "run.json").read_text())["training_seconds"] == 10**6


def test_a_run_can_be_lengthened_but_not_shortened(
    music: Path, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, train: Train
) -> None:
    """Also one whose recipe leaves the precision to the machine (which test_precision.py times)."""
    monkeypatch.setattr("ravecodec.train.trainer.resolved", lambda *_, **__: "float32")
    run = partial(train, music, out=tmp_path, cache=cache)
    short = SHORT.replace(stage1=Stage(1, 5e-3), stage2=Stage(1, 5e-4), bfloat16="auto")
    run(short, stage="1", licence="CC0-1.0")
    first = short.replace(stage1=Stage(3, 5e-3))
    assert load_package(run(first, stage="1")).info["steps"] == {"stage 1": 3}
    run(first)
    second = first.replace(stage2=Stage(2, 5e-4))
    info = load_package(run(second)).info
    assert info["steps"] == {"stage 1": 3, "stage 2": 2} and info["licence"] == "CC0-1.0"
    assert Recipe.from_dict(json.loads((tmp_path / "recipe.json").read_text())) == second
    with pytest.raises(UsageError, match="lengthened, not shortened"):
        run(first)
    with pytest.raises(UsageError, match="only stage 2 can be lengthened"):
        run(second.replace(stage1=Stage(9, 5e-3)))
    assert Recipe.from_dict(json.loads((tmp_path / "recipe.json").read_text())) == second
    with pytest.raises(UsageError, match="another recipe"):
        run(second.replace(stage2=Stage(9, 1e-4)))


def test_two_calls_on_one_folder_are_kept_apart(
    music: Path, cache: Path, tmp_path: Path, train: Train
) -> None:
    """By a lock that a dead process does not hold."""
    code = (
        "import os, sys; from pathlib import Path; from ravecodec.train.folder import held\n"
        "with held(Path(sys.argv[1])): print(os.getpid(), flush=True); sys.stdin.read()"
    )
    command = [sys.executable, "-c", code, str(tmp_path)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout is not None
        number = other.stdout.readline().strip()
        with pytest.raises(OutputError, match=f"process {number} trains in this folder"):
            train(music, SHORT, tmp_path, cache=cache)
        other.kill()
    with held(tmp_path):
        pass


def test_a_model_that_cannot_be_good_says_so(
    default_run: tuple[Recipe, Path], music: Path, cache: Path, tmp_path: Path, train: Train
) -> None:
    """Seconds of audio, a rate far from what was asked for, weights that were not taken over: in
    the model for good.
    """
    recipe, run = default_run
    info = load_package(next(run.glob("*.safetensors"))).info
    assert info["warnings"][:1] == ["trained on 6 s of audio only; an hour is a start"]
    wider = recipe.replace(
        model=replace(recipe.model, capacity=2 * recipe.model.capacity),
        stage1=Stage(1, 1e-6),
        rate_kbps=1e4,
    )
    said: list[str] = []
    start = partial(train, music, wider, tmp_path, stage="1", cache=cache, report=said.append)
    found = load_package(start(init_from=next(run.glob("*.safetensors")))).info["warnings"]
    assert any("% of the weights were not taken over from" in line for line in found)
    assert any("kbit/s, far below the 10000 asked for" in line for line in found)
    assert all(f"warning: {line}" in said for line in found)
    assert f"is written, with {len(found)} warnings" in said[-1]


def test_damaged_files_of_a_run_say_what_to_delete(
    music: Path, tmp_path: Path, train: Train
) -> None:
    quick = SHORT.replace(stage1=Stage(1, 5e-3))
    run = partial(train, music, quick, tmp_path, stage="1")
    package = run()
    good = {name: (tmp_path / name).read_bytes() for name in DAMAGEABLE}
    package.unlink()
    for name, data in good.items():
        lines = {b"[1]\n", b"\xff\n", b"{\n" * 9, b"[" * 100_000 + b"\n"}
        # Which are mended there.
        cuts = set() if name.endswith("jsonl") else {data[: len(data) // 2], data[:5000], b""}
        for bad in (cuts | lines) - {data}:
            (tmp_path / name).write_bytes(bad)
            with pytest.raises(
                (InputError, ModelError), match=rf"{name}: .*delete it.*lost"
            ) as caught:
                run()
            assert "\n" not in str(caught.value) and len(str(caught.value)) < 400
        (tmp_path / name).write_bytes(data)
    run()
    state = checkpoint(tmp_path)
    torch.save({"stage": 1}, tmp_path / "checkpoint.pt")
    package.unlink()
    with pytest.raises(ModelError, match="does not hold what this recipe needs; delete it"):
        run()
    assert state["step"] == 1


DAMAGEABLE = (
    "recipe.json",
    "run.json",
    "checkpoint.pt",
    "cache/settings.json",
    "cache/tracks.jsonl",
)


def test_training_may_start_from_a_package(
    uninterrupted: tuple[Recipe, Path], music: Path, cache: Path, tmp_path: Path, train: Train
) -> None:
    recipe, run = uninterrupted
    package = next(run.glob("*.safetensors"))
    trainer = Trainer(recipe, WORLD)
    loop.begin(trainer, Run(tmp_path / "probe", recipe), "all", package, lambda line: None)
    model = load_package(package)
    z = torch.randn(1, recipe.model.latent, 4, generator=torch.Generator().manual_seed(0))
    for network in (trainer.model, trainer.average):
        with torch.no_grad():
            pair = [n.eval().decode(z, Clock.at(0)) for n in (network, model.network)]
        assert torch.allclose(*pair, atol=1e-5)
    quick = recipe.replace(stage1=Stage(1, 5e-3), init_rate=1e-6, stage2=Stage(2, 1e-6), warmup=0)
    path = train(music, quick, tmp_path / "all", init_from=package, cache=cache)
    info, whole = load_package(path).info, path.read_bytes()
    assert info["steps"] == {"stage 1": 1, "stage 2": 2}
    assert info["recipe"]["stage1"]["rate"] == 1e-6
    train(music, quick, tmp_path / "all", init_from=package, cache=cache)  # the same run
    assert path.read_bytes() == whole
    train(music, quick, tmp_path / "two", stage="2", init_from=package, cache=cache)
    assert history(tmp_path / "two", 1) == []
    assert len(history(tmp_path / "two", 2)) == 2


def test_stage2_without_a_discriminator_learns_on_the_distance_alone(
    music: Path, cache: Path, tmp_path: Path, train: Train
) -> None:
    recipe = SHORT.replace(
        stage1=Stage(1, 5e-3),
        stage2=Stage(4, 1e-3),
        adversarial=0.0,
        feature_matching=0.0,
        warmup=0,
    )
    train(music, recipe, tmp_path, cache=cache)
    assert len(history(tmp_path, 2, "spectral")) == 4
    assert not any("critic" in line for line in (tmp_path / "log.jsonl").read_text().splitlines())
    state = torch.load(tmp_path / "checkpoint.pt", weights_only=True)
    assert not state["discriminator_optimiser"]["state"]
    assert state["generator_optimiser"]["state"]


def test_a_package_of_another_depth_is_taken_over_with_a_warning(
    uninterrupted: tuple[Recipe, Path], tmp_path: Path
) -> None:
    recipe, run = uninterrupted
    config = recipe.model
    deeper = recipe.replace(
        model=replace(config, blocks=(*config.blocks[:-1], 3), dilations=(1, 3, 9, 27))
    )
    trainer, told = Trainer(deeper, WORLD), []
    package = next(run.glob("*.safetensors"))
    loop.begin(trainer, Run(tmp_path, deeper), "all", package, told.append)
    (warning,) = told
    assert "blocks" in warning and "dilations" in warning
    assert int(warning.split("; ")[1].split()[0]) > 0
    z = torch.randn(1, config.latent, 4, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        pair = [
            n.eval().decode(z, Clock.at(0)) for n in (trainer.model, load_package(package).network)
        ]
    assert recipe is PAPER or torch.allclose(*pair, atol=1e-5)


def test_a_package_of_another_architecture_is_refused(
    uninterrupted: tuple[Recipe, Path], music: Path, cache: Path, tmp_path: Path, train: Train
) -> None:
    recipe, run = uninterrupted
    other = PAPER if recipe is SHORT else SHORT
    with pytest.raises(ModelError, match="none of its weights fit this model config"):
        train(
            music,
            other,
            tmp_path,
            init_from=next(run.glob("*.safetensors")),
            cache=cache,
        )
    with pytest.raises(ModelError, match="no such model file"):
        train(
            music,
            recipe,
            tmp_path / "b",
            init_from=tmp_path / "x.safetensors",
            cache=cache,
        )


def test_calls_that_make_no_sense_are_refused(
    music: Path, cache: Path, tmp_path: Path, train: Train
) -> None:
    run = partial(train, music, cache=cache)
    with pytest.raises(UsageError, match="expected one of"):
        run(SHORT, tmp_path, stage="3")
    with pytest.raises(UsageError, match="stage 2 needs a stage 1"):
        run(SHORT, tmp_path, stage="2")
    with pytest.raises(UsageError, match="another recipe"):
        run(SHORT.replace(batch=3), tmp_path)
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="cannot be made"):
        run(SHORT, tmp_path / "file")
    with pytest.raises(InputError, match="no such folder"):
        train(tmp_path / "nowhere", SHORT, tmp_path / "run")


def test_a_run_from_before_a_recipe_key_existed_goes_on(tmp_path: Path) -> None:
    Run(tmp_path, SHORT)
    path = tmp_path / "recipe.json"
    path.write_text(
        json.dumps({k: v for k, v in json.loads(path.read_text()).items() if k != "allpass"})
    )
    Run(tmp_path, SHORT)
    with pytest.raises(UsageError, match="another recipe"):
        Run(tmp_path, SHORT.replace(allpass=0.8))


def test_a_damaged_checkpoint_is_a_model_error(
    music: Path, cache: Path, tmp_path: Path, train: Train
) -> None:
    Run(tmp_path, SHORT)
    for data in (b"", b"not a checkpoint", b"PK\x03\x04" + bytes(100)):
        (tmp_path / "checkpoint.pt").write_bytes(data)
        with pytest.raises(ModelError, match="cannot be read as a checkpoint; delete it"):
            train(music, SHORT, tmp_path, cache=cache)


@pytest.mark.parametrize("stage", ["stage1", "stage2"])
def test_divergence_stops_the_run_before_it_spoils_the_checkpoint(
    music: Path,
    cache: Path,
    tmp_path: Path,
    stage: str,
    train: Train,
    quick_training: Overhead,
) -> None:
    wild = SHORT.replace(stage1=Stage(2, 5e-3)).replace(**{stage: Stage(50, 1e25)}, warmup=0)
    with pytest.raises(
        InputError, match=rf"diverged at stage {stage[-1]} step \d+ .*learning rate"
    ):
        often = replace(quick_training, checkpoint_seconds=0.0)
        train(music, wild, tmp_path, cache=cache, overhead=often)
    assert all(not value.isnan().any() for _, value in tensors(checkpoint(tmp_path)))


@pytest.mark.parametrize("recipe", [SHORT, PAPER], ids=["default", "paper"])
def test_silence_gives_finite_losses(recipe: Recipe) -> None:
    trainer = Trainer(recipe, WORLD)
    audio = torch.zeros(recipe.batch, 2, recipe.crop_frames * recipe.model.hop)
    log = stage1_step(trainer, audio)
    assert all(np.isfinite(value) for value in log.values())
    assert all(p.isfinite().all() for p in trainer.model.parameters())


def test_learning_rate_warms_up_and_decays_to_a_twentieth() -> None:
    stage = Stage(1000, 1e-3)
    rates = [learning_rate(stage, step) for step in range(1001)]
    assert rates[0] == pytest.approx(1e-5, rel=0.01)
    assert max(rates) < 1e-3 and rates[100] == pytest.approx(1e-3, rel=0.05)
    assert np.all(np.diff(rates[:99]) > 0) and np.all(np.diff(rates[100:]) < 0)
    assert rates[-1] == pytest.approx(5e-5)


def test_beta_rises_while_the_rate_is_too_high() -> None:
    beta = stages.Beta(SHORT.replace(target_kbps=2.0, beta=0.5), frame_rate=10)  # 200 bits a frame
    beta.follow(400)
    assert beta.value == pytest.approx(0.505)
    beta.follow(200)
    assert beta.value == pytest.approx(0.505)
    beta.follow(0)
    assert beta.value == pytest.approx(0.505 * 0.99)
    constant = stages.Beta(SHORT.replace(target_kbps=0, beta=0.5), frame_rate=10)
    constant.follow(1e9)
    assert constant.value == 0.5


def test_windows_of_a_step_are_drawn_from_the_recipe() -> None:
    recipe = TINY.replace(windows=(4096, 1024, 256), windows_per_step=2)
    random = torch.Generator().manual_seed(0)
    drawn = [stages.pick_windows(recipe, random) for _ in range(50)]
    assert all(len(set(windows)) == 2 for windows in drawn)
    assert {window for windows in drawn for window in windows} == {4096, 1024, 256}
    assert stages.pick_windows(recipe.replace(windows_per_step=0), random) == [4096, 1024, 256]


def test_spectra_of_training_lie_on_a_random_grid_and_those_of_validation_do_not(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Up to a hop of the longest window is skipped, a function of the step; the paper's distance
    skips none.
    """
    whole, heard = stages.stereo_distance, []

    def noted(
        target: Tensor, output: Tensor, windows: list[int], rate: int, transport: float
    ) -> Tensor:
        heard.append((target.shape, output.shape, max(windows)))
        return whole(target, output, windows, rate, transport=transport)

    monkeypatch.setattr(stages, "stereo_distance", noted)
    trainer = Trainer(SHORT, WORLD)
    crops = cached_crops(cache, SHORT, seed=1)
    audio = crops.batch(0, 2)
    for trainer.step in (0, 1, 0):
        stage1_step(trainer, audio)
    validate(trainer, crops, 4)
    full = (SHORT.crop_frames - sum(trainer.valid.total)) * SHORT.model.hop
    assert all(real == fake for real, fake, _ in heard)
    skipped = [full - real[-1] for real, _, _ in heard]
    assert skipped[0] == skipped[2] != skipped[1] and min(skipped[:3]) > 0
    assert set(skipped[3:]) == {0}

    random = torch.Generator().manual_seed(0)
    drawn = [stages.pick_grid(SHORT, [4096, 256], random) for _ in range(2000)]
    assert min(drawn) < 10 and 1014 <= max(drawn) < 1024
    before = random.get_state()
    assert stages.pick_grid(PAPER, PAPER.windows, random) == 0 and torch.equal(
        random.get_state(), before
    )


def test_stage2_hears_what_is_sent_or_what_is_sampled(cache: Path) -> None:
    """`quantised`: the latents come from the sender; without it from the posterior, and the sender
    is not asked.
    """
    crops = cached_crops(cache, SHORT, seed=1)
    trainer, audio, asked = Trainer(SHORT, WORLD), crops.batch(0, 2), []

    def sender(mean: Tensor, step: int, clock: Clock) -> Tensor:
        asked.append(step)
        return mean + 1

    outputs = []
    for quantised in (True, False, False):
        recipe = SHORT.replace(quantised=quantised)
        random = torch.Generator().manual_seed(0)
        objective = stages.Objective(recipe, trainer.valid)
        decoded = stages.stage2_output(trainer.model, objective, sender, audio, 7, random)
        outputs.append(decoded.audio)
    assert asked == [7]
    assert torch.equal(outputs[1], outputs[2]) and not torch.equal(outputs[0], outputs[1])


def test_the_average_trails_the_model_and_copies_its_statistics() -> None:
    trainer = Trainer(PAPER, WORLD)
    trainer.step = 100_000
    before = [p.clone() for p in trainer.average.parameters()]
    with torch.no_grad():
        for parameter in trainer.model.parameters():
            parameter += 1
        trainer.model.encoder.network[1].running_mean.fill_(7)
    trainer.update_average()
    for old, new in zip(before, trainer.average.parameters(), strict=True):
        assert torch.allclose(new - old, torch.full_like(old, 0.001), atol=1e-5)
    assert float(trainer.average.encoder.network[1].running_mean.mean()) == 7
    assert not any(p.requires_grad for p in trainer.average.parameters())


def test_without_an_average_the_last_weights_count() -> None:
    trainer = Trainer(PAPER.replace(average=0.0), WORLD)
    trainer.step = 1
    with torch.no_grad():
        for parameter in trainer.model.parameters():
            parameter += 1
    trainer.update_average()
    for mine, theirs in zip(trainer.average.parameters(), trainer.model.parameters(), strict=True):
        assert torch.equal(mine, theirs)


def test_what_the_sender_sends_is_what_a_decoder_receives(
    default_run: tuple[Recipe, Path],
) -> None:
    """A function of (seed, step); quantised with the codec's own steps, so close to the means it
    was given.
    """
    _, run = default_run
    model = load_package(next(run.glob("*.safetensors")))
    latent = model.latent
    axes = np.random.default_rng(0).normal(size=(2, 9, len(latent.mean))) * latent.prior
    mean = torch.from_numpy(latent.unproject(axes).astype(np.float32)).transpose(1, 2)
    clock = Clock(torch.tensor([5, 600]), torch.tensor([1, 2]))
    sender = stages.Sender(latent, model.coding, seed=3)
    sent = sender(mean, 7, clock)
    assert sent.shape == mean.shape and sent.dtype == torch.float32
    assert torch.equal(sent, stages.Sender(latent, model.coding, seed=3)(mean, 7, clock))
    assert not torch.equal(sent, sender(mean, 8, clock))
    first = latent.project(sent.transpose(1, 2).numpy().astype(float))[..., 0] - axes[..., 0]
    coarsest = model.coding.base[0] * 2 ** ((model.coding.step_index + sender.LADDER[1]) / 8)
    assert np.abs(first).max() <= coarsest


def test_random_clocks_are_places_in_a_stream() -> None:
    clock = stages.random_clock(1000, torch.Generator().manual_seed(0), WORLD.device)
    assert clock.frame.shape == clock.seed.shape == (1000,)
    assert int(clock.frame.min()) >= 0 and int(clock.frame.max()) < stages.MAX_CLOCK
    assert len(clock.frame.unique()) > 990 and not torch.equal(clock.frame, clock.seed)


def test_two_trainers_begin_alike() -> None:
    first, second = (Trainer(SHORT, WORLD) for _ in range(2))
    other = Trainer(SHORT.replace(seed=1), WORLD)
    assert all(
        torch.equal(a, b)
        for a, b in zip(first.model.parameters(), second.model.parameters(), strict=True)
    )
    assert isinstance(other.model, Rave)
    assert not torch.equal(first.model.encoder.head.weight, other.model.encoder.head.weight)
    draws = [torch.rand(3, generator=trainer.randomness()) for trainer in (first, second, other)]
    assert torch.equal(draws[0], draws[1]) and not torch.equal(draws[0], draws[2])


def test_tensorboard_gets_what_the_log_gets(tmp_path: Path) -> None:
    reader = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    run = Run(tmp_path, SHORT)
    run.log({"stage": 1, "step": 7, "spectral": 1.5, "kbps": 2.0})
    run.log({"stage": 2, "step": 3, "validation": 1.25})
    run.log({"stage": 1, "step": 8, "advice": "lower beta"})
    events = reader.EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    found = {
        tag: [(e.step, e.value) for e in events.Scalars(tag)] for tag in events.Tags()["scalars"]
    }
    assert found == {
        "stage 1/spectral": [(7, 1.5)],
        "stage 1/kbps": [(7, 2.0)],
        "stage 2/validation": [(3, 1.25)],
    }
    [text] = events.Tensors("stage 1/advice/text_summary")
    assert text.step == 8 and text.tensor_proto.string_val == [b"lower beta"]


def test_a_folder_without_a_run_is_not_trained_in(
    music: Path, tmp_path: Path, train: Train
) -> None:
    """What a foreign folder holds stays, bit for bit, whatever it is called."""
    for number, names in enumerate(
        (["notes.txt"], ["log.jsonl"], ["checkpoint.pt", "cache/x"], ["lock", "recipe.json"])
    ):
        out = tmp_path / str(number)
        for name in names:
            (out / name).parent.mkdir(parents=True, exist_ok=True)
            (out / name).write_text("precious")
        with pytest.raises(OutputError, match="is there and no training run"):
            train(music, SHORT, out)
        assert sorted(
            p.relative_to(out).as_posix() for p in out.rglob("*") if p.is_file()
        ) == sorted(names)
        assert all((out / name).read_text() == "precious" for name in names)
        check_folder(out, force=True)


def test_a_run_stays_one_when_files_of_it_are_deleted(tmp_path: Path) -> None:
    """As the sentences about damaged files advise; also what is left of a run that was killed at
    once.
    """
    check_folder(tmp_path / "new")
    check_folder(tmp_path)
    with held(tmp_path):
        Run(tmp_path, SHORT)
    check_folder(tmp_path)
    (tmp_path / "recipe.json").unlink()
    check_folder(tmp_path)
    (tmp_path / "lock").write_text("")
    check_folder(tmp_path)
    (tmp_path / "lock").unlink()
    (tmp_path / "cache").mkdir()
    check_folder(tmp_path)


def test_a_cache_does_not_cut_a_file_that_it_did_not_make(music: Path, tmp_path: Path) -> None:
    for name in ("audio.i16", "tracks.jsonl"):
        cache = tmp_path / name
        cache.mkdir()
        (cache / name).write_text("precious")
        with pytest.raises(InputError, match=f"holds {name} and no settings.json"):
            build_cache(music, cache, 48000, 1)
        assert (cache / name).read_text() == "precious" and [p.name for p in cache.iterdir()] == [
            name
        ]


def test_what_is_packed_plays_at_the_level_of_its_originals() -> None:
    """Most crops decide; silence does not, and nothing is turned up without end."""
    valid = stages.Valid((0, 0), (1, 1))
    original = torch.randn(4, 2, 800)
    gains = torch.tensor([0.5, 0.5, 0.25, 0.0])[:, None, None]
    output = original * gains
    output[..., :100] = output[..., -100:] = 9.0  # outside of what counts
    heard = [validation.Reconstruction(original, output, torch.zeros(1), 0.0)]
    assert validation.level_gain(heard, valid, 100) == pytest.approx(10 ** (6 / 20))
    louder = [validation.Reconstruction(original, 1.2 * original, torch.zeros(1), 0.0)]
    assert validation.level_gain(louder, valid, 100) == pytest.approx(1 / 1.2)
    assert validation.level_gain([], valid, 100) == 1.0


def test_turning_up_is_a_gain() -> None:
    for channels, noise in ((1, False), (2, True)):
        config = ModelConfig(
            channels=channels,
            encoder="spectrogram",
            generator="istft",
            capacity=8,
            latent=16,
            lines=128,
            noise=noise,
        )
        torch.manual_seed(0)
        network = Rave(config).eval()
        latents, clock = (
            torch.randn(1, 16, 6),
            Clock(torch.zeros(1, dtype=torch.long), torch.ones(1, dtype=torch.long)),
        )
        with torch.no_grad():
            before = network.decode(latents, clock)
            network.generator.turn_up(2.0)
            after = network.decode(latents, clock)
        assert torch.allclose(after, 2 * before, rtol=1e-3, atol=1e-5 * float(after.abs().max()))
