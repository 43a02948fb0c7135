"""A pipeline that belongs to the user: put into inference mode for as long as it is used, and given back as it was."""

import threading
from types import TracebackType
from typing import Any

import torch


class Lent:
    """A context in which a pipeline's modules are in inference mode; dropout would make a run unrepeatable.

    At its end training mode, ``requires_grad`` and precision of every module are what they were. Contexts may nest, and
    overlap in threads: the last to end gives the pipeline back.
    """

    def __init__(self, pipe: Any, *, freeze: bool = True) -> None:
        """Take note of the pipeline.

        Args:
            pipe: the pipeline.
            freeze: put it into inference mode; if not, it is only given back as it was.
        """
        self._pipe, self._freeze = pipe, freeze
        self._users, self._lock = 0, threading.Lock()

    def __enter__(self) -> None:
        with self._lock:
            self._users += 1
            if self._users > 1:
                return
            parts = [part for part in self._pipe.components.values() if isinstance(part, torch.nn.Module)]
            self._dtypes: list[tuple[Any, torch.dtype]] = [(part, _dtype(part)) for part in parts]
            self._modes = [(module, module.training) for part in parts for module in part.modules()]
            self._leaves = [(leaf, leaf.requires_grad) for part in parts for leaf in part.parameters()]
            if self._freeze:
                for part in parts:
                    part.eval().requires_grad_(False)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        with self._lock:
            self._users -= 1
            if self._users:
                return
            for part, dtype in self._dtypes:
                if _dtype(part) != dtype:
                    part.to(dtype)
            for module, training in self._modes:
                module.training = training
            for leaf, requires_grad in self._leaves:
                leaf.requires_grad_(requires_grad)
            self._dtypes, self._modes, self._leaves = [], [], []


def _dtype(part: Any) -> torch.dtype:
    found: torch.dtype = getattr(part, "dtype", torch.float32)
    return found
