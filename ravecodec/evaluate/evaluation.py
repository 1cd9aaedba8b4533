"""`evaluate`: from audio and models to `Results`. The command line and the page are elsewhere."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import soundfile

from ravecodec import __version__
from ravecodec.audio import Audio
from ravecodec.cluster import Cluster
from ravecodec.evaluate.conditions import anchor_conditions, model_conditions
from ravecodec.evaluate.excerpts import choose, find_sources
from ravecodec.evaluate.folder import held, timed
from ravecodec.evaluate.results import Condition, Fidelity, Item, Results, Speed
from ravecodec.evaluate.runner import Task, read_reference, run_all, write_references
from ravecodec.evaluate.speed import measure
from ravecodec.machine import usable_cores
from ravecodec.zoo import ModelEntry

if TYPE_CHECKING:  # imports torch
    from ravecodec.models.package import Model

SCORERS = ("visqol-python", "zimtohrli", "pyloudnorm", "pystoi")
PACKAGES = ("torch", "numpy", "soundfile", "soxr", *SCORERS, "av")


@dataclass(frozen=True)
class Request:
    """What is asked for.

    paths: audio files and folders. models: installed ones. anchors: names of `conditions.ANCHORS`.
    steps, fidelities, efforts: see `model_conditions`. items, seconds, seed: excerpts. speech:
    score as speech too. speed: measure it, on this machine. jobs: processes. cluster: where to
    code and score instead. command: how it was called, for the manifest.
    """

    paths: tuple[Path, ...]
    models: tuple[ModelEntry, ...]
    out: Path
    anchors: tuple[str, ...]
    steps: tuple[int, ...] | None = None
    fidelities: tuple[float, ...] | None = None
    efforts: tuple[int, ...] | None = None
    items: int = 24
    seconds: float = 10.0
    seed: int = 0
    speech: bool = False
    speed: bool = True
    jobs: int = 1
    cluster: Cluster | None = None
    command: str = ""


Report = Callable[[int, int], None]  # how many of how many scores are there


def evaluate(request: Request, report: Report, say: Callable[[str], None]) -> Results:
    """Does all that is asked for and not yet done in `request.out`; `say` hears about files that
    are left out.

    InputError where there is no audio, UsageError for anchors that do not exist or are not
    installed, OutputError.
    """
    began = time.monotonic()
    sources, unreadable = find_sources(list(request.paths))
    excerpts, damaged = choose(sources, request.items, request.seconds, request.seed)
    unreadable += damaged
    for sentence in unreadable:
        say(f"left out: {sentence}")
    above = folder_above(request.paths)
    excerpts = [
        (replace(item, source=item.source.removeprefix(above)), audio) for item, audio in excerpts
    ]
    unreadable = [sentence.removeprefix(above) for sentence in unreadable]
    with held(request.out), timed(request.out, began) as clock:
        results = _scored(request, excerpts, report, say)
        manifest = _manifest(request, results.items, clock())
        return replace(results, unreadable=unreadable, manifest=manifest)


def _scored(
    request: Request,
    excerpts: Sequence[tuple[Item, Audio]],
    report: Report,
    say: Callable[[str], None],
) -> Results:
    """Scores of excerpts that were chosen; `unreadable` and `manifest` are left empty."""
    from ravecodec.loading import load_model

    write_references(request.out, excerpts)
    items = [item for item, _ in excerpts]
    if len(items) < request.items:
        fewer = f"{len(items)} excerpts instead of {request.items}"
        say(f"{fewer}: there is no more audio that is not the same")
    entries = _named(request.models)
    loaded = {name: load_model(entry.path, device="cpu") for name, entry in entries.items()}
    conditions = list(_conditions(request, loaded))
    scores = run_all(_tasks(request, items, conditions), request.jobs, report, request.cluster)
    from ravecodec.evaluate.measures.scores import METRICS

    measured = {metric for score in scores for metric in score.values}
    return Results(
        name=request.out.resolve().name,
        description=_description(items, request),
        items=items,
        conditions=conditions,
        scores=scores,
        metrics=[metric for metric in METRICS if metric.id in measured],
        fidelity=[_fidelity(name, model) for name, model in loaded.items()],
        speed=list(_speed(request, items)) if request.speed else [],
        models={name: _facts(entry, loaded[name]) for name, entry in entries.items()},
        unreadable=[],
        manifest={},
    )


def folder_above(paths: Sequence[Path]) -> str:
    """The folder that all absolute ones of these paths lie in, with a separator behind it; "" if
    none is absolute.

    Results are published: they name a file by what lies below it, and not by where it lay on the
    machine.
    """
    folders = [path.parent for path in paths if path.is_absolute()]
    return f"{os.path.commonpath(folders).rstrip(os.sep)}{os.sep}" if folders else ""


def without_folders(arguments: Sequence[str]) -> list[str]:
    """The words of a call, absolute paths among them (`--out=/...` too) by their last part
    alone."""
    words = []
    for argument in arguments:
        start = argument.rfind("=") + 1 if argument.startswith("-") else 0
        path = Path(argument[start:])
        last = path.name if path.is_absolute() else ""
        words.append(argument[:start] + (last or argument[start:]))
    return words


def _named(models: Sequence[ModelEntry]) -> dict[str, ModelEntry]:
    """Models by the name of their series; those of one name are told apart by their ids."""
    names = [entry.name for entry in models]
    return {
        entry.name if names.count(entry.name) == 1 else f"{entry.name} {entry.id.hex()[:6]}": entry
        for entry in models
    }


def _conditions(request: Request, loaded: dict[str, Model]) -> Iterator[Condition]:
    efforts = request.efforts or ()
    for name, model in loaded.items():
        yield from model_conditions(name, model, request.steps, request.fidelities, efforts)
    yield from anchor_conditions(request.anchors)


def _tasks(request: Request, items: list[Item], conditions: list[Condition]) -> list[Task]:
    """Ordered by condition: those of one model are neighbours."""
    packages = {entry.id.hex(): entry.path for entry in request.models}
    following = [*items[1:], items[0]]
    return [
        Task(item, other, condition, request.speech, packages, request.out)
        for condition in conditions
        for item, other in zip(items, following, strict=True)
    ]


def _speed(request: Request, items: list[Item]) -> Iterator[Speed]:
    sounds = [read_reference(request.out, item) for item in items[:6]]
    for name, entry in _named(request.models).items():
        yield from measure(name, entry.path, sounds, sorted({1, usable_cores()}))


def _fidelity(name: str, model: Model) -> Fidelity:
    curves = [
        [round(model.latent.fidelity(n, convention), 5) for n in range(1, model.config.latent + 1)]
        for convention in ("singular", "variance")
    ]
    return Fidelity(name, *curves)


def _facts(entry: ModelEntry, model: Model) -> dict[str, Any]:
    told = ("licence", "hours_of_audio", "steps")
    return {
        "id": entry.id.hex(),
        "sha256": entry.digest.hex(),
        "bytes": entry.size,
        "parameters": sum(p.numel() for p in model.network.parameters()),
        "config": json.loads(entry.config.to_json()),
        "point": dict(entry.point),
        **{key: value for key, value in dict(entry.info).items() if key in told},
    }


def _description(items: list[Item], request: Request) -> str:
    count = len({item.source for item in items})
    files = "1 file" if count == 1 else f"{count} files"
    length = f"{np.median([item.seconds for item in items]):g} s"
    models = ", ".join(_named(request.models)) or "none"
    return f"{len(items)} excerpts of {length} from {files}; models: {models}."


def _manifest(request: Request, items: list[Item], seconds: float) -> dict[str, Any]:
    """What reproducing the evaluation needs; seconds: of all calls that took part."""
    data = hashlib.sha256("".join(item.sha256 for item in items).encode()).hexdigest()
    return {
        "ravecodec": __version__,
        "commit": _commit(),
        "command": request.command,
        "seed": request.seed,
        "seconds": request.seconds,
        "speech": request.speech,
        "data_sha256": data,
        "models": {name: entry.digest.hex() for name, entry in _named(request.models).items()},
        "packages": _versions(),
        "libsndfile": soundfile.__libsndfile_version__,
        "python": platform.python_version(),
        "machine": f"{processor()}, {os.cpu_count()} cores",
        "device": "cpu",
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
        "took_seconds": round(seconds),
    }


def _commit() -> str:
    """Of the checkout that this code runs from; "" for an installed wheel."""
    here = Path(__file__).resolve().parent
    command = ["git", "-C", str(here), "describe", "--always", "--dirty", "--abbrev=12"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=10)
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout.strip()


def _versions() -> dict[str, str]:
    """Of those PACKAGES that are installed."""
    versions = {}
    for name in PACKAGES:
        with suppress(PackageNotFoundError):
            versions[name] = version(name)
    return versions


def processor() -> str:
    """The processor's name, as the system gives it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(
            line.partition(":")[2].strip() for line in lines if line.startswith("model name")
        )
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()
