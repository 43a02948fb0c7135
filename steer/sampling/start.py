"""``Start``: the rows of a fresh population, that is the slots of each prompt, their seeds and their noise."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from steer.prompts.prompt import Prompt


@dataclass(frozen=True)
class Job:
    """A prompt of a run with its seed."""

    prompt: Prompt
    seed: int


@dataclass(frozen=True)
class Start:
    """The rows of a new population.

    Attributes:
        job: int64 ``[N]`` on the CPU, the index of each row's prompt, ascending.
        slot: int64 ``[N]`` on the CPU; no prompt has a slot twice.
        noise: ``[N, …]`` standard normal initial noise; ``None`` takes that of the slots' own streams.
        stream: int64 ``[N]``, the slots whose streams the transitions draw from; ``None`` takes the rows' own. A search
            that walks through noises keeps the stream of its first one, so that a small step changes little.
        draw: number of the search's population, from 0; part of the key of a method's own randomness.
    """

    job: Tensor
    slot: Tensor
    noise: Tensor | None = None
    stream: Tensor | None = None
    draw: int = 0

    @classmethod
    def of(cls, jobs: Sequence[int], slots: Sequence[int], *, draw: int = 0) -> Start:
        """Return the given slots of each of the given prompts."""
        job = torch.tensor(jobs, dtype=torch.int64).repeat_interleave(len(slots))
        return cls(job, torch.tensor(slots, dtype=torch.int64).repeat(len(jobs)), draw=draw)

    def __len__(self) -> int:
        return len(self.slot)

    @property
    def streams(self) -> Tensor:
        """The slots whose streams are drawn from, ``[N]``."""
        return self.slot if self.stream is None else self.stream

    def take(self, rows: Tensor) -> Start:
        """Return the given rows, which may repeat."""

        def rows_of(value: Tensor | None) -> Tensor | None:
            return None if value is None else value[rows.to(value.device)]

        return replace(
            self, job=self.job[rows], slot=self.slot[rows], noise=rows_of(self.noise), stream=rows_of(self.stream)
        )

    def with_noise(self, noise: Tensor) -> Start:
        """Return the same rows with the given noise ``[N, …]``."""
        return replace(self, noise=noise)


class Slots:
    """The used slots of each prompt, so that fresh ones can be given out."""

    def __init__(self, prompts: int) -> None:
        """Args: prompts: how many there are."""
        self._next = [0] * prompts
        self._draws = 0

    def take(self, start: Start) -> None:
        """Mark the slots of a population, and all below them, as used."""
        for job, slot in zip(start.job.tolist(), start.slot.tolist(), strict=True):
            self._next[job] = max(self._next[job], slot + 1)

    def fresh(self, job: int) -> int:
        """Return an unused slot of a prompt."""
        slot = self._next[job]
        self._next[job] += 1
        return slot

    def start(self, jobs: Sequence[int], count: int) -> Start:
        """Return the start of a search's next population: ``count`` fresh slots of each prompt."""
        self._draws += 1
        slots = torch.tensor([[self.fresh(job) for _ in range(count)] for job in jobs], dtype=torch.int64)
        job = torch.tensor(jobs, dtype=torch.int64).repeat_interleave(count)
        return Start(job, slots.flatten(), draw=self._draws)
