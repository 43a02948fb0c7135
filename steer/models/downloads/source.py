"""``Source``: a name given by the user, for something on this machine or an id on the hub."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from steer.settings.paths import existing


@dataclass(frozen=True)
class Source:
    """The name of a model, of weights or the like: a file, a folder, or a hub id."""

    name: str

    @property
    def path(self) -> Path | None:
        """The file or folder of that name on this machine, with ``~`` expanded; ``None`` if there is none."""
        return existing(self.name)

    @property
    def folder(self) -> Path | None:
        """The folder of that name on this machine, or ``None``."""
        path = self.path
        return path if path is not None and path.is_dir() else None

    @property
    def place(self) -> str:
        """The argument for ``from_pretrained``: the path on this machine, else the name."""
        return str(self.path or self.name)

    @property
    def like_a_path(self) -> bool:
        """Whether the name can only mean a path on this machine, even if it does not exist."""
        return self.name.startswith((".", "/", "~"))

    def like_an_id(self, *, bare: bool = False) -> bool:
        """Whether the name can be a hub id: ``org/name``, or with ``bare`` also one without an owner (``gpt2``)."""
        slashes = self.name.count("/")
        return (
            bool(self.name)
            and not self.like_a_path
            and ":" not in self.name
            and (slashes == 1 or (bare and slashes == 0))
        )
