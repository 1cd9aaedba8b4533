"""Tiny untrained models, made once per session, and signals to feed them with."""

import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, settings

from ravecodec.audio import Audio
from ravecodec.bitstream import fit_static
from ravecodec.models.config import ModelConfig
from ravecodec.models.latent import analyse
from ravecodec.models.package import Coding, Model, load_package, save_package
from ravecodec.models.rave import Rave
from ravecodec.train.overhead import Overhead

if (
    signal.getsignal(signal.SIGINT) is signal.SIG_IGN
):  # as in a background job of a script, whose children inherit it
    signal.signal(signal.SIGINT, signal.default_int_handler)

# A busy machine is slow, and no test asks for speed.
settings.register_profile("untimed", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("untimed")

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


@pytest.fixture(scope="module")
def quick_training() -> Iterator[Overhead]:
    """For trainings that report after every step and do little beside their steps: they validate on
    two batches, show one excerpt and no pictures, analyse few latents, and measure a short curve of
    rate and quality on little audio. They run on one thread, where results repeat.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield Overhead(
        report_seconds=0.0,
        validation_crops=4,
        excerpts=1,
        pictures=False,
        analysis_frames=300,
        curve_steps=(12, 0, -12),
        curve_excerpts=2,
    )
    torch.set_num_threads(threads)


@pytest.fixture
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Sets the samples that the codec's networks compute at a time."""
    return lambda samples: monkeypatch.setattr("ravecodec.analysis.BLOCK_SAMPLES", samples)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """The machine's own Chromium, headless, as a `playwright.sync_api.Browser`; a test that asks
    for it is skipped where Chromium or Playwright is missing.

    Closed at the end of a module: while Playwright runs, no test can start a loop of asyncio.
    """
    driver = pytest.importorskip("playwright.sync_api", reason="no playwright (pip install .[dev])")
    program = shutil.which("chromium") or shutil.which("google-chrome")
    if program is None:
        pytest.skip("no chromium on PATH (Debian: apt-get install chromium)")
    with driver.sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=program)
        yield chromium
        chromium.close()


@pytest.fixture
def check_page(browser: Any, subtests: pytest.Subtests) -> Callable[[Path], None]:
    """Opens a page in a narrow and a wide window and in both colour schemes: nothing is wider than
    the window, the ground has the brightness of the scheme and the text stands out from it, no
    script complains, and nothing but the page's own files is asked for.
    """

    def check(path: Path) -> None:
        for width in (400, 1280):
            for scheme in ("light", "dark"):
                with subtests.test(page=path.name, width=width, scheme=scheme):
                    look = {"viewport": {"width": width, "height": 900}, "color_scheme": scheme}
                    with browser.new_context(**look) as context:
                        check_look(context.new_page(), path, width, scheme)

    return check


BRIGHTNESS = """element => getComputedStyle(element)[element === document.body
    ? "backgroundColor" : element instanceof SVGElement ? "fill" : "color"]
    .match(/[\\d.]+/g).slice(0, 3).map(Number).reduce((sum, part) => sum + part) / 765"""


def check_look(page: Any, path: Path, width: int, scheme: str) -> None:
    """`page`, a new one in a window of this width, opens the file and is found in order."""
    complaints, addresses = watched(page)
    page.goto(path.as_uri())
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    ground = page.locator("body").evaluate(BRIGHTNESS)
    assert ground > 0.9 if scheme == "light" else ground < 0.2
    for name in ("h1", "svg text"):
        text = page.locator(name).first.evaluate(BRIGHTNESS)
        assert text < 0.45 if scheme == "light" else text > 0.6, name
    assert complaints == []
    assert all(at.startswith(("data:", path.parent.as_uri())) for at in addresses), addresses


def watched(page: Any) -> tuple[list[str], list[str]]:
    """Two lists that fill while a page is used: complaints (errors, warnings, exceptions, requests
    that failed), and the addresses that it asked for.

    A browser that has enough of a sound for now, or seeks in it, cancels its own request: that
    is no failure. One that is missing or refused fails otherwise.
    """
    complaints: list[str] = []
    addresses: list[str] = []
    page.on(
        "console", lambda said: said.type in ("error", "warning") and complaints.append(said.text)
    )
    page.on("pageerror", lambda error: complaints.append(str(error)))

    def failed(request: Any) -> None:
        if (request.resource_type, request.failure) != ("media", "net::ERR_ABORTED"):
            complaints.append(f"{request.url} {request.failure}")

    page.on("requestfailed", failed)
    page.on("request", lambda request: addresses.append(request.url))
    return complaints, addresses


@pytest.fixture(scope="session")
def watch_page() -> Callable[[Any], tuple[list[str], list[str]]]:
    """`watched`: the lists of complaints and addresses of a page of Playwright."""
    return watched


@pytest.fixture(autouse=True, scope="session")
def one_thread() -> None:
    """Networks this small are fastest on one thread, and far slower where several fight for busy
    cores.
    """
    torch.set_num_threads(1)
