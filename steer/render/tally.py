"""Counting a render's progress: rate, time left, failures, rewards."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

WINDOW = 60.0
"""Seconds over which the rate is averaged."""


@dataclass(frozen=True)
class Progress:
    """The progress of a render.

    Attributes:
        done: prompts done in this session.
        failed: prompts failed in this session.
        total: prompts of this session.
        images: images written in this session.
        images_per_second: the recent rate; 0 before the first.
        seconds_left: ``None`` before the first.
        mean_reward: over the chosen images; ``None`` without a reward.
        best_reward: over the chosen images; ``None`` without a reward.
    """

    done: int
    failed: int
    total: int
    images: int
    images_per_second: float
    seconds_left: float | None
    mean_reward: float | None
    best_reward: float | None


class Tally:
    """Counts outcomes as they come."""

    def __init__(self, total: int, clock: Callable[[], float] = time.monotonic) -> None:
        """Args: total: prompts to come; clock: seconds, for tests."""
        self.total = total
        self.done = self.failed = self.images = 0
        self._clock = clock
        self._began = clock()
        self._recent: deque[tuple[float, int, int]] = deque([(self._began, 0, 0)])
        self._sum, self._scored, self._best = 0.0, 0, float("-inf")

    def add_done(self, row: Mapping[str, Any]) -> None:
        """Count a finished prompt by its line of the journal."""
        self.done += 1
        self.images += len(row["files"])
        if row["reward"] is not None:
            self._sum += row["reward"]
            self._scored += 1
            self._best = max(self._best, row["reward"])
        self._tick()

    def add_failed(self) -> None:
        """Count a prompt that failed."""
        self.failed += 1
        self._tick()

    @property
    def progress(self) -> Progress:
        """The progress now."""
        began, prompts, images = self._recent[0]
        seconds = self._clock() - began
        settled = self.done + self.failed
        rate = (settled - prompts) / seconds if seconds > 0 else 0.0
        return Progress(
            done=self.done,
            failed=self.failed,
            total=self.total,
            images=self.images,
            images_per_second=(self.images - images) / seconds if seconds > 0 else 0.0,
            seconds_left=(self.total - settled) / rate if rate > 0 else None,
            mean_reward=self._sum / self._scored if self._scored else None,
            best_reward=self._best if self._scored else None,
        )

    @property
    def seconds(self) -> float:
        """Seconds since the beginning."""
        return self._clock() - self._began

    def _tick(self) -> None:
        now = self._clock()
        self._recent.append((now, self.done + self.failed, self.images))
        # packs come in bursts: the window reaches back over at least one before the newest
        while len(self._recent) > 2 and self._recent[1][0] <= now - WINDOW:
            self._recent.popleft()
