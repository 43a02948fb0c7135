"""What docs/performance.md predicts for a GPU of 24 GB: the scenarios that take most, as the page says, below 23 GB.

``benchmarks/memory.py --check`` does the same for all of them.
"""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from support.pretended import REAL

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "benchmarks"))
import memory

pytestmark = [pytest.mark.slow, pytest.mark.skipif(REAL is not None, reason="a real accelerator tells by itself")]
LARGEST = ("SD3.5-large", "sdxl-turbo")
REQUIRED = (
    "SD 1.5",
    "SDXL,",
    "SDXL + dmd2",
    "SD3.5-large",
    "Z-Image-Turbo",
    "Sana",
    "sdxl-turbo",
    "Flux.1",
    "Qwen-Image",
)


def test_the_page_has_every_scenario_below_23_gb() -> None:
    rows = memory.rows_of_page()
    assert set(rows) == {scenario.name for scenario in memory.SCENARIOS} | {"scenario", "---"}
    for start in REQUIRED:
        (line,) = (line for name, line in rows.items() if name.startswith(start))
        assert float(line.split("|")[-2]) <= memory.MOST


def test_rows_that_differ_in_the_last_digit_or_more() -> None:
    row = "| one | 2.1 | 4.1 |  | 5.7 |"
    assert memory.same(row, "| one | 2.1 | 4.2 |  | 5.7 |")
    assert not memory.same(row, "| one | 2.1 | 4.3 |  | 5.7 |")
    assert not memory.same(row, "| one | 2.1 | 4.1 | 1.0 | 5.7 |") and not memory.same(row, "")


@pytest.mark.thorough
@pytest.mark.parametrize("start", LARGEST)
def test_a_scenario_takes_what_the_page_says(start: str) -> None:
    (scenario,) = (scenario for scenario in memory.SCENARIOS if scenario.name.startswith(start))
    found = memory.predict(scenario)
    assert memory.same(memory.row(scenario, found), memory.rows_of_page()[scenario.name])
    assert found["peak"] <= memory.MOST
    if found["weights"] > memory.CARD / memory.GB * 2 / 3:  # the encoders are there alone
        assert found["encode"] < found["weights"] / 2
