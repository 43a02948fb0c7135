"""The facts that ``steer doctor`` prints, as plain data."""

from __future__ import annotations

import importlib.metadata
import logging
import os
import platform
import shutil
import warnings
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from steer.errors import SteerError, message_of
from steer.models.device import memory_gb
from steer.models.downloads import hub
from steer.models.downloads.source import Source
from steer.models.downloads.weights import describe
from steer.registry.plugins import Plugins
from steer.settings.strict_json import object_in

if TYPE_CHECKING:  # it imports torch
    from steer.models.footprint import Footprint

log = logging.getLogger(__name__)

INDEX = "model_index.json"
RESERVED = 1.0
"""GB of a GPU that CUDA's own context, workspaces and fragments take."""
PACKAGES = (
    "steer-diffusion",
    "torch",
    "torchvision",
    "diffusers",
    "transformers",
    "open_clip_torch",
    "accelerate",
    "peft",
    "safetensors",
    "huggingface_hub",
    "pillow",
    "pluggy",
    "pydantic",
)


def diagnose(plugins: Plugins, models: Sequence[str] = ()) -> dict[str, Any]:
    """Return versions, devices, memory, plugins with their health, the hub's cache, and the weights that plugins need.

    Args:
        models: folders and hub ids whose memory is compared with this machine's, besides those in the hub's cache.

    Returns:
        ``{"python", "platform", "packages", "devices", "memory_gb", "models", "plugins", "cache", "weights",
        "problems"}``.
    """
    packages = {name: _version(name) for name in PACKAGES}
    devices, problems = _devices()
    memory = memory_gb()
    rows = _plugins(plugins)
    problems += [f"{row['kind']} {row['name']}: {row['health']}" for row in rows if row["health"] != "ok"]
    cache = hub_cache()
    largest = max((device["memory_gb"] for device in devices if device["memory_gb"]), default=None)
    return {
        "python": platform.python_version(),
        "platform": f"{platform.system()} {platform.machine()}, {os.cpu_count()} CPU cores",
        "packages": packages,
        "devices": devices,
        "memory_gb": memory,
        "models": models_here(plugins, [*models, *cache["repositories"]], set(models), largest, memory),
        "plugins": rows,
        "cache": cache,
        "weights": weights_of(plugins),
        "problems": problems,
    }


def models_here(
    plugins: Plugins, names: Sequence[str], asked: Collection[str], device_gb: float | None, memory: float | None
) -> dict[str, str]:
    """Return where each model runs.

    Args:
        names: folders and repositories; those that are no pipeline are left out.
        asked: the names among them that the user gave; what is wrong with those is told.
        device_gb: memory of the largest GPU.
        memory: of the machine, in GB.
    """
    found = {}
    for name in dict.fromkeys(names):
        try:
            verdict = _model(name, plugins, device_gb, memory)
        except SteerError as error:
            verdict = str(error)
        if verdict is not None or name in asked:
            found[name] = verdict or "no pipeline in diffusers format is there; give a folder, or a hub id in the cache"
    return found


def _model(name: str, plugins: Plugins, device_gb: float | None, memory: float | None) -> str | None:
    source = Source(name)
    index = source.folder / INDEX if source.folder else hub.cached_file(name, INDEX) if source.like_an_id() else None
    if index is None or not index.is_file():
        return None
    kind = str(object_in(index).get("_class_name"))
    from steer.models.footprint import footprint

    family = plugins.registry.backbones[kind].load() if kind in plugins.registry.backbones else None
    with warnings.catch_warnings():  # of libraries, about configurations
        warnings.simplefilter("ignore")
        return verdict_of(footprint(index.parent, family), device_gb, memory)


