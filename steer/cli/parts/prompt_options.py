"""Options that say how prompt files are read."""

from __future__ import annotations

from typing import Any

from steer.cli.parts.option_groups import Decorator, option, options
from steer.cli.parts.sampling_options import INPUT
from steer.prompts.prompt import MAX_SEED

prompt_options: Decorator = options(
    option(
        "--column",
        metavar="NAME",
        group=INPUT,
        help="Column or key that holds the prompts; by default prompt, text or caption, or a plural of them.",
    ),
    option(
        "--wrap-seeds",
        is_flag=True,
        default=None,
        group=INPUT,
        help="Take seeds above 2^32-1, which ComfyUI allows, modulo 2^32.",
    ),
)
"""How prompt files are read; see :func:`how_read`."""


def how_read(values: dict[str, Any]) -> dict[str, Any]:
    """Remove :data:`prompt_options` from ``values`` and return them as arguments of ``read_prompts``.

    The run file must not keep them: a run stores its prompts as they were read, without the original columns.
    """
    asked = {"column": values.pop("column", None), "wrap_seeds": bool(values.pop("wrap_seeds", None))}
    if asked["wrap_seeds"] and (values.get("seed") or 0) > MAX_SEED:
        values["seed"] %= MAX_SEED + 1
    return asked
