"""SymmFlow: one flow that draws, segments and classifies (arXiv 2506.10634)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from steer import hookimpl
from steer.plugin import Input

if TYPE_CHECKING:
    from steer.plugin import Registry


@hookimpl
def steer_register(registry: Registry) -> None:
    """Name the commands and the data; nothing is imported yet."""
    registry.loader("symmflow", "steer_symmflow.backbone:from_name", summary="a folder of steer train symmflow")
    registry.reward(
        "symmflow", "steer_symmflow.reward:Agreement", summary="an image's own segmentation or class as asked for"
    )
    registry.input(
        "mask", Input("FILE", "steer_symmflow.images:pack_mask"),
        summary="Draw from a color mask, by a model that does; repeatable.",
    )  # fmt: skip
    registry.input("class", Input("NAME"), summary="Draw a class, by a model that does; repeatable.")
    registry.input("nearest", Input(""), summary="Take the nearest label where a mask's color is none's.")
    registry.data(
        "digits", "steer_symmflow.train.data:digits", of="labeled images", summary="scikit-learn's handwritten digits"
    )
    registry.command("segment", "steer_symmflow.reading.segment:command", summary="Segment images by a symmetric flow.")
    registry.command(
        "classify", "steer_symmflow.reading.classify:command", summary="Classify images by a symmetric flow."
    )
    registry.command(
        "convert symmflow", "steer_symmflow.convert:command", summary="make a published SymmFlow checkpoint usable"
    )
    registry.command(
        "train symmflow", "steer_symmflow.train.cli:command", summary="train a flow that draws, segments or classifies"
    )
