"""Running a batch in chunks of one size, and the default size."""

import logging
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from steer.errors import SteerError
from steer.models.device import out_of_memory
from steer.models.media.media import joined

log = logging.getLogger(__name__)

MOST_ON_CPU, MOST_ELSEWHERE = 8, 16
"""Rows per forward at most, unless the user asks for more."""


def default_chunk(device: str, particles: int) -> int:
    """Return the default number of rows per forward: equal parts of a prompt's particles.

    It depends on nothing else, so that a prompt gives the same bits alone and in a pack, by ``generate`` and by
    ``render``. A part divides the particles, and nothing is padded, unless that takes a third more forwards: on
    a CPU, 55 particles are seven forwards of eight, not eleven of five.

    Args:
        device: the type of the device that computes.
        particles: per prompt.
    """
    most = MOST_ON_CPU if device == "cpu" else MOST_ELSEWHERE
    even = math.ceil(particles / math.ceil(particles / most))
    divisor = max(size for size in range(1, most + 1) if particles % size == 0)
    return divisor if 4 * divisor > 3 * even else even


ADVICE = {
    "encoding texts": "use --offload model, --dtype bf16 or fp16, or a smaller --model",
    "denoising": "lower --size, or use --dtype bf16 or fp16, --offload model, or a smaller --model",
    "decoding": "use --vae-memory tiling or slicing, --preview, or lower --size",
    "rewarding": "use a smaller reward, place it elsewhere (-o NAME.device=cpu), or score afterwards by steer score",
    "differentiating": "lower --size, let methods recompute activations, or use a search without gradients",
}
"""What helps if memory does not suffice for one row, by what was being done."""


@contextmanager
def during(what: str, *, rows: int | None = None) -> Iterator[None]:
    """Let an error of memory say what was being done, one of :data:`ADVICE`; the innermost counts.

    Args:
        rows: for how many rows together, if those are the chunk's in batches of their own.
    """
    try:
        yield
    except RuntimeError as error:
        if not hasattr(error, "during"):
            error.during = what, rows  # type: ignore[attr-defined]
        raise


class Full(Exception):  # noqa: N818 - never leaves this module
    """Memory ran out; the cause says so in its own words."""

    def __init__(self, during: tuple[str, int | None]) -> None:
        """Args: during: what was being done, and for how many rows if those are fewer than a chunk's."""
        super().__init__()
        self.during = during


class Halved(Exception):  # noqa: N818 - no fault: whoever runs the pack begins it again
    """Memory did not suffice for a chunk, and the size is half of what it was from here on."""


