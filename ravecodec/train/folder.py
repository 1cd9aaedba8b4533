"""The folder of a training run: recipe, checkpoint, log. What is in it is whole at any moment.

run/recipe.json            the resolved recipe
run/run.json               licence, warnings, time, machine, and the state that is packed
run/lock                   held by the process that is at work here
run/data.json              what the data folder holds
run/checkpoint.pt          everything a resumed run needs, replaced atomically
run/log.jsonl              losses, one line a report
run/tensorboard/           the same and more for TensorBoard, if it is installed (board.py)
run/<name>.safetensors     the finished model package
"""

from __future__ import annotations

import json
import os
import pickle
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from ravecodec.errors import InputError, ModelError, OutputError, UsageError
from ravecodec.files import make_folder, write_file
from ravecodec.train.board import Board
from ravecodec.train.cache import read_json
from ravecodec.train.recipe import Recipe, refuse_removed, without_removed_defaults

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

LOST = "delete it to begin anew: what was trained so far is lost, the decoded audio is not"
UNPICKLING = (
    RuntimeError,
    EOFError,
    ValueError,
    TypeError,
    KeyError,
    IndexError,
    AttributeError,
    OverflowError,
)


def check_folder(folder: Path, *, force: bool = False) -> None:
    """OutputError unless a run may write into `folder` without replacing what no run made. Creates
    nothing.

    It may where there is no folder or an empty one, where there is a run (`lock` is the first file
    that one makes; a cache may be all that is left of it), and with `force` in every folder.
    """
    if force or not folder.is_dir():
        return
    names = {entry.name for entry in folder.iterdir()}
    old_run = "recipe.json" in names and "lock" not in names
    if not (names <= {"cache"} or _is_lock(folder / "lock") or old_run):
        expected = "expected a new folder, or that of a run (or --force)"
        raise OutputError(f"{folder}: is there and no training run; {expected}")


def _is_lock(path: Path) -> bool:
    """Whether a run made this file: it holds a process' number, or nothing yet."""
    try:
        text = path.read_text().strip()
    except (OSError, ValueError):
        return False
    return not text or text.isdigit()


@contextmanager
def held(folder: Path, wanted: bool = True) -> Iterator[None]:
    """Within the block no other process works in this run folder; OutputError, naming it, if one
    does already.

    The lock belongs to the process, so one that was killed holds nothing. Without `wanted`, or
    where the system has no such locks (Windows), no call is kept out.
    """
    if not wanted or fcntl is None:
        yield
        return
    make_folder(folder)
    try:
        file = (folder / "lock").open("a+")
    except OSError as error:
        raise OutputError(f"{folder / 'lock'}: cannot be written ({error.strerror})") from error
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            file.seek(0)
            number = file.read(20).strip()
            who = f"process {number}" if number.isdigit() else "another process"
            raise OutputError(
                f"{folder}: {who} trains in this folder; wait for it, or choose another --out"
            ) from error
        file.truncate(0)
        file.write(f"{os.getpid()}\n")
        file.flush()
        yield


def load_checkpoint(path: Path) -> dict[str, Any] | None:
    """A checkpoint, None if there is none yet; ModelError if it is damaged."""
    if not path.exists():
        return None
    try:
        return dict(torch.load(path, map_location="cpu", weights_only=True))
    except PermissionError as error:
        raise ModelError(f"{path}: cannot be read ({error.strerror})") from error
    except (OSError, *UNPICKLING, pickle.UnpicklingError) as error:
        raise ModelError(f"{path}: cannot be read as a checkpoint; {LOST}") from error


