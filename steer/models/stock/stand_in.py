"""A scheduler whose ``step`` hands over to whoever steers."""

from __future__ import annotations

import copy
import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True)
class Step:
    """The arguments of a scheduler's step within a pipeline's call.

    Attributes:
        prediction: ``[B, …]``, the denoiser's output with guidance.
        timestep: as the pipeline gave it.
        sample: ``[B, …]``, the latents that the prediction belongs to.
        others: the further arguments, by name.
    """

    prediction: Tensor
    timestep: Any
    sample: Tensor
    others: Mapping[str, Any]

    @property
    def time(self) -> Tensor:
        """The timestep as a number; pipelines that give one per token or row give the first here."""
        return torch.as_tensor(self.timestep).detach().flatten()[0].cpu()

    def rows(self, rows: Tensor) -> Step:
        """Return the given rows."""
        rows = rows.to(self.sample.device)
        return replace(self, prediction=self.prediction[rows], sample=self.sample[rows])

    @classmethod
    def joined(cls, steps: Sequence[Step]) -> Step:
        """Return the steps of several calls that stand at the same timestep as one."""
        first = steps[0]
        if len(steps) == 1:
            return first
        return replace(
            first,
            prediction=torch.cat([step.prediction for step in steps]),
            sample=torch.cat([step.sample for step in steps]),
        )


Meet = Callable[[Step], Any]
"""Takes a step's arguments and returns its result, as the scheduler's own step would."""


def stand_in(scheduler: Any, meet: Meet) -> Any:
    """Have a fresh scheduler call ``meet`` for each step, and return it; in all else it is what it was.

    A copy that a pipeline makes of it (for the audio beside a video) is a plain scheduler again.
    """
    own = type(scheduler)
    signature = inspect.signature(own.step)

    @functools.wraps(own.step)
    def step(self: Any, *arguments: Any, **keywords: Any) -> Any:
        bound = dict(signature.bind(self, *arguments, **keywords).arguments)
        del bound[next(iter(bound))]
        bound |= bound.pop("kwargs", {})
        return meet(Step(bound.pop("model_output"), bound.pop("timestep"), bound.pop("sample"), bound))

    def plain(self: Any, memo: dict[int, Any]) -> Any:
        other: Any = object.__new__(own)
        other.__dict__.update(copy.deepcopy(vars(self), memo))
        return other

    # pipelines and our own tables know schedulers by the names of their classes
    body = {"step": step, "__deepcopy__": plain, "__module__": own.__module__, "__qualname__": own.__qualname__}
    scheduler.__class__ = type(own.__name__, (own,), {**body, "own_step": own.step})
    return scheduler


def result(like: Mapping[str, Any], x: Tensor, x0: Tensor | None = None) -> Any:
    """Return what a scheduler's step returns: a tuple if the call asked for one, else an object.

    Args:
        like: the call's further arguments.
        x: the next latents.
        x0: the estimate of the data; ``x`` if it is not known.
    """
    from diffusers.schedulers.scheduling_ddim import DDIMSchedulerOutput  # imported with the pipeline

    x0 = x if x0 is None else x0
    if like.get("return_dict", True):
        return DDIMSchedulerOutput(prev_sample=x, pred_original_sample=x0)
    return x, x0
