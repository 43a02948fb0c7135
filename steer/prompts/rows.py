"""Rows of prompt files: from an object, a table's row or a line of flags to a prompt, and back."""

from __future__ import annotations

import json
import re
import shlex
import warnings
from collections.abc import Mapping
from difflib import get_close_matches
from functools import lru_cache
from typing import Any

from steer.errors import SteerError, nearest
from steer.prompts.prompt import Prompt, check_seed
from steer.settings.options import parse_assignments
from steer.settings.run import SETTINGS, SIZE, check_setting, parse_size

SETTING_OF = {key: name for name, setting in SETTINGS.items() for key in setting.rows}
"""Keys of a row that set a field of a run for this prompt alone."""

OWN = frozenset({"prompt", "text", "id", "category", "seed", SIZE.key, "options", *SETTING_OF})
"""Keys that mean something here; all others are metadata."""

KINDS = {"seed": (int,), **{key: SETTINGS[name].kind for key, name in SETTING_OF.items()}}
"""Types of the values of a row's keys."""


def from_row(row: Any, where: str, *, typed: bool = True) -> Prompt:
    """Turn a row into a prompt.

    Args:
        row: a text, or an object with ``prompt`` or ``text`` and whatever else :data:`OWN` names, in whatever case;
            the rest becomes metadata. A GenEval row's ``tag`` is its category.
        where: for messages, as in ``"prompts.jsonl, line 3"``.
        typed: whether numbers are numbers; in tables and flags they are text.

    Raises:
        SteerError: naming the row, what was got and what was expected.
    """
    if isinstance(row, str):
        row = {"prompt": row}
    if not isinstance(row, dict):
        raise SteerError(f"{where}: got {type(row).__name__}, expected an object with a 'prompt'")
    row = _with_known_keys({str(key): value for key, value in row.items()})
    if not typed:
        row = {key: _converted(key, value, where) for key, value in row.items() if value not in (None, "")}
    text = row.get("prompt", row.get("text"))
    if not isinstance(text, str) or not text.strip():
        raise SteerError(f"{where}: has no text under 'prompt' or 'text'")
    metadata = {key: value for key, value in row.items() if key not in OWN}
    settings = _settings(row, where)
    if "negative" in settings:  # prompts of one pack may differ in it
        metadata["negative"] = settings.pop("negative")
    identity, category, seed = row.get("id"), row.get("category", row.get("tag")), row.get("seed")
    return Prompt(
        text.strip(),
        id=None if identity is None else str(identity),
        category=None if category is None else str(category),
        seed=None if seed is None else check_seed(seed, where),
        metadata=metadata,
        settings=settings,
        options=_options(row.get("options"), where),
    )


def _with_known_keys(row: dict[str, Any]) -> dict[str, Any]:
    """Return a row whose known keys are in lower case; warn of a key that looks like a known one misspelt."""
    found: dict[str, Any] = {}
    for key, value in row.items():
        low = key.strip().lower()
        if low in OWN or low == "tag":
            key = key if low in row else low
        elif (close := _misspelt(low)) and close not in row:
            # the same text for all rows: it is shown once
            warnings.warn(f"rows have a key {key[:60]!r}, which is metadata; did you mean {close!r}?", stacklevel=2)
        found[key] = value
    return found


@lru_cache(maxsize=4096)  # the rows of a file have the same keys
def _misspelt(key: str) -> str | None:
    """Return the known key that one is close to, if any."""
    close = get_close_matches(key.replace("-", "_").replace(" ", "_"), OWN, n=1, cutoff=0.85)
    return close[0] if close else None


def as_row(prompt: Prompt) -> dict[str, Any]:
    """Return plain data that :func:`from_row` turns into the same prompt."""
    row: dict[str, Any] = {"id": prompt.id, "prompt": str(prompt)}
    if prompt.category is not None:
        row["category"] = prompt.category
    if prompt.seed is not None:
        row["seed"] = prompt.seed
    row |= prompt.settings
    if prompt.options:
        row["options"] = {owner: dict(table) for owner, table in prompt.options.items()}
    return {**row, **prompt.metadata}


A1111_SAMPLERS = {
    "ddim": "ddim",
    "ddpm": "ddpm",
    "euler": "euler",
    "euler a": "euler-a",
    "dpm++ 2m": "dpm++",
    "dpm++ 2m karras": "dpm++-karras",
    "dpm++ 2m sde": "dpm++-sde",
    "dpm++ 2m sde karras": "dpm++-sde-karras",
    "unipc": "unipc",
    "plms": "pndm",
    "lms": "lms",
    "lcm": "lcm",
}
"""A1111's names of samplers, in lower case, and ours."""

