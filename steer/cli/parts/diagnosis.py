"""The facts that ``steer doctor`` prints, as plain data."""

from __future__ import annotations

import importlib.metadata
import logging
import os
import platform
import shutil
from pathlib import Path
from typing import Any

from steer.errors import SteerError, message_of
from steer.models.device import memory_gb
from steer.models.downloads.weights import describe
from steer.registry.plugins import Plugins

log = logging.getLogger(__name__)

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

# Memory in GB that a sampler of each family needs for one image at its native size, in half precision with everything
# on the device: the published weights of all parts and about a fifth more for activations.
FAMILIES_GB = {
    "SD 1.5 / 2.1 (512-768 px)": 3.0,
    "PixArt-Sigma (1024 px)": 13.0,
    "SDXL (1024 px)": 9.0,
    "Sana 1.6B (1024 px)": 11.0,
    "SD3-medium (1024 px)": 18.0,
    "Flux.2-klein 4B (1024 px)": 20.0,
    "Z-Image (1024 px)": 25.0,
    "Flux.1 (1024 px)": 40.0,
    "Qwen-Image (1024 px)": 70.0,
    "Flux.2-dev (1024 px)": 135.0,
}


def diagnose(plugins: Plugins) -> dict[str, Any]:
    """Return versions, devices, memory, plugins with their health, the hub's cache, and the weights that plugins need.

    Returns:
        ``{"python", "platform", "packages", "devices", "memory_gb", "families", "plugins", "cache", "weights",
        "problems"}``.
    """
    packages = {name: _version(name) for name in PACKAGES}
    devices, problems = _devices()
    memory = memory_gb()
    rows = _plugins(plugins)
    problems += [f"{row['kind']} {row['name']}: {row['health']}" for row in rows if row["health"] != "ok"]
    largest = max((device["memory_gb"] for device in devices if device["memory_gb"]), default=None)
    return {
        "python": platform.python_version(),
        "platform": f"{platform.system()} {platform.machine()}, {os.cpu_count()} CPU cores",
        "packages": packages,
        "devices": devices,
        "memory_gb": memory,
        "families": {name: _fits(need, largest, memory) for name, need in FAMILIES_GB.items()},
        "plugins": rows,
        "cache": hub_cache(),
        "weights": weights_of(plugins),
        "problems": problems,
    }


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


def _fits(need: float, device_gb: float | None, memory: float | None) -> str:
    if device_gb is not None and device_gb >= need:
        return f"fits the GPU (about {need:g} GB)"
    if device_gb is not None and memory is not None and memory >= need:
        return f"with --offload model (about {need:g} GB in all)"
    if memory is not None and memory >= 2 * need:  # fp32 on the CPU
        return f"on the CPU, slowly (about {2 * need:g} GB in fp32)"
    return f"too large (about {need:g} GB)"


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
