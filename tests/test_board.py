"""TensorBoard: what it shows of a run says what it is, and comes through the real quantiser as soon
as there is one.
"""

import io
import resource
import signal
import sys
from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch

from ravecodec.errors import OutputError
from ravecodec.models.clock import Clock
from ravecodec.models.package import load_package
from ravecodec.train import loop
from ravecodec.train.board import POSTERIOR, QUANTISED, Board, is_shown
from ravecodec.train.cache import read_index
from ravecodec.train.data import Crops, split
from ravecodec.train.overhead import Overhead
from ravecodec.train.parallel import World
from ravecodec.train.recipe import Stage, load_recipe
from ravecodec.train.stages import Sender
from ravecodec.train.trainer import Trainer
from ravecodec.train.validation import FIRST_CROP, Reconstruction

reader = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")

RATE = 48_000
RECIPE = load_recipe("tiny").replace(
    stage1=Stage(8, 2e-2), stage2=Stage(3, 5e-4), warmup=1, validate_every=4
)
LENGTH = RECIPE.crop_frames * RECIPE.model.hop
EXCERPTS = 3  # of two batches


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, quick_training: Overhead) -> Path:
    """A finished run on two tracks, validated at steps 4 and 8 of stage 1 and at step 3 of stage
    2.
    """
    music, out = tmp_path_factory.mktemp("music"), tmp_path_factory.mktemp("run")
    time = np.arange(3 * RATE) / RATE
    for hertz in (220, 330):
        sound = 0.3 * np.sin(2 * np.pi * hertz * time) * (1 + np.sin(9 * time))
        soundfile.write(music / f"{hertz}.flac", np.stack([sound, 0.5 * sound], 1), RATE)
    shown = replace(quick_training, excerpts=EXCERPTS, pictures=True)
    loop.train(music, RECIPE, out, device="cpu", overhead=shown)
    return out


def events(run: Path) -> Any:
    found = reader.EventAccumulator(
        str(run / "tensorboard"), size_guidance={"images": 0, "audio": 0, "histograms": 0}
    )
    return found.Reload()


def wave(event: Any) -> np.ndarray:
    """[channels, samples] of an audio event."""
    audio, rate = soundfile.read(io.BytesIO(event.encoded_audio_string), dtype="float32")
    assert rate == event.sample_rate == RATE and len(audio) == event.length_frames
    return audio.T


def validation_crops(run: Path) -> torch.Tensor:
    """The audio of the excerpts [EXCERPTS, channels, samples]."""
    held = split(read_index(run / "cache" / "tracks.jsonl"))[1]
    crops = Crops(run / "cache", held, channels=2, length=LENGTH, seed=RECIPE.seed + 1)
    batches = [
        crops.batch(FIRST_CROP + first, RECIPE.batch)
        for first in range(0, EXCERPTS + 1, RECIPE.batch)
    ]
    return torch.cat(batches)[:EXCERPTS]


def test_every_validation_has_the_bits_of_every_latent(run: Path) -> None:
    found = events(run)
    for stage, steps in ((1, [4, 8]), (2, [3])):
        histograms = found.Histograms(f"stage {stage}/KL per latent, bits")
        assert [event.step for event in histograms] == steps
        rates = {
            event.step: event.value for event in found.Scalars(f"stage {stage}/validation_kbps")
        }
        for event in histograms:
            value = event.histogram_value
            assert value.num == RECIPE.model.latent
            assert value.sum * RECIPE.model.frame_rate / 1000 == pytest.approx(
                rates[event.step], rel=1e-4
            )


def test_excerpts_are_the_same_ones_before_and_after_and_say_what_they_went_through(
    run: Path,
) -> None:
    pytest.importorskip("matplotlib")
    found, originals = events(run), validation_crops(run)
    kinds = {
        f"stage 1, {POSTERIOR}": [4, 8],
        f"stage 2, {QUANTISED}": [3],
        f"finished, {QUANTISED}": [3],
    }
    tags = {f"{kind}/excerpt {i}" for kind in kinds for i in range(1, EXCERPTS + 1)}
    curves = {"stage 1/KL per latent", "stage 2/KL per latent", "latents/fidelity curve"}
    assert set(found.Tags()["images"]) == tags | curves
    for kind, steps in kinds.items():
        for i, original in enumerate(originals, 1):
            pictures = found.Images(f"{kind}/excerpt {i}")
            assert [event.step for event in pictures] == steps
            assert all(event.encoded_image_string.startswith(b"\x89PNG") for event in pictures)
            for event in found.Audio(f"{kind}/excerpt {i}, original"):
                assert np.abs(wave(event) - original.numpy()).max() < 1e-4
            decoded = [wave(event) for event in found.Audio(f"{kind}/excerpt {i}, decoded")]
            assert all(audio.shape == original.shape and audio.std() > 1e-4 for audio in decoded)
            assert all(not np.array_equal(a, b) for a, b in pairwise(decoded))


