"""Accounts of a run's cost, in total and per prompt."""

import torch
from torch import Tensor

from steer.results.cost import Cost, exact


class Books:
    """Counts a run's work. Budgets are per prompt, so that none depends on the other prompts of the pack.

    Attributes:
        cost: of all prompts together.
        spent: float64 ``[J]``, the part of each prompt in :attr:`Cost.forwards`.
    """

    def __init__(self, prompts: int) -> None:
        """Args: prompts: J."""
        self.cost = Cost()
        self.spent = torch.zeros(prompts, dtype=torch.float64)

    def predicted(self, job: Tensor, evaluations: int, padding: int, share: float = 1.0) -> None:
        """Count denoiser evaluations.

        Args:
            job: ``[N]``, the prompt of each row.
            evaluations: per row.
            padding: rows that filled chunks up.
            share: of an evaluation's work that was done, if a cache did the rest.
        """
        done = exact(evaluations * share)
        self.cost.nfe += len(job) * done
        self.cost.padding += padding * done
        self.spent += done * self._rows(job)

    def went_back(self, job: Tensor, evaluations: int, *, recomputed: bool) -> None:
        """Count evaluations per row that a gradient was pulled through, and whether each was recomputed for it."""
        again = evaluations if recomputed else 0
        self.cost.backwards += len(job) * evaluations
        self.cost.recomputed += len(job) * again
        self.spent += (2 * evaluations + again) * self._rows(job)

    def scored(self, *, decodes: int, rewards: int) -> None:
        """Count samples decoded and samples scored."""
        self.cost.decodes += decodes
        self.cost.reward_calls += rewards

    def _rows(self, job: Tensor) -> Tensor:
        return torch.bincount(job, minlength=len(self.spent))
