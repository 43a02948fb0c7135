"""``Task`` and ``Part``: the networks to train with their optimizers, and the losses of every step."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from steer.errors import SteerError
from steer.training.averages import begun_average, move_average, trained_state
from steer.training.sharding import joined, share_of, split_like, whole


class Part:
    """Networks that one optimizer trains, and the moving average of their weights.

    Attributes:
        module: the networks; parameters without gradient are neither trained nor kept in checkpoints.
        parameters: the trained parameters.
        average: weights averaged over the steps, in fp32 and by name; empty if none are kept. Of a split network they
            are this process's shares.
    """

    def __init__(
        self,
        module: nn.Module,
        optimizer: torch.optim.Optimizer,
        *,
        averaged: bool = True,
        average_on: torch.device | None = None,
    ) -> None:
        """Take networks on their training device.

        Args:
            averaged: whether an average is kept.
            average_on: where; by default beside the weights. On the CPU, large networks leave a GPU more room.
        """
        self.module, self.optimizer = module, optimizer
        self.parameters = [parameter for parameter in module.parameters() if parameter.requires_grad]
        self.average = begun_average(module, average_on) if averaged else {}

    def move_average(self, step: int, decay: float) -> None:
        """Move the average, if one is kept, after an update in step number ``step``."""
        if self.average:
            move_average(self.average, self.module, step, decay)

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """Have the averaged weights in the networks, and after that the last ones again, which wait on the CPU."""
        last = {name: share_of(value).to("cpu", copy=True) for name, value in trained_state(self.module).items()}
        self._put(self.average)
        try:
            yield
        finally:
            self._put(last)

    @torch.no_grad()
    def _put(self, shares: Mapping[str, Tensor]) -> None:
        # asking for the state drops weights that a split network has gathered
        for name, value in trained_state(self.module).items():
            share_of(value).copy_(shares[name])

    def whole_average(self, *, everywhere: bool = True) -> dict[str, Tensor]:
        """Return the averaged weights, by name; if the network is split, all processes must call this.

        Args:
            everywhere: whether all processes get those of a split network; else the first one does.
        """
        own = trained_state(self.module)
        return {name: whole(joined(share, own[name]), everywhere=everywhere) for name, share in self.average.items()}

    def state(self) -> dict[str, Any]:
        """Return the state for a checkpoint; if the network is split, all processes must call this, and the first one
        gets it."""
        optimizer = self.optimizer.state_dict()
        states = {
            index: {name: whole(value) if isinstance(value, Tensor) else value for name, value in state.items()}
            for index, state in optimizer["state"].items()
        }
        return {
            "weights": {name: whole(value) for name, value in trained_state(self.module).items()},
            "optimizer": {**optimizer, "state": states},
            "average": self.whole_average(everywhere=False),
        }

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Load a state of :meth:`state`.

        Raises:
            ValueError, RuntimeError, KeyError: if it is of other networks.
        """
        own = trained_state(self.module)
        _load(own, state["weights"], own)
        parameters = [parameter for group in self.optimizer.param_groups for parameter in group["params"]]
        states = {
            index: {name: _like(value, parameters[index]) for name, value in values.items()}
            for index, values in state["optimizer"]["state"].items()
        }
        self.optimizer.load_state_dict({**state["optimizer"], "state": states})
        _load(self.average, state["average"], own)


def _like(value: Any, parameter: Tensor) -> Any:
    """Return what an optimizer keeps of a parameter; if it is one number per weight, split like the parameter."""
    return split_like(value, parameter) if isinstance(value, Tensor) and value.shape == parameter.shape else value


@torch.no_grad()
def _load(shares: Mapping[str, Tensor], kept: Mapping[str, Tensor], like: Mapping[str, Tensor]) -> None:
    """Copy whole tensors into others that are split as ``like`` is."""
    if shares.keys() != kept.keys():
        raise ValueError(f"other weights: {', '.join(sorted(shares.keys() ^ kept.keys())[:3])}")
    for name, value in shares.items():
        if like[name].shape != kept[name].shape:
            raise ValueError(f"{name} has shape {list(kept[name].shape)}, expected {list(like[name].shape)}")
        share_of(value).copy_(share_of(split_like(kept[name], like[name])))


@dataclass(frozen=True)
class Update:
    """One update of a part.

    Attributes:
        part: the part to update.
        rate: the learning rate.
        losses: gives the losses of a micro-batch by its number, counted over all processes. ``"loss"`` is minimized,
            the others are logged.
    """

    part: str
    rate: float
    losses: Callable[[int], Mapping[str, Tensor]]


class Task(ABC):
    """A training, as :func:`steer.training.fit` needs it.

    Attributes:
        name: of the command, such as ``"dmd2"``.
        parts: the networks to train, by name.
    """

    name: str
    parts: Mapping[str, Part]

    @abstractmethod
    def updates(self, step: int) -> Iterable[Update]:
        """Return the updates of a step, which counts from 0, in order; each sees the weights after the one before.

        All randomness must come from generators keyed by the step and the micro-batch
        (:class:`steer.training.Draw`): then a resumed run equals one that was never interrupted.
        """

    def phase(self, step: int) -> str | None:
        """Return the name of the phase that a step belongs to, if the training has phases."""
        return None

    def sheet(self, path: Path) -> dict[str, float]:
        """Measure the averaged weights for the log; a task that makes images draws some into ``path`` (a PNG).

        If networks are split, all processes call this, each with a path of its own.
        """
        return {}


def adamw(
    module: nn.Module,
    rate: float,
    *,
    betas: tuple[float, float] = (0.9, 0.99),
    weight_decay: float = 0.01,
    matrices_only: bool = False,
    fused: bool = False,
    bits: int = 32,
) -> torch.optim.Optimizer:
    """Return AdamW for the parameters of a module that have a gradient.

    Args:
        module: on its training device.
        rate: learning rate until an update sets its own.
        betas: decay of the averages of gradient and squared gradient.
        weight_decay: of the weights.
        matrices_only: whether biases, scales and other vectors are left out of the weight decay.
        fused: whether one kernel updates all parameters.
        bits: of its two averages; with 8 (arXiv 2110.02861) they take a quarter of the memory.

    Raises:
        SteerError: for 8 bits without bitsandbytes.
    """
    parameters = [parameter for parameter in module.parameters() if parameter.requires_grad]
    groups: list[dict[str, Any]] = [{"params": parameters, "weight_decay": weight_decay}]
    if matrices_only:
        groups[0]["params"] = [p for p in parameters if p.ndim > 1]
        groups.append({"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0})
    if bits == 8:
        eight: torch.optim.Optimizer = _bitsandbytes().AdamW8bit(groups, lr=rate, betas=betas)
        return eight
    return torch.optim.AdamW(groups, lr=rate, betas=betas, fused=fused or None)


def _bitsandbytes() -> Any:
    try:
        import bitsandbytes
    except ImportError:
        raise SteerError("--adam-bits 8 needs bitsandbytes: pip install 'steer-diffusion[quantize]'") from None
    return bitsandbytes.optim
