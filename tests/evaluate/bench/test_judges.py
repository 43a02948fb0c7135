"""Other judges than a benchmark's: which measures and published figures are left."""

from __future__ import annotations

import pytest

from steer import SteerError
from steer.evaluate.bench.benchmark import Benchmark, Measure, Published, by_category, the_score
from steer.evaluate.bench.judges import with_judges


def answers(score, details, prompt):
    """Read what another reward does not say."""
    return [("x", value) for value in details["answers"]]


ASKED = Measure("asked", "dsg", parts=answers, overall="groups", scale=100)
LIKED = Measure("liked", "hps", scale=100)
BENCHMARK = Benchmark(
    "Mine", "nowhere", lambda files: [], (ASKED, LIKED),
    published=(Published("a model", "a paper", {"asked": {"overall": 70.0}, "liked": {"overall": 30.0}}),),
)  # fmt: skip


def measures(*given: str) -> dict[str, Measure]:
    return {measure.name: measure for measure in with_judges(BENCHMARK, given).measures}


def shown(*given: str) -> set[str]:
    return set(with_judges(BENCHMARK, given).published[0].figures)


def test_without_any_the_benchmark_is_as_it_is() -> None:
    assert with_judges(BENCHMARK, ()) == BENCHMARK


def test_the_same_reward_of_another_model_keeps_parts_scale_and_published_figures() -> None:
    for given in ("dsg:other/model", "asked=dsg:other/model"):
        found = measures(given)
        assert found["asked"].judge == "dsg:other/model" and found["asked"].parts is answers
        assert found["asked"].scale == 100 and found["asked"].note == "The judge is not the benchmark's (dsg)."
        assert not found["asked"].official
        assert found["liked"] is LIKED and shown(given) == {"asked", "liked"}


def test_another_reward_is_a_measure_of_its_own() -> None:
    found = measures("clip", "hps:other", "clip")
    assert list(found) == ["liked", "clip"] and found["liked"].judge == "hps:other"
    assert found["clip"].parts is by_category and found["clip"].whole is the_score
    assert (found["clip"].scale, found["clip"].overall) == (1, "groups")
    assert shown("clip", "hps:other") == {"liked"} and shown("clip") == set()


def test_a_named_measure_takes_another_reward_as_it_is() -> None:
    found = measures("asked=clip:0.5")
    assert found["asked"].judge == "clip:0.5" and found["asked"].parts is by_category and found["asked"].scale == 1
    assert found["liked"] is LIKED and shown("asked=clip:0.5") == {"liked"}


def test_a_measure_has_one_judge() -> None:
    for given in (("asked=clip", "asked=jpeg"), ("dsg:a", "dsg:b"), ("dsg:a", "asked=jpeg")):
        with pytest.raises(SteerError, match="asked has a judge already; give each measure one, asked=EXPR"):
            with_judges(BENCHMARK, given)
