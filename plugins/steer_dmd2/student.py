"""A student on disk: a folder with its weights and ``student.json``, which describes it."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from steer import SteerError
from steer.plugin import json_text, read_text
from steer.training import write_whole

CARD = "student.json"
WEIGHTS = "student.safetensors"
FORMAT = 1
FORMS = ("unet", "lora")
PREDICTIONS = ("epsilon", "v_prediction")


@dataclass(frozen=True)
class Student:
    """The description of a student, without its weights.

    Attributes:
        family: pipeline class of the models that it fits.
        base: the model that it was distilled from, as the user named it.
        schedules: the timesteps that it was made for, by number of steps.
        form: ``"unet"`` (all weights) or ``"lora"``.
        guidance_scale: of the teacher in training; generation uses none.
        prediction: what it predicts, ``"epsilon"`` or ``"v_prediction"``; ``None`` if the card does not say.
        training: the recipe, for the reader.
    """

    family: str
    base: str
    schedules: Mapping[int, tuple[int, ...]]
    form: str = "unet"
    guidance_scale: float = 1.0
    prediction: str | None = None
    training: Mapping[str, Any] = field(default_factory=dict)

    def timesteps(self, steps: int | None, name: str) -> tuple[int, ...]:
        """Return the timesteps for a number of steps; by default the largest number that it was made for.

        Raises:
            SteerError: for a number of steps that it was not made for.
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
    text = json_text({"format": FORMAT, **asdict(student)}, indent=1) + "\n"
    write_whole(folder / CARD, lambda path: path.write_text(text, encoding="utf-8"))


def read_card(folder: Path) -> Student:
    """Read ``student.json`` in a folder.

    Raises:
        SteerError: if it is missing or damaged.
    """
    path = folder / CARD
    if not path.is_file():
        raise SteerError(f"student folder {folder} has no {CARD}; expected a folder written by `steer train dmd2`")
    try:
        data = json.loads(read_text(path, "student card"))
        if data["format"] != FORMAT:
            raise SteerError(f"{path}: format {str(data['format'])[:40]!r}, but this version reads {FORMAT}")
        return Student(
            family=_of_type(data, "family", str),
            base=_of_type(data, "base", str),
            schedules=_schedules(_of_type(data, "schedules", dict)),
            form=_one_of(data, "form", FORMS),
            guidance_scale=float(_of_type(data, "guidance_scale", (int, float))),
            prediction=None if data.get("prediction") is None else _one_of(data, "prediction", PREDICTIONS),
            training=_of_type(data, "training", dict),
        )
    except (OSError, ValueError, TypeError, KeyError, ArithmeticError, RecursionError) as error:
        reason = f"{type(error).__name__}: {error}"[:160]
        raise SteerError(f"{path} is damaged ({reason}); copy or train it again") from None


def _of_type(data: Mapping[str, Any], name: str, kind: type | tuple[type, ...]) -> Any:
    if not isinstance(data[name], kind):
        raise TypeError(f"{name} is a {type(data[name]).__name__}")
    return data[name]


def _one_of(data: Mapping[str, Any], name: str, known: Sequence[str]) -> str:
    value: str = _of_type(data, name, str)
    if value not in known:
        raise ValueError(f"{name} {value[:40]!r}, expected {' or '.join(known)}")
    return value


def _schedules(data: Mapping[str, Any]) -> dict[int, tuple[int, ...]]:
    """Return timesteps by number of steps; check that each list has one timestep per step, above 0, highest first."""
    found = {}
    for steps, times in data.items():
        whole = isinstance(times, list) and times and all(type(time) is int and time > 0 for time in times)
        if not whole or int(steps) != len(times) or times != sorted(set(times), reverse=True):
            raise ValueError(f"timesteps of {str(steps)[:10]} steps are {str(times)[:40]}")
        found[len(times)] = tuple(times)
    if not found:
        raise ValueError("no steps that it was made for")
    return found
