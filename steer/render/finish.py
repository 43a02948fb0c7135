"""From picked drafts to the prompts and the run that render them in full."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from steer.errors import SteerError
from steer.prompts.prompt import Prompt
from steer.registry.plugins import manager
from steer.render.replay import read_recipe
from steer.render.runfile import RUN
from steer.results.recipe import Recipe
from steer.settings.run_settings import SETTINGS

DEEPEST = 4
"""Folders above a sample in which its render's ``run.toml`` may lie: layouts have two at most."""
RENEWED = ("steps", "timesteps", "particles", "slot", "chunk", "denoiser")
"""Settings of a draft that its finished sample does not take over."""
DROPPED = (
    *("file", "out", "versions", "replicates", "plugin", "reward", "judge", "options", "choose", "seed", "run_seed"),
    *("steps", "particles", "slot", "chunk"),
)
"""Keys of the drafts' run file that do not hold for the finished samples."""


def run_folder(files: Iterable[Path]) -> Path:
    """Return the folder of the render that made some samples.

    Raises:
        SteerError: if one was not made by ``steer render``, or they are of several renders.
    """
    found: dict[Path, Path] = {}
    for file in files:
        if not file.is_file():
            raise SteerError(f"pick {str(file)!r} does not exist; expected a file that steer render wrote")
        above = next((place for place in file.resolve().parents[:DEEPEST] if (place / RUN).is_file()), None)
        if above is None:
            raise SteerError(f"pick {str(file)!r} is in no folder of steer render: there is no {RUN} above it")
        found.setdefault(above, file)
    if len(found) > 1:
        (first, one), (second, other) = list(found.items())[:2]
        raise SteerError(
            f"picks {str(one)!r} and {str(other)!r} are of two renders ({first}, {second}); finish each by itself"
        )
    if not found:
        raise SteerError("got no picks; expected files that steer render wrote, or a list of them (--picks)")
    return next(iter(found))


def finished_prompts(files: Iterable[Path]) -> list[Prompt]:
    """Return the prompts of picked drafts: each with its seed, its slot and the settings that it was made with.

    Raises:
        SteerError: for a file without a recipe, or whose sample depends on others.
    """
    prompts: dict[str, Prompt] = {}
    for file in files:
        recipe, slot = read_recipe(file)
        _check(recipe, file)
        prompt = recipe.as_prompt()
        own = {
            name: tuple(value) if isinstance(value, list) else value
            for name, value in recipe.settings.items()
            if value is not None and name not in RENEWED and SETTINGS[name].rows
        }
        if prompt.metadata.get("negative") is not None:
            own.pop("negative", None)
        name = f"{prompt.id}.s{slot}" if slot else prompt.id
        prompts[name] = prompt.having(id=name, settings={**own, "particles": 1, "slot": slot})
    return list(prompts.values())


def finished_run(drafts: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values of a run file for the finished samples, of those of the drafts."""
    return {name: value for name, value in drafts.items() if name not in DROPPED}


def _check(recipe: Recipe, file: Path) -> None:
    if not recipe.replayable:
        raise SteerError(f"{file}: its method, reward or input was an object in memory, so it cannot be made again")
    known = manager().registry.methods
    for name in recipe.methods:
        method = known[name].load() if name in known else None
        if not getattr(method, "independent", False):
            raise SteerError(
                f"{file} was made with {name}, which changes samples; pick drafts without methods, or of methods that "
                "only choose (best-of-n, random, prune, draft)"
            )
