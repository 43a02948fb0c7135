"""The options for reading prompt files."""

from __future__ import annotations

from typing import Any

from steer.cli.parts.option_groups import Decorator, option, options
from steer.cli.parts.sampling_options import INPUT
from steer.prompts.prompt import MAX_SEED, Prompt, check_seed
from steer.prompts.wildcards import drawn_prompts

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
    option(
        "--wildcards",
        metavar="FOLDER",
        group=INPUT,
        help="Draw __NAME__ in prompts from the lines of NAME.txt in FOLDER, and {a|b} from its alternatives.",
    ),
)
"""How prompt files are read; see :func:`how_read`."""


def how_read(values: dict[str, Any]) -> dict[str, Any]:
    """Remove :data:`prompt_options` from ``values`` and return them as arguments of ``read_prompts``; check the seeds.

    The run file must not keep them: a run stores its prompts as they were read, without the original columns.
    """
    asked = {
        "column": values.pop("column", None),
        "wrap_seeds": bool(values.pop("wrap_seeds", None)),
        "wildcards": values.get("wildcards") is not None,
    }
    if values.get("seed") == -1:  # A1111's and ComfyUI's word for no seed
        del values["seed"]
    for name in {"seed", "run_seed"} & values.keys():
        if asked["wrap_seeds"] and values[name] > MAX_SEED:
            values[name] %= MAX_SEED + 1
        check_seed(values[name], name, wrap="--wrap-seeds")
    return asked


def drawn(prompts: list[Prompt], values: dict[str, Any], *, anew: bool) -> list[Prompt]:
    """Return prompts with the wildcards drawn that ``values`` ask for; removed from there, as by :func:`how_read`.

    Args:
        prompts: as read.
        values: of the options.
        anew: draw anew for each replicate, which becomes a prompt of its own; otherwise replicates share a text.
    """
    folder = values.pop("wildcards", None)
    if folder is None:
        return prompts
    replicates = int(values.pop("replicates", None) or 1) if anew else 1
    return drawn_prompts(prompts, folder, run_seed=values.get("run_seed") or 0, replicates=replicates)
