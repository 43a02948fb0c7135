"""Equal budgets: the size of each method's population at which all methods cost the same."""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from steer.errors import SteerError
from steer.evaluate.compare.spec import Entry
from steer.registry.plugins import Plugins
from steer.sampling.method import Method
from steer.sampling.methods_by_name import find_method

KINDS = {"nfe": "NFE", "seconds": "s"}
TRIES = 6
CLOSE = 0.97
"""A population that takes this share of the seconds is not enlarged: clocks are no more exact than that."""


@dataclass(frozen=True)
class Budget:
    """A budget per prompt: denoiser evaluations (guidance counts as two) or seconds."""

    kind: str
    amount: float

    def __str__(self) -> str:
        return f"{self.amount:g} {KINDS[self.kind]}"

    @property
    def key(self) -> str:
        """The budget as typed."""
        return f"{self.kind}={self.amount:g}"


@dataclass(frozen=True)
class Spent:
    """A trial's mean cost per prompt."""

    nfe: float
    seconds: float


Trial = Callable[[Entry], Spent]
"""Samples a few prompts and returns the cost."""


def parse_budgets(texts: Iterable[str]) -> list[Budget]:
    """Parse ``nfe=80,240`` and ``seconds=2``, smallest first and evaluations before seconds.

    Raises:
        SteerError: for another form.
    """
    found = []
    for text in texts:
        kind, _, amounts = text.partition("=")
        for amount in amounts.split(","):
            try:
                value = float(amount)
            except ValueError:
                value = math.nan
            if kind not in KINDS or not 0 < value < math.inf or (kind == "nfe" and value % 1):
                raise SteerError(f"budget {text!r}: expected nfe=COUNT or seconds=NUMBER, several as in nfe=80,240")
            found.append(Budget(kind, value))
    return sorted(dict.fromkeys(found), key=lambda budget: (budget.kind, budget.amount))


@dataclass(frozen=True)
class Lever:
    """The option that sets an entry's size: one of its methods' options, or the run's ``particles``."""

    owner: str | None = None
    option: str = "particles"

    def at(self, entry: Entry, value: int) -> Entry:
        """Return the entry at that size."""
        if self.owner is None:
            return entry.with_setting(self.option, value)
        return entry.with_option(self.owner, self.option, value)


def fit(entry: Entry, budget: Budget, trial: Trial, plugins: Plugins, *, takes_less: bool = False) -> Entry:
    """Return the entry as large as a budget allows.

    A method that declares a ``budget_option`` keeps to the budget by itself. Others get as many particles as the budget
    pays for, by the option that they declare as their size, else by the run's ``particles``. An entry with a given size
    is not changed. Trials convert seconds to evaluations.

    Args:
        trial: runs an entry on some prompts.
        plugins: the plugins to look methods up in.
        takes_less: the entry is known to fit a smaller budget of this kind, so an entry that keeps to evaluations by
            itself needs no trial.

    Raises:
        SteerError: for a budget that is too small, with the least that works.
    """
    methods = [find_method(name, plugins) for name in entry.methods]
    evaluations = _budget_lever(entry, methods)
    if evaluations is not None:
        return _fit_budgeted(entry, budget, trial, evaluations, takes_less)
    if _says_size(entry, methods):
        _check(entry, budget, _cost(trial(entry), budget), "it")
        return entry
    least = max([1, *(method.least_particles for method in methods)])
    return _fit_particles(entry, budget, trial, _size_lever(methods), least)


