"""steer: plugin-based sampling and steering of diffusion models. The names here are for users."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from steer.errors import RewardError as RewardError
    from steer.errors import SteerError as SteerError
    from steer.prompts.files import read_prompts as read_prompts
    from steer.prompts.prompt import Prompt as Prompt
    from steer.registry.registration import hookimpl as hookimpl
    from steer.results.items import Item as Item
    from steer.results.items import Sample as Sample
    from steer.results.result import Result as Result
    from steer.rewards.reward import Reward as Reward
    from steer.sampling.attach import attach as attach
    from steer.sampling.method import Method as Method
    from steer.sampling.sampler import Sampler as Sampler
    from steer.sampling.state import State as State
    from steer.settings.options import Field as Field
    from steer.settings.options import Options as Options

# Loaded at first use: listing plugins or printing help must not wait for torch.
_HOMES = {
    # Sampling
    "Sampler": "steer.sampling.sampler",  # a model, ready to be sampled and steered
    "attach": "steer.sampling.attach",  # steers the calls of a stock pipeline
    "Result": "steer.results.result",  # what `Sampler.generate` returns
    "Item": "steer.results.items",  # the result of one prompt
    "Sample": "steer.results.items",  # one finished particle
    "Prompt": "steer.prompts.prompt",  # a text with its id, seed, category and settings of its own
    "read_prompts": "steer.prompts.files",  # reads a prompt file
    # Writing a method or a reward
    "Method": "steer.sampling.method",  # base of methods
    "Reward": "steer.rewards.reward",  # base of rewards
    "Options": "steer.settings.options",  # base of a plugin's options
    "Field": "steer.settings.options",  # an option: default, range, description
    "hookimpl": "steer.registry.registration",  # marks a hook
    "State": "steer.sampling.state",  # a population of particles, as hooks see it
    # Errors
    "SteerError": "steer.errors",  # a user's mistake: one line, no traceback
    "RewardError": "steer.errors",  # a reward that broke its contract
}

__all__ = [*_HOMES]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)
