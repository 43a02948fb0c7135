"""Paths of the weights that ship with this package."""

from pathlib import Path

WEIGHTS = Path(__file__).parent / "weights"


def known() -> dict[str, Path]:
    """Return the shipped models by name."""
    return {folder.name: folder for folder in sorted(WEIGHTS.iterdir()) if (folder / "config.json").is_file()}
