"""Noun phrases of a prompt, and the statements about them, found by rules.

A phrase begins at a determiner and ends at a conjunction, a relation or a verb. The rules use lists of words
(:mod:`steer_rewards.words`) and their order; there is no tagger and no grammar.
"""

import re
from dataclasses import dataclass, field

from steer_rewards import words

_TOKEN = re.compile(r"[a-z0-9]+(?:[-'][a-z0-9]+)*|[,;:.!?()\[\]{}&|]")
_RELATIONS = sorted((tuple(text.split()) for text in words.RELATIONS), key=len, reverse=True)
_RELATION_STARTS = {relation[0] for relation in _RELATIONS}


@dataclass
class Thing:
    """A noun phrase.

    Attributes:
        words: in lower case, with the determiner: ``["a", "red", "bear"]``.
        said: the prompt's statements about it, each to follow "is the red bear" (``"on the table"``) or "does the red
            bear" (``"have a hat"``).
    """

    words: list[str]
    said: list[str] = field(default_factory=list)

    @property
    def text(self) -> str:
        """The phrase as in the prompt: ``"a red bear"``."""
        return " ".join(self.words)

    @property
    def definite(self) -> str:
        """The phrase at a second mention: ``"the red bear"``; without an article it is unchanged (``"snow"``)."""
        first, *rest = self.words
        if first in words.ARTICLES | words.DEFINITE | {"some", "another", "one"} and rest:
            return " ".join(["the", *rest])
        return f"the {self.text}" if first in words.NUMBERS or first.isdigit() else self.text

    @property
    def plural(self) -> bool:
        """Whether the phrase takes "are" instead of "is"."""
        first, last = self.words[0], self.words[-1]
        if first in words.NUMBERS - {"some"} or (first.isdigit() and first != "1"):
            return True
        if first in words.ARTICLES | {"one", "another", "each", "every"}:
            return False
        return last.endswith("s") and not last.endswith(("ss", "us", "is", "'s"))


def find_things(text: str) -> list[Thing]:
    """Return the noun phrases of a prompt in order, each with the statements about it; empty if none is found."""
    tokens = _TOKEN.findall(text.lower().replace("’", "'"))
    reader = _Reader()
    position = 0
    while position < len(tokens):
        position += reader.take(tokens, position)
    return reader.finish()


def is_adjectival(phrase: list[str]) -> bool:
    """Whether a phrase has only determiners and adjectives, so its noun is still to come."""
    return all(word in words.DETERMINERS or word in words.ADJECTIVES for word in phrase)


