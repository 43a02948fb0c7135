"""Draw captions by category, and keep the evaluation's captions out of training.

A hash of its text assigns every sentence to exactly one split, so a held-out prompt is in no training set,
for any seed and size of the set.
"""

import hashlib

import numpy as np

from .grammar import CATEGORIES, Phrase, Relation, Requirements
from .scenes import COLORS, OPPOSITE, RELATIONS, SHAPES, SIZES, TEXTURES

SPLITS = ("train", "tune", "eval")

TRAINING_MIXTURE: dict[str, float] = {
    "color": 0.12,
    "shape": 0.08,
    "texture": 0.14,
    "numeracy": 0.18,
    "spatial": 0.28,
    "complex": 0.20,
}
"""Share of each category in training data; harder categories are more frequent."""


def split_of(text: str) -> str:
    """Return ``"eval"`` for a fifth of all sentences, ``"tune"`` for a tenth, else ``"train"``."""
    bucket = int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big") % 10
    return "eval" if bucket < 2 else "tune" if bucket == 2 else "train"


def sample_requirements(category: str, rng: np.random.Generator, split: str | None = None) -> Requirements:
    """Draw requirements of a category, from one split if ``split`` is given."""
    if category not in _SAMPLERS:
        raise ValueError(f"unknown category {category!r}; known are {', '.join(CATEGORIES)}")
    if split is not None and split not in SPLITS:
        raise ValueError(f"unknown split {split!r}; known are {', '.join(SPLITS)}")
    while True:
        requirements = _SAMPLERS[category](rng)
        if requirements.category != category or not _distinct(requirements.phrases):
            continue
        if split is None or split_of(requirements.text()) == split:
            return requirements


def sample_training(rng: np.random.Generator, split: str = "train") -> Requirements:
    """Draw requirements of a split by :data:`TRAINING_MIXTURE`."""
    category = rng.choice(list(TRAINING_MIXTURE), p=list(TRAINING_MIXTURE.values()))
    return sample_requirements(str(category), rng, split)


def _pick(rng: np.random.Generator, values: tuple[str, ...]) -> str:
    return values[rng.integers(len(values))]


def _phrase(
    rng: np.random.Generator, *, color: float = 0.0, size: float = 0.0, texture: float = 0.0, count: int = 1
) -> Phrase:
    """Draw a phrase that names each attribute with the given probability."""
    return Phrase(
        shape=_pick(rng, SHAPES),
        color=_pick(rng, COLORS) if rng.random() < color else None,
        size=_pick(rng, SIZES) if rng.random() < size else None,
        texture=_pick(rng, TEXTURES) if rng.random() < texture else None,
        count=count,
    )


def _distinct(phrases: tuple[Phrase, ...]) -> bool:
    """Whether no object could match two of the phrases."""

    def clash(a: Phrase, b: Phrase) -> bool:
        pairs = ((a.color, b.color), (a.size, b.size), (a.texture, b.texture))
        return a.shape == b.shape and all(x is None or y is None or x == y for x, y in pairs)

    return not any(clash(a, b) for i, a in enumerate(phrases) for b in phrases[:i])


def _color(rng: np.random.Generator) -> Requirements:
    count = 1 if rng.random() < 0.3 else 2
    return Requirements(tuple(_phrase(rng, color=1.0, size=0.15) for _ in range(count)))


def _shape(rng: np.random.Generator) -> Requirements:
    count = 1 if rng.random() < 0.2 else 2
    return Requirements(tuple(_phrase(rng, size=0.5) for _ in range(count)))


def _texture(rng: np.random.Generator) -> Requirements:
    count = 1 if rng.random() < 0.4 else 2
    color = rng.choice([0.0, 1.0])
    return Requirements(tuple(_phrase(rng, texture=1.0, color=color) for _ in range(count)))


def _numeracy(rng: np.random.Generator) -> Requirements:
    if rng.random() < 0.6:
        count = int(rng.integers(2, 5))
        return Requirements((_phrase(rng, color=0.8, size=0.15, count=count),))
    first, second = ((2, 1), (1, 2), (3, 1), (1, 3), (2, 2))[rng.integers(5)]
    return Requirements((_phrase(rng, color=0.9, count=first), _phrase(rng, color=0.9, count=second)))


def _spatial(rng: np.random.Generator) -> Requirements:
    subject, other = (_phrase(rng, color=0.9, size=0.1) for _ in range(2))
    return Requirements((subject, other), (Relation(0, _pick(rng, RELATIONS), 1),))


def _complex(rng: np.random.Generator) -> Requirements:
    phrases = tuple(_phrase(rng, color=0.9, texture=0.1) for _ in range(3))
    if rng.random() < 0.6:
        return Requirements(phrases)
    # One relation along each axis, in either order: hard, but never impossible.
    first, second = rng.permutation([_pick(rng, ("left", "right")), _pick(rng, ("above", "below"))])
    return Requirements(phrases, (Relation(0, str(first), 1), Relation(0, str(second), 2)))


_SAMPLERS = dict(zip(CATEGORIES, (_color, _shape, _texture, _numeracy, _spatial, _complex), strict=True))


def rephrase(requirements: Requirements, rng: np.random.Generator, split: str) -> Requirements:
    """Reorder a sentence without changing its meaning: shuffle phrases, or invert a relation.

    Returns ``requirements`` unchanged if the new wording belongs to another split.
    """
    phrases, relations = requirements.phrases, requirements.relations
    if len(relations) > 1 or len(phrases) == 1:
        return requirements
    if relations:
        if rng.random() < 0.5:
            return requirements
        turned = Relation(0, OPPOSITE[relations[0].kind], 1)
        other = Requirements((phrases[1], phrases[0]), (turned,))
    else:
        other = Requirements(tuple(phrases[i] for i in rng.permutation(len(phrases))))
    return other if split_of(other.text()) == split else requirements
