"""Weights on the hub that plugins declare: their place on this machine, and fetching them.

A plugin declares its weights when it registers, without importing torch::

    HPS = Weights("xswu/HPSv2", "HPS_v2.1_compressed.pt", size=1_970_000_000, license="Apache-2.0")
    registry.reward("hps", "my_package.hps:Hps", weights=[HPS])

so that ``steer download hps``, ``steer doctor`` and ``steer plugins show hps`` know them. Weights that depend on the
reward's argument (``vqa:xl``) are declared as ``weights="module:function"``. The function takes the argument, else the
user's value of the option ``model`` if the reward has one, else ``None``, and returns the weights. The plugin itself
asks for a path::

    file = locate(HPS, owner="hps", given=self.options.weights)

and gets the user's own file if there is one, else the cached one, else one that is fetched now.
"""

from __future__ import annotations

import dataclasses
import hashlib
import urllib.parse
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

from steer.errors import SteerError
from steer.models.downloads import fetching, hub
from steer.models.downloads.files import variants_of, weights_file, weights_of
from steer.registry.declarations import Needed, Repository, Weights
from steer.settings.strict_json import object_in

CONFIGS = ("model_index.json", "config.json")
"""The index files of repositories: of a diffusers pipeline, and of a model of transformers or diffusers."""


def cached(needed: Needed, without: Collection[str] = ()) -> Path | None:
    """Return the place of weights in the hub's cache: a file, or the folder of a complete repository.

    Args:
        needed: the weights.
        without: see :func:`is_complete`.
    """
    if isinstance(needed, Weights) and needed.url is not None:
        kept = _kept(needed.file, needed.url)
        return kept if kept.is_file() else None
    if isinstance(needed, Weights):
        found = (hub.cached_file(needed.repo, file, needed.revision) for file in needed.files)
        return next((file for file in found if file is not None), None)
    for name in CONFIGS:
        config = hub.cached_file(needed.repo, name, needed.revision)
        if config is not None and is_complete(config.parent, without):
            return config.parent
    return None


def describe(needed: Needed) -> dict[str, Any]:
    """Return plain data on weights, for listings: repository, file, bytes, license, option, cached path."""
    path = cached(needed)
    return {
        "repo": needed.repo,
        "file": needed.file if isinstance(needed, Weights) else None,
        "size": needed.size,
        "license": needed.license,
        "option": needed.option,
        "label": needed.label,
        "cached": None if path is None else str(path),
    }


def is_complete(folder: Path, without: Collection[str] = ()) -> bool:
    """Whether a folder in the format of transformers or diffusers has all parts and shards of its weights.

    Args:
        without: parts of a pipeline of which the configuration suffices.
    """
    index = folder / "model_index.json"
    if index.is_file():
        parts = [name for name, value in object_in(index).items() if isinstance(value, list) and all(value)]
        needed = [folder / name for name in parts if name not in hub.UNUSED]
        return all(
            any(part.glob("*.json")) if part.name in without else part.is_dir() and is_complete(part) for part in needed
        )
    if not (folder / "config.json").is_file():  # tokenizers, schedulers, feature extractors have no weights
        return any(folder.glob("*.json"))
    names = [file.name for file in folder.iterdir()]
    return any(_whole(names, variant) for variant in variants_of(names)) or any(
        file.suffix in (".safetensors", ".bin") and weights_file(file.name) is None for file in folder.iterdir()
    )


def _whole(names: Sequence[str], variant: str) -> bool:
    """Whether no shard of a variant is missing."""
    files = [file for file in map(weights_file, weights_of(names, variant)) if file is not None]
    return len(files) >= max(file.shards for file in files)


def has_variant(folder: Path, variant: str) -> bool:
    """Whether a folder, or a part of it, has weights of a variant."""
    return any(variant in variants_of([file.name]) for file in (*folder.glob("*"), *folder.glob("*/*")))


def at_hand(needed: Needed, *, owner: str, given: str | Path | None = None) -> Path | None:
    """Return a local path for weights on this machine, ``None`` for others that can be fetched.

    Args:
        needed: see :func:`locate`.
        owner: see :func:`locate`.
        given: see :func:`locate`.

    Raises:
        SteerError: if they are not here, and their server does not answer.
    """
    if given is not None:
        return _given(needed, Path(given).expanduser(), f"{owner.partition(':')[0]}.{needed.option}")
    found = cached(needed)
    if found is None and not reachable(needed):
        raise out_of_reach(needed, owner)
    return found


