"""First-party rewards, one small file each."""

from steer import hookimpl
from steer.plugins import Registry
from steer_rewards import catalogue


@hookimpl
def steer_register(registry: Registry) -> None:
    """Name the rewards; nothing is imported yet."""
    registry.reward(
        "clip", "steer_rewards.clip:Clip", summary="image-text similarity in CLIP's space, 100·cos",
        weights="steer_rewards.catalogue:clip",
    )  # fmt: skip
    registry.reward(
        "hps", "steer_rewards.hps:Hps", summary="human preference score: image-text similarity, trained on choices",
        weights="steer_rewards.catalogue:hps",
    )  # fmt: skip
    registry.reward(
        "pickscore", "steer_rewards.pickscore:PickScore", summary="users' choices between images, predicted",
        weights=[catalogue.PICKSCORE],
    )  # fmt: skip
    registry.reward(
        "aesthetic", "steer_rewards.aesthetic:Aesthetic", summary="people's ratings of pictures, predicted; no prompt",
        weights=[catalogue.AESTHETIC_HEAD, catalogue.AESTHETIC_CLIP],
    )  # fmt: skip
    registry.reward("jpeg", "steer_rewards.jpeg:Jpeg", summary="minus the size as a JPEG in kB; no prompt, no gradient")
