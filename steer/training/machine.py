"""The devices and processes of a training, by accelerate."""

import os
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from typing import TypeVar

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState, PartialState
from accelerate.utils import parse_flag_from_env
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh

from steer.errors import SteerError
from steer.models.device import computes_bf16, pick_device
from steer.training.sharding import is_split, split

N = TypeVar("N", bound=nn.Module)


class Machine(Accelerator):
    """The device of this process, and the other processes.

    Attributes:
        shards: whether networks are split over the processes.
    """

    shards = False

    def shard(self, network: N) -> N:
        """Split a network's weights over the processes, in place, if this training does so; return the network.

        Call it for each network that losses call, and for large ones that are not trained, once it has its first
        weights and before its optimizer is made. Then losses may call it as ever, if all processes do so equally often,
        and its gradients are averages over the processes. A part's networks must all be split, or none.

        Raises:
            SteerError: for a weight that is a single number.
        """
        if self.shards:
            split(network, self._mesh, self.mixed_precision)
        return network

    @cached_property
    def _mesh(self) -> DeviceMesh:
        return init_device_mesh(self.device.type, (self.num_processes,))


def start(precision: str, device: str | None = None, threads: int | None = None, *, shard: bool = False) -> Machine:
    """Prepare this process, alone or as one of ``accelerate launch``; tasks compute on ``.device`` in ``.autocast()``.

    Args:
        precision: mixed precision of the forwards: ``"no"``, ``"bf16"``, ``"fp16"``, or ``"auto"`` for bf16 on a device
            that computes in it.
        device: such as ``"cpu"`` or ``"cuda:1"``; by default what accelerate chooses.
        threads: CPU threads.
        shard: whether :meth:`Machine.shard` splits networks over the processes.

    Raises:
        SteerError: for a missing device, or a precision that it lacks, or if networks cannot be split.
    """
    if threads is not None:
        torch.set_num_threads(threads)
    chosen = None if device is None else pick_device(device)
    # accelerate keeps the first choice of a process for good, but a process may train twice
    alone = "RANK" not in os.environ
    AcceleratorState._reset_state(reset_partial_state=alone)
    cpu = parse_flag_from_env("ACCELERATE_USE_CPU") if chosen is None else chosen.type == "cpu"
    state = PartialState(cpu=cpu)
    if chosen is not None and alone:
        state.device = chosen
    if precision == "auto":
        precision = "bf16" if computes_bf16(state.device) else "no"
    if shard and state.num_processes == 1:
        raise SteerError(
            "--shard splits networks over processes, and there is one; start several with `accelerate launch "
            "--num_processes N -m steer train …`, or leave --shard out"
        )
    if shard and precision == "fp16":
        raise SteerError("--shard does not go with --precision fp16; use bf16")
    try:
        machine = Machine(mixed_precision=precision, cpu=cpu)
    except ValueError:
        raise SteerError(f"--precision {precision} does not work on {state.device}; choose another") from None
    machine.shards = shard
    return machine


def mean_over_processes(accelerator: Accelerator, values: Mapping[str, float]) -> dict[str, float]:
    """Return the mean of each value over all processes, which must all pass the same names."""
    if accelerator.num_processes == 1:
        return dict(values)
    row = torch.tensor(list(values.values()), device=accelerator.device)
    return dict(zip(values, accelerator.reduce(row, "mean").tolist(), strict=True))


BUCKET = 64 * 2**20
"""Bytes of gradients that are averaged over the processes in one message, unless one parameter has more."""


def average_gradients(accelerator: Accelerator, parameters: Sequence[Tensor]) -> None:
    """Average gradients over all processes, in place; a message takes a bucket of them.

    Those of split parameters are averages already. Networks are not wrapped: several may be trained by interleaved
    losses.
    """
    if accelerator.num_processes == 1:
        return
    parameters = [parameter for parameter in parameters if not is_split(parameter)]
    for parameter in parameters:
        if parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)
    for bucket in _buckets([parameter.grad for parameter in parameters if parameter.grad is not None]):
        flat = accelerator.reduce(torch.cat([gradient.flatten() for gradient in bucket]), "mean")
        for gradient, part in zip(bucket, flat.split([gradient.numel() for gradient in bucket]), strict=True):
            gradient.copy_(part.view_as(gradient))


def _buckets(gradients: Sequence[Tensor]) -> Iterator[list[Tensor]]:
    """Yield consecutive gradients of one precision, together of at most :data:`BUCKET` bytes, or one alone."""
    bucket: list[Tensor] = []
    for gradient in gradients:
        full = sum(one.nbytes for one in bucket) + gradient.nbytes > BUCKET
        if bucket and (full or gradient.dtype != bucket[0].dtype):
            yield bucket
            bucket = []
        bucket.append(gradient)
    if bucket:
        yield bucket
