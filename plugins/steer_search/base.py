"""The base class of the searches."""

from collections.abc import Mapping
from typing import Any, ClassVar

from steer import Method, Options, SteerError, hookimpl
from steer.plugin import Budget, Run, acting_hooks, outer_search, outside, refuse_inner_clock, within
from steer_search.options import Budgeted


class Search(Method):
    """A search by rewards alone. It draws populations of ``particles`` rows per prompt, round by round."""

    Options: ClassVar[type[Options]] = Budgeted
    options: Budgeted
    budget_option = "nfe"
    clock_option: ClassVar[str | None] = "seconds"
    particles = 16
    """Rows per prompt and round, unless the user or a method sets another number."""

    def __init__(self, options: Budgeted | None = None) -> None:
        super().__init__(options)
        self.drawn: dict[int, int] = {}
        self._inner = False

    @hookimpl(trylast=True)  # an inner method knows better how many particles it needs
    def configure(self, run: Run) -> None:
        """Require a reward and suggest a population that fills batches."""
        self.require_reward(run)
        refuse_inner_clock(run, self, self.options.seconds)
        self._inner = outer_search(run, self) is not None
        run.suggest("particles", self.population(run), by=self.name)

    def population(self, run: Run) -> int:
        """Return the suggested particles per prompt and round."""
        return self.particles

    def check_seeds_are_ours(self, run: Run) -> None:
        """Raise if an outer search has set the noise that this search draws."""
        if run.start.noise is not None:
            raise SteerError(
                f"{self.name} draws its own noises, but a method named before it has chosen them; name {self.name} "
                "first"
            )

    def budget(self, run: Run) -> Budget:
        """Return the budget of a search that starts now."""
        return Budget(run, nfe=self.options.nfe, seconds=self.options.seconds)

    def nested(self, run: Run) -> bool:
        """Whether other methods take part in a population, which must then keep its size."""
        return bool(acting_hooks([*outside(run, self), *within(run, self)]))

    def replay_options(self, job: int) -> Mapping[str, Any]:
        """Return what the budget came to for this prompt; nothing within another search, where each round differs."""
        if self._inner:
            return {}
        return {**dict.fromkeys(("nfe", "seconds", "target")), **self.counts(job)}

    def counts(self, job: int) -> Mapping[str, Any]:
        """Return the options that reproduce a prompt's number of samples or rounds."""
        raise NotImplementedError
