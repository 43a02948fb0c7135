"""Python files of the user's own, ``./mine.py:NAME``, in place of installed plugins.

Such a file imports what lies beside it as a script does, and by relative imports. Each folder is a package of its own
under a hidden name: ``sys.path`` stays as it is, and files of one name in two folders do not meet.
"""

import builtins
import functools
import hashlib
import importlib.util
import re
import sys
from collections.abc import Mapping, Sequence
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from pathlib import Path
from types import ModuleType
from typing import Any

from steer.errors import SteerError, message_of, unknown
from steer.settings.folders import same_directory
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
    if file.suffix != ".py":
        raise SteerError(f"plugin file {file} is not a Python file (expected a name ending in .py)")
    package = _package(file.parent)
    name = ".".join((package, re.sub(r"[^\w-]", "_", file.stem)))
    if name in sys.modules:  # a file beside it has imported it
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, file, loader=_Loader(name, str(file)))
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses and pydantic look up the names of annotations there
    try:
        with same_directory():
            spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        del sys.modules[name]
        reason = message_of(error, 400).replace(f"{package}.", "")
        raise SteerError(f"plugin file {file} fails to import: {type(error).__name__}: {reason}") from error
    return module


def _package(folder: Path) -> str:
    """Return the name of the package that a folder's files belong to, made at the first call."""
    name = f"{LOCAL}{hashlib.blake2b(str(folder).encode(), digest_size=4).hexdigest()}"
    if name not in sys.modules:
        spec = ModuleSpec(name, None, is_package=True)
        spec.submodule_search_locations = [str(folder)]
        sys.modules[name] = importlib.util.module_from_spec(spec)
        if _Finder not in sys.meta_path:
            sys.meta_path.insert(0, _Finder)
    return name


class _Finder:
    """Finds the modules of these packages, and leaves all others alone."""

    @staticmethod
    def find_spec(name: str, path: Sequence[str] | None = None, target: ModuleType | None = None) -> ModuleSpec | None:
        spec = PathFinder.find_spec(name, path) if name.startswith(LOCAL) else None
        if spec is not None and isinstance(spec.loader, SourceFileLoader):
            spec.loader = _Loader(name, spec.loader.path)
        return spec


class _Loader(SourceFileLoader):
    """Gives a module an ``import`` of its own, in time for those within its functions."""

    def exec_module(self, module: ModuleType) -> None:
        vars(module)["__builtins__"] = {**vars(builtins), "__import__": _import}
        super().exec_module(module)


def _import(
    name: str,
    globals: Mapping[str, Any] | None = None,
    locals: Mapping[str, Any] | None = None,
    fromlist: Sequence[str] | None = (),
    level: int = 0,
) -> ModuleType:
    package = str((globals or {}).get("__name__", "")).partition(".")[0]
    root = name.partition(".")[0]
    if level or not _lies_beside(root, package):
        return builtins.__import__(name, globals, locals, fromlist or (), level)
    module = builtins.__import__(f"{package}.{name}", globals, locals, fromlist or (), 0)
    return module if fromlist else sys.modules[f"{package}.{root}"]


def _lies_beside(root: str, package: str) -> bool:
    """Whether a module's first name means a file of the package's folder.

    The standard library, steer and what is imported from that very file otherwise come first; so does any other module
    before a mere folder.
    """
    if root == "steer" or root in sys.stdlib_module_names:
        return False
    (folder,) = map(Path, sys.modules[package].__path__)
    files = [file for file in (folder / root / "__init__.py", folder / f"{root}.py") if file.is_file()]
    if not files and not (folder / root).is_dir():
        return False
    try:
        known = importlib.util.find_spec(root)
    except (ImportError, ValueError):
        known = None
    if known is None:
        return True
    return bool(files) and known.origin != str(files[0])


def is_file_reference(name: str) -> bool:
    """Whether ``name`` means a local Python file (``./mine.py``) and not a registered name."""
    return name.endswith(".py")


def member(module: ModuleType, attribute: str, path: str) -> Any:
    """Return a module's attribute by name, or raise an error with the nearest name."""
    if hasattr(module, attribute):
        return getattr(module, attribute)
    raise unknown(f"name in {path}", attribute, [n for n in vars(module) if not n.startswith("_")])
