"""Reward expressions, sums, and what happens when a reward misbehaves."""

from __future__ import annotations

import logging

import pytest
import torch
from support.tiny import brightness

import steer
from steer import RewardError, SteerError
from steer.registry.plugins import manager
from steer.rewards.by_name import check_rewards, make_reward
from steer.rewards.checked import checked
from steer.rewards.combinations import WeightedSum
from steer.rewards.expressions import Term, parse_expression
from steer.rewards.reward import as_function


@pytest.mark.parametrize(
    ("text", "terms"),
    [
        ("shapes", [Term("shapes")]),
        ("shapes:2", [Term("shapes", None, 2.0)]),
        ("shapes:-0.5", [Term("shapes", None, -0.5)]),
        ("hps:1e+3+clip:.5", [Term("hps", None, 1000.0), Term("clip", None, 0.5)]),
        ("clip:ViT-B-32/laion2b_s34b_b79k", [Term("clip", "ViT-B-32/laion2b_s34b_b79k")]),
        ("shapes:1+clip:shapes:0.5", [Term("shapes"), Term("clip", "shapes", 0.5)]),
        ("./mine.py:bright:2", [Term("./mine.py", "bright", 2.0)]),
        (" a + b ", [Term("a"), Term("b")]),
    ],
)
def test_expressions(text, terms) -> None:
    assert parse_expression(text) == terms


@pytest.mark.parametrize("text", ["", "+", "a:", "a::2", ":2", "a+", "a:+b"])
def test_unreadable_expressions_are_refused_whole(text) -> None:
    with pytest.raises(SteerError, match=r"expected NAME"):
        parse_expression(text)


def test_a_sum_weighs_and_names_its_terms() -> None:
    total = WeightedSum([("one", 1.0, lambda s, p: torch.ones(2)), ("two", -0.5, lambda s, p: torch.full((2,), 4.0))])
    assert total.name == "one+two:-0.5"
    assert total(torch.zeros(2), ["a", "b"]).tolist() == [-1, -1]
    assert not total.is_differentiable


@pytest.mark.parametrize(
    ("returns", "message"),
    [
        (lambda n: torch.tensor([0.0] * (n - 1) + [float("nan")]), r"'bad' returned nan for prompt 'b' \(at step 3\)"),
        (lambda n: torch.full((n,), float("-inf")), r"'bad' returned -inf for prompt 'a' \(at step 3\)"),
        (lambda n: torch.zeros(n + 1), r"shape \(3,\), expected a tensor of shape \(2,\).*at step 3.*'a' and 1 more"),
        (lambda n: torch.zeros(n, 1), r"shape \(2, 1\)"),
        (lambda n: [0.0] * n, "returned list"),
        (lambda n: 1 / 0, r"'bad' raised ZeroDivisionError: division by zero \(at step 3, prompts 'a' and 1 more\)"),
    ],
)
def test_a_bad_score_names_reward_prompt_and_step(returns, message) -> None:
    with pytest.raises(RewardError, match=message):
        checked("bad", lambda s, p: returns(len(p)), torch.zeros(2), ["a", "b"], step=3)


def test_the_traceback_goes_to_the_log_and_a_steer_error_passes(caplog: pytest.LogCaptureFixture) -> None:
    def raises(samples, prompts):
        raise KeyError("deep inside")

    with caplog.at_level(logging.DEBUG), pytest.raises(RewardError, match="on the final samples"):
        checked("r", raises, torch.zeros(1), ["a"])
    assert "deep inside" in caplog.text
    assert "Traceback" in caplog.text

    def user_error(samples, prompts):
        raise SteerError("set the key")

    with pytest.raises(SteerError, match=r"^set the key$"):
        checked("r", user_error, torch.zeros(1), ["a"])


def test_integer_scores_become_floats() -> None:
    assert checked("count", lambda s, p: torch.tensor([1, 2]), None, ["a", "b"]).dtype == torch.float32


def test_what_can_be_a_reward() -> None:
    class Mine(steer.Reward):
        def __call__(self, samples, prompts):
            return torch.ones(len(prompts))

    assert isinstance(as_function("mine", Mine), Mine)
    assert as_function("f", brightness) is brightness
    with pytest.raises(SteerError, match="'n' is a int, expected a function"):
        as_function("n", 3)


def test_a_plain_function_and_a_list_of_rewards(tiny_pipe) -> None:
    def darkness(samples, prompts):
        return 1 - samples.mean((1, 2, 3))

    sampler = steer.Sampler(tiny_pipe)
    arguments = {"steps": 2, "particles": 2, "seed": 1}
    one = sampler.generate("a red circle", reward=brightness, **arguments)
    assert max(one.rewards[0]) == one.items[0].reward
    both = sampler.generate("a red circle", reward=[brightness, darkness], **arguments)
    assert both.rewards[0] == pytest.approx([1.0, 1.0], abs=1e-6)


def test_a_reward_that_fails_in_a_run_names_the_step(tiny_pipe) -> None:
    def fails(samples, prompts):
        return torch.full((len(prompts),), float("nan"))

    with pytest.raises(RewardError, match=r"'fails' returned nan for prompt 'a red circle' \(at step 2\)"):
        steer.Sampler(tiny_pipe).generate("a red circle", methods=["fk"], reward=fails, steps=10, seed=1)


def test_a_reward_is_placed_by_an_option_that_it_need_not_declare() -> None:
    placed = make_reward(["jpeg"], {"jpeg": {"device": "cpu"}}, manager(), torch.device("meta"))
    beside = make_reward(["jpeg"], {}, manager(), torch.device("meta"))
    assert [made.parts[0].device.type for made in (placed, beside)] == ["cpu", "meta"]
    with pytest.raises(SteerError, match="unknown device 'nowhere'"):
        check_rewards(["jpeg"], {"jpeg": {"device": "nowhere"}}, manager())