def locate(needed: Needed, *, owner: str, given: str | Path | None = None) -> Path:
    """Return a local path for weights: the user's own, else the cached one, else one fetched now.

    Args:
        needed: the weights.
        owner: the plugin with its argument as typed (``"hps"``, ``"vqa:xxl"``), for messages.
        given: the user's value of the option ``needed.option``: the file, or a folder that holds it. For a
            `Repository`, its folder.

    Returns:
        The file, or the folder of a `Repository`.

    Raises:
        SteerError: one line with repository, file and size, and the two ways to get them.
    """
    return at_hand(needed, owner=owner, given=given) or fetch(needed)


def complete(needed: Sequence[Needed], options: object) -> bool:
    """Whether all weights are on this machine; the user's own files in the options are not checked."""
    return _given_in(options, needed) or all(cached(one) is not None for one in needed)


def check(needed: Sequence[Needed], *, owner: str, options: object) -> None:
    """Raise if weights are not here and cannot be fetched, before anything large is loaded.

    Args:
        needed: all weights of the plugin.
        owner: the plugin with its argument.
        options: the plugin's; the plugin itself checks the user's own files.

    Raises:
        SteerError: see :func:`locate`.
    """
    if not _given_in(options, needed):
        for one in needed:
            at_hand(one, owner=owner)


def _given_in(options: object, needed: Sequence[Needed]) -> bool:
    return any(getattr(options, one.option, None) for one in needed)


def out_of_reach(needed: Needed, owner: str) -> SteerError:
    """Return the error for weights that are not cached and cannot be fetched: their size, and two ways to get them."""
    plugin = owner.partition(":")[0]
    place = urllib.parse.urlsplit(needed.url).hostname if isinstance(needed, Weights) and needed.url else "the hub"
    way = f"set -o {plugin}.{needed.option}=PATH" if needed.option else "name its folder instead"
    return SteerError(
        f"{owner} needs {needed.label}, which is not in the hub's cache, and {place} cannot be reached: run "
        f"`steer download {owner}` on a machine that can, or copy it here and {way}"
    )


def fetch(
    needed: Needed, into: Path | None = None, *, variant: str | None = None, without: Collection[str] = ()
) -> Path:
    """Fetch and verify weights; an interrupted download resumes.

    Args:
        needed: the weights.
        into: a folder instead of the hub's cache.
        variant: of a `Repository`'s weights, taken if they are there.
        without: parts of a pipeline whose weights are left out.

    Returns:
        The file, or the folder of a `Repository`.

    Raises:
        SteerError: if the hub has no such file, asks for a login, breaks off, or sends a damaged file.
    """
    if isinstance(needed, Weights) and needed.url is not None:
        target = _kept(needed.file, needed.url) if into is None else into / Path(needed.file).name
        fetching.check_open(needed.label)
        remote = fetching.at(needed.url, f"{needed.repo}: {needed.file}")
        if needed.git is not None:
            remote = dataclasses.replace(remote, checksum=("git", needed.git))
        lock = _kept(needed.file, needed.url)
        fetching.obtain(remote, target, lock=lock.with_name(f".{lock.name}.lock"), sha256=needed.sha256)
        return target
    if isinstance(needed, Weights):
        try:
            return hub.fetch(needed.repo, needed.file, needed.revision, needed.sha256, into=into)
        except fetching.NoSuchFile:
            if needed.otherwise is None:
                raise
            return hub.fetch(needed.repo, needed.otherwise, needed.revision, into=into)
    files = hub.listing(needed.repo, needed.revision, variant)
    if not files:
        raise SteerError(f"{needed.repo} has no file that transformers or diffusers reads")
    left_out = [file for file, _ in files if file.partition("/")[0] in without and weights_file(Path(file).name)]
    paths = [hub.fetch(needed.repo, file, needed.revision, into=into) for file, _ in files if file not in left_out]
    return min((path.parent for path in paths), key=lambda path: len(path.parts))


def reachable(needed: Needed) -> bool:
    """Whether the server of weights answers."""
    return hub.reachable(needed.url if isinstance(needed, Weights) else None)


def _kept(file: str, url: str) -> Path:
    """Return the local place of a file that is not on the hub."""
    from huggingface_hub import constants

    key = hashlib.blake2b(url.encode(), digest_size=8).hexdigest()
    return Path(constants.HF_ASSETS_CACHE) / "steer" / "files" / key / Path(file).name


def _given(needed: Needed, path: Path, option: str) -> Path:
    if isinstance(needed, Repository):
        if path.is_dir():
            return path
        raise SteerError(f"{option}={path} is not a folder; expected one with the files of {needed.label}")
    if path.is_dir():
        for name in needed.files:
            for file in (path / name, path / Path(name).name):
                if file.is_file():
                    return file
        raise SteerError(
            f"{option}={path} has no file {needed.file}; expected {needed.label} or a folder that holds it"
        )
    if path.is_file():
        return path
    raise SteerError(f"{option}={path} does not exist; expected {needed.label} or a folder that holds it")
