"""What docs/performance.md predicts for a GPU of 24 GB: the scenarios that take most, as the page says, below 23 GB.

``benchmarks/memory.py --check`` does the same for all of them.
"""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch
from diffusers import ConfigMixin
from support.pretended import REAL
from transformers import PreTrainedModel

from steer.cli.parts.diagnosis import verdict_of
from steer.models.footprint import footprint
from steer.models.load import load_model
from steer.registry.plugins import manager

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "benchmarks"))
import full_size
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


WHOLE = {
    "SD 1.5": full_size.sd15, "SDXL,": full_size.sdxl, "SD3.5-large": full_size.sd35_large,
    "Z-Image-Turbo": full_size.z_image_turbo, "Sana": full_size.sana,
}  # fmt: skip
LARGE = {"Flux.1": full_size.flux_schnell, "Qwen-Image": full_size.qwen_image}
"""Models whose scenarios take them quantized."""


@pytest.mark.thorough
@pytest.mark.parametrize("start", [*WHOLE, *LARGE])
def test_what_doctor_reads_in_configurations_of_full_size_is_what_the_page_says(start: str, tmp_path: Path) -> None:
    with torch.device("meta"):
        pipe = (WHOLE | LARGE)[start]()
    pipe.save_config(tmp_path)
    for name, part in pipe.components.items():
        if isinstance(part, PreTrainedModel):
            part.config.save_pretrained(tmp_path / name)
        elif isinstance(part, ConfigMixin):
            part.save_config(tmp_path / name)
    need = footprint(tmp_path, type(load_model(pipe, manager()).backbone))
    (line,) = (line for name, line in memory.rows_of_page().items() if name.startswith(start))
    weights, *_, peak = (float(cell) for cell in line.split("|")[2:-1] if cell.strip())
    verdict = verdict_of(need, memory.CARD / memory.GB, 64.0)
    if start in LARGE:
        assert need.weights / memory.GB > weights and "--offload" in verdict
        return
    assert need.weights / memory.GB == pytest.approx(weights, abs=0.06)
    assert need.decoding / memory.GB < peak and verdict.startswith("fits the GPU")
    assert ("in turns" in verdict) == (3 * weights > 2 * memory.CARD / memory.GB)
