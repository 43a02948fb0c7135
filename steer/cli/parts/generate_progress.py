"""Progress of ``steer generate`` and ``steer replay``: a bar that observes runs, and what Ctrl-C keeps."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import click

from steer.cli.parts.bars import Bar
from steer.cli.parts.interrupt import Interrupt
from steer.registry.registration import hookimpl
from steer.sampling.run import Run
from steer.sampling.start import Job
from steer.sampling.state import State


class ProgressBar(Bar):
    """Shows prompts, step, time left and the best reward so far on a terminal; silent elsewhere.

    Use as a context manager and give it to a run as an observer.
    """

    def __init__(self, prompts: int, label: str) -> None:
        """Args: prompts: how many will be rendered; label: text before the bar."""
        super().__init__(label)
        self._prompts = prompts
        self._best: float | None = None
        self._seen_events = 0
        self._jobs: tuple[Job, ...] = ()
        self._finished = 0
        self._round, self._share = "", 0.0
        self.note("loading")

    @hookimpl(wrapper=True)
    def begin(self, state: State) -> Generator[None, Any, Any]:
        """Begin to show a pack."""
        result = yield
        self._seen_events = 0
        self._enter(state.jobs)
        return result

    @hookimpl(wrapper=True)
    def after_step(self, state: State) -> Generator[None, Any, Any]:
        """Show the pack's step and the best reward so far."""
        result = yield
        for event in state.events[self._seen_events :]:
            if event.kind == "reward":
                top = max(event.data["reward"])
                self._best = top if self._best is None else max(self._best, top)
        self._seen_events = len(state.events)
        best = "" if self._best is None else f", best reward {self._best:.3f}"
        if self._round:
            self._show(self._share, f"{self._round}, step {state.step}/{state.steps}{best}")
        else:
            self._show(state.step / state.steps, f"step {state.step}/{state.steps}{best}")
        return result

    @hookimpl(wrapper=True)
    def after_round(self, run: Run, done: int, total: int | None) -> Generator[None, Any, Any]:
        """Show the round of a search."""
        result = yield
        self._enter(run.jobs)
        self._round = f"round {done}" + (f"/{total}" if total else "")
        self._share = done / total if total else 0.0
        self._show(self._share, self._round)
        return result

    def _enter(self, jobs: tuple[Job, ...]) -> None:
        """Begin a pack: the prompts of the previous pack are finished."""
        if jobs is not self._jobs:
            self._finished += len(self._jobs)
            self._jobs, self._round, self._share = jobs, "", 0.0

    def _show(self, share: float, note: str) -> None:
        self.show(self._finished + share * len(self._jobs), self._prompts, note=note)


class GenerationProgress:
    """Shows the progress of a generation, and ends it after the step in which Ctrl-C came."""

    def __init__(self, interrupt: Interrupt) -> None:
        self._interrupt = interrupt

    @contextmanager
    def part(self, prompts: int, label: str) -> Iterator[Sequence[object]]:
        """Show a bar for ``prompts`` prompts."""
        with ProgressBar(prompts, label) as bar:
            yield bar, self._interrupt

    def written(self) -> None:
        """End the generation here if Ctrl-C came."""
        self._interrupt.check()

    def stopped(self, done: int, prompts: int, place: str) -> None:
        """Report how many prompts are finished."""
        click.echo(f"stopped: {done} of {prompts} prompts are finished, in {place}", err=True)
