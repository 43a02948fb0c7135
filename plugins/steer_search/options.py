"""The declarations of the searches' options."""

from __future__ import annotations

from pydantic import model_validator

from steer import Field, Options

DEFAULT_N = 16


class Budgeted(Options):
    """What every search takes."""

    nfe: int | None = Field(
        None, ge=1, description="Denoiser evaluations a prompt that are not exceeded, guidance counted as two."
    )
    seconds: float | None = Field(
        None, gt=0, description="Seconds a prompt, on average over the prompts that are drawn together."
    )
    target: float | None = Field(None, description="A prompt is done as soon as a sample has this reward.")
    keep: int | None = Field(
        None, ge=1, description="Samples a prompt that are kept as particles; 1 where the best is chosen, else all."
    )


class IndependentOptions(Budgeted):
    """Options of ``random``, and of other searches that draw independent samples."""

    n: int | None = Field(None, ge=1, le=65_536, description="Samples per prompt at most.")


class BestOfNOptions(IndependentOptions):
    """Options of ``best-of-n``."""

    min_gain: float | None = Field(
        None,
        gt=0,
        description="A prompt is done as soon as one more sample is expected to raise its best reward by less, judged "
        "by the samples that it has.",
    )
    n: int | None = Field(
        None,
        ge=1,
        le=65_536,
        description=f"Samples a prompt; without it as many as a budget buys, else --particles, else {DEFAULT_N}.",
    )


class ZeroOrderOptions(Budgeted):
    """Options of ``zero-order``."""

    rounds: int = Field(10, ge=0, le=65_536, description="Rounds of neighbors, after the round of seeds.")
    radius: float = Field(
        0.4, gt=0, le=1, description="Share of a neighbor's noise that is new: sqrt(1-radius^2)*best + radius*new."
    )
    adapt: bool = Field(True, description="Widen the radius after a round that found a better noise, else narrow it.")


class RefineOptions(Options):
    """Options of ``refine``."""

    nfe: int | None = Field(
        None, ge=1, description="Denoiser evaluations a prompt that are not exceeded, guidance counted as two."
    )
    share: float = Field(0.5, gt=0, lt=1, description="Share of nfe that is spent on seeds; the rest refines them.")
    seeds: int | None = Field(
        None,
        ge=1,
        le=65_536,
        description=f"Samples to begin with; without it what share of nfe pays for, else {DEFAULT_N}.",
    )
    rounds: int | None = Field(
        None, ge=0, le=65_536, description="Rounds of refinement; without it as many as nfe pays for, else 4."
    )
    survivors: int = Field(4, ge=1, le=4096, description="Best samples a prompt that each round refines.")
    copies: int = Field(2, ge=1, le=4096, description="Noised copies of each survivor a round.")
    depth: float = Field(
        0.5, gt=0, le=1, description="Share of the steps that a survivor is noised back by; 1 is all but a new seed."
    )
    distinct: bool = Field(
        True, description="Keep survivors that descend from different seeds, as long as there are enough."
    )
    target: float | None = Field(None, description="A prompt is done as soon as a sample has this reward.")
    keep: int | None = Field(
        None,
        ge=1,
        description="Samples a prompt that are kept as particles; 1 where the best is chosen, else survivors.",
    )


class PruneOptions(Options):
    """Options of ``prune``."""

    particles: int = Field(
        16, ge=2, le=65_536, description="Particles a prompt at the beginning; --particles means the same."
    )
    at: tuple[float, ...] = Field(
        (0.25,), min_length=1, description="Shares of the steps after which particles are pruned, each in 0..1."
    )
    keep: float = Field(0.34, gt=0, lt=1, description="Share of the particles that each pruning keeps, rounded up.")
    lookahead: int = Field(
        0,
        ge=0,
        le=1000,
        description="Denoiser evaluations that a particle is followed for, without noise, before it is scored; 0 "
        "scores the estimate of x0.",
    )

    @model_validator(mode="after")
    def _within(self) -> PruneOptions:
        wrong = [share for share in self.at if not 0 <= share < 1]
        if wrong or list(self.at) != sorted(set(self.at)):
            raise ValueError("expected shares of the steps that grow, each at least 0 and below 1, as in at=0.2,0.5")
        return self
