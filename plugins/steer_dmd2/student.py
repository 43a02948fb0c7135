"""A student on disk: a folder with its weights and ``student.json``, which says what it was made for."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from steer import SteerError

CARD = "student.json"
WEIGHTS = "student.safetensors"
FORMAT = 1
FORMS = ("unet", "lora")


@dataclass(frozen=True)
class Student:
    """What is known of a student besides its weights.

    Attributes:
        family: pipeline class of the models that it fits.
        base: the model that it was distilled from, as it was named.
        schedules: timesteps by number of steps: what it was made for.
        form: ``"unet"`` (all weights) or ``"lora"``.
        guidance_scale: of the teacher, in training; generation has none.
        training: the recipe, for people.
    """

    family: str
    base: str
    schedules: Mapping[int, tuple[int, ...]]
    form: str = "unet"
    guidance_scale: float = 1.0
    training: Mapping[str, Any] = field(default_factory=dict)

    def timesteps(self, steps: int | None, name: str) -> tuple[int, ...]:
        """Return the timesteps for so many steps; the only or the most steps by default.

        Raises:
            SteerError: for steps that it was not made for, naming those it was.
        """
        chosen = max(self.schedules) if steps is None else steps
        if chosen not in self.schedules:
            raise not_made_for(name, chosen, self.schedules)
        return self.schedules[chosen]


def not_made_for(name: str, steps: int, schedules: Mapping[int, Any]) -> SteerError:
    """Return the error for a number of steps that a student was not made for."""
    made = " or ".join(str(count) for count in sorted(schedules))
    return SteerError(f"student {name!r} was not made for dmd2.steps={steps}; it was made for {made}")


def write_card(student: Student, folder: Path) -> None:
    """Write ``student.json``."""
    data = {
        "format": FORMAT,
        "family": student.family,
        "base": student.base,
        "schedules": {str(steps): list(timesteps) for steps, timesteps in student.schedules.items()},
        "form": student.form,
        "guidance_scale": student.guidance_scale,
        "training": dict(student.training),
    }
    folder.mkdir(parents=True, exist_ok=True)
    (folder / CARD).write_text(json.dumps(data, indent=1) + "\n", encoding="utf-8")


def read_card(folder: Path) -> Student:
    """Read ``student.json`` of a folder.

    Raises:
        SteerError: if it is not there or holds something else.
    """
    path = folder / CARD
    if not path.is_file():
        raise SteerError(f"student folder {folder} has no {CARD}; expected what `steer train dmd2` writes")
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        if data["format"] != FORMAT:
            raise SteerError(f"{path}: format {data['format']!r}, this version reads {FORMAT}")
        student = Student(
            family=str(data["family"]),
            base=str(data["base"]),
            schedules={int(steps): tuple(int(t) for t in times) for steps, times in data["schedules"].items()},
            form=str(data["form"]),
            guidance_scale=float(data["guidance_scale"]),
            training=dict(data["training"]),
        )
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise SteerError(f"{path} is damaged ({type(error).__name__}: {error}); copy or train it again") from None
    if student.form not in FORMS or not student.schedules or any(n != len(t) for n, t in student.schedules.items()):
        raise SteerError(f"{path} is damaged: form {student.form!r}, schedules {dict(student.schedules)}")
    return student
