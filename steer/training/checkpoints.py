"""``RunFolder``: the recipe and the checkpoint of a run, and the checks before a training writes or resumes there."""

import json
import os
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import MISSING, asdict, fields
from pathlib import Path
from typing import Any

from steer.errors import SteerError, message_of
from steer.results.storage import LocalStorage
from steer.settings.strict_json import json_text, read_object
from steer.training.files import write_whole
from steer.training.recipe import TrainingRecipe

PARTS = ("parts", "step", "seconds", "processes")
"""Content of a checkpoint: the state of each part, steps and seconds so far, and the number of processes."""


class RunFolder:
    """``recipe.json``, ``checkpoint.pt``, ``log.jsonl`` and ``sheets/`` of one run.

    Attributes:
        path: of the folder, which is made with its first file.
        resume: whether to resume the run in it.
    """

    def __init__(self, path: Path, *, resume: bool) -> None:
        """Check that the folder can be written to and holds no run yet or, to resume, one.

        Raises:
            SteerError: if it cannot be written to, holds a run, or holds none to resume.
        """
        self.path, self.resume = path, resume
        self._held = ExitStack()
        self.recipe, self.checkpoint, self.log = path / "recipe.json", path / "checkpoint.pt", path / "log.jsonl"
        standing = next((parent for parent in (path, *path.absolute().parents) if parent.exists()), path)
        if not standing.is_dir() or not os.access(standing, os.W_OK):
            raise SteerError(f"--out {path} cannot be written to; choose another")
        if not self.recipe.is_file() and self.checkpoint.is_file():
            raise older_run(path)
        if self.recipe.is_file() and not resume:
            raise self._taken()
        if resume and not self.recipe.is_file():
            raise SteerError(f"--resume: {path} holds no run; leave --resume out to start one")

    def begin(self, training: str, recipe: TrainingRecipe, **facts: object) -> None:
        """Write ``recipe.json``, after :meth:`check`, and lock the folder until :meth:`close`.

        All processes call this. Only the first one writes and locks, once all are here: what it writes must not look
        like an older run to one that started later.

        Args:
            training: name of the training.
            recipe: of the run.
            facts: other plain data that must not change, such as the labels of a data set.

        Raises:
            SteerError: if the run is resumed and differs, or another process writes to the folder.
        """
        from accelerate import PartialState

        self.check(training, recipe, **facts)
        processes = PartialState()
        processes.wait_for_everyone()
        if not processes.is_main_process:
            return
        self._held.enter_context(LocalStorage(self.path).lock())
        if self.recipe.is_file() and not self.resume:
            raise self._taken()
        text = json_text({"training": training, **asdict(recipe), **facts}, indent=1) + "\n"
        write_whole(self.recipe, lambda path: path.write_text(text, encoding="utf-8"))

    def close(self) -> None:
        """Let other processes write to the folder."""
        self._held.close()

    def _taken(self) -> SteerError:
        return SteerError(f"{self.path} holds a run already; resume it with --resume, or choose another --out")

    def sheet(self, step: int) -> Path:
        """Return the file of the sample sheet after ``step`` steps."""
        return self.path / "sheets" / f"{step:06d}.png"

    def check(self, training: str, recipe: TrainingRecipe, **facts: object) -> None:
        """Check that a resumed run began with the same recipe; only :attr:`TrainingRecipe.free` may differ.

        Raises:
            SteerError: naming the first difference.
        """
        if not self.resume:
            return
        ours = json.loads(json_text({"training": training, **asdict(recipe), **facts}))  # tuples are lists there
        try:
            theirs = read_object(self.recipe, "recipe")
        except SteerError as error:
            raise SteerError(f"{error}; choose another --out") from None
        if "training" not in theirs:
            raise older_run(self.path)
        # a run of an older version has not got the newest fields
        theirs = {field.name: field.default for field in fields(recipe) if field.default is not MISSING} | theirs
        for name, value in ours.items():
            if name not in recipe.free and theirs.get(name) != value:
                raise SteerError(
                    f"--resume: the run in {self.path} has {name}={theirs.get(name)!r}, now it is {value!r}; resume "
                    "with the same options and data, or choose another --out"
                )


def older_run(path: Path) -> SteerError:
    """Return the error for a run of an older version."""
    return SteerError(f"{path} holds a run of an older steer, which this one cannot resume; choose another --out")


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Read a file of :func:`save_checkpoint`; runs no code of the file.

    Raises:
        SteerError: if it is damaged, or not a checkpoint of a run.
    """
    import torch

    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
        if not isinstance(state, dict) or not set(PARTS) <= state.keys():
            raise ValueError(f"expected {', '.join(PARTS)}")
    except Exception as error:  # a damaged archive fails in a dozen ways
        raise unusable(path, error) from None
    return state


def unusable(path: Path, error: Exception) -> SteerError:
    """Return the error for a checkpoint that no run can be resumed from."""
    return SteerError(
        f"cannot resume from checkpoint {path} ({message_of(error, 100)}): it is damaged or of another run; delete it "
        "to start over, or choose another --out"
    )


def save_checkpoint(state: Mapping[str, Any], path: Path) -> None:
    """Write tensors and plain data with torch, by :func:`steer.training.write_whole`."""
    write_whole(path, lambda beside: _save(state, beside))


def _save(state: Mapping[str, Any], path: Path) -> None:
    import torch

    try:
        with path.open("wb") as file:
            torch.save(state, file)
    except RuntimeError as error:
        if isinstance(error.__context__, OSError):  # a full disk, on which torch cannot finish its archive
            raise error.__context__ from None
        raise
