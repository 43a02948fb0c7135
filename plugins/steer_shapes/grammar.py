"""The caption grammar: sentences to requirements and back.

    sentence  := phrase                                   "four small red circles"
               | phrase "and" phrase                      "a red circle and two blue squares"
               | phrase "," phrase "and" phrase           "a star, a red circle and a blue square"
               | phrase relation phrase                   "a red star above a blue square"
               | phrase relation phrase "and" relation phrase
    phrase    := article [size] [texture] [color] shape | number [size] [texture] [color] shapes
    relation  := "to the left of" | "to the right of" | "above" | "below"

If a sentence has two relations, the first phrase is the subject of both. Related phrases are singular.
"""

import re
from dataclasses import dataclass

from steer import SteerError

from .scenes import COLORS, MAX_OBJECTS, RELATIONS, SHAPES, SIZES, TEXTURES

CATEGORIES = ("color", "shape", "texture", "numeracy", "spatial", "complex")
NUMBERS = {"two": 2, "three": 3, "four": 4}
_NUMBER_WORDS = {value: word for word, value in NUMBERS.items()}
PLURALS = {shape: shape + ("es" if shape == "cross" else "s") for shape in SHAPES}
_SINGULARS = {plural: shape for shape, plural in PLURALS.items()}
RELATION_WORDS = {"left": "to the left of", "right": "to the right of", "above": "above", "below": "below"}


class PromptError(SteerError, ValueError):
    """A sentence that is not in the grammar of the shapes world."""


@dataclass(frozen=True, slots=True)
class Phrase:
    """``count`` objects with the same attributes; ``None`` leaves an attribute open."""

    shape: str
    color: str | None = None
    size: str | None = None
    texture: str | None = None
    count: int = 1

    def text(self) -> str:
        """The phrase in English, such as ``"a large red star"`` or ``"two crosses"``."""
        words = [word for word in (self.size, self.texture, self.color) if word]
        if self.count > 1:
            return " ".join([_NUMBER_WORDS[self.count], *words, PLURALS[self.shape]])
        words.append(self.shape)
        return " ".join(["an" if words[0][0] in "aeiou" else "a", *words])


@dataclass(frozen=True, slots=True)
class Relation:
    """Phrase number ``subject`` has the relation ``kind`` to phrase number ``other``."""

    subject: int
    kind: str
    other: int


@dataclass(frozen=True, slots=True)
class Requirements:
    """All requirements of a prompt. A scene must not have further objects."""

    phrases: tuple[Phrase, ...]
    relations: tuple[Relation, ...] = ()

    @property
    def total(self) -> int:
        """Number of objects in the scene."""
        return sum(phrase.count for phrase in self.phrases)

    @property
    def category(self) -> str:
        """The prompt's category, one of :data:`CATEGORIES`; its hardest part decides."""
        if len(self.phrases) >= 3:
            return "complex"
        if self.relations:
            return "spatial"
        if any(phrase.count > 1 for phrase in self.phrases):
            return "numeracy"
        if any(phrase.texture for phrase in self.phrases):
            return "texture"
        if any(phrase.color for phrase in self.phrases):
            return "color"
        return "shape"

    def text(self) -> str:
        """The sentence; ``parse_prompt`` turns it back into these requirements."""
        parts = [phrase.text() for phrase in self.phrases]
        if self.relations:
            clauses = [f"{RELATION_WORDS[r.kind]} {parts[r.other]}" for r in self.relations]
            return f"{parts[0]} {' and '.join(clauses)}"
        if len(parts) == 1:
            return parts[0]
        return f"{', '.join(parts[:-1])} and {parts[-1]}"


def parse_prompt(text: str) -> Requirements:
    """Parse a sentence of the grammar; case, spacing and a final period do not matter.

    Raises:
        PromptError: naming the sentence and the word where parsing stopped.
    """
    return _Parser(text).sentence()


def words_read(text: str) -> tuple[int | None, int]:
    """Return the number of words at the start of a text that parse (``None`` if the text is a whole sentence), and the
    number of words."""
    parser = _Parser(text)
    try:
        parser.sentence()
    except PromptError:
        return parser.at, len(parser.words)
    return None, len(parser.words)


class _Parser:
    """Recursive descent over the ``words`` of one sentence, commas among them; ``at`` of them are read."""

    def __init__(self, text: str) -> None:
        self._text = text
        self.words = re.findall(r"[^\s,]+|,", text.strip().removesuffix(".").lower())
        self.at = 0

    def sentence(self) -> Requirements:
        phrases = [self._phrase()]
        relations: list[Relation] = []
        if (kind := self._relation()) is not None:
            while kind is not None:
                phrases.append(self._phrase())
                relations.append(Relation(0, kind, len(phrases) - 1))
                kind = None
                if len(relations) < 2 and self._accept("and"):
                    kind = self._relation()
                    if kind is None:
                        raise self._error("a relation such as 'above' or 'to the left of'")
            if any(phrase.count > 1 for phrase in phrases):
                raise PromptError(f"{self._text!r}: only single objects can stand in a relation")
        else:
            while self._accept(","):
                phrases.append(self._phrase())
            if self._accept("and"):
                phrases.append(self._phrase())
            elif len(phrases) > 1:
                raise self._error("'and' before the last object")
        if self.at < len(self.words):
            raise self._error("the end of the sentence")
        requirements = Requirements(tuple(phrases), tuple(relations))
        if len(phrases) > 3 or requirements.total > MAX_OBJECTS:
            raise PromptError(f"{self._text!r}: a scene holds at most {MAX_OBJECTS} objects in three phrases")
        return requirements

    def _phrase(self) -> Phrase:
        article = self._peek()
        if article in ("a", "an"):
            count = 1
        elif article in NUMBERS:
            count = NUMBERS[article]
        else:
            raise self._error("'a', 'an', 'two', 'three' or 'four'")
        self.at += 1
        size, texture, color = self._one_of(SIZES), self._one_of(TEXTURES), self._one_of(COLORS)
        nouns = dict.fromkeys(SHAPES) if count == 1 else _SINGULARS
        noun = self._one_of(tuple(nouns))
        if noun is None:
            raise self._error(f"one of {', '.join(nouns)}")
        return Phrase(nouns[noun] or noun, color, size, texture, count)

    def _relation(self) -> str | None:
        for kind in RELATIONS:
            words = RELATION_WORDS[kind].split()
            if self.words[self.at : self.at + len(words)] == words:
                self.at += len(words)
                return kind
        return None

    def _peek(self) -> str:
        return self.words[self.at] if self.at < len(self.words) else ""

    def _accept(self, word: str) -> bool:
        found = self._peek() == word
        self.at += found
        return found

    def _one_of(self, words: tuple[str, ...]) -> str | None:
        word = self._peek()
        if word not in words:
            return None
        self.at += 1
        return word

    def _error(self, expected: str) -> PromptError:
        found = repr(self._peek()) if self._peek() else "the end"
        return PromptError(
            f"{self._text!r} is not a sentence of the shapes grammar: expected {expected}, "
            f"found {found} (example: 'a red circle above a small blue star')"
        )
