"""A denoiser whose deep features are reused from step to step, for drafts (DeepCache, arXiv 2312.00858).

Between two steps, the output of a UNet's deep blocks changes little, and so does what a transformer's later blocks add
to its first one. Every few steps all is computed. In between, only a UNet's outermost blocks and a transformer's first
block are, and for the rest stands what it last gave. Which steps these are depends on the schedule alone: the caches of
diffusers that decide by how much a batch has changed would let a sample depend on its neighbors.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from steer.plugin import replaced_attribute

STACKS = (
    *("blocks", "layers", "transformer_blocks", "single_transformer_blocks", "joint_transformer_blocks"),
    *("visual_transformer_blocks", "temporal_transformer_blocks"),
)
"""Names under which transformers of diffusers have their blocks."""


@dataclass(frozen=True)
class Stack:
    """Modules that follow each other and are skipped together.

    Attributes:
        skipped: in the order of their calls.
        head: what comes before them and is always computed, if they add to its output; ``None`` if the output of the
            last one is reused as it is.
    """

    skipped: tuple[nn.Module, ...]
    head: nn.Module | None = None


def stacks_of(denoiser: nn.Module) -> list[Stack]:
    """Return what can be skipped in a denoiser; nothing if its parts are not known here."""
    parts = dict(denoiser.named_children())
    down, up = parts.get("down_blocks"), parts.get("up_blocks")
    if isinstance(down, nn.ModuleList) and isinstance(up, nn.ModuleList):
        middle = [parts["mid_block"]] if "mid_block" in parts else []
        return [Stack((*list(down)[1:], *middle, *list(up)[:-1]))] if len(up) > 1 else []
    lists = [part for name, part in parts.items() if name in STACKS and isinstance(part, nn.ModuleList)]
    return [Stack(tuple(blocks)[1:], blocks[0]) for blocks in lists if len(blocks) > 1]


@dataclass
class Features:
    """What one call of a denoiser leaves for later ones.

    Attributes:
        shapes: of the call's arguments.
        outputs: of the skipped modules, without content.
        last: of the last module of each stack, its output, or what that is more than the head's.
    """

    shapes: Any
    outputs: dict[nn.Module, Any] = field(default_factory=dict)
    last: dict[nn.Module, Any] = field(default_factory=dict)


class Reuse:
    """A context in which denoisers compute in full at every ``interval``-th step only; none is changed by it.

    Calls within a step are told apart by their order: chunk by chunk, with the prompt and without it, it is the same at
    every step. A call reuses what the call in its place computed.
    """

    def __init__(self, denoisers: Iterable[nn.Module], interval: int) -> None:
        """Args: denoisers: of a population; interval: from one step that is computed in full to the next."""
        self._interval = interval
        self._denoisers = [_Denoiser(module, self) for module in denoisers]
        self._done = self._whole = 0.0
        self.full, self.lost = True, False

    @contextmanager
    def __call__(self) -> Iterator[None]:
        """Return the context of one population: none reuses what another left."""
        self.at(0)  # a pipeline's first call may come before anybody says so
        with ExitStack() as stack:
            for denoiser in self._denoisers:
                stack.enter_context(denoiser.replaced())
            yield

    def at(self, step: int) -> None:
        """Say which step the coming calls belong to, counted from 0."""
        self.full = step % self._interval == 0
        self.lost &= not self.full
        for denoiser in self._denoisers:
            denoiser.place = 0

    def count(self, done: float, whole: float) -> None:
        """Count a call's operations, and those of such a call in full."""
        self._done += done
        self._whole += whole

    def share(self) -> float:
        """Return the share of the denoisers' operations that was computed since this was last asked."""
        share = self._done / self._whole if self._whole else 1.0
        self._done = self._whole = 0.0
        return share


