"""Modules whose names are imported at their first use."""

import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any


def lazily(module: str) -> tuple[list[str], Callable[[str], Any]]:
    """Return ``__all__`` and ``__getattr__`` of a module that imports its names for type checkers alone.

    Such a module has them in its source once, one import per line: ``from home import name as name``.
    """
    source = Path(str(sys.modules[module].__file__)).read_text(encoding="utf-8")
    homes = {name: home for home, name in re.findall(r"^    from (\S+) import (\w+)", source, re.MULTILINE)}

    def load(name: str) -> Any:
        if name not in homes:
            raise AttributeError(f"module {module!r} has no attribute {name!r}")
        # with the name in the list, a module within its home is imported too
        return getattr(__import__(homes[name], fromlist=[name]), name)

    return [*homes], load
