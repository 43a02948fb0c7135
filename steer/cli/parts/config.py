"""Reading run files, and the default model from ``steer.toml`` and the environment."""

from __future__ import annotations

import os
import tomllib
from pathlib import Path
from typing import Any

from steer.errors import SteerError, nearest
from steer.settings.run_settings import renewed
from steer.settings.text_files import read_text

DEFAULT_MODEL = "shapes"


def read_toml(path: str | Path, keys: dict[str, Any]) -> dict[str, Any]:
    """Read a TOML file, at a path or an fsspec URL, whose keys are all known and of the expected type.

    Raises:
        SteerError: naming the file, the key and what was expected.
    """
    try:
        data = tomllib.loads(read_text(path, "config file"))
    except (ValueError, RecursionError) as error:  # also numbers of thousands of digits, and deep brackets
        raise SteerError(f"config file {path} is not TOML: {error}") from None
    data = renewed(data)
    for key, value in data.items():
        if key not in keys:
            raise SteerError(
                f"config file {path}: unknown key {key!r}{nearest(key, keys)} (known: {', '.join(sorted(keys))})"
            )
        kind = keys[key]
        if kind is int and isinstance(value, float) and value.is_integer():  # as in prompt files
            data[key] = value = int(value)
        if kind is list and isinstance(value, str):
            data[key] = [value]
        elif not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
            names = kind.__name__ if isinstance(kind, type) else "number"
            raise SteerError(f"config file {path}: {key} is {value!r}, expected {names}")
        if kind is list and not all(isinstance(entry, str) for entry in data[key]):
            raise SteerError(f"config file {path}: {key} is {value!r}, expected a list of texts")
    return data


def default_model() -> tuple[str, str]:
    """Return the default model and what sets it."""
    if os.environ.get("STEER_MODEL"):
        return os.environ["STEER_MODEL"], "STEER_MODEL"
    file = Path("steer.toml")
    if file.is_file():
        model = read_toml(file, {"model": str}).get("model")
        if model:
            return str(model), "steer.toml"
    return DEFAULT_MODEL, "the embedded model"
