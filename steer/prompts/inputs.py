"""What models draw from besides a text: a mask, a class, an image. It travels in each prompt's metadata."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path

from steer.errors import SteerError
from steer.prompts.prompt import Prompt, as_prompts
from steer.registry.declarations import Input

Values = Mapping[str, Sequence[str] | bool]
"""What was given of each input: its values, or whether a flag is set."""


def prompts_with(prompts: list[Prompt] | None, values: Values, known: Mapping[str, Input]) -> list[Prompt]:
    """Put inputs into the metadata of prompts; what a prompt's own row says comes first.

    Args:
        prompts: those that were given, or ``None`` to make one of each value (of each combination of several inputs').
        values: what was given.
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
                    f"got {len(found)} times --{name} beside prompts, expected one; leave the prompts out to draw from "
                    "each of them"
                )
    kept = {name: [(value, known[name].kept(value)) for value in found] for name, found in listed.items()}
    made = [dict(zip(kept, chosen, strict=True)) for chosen in itertools.product(*kept.values())]
    metadata = [{**flags, **{name: value for name, (_, value) in chosen.items()}} for chosen in made]
    if prompts is not None:
        return [prompt.having(metadata={**metadata[0], **prompt.metadata}) for prompt in prompts]
    texts = [", ".join(f"{name} {Path(typed).stem}" for name, (typed, _) in chosen.items()) for chosen in made]
    return as_prompts(Prompt(text, metadata=values) for text, values in zip(texts, metadata, strict=True))
