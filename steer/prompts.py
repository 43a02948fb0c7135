"""Prompts: text that carries its identity, category and metadata."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from steer.errors import SteerError

MAX_SEED = 2**32 - 1


class Prompt(str):
    """A prompt. It *is* its text, so that a plain function can be a reward, and carries more.

    Attributes:
        id: identity within a run; decides hashed seeds and file names, never the position in a batch.
        category: for example ``"color"``, or ``None``.
        seed: the seed of slot 0 in 0..2³²−1, or ``None`` to hash one from the run's seed and the id.
        metadata: whatever else the prompt's row held, for rewards that want it.
    """

    id: str
    category: str | None
    seed: int | None
    metadata: Mapping[str, Any]

    def __new__(
        cls,
        text: str,
        *,
        id: str | None = None,
        category: str | None = None,
        seed: int | None = None,
        metadata: Mapping[str, Any] | None = None,
    ) -> Prompt:
        self = super().__new__(cls, text)
        self.id = id or text_id(text)
        self.category = category
        self.seed = seed
        self.metadata = dict(metadata or {})
        return self

    def __getnewargs_ex__(self) -> tuple[tuple[str], dict[str, Any]]:  # pickling keeps the attributes
        return (str(self),), {
            "id": self.id, "category": self.category, "seed": self.seed, "metadata": self.metadata,
        }  # fmt: skip


def text_id(text: str) -> str:
    """Return the identity of a prompt that has none of its own: 10 hexadecimal digits of its text's hash."""
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=5).hexdigest()


def as_prompts(texts: str | Iterable[str]) -> list[Prompt]:
    """Turn texts into prompts with distinct ids; a repeated text gets ``-2``, ``-3``, … appended.

    Raises:
        SteerError: if there is none, one is blank, or two rows were given the same id.
    """
    rows = [texts] if isinstance(texts, str) else list(texts)
    if not rows:
        raise SteerError("got no prompt; expected at least one")
    prompts: list[Prompt] = []
    given: dict[str, int] = {}
    repeats: dict[str, int] = {}
    for number, row in enumerate(rows, 1):
        if not isinstance(row, str):
            raise SteerError(f"prompt {number}: got {type(row).__name__}, expected text")
        if not row.strip():
            raise SteerError(f"prompt {number} is blank; write what the image should show")
        prompt = row if isinstance(row, Prompt) else Prompt(row)
        for what, text in (("text", str(prompt)), ("id", prompt.id)):
            if not _is_unicode(text):
                raise SteerError(f"prompt {number}: its {what} {text[:60]!r} is not Unicode; save it as UTF-8")
        own_id = prompt.id == text_id(prompt)
        if own_id:
            repeats[prompt.id] = repeats.get(prompt.id, 0) + 1
            if repeats[prompt.id] > 1:
                prompt = Prompt(
                    str(prompt),
                    id=f"{prompt.id}-{repeats[prompt.id]}",
                    category=prompt.category,
                    seed=prompt.seed,
                    metadata=prompt.metadata,
                )
        if prompt.id in given:
            raise SteerError(
                f"prompts {given[prompt.id]} and {number} both have the id {prompt.id[:80]!r}; ids must differ (or be "
                "left out)"
            )
        given[prompt.id] = number
        prompts.append(prompt)
    return prompts


def _is_unicode(text: str) -> bool:
    """Whether text can be encoded: bytes of a command line that are no UTF-8 arrive as lone surrogates."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def read_prompts(path: Path) -> list[Prompt]:
    """Read a prompt file: ``.txt`` (one prompt a line), ``.jsonl`` or ``.json`` (``prompt`` or ``text``).

    Raises:
        SteerError: naming the file, the line and what was expected.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise SteerError(f"prompt file {path} does not exist") from None
    except (OSError, UnicodeDecodeError) as error:
        raise SteerError(f"prompt file {path} cannot be read ({error}); expected text in UTF-8") from None
    return parse_prompts(text, name=str(path), kind=path.suffix.lower().removeprefix("."))


def parse_prompts(text: str, *, name: str, kind: str = "txt") -> list[Prompt]:
    """Parse the text of a prompt file; ``kind`` is its suffix and ``name`` is used in messages."""
    if kind in ("txt", ""):
        prompts = [Prompt(line.strip()) for line in text.splitlines() if line.strip()]
    elif kind == "jsonl":
        prompts = [_from_row(row, where) for row, where in _jsonl_rows(text, name)]
    elif kind == "json":
        prompts = [_from_row(row, f"{name}, entry {i}") for i, row in enumerate(_json_list(text, name), 1)]
    else:
        raise SteerError(f"prompt file {name}: got the suffix .{kind}, expected .txt, .jsonl or .json")
    if not prompts:
        raise SteerError(f"prompt file {name} holds no prompt; expected at least one")
    return as_prompts(prompts)


def _jsonl_rows(text: str, name: str) -> Iterator[tuple[Any, str]]:
    # not splitlines(): JSON may hold U+2028 and its kind unescaped, and line numbers must be an editor's
    for number, line in enumerate(text.replace("\r\n", "\n").split("\n"), 1):
        if line.strip():
            yield _parse_json(line, name, first_line=number), f"{name}, line {number}"


def _json_list(text: str, name: str) -> Sequence[Any]:
    rows = _parse_json(text, name)
    if not isinstance(rows, list):
        raise SteerError(f"{name}: got a JSON {type(rows).__name__}, expected a list of prompts")
    return rows


def _parse_json(text: str, name: str, *, first_line: int = 1) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        line = first_line + error.lineno - 1
        raise SteerError(f"{name}, line {line}: not JSON ({error.msg} at column {error.colno})") from None
    except (RecursionError, ValueError):  # nested beyond reason, or a number of thousands of digits
        raise SteerError(f"{name}, line {first_line}: JSON too deep or with too long a number to be read") from None


def _from_row(row: Any, where: str) -> Prompt:
    if isinstance(row, str):
        row = {"prompt": row}
    if not isinstance(row, dict):
        raise SteerError(f"{where}: got {type(row).__name__}, expected an object with a 'prompt'")
    text = row.get("prompt", row.get("text"))
    if not isinstance(text, str) or not text.strip():
        raise SteerError(f"{where}: has no text under 'prompt' or 'text'")
    seed = row.get("seed")
    if seed is not None:
        seed = check_seed(seed, where)
    rest = {k: v for k, v in row.items() if k not in ("prompt", "text", "id", "category", "seed")}
    identity = row.get("id")
    category = row.get("category")
    return Prompt(
        text.strip(),
        id=None if identity is None else str(identity),
        category=None if category is None else str(category),
        seed=seed,
        metadata=rest,
    )


def check_seed(seed: Any, where: str) -> int:
    """Return ``seed`` if it is an integer in 0..2³²−1, else raise (torch repeats its streams beyond)."""
    if isinstance(seed, bool) or not isinstance(seed, int) or not 0 <= seed <= MAX_SEED:
        raise SteerError(f"{where}: got seed {seed!r}, expected an integer in 0..{MAX_SEED}")
    return seed


def with_seed(prompts: list[Prompt], seed: int | None) -> list[Prompt]:
    """Give ``seed`` to every prompt that has none of its own."""
    if seed is None:
        return prompts
    check_seed(seed, "seed")
    return [
        p if p.seed is not None else Prompt(str(p), id=p.id, category=p.category, seed=seed, metadata=p.metadata)
        for p in prompts
    ]
