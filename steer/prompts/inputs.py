"""Inputs of models besides the text: a mask, a class, an image. They travel in each prompt's metadata."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path

from steer.errors import SteerError
from steer.prompts.prompt import Prompt, as_prompts
from steer.registry.declarations import Input

Values = Mapping[str, Sequence[str] | bool]
"""For each input: its values, or whether its flag is set."""


def prompts_with(prompts: list[Prompt] | None, values: Values, known: Mapping[str, Input]) -> list[Prompt]:
    """Put inputs into the metadata of prompts; metadata of a prompt's own row takes precedence.

    Args:
        prompts: the given prompts, or ``None`` to make one per value (per combination, if several inputs are given).
        values: the inputs' values.
        known: the inputs that plugins registered.

    Raises:
        SteerError: for several values beside given prompts, or a value that cannot be used.
    """
    flags = {name: value for name, value in values.items() if isinstance(value, bool)}
    listed = {name: list(value) for name, value in values.items() if not isinstance(value, bool)}
    if prompts is not None:
        for name, found in listed.items():
            if len(found) > 1:
                raise SteerError(
                    f"got --{name} {len(found)} times beside prompts, expected it once; leave the prompts out to draw "
                    "from each value"
                )
    kept = {name: [(value, known[name].kept(value)) for value in found] for name, found in listed.items()}
    made = [dict(zip(kept, chosen, strict=True)) for chosen in itertools.product(*kept.values())]
    metadata = [{**flags, **{name: value for name, (_, value) in chosen.items()}} for chosen in made]
    if prompts is not None:
        return [prompt.having(metadata={**metadata[0], **prompt.metadata}) for prompt in prompts]
    texts = [", ".join(f"{name} {Path(typed).stem}" for name, (typed, _) in chosen.items()) for chosen in made]
    return as_prompts(Prompt(text, metadata=values) for text, values in zip(texts, metadata, strict=True))
