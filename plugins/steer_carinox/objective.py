"""The mathematics of CARINOX, one row per noise: regularizer, clipping and steps. Pure functions of tensors."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor


def norms(z: Tensor) -> Tensor:
    """Return each row's norm over all its entries, fp32 ``[N, 1, …]``."""
    lengths: Tensor = torch.linalg.vector_norm(z.float(), dim=tuple(range(1, z.ndim)), keepdim=True)
    return lengths


def regularizer_gradient(z: Tensor) -> Tensor:
    """Return the gradient z·(1 − (d − 1)/‖z‖²) of each row's ½‖z‖² − (d − 1)·log‖z‖, fp32, with d entries per row.

    That is the negative log-density of the norm of d standard normals, as in ReNO (arXiv 2406.04312), up to a constant.
    It is smallest at √(d − 1), so a noise keeps a norm that the model has seen in training.
    """
    return z.float() * (1 - (z[0].numel() - 1) / norms(z) ** 2)


def clip_rows(gradient: Tensor, limit: float | None) -> Tensor:
    """Scale each row down to a norm of at most ``limit``; ``None`` sets no limit."""
    if limit is None:
        return gradient
    # scaled to 1 first: the squares of an exploding gradient leave the range of fp32 long before it does
    largest = gradient.float().abs().amax(dim=tuple(range(1, gradient.ndim)), keepdim=True).clamp(min=1e-30)
    return gradient * (limit / norms(gradient / largest) / largest).clamp(max=1).to(gradient.dtype)


def total_gradient(
    z: Tensor, by_reward: Tensor, weights: Tensor, *, regularize: float, clip_reward: float | None, clip: float | None
) -> Tensor:
    """Return the gradient of the loss Σ_r (w_r·(1 − r̂_r) + regularize·K), clipped per reward and then as a sum.

    Args:
        z: noises ``[N, …]``.
        by_reward: gradients of the rewards r̂ by the noises, ``[R, N, …]``.
        weights: ``[R, N]``.
        regularize: factor of the norm regularizer K, which is part of each reward's loss.
        clip_reward: largest norm of a row of one reward's gradient.
        clip: largest norm of a row of their sum.
    """
    pull = regularize * regularizer_gradient(z)
    parts = zip(by_reward, weights, strict=True)
    return clip_rows(sum_clipped([pull - rows_times(weight, g.float()) for g, weight in parts], clip_reward), clip)


def rows_times(weight: Tensor, value: Tensor) -> Tensor:
    """Return each row of ``value [N, …]`` times its weight ``[N]``."""
    return weight.to(value).view(-1, *[1] * (value.ndim - 1)) * value


def sum_clipped(gradients: Sequence[Tensor], limit: float | None) -> Tensor:
    """Clip each gradient ``[N, …]`` row by row; return their sum."""
    return torch.stack([clip_rows(gradient, limit) for gradient in gradients]).sum(dim=0)


@dataclass
class Optimizer:
    """Gradient descent on rows that can leave the batch one by one.

    ``sgd`` is SGD with Nesterov momentum, ``adam`` is Adam (arXiv 1412.6980), both as in torch.optim.

    Attributes:
        momentum: of ``sgd``, in 0..1.
        betas: of ``adam``.
        epsilon: of ``adam``.
    """

    kind: Literal["sgd", "adam"]
    rate: float
    momentum: float = 0.9
    betas: tuple[float, float] = (0.9, 0.999)
    epsilon: float = 1e-8
    steps: int = 0
    first: Tensor | None = None
    second: Tensor | None = None

    def step(self, z: Tensor, gradient: Tensor) -> Tensor:
        """Return the noises ``[N, …]`` after a step down their gradient."""
        self.steps += 1
        return z - self.rate * (self._sgd(gradient) if self.kind == "sgd" else self._adam(gradient))

    def keep(self, rows: Tensor) -> None:
        """Keep the state of the given rows only."""
        self.first = None if self.first is None else self.first[rows.to(self.first.device)]
        self.second = None if self.second is None else self.second[rows.to(self.second.device)]

    def _sgd(self, gradient: Tensor) -> Tensor:
        self.first = gradient if self.first is None else self.momentum * self.first + gradient
        return gradient + self.momentum * self.first

    def _adam(self, gradient: Tensor) -> Tensor:
        b1, b2 = self.betas
        first = torch.zeros_like(gradient) if self.first is None else self.first
        second = torch.zeros_like(gradient) if self.second is None else self.second
        self.first = b1 * first + (1 - b1) * gradient
        self.second = b2 * second + (1 - b2) * gradient**2
        mean = self.first / (1 - b1**self.steps)
        return mean / ((self.second / (1 - b2**self.steps)).sqrt() + self.epsilon)
