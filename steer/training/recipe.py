"""``TrainingRecipe``: all that decides the weights; ``Watch``: steps between checkpoints, sheets and log rows."""

from dataclasses import dataclass
from typing import ClassVar


@dataclass(frozen=True, kw_only=True)
class TrainingRecipe:
    """Everything that decides the weights; a training adds fields of its own.

    Attributes:
        steps: steps of the training; each may be several updates.
        batch: rows per forward and process.
        rate: peak learning rate.
        accumulate: batches whose gradients make one update.
        ema: decay of the averaged weights per step, in [0, 1).
        clip: largest norm of a gradient; larger ones are scaled down to it.
        precision: mixed precision of the forwards: ``"no"``, ``"bf16"`` or ``"fp16"``.
        adam_bits: of the optimizer's averages, 32 or 8.
        seed: of all randomness.
    """

    free: ClassVar[tuple[str, ...]] = ("steps", "precision")
    """Fields that may differ when a run is resumed: the number of steps and the precision."""

    steps: int
    batch: int
    rate: float
    accumulate: int = 1
    ema: float = 0.999
    clip: float = 1.0
    precision: str = "no"
    adam_bits: int = 32
    seed: int = 0

    @property
    def total(self) -> int:
        """Total steps of the loop."""
        return self.steps


@dataclass(frozen=True)
class Watch:
    """Steps between checkpoints, between sample sheets and between rows of the log; they do not change the weights."""

    save_every: int = 250
    sheet_every: int = 500
    log_every: int = 20
