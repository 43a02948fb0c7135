"""DMD2: one- and few-step students of diffusion models, made and used (arXiv 2405.14867)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from steer import hookimpl

if TYPE_CHECKING:
    from steer.plugins import Registry


@hookimpl
def steer_register(registry: Registry) -> None:
    """Name the training command."""
    registry.command("train dmd2", "steer_dmd2.train.cli:command", summary="distil a model into a one- or few-step student")
