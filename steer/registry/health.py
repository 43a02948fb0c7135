"""Checks from the source whether registered objects exist: takes a second and does not import torch."""

import ast
import functools
import sys
from collections.abc import Iterator
from importlib.machinery import ModuleSpec

from steer.registry.registry import Entry


def health(entry: Entry) -> str:
    """Return ``"ok"`` if the source defines the target and its imports are installed, else `Entry.health`.

    So the reason of a failure always comes from a real import. An import that would fail halfway is not detected.
    """
    if not isinstance(entry.target, str):
        return entry.health
    module, _, attribute = entry.target.partition(":")
    return "ok" if attribute in _names(module) else entry.health


@functools.cache
def _names(module: str) -> frozenset[str]:
    """Return the names that a module defines at its top; none if it has no source, or imports a missing package."""
    spec = _spec(module)
    get_source = getattr(spec and spec.loader, "get_source", None)
    try:
        body = ast.parse(get_source(module) or "").body if get_source else []
    except (SyntaxError, UnicodeDecodeError, ImportError):
        return frozenset()
    if not all(_spec(package) for statement in body for package in _packages(statement)):
        return frozenset()
    return frozenset(name for statement in body for name in _defined(statement))


@functools.cache
def _spec(module: str) -> ModuleSpec | None:
    """Find a module without importing its parent packages."""
    if module in sys.modules:
        return sys.modules[module].__spec__
    package, _, _ = module.rpartition(".")
    parent = _spec(package) if package else None
    if package and (parent is None or parent.submodule_search_locations is None):
        return None
    path = None if parent is None else parent.submodule_search_locations
    found = (finder.find_spec(module, path) for finder in sys.meta_path if hasattr(finder, "find_spec"))
    return next((spec for spec in found if spec is not None), None)


def _packages(statement: ast.stmt) -> Iterator[str]:
    """Yield the packages that a statement imports."""
    if isinstance(statement, ast.Import):
        yield from (alias.name.partition(".")[0] for alias in statement.names)
    elif isinstance(statement, ast.ImportFrom) and statement.module and not statement.level:
        yield statement.module.partition(".")[0]


def _defined(statement: ast.stmt) -> Iterator[str]:
    """Yield the names that a statement defines."""
    if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        yield statement.name
    elif isinstance(statement, ast.Import | ast.ImportFrom):
        yield from (alias.asname or alias.name for alias in statement.names)
    elif isinstance(statement, ast.Assign | ast.AnnAssign):
        targets = statement.targets if isinstance(statement, ast.Assign) else [statement.target]
        yield from (target.id for target in targets if isinstance(target, ast.Name))
