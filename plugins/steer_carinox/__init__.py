"""CARINOX: optimizing and exploring the initial noise under several rewards, by category (arXiv 2509.17458)."""

from steer import hookimpl
from steer.plugin import Registry


@hookimpl
def steer_register(registry: Registry) -> None:
    """Register the method and its commands; nothing is imported yet."""
    registry.method(
        "carinox", "steer_carinox.method:Carinox", summary="gradient ascent on the noise of several seeds; ReNO preset"
    )
    registry.command(
        "calibrate",
        "steer_carinox.calibration.calibrate_command:command",
        summary="derive category weights of rewards from ratings",
    )
    registry.command(
        "categories",
        "steer_carinox.calibration.categories_command:command",
        summary="show which category a prompt falls into, and why",
    )
