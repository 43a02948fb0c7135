"""On which kind of machine arithmetic has the same last bits."""

from __future__ import annotations

import importlib.metadata
import os
from pathlib import Path

import torch

LIBRARIES = ("torch", "diffusers", "transformers", "numpy")


def machine() -> dict[str, str]:
    """Return what decides the last bits: the processor, which of its instructions are used, and the libraries."""
    cpu = Path("/proc/cpuinfo")
    lines = cpu.read_text().split("\n\n")[0].splitlines() if cpu.exists() else []
    processor = {name.strip(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    return {
        **{name: processor.get(name, "") for name in ("vendor_id", "cpu family", "model")},
        "capability": torch.backends.cpu.get_cpu_capability(),
        "onednn": os.environ.get("ONEDNN_MAX_CPU_ISA", ""),
        **{name: importlib.metadata.version(name) for name in LIBRARIES},
    }
