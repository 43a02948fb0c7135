"""A model of a GPU's memory: full-size models run on a device whose tensors have sizes and no content.

Counted are the bytes of all storages on the device, rounded as the allocator does, while real code runs: weights,
activations and what autograd keeps. Attention is that of a fused kernel, which keeps no scores. Not counted: CUDA's own
context (about 0.5 GB), workspaces of convolutions, fragmentation.

What comes back to the CPU is zeros and truths; a number asked of the device is 1.
"""

from __future__ import annotations

import functools
import gc
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor
from torch.fx.experimental import _config as config
from torch.utils._pytree import tree_leaves

from steer.models.footprint import LiveBytes
from support.pretended import Pretended, World, aten, entered, mapped


class Memory(LiveBytes):
    """Bytes on the device.

    Attributes:
        peaks: most that were live at once while one of the functions ran that :meth:`watched` gave, by its name.
    """

    def __init__(self) -> None:
        super().__init__()
        self.peaks: dict[str, int] = {}

    def beside(self, function: Callable[[], Any]) -> int:
        """Call a function; return the bytes that it takes at its peak beside those that are live before it."""
        gc.collect()
        before = self.now
        return self._peak_of(function) - before

    def watched(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """Return the function; each call notes its peak under the name."""

        @functools.wraps(function)
        def call(*args: Any, **kwargs: Any) -> Any:
            found: list[Any] = []
            peak = self._peak_of(lambda: found.append(function(*args, **kwargs)))
            self.peaks[name] = max(self.peaks.get(name, 0), peak)
            return found[0]

        return call

    def _peak_of(self, function: Callable[[], Any]) -> int:
        around, self.peak = self.peak, self.now
        try:
            function()
            return self.peak
        finally:
            self.peak = max(around, self.peak)


class _Fused(torch.autograd.Function):
    """Attention in memory that does not grow with the scores."""

    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        out = query.new_empty(*query.shape[:-1], value.shape[-1])
        ctx.save_for_backward(query, key, value, out, query.new_empty(query.shape[:-1], dtype=torch.float32))
        return out

    @staticmethod
    def backward(ctx: Any, *_: Tensor) -> tuple[Tensor, ...]:
        return tuple(torch.empty_like(tensor) for tensor in ctx.saved_tensors[:3])


def _attention(query: Tensor, key: Tensor, value: Tensor, *_: Any, **__: Any) -> Tensor:
    attended: Tensor = _Fused.apply(query, key, value)
    return attended


@dataclass(frozen=True)
class _Sizes:
    """All that a tensor on the meta device is."""

    shape: tuple[int, ...]
    strides: tuple[int, ...]
    dtype: torch.dtype

    def made(self) -> Tensor:
        return torch.empty_strided(self.shape, self.strides, dtype=self.dtype, device="meta")


_results: dict[Hashable, Any] = {}
"""What operations return, by their arguments' sizes. torch's own rules take up to 15 ms; a model's blocks are alike."""


@functools.cache
def _is_pure(func: Any) -> bool:
    """Whether an operation returns new tensors and changes none."""
    schema = func._schema
    return all(value.alias_info is None for value in (*schema.arguments, *schema.returns))


def _key(value: Any) -> Hashable:
    if isinstance(value, Tensor):
        return value.shape, value.stride(), value.dtype
    if isinstance(value, (list, tuple)):
        return tuple(map(_key, value))
    if isinstance(value, dict):
        return tuple((name, _key(part)) for name, part in value.items())
    return type(value), value  # True, 1 and 1.0 are equal


def _sized(func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    """Compute on the meta device."""
    if not _is_pure(func):
        return func(*args, **kwargs)
    key = func, _key(args), _key(kwargs)
    if key not in _results:
        out = func(*args, **kwargs)
        given = {leaf.untyped_storage()._cdata for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)}
        leaves = [leaf for leaf in tree_leaves(out) if isinstance(leaf, Tensor)]
        if any(leaf.untyped_storage()._cdata in given or not leaf.is_meta for leaf in leaves):
            return out  # some share memory though they do not say so
        _results[key] = mapped(
            lambda leaf: _Sizes(tuple(leaf.shape), leaf.stride(), leaf.dtype) if isinstance(leaf, Tensor) else leaf, out
        )
    return mapped(lambda leaf: leaf.made() if isinstance(leaf, _Sizes) else leaf, _results[key])


class Hollow(World):
    """A device whose tensors are held on the meta device."""

    def __init__(self, kind: str) -> None:
        super().__init__(kind)
        self.memory = Memory()

    def compute(self, func: Any, args: Any, kwargs: dict[str, Any], *, there: bool) -> Any:
        if func is aten._local_scalar_dense.default and isinstance(args[0], Pretended):
            return True if args[0].dtype == torch.bool else torch.ones((), dtype=args[0].dtype).item()
        if func is aten.copy_.default and not isinstance(args[0], Pretended) and isinstance(args[1], Pretended):
            return args[0].zero_()
        if func is aten._to_copy.default and not there and isinstance(args[0], Pretended):
            kind = kwargs.get("dtype") or args[0].dtype
            return torch.full(args[0].shape, kind is torch.bool, dtype=kind, device=kwargs.get("device") or "cpu")
        if not there:
            return super().compute(func, args, kwargs, there=there)

        def emptied(leaf: Any) -> Any:
            if isinstance(leaf, Pretended):
                return leaf.held
            return leaf.to("meta") if isinstance(leaf, Tensor) else leaf

        args, kwargs = mapped(emptied, (args, kwargs))
        if kwargs.get("device") is not None:
            kwargs = {**kwargs, "device": "meta"}
        return _sized(func, args, kwargs)

    def _returned(self, leaf: Any, own: dict[int, Pretended]) -> Any:
        out = super()._returned(leaf, own)
        if isinstance(out, Pretended) and out.held.is_meta:
            self.memory.add(out.held)
        return out


@contextmanager
def modeled(kind: str = "cuda") -> Iterator[Memory]:
    """Pretend that there is a device of unlimited memory; yields what is taken of it."""
    world = Hollow(kind)
    # not by a mode of functions, for none acts where activations are computed again
    with (
        entered(world),
        patch.object(torch.nn.functional, "scaled_dot_product_attention", _attention),
        config.patch(meta_nonzero_assume_all_nonzero=True),  # masks hold as much as they can
    ):
        yield world.memory
