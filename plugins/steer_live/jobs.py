"""``Job``: one run that somebody asked for, as plain data, from the queue to its output folder."""

from __future__ import annotations

import secrets
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

Status = Literal["queued", "running", "done", "failed", "stopped"]
OPEN: tuple[Status, ...] = ("queued", "running")
"""Of jobs that are still to be worked at."""
IMAGES, PROMPTS = "images", "prompts"
"""Kinds of jobs: images of one prompt, as ``steer generate`` makes them, or of a prompt file, as ``steer render``."""


def new_id() -> str:
    """Return an id that names a folder, sorts by time, and cannot be guessed: whoever knows it may see the images."""
    return f"{time.strftime('%Y%m%d-%H%M%S')}-{secrets.token_hex(8)}"


@dataclass
class Job:
    """One run.

    Attributes:
        kind: :data:`IMAGES` or :data:`PROMPTS`.
        values: model, methods, rewards, options and settings, by the keys of run files.
        rows: the prompts, as rows of a prompt file.
        previews: steps at which pictures of x0 are shown; ``None`` for every step.
        title: what the page calls it.
        origin: ``"page"`` or ``"api"``.
        status: where it stands.
        failure: why it failed; empty if it did not.
        mistaken: whether it failed by a mistake in what was asked, not in the program.
        files: what was written, each with ``key`` (its address), ``id``, ``prompt``, ``file``, ``seed``, ``slot``,
            ``reward`` and ``judge``.
        total: samples or prompts in all.
        lost: prompts that failed.
        created: seconds since 1970.
        seconds: that it took.
        evaluations: the denoiser's work in forward evaluations; of a prompt file, since it last went on.
        id: see :func:`new_id`.
    """

    kind: str
    values: dict[str, Any]
    rows: list[dict[str, Any]]
    previews: int | None = 0
    title: str = ""
    origin: str = "page"
    status: Status = "queued"
    failure: str = ""
    mistaken: bool = False
    files: list[dict[str, Any]] = field(default_factory=list)
    total: int = 0
    lost: int = 0
    created: float = field(default_factory=time.time)
    seconds: float = 0.0
    evaluations: int = 0
    id: str = field(default_factory=new_id)

    @property
    def open(self) -> bool:
        """Whether it is still to be worked at."""
        return self.status in OPEN

    def as_dict(self) -> dict[str, Any]:
        """Return it as plain data."""
        return asdict(self)

    def file(self, key: Any) -> dict[str, Any] | None:
        """Return the file with this key."""
        return next((file for file in self.files if file["key"] == key), None)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Job:
        """Return the job that plain data describe; ``TypeError`` for other data."""
        return cls(**data)

    def shown(self) -> dict[str, Any]:
        """Return what lists show of it, with its first file alone."""
        data, first = self.as_dict(), self.rows[0]
        del data["rows"]
        data |= {"files": self.files[:1], "made": len(self.files)}
        return {**data, "prompt": first["prompt"], "prompts": len(self.rows), "seed": first.get("seed")}
