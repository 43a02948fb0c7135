"""CARINOX as a method: gradient ascent on the noises of several seeds; the best image is kept."""

import warnings
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from steer import Method, State, SteerError, hookimpl
from steer.plugin import (
    Budget,
    Event,
    Gradients,
    Merge,
    Run,
    Start,
    WeightedSum,
    acting_hooks,
    check_differentiable,
    check_names,
    leaves,
    make_reward,
    manager,
    outer_search,
    outside,
    parse_expression,
    refuse_inner_clock,
    vjp,
    within,
)
from steer_carinox.calibration.categories import Category, category_of
from steer_carinox.objective import Optimizer, rows_times, sum_clipped, total_gradient
from steer_carinox.options import CarinoxOptions
from steer_carinox.terms import Term, terms_of
from steer_carinox.tracker import Tracker
from steer_carinox.weights import Table, find_table, inline

GUARD = "guard"


class Carinox(Method):
    """Category-aware optimization and exploration of the initial noise (arXiv 2509.17458).

    All seeds of all prompts form one batch; rewards are differentiated one after another. A seed leaves the batch when
    it is on a plateau, when its guard falls, or when its gradient is not finite. At the end, the best noise is sampled
    once more. If all samples are kept, or other methods take part, the best noise of every seed is sampled.
    """

    name = "carinox"
    Options = CarinoxOptions
    options: CarinoxOptions
    budget_option = "nfe"
    clock_option = "seconds"

    def __init__(self, options: CarinoxOptions | None = None) -> None:
        super().__init__(options)
        self._terms: list[Term] = []
        self._multipliers: dict[int, list[float]] = {}
        self._iterations: dict[int, int] = {}
        self._explored: dict[int, list[int]] = {}

    @hookimpl
    def configure(self, run: Run) -> None:
        """Require differentiable rewards; set the seeds; look up each prompt's category in the table of weights."""
        reward = self.require_reward(run, "climb")
        check_differentiable(run.backbone)
        self._terms = terms_of(reward)
        self._check_watched()
        refuse_inner_clock(run, self, self.options.seconds)
        outer = outer_search(run, self)
        if self.options.explore is not None and outer is not None:
            raise SteerError(f"carinox.explore cannot be used within {outer}, which chooses the slots; leave one out")
        table = find_table(self.options.table)
        categories = [self._category(run, table, job) for job in range(len(run.jobs))]
        self._categories = categories
        self._multipliers = {job: table.multipliers(c.name, self._terms) for job, c in enumerate(categories)}
        if self.options.seeds is None and self.options.slots is None:
            run.suggest("particles", self.options.seed_count, by="carinox")
        else:
            run.set("particles", self.options.seed_count, by="carinox")

    @hookimpl
    def search(self, run: Run, sample: Callable[..., State]) -> State:
        """Climb from every seed, then sample the best noises."""
        start = self._start(run)
        only_best = run.choose == "best" and self._alone(run)
        budget = Budget(run, nfe=self.options.nfe, seconds=self.options.seconds)
        seeds = len(start) // len(start.job.unique())
        reserve = budget.sample_cost * (1 if only_best else seeds)
        self._check_budget(budget, start, reserve)
        if self.options.explore is not None:
            start = self._best_seeds(run, start, seeds, self.options.explore)
            budget.end_round()
        tracker, events = self._climb(run, start, budget, reserve)
        rows = self._found(run, start, tracker, only_best)
        state = sample(start.take(rows).with_noise(tracker.noise[rows.to(tracker.noise.device)]))
        state.biased = True  # optimized noises are not draws from the prior
        state.events = [*events, *state.events]
        state.record("note", text=[self._note(job) for job in range(len(run.jobs))])
        return state

    def replay_options(self, job: int) -> Mapping[str, Any]:
        """Return iterations that the clock decided, seeds that were explored, and weights from a file or from rules."""
        found: dict[str, Any] = {}
        if self.options.seconds is not None:
            found |= {"seconds": None, "iterations": self._iterations[job]}
        if self.options.explore is not None:
            found |= {"explore": None, "slots": self._explored[job]}
        if self.options.table not in ("published", "uniform"):
            found["weights"] = inline(self._terms, self._multipliers[job])
        return found

    # ---- climbing --------------------------------------------------------------------------------------

    def _climb(self, run: Run, start: Start, budget: Budget, reserve: int) -> tuple[Tracker, list[Event]]:
        """Optimize until iterations, budget or seeds run out; ``reserve`` evaluations are held back."""
        options = self.options
        noise = run.noise(start).float()
        optimizer = Optimizer(options.optimizer, options.rate, options.momentum)
        tracker = Tracker(
            noise,
            patience=options.patience,
            min_gain=options.min_gain,
            guard_patience=None if options.guard is None else options.guard_patience,
        )
        losses = {term.label: term.reward for term in self._terms}
        watch = self._watched(run)
        multipliers = torch.tensor([self._multipliers[job] for job in start.job.tolist()], dtype=torch.float64).T
        weights = multipliers * torch.tensor([term.base for term in self._terms], dtype=torch.float64)[:, None]
        active = torch.arange(len(start))
        events: list[Event] = []
        for iteration in range(options.iterations):
            active, noise = self._affordable(budget, reserve, start, active, noise, optimizer)
            if not len(active) or (iteration and not budget.in_time()):
                break
            rows = start.take(active)
            mine = weights[:, active]
            found = vjp(
                run,
                rows.with_noise(noise),
                losses,
                watch=watch,
                merge=self._merge(mine),
                truncate=options.truncate,
                recompute=options.recompute,
            )
            budget.end_round()
            run.hooks.hook.after_round(run=run, done=iteration + 1, total=options.iterations)
            for job in rows.job.unique().tolist():
                self._iterations[job] = iteration + 1
            events.append(self._event(run, rows, found, list(watch), iteration, budget))
            going = tracker.see(active, noise, self._loss(found, mine), self._guarded(found, list(watch)), iteration)
            going &= self._sound(run, rows, found, iteration)
            at_noise = options.clip_at == "noise"
            gradient = total_gradient(
                noise,
                found.grads,
                mine if at_noise else torch.ones_like(mine[:1]),
                regularize=options.regularize * (1 if at_noise else len(losses)),  # it is in each reward's loss
                clip_reward=options.clip_reward if at_noise else None,
                clip=options.clip,
            )
            kept = going.nonzero().flatten()
            optimizer.keep(kept)
            where = kept.to(noise.device)
            active, noise = active[kept], optimizer.step(noise[where], gradient[where])
        return tracker, events

    def _merge(self, weights: Tensor) -> Merge | None:
        """Return the function that merges the rewards' gradients at the image, if they are clipped there."""
        if self.options.clip_at == "noise":
            return None

        def merge(by_sample: Tensor, rows: Tensor) -> Tensor:
            parts = zip(by_sample, weights[:, rows].to(by_sample), strict=True)
            return sum_clipped([rows_times(w, gradient) for gradient, w in parts], self.options.clip_reward)

        return merge

    def _affordable(
        self, budget: Budget, reserve: int, start: Start, active: Tensor, noise: Tensor, optimizer: Optimizer
    ) -> tuple[Tensor, Tensor]:
        """Drop the rows of prompts whose budget does not cover another iteration of all their rows."""
        if self.options.nfe is None:
            return active, noise
        jobs, cost = start.job[active], self._iteration_cost(budget)
        rich = [job for job in jobs.unique().tolist() if budget.affords(job, reserve + cost * int((jobs == job).sum()))]
        kept = torch.isin(jobs, torch.tensor(rich, dtype=torch.int64)).nonzero().flatten()
        optimizer.keep(kept)
        return active[kept], noise[kept.to(noise.device)]

    def _check_budget(self, budget: Budget, start: Start, reserve: int) -> None:
        seeds = len(start) // len(start.job.unique())
        need = reserve + seeds * self._iteration_cost(budget) + (self.options.explore or 0) * budget.sample_cost
        if not budget.affords(int(start.job[0]), need):
            raise SteerError(
                f"carinox.nfe={self.options.nfe} is less than one iteration and the last samples take ({need}, "
                f"{seeds} seeds); raise it, or lower carinox.seeds or --steps"
            )

    def _iteration_cost(self, budget: Budget) -> int:
        """Return the evaluations that a row's forward and backward passes take."""
        once = budget.sample_cost
        truncate = self.options.truncate
        back = once if truncate is None else min(once, once * truncate // budget.steps)
        ways = len(self._terms) if self.options.clip_at == "noise" else 1
        return once + ways * (3 if self.options.recompute else 2) * back

    def _loss(self, found: Gradients, weights: Tensor) -> Tensor:
        """Return the loss ``[A]`` that chooses the best image."""
        losses = 1 - found.values
        return losses.sum(dim=0) if self.options.select == "unweighted" else (weights * losses).sum(dim=0)

    def _sound(self, run: Run, rows: Start, found: Gradients, iteration: int) -> Tensor:
        """Return which rows have a finite gradient; warn about the others."""
        finite = found.finite
        for row in (~finite).nonzero().flatten().tolist():
            job = run.jobs[int(rows.job[row])]
            warnings.warn(
                f"carinox: seed {job.seed} + {int(rows.slot[row])} of prompt {job.prompt[:60]!r} is dropped at "
                f"iteration {iteration}: its gradient is not finite",
                stacklevel=2,
            )
        return finite

    @staticmethod
    def _found(run: Run, start: Start, tracker: Tracker, only_best: bool) -> Tensor:
        """Return the rows to keep: each prompt's best, or all that have an image."""
        found = []
        for job in start.job.unique().tolist():
            rows = ((start.job == job) & torch.isfinite(tracker.loss)).nonzero().flatten()
            if not len(rows):
                raise SteerError(
                    f"carinox: no seed of prompt {run.jobs[job].prompt[:60]!r} gave a finite loss; try another seed "
                    "or another --dtype"
                )
            found.append(rows[tracker.loss[rows].argmin()].unsqueeze(0) if only_best else rows)
        return torch.cat(found)

    def _alone(self, run: Run) -> bool:
        """Whether the final samples are the optimized ones, because no other method takes part."""
        return acting_hooks(outside(run, self)) <= {"search"} and not acting_hooks(within(run, self))

    # ---- seeds, categories and watched rewards ---------------------------------------------------------

    def _start(self, run: Run) -> Start:
        start = run.start
        if start.noise is not None:
            raise SteerError("carinox: a method named before it has already chosen the noises; name carinox first")
        if self.options.slots is None:
            return start
        if start.draw:
            raise SteerError("carinox.slots cannot be used within another search, which chooses the slots")
        return Start.of(start.job.unique().tolist(), self.options.slots)

    def _best_seeds(self, run: Run, start: Start, seeds: int, explore: int) -> Start:
        """Draw plain samples, and return each prompt's best as its seeds, in the order of their slots."""
        if explore < seeds:
            raise SteerError(
                f"carinox.explore={explore} is less than the {seeds} seeds; raise it, or lower carinox.seeds"
            )
        total = WeightedSum([(term.label, 1.0, term.reward) for term in self._terms])
        jobs, first = start.job.unique(), int(start.slot.min())
        values = torch.empty(len(jobs), 0, dtype=torch.float64)
        for begin in range(0, explore, seeds):  # memory is that of the climb
            slots = range(first + begin, first + min(begin + seeds, explore))
            state = run.sample(start=Start.of(jobs.tolist(), slots), hooks=False)
            found = run.forwards.judge(total, state.samples, state.prompts).cpu().double()
            values = torch.cat([values, found.view(len(jobs), -1)], dim=1)
        best = values.argsort(dim=1, descending=True, stable=True)[:, :seeds].sort(dim=1).values + first
        self._explored = dict(zip(jobs.tolist(), best.tolist(), strict=True))
        return Start(jobs.repeat_interleave(seeds), best.flatten())

    def _category(self, run: Run, table: Table, job: int) -> Category:
        if table.every is not None or table.source == "uniform":
            return Category("none", "no weights by category")
        return category_of(run.jobs[job].prompt, table.categories)

    def _check_watched(self) -> None:
        names = [*self.options.watch, *([self.options.guard] if self.options.guard else [])]
        check_names([], names, {}, manager())
        steering = {label for term in self._terms for label in _labels(term.label)}
        for label in steering & _labels(self.options.guard or ""):
            raise SteerError(f"carinox.guard={label} also steers, so it would never fall; choose another reward")

    def _watched(self, run: Run) -> dict[str, WeightedSum]:
        device = str(run.backbone.device)
        found = {f"watch {name}": _load(name, device) for name in self.options.watch}
        if self.options.guard is not None:
            found[f"{GUARD} {self.options.guard}"] = _load(self.options.guard, device)
        run.make_room(found.values())
        return found

    def _guarded(self, found: Gradients, watched: Sequence[str]) -> Tensor | None:
        return None if self.options.guard is None else found.watched[len(watched) - 1]

    # ---- for the trace ---------------------------------------------------------------------------------

    def _event(
        self, run: Run, rows: Start, found: Gradients, watched: Sequence[str], iteration: int, budget: Budget
    ) -> Event:
        there = torch.isfinite(found.values).all(dim=0).nonzero().flatten()  # the others have no usable image
        rows = rows.take(there)
        values = dict(zip([term.label for term in self._terms], found.values[:, there], strict=True))
        raw = sum(term.written * (values[term.label] * term.width + term.center) for term in self._terms)
        assert isinstance(raw, Tensor)
        notes = {**values, **dict(zip(watched, found.watched[:, there], strict=True))}
        return Event.candidates(
            rows,
            run.process().length,
            origin=["gradient" if iteration else "seed"] * len(rows),
            reward=raw.tolist(),
            spent=budget.spent(rows.job.tolist()),
            iteration=[iteration] * len(rows),
            **{name: value.tolist() for name, value in notes.items()},
        )

    def _note(self, job: int) -> str:
        category = self._categories[job]
        weights = ", ".join(
            f"{term.label} {term.base * multiplier:.3g}"
            for term, multiplier in zip(self._terms, self._multipliers[job], strict=True)
        )
        return f"category {category.name} ({category.reason}); weights {weights}"


def _labels(expression: str) -> set[str]:
    """Return the rewards in an expression; the name of an object in memory need not be an expression."""
    try:
        return {term.label for term in leaves(parse_expression(expression))}
    except SteerError:
        return {expression}


@lru_cache(maxsize=8)
def _load(name: str, device: str) -> WeightedSum:
    """Load a watched reward once, for all packs."""
    reward = make_reward([name], {}, manager(), torch.device(device))
    assert reward is not None
    return reward