class Chunks:
    """Runs functions of row indices chunk by chunk.

    Kernels differ in the last bits between batch sizes, and a reward that differs by 1e-6 can flip an ancestor.
    So every chunk has the same size: the last one is filled up with copies of its last row, whose results are
    dropped. Running out of memory halves the size, for good, unless one row alone did not fit.

    Attributes:
        size: rows per chunk, at least 1; part of a run's recipe.
        restarts: raise :class:`Halved` when the size changes, for whoever begins again, so that what is made is made
            by one size.
        relieve: asked first when memory runs out: moves what is not at work to the CPU, and returns whether that made
            room. The same rows are tried again then.
    """

    def __init__(self, size: int) -> None:
        self.size, self.restarts = size, False
        self.relieve: Callable[[], bool] | None = None

    def map(self, function: Callable[[Tensor], Tensor], count: int, groups: Tensor | None = None) -> tuple[Tensor, int]:
        """Call ``function(rows)`` for ``rows`` covering 0..count−1 and concatenate what it returns.

        Args:
            function: int64 ``[size]`` to ``[size, …]``.
            groups: int64 ``[count]``; rows of two groups never share a chunk.

        Returns:
            The concatenation ``[count, …]`` (of texts too) in the rows' order and the number of rows that were padding.
        """
        (out,), padding = self.map_several(lambda rows: (function(rows),), count, groups)
        return out, padding

    def once(self, what: str, function: Callable[[], Any]) -> Any:
        """Call a function that cannot be split; if memory runs out, it is called again once there is more room.

        Args:
            what: is done, one of :data:`ADVICE`.
        """
        try:
            return self._with_room(function)
        except Full as full:
            raise _error(what) from full.__cause__

    def unrepeatable(self, what: str, function: Callable[[], Any]) -> Any:
        """Call a function that cannot be called again if memory runs out: whoever runs the pack begins it again.

        Args:
            what: is done, one of :data:`ADVICE`.
        """
        try:
            return _attempt(function)
        except Full as full:
            relieved = self._relieved()
            if not self.restarts or (not relieved and self.size == 1):
                raise _error(what) from full.__cause__
            if not relieved:
                self._shrink(self.size)
        raise Halved

    def _with_room(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """Call a function; if memory runs out, call it again for as long as there is more room.

        Raises:
            Full: if there is none.
        """
        while True:
            try:
                return _attempt(function, *arguments)
            except Full:
                if not self._relieved():
                    raise

    def _relieved(self) -> bool:
        return self.relieve is not None and self.relieve()

    def map_several(
        self, function: Callable[[Tensor], tuple[Tensor, ...]], count: int, groups: Tensor | None = None
    ) -> tuple[tuple[Tensor, ...], int]:
        """Do as :meth:`map` does, for a function that returns several tensors, each with a row per particle."""
        if groups is None:
            return self._map_rows(function, torch.arange(count))
        members = [(groups == group).nonzero().flatten() for group in groups.unique()]
        parts, paddings = zip(*(self._map_rows(function, rows) for rows in members), strict=True)
        order = torch.argsort(torch.cat(members))
        return tuple(column[order.to(column.device)] for column in _joined(parts)), sum(paddings)

    def _map_rows(
        self, function: Callable[[Tensor], tuple[Tensor, ...]], members: Tensor
    ) -> tuple[tuple[Tensor, ...], int]:
        parts: list[tuple[Tensor, ...]] = []
        start = padding = 0
        count = len(members)
        while start < count:
            size = self.size
            rows = members[torch.arange(start, start + size).clamp(max=count - 1)]
            try:
                out = self._with_room(function, rows)
            except Full as full:
                what, together = full.during
                together = min(size, together or size)
                if together == 1:
                    raise _error(what, ", with one row at a time") from full.__cause__
                self._shrink(together)
                continue
            real = min(size, count - start)
            padding += size - real
            parts.append(tuple(tensor[:real] for tensor in out))
            start += size
        return _joined(parts), padding

    def _shrink(self, rows: int) -> None:
        """Take half of so many rows from here on.

        Raises:
            Halved: see :attr:`restarts`.
        """
        self.size = rows // 2
        log.warning("out of memory: the chunk size is %d from here on", self.size)
        if self.restarts:
            raise Halved


def _attempt(function: Callable[..., Any], *arguments: Any) -> Any:
    """Call a function.

    Raises:
        Full: if memory runs out, from an error without traceback, whose frames would keep the failed call's tensors.
    """
    try:
        return function(*arguments)
    except RuntimeError as error:
        if not out_of_memory(error):
            raise
        log.debug("out of memory", exc_info=True)
        failed = error.with_traceback(None)
        failed.__context__ = failed.__cause__ = None
    torch.cuda.empty_cache()  # here, where nothing handles the error any more
    raise Full(getattr(failed, "during", ("denoising", None))) from failed


def _error(what: str, how: str = "") -> SteerError:
    """Return the error of too little memory, to be raised from its cause."""
    return SteerError(f"out of memory while {what}{how}: {ADVICE[what]}")


def _joined(parts: Sequence[tuple[Tensor, ...]]) -> tuple[Tensor, ...]:
    return parts[0] if len(parts) == 1 else tuple(joined(column) for column in zip(*parts, strict=True))
