"""Running a batch in chunks of one size."""

from __future__ import annotations

import logging
from collections.abc import Callable

import torch
from torch import Tensor

log = logging.getLogger(__name__)


class Chunks:
    """Runs functions of row indices chunk by chunk.

    Kernels differ in the last bits between batch sizes, and a reward that differs by 1e-6 can flip an ancestor.
    So every chunk has the same size: the last one is filled up with copies of its last row, whose results are
    dropped. On CUDA running out of memory halves the size, for good.

    Attributes:
        size: rows a chunk, at least 1; part of a run's recipe.
    """

    def __init__(self, size: int) -> None:
        self.size = size

    def map(
        self, function: Callable[[Tensor], Tensor], count: int, groups: Tensor | None = None
    ) -> tuple[Tensor, int]:
        """Call ``function(rows)`` for ``rows`` covering 0..count−1 and concatenate what it returns.

        Args:
            function: int64 ``[size]`` to ``[size, …]``.
            count: rows in all.
            groups: int64 ``[count]``; rows of two groups never share a chunk.

        Returns:
            The concatenation ``[count, …]`` in the rows' order and the number of rows that were padding.
        """
        if groups is None:
            return self._map_rows(function, torch.arange(count))
        members = [(groups == group).nonzero().flatten() for group in groups.unique()]
        parts, paddings = zip(*(self._map_rows(function, rows) for rows in members), strict=True)
        order = torch.argsort(torch.cat(members))
        together = torch.cat(parts)
        return together[order.to(together.device)], sum(paddings)

    def _map_rows(self, function: Callable[[Tensor], Tensor], members: Tensor) -> tuple[Tensor, int]:
        parts: list[Tensor] = []
        start = padding = 0
        count = len(members)
        while start < count:
            rows = members[torch.arange(start, start + self.size).clamp(max=count - 1)]
            try:
                out = function(rows)
            except torch.cuda.OutOfMemoryError:
                if self.size == 1:
                    raise
                torch.cuda.empty_cache()
                self.size //= 2
                log.warning("out of CUDA memory: the chunk size is %d from here on", self.size)
                continue
            real = min(self.size, count - start)
            padding += self.size - real
            parts.append(out[:real])
            start += self.size
        return (parts[0] if len(parts) == 1 else torch.cat(parts)), padding
