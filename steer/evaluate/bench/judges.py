"""Other judges than those of a benchmark."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from steer.errors import SteerError
from steer.evaluate.bench.benchmark import Benchmark, Measure
from steer.rewards.by_name import reward_names


def with_judges(benchmark: Benchmark, given: Sequence[str]) -> Benchmark:
    """Return a benchmark with other judges.

    ``MEASURE=EXPR`` replaces a measure's judge. ``EXPR`` alone replaces the judge of the measures that have the same
    reward with another argument; any other reward becomes a measure of its own, the mean over groups or prompts as of
    the main measure. With ``EXPR`` alone, measures that nobody named are left out.

    Raises:
        SteerError: for several judges of one measure.
    """
    names = [measure.name for measure in benchmark.measures]
    chosen: dict[str, str] = {}
    own: list[str] = []
    for text in given:
        name, equals, expression = text.partition("=")
        if equals and name in names:
            wanted = {name: expression}
        else:
            wanted = {one.name: text for one in benchmark.measures if _same_reward(one, text)}
            own += [] if wanted else [text]
        for name in wanted:
            if name in chosen:
                raise SteerError(f"judge {text[:60]!r}: {name} has a judge already; give each measure one, {name}=EXPR")
        chosen |= wanted
    kept = [one for one in benchmark.measures if one.name in chosen or not own]
    measures = [_judged(one, chosen[one.name]) if one.name in chosen else one for one in kept]
    measures += [_plainly(benchmark.measures[0], text, text) for text in dict.fromkeys(own)]
    comparable = {one.name for one in kept if one.name not in chosen or _same_reward(one, chosen[one.name])}
    published = [
        replace(one, figures={name: figures for name, figures in one.figures.items() if name in comparable})
        for one in benchmark.published
    ]
    return replace(benchmark, measures=tuple(measures), published=tuple(published))


def _same_reward(measure: Measure, expression: str) -> bool:
    return reward_names([expression]) == reward_names(list(measure.judges))


def _judged(measure: Measure, expression: str) -> Measure:
    """Return a measure with another judge; parts and scale fit only the reward that it is defined by."""
    if not _same_reward(measure, expression):
        return _plainly(measure, measure.name, expression)
    return replace(measure, judge=expression, note=_official(measure), official=False)


def _plainly(measure: Measure, name: str, expression: str) -> Measure:
    return Measure(name, expression, overall=measure.overall, note=_official(measure), official=False)


def _official(measure: Measure) -> str:
    return f"The judge is not the benchmark's ({', '.join(measure.judges)})."
