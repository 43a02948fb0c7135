"""The lines of a trace: who descends from whom, whatever the slots are and however many are left."""

from __future__ import annotations

from typing import Any

import pytest
from support.traces import LINES, trace

from steer.results.genealogy import lines_of
from steer.results.trace_plot import plot


@pytest.mark.parametrize(("trace", "lines"), LINES, ids=["shrinks", "drops", "adds", "two populations"])
def test_lines_end_and_branch_where_particles_do(trace: dict[str, Any], lines: set[Any]) -> None:
    found = lines_of(trace)
    assert {(line.slot, line.start, line.stop, line.parent and line.parent.slot, line.lives) for line in found} == lines
    assert len(found) == len(lines)
    assert plot(trace)[:4] == b"\x89PNG"


def test_nothing_happened() -> None:
    lines = lines_of(trace(particles=2))
    assert [(line.slot, line.start, line.stop, line.lives) for line in lines] == [(0, 0, 10, True), (1, 0, 10, True)]
