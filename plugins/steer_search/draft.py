"""Drafts: search with cheap samples, and redo only the best of them, exactly.

A draft begins with the noise of the sample that it stands for and, if a cache makes it cheap, goes through the same
steps with the same noise. So its reward tells which samples are worth their whole cost: a cheap look at many, as in
``prune`` (arXiv 1502.07943), by whole trajectories.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch

from steer import State, SteerError, hookimpl
from steer.plugin import Budget, Event, Run, Start, acting_hooks, outer_search, outside, within
from steer_search.base import Search
from steer_search.options import DEFAULT_N, DraftOptions
from steer_search.pool import Pool
from steer_search.reuse import Reuse, stacks_of

INTERVAL = 3
"""From one step that a draft computes in full to the next, if the options do not say how to draft."""


class Draft(Search):
    """Draw drafts, and redo those with the highest rewards as they are without the method."""

    name = "draft"
    Options = DraftOptions
    options: DraftOptions  # type: ignore[assignment]
    size_option = "n"
    clock_option = None
    independent = True

    @hookimpl(trylast=True)
    def configure(self, run: Run) -> None:
        """Check that drafts can be had, and that what is redone is what they stand for."""
        self.require_reward(run)
        self._inner = outer_search(run, self) is not None
        self._reuse: Reuse | None = None
        self._check_methods(run)
        self._check_steps(run)
        self._check_cache(run)
        run.suggest("particles", min(self.options.n or DEFAULT_N, DEFAULT_N), by=self.name)
        self._check_size(run)
        run.finalists = self.options.keep

    @hookimpl
    def search(self, run: Run, sample: Callable[..., State]) -> State:
        """Draw the drafts round by round, then the samples that the best of them stand for."""
        self.check_seeds_are_ours(run)
        run.load_weights()
        if self._interval > 1:
            self._reuse = Reuse(run.backbone.networks(str(run.get("denoiser"))), self._interval)
        jobs = run.start.job.unique().tolist()
        total = len(run.start) // len(jobs) if self._inner else self._total(run)
        budget, pool = Budget(run, nfe=self.options.nfe), Pool(run, self.options.keep)
        if self.options.steps is not None and run.process().stochastic:
            warnings.warn(
                "draft.steps with noise on the way (eta): a draft of fewer steps has only its first noise in common "
                "with the sample that it stands for; use --eta 0, or draft.cache",
                stacklevel=2,
            )
        self.drawn = dict.fromkeys(jobs, 0)
        start = _of_each(run.start, self._size(run, budget, total, jobs[0]))
        while len(start):
            for rows in torch.arange(len(start)).split(run.chunks.size):  # features that are kept take memory
                with self._cheaply(run):
                    drafts = run.sample(start=start.take(rows), steps=self.options.steps)
                pool.add(drafts, "draft", budget.spent(drafts.job.tolist()))
            self.drawn = {job: count + len(start) // len(jobs) for job, count in self.drawn.items()}
            run.hooks.hook.after_round(run=run, done=self.drawn[jobs[0]], total=total)
            # all prompts have drawn and spent equally
            start = run.fresh_start(jobs, self._size(run, budget, total, jobs[0]))
        return _redone(budget, pool.state, sample)

    @hookimpl
    def before_predict(self, state: State) -> None:
        """Tell the cache where the population stands."""
        if self._reuse is not None:
            self._reuse.at(state.step)

    def counts(self, job: int) -> Mapping[str, Any]:
        """Return the number of drafts."""
        return {"n": self.drawn[job]}

    def replay_options(self, job: int) -> Mapping[str, Any]:
        """Return the number of drafts that a budget came to; nothing within another search."""
        return {} if self._inner else {"nfe": None, **self.counts(job)}

    # ---- drafts ------------------------------------------------------------------------------------------------

    @property
    def _interval(self) -> int:
        """From one step that is computed in full to the next; 1 for no cache."""
        return self.options.cache or (INTERVAL if self.options.steps is None else 1)

    @contextmanager
    def _cheaply(self, run: Run) -> Iterator[None]:
        """Return a context in which the denoiser reuses features, and what it computes is booked."""
        if self._reuse is None:
            yield
            return
        before, run.forwards.share = run.forwards.share, self._reuse.share
        try:
            with self._reuse():
                yield
        finally:
            run.forwards.share = before

    # ---- how many ----------------------------------------------------------------------------------------------

    def _total(self, run: Run) -> int | None:
        """Return the drafts per prompt, or ``None`` if the budget alone limits them."""
        if self._inner or (self.options.n is None and self.options.nfe is None):
            return run.particles
        return self.options.n

    def _size(self, run: Run, budget: Budget, total: int | None, job: int) -> int:
        """Return the drafts per prompt of the next round; what redoing takes is held back.

        What a draft takes is known only after the first round. That one is no larger than if drafts were as dear as
        samples.

        Raises:
            SteerError: for a budget that does not suffice.
        """
        keep, drawn, nfe = self.options.keep, self.drawn[job], self.options.nfe
        size = run.particles if total is None else min(run.particles, total - drawn)
        unspent = budget.left(job)
        if unspent is None or nfe is None or not size:
            return size
        left = unspent - keep * budget.sample_cost
        if not drawn:
            affordable = max(keep, int(left // budget.sample_cost)) if left > 0 else 0
        else:
            affordable = int(left // ((nfe - unspent) / drawn))
        if affordable < min(size, keep - drawn) or left < 0:
            raise SteerError(
                f"draft.nfe={nfe} is less than {keep} drafts and the samples that they stand for take; "
                "raise it, or lower draft.keep or --steps"
            )
        return min(size, affordable)

    # ---- checks ------------------------------------------------------------------------------------------------

    def _check_methods(self, run: Run) -> None:
        """Raise if a method changes samples: what is redone would not be what the draft stood for."""
        around = [other for other in outside(run, self) if acting_hooks([other])]
        wrong = [other for other in around if acting_hooks([other]) != {"search"} or not other.independent]
        wrong += [other for other in within(run, self) if acting_hooks([other])]
        if wrong:
            raise SteerError(
                f"draft redoes samples as they are without methods, and {wrong[0].name} draws or changes them itself; "
                "drop one of the two (best-of-n and random may be named before draft)"
            )
        if self._inner and (self.options.n is not None or self.options.nfe is not None):
            raise SteerError(
                f"draft.{'nfe' if self.options.n is None else 'n'} is for a draft of its own: within another search, "
                "each of its rounds drafts --particles samples; leave it out"
            )

    def _check_steps(self, run: Run) -> None:
        steps, full = self.options.steps, int(run.get("steps"))
        if steps is None:
            return
        if not run.backbone.continuous:
            raise SteerError(
                f"draft.steps={steps} needs samples that begin with noise, and a {run.backbone.modality} does not; use "
                "best-of-n or prune"
            )
        if run.get("timesteps") is not None:
            raise SteerError(f"draft.steps={steps} cannot shorten given timesteps; use draft.cache")
        if steps >= full:
            raise SteerError(
                f"draft.steps={steps} is not below the {full} steps of the samples; lower it, or raise --steps"
            )

    def _check_cache(self, run: Run) -> None:
        if self._interval == 1:
            if self.options.steps is None:
                raise SteerError("draft.cache=1 reuses nothing; give draft.cache=2 or more, or draft.steps")
            return
        networks = run.backbone.networks("base")
        if not any(map(stacks_of, networks)):
            raise SteerError(
                "draft.cache skips blocks of UNets and transformers of diffusers, and "
                f"{type(networks[0]).__name__} has none that are known; use draft.steps"
            )
        if run.backbone.leaves_early:
            raise SteerError("draft.cache cannot skip blocks that --offload group moves ahead of use; use draft.steps")
        if run.backbone.weaker is not None:
            raise SteerError(
                "draft.cache cannot tell the calls of guidance by changed layers apart, which differ from step to "
                "step; use draft.steps"
            )
        if int(self.options.steps or run.get("steps")) < 2:
            raise SteerError("draft.cache reuses what an earlier step computed, and there is one step; raise --steps")

    def _check_size(self, run: Run) -> None:
        total, keep = self._total(run), self.options.keep
        if total is not None and keep > total:
            raise SteerError(
                f"draft.keep={keep} is more than the {total} drafts per prompt; lower it, or raise "
                f"{'--particles' if self.options.n is None else 'draft.n'}"
            )


def _of_each(start: Start, count: int) -> Start:
    """Return the first rows of each prompt."""
    jobs = start.job
    return start.take(torch.cat([(jobs == job).nonzero().flatten()[:count] for job in jobs.unique()]))


def _redone(budget: Budget, drafts: State, sample: Callable[..., State]) -> State:
    """Return the samples that drafts stand for."""
    rows = sorted(range(len(drafts)), key=lambda row: (int(drafts.job[row]), int(drafts.slot[row])))
    state = sample(drafts.origin.take(torch.tensor(rows)))
    state.biased = True  # who is redone is no weighted draw
    finished = Event.candidates(
        state.origin,
        state.steps,
        origin=["finished"] * len(state),
        reward=state.rewards().tolist(),
        spent=budget.spent(state.job.tolist()),
    )
    state.events = [*drafts.events, *state.events, finished]
    return state
