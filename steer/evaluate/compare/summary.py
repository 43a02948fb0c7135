"""Results of a comparison: means with intervals, paired differences, diversity, over-optimization and cost."""

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from steer.evaluate.compare.budgets import Budget
from steer.evaluate.compare.comparison import Cell, verdict
from steer.evaluate.compare.embedding import spread
from steer.evaluate.compare.measure import COST, Row
from steer.evaluate.prediction import best_of_n, false_positives
from steer.evaluate.statistics import MIN_PROMPTS, Interval, bootstrap_mean, difference, ratio, share, win_rate

AHEAD = 4
"""Best-of-n is predicted for up to this many times the existing samples."""

Value = Callable[[Row], float]


@dataclass(frozen=True)
class Against:
    """A method against the reference at the same budget, paired over prompts.

    Attributes:
        chosen: difference of the judge's scores.
        success: difference of the shares of successes.
        population: the same over all particles.
        failures: share of the reference's failures that are left: 0.5 is half of them.
        wins: how often it is better, by the judge.
    """

    chosen: Interval
    success: Interval | None
    population: Interval | None
    failures: Interval | None
    wins: Interval


@dataclass(frozen=True)
class Line:
    """The results of one cell.

    Attributes:
        label: of the entry.
        family: the variants of a family form a curve.
        budget: per prompt, as typed, or ``None``.
        swept: the swept values of this variant.
        settings: its settings and options.
        prompts: number of prompts.
        drawings: number of rows: prompts times replicates.
        chosen: the first judge's score of the chosen image; if nothing was chosen, the mean over particles.
        success: share of chosen images that the judge passes.
        particles: the judge's score of a particle.
        population: share of particles that the judge passes.
        judges: scores of the chosen image by all judges.
        reward: the steering reward of the chosen image.
        categories: chosen and success by category; without limits if prompts are too few.
        spread: mean CLIP distance within a population.
        ancestors: distinct first particles that the final ones descend from.
        false_positives: share that the judge rejects among the samples that the reward approves.
        hacking: gains of reward and judge over the baseline, in its standard deviations.
        cost: per prompt.
        against: comparison with the reference, unless it is this cell.
        tuned: scores of the variants that it was chosen from.
    """

    label: str
    family: str
    budget: str | None
    swept: dict[str, str]
    settings: dict[str, Any]
    prompts: int
    drawings: int
    chosen: Interval
    success: Interval | None
    particles: Interval
    population: Interval | None
    judges: dict[str, Interval]
    reward: Interval | None
    categories: dict[str, dict[str, Any]]
    spread: float | None
    spread_replicates: float | None
    ancestors: float
    false_positives: float | None
    hacking: dict[str, float] | None
    cost: dict[str, float | None]
    against: Against | None = None
    tuned: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Summary:
    """All lines, their reference, and predictions of best-of-n from independent samples."""

    reference: str
    judge: str
    success: float | None
    lines: tuple[Line, ...]
    predictions: dict[str, list[dict[str, float]]]

    def as_dict(self) -> dict[str, Any]:
        """Return plain data; infinite numbers are ``None``, because JSON has none."""
        found: dict[str, Any] = _finite(asdict(self))
        return found


def summarize(cells: Sequence[Cell], reference: str, success: float | None) -> Summary:
    """Summarize cells.

    Args:
        cells: budget by budget, all of the same prompts.
        reference: the family, or the label of a variant, that the others are compared with.
        success: the least score of an image that counts as a success.

    Raises:
        ValueError: for too few prompts.
    """
    judge = next(iter(cells[0].rows[0]["judge"]))
    lines = []
    for cell in cells:
        same = [other for other in cells if other.budget == cell.budget]
        references = [other for other in same if reference in (other.entry.family, other.entry.label)]
        unsteered = sorted((other for other in same if _unsteered(other)), key=lambda other: bool(other.entry.methods))
        baseline = next(iter(unsteered), None)  # plain samples before a student's
        beside = references[0] if len(references) == 1 and references[0] is not cell else None
        lines.append(_line(cell, beside, baseline, success))
    predictions = {
        f"{cell.entry.label} at {cell.budget}" if cell.budget else cell.entry.label: _predicted(cell.rows, success)
        for cell in cells
        if _unsteered(cell) and cell.rows[0]["rewards"]
    }
    return Summary(reference, judge, success, tuple(lines), predictions)


def _unsteered(cell: Cell) -> bool:
    """Whether its samples are independent; those of a population that a reward steered are not."""
    return all(row["choose"] == "all" and not row["reward_calls"] for row in cell.rows)


def by_prompt(rows: Sequence[Row], value: Value) -> list[float]:
    """Return one value per prompt, the mean of its replicates, which are not independent of each other."""
    found: dict[int, list[float]] = {}
    for row in rows:
        found.setdefault(row["index"], []).append(value(row))
    return [float(np.mean(found[index])) for index in sorted(found)]


def interval(values: Sequence[float]) -> Interval:
    """Return the mean with its 95% interval; of zeros and ones, the share of ones."""
    return share(values) if set(values) <= {0.0, 1.0} else bootstrap_mean(values)


