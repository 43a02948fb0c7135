"""Lines of text that look like another tool's format: they still count as prompts, and the user is warned."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass

from steer.prompts.reading_options import TEXT_KEYS, Reading


@dataclass(frozen=True)
class Look:
    """The format that a line looks like, and the remedy."""

    what: str
    remedy: str


WILDCARD = Look("a wildcard of Dynamic Prompts", "draw it by --wildcards FOLDER, or write the texts out")

_SIGNS = {
    r"(?i)(?:positive|negative)\s*:": Look(
        "ComfyUI Inspire-Pack's format (positive:, negative:, ---)", 'write --prompt "…" --negative_prompt "…"'
    ),
    r"Negative prompt:|Steps: \d+, ": Look(
        "A1111's parameters of an image", 'write --prompt "…" --negative_prompt "…" --steps 20'
    ),
    r"#(?:[#!\s]|$)|//(?:\s|$)|<!--": Look("a comment", "remove it"),
    r"([-=*_~+])\1{2,}$": Look("a separator", "remove it"),
    r".*\S\s--(?:ar|aspect|chaos|iw|niji|no|q|quality|s|style|stylize|tile|v|weird)\b": Look(
        "a prompt with Midjourney's flags", "remove them"
    ),
    r".*\S\s--(?:cfg_scale|height|negative_prompt|sampler_name|seed|steps|width)\b": Look(
        "a prompt with flags behind it", 'begin the line with --prompt "…"'
    ),
    r".*(?:\{[^{}|]*+\|[^{}]*+\}|(?<!\w)__[A-Za-z][\w/*-]{0,60}__(?!\w))": WILDCARD,
}
_LOOKS = tuple((re.compile(sign), look) for sign, look in _SIGNS.items())
_ITEM = re.compile(r"(?:[-*•]|\d+[.)])\s+\S")


def tell_foreign(lines: Sequence[tuple[str, str]], name: str, reading: Reading) -> None:
    """Warn, once per file, about the first line that does not look like a prompt.

    Args:
        lines: the file's stripped lines, each with its place.
        name: the file's name.
        reading: how the file is read.
    """
    whole = _whole_file([line for line, _ in lines])
    for line, where in lines:
        look = whole or next((look for sign, look in _LOOKS if sign.match(line)), None)
        if look is not None and not (look is WILDCARD and reading.wildcards):
            reading.tell(
                f"foreign {name}",
                f"{where}: {line[:60]!r} looks like {look.what}, but every line of text is a prompt; {look.remedy}",
            )
            return


def _whole_file(lines: Sequence[str]) -> Look | None:
    """Return the format of a file whose lines are not prompts: a table, JSON, a list."""
    if lines and lines[0][0] in "[{":
        try:
            if isinstance(json.loads(lines[0]), dict | list):
                return Look("JSON lines", "name the file .jsonl")
        except (ValueError, RecursionError):
            if lines[0] in ("[", "{"):
                return Look("JSON", "name the file .json")
    if len(lines) < 2:
        return None
    for delimiter, what, suffix in (("\t", "tab-separated values", ".tsv"), (",", "CSV", ".csv"), (";", "CSV", ".csv")):
        header = [cell.strip(' "').lower() for cell in lines[0].split(delimiter)]
        if len(header) > 1 and set(header) & set(TEXT_KEYS) and all(delimiter in line for line in lines):
            return Look(f"the header of {what}", f"name the file {suffix}")
    return Look("an item of a list", "remove its bullet or number") if all(map(_ITEM.match, lines)) else None
