"""The category of a prompt: from its file, else by rules over its words.

Categories are those of T2I-CompBench++ (arXiv 2307.06350); CARINOX weighs its rewards by them.
"""

import re
from collections.abc import Collection
from dataclasses import dataclass

from steer import Prompt, SteerError
from steer.plugin import unknown

CATEGORIES = (
    "color", "shape", "texture", "2d_spatial", "3d_spatial", "non_spatial", "numeracy", "complex", "overall", "none",
)  # fmt: skip
"""All categories; ``overall`` means that no rule applies, ``none`` that all rewards weigh the same."""

ALIASES = {
    "colour": "color", "colors": "color", "color_attr": "color", "attribute_binding": "color",
    "spatial": "2d_spatial", "position": "2d_spatial", "relation": "2d_spatial",
    "counting": "numeracy", "count": "numeracy", "nonspatial": "non_spatial", "action": "non_spatial",
    "single_object": "overall", "two_object": "overall",
}  # fmt: skip
"""Other names: from the shapes world, from GenEval, and British spellings."""


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


COLORS = _words("""
    red orange yellow green cyan blue purple pink brown black white gray grey gold golden silver beige teal maroon navy
    violet turquoise magenta tan crimson scarlet indigo
""")
TEXTURES = _words("""
    wooden metallic metal leather fluffy glass plastic rubber fabric cotton silk velvet woolen knitted striped dotted
    spotted plaid checkered rough smooth soft shiny matte glossy rusty furry fuzzy stone marble brick concrete wicker
    denim ceramic porcelain paper sandy bumpy plain
""")
SHAPES = _words("""
    round oval triangular rectangular circular cubic spherical cylindrical conical pyramidal hexagonal pentagonal
    octagonal curved diamond heart-shaped oblong teardrop
""")
SIZES = _words("big small large tiny tall short long")
SHAPE_NOUNS = _words("circle square triangle star cross cube sphere cylinder cone pyramid rectangle hexagon")
NUMBERS = _words("two three four five six seven eight nine ten eleven twelve dozen several many")
ARTICLES = NUMBERS | {"a", "an", "the", "one"}

BEHIND = re.compile(r"\b(in front of|behind|hidden by|occluded by|in the background of)\b")
BESIDE = re.compile(
    r"\b(to the (?:left|right) of|on the (?:left|right|top|bottom|side) of|(?:left|right) of|on side of|above|below|"
    r"beneath|underneath|under|on top of|next to|beside|near)\b"
)
DOING = re.compile(
    r"\b(?!(?:ring|king|wing|string|spring|ceiling|building|painting|drawing|evening|morning|thing|clothing)\b)"
    r"[a-z]{2,}ing\b|\b(talks?|looks? at|holds?|wears?|plays?|eats?|watches|sits|stands|rides|walks|runs|reads)\b"
)


@dataclass(frozen=True)
class Category:
    """A prompt's category and the reason for it."""

    name: str
    reason: str


def canonical(name: str) -> str:
    """Return a category's name as spelled in :data:`CATEGORIES`: ``"Color_val"`` becomes ``"color"``."""
    plain = re.sub(r"[\s-]+", "_", name.strip().lower())
    plain = re.sub(r"_(train|val|test)$", "", plain)
    return ALIASES.get(plain, plain)


def category_of(prompt: str, known: Collection[str] = CATEGORIES) -> Category:
    """Return the category that a prompt's file names, else the one that the rules find.

    Raises:
        SteerError: if the file names an unknown category.
    """
    named = prompt.category if isinstance(prompt, Prompt) else None
    if named is None:
        return classify(prompt)
    name = canonical(named)
    if name not in known:
        error = unknown("category", named, known)
        raise SteerError(
            f"prompt {prompt[:60]!r}: {error}; name another in the prompt file, or leave it out to classify the "
            "prompt by rules"
        )
    return Category(name, "named with the prompt")


def classify(text: str) -> Category:
    """Classify a prompt by its words; the first rule that applies decides.

    Several things with attributes are complex. After that, the rules look for relations in depth and in the plane,
    numbers, textures, colors, shapes and actions, in this order: rarer kinds come before more common ones.
    """
    words = re.findall(r"[a-z0-9][a-z0-9-]*", text.lower())
    plain = " ".join(words)
    behind, beside = BEHIND.search(plain), BESIDE.search(plain)
    things = sum(word in ARTICLES for word in BESIDE.sub("", plain).split())
    kinds = {
        kind: [word for word in words if word in vocabulary]
        for kind, vocabulary in (("texture", TEXTURES), ("color", COLORS), ("shape", SHAPES))
    }
    several = [kind for kind, found in kinds.items() if found]
    if several and things >= 3:
        return Category("complex", f"{things} things, {_listed(several)} words")
    if len(several) == 3 or (len(several) == 2 and (behind or beside)):
        return Category("complex", f"{_listed(several)} words{' in a relation' if behind or beside else ''}")
    if behind:
        return Category("3d_spatial", f"{behind[0]!r}")
    if beside:
        return Category("2d_spatial", f"{beside[0]!r}")
    number = next((word for word in words if word in NUMBERS or re.fullmatch(r"[2-9]|[1-9]\d", word)), None)
    if number:
        return Category("numeracy", f"{number!r}")
    for kind in ("texture", "color"):
        if kinds[kind]:
            return Category(kind, f"{kinds[kind][0]!r}")
    shape = next((word for word in words if word in SHAPES | SIZES or _singular(word) in SHAPE_NOUNS), None)
    if shape:
        return Category("shape", f"{shape!r}")
    doing = DOING.search(plain)
    if doing:
        return Category("non_spatial", f"{doing[0]!r}")
    return Category("overall", "no rule applies")


def _singular(word: str) -> str:
    return word.removesuffix("es") if word.endswith("sses") else word.removesuffix("s") if word != "cross" else word


def _listed(names: list[str]) -> str:
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)
