"""SymmFlow: one flow that draws, segments and classifies (arXiv 2506.10634)."""

from steer import hookimpl
from steer.plugin import Input, Registry


@hookimpl
def steer_register(registry: Registry) -> None:
    """Register the loader, the reward, the inputs, the data and the commands; nothing is imported yet."""
    registry.loader("symmflow", "steer_symmflow.backbone:from_name", summary="a folder of steer train symmflow")
    registry.reward(
        "symmflow", "steer_symmflow.reward:Agreement", summary="agreement of an image with the prompt's mask or class"
    )
    registry.input(
        "mask", Input("FILE", "steer_symmflow.images:pack_mask"),
        summary="Color mask to draw from, for models that take one; repeatable.",
    )  # fmt: skip
    registry.input("class", Input("NAME"), summary="Class to draw, for models that take one; repeatable.")
    registry.input("nearest", Input(""), summary="Use the nearest label for mask colors of no label.")
    registry.data(
        "digits", "steer_symmflow.train.data:digits", of="labeled images", summary="scikit-learn's handwritten digits"
    )
    registry.command(
        "segment", "steer_symmflow.reading.segment:command", summary="Segment images with a symmetric flow."
    )
    registry.command(
        "classify", "steer_symmflow.reading.classify:command", summary="Classify images with a symmetric flow."
    )
    registry.command(
        "convert symmflow", "steer_symmflow.convert:command", summary="make a published SymmFlow checkpoint usable"
    )
    registry.command(
        "train symmflow", "steer_symmflow.train.cli:command", summary="train a flow that draws, segments or classifies"
    )
