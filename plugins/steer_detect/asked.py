"""What a prompt asks for, as objects with counts, colors and relations: from its metadata, else parsed by rules.

The metadata are those of GenEval's prompts: ``include`` lists ``class``, ``count`` and, if asked, ``color`` and
``position`` (a relation and the place of the other object in the list); ``exclude`` lists a ``class`` and the ``count``
that is too many.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from steer import Prompt, SteerError
from steer_detect.names import COCO, singular
from steer_rewards import words
from steer_rewards.phrases import Thing, find_things

RELATIONS = {
    "left of": ("to the left of", "on the left of", "to the left side of", "on the left side of", "left of"),
    "right of": ("to the right of", "on the right of", "to the right side of", "on the right side of", "right of"),
    "above": ("above", "over", "on top of", "on the top of", "atop"),
    "below": ("below", "under", "underneath", "beneath", "on the bottom of"),
}
"""GenEval's four relations, and how prompts say them."""
NUMBERS = {
    "one": 1, "two": 2, "both": 2, "three": 3, "four": 4, "five": 5, "six": 6, "seven": 7, "eight": 8, "nine": 9,
    "ten": 10, "eleven": 11, "twelve": 12,
}  # fmt: skip
COUNTING = "counting"
"""GenEval's tag of prompts whose objects count only if the detector is very sure of them."""
MOST_COUNT = 100


@dataclass(frozen=True)
class Want:
    """Objects of one class.

    Attributes:
        name: the class, in the singular.
        count: how many.
        color: of all of them, or ``None``.
        relation: where they stand, a key of :data:`RELATIONS`, or ``None``.
        other: the place in :attr:`Asked.include` of the object that they stand beside.
    """

    name: str
    count: int = 1
    color: str | None = None
    relation: str | None = None
    other: int = 0


@dataclass(frozen=True)
class Asked:
    """Everything that a prompt asks for.

    Attributes:
        include: what must be there.
        exclude: classes, and the number of each that is too many.
        counting: whether only very sure detections count.
    """

    include: tuple[Want, ...]
    exclude: tuple[tuple[str, int], ...] = ()
    counting: bool = False

    @property
    def names(self) -> tuple[str, ...]:
        """All classes, each once."""
        return tuple(dict.fromkeys([*(want.name for want in self.include), *(name for name, _ in self.exclude)]))


def asked_of(prompt: Prompt | str) -> Asked:
    """Return what a prompt asks for.

    Raises:
        SteerError: naming the prompt, if its metadata are of another form, or its text names no object.
    """
    metadata: Mapping[str, Any] = getattr(prompt, "metadata", None) or {}
    if metadata.get("include") is None:
        return parse(str(prompt))
    where = f"prompt {str(prompt)[:60]!r}"
    include = _objects(metadata["include"], "include", where)
    exclude = _objects(metadata.get("exclude") or [], "exclude", where)
    if not include:
        raise SteerError(f"{where}: its include is empty; list at least one object, or leave it out")
    tag = metadata.get("tag") or getattr(prompt, "category", None)
    wanted = tuple(_want(item, len(include), where) for item in include)
    return Asked(wanted, tuple((item["class"], item["count"]) for item in exclude), tag == COUNTING)


def parse(text: str) -> Asked:
    """Return what a text asks for: each noun phrase is an object, a number before it must be met exactly.

    ``"two red cars left of a tree"`` asks for two cars, all red and all left of a tree, and for no third car. Colors
    and the four relations of GenEval are understood; other adjectives and relations are left out.

    Raises:
        SteerError: if it names no object.
    """
    things = find_things(text)
    wants = [_parsed(thing, things) for thing in things]
    if not wants:
        raise SteerError(f"prompt {text[:60]!r} names no object to detect; give it include, a list of class and count")
    exclude = tuple((want.name, want.count + 1) for want, thing in zip(wants, things, strict=True) if _number(thing))
    return Asked(tuple(wants), exclude, len(wants) == 1 and wants[0].count > 1)


def _parsed(thing: Thing, things: Sequence[Thing]) -> Want:
    rest = [word for word in thing.words if word not in words.DETERMINERS and not word.isdigit()] or thing.words
    name, colors = _name(rest), [word for word in rest[:-1] if word in words.COLORS]
    count = _number(thing) or 1
    if count > 1 or (thing.plural and " ".join(rest) not in COCO):
        name = singular(name)
    relation, other = _relation(thing, things)
    return Want(name, count, colors[0] if colors else None, relation, other)


def _name(phrase: Sequence[str]) -> str:
    """Return the class of a noun phrase: a name of COCO if it ends with one, else what follows the adjectives."""
    ends = [" ".join(phrase[start:]) for start in range(len(phrase))]
    known = next((end for end in ends if singular(end) in COCO), None)
    if known is not None:
        return known
    start = 0
    while start < len(phrase) - 1 and phrase[start] in words.ADJECTIVES:
        start += 1
    return ends[start]


def _number(thing: Thing) -> int:
    """Return the number before a noun phrase; 0 if there is none."""
    first = thing.words[0]
    if first.isdecimal():
        return min(int(first), MOST_COUNT)
    return NUMBERS.get(first, 0)


def _relation(thing: Thing, things: Sequence[Thing]) -> tuple[str | None, int]:
    for said in thing.said:
        for relation, forms in RELATIONS.items():
            for form in forms:
                rest = said.removeprefix(f"{form} ")
                place = next(
                    (i for i, other in enumerate(things) if other is not thing and other.definite == rest), None
                )
                if rest != said and place is not None:
                    return relation, place
    return None, 0


def _objects(value: Any, key: str, where: str) -> list[dict[str, Any]]:
    if (
        not isinstance(value, Sequence)
        or isinstance(value, str)
        or not all(isinstance(item, Mapping) for item in value)
    ):
        raise SteerError(f'{where}: {key} is {str(value)[:60]!r}, expected a list as [{{"class": "dog", "count": 1}}]')
    found = []
    for item in value:
        name, count = item.get("class"), item.get("count", 1)
        if not isinstance(name, str) or not name.strip():
            raise SteerError(
                f"{where}: an item of {key} has the class {str(name)[:60]!r}, expected a name such as 'dog'"
            )
        if isinstance(count, float) and count.is_integer():  # as tables give it
            count = int(count)
        if isinstance(count, bool) or not isinstance(count, int) or not 1 <= count <= MOST_COUNT:
            raise SteerError(f"{where}: {name[:60]!r} of {key} has the count {count!r}, expected 1..{MOST_COUNT}")
        found.append({**item, "class": name.strip(), "count": count})
    return found


def _want(item: Mapping[str, Any], many: int, where: str) -> Want:
    name, color, position = item["class"], item.get("color"), item.get("position")
    if color is not None and (not isinstance(color, str) or not color.strip()):
        raise SteerError(f"{where}: {name!r} has the color {color!r}, expected a name such as 'red'")
    relation, other = None, 0
    if position is not None:
        try:
            relation, other = position
            if relation not in RELATIONS or isinstance(other, bool) or not 0 <= int(other) == other < many:
                raise ValueError
        except (TypeError, ValueError):
            raise SteerError(
                f"{where}: {name!r} has the position {str(position)[:60]!r}, expected a relation "
                f"({', '.join(RELATIONS)}) and the place of the other object in include, as ['left of', 0]"
            ) from None
    return Want(name, item["count"], color.strip() if color else None, relation, int(other))
