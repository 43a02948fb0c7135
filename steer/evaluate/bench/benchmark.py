"""``Benchmark``: a frozen specification. Prompts with their source and checksum, judges, aggregation, known figures.

A plugin registers one::

    registry.benchmark("geneval", "my_package.geneval:GENEVAL", summary="…")

This module imports no torch: listing benchmarks must not wait for it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from steer.prompts.prompt import Prompt
from steer.registry.declarations import Weights

OVERALL = "overall"
"""The group of a measure's main figure."""

Details = Mapping[str, Any]
"""What a judge's score comes from (:meth:`steer.Reward.explained`)."""
Parts = Callable[[float, Details, Prompt], Iterable[tuple[str, float]]]
"""From an image's score, details and prompt to values, each with its group."""
Whole = Callable[[float, Details, Prompt], float]
"""From an image's score, details and prompt to its value in the main figure."""


def by_category(score: float, details: Details, prompt: Prompt) -> Iterable[tuple[str, float]]:
    """Return the score under the prompt's category."""
    return [(prompt.category, score)] if prompt.category else []


def the_score(score: float, details: Details, prompt: Prompt) -> float:
    """Return the score."""
    return score


@dataclass(frozen=True)
class PromptFile:
    """A published file of prompts, fetched once.

    Attributes:
        name: of the local copy.
        url: its address, of one commit.
        owner: who publishes it.
        license: as stated there.
        sha256: of its bytes; or
        git: its id as a blob of git. Without either, ``read`` checks what it can.
    """

    name: str
    url: str
    owner: str
    license: str
    sha256: str = ""
    git: str = ""

    @property
    def needed(self) -> Weights:
        """The file as something to fetch."""
        return Weights(
            self.owner,
            self.name,
            url=self.url,
            sha256=self.sha256 or None,
            git=self.git or None,
            license=self.license,
            option="",
        )


@dataclass(frozen=True)
class Measure:
    """One figure per group of prompts, and a main one.

    Attributes:
        name: of the measure; a benchmark's names differ.
        judge: a reward expression; or expressions by the prompts' metadata ``judge``, else their category.
        parts: values of the groups; a group's figure is the mean of its values.
        whole: the value of an image in the main figure.
        overall: whether the main figure is the mean over prompts or over groups.
        scale: factor of all figures.
        note: where the judge or the aggregation is not the paper's.
        official: whether the judge is the paper's; if not, the heading of the figures says so.
    """

    name: str
    judge: str | Mapping[str, str]
    parts: Parts = by_category
    whole: Whole = the_score
    overall: Literal["prompts", "groups"] = "prompts"
    scale: float = 1.0
    note: str = ""
    official: bool = True

    def judge_of(self, prompt: Prompt) -> str:
        """Return the reward expression that judges images of a prompt."""
        if isinstance(self.judge, str):
            return self.judge
        return self.judge[str(prompt.metadata.get("judge", prompt.category))]

    @property
    def judges(self) -> tuple[str, ...]:
        """All reward expressions, each once."""
        return (self.judge,) if isinstance(self.judge, str) else tuple(dict.fromkeys(self.judge.values()))


@dataclass(frozen=True)
class Published:
    """Figures from the literature.

    Attributes:
        model: its name there.
        source: where they stand.
        figures: by measure and group.
    """

    model: str
    source: str
    figures: Mapping[str, Mapping[str, float]]


@dataclass(frozen=True)
class Benchmark:
    """A specification.

    Attributes:
        title: its name for people.
        paper: where it is defined.
        read: from the files' bytes, by name, to the prompts, with different ids.
        measures: of its images; the first is the main one.
        images: per prompt.
        files: published prompt files; none if ``read`` makes the prompts or reads shipped ones.
        published: known figures.
        about: what one should know to read the figures.
    """

    title: str
    paper: str
    read: Callable[[Mapping[str, bytes]], Sequence[Prompt]]
    measures: tuple[Measure, ...]
    images: int = 1
    files: tuple[PromptFile, ...] = ()
    published: tuple[Published, ...] = ()
    about: str = ""

    @property
    def judges(self) -> tuple[str, ...]:
        """All reward expressions, each once."""
        return tuple(dict.fromkeys(judge for measure in self.measures for judge in measure.judges))
