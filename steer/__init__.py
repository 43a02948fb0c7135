"""steer: plugin-based sampling and steering of diffusion models."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from steer.errors import RewardError, SteerError
from steer.prompts.prompt import Prompt
from steer.sampling.hooks import hookimpl
from steer.settings.options import Field, Options

if TYPE_CHECKING:
    from steer.rewards.reward import Reward
    from steer.sampling.attach import attach
    from steer.sampling.method import Method
    from steer.sampling.sampler import Result, Sampler
    from steer.sampling.state import State

__all__ = [
    "Field",
    "Method",
    "Options",
    "Prompt",
    "Result",
    "Reward",
    "RewardError",
    "Sampler",
    "State",
    "SteerError",
    "attach",
    "hookimpl",
]

# Loaded at first use: listing plugins or printing help must not wait for torch.
_LAZY = {
    "Method": "steer.sampling.method",
    "Result": "steer.sampling.sampler",
    "Reward": "steer.rewards.reward",
    "Sampler": "steer.sampling.sampler",
    "State": "steer.sampling.state",
    "attach": "steer.sampling.attach",
}


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(importlib.import_module(_LAZY[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
