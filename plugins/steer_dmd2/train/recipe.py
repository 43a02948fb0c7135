"""What a distillation run does: its recipe, kept beside its checkpoints."""

from __future__ import annotations

import json
import math
import os
from dataclasses import asdict, dataclass
from pathlib import Path

from steer import SteerError
from steer.training import check_begins, check_same, write_whole

DEFAULT_TIMESTEPS = {1: (399,), 2: (999, 499), 4: (999, 749, 499, 249)}
"""By number of steps, as published for SDXL (1 and 4)."""


FILE = "recipe.json"


@dataclass(frozen=True)
class Recipe:
    """Every choice of a run.

    Attributes:
        teacher: model name, folder or hub id.
        data: what was given as data.
        timesteps: the student's, highest first; as many as it takes steps.
        start: folder of a student to begin from instead of the teacher's weights.
        guidance_scale: of the teacher; 0 is the model's own.
        steps: updates of the student by distribution matching.
        ratio: critic updates a student update (two time scales).
        batch: rows an update and process.
        accumulate: updates are summed over so many batches.
        rate: the student's learning rate.
        critic_rate: the critic's and head's.
        gan: weight of the adversarial loss in the student's; 0 leaves it out.
        gan_critic: weight of the adversarial loss in the critic's.
        simulate: whether multi-step students train on inputs that they made themselves (backward simulation).
        lora: rank of a LoRA that is trained instead of all weights; 0 is all weights.
        ema: decay of the averaged student, which is what is kept.
        warmup: updates by regression on pairs of noise and the teacher's sample, before all else.
        pairs: how many such pairs.
        pair_steps: the teacher's steps for a pair.
        warmup_rate: learning rate of the regression.
        critic_warmup: critic updates between regression and distribution matching.
        snr_clip: min-SNR weighting of the critic's loss; 0 leaves it out.
        width, height: image size in pixels; the model's own by default.
        precision: ``"no"`` or ``"bf16"``.
        seed: of all randomness.
    """

    teacher: str
    data: str
    timesteps: tuple[int, ...]
    guidance_scale: float = 0.0
    start: str | None = None
    steps: int = 2000
    ratio: int = 5
    batch: int = 32
    accumulate: int = 1
    rate: float = 1e-5
    critic_rate: float = 1e-5
    gan: float = 5e-3
    gan_critic: float = 1e-2
    simulate: bool = True
    lora: int = 0
    ema: float = 0.99
    warmup: int = 0
    pairs: int = 0
    pair_steps: int = 20
    warmup_rate: float = 1e-5
    critic_warmup: int = 0
    snr_clip: float = 0.0
    width: int | None = None
    height: int | None = None
    precision: str = "no"
    seed: int = 0

    @property
    def total(self) -> int:
        """Steps of all three phases: regression, critic alone, distribution matching."""
        return self.warmup + self.critic_warmup + self.steps

    def phase(self, step: int) -> str:
        """Return ``"regression"``, ``"critic"`` or ``"matching"``."""
        if step < self.warmup:
            return "regression"
        return "critic" if step < self.warmup + self.critic_warmup else "matching"

    def rate_at(self, step: int) -> float:
        """Return the student's learning rate: in each phase a short ramp, then a cosine down to a twentieth."""
        if step < self.warmup:
            return self.warmup_rate * _shape(step, self.warmup)
        return self.rate * _shape(step - self.warmup - self.critic_warmup, self.steps)


def _shape(step: int, steps: int) -> float:
    ramp = min(25, max(1, steps // 10))
    if step < ramp:
        return (step + 1) / ramp
    return 0.05 + 0.95 * 0.5 * (1 + math.cos(math.pi * (step - ramp) / max(1, steps - ramp)))


def check_resumes(out: Path, *, resume: bool) -> None:
    """Check that ``out`` can be written to, and holds no run yet or, on resuming, one.

    Raises:
        SteerError: saying which of these it is not.
    """
    standing = next((parent for parent in (out, *out.absolute().parents) if parent.exists()), out)
    if not standing.is_dir() or not os.access(standing, os.W_OK):
        raise SteerError(f"--out {out} cannot be written to; choose another")
    check_begins(out / FILE, resume=resume)


def check_recipe(recipe: Recipe, out: Path) -> None:
    """Check that the run in ``out``, if there is one, is by this recipe.

    Raises:
        SteerError: naming what differs.
    """
    path = out / FILE
    if not path.is_file():
        return
    try:
        theirs = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(theirs, dict):
            raise ValueError(f"a JSON {type(theirs).__name__} where an object was expected")
    except (OSError, ValueError, RecursionError) as error:
        raise SteerError(f"{path} cannot be read ({error}); choose another --out") from None
    # a longer or shorter run is the same run: only its learning rates change from here on
    check_same(theirs, asdict(recipe), out, but=("steps",))


def keep(recipe: Recipe, out: Path) -> None:
    """Write the recipe beside the checkpoints."""
    text = json.dumps(asdict(recipe), indent=1) + "\n"
    write_whole(out / FILE, lambda path: path.write_text(text, encoding="utf-8"))