class Run:
    """The training folder. board: where TensorBoard's files go; None: into the folder as well."""

    def __init__(self, folder: Path, recipe: Recipe, board: Board | None = None) -> None:
        self.folder = folder
        self.recipe = recipe
        self.checkpoint = folder / "checkpoint.pt"
        self.package = folder / f"{recipe.name}.safetensors"  # when the run is finished
        self.board = board or Board(folder)
        # Stages that are to have more steps than the run was started with.
        self.longer: list[str] = []
        make_folder(folder)
        self._check_recipe(recipe)
        lost = "delete it and call again; the licence and the warnings that it held are lost"
        self.facts: dict[str, Any] = read_json(folder / "run.json", lost) or {}
        self._mend_log()

    def _check_recipe(self, recipe: Recipe) -> None:
        """UsageError unless the run was started with this recipe, or one of fewer steps: a run may
        be lengthened, and `longer` says which stages. A key that did not exist then has its
        default. InputError if the file is damaged."""
        path = self.folder / "recipe.json"
        if not path.exists():
            self.note(path.name, recipe.to_dict())
            return
        old = _read_recipe(path)
        if old == recipe:
            return
        stages = {"stage1": recipe.stage1, "stage2": recipe.stage2}
        if old.replace(**stages) != recipe or _rates(old) != _rates(recipe):
            raise UsageError(
                f"{path}: this run was started with another recipe; use that one (--recipe "
                f"{path}), or another --out folder"
            )
        for name, stage in stages.items():
            if stage.steps < (steps := getattr(old, name).steps):
                raise UsageError(
                    f"{path}: {name} of this run has {steps} steps, expected as many or more (a "
                    "run can be lengthened, "
                    "not shortened), or another --out folder"
                )
            if stage.steps > steps:
                self.longer.append(name)

    def _mend_log(self) -> None:
        """Cuts off a last line that was torn by a kill."""
        path = self.folder / "log.jsonl"
        if path.exists():
            os.truncate(path, path.read_bytes().rfind(b"\n") + 1)

    def save(self, state: dict[str, Any]) -> None:
        """Writes the checkpoint beside the old one, then replaces it: a kill leaves one of the two,
        whole.

        OutputError if it cannot be written; the old one stays.
        """
        part = self.checkpoint.with_suffix(".part")
        try:
            with part.open("wb") as file:
                torch.save(state, file)
                file.flush()
                os.fsync(file.fileno())
            part.replace(self.checkpoint)
        except (OSError, RuntimeError) as error:  # torch reports a full disk as either
            part.unlink(missing_ok=True)
            why = getattr(error, "strerror", None) or str(error).splitlines()[0]
            raise OutputError(
                f"{self.checkpoint}: cannot be written ({why}); the last one is kept, free some "
                "space and call again"
            ) from error

    def load(self) -> dict[str, Any] | None:
        """The last checkpoint, None if there is none yet; ModelError if it is damaged."""
        return load_checkpoint(self.checkpoint)

    def remember(self, **facts: Any) -> None:
        """Puts these facts into `run.json`, beside those that are there."""
        self.facts = self.facts | facts
        self.note("run.json", self.facts)

    def note(self, name: str, values: dict[str, Any]) -> None:
        """Writes a JSON file of the run, whole or not at all."""
        write_file(self.folder / name, json.dumps(values, indent=1).encode())

    def log(self, values: dict[str, Any]) -> None:
        """One line of the log: `stage`, `step` and what was measured or is to be said there; for
        TensorBoard too, if it is installed."""
        try:
            with (self.folder / "log.jsonl").open("a") as file:
                file.write(json.dumps(values) + "\n")
        except OSError as error:
            why = f"cannot be written ({error.strerror}); free some space and call again"
            raise OutputError(f"{self.folder / 'log.jsonl'}: {why}") from error
        self.board.log(values)


def _rates(recipe: Recipe) -> tuple[float, float]:
    return recipe.stage1.rate, recipe.stage2.rate


def _read_recipe(path: Path) -> Recipe:
    """The recipe of a run; InputError if the file is damaged, UsageError if it needs what was
    removed since.
    """
    try:
        values = without_removed_defaults(json.loads(path.read_text()))
        removed = _removed(values)
        recipe = None if removed else Recipe.from_dict(values)
    except (ValueError, TypeError, AttributeError, RecursionError, UsageError, ModelError) as error:
        lost = (
            "delete it and call again with the recipe that the run was started with; nothing "
            "else is lost"
        )
        raise InputError(f"{path}: is no recipe any more; {lost}") from error
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from error
    if recipe is None:
        raise UsageError(f"{path}: {removed}")
    return recipe


def _removed(values: dict[str, Any]) -> str:
    """What is to be said of removed keys in a recipe's dictionary; "" if it has none."""
    try:
        refuse_removed(values)
    except UsageError as error:
        return str(error)
    return ""
