"""Rewards that read only the text: its length, the words in it, and whether a pattern matches."""

import re
from collections.abc import Sequence

import torch
from torch import Tensor

from steer import Field, Options, Prompt, SteerError
from steer_text.rewards.base import TextReward


class Length(TextReward):
    """``length``: the number of words. ``length:N``: minus the distance to N words as a share of N, so at most 0.

    In an expression, a number at the end is a weight, so write ``length:N:1``.
    """

    def prepare(self) -> None:
        argument = self.argument
        if argument is not None and not (argument.isdecimal() and int(argument) > 0):
            raise SteerError(f"length:{argument}: expected a number of words and a weight, such as length:12:1")
        self.wanted = None if argument is None else int(argument)

    def __call__(self, samples: Sequence[str], prompts: Sequence[Prompt | str]) -> Tensor:
        words = torch.tensor([len(text.split()) for text in samples], dtype=torch.float32)
        return words if self.wanted is None else -(words - self.wanted).abs() / self.wanted


class Mentions(TextReward):
    """Share of the given words or phrases that occur in a text, in [0, 1]; case does not matter.

    They come from the argument, separated by commas (``mentions:dotted,purple star``), else from the prompt's metadata
    ``mentions``, a list or a text like the argument.
    """

    needs_prompt = True

    def __call__(self, samples: Sequence[str], prompts: Sequence[Prompt | str]) -> Tensor:
        shares = []
        for text, prompt in zip(samples, prompts, strict=True):
            wanted = self._wanted(prompt)
            words = f" {_words(text)} "
            shares.append(sum(f" {run} " in words for run in wanted) / len(wanted))
        return torch.tensor(shares, dtype=torch.float32)

    def _wanted(self, prompt: Prompt | str) -> list[str]:
        given = self.argument
        if given is None:
            metadata = prompt.metadata if isinstance(prompt, Prompt) else {}
            found = metadata.get("mentions")
            given = ",".join(map(str, found)) if isinstance(found, list) else found
        wanted = [run for part in str(given or "").split(",") if (run := _words(part))]
        if not wanted:
            raise SteerError(
                f"mentions: neither an argument (mentions:WORD,WORD) nor metadata 'mentions' of prompt "
                f"{str(prompt)[:60]!r} gives any words"
            )
        return wanted


def _words(text: str) -> str:
    """Return a text's words in lower case, separated by single spaces."""
    return " ".join(re.findall(r"[^\W_]+", text.lower()))


class RegexOptions(Options):
    """Options of ``regex``."""

    pattern: str | None = Field(
        None, description="Pattern; use this for one with a colon, a plus or an @, which the reward's name cannot hold."
    )


class Regex(TextReward):
    """1 if a Python regular expression is found in a text, else 0: ``regex:PATTERN`` or ``regex.pattern``."""

    Options = RegexOptions
    options: RegexOptions

    def prepare(self) -> None:
        pattern = self.argument if self.argument is not None else self.options.pattern
        if pattern is None:
            raise SteerError("regex: no pattern; give one as regex:PATTERN or -o regex.pattern=PATTERN")
        try:
            self.pattern = re.compile(pattern)
        except re.error as error:
            raise SteerError(f"regex: {pattern[:80]!r} is not a regular expression: {error}") from None

    def __call__(self, samples: Sequence[str], prompts: Sequence[Prompt | str]) -> Tensor:
        return torch.tensor([float(bool(self.pattern.search(text))) for text in samples])
