"""Names that users give, as paths of this machine."""

from __future__ import annotations

from pathlib import Path


def existing(name: str) -> Path | None:
    """Return the file or folder of a name, with ``~`` expanded; ``None`` if there is none, or can be none."""
    try:
        path = Path(name).expanduser()
        return path if name and path.exists() else None
    except (OSError, ValueError, RuntimeError):  # too long, with NUL, in the home of nobody
        return None
