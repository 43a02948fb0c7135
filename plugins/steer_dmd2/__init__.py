"""DMD2: train and use one- and few-step students of diffusion models (arXiv 2405.14867)."""

from steer import hookimpl
from steer.plugin import Registry


@hookimpl
def steer_register(registry: Registry) -> None:
    """Register the method with its published weights, and the training command; nothing is imported yet."""
    registry.method(
        "dmd2",
        "steer_dmd2.method:DMD2",
        summary="one- and few-step generation by a distilled student",
        weights="steer_dmd2.presets:declared",
    )
    registry.command(
        "train dmd2", "steer_dmd2.train.cli:command", summary="distill a model into a one- or few-step student"
    )
    registry.command(
        "convert dmd2", "steer_dmd2.convert:command", summary="store a student as differences to its model in few bits"
    )
