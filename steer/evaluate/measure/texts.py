"""How varied the texts of a prompt are: dist-n, the share of distinct runs of n words (Li et al. 2016, 1510.03055)."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from steer.errors import SteerError
from steer.settings.text_files import read_text

LISTS = ("metadata.jsonl", "texts.jsonl")
"""Files of a folder that name texts and their prompts: of ``steer render`` and ``steer generate``."""


def distinct(texts: Sequence[str], n: int) -> float:
    """Return the number of distinct runs of n words of all texts over the number of their words.

    Words are what single spaces separate, as in the evaluation of SSD-LM that the literature uses.
    """
    split = [text.split(" ") for text in texts]
    runs = {tuple(words[start : start + n]) for words in split for start in range(len(words) - n + 1)}
    return len(runs) / sum(map(len, split))


def texts_by_prompt(place: Path) -> dict[str, list[str]]:
    """Return the texts of each prompt without the prompt itself, from a folder of steer's or a file of JSON lines.

    Args:
        place: a folder with ``metadata.jsonl`` or ``texts.jsonl``; or JSON lines with ``prompt`` and ``text``.

    Raises:
        SteerError: if there is none, or a line has neither a text nor a file of one.
    """
    file = place
    if place.is_dir():
        found = [place / name for name in LISTS if (place / name).is_file()]
        if not found:
            raise SteerError(f"folder {place} holds no {' or '.join(LISTS)}; expected one of texts that steer made")
        file = found[0]
    groups: dict[str, list[str]] = {}
    for number, line in enumerate(read_text(file, "list of texts").split("\n"), 1):
        if line.strip():
            prompt, text = _read(line, file, f"{file}, line {number}")
            groups.setdefault(prompt, []).append(_without(prompt, text))
    if not groups:
        raise SteerError(f"{file} holds no text")
    return groups


def _read(line: str, file: Path, where: str) -> tuple[str, str]:
    try:
        row: Any = json.loads(line)
    except (ValueError, RecursionError):
        raise SteerError(f"{where}: not JSON") from None
    row = row if isinstance(row, Mapping) else {}
    text, name = row.get("text"), row.get("file_name")
    if not isinstance(text, str) and isinstance(name, str) and name.endswith(".txt") and ".." not in Path(name).parts:
        text = read_text(file.parent / name, "text")
    if not isinstance(text, str):
        raise SteerError(f'{where}: has no text; expected {{"prompt": "…", "text": "…"}}')
    return str(row.get("prompt") or ""), text


def _without(prompt: str, text: str) -> str:
    """Return a text without the prefix that it continues; the space between them stays, as in published evaluations."""
    prefix = re.sub(r"\s*(\.\.\.|…)\s*$", "", prompt).strip()
    rest = text.strip()
    return rest.removeprefix(prefix)
