"""The log of a run: ``log.jsonl`` and, if its writer is installed, TensorBoard's files."""

import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from steer.settings.strict_json import json_text
from steer.training.checkpoints import RunFolder
from steer.training.files import write_whole, writing


class Log:
    """Rows of numbers by step; ``log.jsonl`` needs no reader, TensorBoard reads the folder ``tensorboard``."""

    def __init__(self, run: RunFolder, *, first: int) -> None:
        """Continue after ``first`` steps: rows of later steps are dropped, because these steps will be repeated."""
        self.path = run.log
        log = self.path.read_text(encoding="utf-8", errors="replace") if self.path.is_file() else ""
        kept = rows_until(log, first)
        write_whole(self.path, lambda path: path.write_text(kept, encoding="utf-8"))
        self._board: Any = None
        try:
            from tensorboardX import SummaryWriter
        except ImportError:
            return
        self._board = SummaryWriter(str(run.path / "tensorboard"), purge_step=first + 1)

    def note(self, step: int, **values: float | str) -> None:
        """Write one row."""
        with writing(self.path), self.path.open("a", encoding="utf-8") as file:
            file.write(f"{json_text({'step': step, **values})}\n")
        if self._board is not None:
            for name, value in values.items():
                if isinstance(value, (int, float)):
                    self._board.add_scalar(name, value, step)

    def show(self, step: int, picture: Path) -> None:
        """Show a sample sheet, if the task drew one."""
        if self._board is not None and picture.is_file():
            self._board.add_image("samples", np.asarray(Image.open(picture).convert("RGB")), step, dataformats="HWC")
            self._board.flush()


def rows_until(log: str, step: int) -> str:
    """Return the rows of a log up to a step.

    A resumed run logs the steps after the last checkpoint again. A row that was cut off belongs to no step.
    """
    return "".join(f"{row}\n" for row in log.splitlines() if _step(row) <= step)


def _step(row: str) -> float:
    try:
        return float(json.loads(row)["step"])
    except (ValueError, TypeError, KeyError):
        return float("inf")
