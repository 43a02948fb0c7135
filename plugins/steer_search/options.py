"""The declarations of the searches' options."""

from __future__ import annotations

from pydantic import model_validator

from steer import Field, Options

DEFAULT_N = 16


class Budgeted(Options):
    """Options of every search."""

    nfe: int | None = Field(
        None, ge=1, description="Most denoiser evaluations per prompt; with guidance, each counts as two."
    )
    seconds: float | None = Field(
        None, gt=0, description="Seconds per prompt, averaged over the prompts that are sampled together."
    )
    target: float | None = Field(None, description="Reward at which a prompt is done.")
    keep: int | None = Field(
        None, ge=1, description="Samples per prompt to keep as particles; by default 1 if the best is chosen, else all."
    )


class IndependentOptions(Budgeted):
    """Options of ``random`` and of other searches that draw independent samples."""

    n: int | None = Field(None, ge=1, le=65_536, description="Most samples per prompt.")


class BestOfNOptions(IndependentOptions):
    """Options of ``best-of-n``."""

    min_gain: float | None = Field(
        None,
        gt=0,
        description="A prompt is done when one more sample is expected to raise its best reward by less than this, "
        "judging from its samples so far.",
    )
    n: int | None = Field(
        None,
        ge=1,
        le=65_536,
        description=f"Samples per prompt; by default as many as the budget allows, else --particles, else {DEFAULT_N}.",
    )


class ZeroOrderOptions(Budgeted):
    """Options of ``zero-order``."""

    rounds: int = Field(10, ge=0, le=65_536, description="Rounds of neighbors after the round of seeds.")
    radius: float = Field(
        0.4, gt=0, le=1, description="Share of new noise in a neighbor: sqrt(1-radius^2)*best + radius*new."
    )
    adapt: bool = Field(
        True, description="Widen the radius after a round that found a better noise; otherwise narrow it."
    )


class RefineOptions(Options):
    """Options of ``refine``."""

    nfe: int | None = Field(
        None, ge=1, description="Most denoiser evaluations per prompt; with guidance, each counts as two."
    )
    share: float = Field(0.5, gt=0, lt=1, description="Share of nfe to spend on seeds; the rest refines them.")
    seeds: int | None = Field(
        None,
        ge=1,
        le=65_536,
        description=f"Samples to begin with; by default as many as share of nfe allows, else {DEFAULT_N}.",
    )
    rounds: int | None = Field(
        None, ge=0, le=65_536, description="Rounds of refinement; by default as many as nfe allows, else 4."
    )
    survivors: int = Field(4, ge=1, le=4096, description="Best samples per prompt that each round refines.")
    copies: int = Field(2, ge=1, le=4096, description="Noised copies of each survivor per round.")
    depth: float = Field(
        0.5,
        gt=0,
        le=1,
        description="Share of the steps that are undone by noise and sampled again; 1 is almost a new seed.",
    )
    distinct: bool = Field(True, description="Prefer survivors that descend from different seeds.")
    target: float | None = Field(None, description="Reward at which a prompt is done.")
    keep: int | None = Field(
        None,
        ge=1,
        description="Samples per prompt to keep as particles; by default 1 if the best is chosen, else survivors.",
    )


class DraftOptions(Options):
    """Options of ``draft``."""

    n: int | None = Field(
        None,
        ge=1,
        le=65_536,
        description=f"Drafts per prompt; by default as many as nfe allows, else --particles, else {DEFAULT_N}.",
    )
    nfe: int | None = Field(
        None,
        ge=1,
        description="Most denoiser evaluations per prompt, redoing included; with guidance, each counts as two, and "
        "one that reuses features as the share that it computes.",
    )
    keep: int = Field(2, ge=1, le=4096, description="Best drafts per prompt that are redone in full.")
    cache: int | None = Field(
        None,
        ge=1,
        le=1000,
        description="Compute every so many steps of a draft in full and reuse deep features in between; by default 3, "
        "or 1 (no cache) if steps are given.",
    )
    steps: int | None = Field(None, ge=1, description="Steps of a draft; by default those of the sample.")


class SelectionOptions(Options):
    """Options of methods that let only the best particles go on."""

    particles: int = Field(
        16, ge=2, le=65_536, description="Particles per prompt at the beginning; --particles means the same."
    )
    at: tuple[float, ...] = Field(
        (0.25,), min_length=1, description="Shares of the steps after which to select particles, each below 1."
    )
    lookahead: int = Field(
        0,
        ge=0,
        le=1000,
        description="Denoiser evaluations to denoise a particle further, without noise, before it is scored; 0 scores "
        "the estimate of x0.",
    )

    @model_validator(mode="after")
    def _within(self) -> SelectionOptions:
        if not all(0 <= share < 1 for share in self.at) or list(self.at) != sorted(set(self.at)):
            raise ValueError("expected increasing shares of the steps, each at least 0 and below 1, such as at=0.2,0.5")
        return self


class PruneOptions(SelectionOptions):
    """Options of ``prune``."""

    keep: float = Field(0.34, gt=0, lt=1, description="Share of the particles that each pruning keeps, rounded up.")


class BeamOptions(SelectionOptions):
    """Options of ``beam``."""

    at: tuple[float, ...] = Field(
        (0.25, 0.5), min_length=1, description="Shares of the steps after which to select particles, each below 1."
    )
    width: float = Field(
        0.25,
        gt=0,
        le=1,
        description="Particles after a selection, as a share of those at the beginning, rounded up; never fewer than "
        "the copies of one.",
    )
    copies: int = Field(2, ge=1, le=4096, description="Copies in which each selected particle goes on.")
