"""A model's own defaults of a run's settings and of its call's inputs: those of its folder, and those that model cards
give."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from steer.errors import SteerError, unknown
from steer.models.stock.inputs import checked
from steer.models.stock.signature import Argument
from steer.settings.run_settings import check_setting
from steer.settings.strict_json import read_object

DEFAULTS_FILE = "steer.json"
"""In a model's folder: its own defaults of a run's settings, for example ``{"steps": 30}``."""
INPUTS = "inputs"
"""Its key with defaults of the call's inputs, for example ``{"num_frames": 9}``."""
KNOWN_DEFAULTS: dict[str, dict[str, Any]] = {
    "stabilityai/sd-turbo": {"steps": 1, "guidance_scale": 1.0},
    "stabilityai/sdxl-turbo": {"steps": 1, "guidance_scale": 1.0},
    "stabilityai/stable-diffusion-3.5-large": {"steps": 28, "guidance_scale": 3.5},
    "stabilityai/stable-diffusion-3.5-large-turbo": {"steps": 4, "guidance_scale": 1.0},
    "black-forest-labs/FLUX.1-schnell": {"steps": 4, "guidance_scale": 0.0},
    "PixArt-alpha/PixArt-LCM-XL-2-1024-MS": {"steps": 4, "guidance_scale": 0.0},
    # the card says 9, for a pipeline whose last step began at sigma 0 and had no effect
    "Tongyi-MAI/Z-Image-Turbo": {"steps": 8, "guidance_scale": 0.0},
}
"""Settings of distilled checkpoints, by hub id, from their model cards; the family's own would spoil the image."""


def defaults_of(name: str, folder: Path | None) -> dict[str, Any]:
    """Return the settings that a model has unless the user says otherwise.

    Args:
        name: its hub id, if it has one.
        folder: that it is read from, if it is on this machine; its :data:`DEFAULTS_FILE` goes before what is known.

    Raises:
        SteerError: for a file with settings that no run has, or with values out of range.
    """
    return {**KNOWN_DEFAULTS.get(name, {}), **_saved(folder)}


def usual_inputs(folder: Path | None, taken: Mapping[str, Argument]) -> dict[str, Any]:
    """Return the inputs that a model's call gets unless the user says otherwise, of the same file.

    Args:
        folder: that it is read from, if it is on this machine.
        taken: what the call takes.

    Raises:
        SteerError: for inputs that it does not take, or values that do not fit.
    """
    found = _read(folder).get(INPUTS, {})
    if not isinstance(found, dict):
        raise SteerError(f"{DEFAULTS_FILE}: {INPUTS} is {str(found)[:60]!r}, expected an object")
    for name in found:
        if name not in taken:
            raise unknown(f"input in {DEFAULTS_FILE}", name, taken)
    return {name: checked(taken[name], value, str(folder)) for name, value in found.items()}


def _saved(folder: Path | None) -> dict[str, Any]:
    values = {key: value for key, value in _read(folder).items() if key != INPUTS}
    values = {key: tuple(value) if isinstance(value, list) else value for key, value in values.items()}
    for key, value in values.items():
        check_setting(key, value)
    return values


def _read(folder: Path | None) -> dict[str, Any]:
    if folder is None or not (folder / DEFAULTS_FILE).is_file():
        return {}
    return read_object(folder / DEFAULTS_FILE, "model's defaults")