class _Denoiser:
    """One denoiser, and what its calls have left.

    Attributes:
        place: of the next call among those of the step.
    """

    def __init__(self, module: nn.Module, reuse: Reuse) -> None:
        self._module, self._reuse, self._stacks = module, reuse, stacks_of(module)
        self._left: dict[int, Features] = {}
        self._operations: dict[tuple[Any, bool], float] = {}
        self._features, self._full = Features(None), True
        self._heads: dict[nn.Module, Any] = {}
        self.place = 0

    @contextmanager
    def replaced(self) -> Iterator[None]:
        """Return a context in which skipped modules know what to do."""
        with ExitStack() as stack:
            for one in self._stacks:
                if one.head is not None:
                    stack.enter_context(_forward(one.head, partial(self._head, one.head)))
                for module in one.skipped:
                    stack.enter_context(_forward(module, partial(self._skipped, one, module)))
            stack.enter_context(_forward(self._module, self._whole))
            # a compiled denoiser has its blocks within
            stack.enter_context(replaced_attribute(self._module, "_compiled_call_impl", None))
            stack.callback(self._left.clear)
            yield

    def _whole(self, forward: Callable[..., Any], *arguments: Any, **keywords: Any) -> Any:
        """Call the denoiser, in full or with what the call in this place has left."""
        place, shapes = self.place, _shapes((arguments, keywords))
        left = self._left.get(place)
        full = self._reuse.full or self._reuse.lost or left is None or left.shapes != shapes
        self._features, self._full = Features(shapes) if full or left is None else left, full
        self.place += 1
        counter = nullcontext() if (shapes, full) in self._operations else FlopCounterMode(display=False)
        try:
            with counter:
                out = forward(*arguments, **keywords)
        except BaseException:
            # if there is no memory, the call is made again, and those of this step are in other places
            self._left.clear()
            self._reuse.lost = True
            raise
        finally:
            self._heads = {}
        if isinstance(counter, FlopCounterMode):
            self._operations[shapes, full] = float(counter.get_total_flops())
        if not self._reuse.lost:
            self._left[place] = self._features
        done = self._operations[shapes, full]
        self._reuse.count(done, self._operations.get((shapes, True), done))
        return out

    def _head(self, head: nn.Module, forward: Callable[..., Any], *arguments: Any, **keywords: Any) -> Any:
        self._heads[head] = out = forward(*arguments, **keywords)
        return out

    def _skipped(
        self, stack: Stack, module: nn.Module, forward: Callable[..., Any], *arguments: Any, **keywords: Any
    ) -> Any:
        features, head = self._features, None if stack.head is None else self._heads[stack.head]
        last = module is stack.skipped[-1]
        if not self._full:
            return _each(_sum, features.last[module], head) if last else features.outputs[module]
        out = forward(*arguments, **keywords)
        if last:
            features.last[module] = _each(_difference, out, head)
        else:
            features.outputs[module] = _each(_hollow, out)
        return out


def _shapes(value: Any) -> Any:
    """Return the shapes of all tensors among arguments."""
    if isinstance(value, list | tuple):
        return tuple(map(_shapes, value))
    if isinstance(value, dict):
        return tuple((name, _shapes(part)) for name, part in value.items())
    return value.shape if isinstance(value, Tensor) else None


def _each(function: Callable[..., Tensor], value: Any, other: Any = None) -> Any:
    """Apply a function to each tensor of an output, and what stands for it in another one."""
    if isinstance(value, list | tuple):
        others = other if isinstance(other, list | tuple) and len(other) == len(value) else [None] * len(value)
        return type(value)(_each(function, *pair) for pair in zip(value, others, strict=True))
    return function(value, other) if isinstance(value, Tensor) else value


def _difference(value: Tensor, head: Any) -> Tensor:
    return value - head if _alike(value, head) else value


def _sum(value: Tensor, head: Any) -> Tensor:
    return value + head if _alike(value, head) else value


def _alike(value: Tensor, other: Any) -> bool:
    return isinstance(other, Tensor) and other.shape == value.shape


def _hollow(value: Tensor, _: Any) -> Tensor:
    """Return zeros of the same shape that take no memory."""
    return torch.zeros((), dtype=value.dtype, device=value.device).expand(value.shape)


@contextmanager
def _forward(module: nn.Module, call: Callable[..., Any]) -> Iterator[None]:
    """Return a context in which a module's ``forward`` is ``call(forward, …)``."""
    with replaced_attribute(module, "forward", partial(call, module.forward)):
        yield
