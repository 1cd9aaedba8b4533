"""One page about a training run: what it trained on, how it went, what comes out. Reads the run folder only.

`report.html` is self-contained: figures are inline SVG and PNG, nothing is fetched. Excerpts come from the validation
tracks and go through the real codec, bitstream and all.
"""

from __future__ import annotations

import base64
import html
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ravecodec.errors import InputError, UsageError
from ravecodec.files import AtomicFile
from ravecodec.train import figures
from ravecodec.train.cache import Track, describe

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from ravecodec.models.package import Model

EXCERPTS, EXCERPT_SECONDS = 3, 10.0
CURVES = {  # of log.jsonl: title -> (keys, logarithmic)
    "Spectral distance S": (("spectral", "validation"), True),
    "Rate of the latents, kbit/s": (("kbps", "validation_kbps"), False),
    "Share of spectral peaks kept (peak F1, validation)": (("validation_peaks",), False),
    "Weight of the KL, beta": (("beta",), True),
    "Active latents": (("active",), False),
    "Discriminator and feature matching": (("critic", "adversarial", "matching"), False),
}
STYLE = """body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem}
body{color:#222;background:#fff}
table{border-collapse:collapse}td,th{padding:.2rem .8rem .2rem 0;text-align:left;vertical-align:top}
figure{margin:1.5rem 0}figure>*{max-width:100%;height:auto;background:#fff}figcaption{color:#666}
@media(prefers-color-scheme:dark){body{color:#ddd;background:#161616}figcaption{color:#999}}"""


def write_report(run: Path) -> Path:
    """Writes `report.html` into a run folder and returns its path.

    Raises:
        InputError: there is no log in the folder. UsageError: matplotlib is not installed.
    """
    log = _read_log(run)
    try:
        import matplotlib as mpl
    except ImportError as error:
        raise UsageError("the report needs matplotlib: `pip install 'ravecodec[report]'`") from error
    with mpl.rc_context({"svg.hashsalt": "ravecodec", "font.size": 9}):
        body = "\n".join(_sections(run, log))
    name = html.escape(run.resolve().name)
    page = (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{name}</title><style>{STYLE}</style>'
        f"<h1>Training run {name}</h1>\n{body}\n</html>\n"
    )
    with AtomicFile(run / "report.html", force=True) as file:
        file.write(page.encode(errors="replace"))
    return run / "report.html"


def _read_log(run: Path) -> list[dict[str, Any]]:
    try:
        text = (run / "log.jsonl").read_text()
    except OSError as error:
        raise InputError(f"{run}: holds no training log; expected the --out folder of a run") from error
    lines = [json.loads(line) for line in text[: text.rfind("\n") + 1].splitlines()]
    if not lines:
        raise InputError(f"{run}: its log is empty; nothing has been trained yet")
    return lines


def _sections(run: Path, log: list[dict[str, Any]]) -> Iterator[str]:
    last = log[-1]
    yield f"<p>Stage {last['stage']}, step {last['step']}.</p>"
    for line in [line for line in log if "advice" in line][-1:]:
        yield f"<p>Stage {line['stage']}, step {line['step']}: {html.escape(line['advice'])}.</p>"
    data = _read_json(run / "data.json")
    if data:
        yield "<h2>Data</h2>"
        yield from (f"<p>{html.escape(line.removeprefix('data: '))}</p>" for line in describe(data))
    yield "<h2>Curves</h2>"
    yield _svg(
        _curves(log), "Means over 15 seconds of training; validation in between. The line marks the start of stage 2."
    )
    if packages := sorted(run.glob("*.safetensors")):
        from ravecodec.models.package import load_package

        model = load_package(packages[0])
        yield "<h2>Model</h2>"
        yield _facts(packages[0], model)
        yield _svg(
            figures.fidelity(model.latent, model.coding.dims),
            "Fidelity f: the share of the latent deviation that the first dims carry.",
        )
        yield from _excerpts(data, model)
    yield f"<h2>Recipe</h2><pre>{html.escape(json.dumps(_read_json(run / 'recipe.json'), indent=1))}</pre>"


