"""Prompts that differ from a given one in a single thing, for tests and CLIP training."""

from dataclasses import replace

import numpy as np

from .grammar import Phrase, Requirements
from .scenes import COLORS, MAX_OBJECTS, OPPOSITE, SHAPES, SIZES, TEXTURES

_VALUES = {"shape": SHAPES, "color": COLORS, "size": SIZES, "texture": TEXTURES}


def changes(requirements: Requirements, rng: np.random.Generator) -> dict[str, Requirements]:
    """Draw one change of each kind that the prompt allows; return the changed requirements by kind.

    A scene that meets ``requirements`` meets none of the changed ones: a change affects only what the prompt mentions,
    and always its meaning. ``swap`` exchanges the colors or textures of two different shapes; ``relation`` turns one
    relation into its opposite.
    """
    found: dict[str, Requirements] = {}
    for name, values in _VALUES.items():
        named = [i for i, p in enumerate(requirements.phrases) if getattr(p, name) is not None]
        if named:
            at = int(rng.choice(named))
            rest = [v for v in values if v != getattr(requirements.phrases[at], name)]
            found[name] = _put(requirements, at, **{name: rest[rng.integers(len(rest))]})
    if requirements.relations:
        turned = list(requirements.relations)
        at = int(rng.integers(len(turned)))
        turned[at] = replace(turned[at], kind=OPPOSITE[turned[at].kind])
        found["relation"] = replace(requirements, relations=tuple(turned))
    elif (counted := _recount(requirements, rng)) is not None:
        found["count"] = counted
    if (swapped := _swap(requirements, rng)) is not None:
        found["swap"] = swapped
    return found


def _put(requirements: Requirements, at: int, **values: object) -> Requirements:
    phrases = list(requirements.phrases)
    phrases[at] = replace(phrases[at], **values)  # type: ignore[arg-type]
    return replace(requirements, phrases=tuple(phrases))


def _recount(requirements: Requirements, rng: np.random.Generator) -> Requirements | None:
    """Add or remove one object of one phrase."""
    options = []
    for at, phrase in enumerate(requirements.phrases):
        if requirements.total < MAX_OBJECTS:
            options.append((at, phrase.count + 1))
        if phrase.count > 1:
            options.append((at, phrase.count - 1))
    if not options:
        return None
    at, count = options[rng.integers(len(options))]
    return _put(requirements, at, count=count)


def _swap(requirements: Requirements, rng: np.random.Generator) -> Requirements | None:
    """Exchange the colors or textures of two different shapes."""
    options: list[tuple[int, int, str]] = []
    for i, a in enumerate(requirements.phrases):
        for j, b in enumerate(requirements.phrases[:i]):
            for name in ("color", "texture"):
                if a.shape != b.shape and _both_differ(a, b, name):
                    options.append((i, j, name))
    if not options:
        return None
    i, j, name = options[rng.integers(len(options))]
    first, second = (getattr(requirements.phrases[k], name) for k in (i, j))
    return _put(_put(requirements, i, **{name: second}), j, **{name: first})


def _both_differ(a: Phrase, b: Phrase, name: str) -> bool:
    first, second = getattr(a, name), getattr(b, name)
    return first is not None and second is not None and first != second
