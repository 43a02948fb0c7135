"""What a render reports to a watcher: its plan, its progress and its summary."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from steer.render.engine import Pack, PlannedGroup
from steer.render.tally import Progress
from steer.results.cost import Cost

PIXEL_BYTES = 1.6
"""Of a PNG, a pixel of a photograph-like picture; plain pictures take a fraction of it."""

RECIPE_BYTES, DETAIL_BYTES = 2_500, 8_000
"""Of a recipe in a PNG, and of a prompt's lines in the journal, the details and the page."""


@dataclass(frozen=True)
class Plan:
    """What a render will do.

    Attributes:
        tasks: prompts in all, replicates counted.
        done: of these, done already.
        failed: of these, failed before and not to be tried again.
        groups: the rest, like with like.
        free_bytes: what can still be written, if known.
        searching: whether a method owns an outer loop, so that costs are those of one pass.
    """

    tasks: int
    done: int
    failed: int
    groups: Sequence[PlannedGroup]
    free_bytes: int | None
    searching: bool

    @property
    def todo(self) -> int:
        """Prompts to render."""
        return sum(group.count for group in self.groups)

    @property
    def images(self) -> int:
        """Images to write."""
        return sum(group.count * group.images for group in self.groups)

    @property
    def modality(self) -> str:
        """What is made, such as ``"image"`` or ``"text"``."""
        return self.groups[0].modality if self.groups else "image"

    @property
    def nfe(self) -> int:
        """Denoiser evaluations, for one pass a prompt."""
        return sum(group.count * group.nfe for group in self.groups)

    @property
    def bytes(self) -> int:
        """Roughly what the images and their details take."""
        return sum(group.count * (group.images * _image_bytes(group) + DETAIL_BYTES) for group in self.groups)

    @property
    def packs(self) -> list[Pack]:
        """All packs in order."""
        return [pack for group in self.groups for pack in group.packs]


@dataclass(frozen=True)
class Summary:
    """How a render ended.

    Attributes:
        plan: what was to be done.
        progress: what was done in this session.
        cost: of this session.
        seconds: of this session, from the first pack on.
        stopped: whether it was asked to stop before the end.
        place: the output folder.
    """

    plan: Plan
    progress: Progress
    cost: Cost
    seconds: float
    stopped: bool
    place: str

    @property
    def done(self) -> int:
        """Prompts done in all sessions."""
        return self.plan.done + self.progress.done

    @property
    def failed(self) -> int:
        """Prompts that failed, in all sessions."""
        return self.plan.failed + self.progress.failed


class Watcher(Protocol):
    """Sees what happens; called by one thread at a time."""

    def begin(self, plan: Plan, place: str) -> None:
        """The plan is made, nothing is computed yet."""

    def done(self, row: Mapping[str, Any], progress: Progress) -> None:
        """A prompt is written; ``row`` is its line in the journal."""

    def failed(self, row: Mapping[str, Any], progress: Progress) -> None:
        """A prompt failed; ``row`` is its line in the journal."""

    def stopping(self) -> None:
        """Somebody asked to stop; what is in flight is finished first."""

    def end(self, summary: Summary) -> None:
        """All is written."""


def _image_bytes(group: PlannedGroup) -> int:
    return RECIPE_BYTES + round(PIXEL_BYTES * group.size[0] * group.size[1])
