"""The standard normal numbers that a pipeline's call draws before its first step, read or replaced."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

Layout = tuple[tuple[tuple[int, ...], torch.dtype], ...]
"""Shape and precision of each draw of one row, in order. Halves give other numbers than singles."""


class Draws(TorchFunctionMode):
    """A context that sees each ``torch.randn`` from one of several generators, one per row.

    Attributes:
        layouts: of each row, as far as drawn.
    """

    def __init__(self, generators: Sequence[torch.Generator], noise: Tensor | None = None) -> None:
        """Take note of the generators.

        Args:
            generators: of the rows.
            noise: ``[N, D]`` to take instead of what is drawn, draw by draw; the generators are drawn from all the
                same, so that later draws do not change.
        """
        super().__init__()
        self._row = {id(generator): row for row, generator in enumerate(generators)}
        self._noise = noise
        self._taken = [0] * len(generators)
        self.layouts: list[Layout] = [()] * len(generators)

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Call the function, and note or replace what it drew."""
        out = func(*args, **(kwargs or {}))
        row = self._row.get(id((kwargs or {}).get("generator")))
        if func is not torch.randn or row is None:
            return out
        self.layouts[row] = (*self.layouts[row], (tuple(out.shape), out.dtype))
        if self._noise is None:
            return out
        begin = self._taken[row]
        self._taken[row] += out.numel()
        return self._noise[row, begin : begin + out.numel()].view(out.shape).to(out)


def drawn(layout: Layout, generators: Sequence[torch.Generator]) -> Tensor:
    """Draw ``[N, D]`` in fp32 as a pipeline's call would."""

    def row(generator: torch.Generator) -> Tensor:
        parts = [torch.randn(shape, generator=generator, dtype=dtype) for shape, dtype in layout]
        return torch.cat([part.flatten().float() for part in parts]) if parts else torch.zeros(0)

    return torch.stack([row(generator) for generator in generators])


def size_of(layout: Layout) -> int:
    """Return D."""
    return sum(math.prod(shape) for shape, _ in layout)
