"""Texts: :class:`Texts` as samples, strings as values, UTF-8 files that hold the text and nothing else."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, ClassVar, overload

import torch
from torch import Tensor

from steer.models.media.media import Medium


class Texts(Sequence[str]):
    """N texts. Indexing by an int gives a string; by a slice or an int64 tensor of rows it gives texts.

    Attributes:
        device: for the rows that index them: texts are on the CPU.
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

    @classmethod
    def joined(cls, parts: Iterable[Texts]) -> Texts:
        """Concatenate texts."""
        return cls(text for part in parts for text in part)


class TextMedium(Medium):
    """Texts."""

    name: ClassVar[str] = "text"
    suffix: ClassVar[str] = ".txt"
    continuous: ClassVar[bool] = False

    def values(self, samples: Texts) -> list[str]:
        return list(samples)

    def samples(self, values: Sequence[str], device: torch.device) -> Texts:
        return Texts(values)

    def probe(self, size: tuple[int, int], device: torch.device) -> Texts:
        return Texts(["a"])

    def size_text(self, size: tuple[int, int]) -> str:
        tokens = size[0]
        return f"{tokens} token" if tokens == 1 else f"{tokens} tokens"

    def facts(self, value: str) -> dict[str, Any]:
        return {"text": value}

    def line(self, value: str) -> str:
        return value

    def encoded(self, value: str, texts: Mapping[str, str]) -> bytes:
        return f"{value}\n".encode("utf-8", "surrogatepass")

    def difference(self, file: bytes, value: str) -> int:
        return 0 if file == self.encoded(value, {}) else 255
