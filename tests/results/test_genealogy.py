"""The lines of a trace: who descends from whom, whatever the slots are and however many are left."""

from __future__ import annotations

from typing import Any

from steer.results.genealogy import lines_of
from steer.results.trace_plot import plot


def reward(step: int, *slots: int) -> dict[str, Any]:
    return {"kind": "reward", "step": step, "slots": list(slots), "reward": [float(slot) for slot in slots]}


def resample(step: int, **parents: int) -> dict[str, Any]:
    slots = [int(name[1:]) for name in parents]
    return {"kind": "resample", "step": step, "slots": slots, "ancestors": list(parents.values())}


def trace(*events: dict[str, Any], particles: int) -> dict[str, Any]:
    return {"events": list(events), "steps": 10, "particles": particles, "prompt": "a scene"}


def seen(trace: dict[str, Any]) -> set[tuple[int, int, int, int | None, bool]]:
    assert plot(trace)[:4] == b"\x89PNG"
    lines = lines_of(trace)
    return {(line.slot, line.start, line.stop, line.parent and line.parent.slot, line.lives) for line in lines}


def test_copies_of_a_population_that_shrinks() -> None:
    assert seen(trace(reward(2, 0, 1, 2, 3), resample(2, s1=3, s3=3), reward(10, 1, 3), particles=2)) == {
        (0, 0, 2, None, False), (1, 0, 2, None, False), (2, 0, 2, None, False), (3, 0, 2, None, True),
        (1, 2, 10, 3, True), (3, 2, 10, 3, True),
    }  # fmt: skip


def test_particles_that_are_dropped_end_where_they_were_last_seen() -> None:
    assert seen(trace(reward(1, 0, 1, 2), reward(4, 0, 2), reward(10, 2), particles=1)) == {
        (0, 0, 4, None, False), (1, 0, 1, None, False), (2, 0, 10, None, True),
    }  # fmt: skip


def test_any_slots_and_those_that_a_method_added() -> None:
    assert seen(trace(resample(3, s70=70), reward(5, 70, 71), particles=2)) == {
        (70, 0, 3, None, True), (70, 3, 10, 70, True), (71, 5, 10, None, True),
    }  # fmt: skip


def test_nothing_happened() -> None:
    assert seen(trace(particles=2)) == {(0, 0, 10, None, True), (1, 0, 10, None, True)}
