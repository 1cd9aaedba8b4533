"""Several processes: averaged gradients are those of one process with all audio, and a run comes
out as one model.
"""

import json
import os
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from torch import Tensor

from ravecodec.errors import UsageError
from ravecodec.models.clock import Clock
from ravecodec.models.package import load_package
from ravecodec.train import stages
from ravecodec.train.overhead import Overhead
from ravecodec.train.parallel import World, gather
from ravecodec.train.recipe import Stage, load_recipe
from ravecodec.train.trainer import Trainer

pytest.importorskip("lightning_fabric")

RECIPE = load_recipe("tiny").replace(
    stage1=Stage(3, 5e-3), stage2=Stage(2, 5e-4), warmup=0, validate_every=2
)


def gradients(trainer: Trainer, audio: Tensor) -> list[Tensor]:
    """Of S without posterior noise, by parameter."""
    model = trainer.model
    places = torch.zeros(len(audio), dtype=torch.int64)
    bands = model.decode_bands(model.encode(audio)[0], Clock(places, places))
    decoded = stages.Decoded(bands, model.pqmf.synthesis(bands))
    objective = trainer.objective
    objective.distance(model, audio, decoded, objective.all_spectra()).backward()
    found = [p.grad for p in model.parameters() if p.grad is not None]
    trainer.world.average(found)
    return found


def noise() -> Tensor:
    shape = (2, 2, RECIPE.crop_frames * RECIPE.model.hop)
    return 0.1 * torch.randn(shape, generator=torch.Generator().manual_seed(1))


GRADIENTS = """
import sys, torch
sys.path.insert(0, sys.argv[1])
from test_parallel import RECIPE, gradients, noise
from ravecodec.train.parallel import gather
from ravecodec.train.trainer import Trainer
torch.set_num_threads(1)
world = gather("cpu", 2)
trainer = Trainer(RECIPE, world)
mine = gradients(trainer, noise()[world.rank : world.rank + 1])
said = {"size": world.size, "any": world.any(world.rank == 1), "gradients": mine}
torch.save(said, f"{sys.argv[2]}/{world.rank}.pt")
"""
TRAIN = """
import json, sys, torch
from pathlib import Path
from ravecodec.train import loop
from ravecodec.train.overhead import Overhead
from ravecodec.train.recipe import Recipe
torch.set_num_threads(1)
recipe, overhead, music, out = sys.argv[1:]
def say(line):
    # At once: print writes the end of a line by itself, and two processes write here.
    sys.stdout.write(f"{line}\\n")
overhead = Overhead(**json.loads(overhead))
how = {"device": "cpu", "devices": 2, "report": say, "overhead": overhead}
say(loop.train(Path(music), Recipe.from_dict(json.loads(recipe)), Path(out), **how))
"""


def run(script: str, path: Path, *arguments: object) -> str:
    """Standard output of a script that starts a process beside itself."""
    path.write_text(script)
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(path), *map(str, arguments)]
    done = subprocess.run(
        command, env=environment, check=False, timeout=300, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_averaged_gradients_are_those_of_the_joined_batch(tmp_path: Path) -> None:
    run(GRADIENTS, tmp_path / "script.py", Path(__file__).parent, tmp_path)
    pair = [torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in (0, 1)]
    assert [part["size"] for part in pair] == [2, 2] and all(part["any"] for part in pair)
    wanted = gradients(Trainer(RECIPE, World(torch.device("cpu"))), noise())
    assert len(wanted) == len(pair[0]["gradients"]) > 20
    for first, second, joined in zip(
        pair[0]["gradients"], pair[1]["gradients"], wanted, strict=True
    ):
        assert torch.equal(first, second)
        assert float((first - joined).norm()) <= 1e-3 * float(joined.norm()) + 1e-7


def test_two_processes_train_one_model(tmp_path: Path, quick_training: Overhead) -> None:
    music, out = tmp_path / "music", tmp_path / "run"
    music.mkdir()
    time = np.arange(3 * 48_000) / 48_000
    for i, hertz in enumerate((220, 330)):
        soundfile.write(
            music / f"{i}.flac", np.stack([0.3 * np.sin(2 * np.pi * hertz * time)] * 2, 1), 48_000
        )
    how = [json.dumps(values) for values in (RECIPE.to_dict(), asdict(quick_training))]
    said = run(TRAIN, tmp_path / "script.py", *how, music, out)
    assert said.count(f"{out / 'tiny.safetensors'}\n") == 2  # both say where it is
    assert said.count("latent space:") == 1  # one reports
    assert load_package(out / "tiny.safetensors").info["steps"] == {"stage 1": 3, "stage 2": 2}
    lines = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines if line["stage"] == 1 and "spectral" in line] == [
        1,
        2,
        3,
    ]


def test_what_cannot_be_had_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "lightning_fabric", None)
    assert gather("cpu").size == 1
    with pytest.raises(UsageError, match=r"pip install 'ravecodec\[distributed\]'"):
        gather("cpu", 2)
