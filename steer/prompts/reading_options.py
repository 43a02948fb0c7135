"""Options of reading prompt files, and the warnings of one reading."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from steer.errors import SteerError, nearest
from steer.prompts.prompt import Prompt

TEXT_KEYS = ("prompt", "prompts", "text", "caption", "captions")
"""Names of the column or key that holds the prompt, in any case; the first that a row fills counts."""

Rows = Iterator[tuple[str, Callable[[], Prompt]]]
"""Each row's place, and a function that makes a prompt of it or raises ``SteerError``."""

MakeRow = Callable[[Any, str], Prompt]
"""Makes a prompt from a row and its place."""


@dataclass
class Reading:
    """One reading of prompt files.

    Attributes:
        column: the column or key that holds the prompts; ``None`` for one of :data:`TEXT_KEYS`.
        wrap_seeds: take seeds beyond 2³²−1 modulo 2³².
        wildcards: ``__name__`` and ``{a|b}`` are expected, to be drawn (:mod:`steer.prompts.wildcards`).
        flag: the option that sets ``column``, for messages; empty if the user cannot.
    """

    column: str | None = None
    wrap_seeds: bool = False
    wildcards: bool = False
    flag: str = "--column"
    _told: set[str] = field(default_factory=set)

    def tell(self, kind: str, message: str) -> None:
        """Warn the user, once per kind of message."""
        if kind not in self._told:
            self._told.add(kind)
            warnings.warn(message, stacklevel=2)

    def text_keys(self, keys: Iterable[str]) -> list[str]:
        """Return those of a row's keys that can hold its prompt, the likeliest first."""
        keys = list(keys)
        if self.column is not None:
            wanted = [self.column] if self.column in keys else []
            return wanted or [key for key in keys if key.strip().lower() == self.column.strip().lower()]
        by_name = {key.strip().lower(): key for key in reversed(keys)} | {key: key for key in keys}
        return [by_name[name] for name in TEXT_KEYS if name in by_name]

    def no_text(self, where: str, keys: Iterable[str], what: str) -> SteerError:
        """Return the error for a row or table without a key or column for prompts.

        Args:
            where: the file, or the row.
            keys: the names that it has.
            what: what the names are, ``"columns"`` or ``"keys"``.
        """
        keys = list(keys)
        there = f"{where}: its {what} are {_listed(keys)}, expected one named"
        if self.column is not None:
            flag = f" ({self.flag})" if self.flag else ""
            return SteerError(f"{there} {self.column!r}{flag}{nearest(self.column, keys)}")
        return SteerError(
            f"{there} 'prompt' (or {', '.join(TEXT_KEYS[1:])}); name the one that holds the prompts by {self.flag}"
        )


def _listed(names: list[str], most: int = 200) -> str:
    text = ", ".join(names) or "none"
    return text if len(text) <= most else f"{text[: most - 1]}…"


def kind_of(value: Any) -> str:
    """Return the name of a value's type in terms of JSON."""
    if value is None:
        return "null"
    names = {bool: "true or false", int: "a number", float: "a number", str: "text", list: "a list", dict: "an object"}
    return names.get(type(value), type(value).__name__)
