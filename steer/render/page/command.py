"""The commands on the page: replay an image, or generate others like it."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from typing import Any

from steer.settings.run_settings import TYPED, as_typed


def replay_command(place: str) -> str:
    """Return the command that reproduces the sample in a file."""
    return f"steer replay {shlex.quote(place)}"


def generate_command(recipe: Mapping[str, Any]) -> str:
    """Return a ``steer generate`` command with a recipe's prompt and settings, to start from.

    It has the resolved settings, so it does not change when defaults do. For a prompt with an id of its own, the images
    are others of the same kind, because resampling is addressed by the id.
    """
    settings, prompt = recipe["settings"], recipe["prompt"]
    words = ["steer", "generate", _not_an_option(prompt["text"]), "-m", recipe["model"]]
    for method in recipe["methods"]:
        words += ["-p", method]
    for reward in recipe["reward"]:
        words += ["-r", reward]
    for owner, table in recipe["options"].items():
        for name, value in table.items():
            shown = ",".join(map(str, value)) if isinstance(value, list) else value
            words += ["-o", f"{owner}.{name}={shown}"]
    negative = prompt.get("metadata", {}).get("negative") or settings.get("negative")
    for key, value in as_typed({**settings, "negative": negative}).items():
        if value != TYPED[key].off:
            words += [TYPED[key].flags[0], _number(value) if isinstance(value, float) else str(value)]
    words += ["--seed", str(prompt["seed"])]
    return " ".join(shlex.quote(str(word)) for word in [*words, "--choose", recipe["choose"]])


def _not_an_option(text: str) -> str:
    """Keep a prompt that begins with a dash from being read as an option."""
    return f" {text}" if text.startswith("-") else text


def _number(value: float) -> str:
    """Return a number with all its digits, a whole one without its point, so that it is read back unchanged."""
    return str(int(value)) if value.is_integer() else repr(value)
