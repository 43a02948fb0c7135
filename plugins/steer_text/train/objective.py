"""The objective of a masked-diffusion model (MDLM, arXiv 2406.07524, eq. 11)."""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

LEAST_TIME = 1e-3
"""Times are drawn from here to 1, because at 0 nothing is masked and the weight is unbounded."""


def times(count: int, generator: torch.Generator) -> Tensor:
    """Return times ``[count]`` in (0, 1], one in each of ``count`` equal intervals, for less variance."""
    start = torch.rand(1, generator=generator)
    spread = (start + torch.arange(count) / count) % 1
    return LEAST_TIME + (1 - LEAST_TIME) * spread


def mask_at(tokens: Tensor, time: Tensor, mask: int, fixed: Tensor, generator: torch.Generator) -> Tensor:
    """Mask each of the tokens ``[B, L]`` with probability ``time [B]``: α_t = 1 − t.

    Args:
        fixed: bool ``[B, L]``; tokens that are never masked.
    """
    hidden = (torch.rand(tokens.shape, generator=generator) < time[:, None]) & ~fixed
    return torch.where(hidden, mask, tokens)


def bound(model: Any, tokens: Tensor, mask: int, fixed: Tensor, generator: torch.Generator) -> Tensor:
    """Return an estimate of the upper bound of −log p(tokens) per sequence, in nats, averaged over the batch.

    The integral over time of (1/t)·Σ −log p(token) over the masked tokens, for the schedule α_t = 1 − t.
    """
    time = times(len(tokens), generator)
    shown = mask_at(tokens, time, mask, fixed, generator)
    device = next(model.parameters()).device
    tokens, shown, time = tokens.to(device), shown.to(device), time.to(device)
    logits = model(input_ids=shown).logits.float()
    logits[..., mask] = float("-inf")  # the mask is never a final token
    lost = functional.cross_entropy(logits.flatten(0, 1), tokens.flatten(), reduction="none").view(tokens.shape)
    hidden = shown != tokens
    return torch.where(hidden, lost, 0.0).sum(dim=1).div(time).mean()
