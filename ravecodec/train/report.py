"""One page about a training run: what it trained on, how it went, what comes out. Reads the run
folder only.

`report.html` is self-contained: figures and sounds are inside, nothing is fetched. Excerpts come
from the validation tracks and go through the real codec, bitstream and all. Drawn and printed as
the pages of evaluations are."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import soundfile
from numpy.typing import NDArray

from ravecodec.errors import InputError
from ravecodec.evaluate.page.cells import facts
from ravecodec.evaluate.page.charts import Chart, Line, spectrograms_svg
from ravecodec.evaluate.page.html import Player, Sound, flac_url, write_html
from ravecodec.train import figures
from ravecodec.train.cache import Track, describe, read_json

if TYPE_CHECKING:
    from ravecodec.models.package import Model

EXCERPTS, EXCERPT_SECONDS = 3, 10.0
CURVES = {  # of log.jsonl: title -> (keys, scale of the y axis)
    "Spectral distance S": (("spectral", "validation"), "log"),
    "Rate of the latents, kbit/s": (("kbps", "validation_kbps"), "linear"),
    "Share of spectral peaks kept (peak F1, validation)": (("validation_peaks",), "linear"),
    "Weight of the KL, beta": (("beta",), "log"),
    "Active latents": (("active",), "linear"),
    "Discriminator and feature matching": (("critic", "adversarial", "matching"), "linear"),
}
COLOURS = ("codec-1", "model-1", "codec-2")  # of the curves in one chart
HEIGHT = 190.0  # of a chart, points
INFO = ("steps", "hours_of_audio", "licence", "warnings")  # of a package


def can_write_report() -> bool:
    """Whether the packages of `ravecodec[report]` are installed."""
    return all(find_spec(name) is not None for name in ("jinja2", "matplotlib"))


def write_report(run: Path) -> Path:
    """Writes `report.html` into a run folder and returns its path.

    Raises InputError where there is no log in the folder, UsageError where jinja2 or matplotlib is
    missing."""
    log = _read_log(run)
    data = read_json(run / "data.json", "delete it, and the report does without it") or {}
    recipe = read_json(run / "recipe.json", "delete it, and the report does without it") or {}
    context = {
        "title": f"Training run {run.resolve().name}",
        "name": run.resolve().name,
        "place": f"{_place(log[-1])}.",
        "advice": _last_advice(log),
        "data": [line.removeprefix("data: ") for line in describe(data)] if data else [],
        "curves": [chart.svg() for chart in _curves(log)],
        "recipe": json.dumps(recipe, indent=1),
    }
    return write_html(run / "report.html", "run.html.j2", **context, **_about_model(run, data))


def _read_log(run: Path) -> list[dict[str, Any]]:
    try:
        text = (run / "log.jsonl").read_text()
    except OSError as error:
        raise InputError(
            f"{run}: holds no training log; expected the --out folder of a run"
        ) from error
    lines = [json.loads(line) for line in text[: text.rfind("\n") + 1].splitlines()]
    if not lines:
        raise InputError(f"{run}: its log is empty; nothing has been trained yet")
    return lines


def _place(line: dict[str, Any]) -> str:
    return f"Stage {line['stage']}, step {line['step']}"


def _last_advice(log: list[dict[str, Any]]) -> str:
    """What the training advised last; "" if nothing."""
    for line in reversed(log):
        if "advice" in line:
            return f"{_place(line)}: {line['advice']}."
    return ""


def _curves(log: list[dict[str, Any]]) -> Iterator[Chart]:
    """Over the steps of both stages; the start of stage 2 is marked."""
    stage1 = max((line["step"] for line in log if line["stage"] == 1), default=0)
    marks = [stage1] if stage1 and log[-1]["stage"] == 2 else []
    for title, (keys, scale) in CURVES.items():
        coloured = zip(keys, COLOURS, strict=False)
        lines = [_line(log, key, colour, stage1) for key, colour in coloured]
        drawn = [line for line in lines if line.points]
        if drawn:
            yield Chart(title, "", drawn, (), "linear", scale, marks=marks, height=HEIGHT)


def _line(log: list[dict[str, Any]], key: str, colour: str, stage1: int) -> Line:
    """The values of a key; a step of stage 2 comes after the `stage1` steps of stage 1.

    A run that was stopped goes on from its last checkpoint: what it logs again replaces what it had
    logged."""
    points: list[tuple[float, float]] = []
    for line in reversed([line for line in log if key in line]):
        step = line["step"] + stage1 * (line["stage"] == 2)
        if not points or step < points[-1][0]:
            points.append((step, line[key]))
    points.reverse()
    marker = "o" if key.startswith("validation") else ""
    return Line(key.replace("_", " "), colour, points, marker=marker)


# ---- the model -----------------------------------------------------------------------------------


def _about_model(run: Path, data: dict[str, Any]) -> dict[str, Any]:
    """What the template says of the run's package, if there is one."""
    packages = sorted(run.glob("*.safetensors"))
    if not packages:
        return {"model": [], "players": [], "pictures": []}
    from ravecodec.models.package import load_package

    model = load_package(packages[0])
    excerpts = list(_excerpts(data, model))
    return {
        "model": facts(_model(packages[0], model)),
        "fidelity": figures.fidelity(model.latent, model.coding.dims).svg(),
        "players": [player for player, _ in excerpts],
        "pictures": [(player.title, picture) for player, picture in excerpts],
    }


