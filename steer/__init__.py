"""steer: plugin-based sampling and steering of diffusion models."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from steer.errors import RewardError, SteerError
from steer.hookspecs import hookimpl
from steer.options import Field, Options
from steer.prompts import Prompt

if TYPE_CHECKING:
    from steer.api import Result, Sampler
    from steer.attachment import attach
    from steer.methods import Method
    from steer.rewards import Reward
    from steer.state import State

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
    "Method": "steer.methods",
    "Result": "steer.api",
    "Reward": "steer.rewards",
    "Sampler": "steer.api",
    "State": "steer.state",
    "attach": "steer.attachment",
}


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(importlib.import_module(_LAZY[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
