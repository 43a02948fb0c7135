"""The state of each seed across iterations: its best noise, its plateau, its guard."""

import torch
from torch import Tensor


class Tracker:
    """The best image of every row so far, and which rows should stop.

    Attributes:
        noise: ``[N, …]``, each row's noise with the lowest loss so far.
        loss: float64 ``[N]``, that loss; infinite while a row has none.
        iteration: int64 ``[N]``, the iteration of that noise.
    """

    def __init__(self, noise: Tensor, *, patience: int | None, min_gain: float, guard_patience: int | None) -> None:
        """Args: noise: initial noises; patience, min_gain: of the loss; guard_patience: ``None`` without a guard."""
        count = len(noise)
        self.noise = noise.clone()
        self.loss = torch.full((count,), torch.inf, dtype=torch.float64)
        self.iteration = torch.zeros(count, dtype=torch.int64)
        self._patience, self._min_gain, self._guard_patience = patience, min_gain, guard_patience
        self._mark = self.loss.clone()
        self._since = torch.zeros(count, dtype=torch.int64)
        # with a guard, later noises count only once the guard is back at its best
        self._trial_noise, self._trial_loss = self.noise.clone(), self.loss.clone()
        self._trial_iteration = self.iteration.clone()
        self._guard = torch.full((count,), -torch.inf, dtype=torch.float64)
        self._below = torch.zeros(count, dtype=torch.int64)

    def see(self, rows: Tensor, noise: Tensor, loss: Tensor, guard: Tensor | None, iteration: int) -> Tensor:
        """Record an iteration.

        Args:
            rows: which rows were evaluated, int64 ``[A]``.
            noise: their noises ``[A, …]``.
            loss: their losses, float64 ``[A]``; one that is not finite is ignored.
            guard: their guard scores, float64 ``[A]``.
            iteration: from 0.

        Returns:
            Which of them continue, bool ``[A]``.
        """
        better = loss < self._trial_loss[rows]
        self._put(rows[better], noise[better.to(noise.device)], loss[better], iteration)
        gained = loss < self._mark[rows] - self._min_gain
        self._mark[rows[gained]] = loss[gained]
        self._since[rows] = torch.where(gained, 0, self._since[rows] + 1)
        going = torch.ones(len(rows), dtype=torch.bool)
        if self._patience is not None:
            going &= self._since[rows] < self._patience
        if guard is None:
            self._settle(rows)
        else:
            going &= self._watch(rows, guard)
        return going

    def _watch(self, rows: Tensor, guard: Tensor) -> Tensor:
        assert self._guard_patience is not None
        at_best = guard >= self._guard[rows]
        self._guard[rows] = torch.maximum(self._guard[rows], guard)
        self._below[rows] = torch.where(at_best, 0, self._below[rows] + 1)
        self._settle(rows[at_best])
        return self._below[rows] < self._guard_patience

    def _put(self, rows: Tensor, noise: Tensor, loss: Tensor, iteration: int) -> None:
        self._trial_noise[rows.to(noise.device)] = noise
        self._trial_loss[rows], self._trial_iteration[rows] = loss, iteration

    def _settle(self, rows: Tensor) -> None:
        where = rows.to(self.noise.device)
        self.noise[where] = self._trial_noise[where]
        self.loss[rows], self.iteration[rows] = self._trial_loss[rows], self._trial_iteration[rows]
