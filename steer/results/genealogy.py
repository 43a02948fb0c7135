"""Who descends from whom: the lines of a trace's particles, from its events."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(eq=False)
class Line:
    """A particle from one resampling to the next, or up to where it was dropped.

    Attributes:
        slot: its number.
        start, stop: steps done at its two ends.
        parent: the line that it goes on or is a copy of; ``None`` at the beginning.
        lives: whether something that descends from it is left at the end.
    """

    slot: int
    start: int
    stop: int
    parent: Line | None = None
    lives: bool = False


def lines_of(trace: dict[str, Any]) -> list[Line]:
    """Return the lines of a trace's particles, by their beginnings.

    Slots may be any numbers, and fewer from event to event: a resampling may leave some out, and one that a reward no
    longer tells of was dropped after the last one that did.
    """
    events = [event for event in trace["events"] if event["kind"] in ("reward", "resample")]
    first = events[0]["slots"] if events else range(trace["particles"])
    going = {slot: Line(slot, 0, trace["steps"]) for slot in first}
    lines, seen = [*going.values()], 0
    for event in events:
        step = event["step"]
        if event["kind"] == "resample":
            for line in going.values():
                line.stop = step
            pairs = zip(event["slots"], event["ancestors"], strict=True)
            going = {slot: Line(slot, step, trace["steps"], going.get(source)) for slot, source in pairs}
            lines += going.values()
        else:
            for slot in going.keys() - set(event["slots"]):
                going.pop(slot).stop = seen
            new = {slot: Line(slot, step, trace["steps"]) for slot in event["slots"] if slot not in going}
            going |= new
            lines += new.values()
        seen = step
    for line in going.values():
        here: Line | None = line
        while here is not None and not here.lives:
            here.lives, here = True, here.parent
    return lines