def _model(path: Path, model: Model) -> dict[str, Any]:
    dims = f"{model.coding.dims} of {model.config.latent} dims"
    return {
        "file": f"{path.name}, {path.stat().st_size / 1e6:.2f} MB",
        "id": model.id.hex(),
        "default point": f"{dims}, step {model.coding.step_index}",
        "dims for f = 0.9, 0.95, 0.99": [model.latent.dims_for(f) for f in (0.9, 0.95, 0.99)],
        **{key: model.info[key] for key in INFO if key in model.info},
    }


def _excerpts(data: dict[str, Any], model: Model) -> Iterator[tuple[Player, str]]:
    """(player, spectrograms) of the middles of validation tracks, coded and decoded; nothing where
    the cache of decoded audio is gone."""
    cache = Path(data.get("cache", ""))
    if not (cache / "audio.i16").is_file():
        return
    audio = np.memmap(cache / "audio.i16", "<i2", "r").reshape(-1, model.config.channels)
    for track in data.get("validation", [])[:EXCERPTS]:
        yield _excerpt(Track(**track), audio, model)


def _excerpt(track: Track, audio: NDArray[np.int16], model: Model) -> tuple[Player, str]:
    """(player, spectrograms) of the middle of a track, coded and decoded; audio: the cache's,
    [samples, channels]."""
    from ravecodec.decoding import decode
    from ravecodec.encoding import encode
    from ravecodec.evaluate.measures.peaks import peak_f1

    rate = model.config.sample_rate
    frames = min(track.frames, round(EXCERPT_SECONDS * rate))
    start = track.start + (track.frames - frames) // 2
    original = (audio[start : start + frames].T / 32768).astype(np.float32)
    coded = encode(original, rate, model)
    decoded, _ = decode(coded, model)
    seconds = frames / rate
    before, after = original.mean(0), decoded.mean(0)
    name = track.path.encode(errors="replace").decode()
    peaks = f"peak F1 {peak_f1(before, after, rate):.2f}"
    kbps = len(coded) * 8 / 1000 / seconds
    title = f"{name}: {kbps:.2f} kbit/s, {peaks}"
    sounds = [
        Sound("original", "", "ink", _flac(original, rate)),
        Sound("decoded", "", "model-1", _flac(decoded, rate)),
    ]
    mids = {"original": before, "decoded": after}
    return Player(title, seconds, sounds), spectrograms_svg(mids, rate)


def _flac(audio: NDArray[np.float32], rate: int) -> str:
    """Audio [channels, samples] as the URL of a 16-bit FLAC file."""
    file = io.BytesIO()
    soundfile.write(file, audio.T, rate, format="FLAC", subtype="PCM_16")
    return flac_url(file.getvalue())
