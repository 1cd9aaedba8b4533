"""The folder of a training run: recipe, checkpoint, log. What is in it is whole at any moment.

run/recipe.json            the resolved recipe
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
from pathlib import Path
from typing import Any

import torch

from ravecodec.errors import ModelError, OutputError, UsageError
from ravecodec.files import AtomicFile
from ravecodec.train.board import Board
from ravecodec.train.recipe import Recipe


class Run:
    """The training folder."""

    def __init__(self, folder: Path, recipe: Recipe) -> None:
        self.folder = folder
        self.checkpoint = folder / "checkpoint.pt"
        self.board = Board(folder)
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OutputError(f"{folder}: cannot be made a run folder ({error.strerror})") from error
        self._check_recipe(recipe)
        self._mend_log()

    def _check_recipe(self, recipe: Recipe) -> None:
        """UsageError unless the run was started with this recipe; a key that did not exist then has its default."""
        path = self.folder / "recipe.json"
        if not path.exists():
            with AtomicFile(path) as file:
                file.write(json.dumps(recipe.to_dict(), indent=1).encode())
        elif Recipe.from_dict(json.loads(path.read_text())) != recipe:
            raise UsageError(f"{path}: this run was started with another recipe; use that one, or another --out folder")

    def _mend_log(self) -> None:
        """Cuts off a last line that was torn by a kill."""
        path = self.folder / "log.jsonl"
        if path.exists():
            os.truncate(path, path.read_bytes().rfind(b"\n") + 1)

    def save(self, state: dict[str, Any]) -> None:
        """Writes the checkpoint beside the old one, then replaces it: a kill leaves one of the two, whole.

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
            why = error.strerror if isinstance(error, OSError) and error.strerror else str(error).splitlines()[0]
            raise OutputError(
                f"{self.checkpoint}: cannot be written ({why}); the last one is kept, free some space and call again"
            ) from error

    def load(self) -> dict[str, Any] | None:
        """The last checkpoint, None if there is none yet; ModelError if it is damaged."""
        if not self.checkpoint.exists():
            return None
        try:
            state: dict[str, Any] = torch.load(self.checkpoint, map_location="cpu", weights_only=True)
        except (RuntimeError, EOFError, pickle.UnpicklingError) as error:
            found = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise ModelError(f"{self.checkpoint}: cannot be read as a checkpoint ({found})") from error
        return state

    def note(self, name: str, values: dict[str, Any]) -> None:
        """Writes a JSON file of the run, whole or not at all."""
        with AtomicFile(self.folder / name, force=True) as file:
            file.write(json.dumps(values, indent=1).encode())

    def log(self, values: dict[str, Any]) -> None:
        """One line of the log: `stage`, `step` and what was measured or is to be said there; for TensorBoard too, if it
        is installed."""
        try:
            with (self.folder / "log.jsonl").open("a") as file:
                file.write(json.dumps(values) + "\n")
        except OSError as error:
            why = f"cannot be written ({error.strerror}); free some space and call again"
            raise OutputError(f"{self.folder / 'log.jsonl'}: {why}") from error
        self.board.log(values)
