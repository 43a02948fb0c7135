"""Events in the life of a population, as plain numbers: traces consist of them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from steer.sampling.start import Start


@dataclass(frozen=True)
class Event:
    """One event, for traces: plain numbers only.

    Attributes:
        kind: ``"reward"``, ``"resample"`` or the name of a method's own record.
        step: steps taken when it happened; equal to the number of steps at the end.
        timestep: the denoiser's time, or 0 at the end.
        jobs: index of the prompt of each row.
        slots: slot of each row.
        data: name to one value per row, or one value per prompt.
        by_row: whether ``data`` has one value per row.
        draw: number of the search's population.
    """

    kind: str
    step: int
    timestep: float
    jobs: tuple[int, ...]
    slots: tuple[int, ...]
    data: dict[str, list[Any]] = field(default_factory=dict)
    by_row: bool = False
    draw: int = 0

    @classmethod
    def candidates(cls, start: Start, steps: int, **data: list[Any]) -> Event:
        """Return the event that a search records for finished samples.

        Args:
            start: the rows that they came from.
            steps: denoising steps.
            **data: one value per row; ``origin`` (``"seed"``, ``"neighbor"``, ``"gradient"``), ``reward`` and
                ``spent`` (the prompt's part of :attr:`steer.results.cost.Cost.forwards` when the sample was known) are
                plotted
        """
        rows = tuple(start.job.tolist()), tuple(start.slot.tolist())
        return cls("candidate", steps, 0.0, *rows, data, by_row=True, draw=start.draw)
