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
        "carinox", description="reno is one seed and uniform weights; whatever is set beside it holds."
    )
    seeds: int | None = Field(
        None,
        ge=1,
        le=65_536,
        description="Noises a prompt that are optimized, 5, or 1 of reno; --particles is the same.",
    )
    slots: tuple[int, ...] | None = Field(
        None, description="Slots to start from instead of the first; 0,94,58,45,15 with --seed 0 are the paper's."
    )
    iterations: int = Field(50, ge=1, le=1_000_000, description="Images a seed, the first one included.")
    weights: str | None = Field(
        None,
        description="Category weights: published, uniform (reno), NAME=WEIGHT,… or a file that steer calibrate wrote.",
    )
    optimizer: Literal["sgd", "adam"] = Field("sgd", description="sgd is with Nesterov momentum.")
    lr: float | None = Field(None, gt=0, description="Learning rate; 5 of sgd, 0.05 of adam.")
    momentum: float = Field(0.9, ge=0, lt=1, description="Of sgd.")
    clip_reward: float | None = Field(0.1, gt=0, description="Largest gradient norm of one reward; none is no limit.")
    clip: float | None = Field(0.1, gt=0, description="Largest gradient norm of the sum; none is no limit.")
    clip_at: Literal["noise", "image"] = Field(
        "noise",
        description="Where one reward's gradient is clipped: at the noise, as published, or at the image, so that the "
        "sum goes back through the model once instead of once a reward.",
    )
    regularize: float = Field(0.01, ge=0, description="Weight of the norm regularizer; it is in each reward's loss.")
    select: Literal["unweighted", "weighted"] = Field(
        "unweighted", description="Which sum of the losses decides which image is best."
    )
    patience: int | None = Field(
        None, ge=1, description="A seed stops after so many iterations without a better image; none never stops."
    )
    min_gain: float = Field(1e-4, ge=0, description="What counts as better for patience, in loss.")
    nfe: int | None = Field(
        None,
        ge=1,
        description="Denoiser evaluations a prompt that are not exceeded, the last samples included; a way back counts "
        "as two, and one more with recompute.",
    )
    seconds: float | None = Field(
        None, gt=0, description="Seconds a prompt, on average over the prompts that are drawn together."
    )
    guard: str | None = Field(
        None, description="Reward that steers nothing; a seed stops when it falls, and keeps what came before."
    )
    guard_patience: int = Field(5, ge=1, description="Iterations in a row that the guard must be below its best.")
    watch: tuple[str, ...] = Field((), description="Rewards to note at every image, for the trace; they steer nothing.")
    truncate: int | None = Field(
        None, ge=1, description="Gradients go through the denoiser of the last so many steps only; none is all."
    )
    recompute: bool = Field(
        True, description="Compute activations again on the way back; false is faster and takes more memory."
    )

    @model_validator(mode="after")
    def _slots_are_seeds(self) -> CarinoxOptions:
        slots = self.slots
        if slots is None:
            return self
        if not slots or min(slots) < 0 or len(set(slots)) < len(slots):
            raise ValueError(f"slots={','.join(map(str, slots))}; expected numbers from 0 on, each once")
        if self.seeds not in (None, len(slots)):
            raise ValueError(f"seeds={self.seeds}, but slots names {len(slots)}; leave seeds out")
        return self

    @property
    def seed_count(self) -> int:
        """How many seeds a prompt has."""
        if self.slots is not None:
            return len(self.slots)
        return self.seeds if self.seeds is not None else {"carinox": 5, "reno": 1}[self.preset]

    @property
    def table(self) -> str:
        """Which table of weights holds."""
        return self.weights if self.weights is not None else {"carinox": "published", "reno": "uniform"}[self.preset]

    @property
    def rate(self) -> float:
        """The learning rate."""
        return self.lr if self.lr is not None else {"sgd": 5.0, "adam": 0.05}[self.optimizer]
