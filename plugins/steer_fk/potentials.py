"""Potentials: how much a step's reward moves a particle's weight (arXiv 2501.06848, §3.2).

Whatever the intermediate potentials are, the last one makes their product exp(λ·r_0), so that the final
population is weighted for p(x0)·exp(λ·r(x0)): it is exp(λ·r_0) divided by the product so far.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

Kind = Literal["diff", "max", "add", "rt"]


@dataclass
class Lineage:
    """What a potential remembers of a particle's past. All ``[N]`` float64.

    Attributes:
        log_product: log of the product of potentials so far.
        memory: last reward (``diff``), largest reward (``max``) or sum of rewards (``add``).
    """

    log_product: Tensor
    memory: Tensor


def log_potential(kind: Kind, lam: float, reward: Tensor, past: Lineage) -> tuple[Tensor, Lineage]:
    """Return log G of an intermediate step and the lineage after it.

    ``diff``: λ(r_t − r_prev); ``max``: λ·max_s r_s; ``add``: λ·Σ_s r_s; ``rt``: λ·r_t.

    Args:
        kind: which potential.
        lam: λ, the strength of the tilt.
        reward: ``[N]`` rewards of the x0 estimates at this step.
        past: the lineage before it.
    """
    memory = past.memory
    if kind == "diff":
        log_g, memory = lam * (reward - memory), reward
    elif kind == "max":
        memory = memory.maximum(reward)
        log_g = lam * memory
    elif kind == "add":
        memory = memory + reward
        log_g = lam * memory
    else:
        log_g = lam * reward
    return log_g, Lineage(past.log_product + log_g, memory)


def last_log_potential(lam: float, reward: Tensor, past: Lineage) -> Tensor:
    """Return the log of the last potential, exp(λ·r_0) over the product so far."""
    return lam * reward - past.log_product


def pooled(rewards: Tensor, scale: float) -> Tensor:
    """Return one reward a particle of those of m draws of its x0: log-mean-exp(s·r)/s (§3.2; s = 1 in the paper).

    With s = λ, exp(λ·result) is the mean of the draws' own tilts, which is what a particle is worth; their plain mean
    for s = 0.

    Args:
        rewards: ``[N, m]``.
        scale: s, 0 or more.
    """
    if scale == 0:
        return rewards.mean(dim=1)
    return (torch.logsumexp(scale * rewards, dim=1) - math.log(rewards.shape[1])) / scale


def first_memory(kind: Kind, reward_min: float) -> float:
    """Return the memory that a lineage starts with: ``reward_min`` for ``diff`` and ``max``, a sum of zero."""
    return 0.0 if kind == "add" else reward_min
