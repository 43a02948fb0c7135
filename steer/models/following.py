"""Denoisers that methods bring, offloaded as the model's own is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from accelerate import cpu_offload, cpu_offload_with_hook
from accelerate.hooks import AlignDevicesHook, CpuOffload, ModelHook, SequentialHook, UserCpuOffloadHook


def offload_like(module: Any, base: Any, pipe: Any, device: torch.device) -> None:
    """Offload a denoiser on the CPU as another of a pipeline is: as a whole or layer by layer, else move it.

    Args:
        base: the pipeline's own, which waits when this one is called, as this one does when the other parts are.
        device: where it computes.
    """
    hooks = _hooks_of(base)
    if any(isinstance(hook, AlignDevicesHook) for hook in hooks):
        cpu_offload(module, device, offload_buffers=bool(module._parameters))
    elif any(isinstance(hook, CpuOffload) for hook in hooks):
        chain: list[UserCpuOffloadHook] = pipe._all_hooks
        place = next(number for number, hook in enumerate(chain) if hook.model is base)
        _, own = cpu_offload_with_hook(module, device, prev_module_hook=_Several(chain[: place + 1]))
        for later in chain[place:]:
            before = later.hook.prev_module_hook
            later.hook.prev_module_hook = _Several([own] if before is None else [before, own])
    else:
        module.to(device)


def _hooks_of(module: Any) -> Sequence[ModelHook]:
    hook = getattr(module, "_hf_hook", None)
    if isinstance(hook, SequentialHook):
        return list(hook.hooks)
    return [] if hook is None else [hook]


class _Several(UserCpuOffloadHook):
    """Sends several modules to the CPU where accelerate expects one."""

    def __init__(self, hooks: Sequence[UserCpuOffloadHook]) -> None:
        self._hooks = hooks

    @property
    def model(self) -> Any:
        """One that is not on the CPU, if any is: accelerate looks whether there is something to send."""
        found = [hook.model for hook in self._hooks]
        return next((one for one in found if next(one.parameters()).device.type != "cpu"), found[0])

    def offload(self) -> None:
        for hook in self._hooks:
            hook.offload()
