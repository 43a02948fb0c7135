"""The house: which room may import which, no circles, and what plugins may import."""

from __future__ import annotations

import ast
import importlib
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

ROOMS = (
    "errors", "settings", "registry", "processes", "prompts", "models", "rewards", "results", "sampling", "render",
    "evaluate", "testing", "training", "cli",
)  # fmt: skip
"""A room imports only from itself and from rooms before it."""

FACADES = ("steer", "steer.plugin", "steer.testing", "steer.training")
"""All that plugins may import from steer."""


def modules(folder: Path, above: str = "") -> dict[str, Path]:
    """Return every module in a package by its name."""
    found = {}
    for file in folder.rglob("*.py"):
        parts = [folder.name, *file.relative_to(folder).with_suffix("").parts]
        found[above + ".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = file
    return found


STEER = modules(ROOT / "steer")
PLUGINS = {name: file for folder in (ROOT / "plugins").glob("steer_*") for name, file in modules(folder).items()}
ALL = {**STEER, **PLUGINS}
NAMES = {file: name for name, file in ALL.items()}


def imports(file: Path) -> Iterator[tuple[str, str, int]]:
    """Yield (module, name, line) of every import in a file, those for type checkers and within functions too."""
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield from ((node.module, alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = NAMES[file].split(".")[: None if file.stem == "__init__" else -1]
            package = above[: len(above) - node.level + 1]
            home = ".".join([*package, node.module] if node.module else package)
            yield from ((home, alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.Import):
            yield from ((alias.name, "", node.lineno) for alias in node.names)


def targets(file: Path) -> Iterator[tuple[str, int]]:
    """Yield each module of steer or of a plugin that a file imports."""
    for module, name, line in imports(file):
        if f"{module}.{name}" in ALL:
            yield f"{module}.{name}", line
        elif module in ALL:
            yield module, line


def room(module: str) -> str | None:
    """Return the room that a module of steer stands in; the facades stand above all rooms."""
    parts = module.split(".")
    return parts[1] if len(parts) > 1 and parts[1] in ROOMS else None


@pytest.mark.slow
def test_every_room_imports_only_from_rooms_below_it() -> None:
    upward = [
        f"{module}:{line} imports {target}"
        for module, file in STEER.items()
        if (here := room(module)) is not None
        for target, line in targets(file)
        if (there := room(target)) is None or ROOMS.index(there) > ROOMS.index(here)
    ]
    assert not upward


@pytest.mark.slow
def test_there_is_no_circle_of_imports() -> None:
    # the facades name everything, and are imported by name only from outside
    graph = {
        module: {target for target, _ in targets(file) if target not in FACADES and target != module}
        for module, file in ALL.items()
        if module not in FACADES
    }
    try:
        list(TopologicalSorter(graph).static_order())
    except CycleError as error:
        pytest.fail(" -> ".join(error.args[1]))


def test_the_top_of_steer_is_short() -> None:
    entries = [e.name for e in (ROOT / "steer").iterdir() if not e.name.startswith("__") and e.name != "py.typed"]
    assert len(entries) <= 15, sorted(entries)


@pytest.mark.slow
def test_plugins_import_public_names_alone() -> None:
    inner = []
    for name, file in PLUGINS.items():
        for module, wanted, line in imports(file):
            if module.split(".")[0] != "steer":
                continue
            if module not in FACADES or (wanted and wanted not in importlib.import_module(module).__all__):
                inner.append(f"{name}:{line} imports {module} {wanted}")
    assert not inner


@pytest.mark.parametrize("facade", ["steer", "steer.plugin", "steer.training"])
def test_a_facade_has_every_name_that_it_names_for_type_checkers(facade: str) -> None:
    module = importlib.import_module(facade)
    named = [name for home, name, _ in imports(STEER[facade]) if home != "typing" and name != "lazily"]
    assert sorted(module.__all__) == sorted(named), "one import per line, so short that it is not wrapped"
    for name in module.__all__:
        assert getattr(module, name) is not None
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        module.nothing  # noqa: B018


@pytest.mark.slow
def test_nothing_in_steer_imports_a_plugin() -> None:
    for name, file in STEER.items():
        assert not [module for module, _, _ in imports(file) if module.split(".")[0].startswith("steer_")], name
