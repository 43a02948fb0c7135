r"""Weights in prompts, as A1111's web UI writes them.

``(word)`` weighs 1.1, ``(word:1.3)`` 1.3 and ``[word]`` 1/1.1; nested weights multiply. A backslash takes a bracket
literally, as in ``\(``. An unclosed bracket applies to the rest of the text. The word ``BREAK`` begins a new
chunk.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from steer.errors import SteerError, unknown
from steer.prompts.prompt import Prompt

SYNTAXES = ("none", "a1111")
WRITTEN = "prompt_as_written"
"""Key of a prompt's metadata for its text with the weights."""

MORE, LESS = 1.1, 1 / 1.1
LARGEST = 100.0
TOKEN = re.compile(r"\\[()\[\]\\]|\(|\[|:\s*([+-]?(?:\d+\.?\d*|\.\d+))\s*\)|\)|\]|[^\\()\[\]:]+|[\\:]")
BREAK = re.compile(r"\bBREAK\b")


@dataclass(frozen=True)
class Piece:
    """Text and its weight; a ``text`` of ``None`` begins a new chunk."""

    text: str | None
    weight: float = 1.0


def weighted(syntax: str | None) -> bool:
    """Whether prompts are read with weights.

    Raises:
        SteerError: for an unknown syntax.
    """
    if syntax not in (None, *SYNTAXES):
        raise unknown("prompt syntax", syntax, SYNTAXES)
    return syntax == "a1111"


def parse(text: str) -> list[Piece]:
    """Split a prompt into pieces of one weight, in order; neighbors of the same weight are one piece.

    Raises:
        SteerError: for a weight beyond ±100, which would destroy the text's meaning.
    """
    pieces: list[Piece] = []
    opened: list[tuple[str, int]] = []  # bracket, and the first piece inside

    def close(bracket: str, weight: float) -> bool:
        if not opened or opened[-1][0] != bracket:
            return False
        first = opened.pop()[1]
        pieces[first:] = [Piece(piece.text, piece.weight * weight) for piece in pieces[first:]]
        return True

    for match in TOKEN.finditer(text):
        token = match[0]
        if token in ("(", "["):
            opened.append((token, len(pieces)))
        elif match[1] is not None:
            if not close("(", float(match[1])):
                pieces.append(Piece(token))
        elif token in (")", "]"):
            if not close(*(("(", MORE) if token == ")" else ("[", LESS))):
                pieces.append(Piece(token))
        else:
            words = BREAK.split(token[1:] if len(token) == 2 and token[0] == "\\" else token)
            pieces += [Piece(part) for word in words for part in (None, word)][1:]
    while opened:
        close(opened[-1][0], MORE if opened[-1][0] == "(" else LESS)
    for piece in pieces:
        if not abs(piece.weight) <= LARGEST:
            raise SteerError(
                f"prompt {text[:60]!r}: {str(piece.text)[:40]!r} weighs {piece.weight:.3g}; expected a weight of at "
                f"most {LARGEST:g}, such as (word:1.3)"
            )
    return _merged(pieces)


def plain(text: str) -> str:
    """Return a prompt's words without their weights, as rewards and people read them."""
    words = "".join(" " if piece.text is None else piece.text for piece in parse(text))
    return re.sub(r"\s+", " ", words).strip()


def spoken(prompt: Prompt) -> Prompt:
    """Return a prompt that is its plain words, and keeps what was written in its metadata."""
    if WRITTEN in prompt.metadata:
        return prompt
    written = str(prompt)
    return prompt.having(text=plain(written) or written, metadata={**prompt.metadata, WRITTEN: written})


def _merged(pieces: list[Piece]) -> list[Piece]:
    merged: list[Piece] = []
    for piece in pieces:
        before = merged[-1] if merged else None
        if piece.text is not None and before is not None and before.text is not None and before.weight == piece.weight:
            merged[-1] = Piece(before.text + piece.text, piece.weight)
        elif piece.text != "":
            merged.append(piece)
    return merged
