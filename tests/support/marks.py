"""Which tests start real processes, look through a browser or train. Found here, so that nobody has to mark them."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from types import CodeType, ModuleType
from typing import Any

import pytest

STARTERS = {"subprocess", "multiprocessing", "ray", "support.processes"}
"""Modules whose use starts a process."""


FEW = {
    "family": {"sd", "sd3", "flux-dev"},
    "kind": {
        "StableDiffusionInpaintPipeline",
        "FluxKontextPipeline",
        "WanPipeline",
    },
    "reward": {"clip", "imagereward", "vqa", "ocr", "geneval", "shapes-objects"},
    "scheduler": {"ddim", "euler-a", "dpm++", "dpm++-sde", "unipc", "lcm", "dpm2-a", "flow-euler", "edm-euler"},
}
"""What ``make test`` takes of all families, classes of pipelines, rewards and schedulers where each has a slow test."""


def mark(item: pytest.Function) -> None:
    """Mark a test with what it needs."""
    if item.get_closest_marker("slow") and _is_one_of_many(item):
        item.add_marker("thorough")
    if "browser" in item.fixturenames:
        item.add_marker("browser")
    if item.path.name == "test_training.py":
        item.add_marker("training")
    fixtures = (definitions[-1].func for definitions in item._fixtureinfo.name2fixturedefs.values())
    seen: set[Any] = set()
    if any(_starts_processes(function, seen) for function in (item.function, *fixtures)):
        item.add_marker("process")


def _is_one_of_many(item: pytest.Function) -> bool:
    """Whether a test is for one of many that is not among :data:`FEW`."""
    values = item.callspec.params if hasattr(item, "callspec") else {}
    named = ((few, values[parameter]) for parameter, few in FEW.items() if parameter in values)
    return any((name := _name_of(value)) is not None and name not in few for few, value in named)


def _name_of(value: Any) -> str | None:
    return value if isinstance(value, str) else None if isinstance(value, type) else getattr(value, "name", None)


def _starts_processes(function: Any, seen: set[Any]) -> bool:
    """Whether a function of the tests, or one of theirs that it names, uses one of :data:`STARTERS`."""
    function = inspect.unwrap(function)
    if function in seen or not inspect.isfunction(function):
        return False
    seen.add(function)
    for name in _names(function.__code__):
        value = function.__globals__.get(name)
        if name in STARTERS or _home(value) in STARTERS:
            return True
        if _of_the_tests(value) and _starts_processes(value, seen):
            return True
    return False


def _names(code: CodeType) -> Iterator[str]:
    """Yield the global names that code uses, functions within it included."""
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _names(constant)


def _home(value: Any) -> str | None:
    """Return the name of a module, or of that in which something was defined."""
    return value.__name__ if isinstance(value, ModuleType) else getattr(value, "__module__", None)


def _of_the_tests(value: Any) -> bool:
    if not isinstance(value, Callable):  # type: ignore[arg-type]
        return False
    return (_home(value) or "").partition(".")[0] in ("support", "tests") or "test_" in (_home(value) or "")