FLAGS = (*(OWN - {"text", "options"}), "sampler_name", "option", "batch_size", "n_iter")
_NAME = re.compile(r"--([A-Za-z]\w*(?:-\w+)*)")


def is_flags(line: str) -> bool:
    """Whether a line is of the form ``--prompt "…" --seed 1``."""
    return _NAME.match(line) is not None


def from_flags(line: str, where: str) -> Prompt:
    """Parse a line of flags, as A1111's script "Prompts from file or textbox" takes it.

    A value goes up to the next flag, quoted or not. A seed of −1 means none of its own, as it does there.

    Raises:
        SteerError: naming the line, for a flag that has no meaning here and for what :func:`from_row` refuses.
    """
    try:
        words = shlex.split(line)
    except ValueError as error:
        raise SteerError(f'{where}: {str(error).lower()}; quote texts as in --prompt "a dog\'s bowl"') from None
    given: dict[str, list[str]] = {}
    values: list[str] = []
    assignments: list[str] = []
    for word in words:
        match = _NAME.match(word)
        if match is None:
            values.append(word)
            continue
        name, word = match[1].replace("-", "_"), word[match.end() :]
        if name not in FLAGS:
            raise SteerError(f"{where}: --{name} means nothing here{nearest(name, FLAGS)}; drop it")
        if name in given and name != "option":
            raise SteerError(f"{where}: --{name} is given twice; keep one")
        values = assignments if name == "option" else given.setdefault(name, [])
        if word:
            values.append(word.removeprefix("="))
    row: dict[str, Any] = {name: " ".join(parts) for name, parts in given.items()}
    for name in ("batch_size", "n_iter"):
        if row.pop(name, "1") != "1":
            raise SteerError(f"{where}: --{name} means nothing here; for several images per prompt give --particles")
    if "sampler_name" in row:
        name = row.pop("sampler_name")
        row["scheduler"] = A1111_SAMPLERS.get(name.lower(), name)
    if row.get("seed") == "-1":
        del row["seed"]
    if assignments:
        row["options"] = assignments
    return from_row(row, where, typed=False)


def _converted(key: str, value: Any, where: str) -> Any:
    """Turn a cell of a table into the number that its column holds."""
    kinds = KINDS.get(key, (str,))
    if kinds == (int,):
        whole = value.is_integer() if isinstance(value, float) else re.fullmatch(r"[+-]?\d{1,19}", str(value).strip())
        if isinstance(value, bool) or not whole:
            raise SteerError(f"{where}: got {key} {value!r}, expected a whole number")
        return int(value)
    if float in kinds and not isinstance(value, bool):
        try:
            return float(value)
        except (TypeError, ValueError):
            raise SteerError(f"{where}: got {key} {value!r}, expected a number") from None
    return value


def _settings(row: Mapping[str, Any], where: str) -> dict[str, Any]:
    settings = {SETTING_OF[key]: row[key] for key in SETTING_OF if row.get(key) is not None}
    if row.get(SIZE.key) is not None:
        settings["width"], settings["height"] = parse_size(row[SIZE.key], where)
    for name, value in settings.items():
        try:
            check_setting(name, value)
        except SteerError as error:
            raise SteerError(f"{where}: {error}") from None
    return settings


def _options(value: Any, where: str) -> dict[str, dict[str, Any]]:
    """Read method options: an object of objects (or its JSON), assignments, or a text of assignments."""
    if value is None:
        return {}
    if isinstance(value, str):
        if value.lstrip().startswith("{"):
            try:
                value = json.loads(value)
            except (ValueError, RecursionError):
                raise SteerError(f"{where}: options {value[:60]!r} are not JSON") from None
        else:
            value = value.split()
    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        try:
            return {owner: dict(table) for owner, table in parse_assignments(value).items()}
        except SteerError as error:
            raise SteerError(f"{where}: {error}") from None
    if not isinstance(value, dict) or not all(isinstance(table, dict) for table in value.values()):
        raise SteerError(f'{where}: options are {str(value)[:60]!r}, expected {{"fk": {{"lambda": 4}}}}')
    # parquet fills a struct's absent fields with nulls
    tables = {str(owner): {str(k): v for k, v in table.items() if v is not None} for owner, table in value.items()}
    return {owner: table for owner, table in tables.items() if table}
