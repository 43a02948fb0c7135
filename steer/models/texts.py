"""Texts as samples: strings that are indexed as a tensor of images is."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, overload

import torch
from torch import Tensor


class Texts(Sequence[str]):
    """N texts. An int gives a string; a slice or an int64 tensor of rows gives texts.

    Attributes:
        device: where rows that index them should be; texts are on the CPU.
    """

    device = torch.device("cpu")

    def __init__(self, texts: Iterable[str]) -> None:
        self._texts = tuple(texts)

    def __len__(self) -> int:
        return len(self._texts)

    def __iter__(self) -> Iterator[str]:
        return iter(self._texts)

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice | Tensor) -> Texts: ...
    def __getitem__(self, index: int | slice | Tensor) -> str | Texts:
        if isinstance(index, Tensor):
            return Texts(self._texts[row] for row in index.tolist())
        return Texts(self._texts[index]) if isinstance(index, slice) else self._texts[index]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Texts) and self._texts == other._texts

    def __hash__(self) -> int:
        return hash(self._texts)

    def __repr__(self) -> str:
        return f"Texts({list(self._texts)!r})"


def joined(parts: Sequence[Any]) -> Any:
    """Concatenate tensors, or texts, by rows."""
    if len(parts) == 1:
        return parts[0]
    if isinstance(parts[0], Texts):
        return Texts(text for part in parts for text in part)
    return torch.cat(list(parts))
