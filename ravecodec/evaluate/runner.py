"""An evaluation: every condition on every excerpt, in processes of one thread each, resumable.

OUT/audio/ITEM/reference.flac and CONDITION.flac are what was scored (48 kHz, 16 bits, in time with
each other); OUT/cache has one file per item and condition, named by a hash of the excerpt's
samples, the condition's settings (a model by its id) and the scores' version. What is there is not
done again.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path

from ravecodec.audio import Audio
from ravecodec.cluster import Cluster, run_on_cluster
from ravecodec.errors import InputError, RavecodecError
from ravecodec.evaluate.conditions import apply
from ravecodec.evaluate.filters import RATE
from ravecodec.evaluate.results import STATIC_BYTES, Condition, Item, Score
from ravecodec.evaluate.sounds import fitted, read_sound, write_sound
from ravecodec.files import make_folder, write_file
from ravecodec.pool import Died, Hear, run_tasks
from ravecodec.zoo import find_model

SCORES_VERSION = 1  # of what apply() and the metrics compute: raise it when they change


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


def run_task(task: Task) -> Score:
    """Does what the task says, or reads what it said before."""
    if task.done:
        score = Score(**json.loads(task.record.read_text()))
        return replace(score, item=task.item.id, condition=task.condition.id)
    from ravecodec.evaluate.measures import scores

    reference, other = (read_reference(task.out, item) for item in (task.item, task.other))
    done = apply(task.condition.settings, reference, other, task.models)
    values, delay = scores.score(
        reference, done.audio, RATE, speech=task.speech, mid=task.condition.mid_only
    )
    if done.kept is not None:
        values["symbols_kept"] = done.kept
    if done.static is not None:
        values[STATIC_BYTES] = done.static
    write_sound(task.sound, fitted(done.audio, reference.shape[1], delay))
    rounded = {name: round(value, 5) for name, value in values.items()}
    score = Score(task.item.id, task.condition.id, done.bytes, done.payload, delay, rounded)
    make_folder(task.record.parent)
    write_file(task.record, json.dumps(asdict(score)).encode())
    return score


def read_reference(out: Path, item: Item) -> Audio:
    """An excerpt as `write_references` wrote it; InputError where it is damaged."""
    path = out / "audio" / item.id / "reference.flac"
    try:
        return read_sound(path)
    except InputError as error:
        raise InputError(f"{error}; remove it and call again") from error


@dataclass(frozen=True)
class Scoring:
    """The work of a process. ids: of models that are to be found on the machine that scores, and
    not where the tasks say.
    """

    ids: tuple[str, ...] = ()

    def start(self) -> Callable[[Task, Hear], Score | Exception]:
        """Models stay loaded from task to task, so neighbours are tasks of one model."""
        import torch

        torch.set_num_threads(1)
        models = {each: find_model(each).path for each in self.ids}
        return partial(_attempt, models)


def _attempt(models: dict[str, Path], task: Task, hear: Hear) -> Score | Exception:
    """`run_task`, with what goes wrong as a value."""
    try:
        return run_task(replace(task, models={**task.models, **models}))
    except Exception as error:
        return error


def run_all(
    tasks: Sequence[Task],
    jobs: int,
    report: Callable[[int, int], None],
    cluster: Cluster | None = None,
) -> list[Score]:
    """All scores, in the order of the tasks; `report` hears how many of how many are done.

    jobs: processes of one thread. cluster: do it there instead; the folder of the report is then
    on storage that all machines share.
    """
    known = {(t.item.id, t.condition.id): run_task(t) for t in tasks if t.done}
    report(len(known), len(tasks))
    waiting = [t for t in tasks if (t.item.id, t.condition.id) not in known]
    with closing(_run(waiting, jobs, cluster)) as scores:
        for score in scores:
            known[score.item, score.condition] = score
            report(len(known), len(tasks))
    return [known[t.item.id, t.condition.id] for t in tasks]


def _run(tasks: Sequence[Task], jobs: int, cluster: Cluster | None) -> Generator[Score, None, None]:
    """Scores as they are ready."""
    if not tasks:
        return
    if cluster is None:
        results = run_tasks(Scoring(), tasks, jobs=min(jobs, len(tasks)))
    else:
        results = run_on_cluster(Scoring(tuple(tasks[0].models)), tasks, cluster)
    with closing(results):
        for task, result in results:
            if isinstance(result, Died):
                what = f"{task.item.source}, {task.condition.label or task.condition.id}"
                raise RavecodecError(f"{what}: {result}")
            if isinstance(result, Exception):
                raise result
            yield result
