"""Options that say how prompt files are read."""

from __future__ import annotations

from typing import Any

from steer.cli.options import Decorator, option, options
from steer.cli.sampling import INPUT
from steer.prompts.prompt import MAX_SEED

prompt_options: Decorator = options(
    option(
        "--column",
        metavar="NAME",
        group=INPUT,
        help="Column or key of a prompt file that holds the prompts; prompt, text, caption and their plurals are "
        "known.",
    ),
    option(
        "--wrap-seeds",
        is_flag=True,
        default=None,
        group=INPUT,
        help="Take seeds beyond 2^32-1, as ComfyUI has them, modulo 2^32.",
    ),
)
"""How prompt files are read; see :func:`how_read`."""


def how_read(values: dict[str, Any]) -> dict[str, Any]:
    """Take :data:`prompt_options` out of what was asked for, and return them as arguments of ``read_prompts``.

    A run keeps its prompts as they were read: it must not read those again by another column.
    """
    asked = {"column": values.pop("column", None), "wrap_seeds": bool(values.pop("wrap_seeds", None))}
    if asked["wrap_seeds"] and (values.get("seed") or 0) > MAX_SEED:
        values["seed"] %= MAX_SEED + 1
    return asked
