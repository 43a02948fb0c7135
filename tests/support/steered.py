"""How much FK moves a reward, in standard errors: the claim that holds for every class of pipeline."""

from __future__ import annotations

from typing import Any

import torch

import steer
from support.any_pipelines import Kind
from support.tiny import brightness

PARTICLES = 8
STRENGTH = 20.0
"""λ times the standard deviation of the reward: nearly all weight is on the best particle, in any class."""


def moved_by_fk(sampler: steer.Sampler, kind: Kind, plain: steer.Result) -> float:
    """Return the mean gain in brightness over plain populations of the same seeds, divided by its standard error.

    The standard error is that of independent populations, as particles of one population depend on each other.
    """
    before = torch.tensor(plain.rewards)
    options = {"fk": {"lambda": STRENGTH / float(before.std()), "potential": "diff"}}
    after = populations(sampler, kind, methods=["fk"], options=options)
    gain = (torch.tensor(after.rewards) - before).mean(dim=1)
    return float(gain.mean() / (gain.std() / len(gain) ** 0.5))


def populations(sampler: steer.Sampler, kind: Kind, count: int | None = None, **given: Any) -> steer.Result:
    """Draw independent populations of one prompt, whose transitions have noise."""
    prompts = [
        steer.Prompt("a red circle", seed=5 + PARTICLES * number, metadata=kind.inputs)
        for number in range(count or kind.populations)
    ]
    common = {"particles": PARTICLES, "chunk": kind.rows, "steps": kind.steps, "reward": brightness}
    return sampler.generate(prompts, **{**common, **kind.settings, **kind.noisy, **given})
