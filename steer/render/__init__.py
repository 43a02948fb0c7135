"""Rendering prompt files into folders, resumable, on one machine or many."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from steer.render.renderer import Renderer
    from steer.render.spec import Spec
    from steer.render.watcher import Plan, Summary, Watcher

__all__ = ["Plan", "Renderer", "Spec", "Summary", "Watcher"]

# Loaded at first use: the page reads journals and must not wait for torch.
_LAZY = {
    "Plan": "steer.render.watcher",
    "Renderer": "steer.render.renderer",
    "Spec": "steer.render.spec",
    "Summary": "steer.render.watcher",
    "Watcher": "steer.render.watcher",
}


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(importlib.import_module(_LAZY[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
