"""Schedulers by name, made fresh for every population."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any

import diffusers
import torch

from steer.errors import SteerError, unknown

SCHEDULERS: dict[str, tuple[str, dict[str, Any]]] = {
    "ddim": ("DDIMScheduler", {}),
    "ddpm": ("DDPMScheduler", {}),
    "euler": ("EulerDiscreteScheduler", {}),
    "euler-a": ("EulerAncestralDiscreteScheduler", {}),
    "dpm++": ("DPMSolverMultistepScheduler", {"algorithm_type": "dpmsolver++"}),
    "dpm++-sde": ("DPMSolverMultistepScheduler", {"algorithm_type": "sde-dpmsolver++"}),
    "unipc": ("UniPCMultistepScheduler", {}),
    "deis": ("DEISMultistepScheduler", {}),
    "pndm": ("PNDMScheduler", {"skip_prk_steps": True}),
    "lms": ("LMSDiscreteScheduler", {}),
    "lcm": ("LCMScheduler", {}),
}
"""Short names: the diffusers class and what to change in the pipeline's own configuration."""


def make_scheduler(name: str | None, base: Any) -> Any:
    """Return a fresh scheduler: the pipeline's own kind, or the named one with the pipeline's configuration.

    Raises:
        SteerError: for an unknown name.
    """
    if name is None:
        return type(base).from_config(base.config)
    if name not in SCHEDULERS:
        raise unknown("scheduler", name, SCHEDULERS)
    class_name, changes = SCHEDULERS[name]
    cls = getattr(diffusers, class_name)
    if type(base) is cls and not changes:
        return cls.from_config(base.config)
    if "clip_sample" in inspect.signature(cls.__init__).parameters:
        # classes differ in this default: a config that never mentions it would turn clipping on
        changes = {"clip_sample": base.config.get("clip_sample", False), **changes}
    return cls.from_config(base.config, **changes)


def set_timesteps(
    scheduler: Any, steps: int, timesteps: Sequence[float] | None, device: torch.device, **keywords: Any
) -> None:
    """Set a scheduler's timesteps: ``steps`` of its own spacing, or the given ones.

    Raises:
        SteerError: if there are more steps than the model was trained with, or explicit timesteps are not taken.
    """
    trained = scheduler.config.get("num_train_timesteps", 1000)
    if steps > trained:
        raise SteerError(f"steps={steps} is more than the scheduler's {trained} training timesteps; ask for fewer")
    if timesteps is None:
        scheduler.set_timesteps(steps, device=device, **keywords)
        return
    if "timesteps" not in inspect.signature(scheduler.set_timesteps).parameters:
        raise SteerError(
            f"{type(scheduler).__name__} takes no explicit timesteps; use --scheduler ddpm, euler, dpm++ or lcm"
        )
    scheduler.set_timesteps(timesteps=list(timesteps), device=device, **keywords)
