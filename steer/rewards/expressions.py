"""Parsing reward expressions: ``hps:2+min(clip@15..35,shapes)`` is a weighted sum of two terms.

The grammar, with optional parts in ``[]``::

    expression  term + term + …
    term        NAME[:ARGUMENT][@SCALE][:WEIGHT]  or  min(expression, expression, …)[:WEIGHT]
    ARGUMENT    any text; in http://HOST:PORT the number is the port, no weight
    SCALE       LOW..HIGH   (score − LOW) / (HIGH − LOW)
                zMEAN,SD    (score − MEAN) / SD
                z           the same with the mean and sd that the reward declares as ``typical``

No number is taken from a batch: a score must be a function of the sample and its prompt alone.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from steer.errors import SteerError

EXPECTED = (
    "expected NAME, NAME:WEIGHT, NAME:ARGUMENT or NAME:ARGUMENT:WEIGHT, a NAME with a scale (clip@15..35, clip@z25,4), "
    "or min(TERM,TERM), joined by + (for example shapes:1+clip:0.5)"
)


@dataclass(frozen=True)
class Scale:
    """The scale of a score: ``(score − center) / width``.

    Attributes:
        text: as written, without the ``@``.
        center: the score that becomes 0; ``None`` for the mean that the reward declares.
        width: the difference that becomes 1; ``None`` for the sd that the reward declares.
    """

    text: str
    center: float | None = None
    width: float | None = None


@dataclass(frozen=True)
class Term:
    """One reward with its weight: ``clip:shapes:0.5`` is ``("clip", "shapes", 0.5)``."""

    name: str
    argument: str | None = None
    weight: float = 1.0
    scale: Scale | None = None

    @property
    def label(self) -> str:
        """The reward's name with its argument, without the weight."""
        return self.name if self.argument is None else f"{self.name}:{self.argument}"

    def __str__(self) -> str:
        text = self.label if self.scale is None else f"{self.label}@{self.scale.text}"
        return text if self.weight == 1.0 else f"{text}:{self.weight:g}"


@dataclass(frozen=True)
class Minimum:
    """The minimum of several sums, times a weight."""

    parts: tuple[tuple[Node, ...], ...]
    weight: float = 1.0

    @property
    def label(self) -> str:
        """The term without its weight."""
        return f"min({','.join(join(part) for part in self.parts)})"

    def __str__(self) -> str:
        return self.label if self.weight == 1.0 else f"{self.label}:{self.weight:g}"


Node = Term | Minimum


def join(nodes: Iterable[Node]) -> str:
    """Return the expression of a sum."""
    return "+".join(map(str, nodes))


def leaves(nodes: Iterable[Node]) -> Iterator[Term]:
    """Yield every reward of an expression, those within ``min`` included."""
    for node in nodes:
        if isinstance(node, Term):
            yield node
        else:
            for part in node.parts:
                yield from leaves(part)


def parse_expression(expression: str) -> list[Node]:
    """Parse a sum of terms.

    >>> parse_expression("shapes+clip:shapes:0.5")[1]
    Term(name='clip', argument='shapes', weight=0.5, scale=None)

    Raises:
        SteerError: for text that cannot be parsed, with an example.
    """
    return [_node(piece.strip(), expression) for piece in _split(expression, "+")]


_NUMBER = r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?"
_WEIGHT = re.compile(_NUMBER)
_RANGE = re.compile(rf"({_NUMBER})\.\.({_NUMBER})")
_Z = re.compile(rf"z(?:({_NUMBER}),({_NUMBER}))?")
_SCALE = re.compile(r"@(?=[^/@]*$)")  # not the @ of a path or of a hub revision
_MINIMUM = re.compile(rf"min\((.*)\)(?::({_NUMBER}))?", re.DOTALL)
_ADDRESS = re.compile(r"https?://[^/:]+")
_NUMBER_AHEAD = re.compile(r"\s*[+-]?\.?\d")


def _split(text: str, separator: str) -> list[str]:
    """Split outside parentheses. No term begins with a number, so ``1e+3`` and ``z25,4`` stay whole."""
    pieces, depth, start = [], 0, 0
    for index, character in enumerate(text):
        depth += (character == "(") - (character == ")")
        if character == separator and depth == 0 and not _NUMBER_AHEAD.match(text, index + 1):
            pieces.append(text[start:index])
            start = index + 1
    return [*pieces, text[start:]]


def _node(piece: str, expression: str) -> Node:
    minimum = _MINIMUM.fullmatch(piece)
    if minimum:
        parts = [part.strip() for part in _split(minimum[1], ",")]
        if len(parts) < 2:
            raise SteerError(
                f"reward {expression!r}: min() takes two terms or more, for example min(shapes,clip@15..35)"
            )
        nodes = tuple(tuple(_node(p.strip(), expression) for p in _split(part, "+")) for part in parts)
        return Minimum(nodes, _finite(minimum[2] or "1", expression))
    head, *parts = piece.split(":")
    weight = "1"
    # after a host a number is its port
    if parts and _WEIGHT.fullmatch(parts[-1]) and not _ADDRESS.fullmatch(":".join(parts[:-1])):
        weight = parts.pop()
    label, *scale = _SCALE.split(":".join([head, *parts]))
    name, *argument = label.split(":")
    if not name or not all(argument) or name.startswith("min("):
        raise SteerError(f"reward {expression!r}: cannot read {piece!r}; {EXPECTED}")
    return Term(
        name, ":".join(argument) or None, _finite(weight, expression), _scale(scale[0], expression) if scale else None
    )


def _scale(text: str, expression: str) -> Scale:
    span, z = _RANGE.fullmatch(text), _Z.fullmatch(text)
    if span:
        low, high = (_finite(number, expression) for number in span.groups())
        if low >= high:
            raise SteerError(f"reward {expression!r}: the range @{text} is empty; expected LOW..HIGH, such as @15..35")
        return Scale(text, low, high - low)
    if z and z[1] is None:
        return Scale(text)
    if z:
        mean, sd = (_finite(number, expression) for number in z.groups())
        if sd <= 0:
            raise SteerError(
                f"reward {expression!r}: the sd of @{text} is not positive; expected @zMEAN,SD as in @z25,4"
            )
        return Scale(text, mean, sd)
    raise SteerError(
        f"reward {expression!r}: cannot read the scale @{text}; expected @LOW..HIGH (clip@15..35), @zMEAN,SD "
        "(clip@z25,4) or @z"
    )


def _finite(text: str, expression: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise SteerError(f"reward {expression!r}: {text} is too large; expected a finite number")
    return number
