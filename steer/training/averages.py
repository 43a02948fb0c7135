"""Moving averages of weights."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from steer.training.sharding import share_of


def trained_state(module: nn.Module) -> dict[str, Tensor]:
    """Return the tensors that a training changes in a module, by name: parameters with a gradient, and buffers."""
    frozen = {name for name, value in module.named_parameters(remove_duplicate=False) if not value.requires_grad}
    return {name: value.detach() for name, value in module.state_dict().items() if name not in frozen}


def begun_average(module: nn.Module, device: torch.device | None = None) -> dict[str, Tensor]:
    """Return copies of a module's trained weights, to begin their moving average: in fp32, on a device or their own.

    Of a split module they are this process's shares.
    """
    return {
        name: share_of(value).to(
            device or value.device, torch.float32 if value.is_floating_point() else value.dtype, copy=True
        )
        for name, value in trained_state(module).items()
    }


@torch.no_grad()
def move_average(average: Mapping[str, Tensor], module: nn.Module, step: int, decay: float) -> None:
    """Move an exponential average toward a module's weights, in place, after step number ``step``, from 0 on."""
    keep = kept(step, decay)
    for name, value in trained_state(module).items():
        own = share_of(value)
        if own.is_floating_point():
            average[name].lerp_(own.to(average[name]), 1 - keep)
        else:
            average[name].copy_(own)


def kept(step: int, decay: float) -> float:
    """Return the decay of an average at a step: it grows with the run, up to ``decay``."""
    return min(decay, (1 + step) / (10 + step))
