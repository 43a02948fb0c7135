"""Prompts: text that carries its identity, category, metadata and settings of its own."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from typing import Any

from steer.errors import SteerError

MAX_SEED = 2**32 - 1


class Prompt(str):
    """A prompt. It *is* its text, so that a plain function can be a reward, and carries more.

    Attributes:
        id: identity within a run; hashed seeds and file names depend on it, never on the position in a batch.
        category: for example ``"color"``, or ``None``.
        seed: the seed of slot 0 in 0..2³²−1, or ``None`` to hash one from the run's seed and the id.
        metadata: the rest of the prompt's row, for rewards that use it; ``negative`` is its negative prompt.
        settings: settings that apply to this prompt instead of the run's (``steps``, ``width``, …).
        options: options of methods that apply to this prompt, ``{"fk": {"lambda": 4.0}}``.
        folder: that of the prompt file, which files named in the row are relative to; ``None`` for the working
            directory.
    """

    id: str
    category: str | None
    seed: int | None
    metadata: Mapping[str, Any]
    settings: Mapping[str, Any]
    options: Mapping[str, Mapping[str, Any]]
    folder: str | None

    def __new__(
        cls,
        text: str,
        *,
        id: str | None = None,
        category: str | None = None,
        seed: int | None = None,
        metadata: Mapping[str, Any] | None = None,
        settings: Mapping[str, Any] | None = None,
        options: Mapping[str, Mapping[str, Any]] | None = None,
        folder: str | None = None,
    ) -> Prompt:
        self = super().__new__(cls, text)
        self.id = id or text_id(text)
        self.category = category
        self.seed = seed
        self.metadata = dict(metadata or {})
        self.settings = dict(settings or {})
        self.options = {owner: dict(table) for owner, table in (options or {}).items()}
        self.folder = folder
        return self

    def __getnewargs_ex__(self) -> tuple[tuple[str], dict[str, Any]]:  # pickling keeps the attributes
        return (str(self),), dict(self._attributes)

    def having(self, *, text: str | None = None, **changes: Any) -> Prompt:
        """Return a copy with its text or some attributes changed."""
        return Prompt(str(self) if text is None else text, **{**self._attributes, **changes})

    @property
    def _attributes(self) -> dict[str, Any]:
        return {
            "id": self.id,
            "category": self.category,
            "seed": self.seed,
            "metadata": self.metadata,
            "settings": self.settings,
            "options": self.options,
            "folder": self.folder,
        }


def text_id(text: str) -> str:
    """Return the id of a prompt without an explicit one: 10 hexadecimal digits of its text's hash."""
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=5).hexdigest()


def as_prompts(texts: str | Iterable[str]) -> list[Prompt]:
    """Turn texts into prompts with distinct ids; a repeated text gets ``-2``, ``-3``, … appended.

    Raises:
        SteerError: if there is no prompt, one is blank, or two were given the same id.
    """
    rows = [texts] if isinstance(texts, str) else list(texts)
    if not rows:
        raise SteerError("got no prompt; expected at least one")
    known = KnownIds()
    return [known.add(row, f"prompt {number}") for number, row in enumerate(rows, 1)]


class KnownIds:
    """The ids of the prompts seen so far, and where they were seen."""

    def __init__(self) -> None:
        self._given: dict[str, str] = {}
        self._repeats: dict[str, int] = {}

    def add(self, row: object, where: str) -> Prompt:
        """Return a text as a prompt with a distinct id; ``where`` is used in messages.

        Raises:
            SteerError: if it is not text, blank, not Unicode, or was given the id of another prompt.
        """
        if not isinstance(row, str):
            raise SteerError(f"{where}: got {type(row).__name__}, expected text")
        if not row.strip():
            raise SteerError(f"{where} is blank; write what the sample should show")
        prompt = row if isinstance(row, Prompt) else Prompt(row)
        for what, text in (("text", str(prompt)), ("id", prompt.id)):
            if not is_unicode(text):
                raise SteerError(f"{where}: its {what} {text[:60]!r} is not Unicode; save it as UTF-8")
        if prompt.id == text_id(prompt):
            count = self._repeats[prompt.id] = self._repeats.get(prompt.id, 0) + 1
            if count > 1:
                prompt = prompt.having(id=f"{prompt.id}-{count}")
        if prompt.id in self._given:
            raise SteerError(
                f"{self._given[prompt.id]} and {where} both have the id {prompt.id[:80]!r}; ids must differ (or be "
                "left out)"
            )
        self._given[prompt.id] = where
        return prompt


def is_unicode(text: str) -> bool:
    """Whether text can be encoded: bytes of a command line that are no UTF-8 arrive as lone surrogates."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def check_seed(seed: Any, where: str, *, wrap: str = "") -> int:
    """Return ``seed`` if it is an integer in 0..2³²−1, else raise (torch repeats its streams for larger seeds).

    Args:
        seed: the value.
        where: for messages.
        wrap: the option that takes larger ones, if there is one.
    """
    if isinstance(seed, bool) or not isinstance(seed, int) or not 0 <= seed <= MAX_SEED:
        told = repr(seed)[:60]
        remedy = ""
        if isinstance(seed, int) and seed > MAX_SEED:
            remedy = (
                f" (torch repeats larger seeds' streams); write {seed % (MAX_SEED + 1)}, which is {told} % "
                f"{MAX_SEED + 1}{f', or add {wrap}' if wrap else ''}"
            )
        raise SteerError(f"{where}: got seed {told}, expected an integer in 0..{MAX_SEED}{remedy}")
    return seed


def with_seed(prompts: list[Prompt], seed: int | None) -> list[Prompt]:
    """Give ``seed`` to every prompt that has none of its own."""
    if seed is None:
        return prompts
    check_seed(seed, "seed")
    return [p if p.seed is not None else p.having(seed=seed) for p in prompts]
