"""``steer live``: a page that shows particles as they are steered, and an API of images as OpenAI's, on one server."""

from steer import hookimpl
from steer.plugin import Registry


@hookimpl
def steer_register(registry: Registry) -> None:
    """Register the command; nothing is imported yet."""
    registry.command("live", "steer_live.command:live", summary="serve a page to steer at, and OpenAI's images API")
