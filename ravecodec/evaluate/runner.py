"""An evaluation: every condition on every excerpt, in processes of one thread each, resumable.

OUT/audio/ITEM/reference.flac and CONDITION.flac are what was scored (48 kHz, 16 bits, in time with
each other); OUT/cache has one file per item and condition, named by a hash of the excerpt's
samples, the condition's settings (a model by its id) and the scores' version. What is there is not
done again.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from multiprocessing import active_children, get_context, parent_process
from pathlib import Path

import numpy as np
import soundfile
from numpy.typing import NDArray

from ravecodec.errors import InputError, OutputError
from ravecodec.evaluate.conditions import apply
from ravecodec.evaluate.excerpts import RATE, Audio
from ravecodec.evaluate.results import STATIC_BYTES, Condition, Item, Score
from ravecodec.files import AtomicFile

SCORES_VERSION = 1  # of what apply() and the metrics compute: raise it when they change
THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")


@dataclass(frozen=True)
class Task:
    """One condition on one item. `other`: id of the item that another-excerpt plays; `models`:
    package by id."""

    item: Item
    other: Item
    condition: Condition
    speech: bool
    models: dict[str, Path]
    out: Path

    @property
    def sound(self) -> Path:
        return self.out / "audio" / self.item.id / f"{self.condition.id}.flac"

    @property
    def key(self) -> str:
        """Hash of all that the score depends on."""
        settings = {
            k: v for k, v in self.condition.settings.items() if k not in ("default", "fidelity")
        }
        what = [SCORES_VERSION, self.item.sha256, settings, self.speech]
        if self.condition.action == "another-excerpt":
            what.append(self.other.sha256)
        if self.condition.mid_only:
            what.append("loudness of the mid channel")
        if self.condition.action == "ravecodec":
            what.append("bytes with static tables")
        return hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()[:24]

    @property
    def record(self) -> Path:
        return self.out / "cache" / f"{self.key}.json"

    @property
    def done(self) -> bool:
        """Whether nothing is left to do."""
        return self.record.exists() and self.sound.exists()


def write_references(out: Path, excerpts: Sequence[tuple[Item, Audio]]) -> None:
    """OUT/audio/ITEM/reference.flac of every excerpt that has none."""
    for item, audio in excerpts:
        path = out / "audio" / item.id / "reference.flac"
        if not path.exists():
            write_sound(path, audio)


def write_sound(path: Path, audio: NDArray[np.floating]) -> None:
    """Writes float [channels, samples] at 48 kHz as a 16-bit file of the kind that the path's
    suffix names (`.flac`, `.wav`), whole or not at all. Raises OutputError."""
    samples = np.clip(np.rint(audio.T.astype(np.float64) * 32768), -32768, 32767).astype(np.int16)
    data = io.BytesIO()
    soundfile.write(data, samples, RATE, format=path.suffix[1:].upper(), subtype="PCM_16")
    _write(path, data.getvalue())


def _write(path: Path, data: bytes) -> None:
    """A file in a folder that may not be there yet, whole or not at all. Raises OutputError."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"{path.parent}: cannot be made ({error.strerror})") from error
    with AtomicFile(path, force=True) as file:
        file.write(data)


def read_sound(path: Path) -> Audio:
    """The inverse. InputError."""
    try:
        audio, _ = soundfile.read(path, dtype="float32", always_2d=True)
    except (OSError, soundfile.SoundFileError) as error:
        raise InputError(f"{path}: cannot be read ({error}); remove it and call again") from error
    return np.ascontiguousarray(audio.T)


def run_task(task: Task) -> Score:
    """Does what the task says, or reads what it said before."""
    if task.done:
        score = Score(**json.loads(task.record.read_text()))
        return replace(score, item=task.item.id, condition=task.condition.id)
    from ravecodec.evaluate.measures import scores

    reference, other = (
        read_sound(task.out / "audio" / i.id / "reference.flac") for i in (task.item, task.other)
    )
    done = apply(task.condition.settings, reference, other, task.models)
    values, delay = scores.score(
        reference, done.audio, RATE, speech=task.speech, mid=task.condition.mid_only
    )
    if done.kept is not None:
        values["symbols_kept"] = done.kept
    if done.static is not None:
        values[STATIC_BYTES] = done.static
    write_sound(task.sound, scores.fitted(done.audio.astype(np.float64), reference.shape[1], delay))
    rounded = {name: round(value, 5) for name, value in values.items()}
    found = Score(task.item.id, task.condition.id, done.bytes, done.payload, delay, rounded)
    _write(task.record, json.dumps(asdict(found)).encode())
    return found


def run_all(tasks: Sequence[Task], jobs: int, report: Callable[[int, int], None]) -> list[Score]:
    """All scores, in the order of the tasks; `report` hears how many of how many are done."""
    found: dict[tuple[str, str], Score] = {}
    waiting = []
    for task in tasks:
        if task.done:
            found[task.item.id, task.condition.id] = run_task(task)
        else:
            waiting.append(task)
    report(len(found), len(tasks))
    for score in _run(waiting, jobs):
        found[score.item, score.condition] = score
        report(len(found), len(tasks))
    return [found[task.item.id, task.condition.id] for task in tasks]


def _run(tasks: Sequence[Task], jobs: int) -> Iterator[Score]:
    """Scores as they are ready. Models of a worker stay loaded, so neighbours are tasks of one
    model."""
    if not tasks:
        return
    before, others = {name: os.environ.get(name) for name in THREADS}, set(active_children())
    os.environ.update(dict.fromkeys(THREADS, "1"))  # read by libraries when a worker loads them
    try:
        with _undisturbed():
            workers, context = min(jobs, len(tasks)), get_context("spawn")
            pool = ProcessPoolExecutor(workers, context, initializer=_begin)
            futures = [pool.submit(run_task, task) for task in tasks]
        with pool:
            try:
                for future in as_completed(futures):
                    yield future.result()
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                for child in set(active_children()) - others:
                    child.terminate()  # files are whole or not there at any moment
                raise
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name)
            else:
                os.environ[name] = value


@contextmanager
def _undisturbed() -> Iterator[None]:
    """Processes that are started within the block get neither Ctrl-C nor the signal of a terminal
    that is closed: the one that started them does, and ends them. Windows has no such masks."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    from multiprocessing import resource_tracker

    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGHUP})
    try:
        resource_tracker.ensure_running()  # first, because starting it lets SIGINT through again
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _begin() -> None:
    """What a worker does first."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    import torch

    torch.set_num_threads(1)


def _end_with_parent() -> None:
    """Ends this process when the one that started it has ended, be it by kill -9."""
    parent = parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)