def _read_json(path: Path) -> dict[str, Any]:
    return dict(json.loads(path.read_text())) if path.exists() else {}


# ---- figures ---------------------------------------------------------------------------------------------------------


def _curves(log: list[dict[str, Any]]) -> Figure:
    from matplotlib.figure import Figure

    stage1 = max((line["step"] for line in log if line["stage"] == 1), default=0)
    shown = {t: c for t, c in CURVES.items() if any(key in line for line in log for key in c[0])}
    figure = Figure(figsize=(9, 2.2 * len(shown)), layout="constrained")
    for axes, (title, (keys, logarithmic)) in zip(
        figure.subplots(len(shown), squeeze=False)[:, 0], shown.items(), strict=True
    ):
        for key in keys:
            points = [(line["step"] + stage1 * (line["stage"] == 2), line[key]) for line in log if key in line]
            if points:
                dots = "o-" if key.startswith("validation") else "-"
                axes.plot(*zip(*points, strict=True), dots, markersize=3, linewidth=1, label=key.replace("_", " "))
        if stage1 and log[-1]["stage"] == 2:
            axes.axvline(stage1, color="gray", linewidth=0.8)
        axes.set_title(title, loc="left")
        axes.set_yscale("log" if logarithmic else "linear")
        axes.legend(loc="upper right", frameon=False)
    axes.set_xlabel("step")
    return figure


def _svg(figure: Figure, caption: str) -> str:
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None})
    text = buffer.getvalue()
    return f"<figure>{text[text.index('<svg') :]}<figcaption>{html.escape(caption)}</figcaption></figure>"


def _png(figure: Figure, caption: str) -> str:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=90)
    data = base64.b64encode(buffer.getvalue()).decode()
    text = html.escape(caption)
    return f'<figure><img alt="{text}" src="data:image/png;base64,{data}"><figcaption>{text}</figcaption></figure>'


# ---- the model -------------------------------------------------------------------------------------------------------


def _facts(path: Path, model: Model) -> str:
    rows = {
        "file": f"{path.name}, {path.stat().st_size / 1e6:.2f} MB",
        "id": model.id.hex(),
        "default point": f"{model.coding.dims} of {model.config.latent} dims, step {model.coding.step_index}",
        "dims for f = 0.9, 0.95, 0.99": ", ".join(str(model.latent.dims_for(f)) for f in (0.9, 0.95, 0.99)),
        **{
            key.replace("_", " "): model.info[key]
            for key in ("steps", "hours_of_audio", "licence", "warnings")
            if key in model.info
        },
    }
    cells = (f"<tr><th>{html.escape(key)}<td>{html.escape(str(value))}" for key, value in rows.items())
    return f"<table>{''.join(cells)}</table>"


def _excerpts(data: dict[str, Any], model: Model) -> Iterator[str]:
    """The middles of validation tracks, coded and decoded; nothing where the cache of decoded audio is gone."""
    cache = Path(data.get("cache", ""))
    if not (cache / "audio.i16").is_file():
        return
    yield "<h2>Validation excerpts, coded</h2>"
    channels, rate = model.config.channels, model.config.sample_rate
    audio = np.memmap(cache / "audio.i16", "<i2", "r").reshape(-1, channels)
    for facts in data.get("validation", [])[:EXCERPTS]:
        yield _excerpt(Track(**facts), audio, rate, model)


def _excerpt(track: Track, audio: NDArray[np.int16], rate: int, model: Model) -> str:
    from ravecodec.evaluate.metrics import peak_f1
    from ravecodec.transcode import decode, encode

    frames = min(track.frames, round(EXCERPT_SECONDS * rate))
    start = track.start + (track.frames - frames) // 2
    original = (audio[start : start + frames].T / 32768).astype(np.float32)
    coded = encode(original, rate, model)
    output, _ = decode(coded, model)
    kbps = len(coded) * 8 / (frames / rate) / 1000
    peaks = peak_f1(original.mean(0), output.mean(0), rate)
    name = track.path.encode(errors="replace").decode()
    shown = figures.spectrograms({"in": original, "out": output}, rate)
    return _png(shown, f"{name}: {kbps:.2f} kbit/s, peak F1 {peaks:.2f}")
