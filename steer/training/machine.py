"""The devices and processes of a training, by accelerate."""

import os
from collections.abc import Iterator, Mapping, Sequence

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState, PartialState
from accelerate.utils import parse_flag_from_env
from torch import Tensor

from steer.errors import SteerError
from steer.models.device import computes_bf16, pick_device


def start(precision: str, device: str | None = None, threads: int | None = None) -> Accelerator:
    """Prepare this process, alone or as one of ``accelerate launch``; tasks compute on ``.device`` in ``.autocast()``.

    Args:
        precision: mixed precision of the forwards: ``"no"``, ``"bf16"``, ``"fp16"``, or ``"auto"`` for bf16 on a device
            that computes in it.
        device: such as ``"cpu"`` or ``"cuda:1"``; by default what accelerate chooses.
        threads: CPU threads.

    Raises:
        SteerError: for a missing device, or a precision that it lacks.
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
    try:
        return Accelerator(mixed_precision=precision, cpu=cpu)
    except ValueError:
        raise SteerError(f"--precision {precision} does not work on {state.device}; choose another") from None


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

    Networks are not wrapped: several may be trained by interleaved losses.
    """
    if accelerator.num_processes == 1:
        return
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
