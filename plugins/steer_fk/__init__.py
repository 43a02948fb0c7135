"""FK steering: resample particles by their expected rewards (arXiv 2501.06848)."""

from steer import hookimpl


@hookimpl
def steer_register(registry):  # type: ignore[no-untyped-def]
    """Register the method."""
    registry.method("fk", "steer_fk.method:FK", summary="Feynman-Kac steering: resample particles by reward")
