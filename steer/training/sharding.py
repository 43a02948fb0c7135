"""Networks split over the processes by torch's ``fully_shard``, and their tensors: own shares, and whole ones.

Of a split network each process holds a share of every weight, along its first dimension, and so of gradients and
optimizer state. Before a block computes, its weights are gathered; afterward they are dropped, and the gradients'
averages are scattered. A weight's ``DTensor`` knows its share and its whole shape.
"""

from collections import Counter
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor

from steer.errors import SteerError


def split(network: nn.Module, mesh: DeviceMesh, precision: str) -> None:
    """Split a network's weights over the processes of a mesh, in place; they move to its device block by block.

    Args:
        precision: ``"bf16"`` gathers weights in it; shares and gradients' averages stay in their own precision.

    Raises:
        SteerError: for a weight that is a single number.
    """
    for name, parameter in network.named_parameters():
        if parameter.ndim == 0:
            raise SteerError(f"--shard cannot split the weight {name}, a single number; leave --shard out")
        parameter.data = parameter.data.contiguous()  # channels_last is refused
    # inputs stay as they are: timesteps must not be rounded
    policy = MixedPrecisionPolicy(cast_forward_inputs=False)
    if precision == "bf16":
        policy = MixedPrecisionPolicy(torch.bfloat16, torch.float32, cast_forward_inputs=False)
    for module in (*blocks_of(network), network):
        fully_shard(module, mesh=mesh, mp_policy=policy)


def blocks_of(network: nn.Module) -> list[nn.Module]:
    """Return the modules that are gathered one at a time, inner ones first; the network itself takes the rest.

    They are those that the network's author keeps whole when it is spread over devices, or else the elements of its
    lists of modules. None shares a weight with the rest.
    """
    names = set(getattr(network, "_no_split_modules", None) or ())
    if names:
        found = [module for module in network.modules() if type(module).__name__ in names]
    else:
        found = [module for child in network.children() if isinstance(child, nn.ModuleList) for module in child]
    uses = _uses(network)
    alone = [module for module in found if all(uses[weight] == count for weight, count in _uses(module).items())]
    return [module for module in reversed(alone) if module is not network]


def _uses(module: nn.Module) -> Counter[nn.Parameter]:
    return Counter(weight for _, weight in module.named_parameters(remove_duplicate=False))


def is_split(tensor: Tensor) -> bool:
    """Return whether a tensor is split over the processes."""
    return isinstance(tensor, DTensor)


def share_of(tensor: Tensor) -> Tensor:
    """Return this process's share of a tensor, in the same memory; of one that is not split, all of it."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def whole(tensor: Tensor, *, everywhere: bool = False) -> Tensor:
    """Return a tensor with the shares of all processes, which must all call this; one that is not split stays as it is.

    Args:
        everywhere: whether all processes get it; else those but the first one get an empty tensor. It is on the CPU.
    """
    if not isinstance(tensor, DTensor):
        return tensor
    full = tensor.full_tensor()
    return full.cpu() if everywhere or torch.distributed.get_rank() == 0 else full.new_empty(0, device="cpu")


def joined(share: Tensor, like: Tensor) -> Tensor:
    """Return shares as one tensor, split like another one; as it is if that is not split."""
    if not isinstance(like, DTensor):
        return share
    return DTensor.from_local(
        share.to(like.device), like.device_mesh, like.placements, shape=like.shape, stride=like.stride()
    )


def split_like(tensor: Tensor, like: Tensor) -> Tensor:
    """Return a whole tensor, the same on all processes, which must all call this, split like another one."""
    return distribute_tensor(tensor, like.device_mesh, like.placements) if isinstance(like, DTensor) else tensor


def clip_gradients(parameters: Sequence[Tensor], most: float) -> Tensor:
    """Scale gradients down to a norm of at most ``most``; return the norm before."""
    norm = nn.utils.clip_grad_norm_(parameters, most)
    return norm.full_tensor() if isinstance(norm, DTensor) else norm
