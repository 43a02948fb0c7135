"""The pool of a search: what it keeps of its rounds."""

from __future__ import annotations

import torch
from torch import Tensor

from steer import State
from steer.run import Run
from steer.state import Event


class Pool:
    """Finished samples by reward; only the best are held, so that memory does not grow with the rounds."""

    def __init__(self, run: Run, keep: int | None) -> None:
        """Args: keep: rows a prompt; ``None`` is one where the best is chosen, else all."""
        self._keep = keep if keep is not None else (1 if run.choose == "best" else None)
        self._events: list[Event] = []
        self._states: list[State] = []
        self._best: dict[int, float] = {}

    @property
    def state(self) -> State:
        """The rows kept, with every candidate among the events."""
        state = State.joined(self._states)
        state.events = [*self._events]
        return state

    def best(self, job: int) -> float:
        """Return a prompt's best reward so far."""
        return self._best.get(job, float("-inf"))

    def add(self, state: State, origin: str, spent: list[int]) -> Tensor:
        """Take a finished round in.

        Args:
            state: its population.
            origin: where its samples come from.
            spent: what each row's prompt has spent.

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
            self._pruned(state, self._keep)
            self._states = [self._pruned(State.joined(self._states), self._keep)]
        return rewards

    @staticmethod
    def _pruned(state: State, keep: int) -> State:
        """Keep each prompt's best rows; of equal ones the first."""
        rewards = state.rewards()
        kept = []
        for job in state.job.unique().tolist():
            rows = state.rows_of(job)
            order = torch.argsort(rewards[rows], descending=True, stable=True)
            kept.append(rows[order[:keep]])
        rows = torch.cat(kept)
        if len(rows) < len(state):
            state.select(rows)
        return state
