"""The steps at which a guider guides."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from steer import Field, Method, Options, SteerError
from steer.plugin import Run


class Span(Options):
    """The steps at which to guide."""

    start: float = Field(0.0, ge=0, lt=1, description="Share of the steps from which to guide.")
    stop: float = Field(1.0, gt=0, le=1, description="Share of the steps after which not to guide.")


def check_span(method: Method) -> None:
    """Raise if a method with these options would guide at no step."""
    options: Any = method.options
    if options.start >= options.stop:
        raise SteerError(
            f"{method.name}.start={options.start:g} is not below {method.name}.stop={options.stop:g}, and nothing "
            "would be guided; raise stop, or lower start"
        )


def timesteps_of(run: Run) -> list[float]:
    """Return the timesteps of a run's schedule, once all methods have configured it."""
    process: Any = run.process()
    return [float(process.at(index).timestep) for index in range(process.length)]


def step_at(timesteps: Sequence[float], timestep: Tensor) -> int:
    """Return the step nearest to a timestep, as a look-ahead may stand at any of the coming ones."""
    here = float(timestep)
    return min(range(len(timesteps)), key=lambda index: abs(timesteps[index] - here))
