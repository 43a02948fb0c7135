"""A progress bar as an observer of a run."""

from __future__ import annotations

from collections.abc import Generator
from contextvars import Token
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from steer.cli.shared import live_terminal
from steer.models.downloads import fetching
from steer.registry.declarations import size_text
from steer.registry.registration import hookimpl
from steer.sampling.run import Run
from steer.sampling.state import State


class ProgressBar:
    """Shows prompts, step, time left and the best reward so far on a terminal; silent elsewhere.

    Use as a context manager and give it to a run as an observer.
    """

    def __init__(self, prompts: int, label: str) -> None:
        """Args: prompts: how many will be rendered; label: what is shown before the bar."""
        self._prompts = prompts
        self._best: float | None = None
        self._seen_events = 0
        self._run: Run | None = None
        self._finished = 0
        self._round, self._share = "", 0.0
        self._downloads: Token[fetching.Observer | None] | None = None
        self._progress = Progress(
            TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[note]}"), TimeRemainingColumn(),
            console=Console(stderr=True), transient=True, disable=not live_terminal(),
        )  # fmt: skip
        self._task = self._progress.add_task(label, total=None, note="loading")

    def __enter__(self) -> ProgressBar:
        self._progress.start()
        if not self._progress.disable:  # two live displays would tear each other
            self._downloads = fetching.observer.set(self._fetching)
        return self

    def __exit__(self, *_: object) -> None:
        if self._downloads is not None:
            fetching.observer.reset(self._downloads)
        self._progress.stop()

    def _fetching(self, name: str, here: int, total: int | None) -> None:
        share = f" {here / total:.0%} of {size_text(total)}" if total else ""
        self._progress.update(self._task, note=f"fetching {name}{share}")

    @hookimpl(wrapper=True)
    def begin(self, state: State) -> Generator[None, Any, Any]:
        """Take note of a pack's first population."""
        result = yield
        self._seen_events = 0
        self._enter(state.run)
        return result

    @hookimpl(wrapper=True)
    def after_step(self, state: State) -> Generator[None, Any, Any]:
        """Show how far the pack has come, and the best reward on the way."""
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
        """Show how far a search has come."""
        result = yield
        self._enter(run)
        self._round = f"round {done}" + (f"/{total}" if total else "")
        self._share = done / total if total else 0.0
        self._show(self._share, self._round)
        return result

    def _enter(self, run: Run) -> None:
        """Begin a pack: the prompts of the one before are finished."""
        if run is not self._run:
            self._finished += 0 if self._run is None else len(self._run.jobs)
            self._run, self._round, self._share = run, "", 0.0

    def _show(self, share: float, note: str) -> None:
        assert self._run is not None
        done = self._finished + share * len(self._run.jobs)
        self._progress.update(self._task, total=self._prompts, completed=done, note=note)