def test_finished_excerpts_went_through_the_quantiser_of_the_package(run: Path) -> None:
    """And through the network as it was before its weights were rounded for the package."""
    model, crop = load_package(next(run.glob("*.safetensors"))), validation_crops(run)[:1]
    trainer = Trainer(RECIPE, World(torch.device("cpu")))
    trainer.restore(torch.load(run / "checkpoint.pt", weights_only=True))
    network = trainer.finished()
    packed, own = (x.generator.line_head.bias for x in (model.network, network))
    network.generator.turn_up((packed - own).mean().exp().item())  # to the level that was packed
    heard = wave(events(run).Audio(f"finished, {QUANTISED}/excerpt 1, decoded")[0])
    clock = Clock(torch.zeros(1, dtype=torch.long), torch.zeros(1, dtype=torch.long))
    with torch.no_grad():
        mean, _ = network.encode(crop)
        sent = Sender(model.latent, model.coding, 0).at_default(mean, clock)
        quantised, means = (network.decode(z, clock)[0].numpy() for z in (sent, mean))
    assert np.abs(heard - quantised).max() < 5e-4 < 3 * np.std(heard - means)


def test_the_fidelity_curve_counts_dims(run: Path) -> None:
    latent = load_package(next(run.glob("*.safetensors"))).latent
    curve = [(event.step, event.value) for event in events(run).Scalars("latents/fidelity")]
    assert [dims for dims, _ in curve] == list(range(1, RECIPE.model.latent + 1))
    assert [value for _, value in curve] == pytest.approx(
        [latent.fidelity(dims) for dims, _ in curve], abs=1e-4
    )


def test_pictures_become_rare() -> None:
    assert [n for n in range(1, 200) if is_shown(n)] == [1, 2, 4, 8, 16, 32, 64, 128, 192]


def some_batches() -> Iterator[Reconstruction]:
    """Two batches of two crops."""
    for _ in range(2):
        yield Reconstruction(
            0.1 * torch.randn(2, 2, 9000), 0.1 * torch.randn(2, 2, 9000), torch.rand(8), 1.0
        )


def show_all(run: Path, latent: Any, **options: Any) -> None:
    shown, heard = Board(run, **options), list(some_batches())
    shown.log({"stage": 1, "step": 7, "spectral": 1.5})
    shown.validation(1, 7, number=3, last=False, rate=RATE, batches=heard)
    shown.validation(1, 8, number=3, last=True, rate=RATE, batches=heard)
    shown.latents(latent, 5)
    shown.finished(9, RATE, heard)


def test_without_matplotlib_there_are_no_pictures(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    show_all(tmp_path, load_package(next(run.glob("*.safetensors"))).latent)
    found = events(tmp_path)
    assert found.Tags()["images"] == []
    assert [event.step for event in found.Histograms("stage 1/KL per latent, bits")] == [7, 8]
    assert [event.step for event in found.Audio(f"stage 1, {POSTERIOR}/excerpt 3, decoded")] == [8]
    assert [event.step for event in found.Audio(f"finished, {QUANTISED}/excerpt 3, decoded")] == [9]
    assert len(found.Scalars("latents/fidelity")) == RECIPE.model.latent


def test_pictures_and_excerpts_are_as_many_as_wished(run: Path, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    latent = load_package(next(run.glob("*.safetensors"))).latent
    kinds = (f"stage 1, {POSTERIOR}", f"finished, {QUANTISED}")
    for excerpts, pictures in ((0, True), (1, False), (2, True)):
        folder = tmp_path / str(excerpts)
        show_all(folder, latent, excerpts=excerpts, pictures=pictures)
        tags = events(folder).Tags()
        names = {f"{kind}/excerpt {i}" for kind in kinds for i in range(1, excerpts + 1)}
        sounds = {f"{name}, {which}" for name in names for which in ("original", "decoded")}
        curves = {"stage 1/KL per latent", "latents/fidelity curve"}
        assert set(tags["audio"]) == sounds
        assert set(tags["images"]) == (names | curves if pictures else set())


def test_without_tensorboard_nothing_is_written_or_computed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    show_all(tmp_path, None)
    heard = some_batches()
    Board(tmp_path).finished(9, RATE, heard)
    assert len(list(heard)) == 2
    assert list(tmp_path.iterdir()) == []


# TensorBoard's own thread.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_full_disk_is_an_output_error(tmp_path: Path) -> None:
    shown = Board(tmp_path)
    shown.log({"stage": 1, "step": 0, "spectral": 1.5})
    handler, limit = (
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN),
        resource.getrlimit(resource.RLIMIT_FSIZE),
    )
    resource.setrlimit(resource.RLIMIT_FSIZE, (500, limit[1]))
    try:
        with pytest.raises(
            OutputError, match=r"tensorboard: cannot be written \(.*free some space"
        ):
            for step in range(100):
                shown.log({"stage": 1, "step": step, "spectral": 1.5})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
        signal.signal(signal.SIGXFSZ, handler)
