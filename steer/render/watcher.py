"""What a render reports to a watcher: its plan, its progress and its summary."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from steer.models.media import media_of
from steer.render.engine import Pack, PlannedGroup
from steer.render.tally import Progress
from steer.results.cost import Cost

RECIPE_BYTES, DETAIL_BYTES = 2_500, 8_000
"""Bytes of a recipe in a sample's file, and of a prompt's lines in the journal, the details and the page."""


@dataclass(frozen=True)
class Plan:
    """The work of a render.

    Attributes:
        tasks: prompts in all, replicates counted.
        done: prompts done before.
        failed: prompts that failed before and are not tried again.
        groups: the other prompts, grouped by equal settings.
        free_bytes: free space of the folder, if known.
        searching: whether a method owns an outer loop; the costs are those of one pass then.
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
    def modality(self) -> str | None:
        """Modality of the samples, such as ``"image"`` or ``"text"``; ``None`` if there is nothing to do."""
        return self.groups[0].modality if self.groups else None

    @property
    def word(self) -> str:
        """What a sample is called in messages."""
        return self.modality or "sample"

    @property
    def drops(self) -> bool:
        """Whether a method drops particles on the way, so that the evaluations are the most that it takes."""
        return any(group.drops for group in self.groups)

    @property
    def nfe(self) -> int:
        """Denoiser evaluations for one pass per prompt."""
        return sum(group.count * group.nfe for group in self.groups)

    @property
    def bytes(self) -> int:
        """Approximate size of the samples' files and their details."""
        return sum(group.count * (group.images * _sample_bytes(group) + DETAIL_BYTES) for group in self.groups)

    @property
    def packs(self) -> list[Pack]:
        """All packs in order."""
        return [pack for group in self.groups for pack in group.packs]


@dataclass(frozen=True)
class Summary:
    """The end of a render.

    Attributes:
        plan: its plan.
        progress: of this session.
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
    """Sees a render's progress; called by one thread at a time."""

    def begin(self, plan: Plan, place: str) -> None:
        """The plan is made, nothing is computed yet."""

    def done(self, row: Mapping[str, Any], progress: Progress) -> None:
        """A prompt is written; ``row`` is its line in the journal."""

    def failed(self, row: Mapping[str, Any], progress: Progress) -> None:
        """A prompt failed; ``row`` is its line in the journal."""

    def stopping(self) -> None:
        """The user asked to stop; packs in flight are finished first."""

    def end(self, summary: Summary) -> None:
        """All is written."""


def _sample_bytes(group: PlannedGroup) -> int:
    return RECIPE_BYTES + media_of(group.modality).planned_bytes(group.size, group.frames)
