"""Figures of a benchmark: means of groups and a main one, with intervals over prompts, and differences between methods.

Images of one prompt are not independent, so intervals are over prompts: each prompt enters with its mean.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from steer.evaluate.bench.benchmark import OVERALL, Details, Measure
from steer.evaluate.statistics import MIN_PROMPTS, Interval, average, bootstrap_mean, share
from steer.evaluate.statistics import difference as difference_of_shares
from steer.prompts.prompt import Prompt

Scored = Mapping[str, Sequence[tuple[float, Details]]]
"""Score and details of each image, by the prompt's id."""


@dataclass(frozen=True)
class Figure:
    """An estimate, its 95% interval unless prompts are too few, and the number of prompts behind it."""

    estimate: float
    low: float | None
    high: float | None
    prompts: int


@dataclass(frozen=True)
class Values:
    """A measure's values before scaling, one per prompt.

    Attributes:
        groups: by group and prompt's id. Prompts of a group may have different numbers of values; each prompt then
            enters with its part of the mean of all values (Taylor's linearization of a ratio).
        whole: by prompt's id.
        binary: whether each image has 0 or 1.
    """

    groups: Mapping[str, Mapping[str, float]]
    whole: Mapping[str, float]
    binary: bool


def values_of(measure: Measure, prompts: Sequence[Prompt], scored: Scored) -> Values:
    """Return a measure's values.

    Args:
        measure: the measure.
        prompts: in the order in which groups appear.
        scored: prompts without images are left out.
    """
    sums: dict[str, dict[str, tuple[float, int]]] = {}
    whole: dict[str, float] = {}
    seen: set[float] = set()
    for prompt in prompts:
        images = scored.get(prompt.id, ())
        if not images:
            continue
        wholes = [measure.whole(*image, prompt) for image in images]
        whole[prompt.id] = float(np.mean(wholes))
        seen.update(wholes)
        for score, details in images:
            for group, value in measure.parts(score, details, prompt):
                total, count = sums.setdefault(group, {}).get(prompt.id, (0.0, 0))
                sums[group][prompt.id] = total + value, count + 1
                seen.add(value)
    groups = {group: _linearized(by_prompt) for group, by_prompt in sums.items()}
    return Values(groups, whole, seen <= {0.0, 1.0})


def figures(measure: Measure, values: Values) -> dict[str, Figure]:
    """Return a measure's figures by group; the main one is :data:`OVERALL`."""
    interval = share if values.binary else bootstrap_mean

    def figure(by_prompt: Mapping[str, float]) -> Figure:
        return _figure(list(by_prompt.values()), interval)

    groups = {group: figure(by_prompt) for group, by_prompt in values.groups.items()}
    return _scaled({**groups, OVERALL: _main(measure, groups, lambda: figure(values.whole))}, measure.scale)


def differences(measure: Measure, values: Values, others: Values) -> dict[str, Figure]:
    """Return the first minus the second by group, paired over the prompts that both have."""

    def figure(first: Mapping[str, float], second: Mapping[str, float]) -> Figure:
        both = [name for name in first if name in second]
        ours, theirs = ([by_prompt[name] for name in both] for by_prompt in (first, second))
        if values.binary and others.binary:
            return _figure(np.subtract(ours, theirs).tolist(), lambda _: difference_of_shares(ours, theirs))
        return _figure(np.subtract(ours, theirs).tolist(), bootstrap_mean)

    shared = [group for group in values.groups if values.groups[group].keys() & others.groups.get(group, {}).keys()]
    if not values.whole.keys() & others.whole.keys():
        return {}
    groups = {group: figure(values.groups[group], others.groups[group]) for group in shared}
    main = _main(measure, groups, lambda: figure(values.whole, others.whole))
    return _scaled({**groups, OVERALL: main}, measure.scale)


def _main(measure: Measure, groups: Mapping[str, Figure], over_prompts: Callable[[], Figure]) -> Figure:
    if measure.overall == "prompts" or not groups:
        return over_prompts()
    parts = list(groups.values())
    count = sum(one.prompts for one in parts)
    if any(one.low is None for one in parts):
        return Figure(float(np.mean([one.estimate for one in parts])), None, None, count)
    found = average([Interval(one.estimate, one.low or 0.0, one.high or 0.0) for one in parts])
    return Figure(found.estimate, found.low, found.high, count)


def _figure(values: Sequence[float], interval: Callable[[Sequence[float]], Interval]) -> Figure:
    if len(values) < MIN_PROMPTS:
        return Figure(float(np.mean(values)), None, None, len(values))
    found = interval(values)
    return Figure(found.estimate, found.low, found.high, len(values))


def _scaled(figures: Mapping[str, Figure], scale: float) -> dict[str, Figure]:
    def times(value: float | None) -> float | None:
        return None if value is None else value * scale

    return {
        group: Figure(one.estimate * scale, times(one.low), times(one.high), one.prompts)
        for group, one in figures.items()
    }


def _linearized(sums: Mapping[str, tuple[float, int]]) -> dict[str, float]:
    """Return one value per prompt, whose mean is the mean of all values."""
    ratio = sum(total for total, _ in sums.values()) / sum(count for _, count in sums.values())
    usual = float(np.mean([count for _, count in sums.values()]))
    if all(count == usual for _, count in sums.values()):
        return {name: total / count for name, (total, count) in sums.items()}
    return {name: ratio + (total - ratio * count) / usual for name, (total, count) in sums.items()}
