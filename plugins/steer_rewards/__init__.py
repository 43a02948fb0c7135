"""First-party rewards, one small file each."""

from steer import hookimpl
from steer.plugins import Registry


@hookimpl
def steer_register(registry: Registry) -> None:
    """Name the rewards; nothing is imported yet."""
    registry.reward("clip", "steer_rewards.clip:Clip", summary="image-text similarity in CLIP's space, 100·cos")
