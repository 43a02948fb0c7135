"""A student on disk: a folder with its weights and ``student.json``, which describes it."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, AllowInfNan, Field, TypeAdapter

from steer import SteerError
from steer.plugin import json_text, message_of, read_object
from steer.training import write_whole

CARD = "student.json"
WEIGHTS = "student.safetensors"
FORMAT = 1


def _checked(schedules: Mapping[int, tuple[int, ...]]) -> Mapping[int, tuple[int, ...]]:
    """Check that there are schedules, each with one timestep per step, above 0, highest first."""
    for steps, times in schedules.items():
        if steps != len(times) or list(times) != sorted(set(times), reverse=True) or min(times, default=0) < 1:
            raise ValueError(f"timesteps of {steps} steps are {str(times)[:40]}")
    if not schedules:
        raise ValueError("no steps that it was made for")
    return schedules


@dataclass(frozen=True)
class Student:
    """The description of a student, without its weights.

    Attributes:
        family: pipeline class of the models that it fits.
        base: the model that it was distilled from, as the user named it.
        schedules: the timesteps that it was made for, by number of steps.
        form: ``"unet"`` (all weights), ``"difference"`` (see :mod:`steer_dmd2.differences`) or ``"lora"``.
        guidance_scale: of the teacher in training; generation uses none.
        prediction: what it predicts, ``"epsilon"`` or ``"v_prediction"``; ``None`` if the card does not say.
        training: the recipe, for the reader.
    """

    family: str
    base: str
    schedules: Annotated[Mapping[int, tuple[int, ...]], AfterValidator(_checked)]
    form: Literal["unet", "difference", "lora"] = "unet"
    guidance_scale: Annotated[float, AllowInfNan(False)] = 1.0
    prediction: Annotated[str | None, Field(pattern="^(epsilon|v_prediction)$")] = None
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


def plain_name(name: str) -> str:
    """Return a path's last part, because full paths of the training machine mean nothing elsewhere."""
    return Path(name).name if Path(name).expanduser().exists() else name


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
        data = read_object(path, "student card")
        if data["format"] != FORMAT:
            raise SteerError(f"{path}: format {str(data['format'])[:40]!r}, but this version reads {FORMAT}")
        return TypeAdapter(Student).validate_python(data)
    except (ValueError, TypeError, KeyError) as error:
        reason = message_of(error).partition(" [type=")[0]  # of pydantic's, what follows is for programmers
        raise SteerError(f"{path} is damaged ({reason}); copy or train it again") from None
