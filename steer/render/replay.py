"""From a sample back to its recipe, and to the request that makes it again. Files are not trusted."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, get_origin, get_type_hints

from steer.errors import SteerError
from steer.models.device import dtype_name
from steer.models.downloads.source import Source
from steer.models.media import Medium, media_at
from steer.models.options import ModelOptions
from steer.prompts.prompt import check_seed
from steer.render.journal import DETAILS, JOURNAL
from steer.results.names import RESULT
from steer.results.recipe import PNG_KEY, SCHEMA, Recipe
from steer.results.rows import chosen_particles
from steer.sampling.request import SamplingRequest
from steer.settings.run_settings import RunSettings
from steer.settings.strict_json import object_in
from steer.settings.text_files import read_text


def read_recipe(path: Path) -> tuple[Recipe, int]:
    """Read the recipe and the slot of a sample, from its file or from beside it.

    The file is not trusted: only plain data of known names is taken.

    Raises:
        SteerError: if there is no such file, or it has no recipe.
    """
    medium = media_at(path)
    texts = medium.texts_in(path)
    name = f"{medium.name} {path}"
    data = _recipe_beside(path, name) if texts is None else _recipe_within(texts, name, medium)
    try:
        if not isinstance(data, dict):
            raise TypeError("no JSON object")
        slot = data.pop("slot")
        if data.get("schema") != SCHEMA:
            raise SteerError(f"its recipe has schema {data.get('schema')!r}, this version reads {SCHEMA}")
        recipe = Recipe(**data)
        _check(recipe, slot)
    except SteerError as error:
        raise SteerError(f"{name}: its recipe cannot be followed: {error}") from None
    except (TypeError, KeyError, ValueError, AttributeError, RecursionError) as error:
        raise SteerError(f"{name}: its recipe is damaged ({type(error).__name__}: {error})") from None
    return recipe, slot


def _recipe_within(texts: Mapping[str, str], name: str, medium: Medium) -> Any:
    """Return the recipe in the texts of a file."""
    if PNG_KEY not in texts:
        kind = medium.suffix.removeprefix(".").upper()
        raise SteerError(f"{name} carries no steer recipe; only {kind}s made by steer can be replayed")
    try:
        return json.loads(texts[PNG_KEY])
    except (ValueError, RecursionError) as error:
        raise SteerError(f"{name}: its recipe is damaged ({type(error).__name__}: {error})") from None


def _recipe_beside(path: Path, sample: str) -> dict[str, Any]:
    """Return the recipe of a file that carries none, its ``slot`` included.

    It is in ``result.json`` in its folder (``steer generate``), or beside the journal of the folder above (``steer
    render``).
    """
    if not path.is_file():
        raise SteerError(f"{sample} does not exist")
    for name, row, recipe in (*_generated(path.parent), *_rendered(path.parent.parent)):
        if name == path.name:
            return {**recipe, "slot": row["slot"]}
    raise SteerError(
        f"{sample}: there is no recipe beside it; it can be replayed in the folder that steer wrote "
        f"({RESULT}, or {JOURNAL} above it)"
    )


Found = tuple[str, Mapping[str, Any], Mapping[str, Any]]
"""A file's name, its particle and its recipe."""


def _generated(folder: Path) -> Iterator[Found]:
    for item in _parsed(folder / RESULT).get("items", []):
        if isinstance(item, dict) and isinstance(item.get("recipe"), dict):
            yield from _files(item, item["recipe"])


def _rendered(folder: Path) -> Iterator[Found]:
    recipes = {str(row.get("id")): row.get("recipe") for row in _lines(folder / DETAILS)}
    for row in reversed(list(_lines(folder / JOURNAL))):  # the last line of a prompt counts
        recipe = recipes.get(str(row.get("id")))
        if isinstance(recipe, dict):
            yield from _files(row, recipe)


def _files(row: Mapping[str, Any], recipe: Mapping[str, Any]) -> Iterator[Found]:
    try:
        names = [Path(file).name for file in row["files"]]
        for name, particle in zip(names, chosen_particles(row), strict=True):
            if "slot" in particle:
                yield name, particle, recipe
    except (KeyError, TypeError, ValueError):  # a damaged entry names no file
        return


def _lines(file: Path) -> Iterator[dict[str, Any]]:
    try:
        lines = read_text(file, "file").split("\n")
    except SteerError:
        return
    for line in lines:
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if isinstance(row, dict):
            yield row


def _parsed(file: Path) -> dict[str, Any]:
    data = object_in(file)
    return data if isinstance(data.get("items"), list) else {}


def _check(recipe: Recipe, slot: Any) -> None:
    """Raise unless every field has its type, and every setting is known to users and within its range."""
    for name, hint in get_type_hints(Recipe).items():
        kind = get_origin(hint) or hint
        if not isinstance(getattr(recipe, name), kind):
            raise TypeError(f"{name} is no {kind.__name__}")
    prompt = recipe.prompt
    names = [*recipe.methods, *recipe.reward, *recipe.judge, prompt["text"], prompt["id"]]
    if not all(isinstance(name, str) for name in names):
        raise TypeError("names must be text")
    if not all(isinstance(table, dict) for table in [*recipe.options.values(), prompt["metadata"]]):
        raise TypeError("options and metadata must be objects")
    if not isinstance(prompt["category"], (str, type(None))):
        raise TypeError("category is no text")
    if isinstance(slot, bool) or not isinstance(slot, int) or slot < 0:
        raise ValueError("slot must be a non-negative integer")
    if not all(isinstance(digest, str) for digest in [*recipe.files.values(), *recipe.weights.values()]):
        raise TypeError("digests must be text")
    if recipe.cfg_setting not in ("guidance_scale", "true_cfg_scale"):
        raise ValueError("cfg_setting is no scale of guidance")
    check_seed(prompt["seed"], "prompt")
    check_seed(recipe.run_seed, "run_seed")
    ModelOptions.from_dict(recipe.model_options)

    settings_of(recipe)


def settings_of(recipe: Recipe) -> RunSettings:
    """Return a recipe's resolved settings; JSON has lists for tuples.

    Raises:
        SteerError: for a setting that users cannot give.
    """
    values = {name: tuple(value) if isinstance(value, list) else value for name, value in recipe.settings.items()}
    return RunSettings.model_validate(values)


def request_of(recipe: Recipe, *, model: str | None = None, device: str | None = None) -> SamplingRequest:
    """Return the request that makes a recipe's samples again.

    Args:
        recipe: the samples' recipe.
        model: the model's present place, if the recipe names another one.
        device: by default CUDA if there is one.

    Raises:
        SteerError: for an unknown dtype, or if a local file of weights is not here.
    """
    for file, digest in recipe.files.items():
        if Source(file).path is None and not (file == recipe.model and model is not None):
            way = "put it there, or name its present place by --model" if file == recipe.model else "put it there"
            raise SteerError(f"the recipe uses the file {file!r} (SHA-256 {digest[:10]}…), which is not here: {way}")
    return SamplingRequest(
        model=model or recipe.model,
        model_options=ModelOptions.from_dict(recipe.model_options),
        device=device,
        dtype=dtype_name(recipe.dtype),
        methods=recipe.methods,
        reward=recipe.reward,
        judge=recipe.judge,
        options=recipe.options,
        settings=settings_of(recipe),
        run_seed=recipe.run_seed,
        choose=recipe.choose,
    )
