"""Equal budgets: how large each method's population may be so that all cost the same."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from steer.errors import SteerError
from steer.evaluate.compare.spec import Entry
from steer.registry.plugins import Plugins
from steer.sampling.methods_by_name import find_method
from steer.settings.options import describe

KINDS = {"nfe": "NFE", "seconds": "s"}
TRIES = 6
CLOSE = 0.97
"""A population that takes this share of the seconds is not made larger: clocks are no more exact than that."""


@dataclass(frozen=True)
class Budget:
    """What one prompt may cost: denoiser evaluations (guidance counts as two) or seconds."""

    kind: str
    amount: float

    def __str__(self) -> str:
        return f"{self.amount:g} {KINDS[self.kind]}"

    @property
    def key(self) -> str:
        """As typed."""
        return f"{self.kind}={self.amount:g}"


@dataclass(frozen=True)
class Spent:
    """What a trial cost a prompt on average."""

    nfe: float
    seconds: float


Trial = Callable[[Entry], Spent]
"""Samples a few prompts and says what that cost."""


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
            whole = kind == "nfe" and value != int(value) if math.isfinite(value) else True
            if kind not in KINDS or not value > 0 or (whole and kind == "nfe") or math.isinf(value):
                raise SteerError(f"budget {text!r}: expected nfe=COUNT or seconds=NUMBER, several as in nfe=80,240")
            found.append(Budget(kind, value))
    return sorted(dict.fromkeys(found), key=lambda budget: (budget.kind, budget.amount))


def fit(entry: Entry, budget: Budget, trial: Trial, plugins: Plugins, *, takes_less: bool = False) -> Entry:
    """Return the entry as large as a budget allows.

    A method that has an option ``nfe`` keeps to it by itself; others take as many particles as the budget pays for. An
    entry that says its particles is left as it is. Seconds are brought to evaluations by what a trial takes.

    Args:
        entry: what is to cost the budget.
        budget: a prompt's.
        trial: runs an entry on some prompts.
        plugins: where methods are looked up.
        takes_less: the entry is known to do with a smaller budget of the kind, so that one that keeps to evaluations by
            itself needs no trial.

    Raises:
        SteerError: for a budget that is too small, saying the least that works.
    """
    owner = _budgeted(entry, plugins)
    if owner is not None:
        return _fit_budgeted(entry, budget, trial, owner, takes_less)
    least = _least_particles(entry, plugins)
    if _says_particles(entry):
        _check(entry, budget, _cost(trial(entry), budget), "it")
        return entry
    return _fit_particles(entry, budget, trial, least)


def _fit_particles(entry: Entry, budget: Budget, trial: Trial, least: int) -> Entry:
    def cost(count: int) -> float:
        if count not in known:
            known[count] = _cost(trial(entry.with_setting("particles", count)), budget)
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
        if budget.kind == "seconds":  # time may stand still until a chunk is full: no line reaches far
            count = min(count, 2 * best)
        too_many = [size for size in sizes if known[size] > budget.amount]
        count = min([count, 65_536, *(size - 1 for size in too_many)])
        if count <= best or (budget.kind == "seconds" and known[best] >= CLOSE * budget.amount):
            break
        cost(count)
    best = max(size for size in known if known[size] <= budget.amount)
    return entry.with_setting("particles", best)


def _fit_budgeted(entry: Entry, budget: Budget, trial: Trial, owner: str, takes_less: bool) -> Entry:
    if budget.kind == "nfe":
        fitted = entry.with_option(owner, "nfe", int(budget.amount))
        if not takes_less:
            trial(fitted)  # a budget that is too small is the method's own to tell
        return fitted
    least, spent = _smallest(entry, trial, owner)
    _check(entry, budget, spent.seconds, "it")
    known = {least: spent.seconds}
    wanted = 2 * least
    for _ in range(2 * TRIES):
        known[wanted] = trial(entry.with_option(owner, "nfe", wanted)).seconds
        best = max(size for size, seconds in known.items() if seconds <= budget.amount)
        above = [size for size, seconds in known.items() if seconds > budget.amount and size > best]
        if known[best] >= CLOSE * budget.amount or (above and min(above) - best <= least // 2):
            break
        if not above:  # time stands still until a chunk is full: only doubling finds out
            wanted = 2 * best
        else:
            low, high = known[best], known[min(above)]
            share = (budget.amount - low) / (high - low)
            wanted = best + max(1, int((min(above) - best) * min(0.9, max(0.1, share))))
        if wanted in known:
            break
    return entry.with_option(owner, "nfe", max(size for size, seconds in known.items() if seconds <= budget.amount))


def _smallest(entry: Entry, trial: Trial, owner: str) -> tuple[int, Spent]:
    """Return a small budget that a method takes, found by doubling, and what it costs."""
    evaluations = 16
    while True:
        try:
            return evaluations, trial(entry.with_option(owner, "nfe", evaluations))
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
            f"budget {budget.key} is too small for {entry.label!r}: {what} takes {least:.4g} {KINDS[budget.kind]} a "
            f"prompt; give at least {budget.kind}={needed}, or lower its steps"
        )


def _budgeted(entry: Entry, plugins: Plugins) -> str | None:
    """Return the outermost method that keeps to a budget by itself, if nothing else decides its size."""
    for name in entry.methods:
        cls = find_method(name, plugins)
        names = {row.name for row in describe(cls.Options)}
        if "nfe" in names and not {"n", "nfe", "seconds"} & set(entry.options.get(cls.name, {})):
            return str(cls.name)
    return None


def _says_particles(entry: Entry) -> bool:
    return "particles" in entry.settings or any(
        {"particles", "n", "nfe", "seconds"} & set(table) for table in entry.options.values()
    )


def _least_particles(entry: Entry, plugins: Plugins) -> int:
    least = 1
    for name in entry.methods:
        field: Any = find_method(name, plugins).Options.model_fields.get("particles")
        bounds = [item.ge for item in (field.metadata if field else ()) if getattr(item, "ge", None) is not None]
        least = max([least, *(int(bound) for bound in bounds)])
    return least
