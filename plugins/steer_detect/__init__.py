"""Rewards over detected objects, and GenEval's rules (arXiv 2310.11513)."""

from steer import hookimpl
from steer.plugin import Registry


@hookimpl
def steer_register(registry: Registry) -> None:
    """Register the rewards; nothing is imported yet."""
    registry.reward(
        "objects", "steer_detect.rewards:Objects", summary="are the asked objects there? a detector's confidence, 0..1",
        weights="steer_detect.catalog:detector",
    )  # fmt: skip
    registry.reward(
        "count", "steer_detect.rewards:Count", summary="are there as many as asked? by a detector, 0..1",
        weights="steer_detect.catalog:detector",
    )  # fmt: skip
    registry.reward(
        "positions", "steer_detect.rewards:Positions", summary="are they left of, right of, above or below? 0..1",
        weights="steer_detect.catalog:detector",
    )  # fmt: skip
    registry.reward(
        "colors", "steer_detect.rewards:ObjectColors", summary="do detected objects have the asked colors? 0..1",
        weights="steer_detect.catalog:with_colors",
    )  # fmt: skip
    registry.reward(
        "geneval", "steer_detect.rewards:GenEval", summary="GenEval's verdict on detected objects, 0 or 1",
        weights="steer_detect.catalog:with_colors",
    )  # fmt: skip
    registry.reward(
        "compbench-2d", "steer_detect.compbench_rewards:Flat", summary="T2I-CompBench's score of 2D relations, 0..1",
        weights="steer_detect.catalog:open_vocabulary",
    )  # fmt: skip
    registry.reward(
        "compbench-3d", "steer_detect.compbench_rewards:Deep", summary="T2I-CompBench++'s score of 3D relations, 0..1",
        weights="steer_detect.catalog:with_depth",
    )  # fmt: skip
    registry.reward(
        "compbench-numeracy", "steer_detect.compbench_rewards:Numeracy",
        summary="T2I-CompBench++'s score of numbers, 0..1", weights="steer_detect.catalog:open_vocabulary",
    )  # fmt: skip
