"""What ``benchmarks/gpu.py`` does on a GPU alone runs through on a pretended one, at tiny sizes."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from diffusers import UNet2DConditionModel
from support.pretended import REAL, pretended
from torch.nn.modules.module import register_module_forward_pre_hook

from steer.models import load

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "benchmarks"))
import gpu
import gpu_parts

pytestmark = [
    pytest.mark.slow,
    pytest.mark.thorough,
    pytest.mark.skipif(REAL is not None, reason="a real accelerator tells by itself"),
]
SMALL_BATCH = 16
"""Rows that the denoiser has memory for while memory is limited."""


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[gpu_parts.Machine]:
    """A machine whose GPU is pretended, with tiny models, and with little memory if it is told to have little."""
    little = []

    def full(module: Any, inputs: tuple[Any, ...]) -> None:
        if little and isinstance(module, UNet2DConditionModel) and len(inputs[0]) > SMALL_BATCH:
            raise torch.OutOfMemoryError("CUDA out of memory")

    def limit(fraction: float) -> None:
        little[:] = [fraction] if fraction < 1 else []

    @contextmanager
    def peak(_: gpu_parts.Machine, row: gpu_parts.Row) -> Iterator[None]:
        yield
        row |= {"peak_gb": 1.0, "seconds": 1.0}

    for name, make in list(gpu_parts.FAMILIES.items()):
        monkeypatch.setitem(gpu_parts.FAMILIES, name, lambda smoke, make=make: make(True))
    for name in set(gpu_parts.FAMILIES) - {"sd15"}:
        monkeypatch.delitem(gpu_parts.FAMILIES, name)
    monkeypatch.setattr(gpu_parts.Machine, "peak", peak)
    monkeypatch.setattr(gpu_parts.Machine, "dtype", torch.float32)
    monkeypatch.setattr(gpu_parts.Machine, "steps", 2)
    monkeypatch.setattr(load, "pick_device", torch.device)
    properties = SimpleNamespace(total_memory=24 * 10**9)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: properties)
    monkeypatch.setattr(torch.cuda, "set_per_process_memory_fraction", limit)
    for name in ("memory_allocated", "max_memory_allocated", "synchronize", "reset_peak_memory_stats"):
        monkeypatch.setattr(torch.cuda, name, lambda *_: 10**9)
    hook = register_module_forward_pre_hook(full)
    with pretended():
        yield gpu_parts.Machine(smoke=False, out=tmp_path)
    hook.remove()


@pytest.mark.parametrize("part", ["memory", "oom", "speed-sd15-plain", "speed-sd15-preview"])
def test_a_part_runs_through(part: str, machine: gpu_parts.Machine) -> None:
    rows = list(gpu_parts.PARTS[part](machine))
    assert rows and gpu.good(rows) and not any("left_out" in row for row in rows)
    if part == "oom":
        assert rows[0]["halved_to"] == SMALL_BATCH // 2  # with guidance two rows each
