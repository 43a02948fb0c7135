"""Tables of texts, for the terminal, Markdown and HTML."""

from dataclasses import dataclass

from steer.evaluate.statistics import Interval


@dataclass(frozen=True)
class Table:
    """A titled table of texts."""

    title: str
    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    note: str = ""


def markdown(table: Table) -> str:
    """Return a table in Markdown, its texts escaped."""
    lines = ["| " + " | ".join(map(escape, table.head)) + " |", "|" + "---|" * len(table.head)]
    lines += ["| " + " | ".join(map(escape, row)) + " |" for row in table.rows]
    return "\n".join(lines)


def escape(text: str) -> str:
    """Return text escaped for a Markdown table."""
    text = " ".join(text.split())
    for character in "\\`*_{}[]<>|#":
        if character in "[]" or (character == "_" and "__" not in text):
            continue
        text = text.replace(character, f"\\{character}" if character != "<" else "&lt;")
    return text


def level(value: Interval, digits: int = 3) -> str:
    """Return a mean with its interval."""
    return f"{value.estimate:.{digits}f} [{value.low:.{digits}f}, {value.high:.{digits}f}]"
