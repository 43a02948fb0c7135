"""Half precision where it pays, and a word where it does not."""

from __future__ import annotations

import ast
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from steer.errors import RewardError
from steer.models.device import computes_bf16, in_double, pick_dtype, repeatably


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


def test_bf16_that_a_gpu_emulates_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: including_emulation)
    cuda = torch.device("cuda")
    assert not computes_bf16(cuda)
    assert pick_dtype(None, cuda) is torch.float16
    with pytest.warns(UserWarning, match="this GPU does not compute in bf16, so the model is in fp32"):
        assert pick_dtype(None, cuda, torch.bfloat16) is torch.float32
    with pytest.warns(UserWarning, match="this CUDA emulates bf16"):
        assert pick_dtype("bf16", cuda) is torch.bfloat16
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: True)
    assert pick_dtype(None, cuda, torch.bfloat16) is torch.bfloat16


# MPS has no fp64: what may be on a device is brought to the CPU first

ROOT = Path(__file__).parents[2]
SOURCES = [path for top in ("steer", "plugins") for path in sorted((ROOT / top).rglob("*.py"))]


def on_the_cpu(node: ast.expr) -> bool:
    """Whether an expression is a tensor that was just brought to the CPU."""
    return isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "cpu"


def fp64_on_a_device(tree: ast.AST) -> Iterator[int]:
    """Yield the lines that turn a tensor into fp64 where it is, or make one on a device."""
    for node in ast.walk(tree):
        if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)):
            continue
        words = {ast.unparse(one) for one in [*node.args, *(keyword.value for keyword in node.keywords)]}
        double = node.func.attr == "double" or (node.func.attr in ("to", "type") and "torch.float64" in words)
        made = "torch.float64" in words and any(keyword.arg == "device" for keyword in node.keywords)
        if made or (double and not on_the_cpu(node.func.value)):
            yield node.lineno


ON_THE_CPU_ALREADY = {
    "steer/models/device.py": 1,  # in_double itself
    "steer/sampling/state.py": 1,  # weights are on the CPU
    "steer/sampling/gradients.py": 1,
}
"""Lines that are right all the same, by file."""


@pytest.mark.slow
def test_nothing_becomes_fp64_on_a_device() -> None:
    found = {
        str(path.relative_to(ROOT)): lines
        for path in SOURCES
        if (lines := list(fp64_on_a_device(ast.parse(path.read_text(encoding="utf-8")))))
    }
    assert {name: len(lines) for name, lines in found.items()} == ON_THE_CPU_ALREADY, found


def test_in_double() -> None:
    assert in_double(torch.ones(2)).dtype is torch.float64


def test_a_gpu_computes_repeatably_or_is_said_not_to() -> None:
    asked = []

    def modes() -> tuple[bool, bool]:
        return torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()

    def compute() -> torch.Tensor:
        asked.append(modes())
        return torch.zeros(2).put_(torch.tensor([0]), torch.ones(1))  # has no repeatable kernel on the CPU either

    assert repeatably(torch.device("cpu"), compute, "x").tolist() == [1, 0]
    with pytest.warns(UserWarning, match=r"reward 'x': the last bits of .* differ .* \(put_ does not have a determ"):
        assert repeatably(torch.device("cuda"), compute, "reward 'x'").tolist() == [1, 0]
    assert asked == [(False, False), (True, False), (True, True)] and modes() == (False, False)


def test_what_makes_a_reward_repeatable_is_told_and_other_errors_pass() -> None:
    said = "CuBLAS … CUBLAS_WORKSPACE_CONFIG=:4096:8 … torch.use_deterministic_algorithms(True)"

    def compute() -> None:
        if not torch.is_deterministic_algorithms_warn_only_enabled():
            raise RewardError("reward 'x' raised") from RuntimeError(said)

    with pytest.warns(UserWarning, match=r"set CUBLAS_WORKSPACE_CONFIG=:4096:8 before torch first computes there"):
        repeatably(torch.device("cuda"), compute, "reward 'x'")
    with pytest.raises(ZeroDivisionError):
        repeatably(torch.device("cuda"), lambda: 1 / 0, "reward 'x'")
