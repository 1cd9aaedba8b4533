"""Tiny untrained models, made once per session, and signals to feed them with."""

import signal
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from ravecodec.bitstream import fit_static
from ravecodec.models.config import ModelConfig
from ravecodec.models.latent import analyse
from ravecodec.models.package import Coding, Model, load_package, save_package
from ravecodec.models.rave import Rave

Audio = NDArray[np.float32]

if (
    signal.getsignal(signal.SIGINT) is signal.SIG_IGN
):  # as in a background job of a script, whose children inherit it
    signal.signal(signal.SIGINT, signal.default_int_handler)

STEREO = ModelConfig(
    channels=2, encoder="spectrogram", generator="istft", capacity=8, latent=16, lines=128
)
MONO = ModelConfig(channels=1, capacity=4, latent=8)
LICENCE = "CC0-1.0"


def play(samples: int, channels: int = 2, rate: int = 44_100, seed: int = 0) -> Audio:
    """Chords that change, with noise and pauses: float32 [channels, samples] within +-0.8."""
    rng = np.random.default_rng(seed)
    time = np.arange(samples) / rate
    pitch = 110 * 2 ** (np.floor(time * 3) % 7 / 7)
    tones = sum(np.sin(2 * np.pi * pitch * k * time) / k for k in (1, 2, 3))
    loud = 0.5 * (1 + np.sign(np.sin(2 * np.pi * 0.7 * time)))
    sides = [
        tones * (0.2 + 0.1 * side) + 0.05 * rng.standard_normal(samples) for side in range(channels)
    ]
    return (np.stack(sides) * loud).clip(-0.8, 0.8).astype(np.float32)


def write_model(path: Path, config: ModelConfig, seed: int = 0) -> None:
    """A package of a random network whose symbols spread over several values."""
    torch.manual_seed(seed)
    network = Rave(config).eval()
    audio = play(config.hop * 160, config.channels, config.sample_rate)
    with torch.inference_mode():
        mean, spread = (z[0].T.numpy() for z in network.encode(torch.from_numpy(audio)[None]))
    latent = analyse(mean, spread)
    base = np.maximum(latent.deviation, 1e-6 * latent.deviation[0]) / 3
    static = fit_static(np.rint(latent.project(mean) / base).astype(np.int32))
    coding = Coding(base, static.shapes, static.scales, config.latent - 2, 0, True)
    save_package(path, network, latent, coding, path.stem, {"licence": LICENCE}, torch.float32)


@pytest.fixture(scope="session")
def music() -> Callable[..., Audio]:
    """`play`: float32 [channels, samples] of (samples, channels=2, rate=44100, seed=0)."""
    return play


@pytest.fixture(scope="session")
def make_model() -> Callable[..., None]:
    """`write_model`: a package of a random network at (path, config, seed=0)."""
    return write_model


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with two models: `default` (stereo, default preset's family) and `paper` (mono,
    paper's family).
    """
    folder = tmp_path_factory.mktemp("models")
    write_model(folder / "default.safetensors", STEREO)
    write_model(folder / "paper.safetensors", MONO)
    return folder


@pytest.fixture(scope="session", params=["default", "paper"])
def any_model(request: pytest.FixtureRequest, model_folder: Path) -> Model:
    """Each of the two models, loaded."""
    return load_package(model_folder / f"{request.param}.safetensors")


@pytest.fixture(scope="session")
def stereo_model(model_folder: Path) -> Model:
    """`default`, loaded."""
    return load_package(model_folder / "default.safetensors")


@pytest.fixture(scope="session")
def mono_model(model_folder: Path) -> Model:
    """`paper`, loaded."""
    return load_package(model_folder / "paper.safetensors")


@pytest.fixture
def installed(model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The two models are found by name; nothing of this machine's user is.

    Returns the (empty) user's data folder.
    """
    home = tmp_path / "home"
    monkeypatch.setenv("RAVECODEC_MODELS", str(model_folder))
    for name in ("XDG_DATA_HOME", "HOME", "LOCALAPPDATA"):
        monkeypatch.setenv(name, str(home))
    monkeypatch.setattr("ravecodec.zoo.shipped_folder", lambda: home / "nothing shipped")
    return home


@pytest.fixture
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Sets the samples that the codec's networks compute at a time."""
    return lambda samples: monkeypatch.setattr("ravecodec.analysis.BLOCK_SAMPLES", samples)


@pytest.fixture(autouse=True, scope="session")
def one_thread() -> None:
    """Networks this small are fastest on one thread, and far slower where several fight for busy
    cores.
    """
    torch.set_num_threads(1)
