"""Methods and rewards from the user's Python files, ``./mine.py:NAME``, instead of installed plugins."""

import functools
import hashlib
import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

from steer.errors import SteerError, message_of, unknown
from steer.settings.paths import existing

LOCAL = "steer_local_"
"""Prefix of the names of modules made from local files."""


def load_module(path: str) -> ModuleType:
    """Import a local Python file under a module name of its own.

    Raises:
        SteerError: if there is no such file, or it fails to import.
    """
    file = existing(path)
    if file is None or not file.is_file():
        raise SteerError(f"plugin file {path} does not exist")
    return _load_module(file.resolve())


@functools.cache
def _load_module(file: Path) -> ModuleType:
    name = f"{LOCAL}{file.stem}_{hashlib.blake2b(str(file).encode(), digest_size=4).hexdigest()}"
    spec = importlib.util.spec_from_file_location(name, file)
    if spec is None or spec.loader is None:
        raise SteerError(f"plugin file {file} is not a Python file (expected a name ending in .py)")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses and pydantic look up the names of annotations there
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        del sys.modules[name]
        raise SteerError(
            f"plugin file {file} fails to import: {type(error).__name__}: {message_of(error, 400)}"
        ) from error
    return module


def is_file_reference(name: str) -> bool:
    """Whether ``name`` means a local Python file (``./mine.py``) and not a registered name."""
    return name.endswith(".py")


def member(module: ModuleType, attribute: str, path: str) -> Any:
    """Return a module's attribute by name, or raise an error with the nearest name."""
    if hasattr(module, attribute):
        return getattr(module, attribute)
    raise unknown(f"name in {path}", attribute, [n for n in vars(module) if not n.startswith("_")])
