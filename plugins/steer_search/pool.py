"""The pool of a search: the samples that it keeps."""

import torch
from torch import Tensor

from steer import State
from steer.plugin import Event, Run


class Pool:
    """Finished samples by reward; only the best are kept, so memory does not grow with the rounds."""

    def __init__(self, run: Run, keep: int | None, *, distinct: bool = False) -> None:
        """Args:
        run: the run of the search.
        keep: rows per prompt; ``None`` means one if the best is chosen, else all.
        distinct: keep the best sample of each seed before a second one of any seed.
        """
        self._distinct = distinct
        self._keep = keep if keep is not None else (1 if run.choose == "best" else None)
        self._events: list[Event] = []
        self._states: list[State] = []
        self._best: dict[int, float] = {}

    @property
    def state(self) -> State:
        """The kept rows; the events include every candidate."""
        state = State.joined(self._states)
        state.events = [*self._events]
        return state

    def best(self, job: int) -> float:
        """Return a prompt's best reward so far."""
        return self._best.get(job, float("-inf"))

    def add(self, state: State, origin: str, spent: list[float]) -> Tensor:
        """Add a finished round.

        Args:
            origin: how its samples were made.
            spent: evaluations spent by each row's prompt.

        Returns:
            The rewards, float64 ``[N]`` on the CPU.
        """
        rewards = state.rewards()
        candidates = Event.candidates(
            state.origin, state.steps, origin=[origin] * len(state), reward=rewards.tolist(), spent=spent
        )
        self._events += [*state.events, candidates]
        state.events = []
        for job, reward in zip(state.job.tolist(), rewards.tolist(), strict=True):
            self._best[job] = max(self.best(job), reward)
        self._states.append(state)
        if self._keep is not None:
            self.pruned(state, self._keep)
            self._states = [self.pruned(State.joined(self._states), self._keep)]
        return rewards

    def pruned(self, state: State, keep: int) -> State:
        """Keep each prompt's best rows; in a tie, the first rows win."""
        rewards = state.rewards()
        kept = []
        for job in state.job.unique().tolist():
            rows = state.rows_of(job)
            rows = best_first(rows, rewards)
            if self._distinct:
                rows = _new_ones_first(rows, state.ancestors)
            kept.append(rows[:keep])
        rows = torch.cat(kept)
        if len(rows) < len(state):
            state.keep(rows)
        return state


def best_first(rows: Tensor, rewards: Tensor) -> Tensor:
    """Return a prompt's rows sorted by reward, best first; ties keep their order.

    Args:
        rows: int64 ``[M]``, indices of its particles.
        rewards: ``[N]``, of all particles.
    """
    return rows[torch.argsort(rewards[rows], descending=True, stable=True)]


def _new_ones_first(rows: Tensor, lineage: Tensor) -> Tensor:
    """Reorder rows so that the first row of each lineage comes before all others."""
    seen: set[int] = set()
    first: list[int] = []
    others: list[int] = []
    for row in rows.tolist():
        (others if int(lineage[row]) in seen else first).append(row)
        seen.add(int(lineage[row]))
    return torch.tensor([*first, *others], dtype=torch.int64)
