"""The recipe of a distillation run."""

from dataclasses import dataclass

from steer import SteerError
from steer.training import TrainingRecipe, warmup_cosine

DEFAULT_TIMESTEPS = {1: (399,), 2: (999, 499), 4: (999, 749, 499, 249)}
"""Timesteps by number of steps; those for 1 and 4 are as published for SDXL."""


@dataclass(frozen=True, kw_only=True)
class Recipe(TrainingRecipe):
    """All settings of a run.

    Attributes:
        teacher: model name, folder or hub id.
        data: the value of ``--data``.
        timesteps: the student's, highest first; one per step.
        guidance_scale: of the teacher; 0 means the model's own.
        start: folder of a student to start from instead of the teacher's weights.
        steps: updates of the student by distribution matching.
        ratio: critic updates per student update (two time scales).
        rate: the student's learning rate.
        critic_rate: the critic's and head's.
        gan: weight of the adversarial loss in the student's loss; 0 leaves it out.
        gan_critic: weight of the adversarial loss in the critic's loss.
        pixel_gan: weight of the GAN on decoded images: norm of its gradient by the student's samples, over that of
            distribution matching; 0 leaves it out.
        pixel_gan_rate: learning rate of its discriminator.
        pixel_gan_trunk: registered image features that the discriminator begins from; by default it begins afresh.
        simulate: whether multi-step students train on their own inputs (backward simulation).
        lora: rank of a LoRA to train instead of all weights; 0 trains all weights.
        critic_lora: the same for the critic.
        warmup: initial updates by regression on pairs of noise and the teacher's sample.
        pairs: number of these pairs.
        pair_steps: the teacher's steps per pair.
        warmup_rate: learning rate of the regression.
        critic_warmup: critic updates between regression and distribution matching.
        snr_clip: min-SNR weighting of the critic's loss; 0 leaves it out.
        width, height: image size in pixels; the model's own by default.
    """

    teacher: str
    data: str
    timesteps: tuple[int, ...]
    guidance_scale: float = 0.0
    start: str | None = None
    steps: int = 2000
    ratio: int = 5
    batch: int = 32
    rate: float = 1e-5
    critic_rate: float = 1e-5
    gan: float = 5e-3
    gan_critic: float = 1e-2
    pixel_gan: float = 0.0
    pixel_gan_rate: float = 3e-4
    pixel_gan_trunk: str | None = None
    simulate: bool = True
    lora: int = 0
    critic_lora: int = 0
    ema: float = 0.99
    warmup: int = 0
    pairs: int = 0
    pair_steps: int = 20
    warmup_rate: float = 1e-5
    critic_warmup: int = 0
    snr_clip: float = 0.0
    width: int | None = None
    height: int | None = None

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
        """Return the student's learning rate: in each phase a short warm-up, then a cosine down to 1/20."""
        if step < self.warmup:
            return _rate(step, self.warmup, self.warmup_rate)
        return _rate(step - self.warmup - self.critic_warmup, self.steps, self.rate)

    def check(self) -> None:
        """Check that the settings do not contradict each other; the teacher does not matter.

        Raises:
            SteerError: naming the options that do.
        """
        if self.precision == "fp16":
            raise SteerError("--precision fp16 cannot train dmd2, whose losses share one scale; use bf16")
        steps = len(self.timesteps)
        if self.batch % steps:
            near = max(1, self.batch // steps) * steps
            raise SteerError(
                f"--batch {self.batch}: expected a multiple of the student's {steps} steps, such as {near}"
            )
        if self.warmup and not self.pairs:
            raise SteerError("--warmup trains on pairs from the teacher; set --pairs as well")
        if self.pixel_gan_trunk is not None and not self.pixel_gan:
            raise SteerError("--pixel-gan-trunk is for the discriminator of --pixel-gan; set --pixel-gan, such as to 1")
        if self.lora and self.start is not None:
            raise SteerError(
                "--lora with --start: only the LoRA is saved, to be used with the teacher's own weights, so the "
                "starting student's training would be lost; leave one of the two out"
            )


def _rate(step: int, steps: int, peak: float) -> float:
    return warmup_cosine(step, steps=steps, warmup=min(25, max(1, steps // 10)), peak=peak, floor=0.05)
