"""Figures of benchmarks: means, intervals and differences over prompts, by hand."""

from __future__ import annotations

import numpy as np
import pytest

from steer import Prompt
from steer.evaluate.bench.benchmark import OVERALL, Measure, by_category
from steer.evaluate.bench.figures import differences, figures, values_of
from steer.evaluate.statistics import Interval, average, bootstrap_mean, share

PROMPTS = [Prompt(f"prompt {number}", id=str(number), category="ab"[number % 2]) for number in range(12)]


def scored(*scores: float) -> dict[str, list[tuple[float, dict]]]:
    """Return one image per prompt."""
    return {prompt.id: [(score, {})] for prompt, score in zip(PROMPTS, scores, strict=False)}


def test_verdicts_give_shares_and_their_mean_over_groups() -> None:
    measure = Measure("m", "judge", overall="groups")
    verdicts = [1.0, 0.0] * 3 + [1.0, 1.0] * 3
    found = figures(measure, values_of(measure, PROMPTS, scored(*verdicts)))
    assert list(found) == ["a", "b", OVERALL]
    ours = (found["b"].estimate, found["b"].low, found["b"].high)
    expected = share([0.0, 0.0, 0.0, 1.0, 1.0, 1.0])
    assert (
        ours
        == (expected.estimate, expected.low, expected.high)
        == (0.5, pytest.approx(0.188, abs=1e-3), pytest.approx(0.812, abs=1e-3))
    )
    assert found["a"].estimate == 1 and found["a"].low < 0.7  # six of six are no certainty
    assert found[OVERALL].estimate == 0.75 and found[OVERALL].prompts == 12
    assert found[OVERALL].low == pytest.approx(0.75 - np.hypot(1 - found["a"].low, 0.5 - found["b"].low) / 2)


def test_scores_are_averaged_within_prompts_and_scaled() -> None:
    measure = Measure("m", "judge", scale=100)
    images = {prompt.id: [(0.1 * number, {}), (0.3, {})] for number, prompt in enumerate(PROMPTS)}
    found = figures(measure, values_of(measure, PROMPTS, images))
    means = [(0.1 * number + 0.3) / 2 for number in range(12)]
    expected = bootstrap_mean(means)
    assert found[OVERALL].estimate == pytest.approx(100 * np.mean(means))
    assert (found[OVERALL].low, found[OVERALL].high) == pytest.approx((100 * expected.low, 100 * expected.high))


def test_groups_with_different_numbers_of_values_are_means_over_values() -> None:
    def parts(score, details, prompt):
        return [("x", value) for value in details["values"]]

    measure = Measure("m", "judge", parts=parts, whole=lambda score, details, prompt: np.mean(details["values"]))
    rows = [[1.0], [0.0, 0.0, 0.5], [1.0, 1.0], [0.25], [0.5, 0.0], [1.0]]
    images = {prompt.id: [(0.0, {"values": row})] for prompt, row in zip(PROMPTS, rows, strict=False)}
    found = figures(measure, values_of(measure, PROMPTS, images))
    assert found["x"].estimate == pytest.approx(np.mean([value for row in rows for value in row]))
    assert found["x"].low < found["x"].estimate < found["x"].high and found["x"].prompts == 6
    assert found[OVERALL].estimate == pytest.approx(np.mean([np.mean(row) for row in rows]))


def test_few_prompts_have_no_interval_and_missing_ones_do_not_count() -> None:
    measure = Measure("m", "judge")
    found = figures(measure, values_of(measure, PROMPTS, scored(1.0, 0.0, 0.5)))
    assert (found[OVERALL].estimate, found[OVERALL].low, found[OVERALL].prompts) == (0.5, None, 3)
    assert found["a"].prompts == 2


def test_differences_are_paired_over_the_prompts_that_both_have() -> None:
    measure = Measure("m", "judge")
    noise = np.random.default_rng(0).normal(size=12)
    first, second = values_of(measure, PROMPTS, scored(*(noise + 1))), values_of(measure, PROMPTS, scored(*noise[:10]))
    found = differences(measure, first, second)
    assert found[OVERALL].estimate == pytest.approx(1) and found[OVERALL].prompts == 10
    assert found[OVERALL].high - found[OVERALL].low < 1e-6
    verdicts = (
        values_of(measure, PROMPTS, scored(*[1.0] * 8, *[0.0] * 4)),
        values_of(measure, PROMPTS, scored(*[0.0] * 12)),
    )
    gain = differences(measure, *verdicts)[OVERALL]
    assert gain.estimate == pytest.approx(2 / 3) and 0.2 < gain.low < 0.5
    assert differences(measure, first, values_of(measure, PROMPTS, {})) == {}


@pytest.mark.slow
def test_means_of_independent_intervals_cover_as_often_as_they_say() -> None:
    generator, hits = np.random.default_rng(1), 0
    rates = (0.98, 0.7, 0.4, 0.05)
    for _ in range(400):
        parts = [share((generator.random(80) < rate) * 1.0) for rate in rates]
        found = average(parts)
        hits += found.low <= np.mean(rates) <= found.high
    assert 0.93 <= hits / 400 <= 0.98
    one = Interval(0.5, 0.4, 0.8)
    assert average([one]) == Interval(0.5, pytest.approx(0.4), pytest.approx(0.8))


def test_prompts_without_a_category_are_in_no_group() -> None:
    assert list(by_category(1.0, {}, Prompt("x"))) == []
