"""Commands that make an image again, or another like it."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from typing import Any

SETTINGS = {
    "particles": "-n", "steps": "--steps", "guidance_scale": "--guidance",
    "true_cfg_scale": "--true-cfg", "eta": "--eta", "scheduler": "--scheduler",
    "negative": "--negative", "chunk": "--chunk", "length": "--length", "temperature": "--temperature",
}  # fmt: skip


def replay_command(place: str) -> str:
    """Return the command that makes the very sample in a file again."""
    return f"steer replay {shlex.quote(place)}"


def generate_command(recipe: Mapping[str, Any]) -> str:
    """Return a ``steer generate`` command with a recipe's prompt and settings, to go on from.

    The settings are those that were resolved, so that it does not change when defaults do. With a prompt that has an
    id of its own the images are others of the same kind: resampling is addressed by the id.
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
    for name, flag in SETTINGS.items():
        value = negative if name == "negative" else settings.get(name)
        if value not in (None, "") and (name, value) != ("true_cfg_scale", 1.0):
            words += [flag, f"{value:g}" if isinstance(value, float) else str(value)]
    if settings.get("width") is not None:
        words += ["--size", f"{settings['width']}x{settings['height']}"]
    words += ["--seed", str(prompt["seed"])]
    return " ".join(shlex.quote(str(word)) for word in [*words, "--choose", recipe["choose"]])


def _not_an_option(text: str) -> str:
    """Keep a prompt that begins with a dash from being read as an option."""
    return f" {text}" if text.startswith("-") else text