def verdict_of(need: Footprint, device_gb: float | None, memory: float | None) -> str:
    """Return where a model runs, and what decides it."""
    from steer.models.room import fits

    weights, decoding, turns = need.weights / 1e9, need.decoding / 1e9, need.in_turns / 1e9
    part, largest = need.largest[0], need.largest[1] / 1e9
    sizes = f"{weights:.1f} GB of weights" + (f", {decoding:.1f} GB to decode an image" if decoding else "")
    room = None if device_gb is None else device_gb - RESERVED
    if room is not None and room >= weights + decoding and fits(need.weights, int(room * 1e9)):
        return f"fits the GPU ({sizes})"
    if room is not None and room >= turns:
        return f"fits the GPU, encoders and the rest in turns ({turns:.1f} GB at a time; {sizes})"
    if room is not None and room >= largest:
        return f"with --offload model (its {part} takes {largest:.1f} GB; {sizes}), or smaller by --quantize nf4"
    if room is not None:
        return (
            f"too large for the GPU, but for --offload sequential (its {part} takes {largest:.1f} GB; {sizes}), or "
            "smaller by --quantize nf4"
        )
    if memory is not None and memory >= 2 * (weights + decoding):
        return f"on the CPU, slowly (about {2 * (weights + decoding):.1f} GB in fp32)"
    return f"too large for this machine (about {2 * (weights + decoding):.1f} GB in fp32)"


def weights_of(plugins: Plugins) -> list[dict[str, Any]]:
    """Return the weights that plugins need if their names have no argument, and whether each is cached."""
    rows = []
    for kind in ("reward", "method"):
        for entry in plugins.registry.entries[kind].values():
            try:
                needed = entry.weights()
            except SteerError as error:  # a broken resolver must not hide the weights of other plugins
                log.debug("%s", error)
                continue
            rows += [describe(one) | {"name": entry.name} for one in needed]
    return rows


def hub_cache() -> dict[str, Any]:
    """Return the hub's cache folder, its free space in GB, and the repositories in it with their sizes in GB."""
    from huggingface_hub import constants

    folder = Path(constants.HF_HUB_CACHE)
    found: dict[str, float] = {}
    if folder.is_dir():
        for repository in sorted(folder.glob("models--*")):
            blobs = repository / "blobs"
            size = sum(file.stat().st_size for file in blobs.iterdir() if file.is_file()) if blobs.is_dir() else 0
            found[repository.name.removeprefix("models--").replace("--", "/")] = round(size / 1e9, 2)
    existing = next(path for path in (folder, *folder.parents) if path.exists())
    free = round(shutil.disk_usage(existing).free / 1e9, 1)
    return {"folder": str(folder), "free_gb": free, "repositories": found, "offline": bool(constants.HF_HUB_OFFLINE)}


def _devices() -> tuple[list[dict[str, Any]], list[str]]:
    problems = []
    try:
        import torch
    except ImportError as error:
        return [], [f"torch cannot be imported: {error}"]
    found: list[dict[str, Any]] = [
        {
            "name": "cpu",
            "model": platform.processor() or platform.machine(),
            "memory_gb": None,
            "threads": torch.get_num_threads(),
        }
    ]
    if torch.cuda.is_available():
        for index in range(torch.cuda.device_count()):
            properties = torch.cuda.get_device_properties(index)
            memory = round(properties.total_memory / 1e9, 1)
            found.append({"name": f"cuda:{index}", "model": properties.name, "memory_gb": memory, "threads": None})
    elif torch.version.cuda is not None and Path("/proc/driver/nvidia").exists():
        problems.append("there is an NVIDIA driver, but torch sees no CUDA device; compare its version with torch's")
    if torch.backends.mps.is_available():
        found.append({"name": "mps", "model": "Apple", "memory_gb": None, "threads": None})
    try:
        import torchvision  # noqa: F401
    except Exception as error:  # a build for another torch fails in many ways
        problems.append(f"torchvision does not fit torch ({type(error).__name__}: {message_of(error, 120)})")
    return found, problems


def _plugins(plugins: Plugins) -> list[dict[str, Any]]:
    rows = [{"kind": entry.kind, "name": entry.name, "health": entry.health} for entry in plugins.registry]
    return rows + [
        {"kind": "plugin", "name": broken.origin.plugin, "health": f"broken: {broken.reason}"}
        for broken in plugins.broken
    ]


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None