class _Reader:
    """The reader's state: the phrase so far, the link before it, and the subject of the link."""

    def __init__(self) -> None:
        self.things: list[Thing] = []
        self.phrase: list[str] = []
        self.link: list[str] = []
        self.subject: Thing | None = None
        self.last: tuple[list[str], Thing] | None = None  # the last link and the thing after it
        self.sharing: list[str] = []  # "a red" of "a red and a blue bird"

    def take(self, tokens: list[str], position: int) -> int:
        """Read at ``position``; return the number of tokens that were read."""
        token, following = tokens[position], _at(tokens, position + 1)
        if not token[0].isalnum() or token in words.CONJUNCTIONS:
            self._conjunction(token, following)
            return 1
        relation = next((r for r in _RELATIONS if tuple(tokens[position : position + len(r)]) == r), None)
        if relation:
            self._start_link(list(relation))
            return len(relation)
        if token in words.COPULAS and (not self.phrase or not is_adjectival(self.phrase)):
            return self._copula(tokens, position)
        if token in words.ADVERBS:
            pass
        elif token in words.HAVING:
            self._start_link(["with"])
        elif token == "of" and self.phrase and (following in words.DETERMINERS or self.phrase[-1] in words.MEDIA):
            self._of()
        elif token in words.VERBS and not is_adjectival(self.phrase):
            self._start_link([words.VERBS[token]])
        elif self._is_participle(token):
            self._start_link([token])
        else:
            if token in words.DETERMINERS and self.phrase:
                self._end()
            self.phrase.append(token)
        return 1

    def finish(self) -> list[Thing]:
        """End the last clause and return the things."""
        self._close()
        return self.things

    def _is_participle(self, token: str) -> bool:
        if not token.endswith("ing") or len(token) < 6 or token in words.ING_NOUNS:
            return False
        # before the noun: "a running dog"; after it: "a dog running"; without one: "is running", "and running"
        return not is_adjectival(self.phrase) if self.phrase else self.subject is not None

    def _conjunction(self, token: str, following: str) -> None:
        if self.phrase and is_adjectival(self.phrase) and token in {"and", ",", "or"}:
            if following in words.ADJECTIVES:  # "a red and blue bird", "a big, red ball"
                if token != ",":
                    self.phrase.append(token)
                return
            if following in words.DETERMINERS and self.phrase[-1] not in words.NOUNS_TOO:  # "a red and a blue bird"
                self.sharing, self.phrase = self.phrase, []
                return
        self._close()
        self.last = None
        if token in {".", ";", "!", "?"}:
            self.subject = None

    def _start_link(self, link: list[str]) -> None:
        self._end()
        self.link += link

    def _of(self) -> None:
        phrase = self.phrase
        if phrase[-1] not in words.MEDIA | words.COLLECTIVES:  # "the roof of a house"
            self._end()
            return
        self.phrase = []  # "a photo of a cat", "a group of three people": the relevant noun comes after "of"
        if phrase[-1] in words.MEDIA - words.PHOTOGRAPHS:  # "an oil painting of a cat" also states the medium
            self.things.append(Thing(phrase))

    def _copula(self, tokens: list[str], position: int) -> int:
        """Read "is red": adjectives after a copula describe its subject; anything else is read as usual."""
        if self.phrase == ["there"]:
            self.phrase = []
            return 1
        self._end()
        stop = start = position + 1
        while _at(tokens, stop) in words.ADVERBS | words.ADJECTIVES or (
            stop > start and _at(tokens, stop) == "and" and _at(tokens, stop + 1) in words.ADJECTIVES
        ):
            stop += 1
        adjectives = [word for word in tokens[start:stop] if word not in words.ADVERBS]
        following = _at(tokens, stop)
        ends = not following.isalnum() or following in words.CONJUNCTIONS | _RELATION_STARTS
        if not adjectives or self.subject is None or not ends:
            return 1
        self.subject.said.append(" ".join(adjectives))
        return stop - position

    def _close(self) -> None:
        """End the clause; a participle without an object ("a dog running") describes the subject."""
        self._end()
        if self.link and self.subject is not None and self.link[-1].endswith("ing"):
            self.subject.said.append(" ".join(self.link))
        self.link = []

    def _end(self) -> None:
        """End the phrase: it is a thing, a place or a time."""
        phrase, link = self.phrase, self.link
        if not phrase:
            return
        self.phrase, self.link = [], []
        if is_adjectival(phrase[:-1]) and phrase[-1] in words.PLACES | words.TIMES:
            if link and self.subject is not None:
                self._say(self.subject, link, " ".join(phrase))
        elif not self._is_nothing(phrase, link):
            self._add(phrase, link)

    def _is_nothing(self, phrase: list[str], link: list[str]) -> bool:
        """Whether a phrase names nothing visible, or something that should be absent."""
        return (
            phrase[-1] in words.PRONOUNS | words.PHOTOGRAPHS
            or " ".join(phrase) in words.TAGS
            or all(word in words.DETERMINERS or word == "of" for word in phrase)
            or phrase[0] == "no"
            or link == ["without"]
        )

    def _add(self, phrase: list[str], link: list[str]) -> None:
        thing = Thing(phrase)
        if self.sharing:
            self.things.append(Thing([*self.sharing, *(word for word in phrase if not is_adjectival([word]))]))
            self.sharing = []
        self.things.append(thing)
        if not link or self.subject is None:
            self.subject, self.last = thing, None
            return
        # "a cube on a ball on a box" is a tower; "a star above a square and above a circle" is not
        subject = self.last[1] if self.last is not None and self.last[0] == link else self.subject
        indefinite = link == ["with"] or link[-1].endswith("ing")
        self._say(subject, link, thing.text if indefinite else thing.definite)
        self.last = link, thing

    def _say(self, subject: Thing, link: list[str], other: str) -> None:
        relation = " ".join(link)
        if relation not in words.UNASKED:
            subject.said.append(f"have {other}" if relation == "with" else f"{relation} {other}")


def _at(tokens: list[str], position: int) -> str:
    return tokens[position] if position < len(tokens) else ""
