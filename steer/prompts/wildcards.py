"""Prompts that vary: ``__color__`` is a line of ``color.txt``, ``{red|blue}`` one of the alternatives."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from functools import cache, partial
from pathlib import Path

from steer.errors import SteerError, nearest
from steer.prompts.prompt import Prompt
from steer.settings.folders import files_in
from steer.settings.text_files import lines_of, read_text

TEMPLATE = "template"
"""Key of a prompt's metadata for its text with wildcards."""

NAME = re.compile(r"(?<!\w)__([A-Za-z0-9][\w./-]*?)__(?!\w)")
CHOICE = re.compile(r"\{([^{}]*)\}")
WEIGHT = re.compile(r"\s*(\d+(?:\.\d+)?)::(.*)", re.DOTALL)
DEEPEST = 32
LONGEST = 100_000

Draw = Callable[[], float]
"""The next of a prompt's random numbers in [0, 1)."""


class Wildcards:
    """The lists of a folder: ``NAME.txt``, one alternative per line, ``#`` begins a comment; subfolders as ``a/b``."""

    def __init__(self, folder: Path) -> None:
        """Find the lists.

        Raises:
            SteerError: if there is no such folder.
        """
        if not folder.is_dir():
            raise SteerError(f"wildcards {folder} is not a folder; expected one with lists such as color.txt")
        self.folder = folder
        files = files_in(folder, [".txt"])
        self._files = {file.relative_to(folder).with_suffix("").as_posix(): file for file in files}
        self._lines = cache(self._read)

    def drawn(self, prompt: Prompt, run_seed: int = 0, number: int = 0) -> Prompt:
        """Return a prompt with its wildcards and choices drawn; one without any is returned as it is.

        Args:
            prompt: its id addresses the randomness.
            run_seed: of the run.
            number: of the sample of this prompt, from 0.

        Raises:
            SteerError: for a list that is missing or empty, or one that contains itself.
        """
        if not NAME.search(prompt) and not CHOICE.search(prompt):
            return prompt
        from steer.processes.noise import keyed

        random = keyed(run_seed, prompt.id, "wildcards", slot=number)
        try:
            text = self._drawn(str(prompt), random.random, 0)
        except SteerError as error:
            raise SteerError(f"prompt {str(prompt)[:60]!r}: {error}") from None
        return prompt.having(text=text, metadata={**prompt.metadata, TEMPLATE: str(prompt)})

    def _drawn(self, text: str, draw: Draw, depth: int) -> str:
        if depth > DEEPEST or len(text) > LONGEST:
            raise SteerError("its wildcards contain one another without end")
        text, choices = CHOICE.subn(partial(_alternative, draw), text)
        text, names = NAME.subn(lambda match: self._line(match[1], draw), text)
        return self._drawn(text, draw, depth + 1) if choices or names else text

    def _line(self, name: str, draw: Draw) -> str:
        if name not in self._files:
            known = ", ".join(list(self._files)[:20]) or "none"
            raise SteerError(
                f"wildcard __{name}__: {self.folder} has no {name}.txt{nearest(name, self._files)} (lists: {known})"
            )
        lines = self._lines(name)
        return lines[int(draw() * len(lines))]

    def _read(self, name: str) -> list[str]:
        rows = lines_of(read_text(self._files[name], "wildcard list"))
        lines = [row.strip() for row in rows if row.strip() and not row.lstrip().startswith("#")]
        if not lines:
            raise SteerError(f"wildcard list {self._files[name]} is empty; expected an alternative per line")
        return lines


def drawn_prompts(
    prompts: Sequence[Prompt], folder: str | Path, *, run_seed: int = 0, replicates: int = 1
) -> list[Prompt]:
    """Return prompts with wildcards drawn, ``replicates`` times each; every replicate is drawn anew.

    Args:
        prompts: as written.
        folder: with the lists.
        run_seed: see :meth:`Wildcards.drawn`.
        replicates: prompts to make of each; all but the first get ids and seeds of their own.

    Raises:
        SteerError: see :class:`Wildcards`.
    """
    from steer.processes.noise import hashed_seed

    wildcards = Wildcards(Path(folder).expanduser())
    found = []
    for prompt in prompts:
        found.append(wildcards.drawn(prompt, run_seed))
        for number in range(1, replicates):
            seed = None if prompt.seed is None else hashed_seed("replicate", prompt.seed, prompt.id, number)
            one = wildcards.drawn(prompt, run_seed, number)
            found.append(one.having(id=f"{prompt.id}.r{number + 1}", seed=seed))
    return found


def _alternative(draw: Draw, match: re.Match[str]) -> str:
    if "$$" in match[1]:
        raise SteerError(f"{match[0][:40]!r}: several alternatives at once are not read; write one choice for each")
    weighed = [WEIGHT.fullmatch(part) for part in match[1].split("|")]
    weights = [float(found[1]) if found else 1.0 for found in weighed]
    texts = [found[2] if found else part for found, part in zip(weighed, match[1].split("|"), strict=True)]
    if not sum(weights) > 0:
        raise SteerError(f"{match[0][:40]!r}: all weights are 0; expected one above")
    left = draw() * sum(weights)
    for text, weight in zip(texts, weights, strict=True):
        left -= weight
        if left < 0:
            return text
    return texts[-1]
