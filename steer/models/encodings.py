"""Encoded texts of a model: on the CPU, as many as a limit of bytes takes."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterable, Mapping

import torch
from torch import Tensor

from steer.models.encoded_prompts import Encoded

KEPT_BYTES = 1 << 30
"""Most bytes of encodings that a model keeps; a population's own are held by its conditioning."""

Side = Mapping[str, tuple[Tensor, torch.device]]
"""Tensors on the CPU by name, each with the device that it was made on."""


class Encodings:
    """Encodings by what they depend on. The ones that were not used for longest leave first.

    Attributes:
        limit: most bytes to keep.
        encoded: bytes encoded so far, also of those that have left.
    """

    def __init__(self, limit: int = KEPT_BYTES) -> None:
        """Args: limit: most bytes to keep."""
        self.limit, self.encoded = limit, 0
        self._bytes = 0
        self._rows: OrderedDict[Hashable, tuple[Side, Side | None]] = OrderedDict()

    def get(self, key: Hashable, encode: Callable[[], Encoded]) -> Encoded:
        """Return the encoding of a key, on the devices where it was made; ``encode`` makes it if it is not known."""
        if key not in self._rows:
            cond, uncond = encode()
            self._rows[key] = _kept(cond), None if uncond is None else _kept(uncond)
            size = _size(self._rows[key])
            self._bytes += size
            self.encoded += size
            while self._bytes > self.limit and len(self._rows) > 1:
                _, dropped = self._rows.popitem(last=False)
                self._bytes -= _size(dropped)
            return cond, uncond
        self._rows.move_to_end(key)
        known, unknown = self._rows[key]
        return _moved(known), None if unknown is None else _moved(unknown)


def _kept(side: Mapping[str, Tensor]) -> Side:
    return {name: (value.cpu(), value.device) for name, value in side.items()}


def _moved(side: Side) -> dict[str, Tensor]:
    return {name: value.to(device) for name, (value, device) in side.items()}


def _size(sides: Iterable[Side | None]) -> int:
    return sum(value.nbytes for side in sides if side is not None for value, _ in side.values())