def _fit_particles(entry: Entry, budget: Budget, trial: Trial, lever: Lever, least: int) -> Entry:
    def cost(count: int) -> float:
        if count not in known:
            known[count] = _cost(trial(lever.at(entry, count)), budget)
        return known[count]

    known: dict[int, float] = {}
    _check(entry, budget, cost(least), f"{least} particle{'s' * (least > 1)}")
    cost(2 * least)  # the second point of a line: an overhead that doesn't grow must not be counted twice
    for _ in range(TRIES if budget.kind == "nfe" else 2 * TRIES):
        sizes = sorted(known)
        a, b = sizes[-2:]
        slope = max((known[b] - known[a]) / (b - a), 1e-9)
        best = max(size for size in sizes if known[size] <= budget.amount)
        count = best + int((budget.amount - known[best]) / slope + 1e-9)
        # no line in truth: a funnel rounds up, so one more may be paid for; time may not grow until a chunk is full
        count = max(count, best + 1) if budget.kind == "nfe" else min(count, 2 * best)
        too_many = [size for size in sizes if known[size] > budget.amount]
        count = min([count, 65_536, *(size - 1 for size in too_many)])
        if count <= best or (budget.kind == "seconds" and known[best] >= CLOSE * budget.amount):
            break
        cost(count)
    return lever.at(entry, max(size for size in known if known[size] <= budget.amount))


def _fit_budgeted(entry: Entry, budget: Budget, trial: Trial, lever: Lever, takes_less: bool) -> Entry:
    if budget.kind == "nfe":
        fitted = lever.at(entry, int(budget.amount))
        if not takes_less:
            trial(fitted)  # the method itself reports a budget that is too small
        return fitted
    least, spent = _smallest(entry, trial, lever)
    _check(entry, budget, spent.seconds, "it")
    known = {least: spent.seconds}
    wanted = 2 * least
    for _ in range(2 * TRIES):
        known[wanted] = trial(lever.at(entry, wanted)).seconds
        best = max(size for size, seconds in known.items() if seconds <= budget.amount)
        above = [size for size, seconds in known.items() if seconds > budget.amount and size > best]
        if known[best] >= CLOSE * budget.amount or (above and min(above) - best <= least // 2):
            break
        if not above:  # time does not grow until a chunk is full, so the size is doubled
            wanted = 2 * best
        else:
            low, high = known[best], known[min(above)]
            share = (budget.amount - low) / (high - low)
            wanted = best + max(1, int((min(above) - best) * min(0.9, max(0.1, share))))
        if wanted in known:
            break
    return lever.at(entry, max(size for size, seconds in known.items() if seconds <= budget.amount))


def _smallest(entry: Entry, trial: Trial, lever: Lever) -> tuple[int, Spent]:
    """Return a small budget that a method accepts, found by doubling, and its cost."""
    evaluations = 16
    while True:
        try:
            return evaluations, trial(lever.at(entry, evaluations))
        except SteerError:
            if evaluations > 1_000_000:
                raise
            evaluations *= 2


def _cost(spent: Spent, budget: Budget) -> float:
    return spent.nfe if budget.kind == "nfe" else spent.seconds


def _check(entry: Entry, budget: Budget, least: float, what: str) -> None:
    if least > budget.amount:
        needed = f"{math.ceil(least)}" if budget.kind == "nfe" else f"{least:.3g}"
        raise SteerError(
            f"budget {budget.key} is too small for {entry.label!r}: {what} takes {least:.4g} {KINDS[budget.kind]} per "
            f"prompt; give at least {budget.kind}={needed}, or lower its steps"
        )


def _budget_lever(entry: Entry, methods: Sequence[type[Method]]) -> Lever | None:
    """Return the budget option of the outermost method that declares one and has no given size."""
    for method in methods:
        if method.budget_option is not None and not _sized(entry, method):
            return Lever(method.name, method.budget_option)
    return None


def _size_lever(methods: Sequence[type[Method]]) -> Lever:
    """Return the size option of the outermost method that declares one, else the run's particles."""
    for method in methods:
        if method.size_option is not None:
            return Lever(method.name, method.size_option)
    return Lever()


def _says_size(entry: Entry, methods: Sequence[type[Method]]) -> bool:
    return Lever().option in entry.settings or any(_sized(entry, method) for method in methods)


def _sized(entry: Entry, method: type[Method]) -> bool:
    """Whether the entry sets the option that decides a method's size."""
    deciding = {method.size_option, method.budget_option, method.clock_option}
    return not deciding.isdisjoint(entry.options.get(method.name, {}))
