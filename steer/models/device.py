"""Devices and precisions: names, defaults, memory, and whether a device computes in bfloat16."""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import torch

from steer.errors import SteerError, message_of

log = logging.getLogger(__name__)

Computed = TypeVar("Computed")
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
WORKSPACE = ("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
"""With this variable of the environment, set before it starts, cuBLAS computes the same bits each time."""


def dtype_name(dtype: torch.dtype | str) -> str | None:
    """Return the short name of a dtype of torch or of a recipe (``"float32"``); ``None`` if it has none."""
    plain = str(dtype).removeprefix("torch.")
    return next((name for name, known in DTYPES.items() if str(known) == f"torch.{plain}"), None)


def dtype_of(module: torch.nn.Module) -> torch.dtype:
    """Return the precision that a module computes in: of its first weights that are not quantized."""
    return next(weight.dtype for weight in module.parameters() if weight.is_floating_point())


def computes_bf16(device: torch.device | str) -> bool:
    """Return whether a device multiplies in bfloat16 itself.

    A CPU without AVX-512 emulates it, which was 36 times slower than fp32 (a guided step of the embedded model, AVX2,
    torch 2.15).
    """
    device = torch.device(device)
    if device.type == "cuda":
        with torch.cuda.device(-1 if device.index is None else device.index):  # −1 is the present one
            return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if device.type == "cpu":
        return torch.backends.cpu.get_cpu_capability().startswith("AVX512")
    return False


def in_double(x: torch.Tensor) -> torch.Tensor:
    """Return a tensor in fp64: where it is, or on the CPU if it is on MPS, which has none."""
    return (x.cpu() if x.device.type == "mps" else x).double()


REFUSED = "use_deterministic_algorithms(True)"
"""Part of what torch says of an operation without a kernel that computes the same bits each time."""


def repeatably(device: torch.device, compute: Callable[[], Computed], who: str) -> Computed:
    """Return what a function computes, on a GPU by kernels that compute the same bits each time, on the way back too.

    Where an operation has none, this is told, and all is computed again by what there is. Not so at once: torch's
    milder mode, which only warns, also takes attention's faster way back, which adds up in any order.

    Args:
        compute: computes anew whenever it is called.
        who: it is that may have no such kernel, for the warning.
    """
    if device.type != "cuda":
        return compute()
    os.environ.setdefault(*WORKSPACE)
    try:
        with _repeatable(strict=True):
            return compute()
    except (RuntimeError, SteerError) as error:
        reason = _refusal(error)
        if reason is None:
            raise
        log.debug("no repeatable kernel", exc_info=True)
    warnings.warn(
        f"{who}: the last bits of its gradients differ from run to run on this GPU ({reason}), so that what follows "
        "from them cannot be replayed bit for bit",
        stacklevel=3,
    )
    with _repeatable(strict=False):
        return compute()


def _refusal(error: BaseException | None) -> str | None:
    """Return why an error says that something cannot be computed repeatably, if it says so."""
    while error is not None:
        if REFUSED in str(error):
            variable, value = WORKSPACE
            if variable in str(error):
                return f"set {variable}={value} before torch first computes there"
            return str(error).partition(",")[0]
        error = error.__cause__
    return None


@contextmanager
def _repeatable(*, strict: bool) -> Iterator[None]:
    before = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    empty: Any = torch.utils.deterministic
    filled, tried = empty.fill_uninitialized_memory, torch.backends.cudnn.benchmark
    torch.use_deterministic_algorithms(True, warn_only=not strict)
    empty.fill_uninitialized_memory, torch.backends.cudnn.benchmark = False, False
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before[0], warn_only=before[1])
        empty.fill_uninitialized_memory, torch.backends.cudnn.benchmark = filled, tried


NO_MEMORY = (
    "out of memory",
    "can't allocate memory",
    "_ALLOC_FAILED",
    "ALLOCATION_FAILED",
    "unable to find an engine to execute",
)
"""What allocators and libraries say; the last is cuDNN's, if no convolution finds room for its workspace."""


def out_of_memory(error: BaseException) -> bool:
    """Whether an error means that a device ran out of memory, as reported by its allocator or by a library."""
    if isinstance(error, torch.cuda.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and any(words in str(error) for words in NO_MEMORY)


def memory_gb() -> float | None:
    """Return the machine's memory in GB, if the system reports it."""
    try:
        return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9, 1)
    except (AttributeError, ValueError, OSError):
        return None


def pick_device(name: str | None) -> torch.device:
    """Return the device to use: the named one, else CUDA if there is one, else the CPU.

    Raises:
        SteerError: for a name that torch does not know, or a missing device.
    """
    if name is None:
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError:
        raise SteerError(f"unknown device {name!r}; expected cpu, cuda, cuda:1, mps …") from None
    if device.type == "cuda" and not torch.cuda.is_available():
        raise SteerError(f"device {name!r} was asked for, but torch sees no CUDA device; use --device cpu")
    if device.type == "cuda":
        os.environ.setdefault(*WORKSPACE)
    try:
        torch.zeros(1, device=device).cpu()
    except (RuntimeError, NotImplementedError, AssertionError) as error:  # each back end raises its own error
        raise SteerError(f"device {name!r} cannot compute here: {message_of(error)}; use --device cpu") from None
    return device


def pick_dtype(name: str | None, device: torch.device, half: torch.dtype = torch.float16) -> torch.dtype:
    """Return the precision of the weights: the named one, else ``half`` on CUDA and fp32 elsewhere.

    Warns of a half precision that the CPU has to emulate.
    """
    if name is None and half is torch.bfloat16 and device.type == "cuda" and not computes_bf16(device):
        warnings.warn(
            "this GPU does not compute in bf16, so the model is in fp32; --dtype fp16 takes half, but may overflow",
            stacklevel=3,
        )
        return torch.float32
    if name is None:
        return half if device.type == "cuda" else torch.float32
    if name not in DTYPES:
        raise SteerError(f"unknown dtype {name!r}; expected {', '.join(DTYPES)}")
    emulated = {"cpu": ("bf16", "fp16"), "cuda": ("bf16",)}.get(device.type, ())
    if name in emulated and not computes_bf16(device):
        warnings.warn(
            f"this {device.type.upper()} emulates {name}, many times slower than fp32; leave --dtype out", stacklevel=3
        )
    return DTYPES[name]
