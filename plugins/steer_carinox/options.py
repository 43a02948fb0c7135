"""The one declaration of CARINOX's options."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal

from pydantic import model_validator

from steer import Field, Options


class CarinoxOptions(Options):
    """Options of ``carinox``; defaults are the paper's."""

    renamed: ClassVar[Mapping[str, str]] = {"regularise": "regularize"}

    preset: Literal["carinox", "reno"] = Field(
        "carinox", description="reno means one seed and uniform weights; options that are set explicitly override it."
    )
    seeds: int | None = Field(
        None,
        ge=1,
        le=65_536,
        description="Noises per prompt to optimize; 5 by default, 1 for reno. --particles means the same.",
    )
    slots: tuple[int, ...] | None = Field(
        None, description="Slots to start from, instead of the first ones; the paper uses 0,94,58,45,15 with --seed 0."
    )
    explore: int | None = Field(
        None,
        ge=1,
        le=65_536,
        description="Plain samples per prompt to draw first; the best of them, by the unweighted sum, are the seeds.",
    )
    iterations: int = Field(50, ge=1, le=1_000_000, description="Images per seed, including the first one.")
    weights: str | None = Field(
        None,
        description="Category weights: published, uniform (reno), NAME=WEIGHT,… or a file written by steer calibrate.",
    )
    optimizer: Literal["sgd", "adam"] = Field("sgd", description="Optimizer; sgd uses Nesterov momentum.")
    lr: float | None = Field(None, gt=0, description="Learning rate; by default 5 for sgd and 0.05 for adam.")
    momentum: float = Field(0.9, ge=0, lt=1, description="Momentum of sgd.")
    clip_reward: float | None = Field(0.1, gt=0, description="Largest gradient norm of one reward; none sets no limit.")
    clip: float | None = Field(0.1, gt=0, description="Largest gradient norm of the sum; none sets no limit.")
    clip_at: Literal["noise", "image"] = Field(
        "noise",
        description="Where each reward's gradient is clipped: at the noise, as published; or at the image, which needs "
        "one backward pass through the model instead of one per reward.",
    )
    regularize: float = Field(
        0.01, ge=0, description="Weight of the norm regularizer, which is part of each reward's loss."
    )
    select: Literal["unweighted", "weighted"] = Field(
        "unweighted", description="Which sum of the losses chooses the best image."
    )
    patience: int | None = Field(
        None, ge=1, description="Iterations without a better image after which a seed stops; none never stops."
    )
    min_gain: float = Field(1e-4, ge=0, description="Smallest drop in loss that patience counts as better.")
    nfe: int | None = Field(
        None,
        ge=1,
        description="Most denoiser evaluations per prompt, including the last samples; a backward pass counts as two, "
        "and as three with recompute.",
    )
    seconds: float | None = Field(
        None, gt=0, description="Seconds per prompt, averaged over the prompts that are sampled together."
    )
    guard: str | None = Field(
        None,
        description="Reward that does not steer; a seed stops when this reward falls, and keeps its best image before "
        "that.",
    )
    guard_patience: int = Field(
        5, ge=1, description="Iterations in a row below its best after which the guard stops a seed."
    )
    watch: tuple[str, ...] = Field((), description="Rewards to record in the trace for every image; they do not steer.")
    truncate: int | None = Field(
        None, ge=1, description="Number of last steps whose denoiser passes gradients; none means all steps."
    )
    recompute: bool = Field(
        True, description="Recompute activations in the backward pass; false is faster and needs more memory."
    )

    @model_validator(mode="after")
    def _slots_are_seeds(self) -> CarinoxOptions:
        slots = self.slots
        if self.explore is not None and slots is not None:
            raise ValueError("explore chooses the slots; leave slots out")
        if slots is None:
            return self
        if not slots or min(slots) < 0 or len(set(slots)) < len(slots):
            raise ValueError(f"slots={','.join(map(str, slots))}; expected distinct numbers of at least 0")
        if self.seeds not in (None, len(slots)):
            raise ValueError(f"seeds={self.seeds}, but slots names {len(slots)}; leave seeds out")
        return self

    @property
    def seed_count(self) -> int:
        """Seeds per prompt."""
        if self.slots is not None:
            return len(self.slots)
        return self.seeds if self.seeds is not None else {"carinox": 5, "reno": 1}[self.preset]

    @property
    def table(self) -> str:
        """The name of the table of weights."""
        return self.weights if self.weights is not None else {"carinox": "published", "reno": "uniform"}[self.preset]

    @property
    def rate(self) -> float:
        """The learning rate."""
        return self.lr if self.lr is not None else {"sgd": 5.0, "adam": 0.05}[self.optimizer]
