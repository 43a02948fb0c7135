"""Potentials: how much a step's reward moves a particle's weight (arXiv 2501.06848, §3.2).

For any intermediate potentials, the last one is exp(λ·r_0) divided by the product so far. The product of all
potentials is then exp(λ·r_0), and the final population is weighted for p(x0)·exp(λ·r(x0)).
"""

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from steer_fk.resampling import Floats, effective_sample_size

Kind = Literal["diff", "max", "add", "rt", "adaptive"]
STRONGEST = 50.0
"""Log-odds between the best and the worst reward beyond which :func:`tempered_strength` does not look."""
GRID = 128


@dataclass
class Lineage:
    """A potential's memory of each particle's past. All ``[N]`` float64.

    Attributes:
        log_product: log of the product of potentials so far.
        memory: last reward (``diff``), largest reward (``max``) or sum of rewards (``add``).
    """

    log_product: Tensor
    memory: Tensor


def log_potential(kind: Kind, lam: float | Tensor, reward: Tensor, past: Lineage) -> tuple[Tensor, Lineage]:
    """Return log G of an intermediate step and the lineage after it.

    ``diff``: λ(r_t − r_prev); ``max``: λ·max_s r_s; ``add``: λ·Σ_s r_s; ``rt``: λ·r_t; ``adaptive``, whose λ differs
    from step to step: λ_t·r_t − λ_prev·r_prev.

    Args:
        lam: λ, the strength of the tilt; of ``adaptive`` ``[N]``, this step's.
        reward: ``[N]`` rewards of the x0 estimates at this step.
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
    elif kind == "adaptive":
        log_g = lam * reward - past.log_product
    else:
        log_g = lam * reward
    return log_g, Lineage(past.log_product + log_g, memory)


def last_log_potential(lam: float, reward: Tensor, past: Lineage) -> Tensor:
    """Return the log of the last potential: exp(λ·r_0) divided by the product so far."""
    return lam * reward - past.log_product


def tempered_strength(log_weights: Floats, reward: Floats, past: Lineage, share: float) -> float:
    """Return the λ_t of the potential ``adaptive`` for one prompt: the largest that leaves its weights enough ESS.

    Adaptive tempering (Del Moral, Doucet & Jasra 2012, *An adaptive sequential Monte Carlo method for approximate
    Bayesian computation*). It may be smaller than the λ_t before, for early rewards differ less than later ones. If the
    rewards have changed so much that no λ leaves enough, it is the one that leaves most.

    Args:
        log_weights: ``[n]`` before this step.
        reward: ``[n]`` of this step.
        past: of the same n particles.
        share: the ESS to leave, divided by n; in (0, 1).
    """
    before, width = log_weights - past.log_product.numpy(), float(np.ptp(reward))
    if width == 0:
        return 0.0

    def left(lam: float) -> float:
        return effective_sample_size(before + lam * reward) / len(reward)

    # from no steering up to where only the best count, whatever the weights before
    grid = np.linspace(0.0, (STRONGEST + float(np.ptp(before))) / width, GRID)
    sizes = np.array([left(lam) for lam in grid])
    if sizes.max() < share:  # it may be enough nearer to the peak
        peak = int(sizes.argmax())
        grid = np.linspace(grid[max(peak - 1, 0)], grid[min(peak + 1, GRID - 1)], GRID)
        sizes = np.array([left(lam) for lam in grid])
    if sizes.max() < share:
        return float(grid[sizes.argmax()])
    last = int(np.flatnonzero(sizes >= share)[-1])
    low, high = float(grid[last]), float(grid[min(last + 1, GRID - 1)])
    for _ in range(50):
        middle = (low + high) / 2
        low, high = (middle, high) if left(middle) >= share else (low, middle)
    return low


def pooled(rewards: Tensor, scale: float) -> Tensor:
    """Pool the rewards of m draws of x0 into one per particle: log-mean-exp(s·r)/s (§3.2; s = 1 in the paper).

    With s = λ, exp(λ·result) is the mean of the draws' own tilts, which is the particle's true weight. With s = 0, the
    result is the plain mean.

    Args:
        rewards: ``[N, m]``.
        scale: s, 0 or more.
    """
    if scale == 0:
        return rewards.mean(dim=1)
    return (torch.logsumexp(scale * rewards, dim=1) - math.log(rewards.shape[1])) / scale


def first_memory(kind: Kind, reward_min: float) -> float:
    """Return the initial memory of a lineage: 0 for ``add``, else ``reward_min``."""
    return 0.0 if kind == "add" else reward_min
