"""Figures of benchmarks are those of the published evaluations, which gave these numbers for the same answers."""

from __future__ import annotations

import pytest
from support.answers import graphs as made_up_graphs
from support.answers import soft_tifa

from steer.evaluate.bench.figures import figures, values_of
from steer.plugin import Benchmark
from steer_benchmarks.graphs import DPG, GENEVAL2, aligned
from steer_rewards.graph import geometric_mean, with_dependencies


def estimates(benchmark: Benchmark, prompts, scored) -> dict[str, dict[str, float]]:
    """Return each measure's figures by group."""
    return {
        measure.name: {
            name: figure.estimate for name, figure in figures(measure, values_of(measure, prompts, scored)).items()
        }
        for measure in benchmark.measures
    }


def test_geneval2() -> None:
    answers = soft_tifa(120)
    scored = {prompt.id: [(geometric_mean(right), {"answers": right})] for prompt, right in answers}
    found = estimates(GENEVAL2, [prompt for prompt, _ in answers], scored)
    assert found["GM"] == pytest.approx(
        {
            "3 atoms": 40.715620834970586, "4 atoms": 39.72178905392983, "5 atoms": 43.79164336464224,
            "6 atoms": 44.05129650427535, "7 atoms": 37.16382857161376, "8 atoms": 38.21392457929945,
            "9 atoms": 41.08095959590435, "10 atoms": 40.55487506054804, "overall": 40.66174219564793,
        }
    )  # fmt: skip
    assert found["AM"] == pytest.approx(
        {
            "object": 53.04299575978854, "attribute": 47.24630298692145, "count": 48.5084964290689,
            "position": 50.89832159447565, "verb": 49.15441006840406, "overall": 49.77706419266847,
        }
    )  # fmt: skip


def test_dpg() -> None:
    answers = made_up_graphs(60)
    scored = {}
    for prompt, said in answers:
        counted = with_dependencies(said, prompt.metadata["dependencies"])
        scored[prompt.id] = [(sum(counted) / len(counted), {"answers": said})]
    (found,) = estimates(DPG, [prompt for prompt, _ in answers], scored).values()
    assert found == pytest.approx(
        {
            "entity": 73.33333333333333, "other": 65.4320987654321, "relation": 70.9090909090909, "global": 68.0,
            "attribute": 70.58823529411765, "overall": 50.097883597883595,
        }
    )  # fmt: skip


def test_oneig_counts_direct_parents_alone() -> None:
    prompt, _ = made_up_graphs(1)[0]
    chain = prompt.having(metadata={"questions": ["a", "b", "c"], "dependencies": [[], [0], [1]]})
    answers = [False, True, True]
    assert aligned(0.0, {"answers": answers}, chain) == pytest.approx(1 / 3)
    assert with_dependencies(answers, [[], [0], [1]]) == [False, False, False]  # DPG-Bench's rule
