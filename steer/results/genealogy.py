"""Who descends from whom: the lines of a trace's particles, from its events."""

from __future__ import annotations

from collections.abc import Sequence
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
    """Return the lines of a trace's particles, population by population of a search.

    Slots may be any numbers, and fewer from event to event: a resampling may leave some out, and one that a reward no
    longer tells of was dropped after the last one that did.
    """
    events = [event for event in trace["events"] if event["kind"] in ("reward", "resample")]
    draws = dict.fromkeys(event.get("draw", 0) for event in events)
    if not draws:
        return [Line(slot, 0, trace["steps"], lives=True) for slot in range(trace["particles"])]
    return [line for draw in draws for line in _lines([e for e in events if e.get("draw", 0) == draw], trace["steps"])]


def _lines(events: Sequence[dict[str, Any]], steps: int) -> list[Line]:
    """Return the lines of one population."""
    going = {slot: Line(slot, 0, steps) for slot in events[0]["slots"]}
    lines, seen = [*going.values()], 0
    for event in events:
        step = event["step"]
        if event["kind"] == "resample":
            for line in going.values():
                line.stop = step
            pairs = zip(event["slots"], event["ancestors"], strict=True)
            going = {slot: Line(slot, step, steps, going.get(source)) for slot, source in pairs}
            lines += going.values()
        else:
            for slot in going.keys() - set(event["slots"]):
                going.pop(slot).stop = seen
            new = {slot: Line(slot, step, steps) for slot in event["slots"] if slot not in going}
            going |= new
            lines += new.values()
        seen = step
    for line in going.values():
        here: Line | None = line
        while here is not None and not here.lives:
            here.lives, here = True, here.parent
    return lines
