"""Small traces, by hand."""

from typing import Any


def reward(step: int, *slots: int, draw: int = 0) -> dict[str, Any]:
    """Return the event of rewards: each slot's is its number."""
    return {
        "kind": "reward",
        "step": step,
        "slots": list(slots),
        "reward": [float(slot) for slot in slots],
        "draw": draw,
    }


def resample(step: int, parents: dict[int, int], draw: int = 0) -> dict[str, Any]:
    """Return the event of a resampling: slots that are left, and what each is a copy of."""
    return {"kind": "resample", "step": step, "slots": [*parents], "ancestors": [*parents.values()], "draw": draw}


def trace(*events: dict[str, Any], particles: int) -> dict[str, Any]:
    """Return the trace of a run of ten steps."""
    return {"events": list(events), "steps": 10, "particles": particles, "prompt": "a scene"}


SHRINKS = trace(reward(2, 0, 1, 2, 3), resample(2, {1: 3, 3: 3}), reward(10, 1, 3), particles=2)
DROPS = trace(reward(1, 0, 1, 2), reward(4, 0, 2), reward(10, 2), particles=1)
ADDS = trace(resample(3, {70: 70}), reward(5, 70, 71), particles=2)
TWO_POPULATIONS = trace(
    reward(4, 0, 1), reward(10, 0, 1), resample(2, {2: 3, 3: 3}, draw=1), reward(10, 2, 3, draw=1), particles=4
)
LINES: list[tuple[dict[str, Any], set[tuple[int, int, int, int | None, bool]]]] = [
    (SHRINKS, {(0, 0, 2, None, False), (1, 0, 2, None, False), (2, 0, 2, None, False), (3, 0, 2, None, True),
               (1, 2, 10, 3, True), (3, 2, 10, 3, True)}),
    (DROPS, {(0, 0, 4, None, False), (1, 0, 1, None, False), (2, 0, 10, None, True)}),
    (ADDS, {(70, 0, 3, None, True), (70, 3, 10, 70, True), (71, 5, 10, None, True)}),
    (TWO_POPULATIONS, {(0, 0, 10, None, True), (1, 0, 10, None, True), (2, 0, 2, None, False), (3, 0, 2, None, True),
                       (2, 2, 10, 3, True), (3, 2, 10, 3, True)}),
]  # fmt: skip
"""Traces and their lines: slot, steps of both ends, the parent's slot, and whether descendants are left at the end."""
