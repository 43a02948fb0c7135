"""SymmFlow: one flow that draws, segments and classifies (arXiv 2506.10634)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from steer import hookimpl

if TYPE_CHECKING:
    from steer.plugins import Registry


@hookimpl
def steer_register(registry: Registry) -> None:
    """Name the commands and the data; nothing is imported yet."""
    registry.loader("symmflow", "steer_symmflow.backbone:from_name", summary="a folder of steer train symmflow")
    registry.data("digits", "steer_symmflow.train.data:digits", summary="scikit-learn's handwritten digits")
    registry.command(
        "train symmflow", "steer_symmflow.train.cli:command", summary="train a flow that draws, segments or classifies"
    )