def _line(cell: Cell, reference: Cell | None, baseline: Cell | None, success: float | None) -> Line:
    rows, entry = cell.rows, cell.entry
    judge = next(iter(rows[0]["judge"]))
    chosen = by_prompt(rows, lambda row: verdict(row, None))
    passed = by_prompt(rows, lambda row: verdict(row, success)) if success is not None else None
    population = None if success is None else _population(rows, success)
    against = None
    if reference is not None:
        other = by_prompt(reference.rows, lambda row: verdict(row, None))
        other_passed = by_prompt(reference.rows, lambda row: verdict(row, success)) if success is not None else None
        against = Against(
            bootstrap_mean(np.subtract(chosen, other).tolist()),
            None if passed is None else difference(passed, other_passed or []),
            None
            if population is None or success is None
            else difference(population, _population(reference.rows, success)),
            None
            if passed is None
            else ratio(np.subtract(1, passed).tolist(), np.subtract(1, other_passed or []).tolist()),
            win_rate(chosen, other),
        )
    has_reward = rows[0]["reward"] is not None

    def judged(name: str) -> Interval:
        return bootstrap_mean(by_prompt(rows, lambda row: float(row["judge"][name])))

    return Line(
        label=entry.label,
        family=entry.family,
        budget=None if cell.budget is None else cell.budget.key,
        swept=dict(entry.swept),
        settings={**entry.settings, **{f"{o}.{n}": v for o, t in entry.options.items() for n, v in t.items()}},
        prompts=len(chosen),
        drawings=len(rows),
        chosen=bootstrap_mean(chosen),
        success=None if passed is None else share(passed),
        particles=bootstrap_mean(by_prompt(rows, lambda row: float(np.mean(row["judges"][judge])))),
        population=None if population is None else share(population),
        judges={name: judged(name) for name in rows[0]["judge"]},
        reward=bootstrap_mean(by_prompt(rows, lambda row: float(row["reward"]))) if has_reward else None,
        categories=_categories(rows, success),
        spread=_average([row.get("spread") for row in rows]),
        spread_replicates=_spread_replicates(rows),
        ancestors=float(np.mean([row["ancestors"] for row in rows])),
        false_positives=_false_positives(rows, success),
        hacking=_hacking(rows, baseline.rows) if baseline is not None and has_reward else None,
        cost={name: _average([row.get(name) for row in rows], most=name == "memory_mb") for name in COST},
        against=against,
        tuned=dict(cell.tuned),
    )


def _population(rows: Sequence[Row], success: float) -> list[float]:
    """Return each prompt's share of particles that the first judge passes."""
    judge = next(iter(rows[0]["judge"]))
    return by_prompt(rows, lambda row: float(np.mean([value >= success for value in row["judges"][judge]])))


def _categories(rows: Sequence[Row], success: float | None) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {}
    for category in sorted({row["category"] for row in rows if row["category"]}):
        part = [row for row in rows if row["category"] == category]
        chosen = by_prompt(part, lambda row: verdict(row, None))
        found[category] = {"prompts": len(chosen), "chosen": _short(chosen)}
        if success is not None:
            found[category]["success"] = _short(by_prompt(part, lambda row: verdict(row, success)), share)
    return found


def _short(values: Sequence[float], of: Callable[[Sequence[float]], Interval] = interval) -> dict[str, float | None]:
    if len(values) < MIN_PROMPTS:
        return {"estimate": float(np.mean(values)), "low": None, "high": None}
    return asdict(of(values))


def _average(values: Sequence[float | None], *, most: bool = False) -> float | None:
    known = [value for value in values if value is not None]
    if not known:
        return None
    return float(max(known) if most else np.mean(known))


def _spread_replicates(rows: Sequence[Row]) -> float | None:
    groups: dict[int, list[list[float]]] = {}
    for row in rows:
        if "embedding" in row:
            groups.setdefault(row["index"], []).append(row["embedding"])
    return _average([spread(np.array(group)) for group in groups.values()])


def _false_positives(rows: Sequence[Row], success: float | None) -> float | None:
    """Return the mean over prompts: a reward's scale differs between prompts."""
    if success is None or rows[0]["rewards"] is None:
        return None
    judge = next(iter(rows[0]["judge"]))
    return _average([false_positives(row["rewards"], [v >= success for v in row["judges"][judge]]) for row in rows])


def _hacking(rows: Sequence[Row], baseline: Sequence[Row]) -> dict[str, float] | None:
    judge = next(iter(rows[0]["judge"]))
    gains = {}
    for name, here, there in (
        ("reward", [row["reward"] for row in rows], [row["rewards"] for row in baseline]),
        ("judge", [row["judge"][judge] for row in rows], [row["judges"][judge] for row in baseline]),
    ):
        particles = [value for values in there for value in (values or [])]
        if not particles or np.std(particles) == 0:
            return None
        # relative to each prompt's mean; the sd is that within prompts, because choosing can gain only that
        several = [values for values in there if len(values or []) > 1]
        within = np.sqrt(np.mean([np.var(values, ddof=1) for values in several])) if several else 0.0
        if within == 0:
            return None
        gains[name] = float((np.mean(here) - np.mean([np.mean(values) for values in there])) / within)
    return gains


def _predicted(rows: Sequence[Row], success: float | None) -> list[dict[str, float]]:
    judge = next(iter(rows[0]["judge"]))
    count = min(len(row["rewards"]) for row in rows)
    found = []
    n = 1
    while n <= AHEAD * count:
        point: dict[str, float] = {"n": n, "extrapolated": float(n > count)}
        point["reward"] = float(np.mean([best_of_n(row["rewards"], row["rewards"], n) for row in rows]))
        point["judge"] = float(np.mean([best_of_n(row["rewards"], row["judges"][judge], n) for row in rows]))
        if success is not None:
            point["success"] = float(
                np.mean([best_of_n(row["rewards"], [v >= success for v in row["judges"][judge]], n) for row in rows])
            )
        point["nfe"] = float(np.mean([row["nfe"] / len(row["rewards"]) for row in rows])) * n
        found.append(point)
        n *= 2
    return found


def budget_text(key: str | None) -> str:
    """Return a budget as readable text."""
    if key is None:
        return ""
    kind, _, amount = key.partition("=")
    return str(Budget(kind, float(amount)))


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _finite(part) for name, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(part) for part in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
