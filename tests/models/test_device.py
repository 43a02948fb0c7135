"""Half precision where it pays, and a word where it does not."""

from __future__ import annotations

import warnings

import pytest
import torch

from steer.models.device import computes_bf16, pick_dtype


@pytest.mark.parametrize(("capability", "native"), [("AVX2", False), ("DEFAULT", False), ("AVX512", True)])
def test_a_cpu_that_emulates_half_precision_is_told_of(
    capability: str, native: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: capability)
    cpu = torch.device("cpu")
    assert computes_bf16(cpu) is native
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        assert pick_dtype("bf16", cpu) is torch.bfloat16
        assert pick_dtype("fp32", cpu) is pick_dtype(None, cpu) is torch.float32
    assert len(told) == (0 if native else 1)
    assert native or "this CPU emulates bf16" in str(told[0].message)
