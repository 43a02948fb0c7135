"""``Conditioning``: the encoded inputs of a run's prompts, one row each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from steer.processes.rows import taking

Encoded = tuple[dict[str, Tensor], dict[str, Tensor] | None]
"""One prompt's conditioning, name to ``[1, …]``, and that of its negative prompt; ``None`` if guidance is off."""


def evaluations(guided: bool) -> int:
    """Return how many denoiser evaluations a prediction takes: with guidance, one more without the prompt."""
    return 2 if guided else 1


@dataclass(frozen=True)
class Conditioning:
    """Encoded inputs of J prompts.

    Attributes:
        cond: name to ``[J, …]``.
        uncond: the same for the empty or negative prompt, ``None`` if guidance is off.
        guidance_scale: applied by :meth:`Backbone.predict`.
    """

    cond: Mapping[str, Tensor]
    uncond: Mapping[str, Tensor] | None
    guidance_scale: float

    @property
    def guided(self) -> bool:
        """Whether there is guidance."""
        return self.uncond is not None

    @property
    def ragged(self) -> bool:
        """Whether texts have lengths of their own, in ``length`` ``[J]``. One forward cannot hold several prompts then:
        padding would make the last bits of an image depend on the other prompts."""
        return "length" in self.cond

    @property
    def evaluations(self) -> int:
        """Denoiser evaluations that one prediction takes."""
        return evaluations(self.guided)

    def rows(self, jobs: Tensor) -> Conditioning:
        """Return one row for each index into the prompts."""

        take = taking(jobs)
        cond, uncond = (
            None if tensors is None else {name: take(value) for name, value in tensors.items()}
            for tensors in (self.cond, self.uncond)
        )
        return Conditioning(cond or {}, uncond, self.guidance_scale)

    def alone(self, side: Mapping[str, Tensor]) -> Conditioning:
        """Return one of the two sides, to be predicted without guidance."""
        return Conditioning(side, None, self.guidance_scale)

    def batched(self, name: str) -> Tensor:
        """Return a tensor of both halves in the order that pipelines use: unconditional first."""
        if self.uncond is None:
            return self.cond[name]
        return torch.cat([self.uncond[name], self.cond[name]])


def stacked(rows: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """Concatenate each tensor over the prompts, ragged ones padded with zeros at the end of dimension 1."""

    def stack(tensors: list[Tensor]) -> Tensor:
        longest = max((t.shape[1] for t in tensors if t.ndim > 1), default=0)
        padded = [
            torch.cat([t, t.new_zeros(1, longest - t.shape[1], *t.shape[2:])], dim=1)
            if t.ndim > 1 and t.shape[1] < longest
            else t
            for t in tensors
        ]
        return torch.cat(padded)

    return {name: stack([row[name] for row in rows]) for name in rows[0]}
