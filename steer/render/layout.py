"""File names of samples: a folder per medium, or the tree that GenEval's evaluation reads."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from steer.errors import SteerError
from steer.models.media import MEDIA, Medium
from steer.prompts.rows import as_row
from steer.render.spec import LAYOUTS, Task
from steer.results.names import file_stem, sample_name
from steer.settings.strict_json import json_text


@dataclass(frozen=True)
class Layout:
    """File names of samples, relative to the output folder."""

    kind: str

    def __post_init__(self) -> None:
        """Check the kind."""
        if self.kind not in LAYOUTS:
            raise SteerError(f"layout {self.kind!r}: expected {' or '.join(LAYOUTS)}")

    @property
    def folders(self) -> tuple[str, ...]:
        """The folders below which all samples are."""
        return tuple(medium.plural for medium in MEDIA.values()) if self.kind == "images" else (self.kind,)

    @property
    def placed(self) -> bool:
        """Whether a file's name depends on its row's number."""
        return self.kind == "geneval"

    def samples(self, task: Task, slots: Sequence[int], medium: Medium) -> list[str]:
        """Return a file for each chosen slot of a task."""
        if self.kind == "images":
            return [f"{medium.plural}/{sample_name(task.prompt.id, slot, medium)}" for slot in slots]
        folder, first = f"geneval/{task.index:05d}/samples", task.replicate * len(slots)
        return [f"{folder}/{first + number:05d}{medium.suffix}" for number in range(len(slots))]

    def extras(self, task: Task) -> dict[str, bytes]:
        """Return other files of a task: GenEval's row beside its samples."""
        if self.kind == "images" or task.replicate:
            return {}
        row = as_row(task.prompt)
        return {f"geneval/{task.index:05d}/metadata.jsonl": f"{json_text(row)}\n".encode()}


def check_names(tasks: Sequence[Task]) -> None:
    """Raise if two tasks would write one file.

    Raises:
        SteerError: naming both ids.
    """
    taken: dict[str, str] = {}
    for task in tasks:
        other = taken.setdefault(file_stem(task.prompt.id).casefold(), task.prompt.id)
        if other != task.prompt.id:
            raise SteerError(f"the ids {other[:80]!r} and {task.prompt.id[:80]!r} lead to one file name; change one")
