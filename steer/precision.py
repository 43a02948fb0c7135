"""Where half precision pays."""

from __future__ import annotations

import torch


def computes_bf16(device: torch.device | str) -> bool:
    """Return whether a device multiplies in bfloat16 itself.

    A CPU without AVX-512 gets there through emulation, and was 36 times slower than in fp32 (a guided step of the
    embedded model, AVX2, torch 2.15).
    """
    kind = torch.device(device).type
    if kind == "cuda":
        return bool(torch.cuda.is_bf16_supported())
    if kind == "cpu":
        return torch.backends.cpu.get_cpu_capability().startswith("AVX512")
    return False
