"""FK steering as people meet it: schedule, options, messages, weights kept."""

from __future__ import annotations

import math
import warnings

import pytest
import torch
from support.tiny import brightness

import steer
from steer import SteerError
from steer.settings.options import build
from steer_fk.options import FKOptions


def generate(pipe, *, fk=None, **settings):
    arguments = {"particles": 4, "seed": 3, "steps": 10, "reward": brightness, **settings}
    return steer.Sampler(pipe).generate("a red circle", methods=["fk"], options={"fk": fk or {}}, **arguments)


def test_the_schedule_of_the_paper() -> None:
    assert FKOptions(start=0.2, end=0.8, every=0.2).schedule(100) == {20, 40, 60, 80}
    assert FKOptions(start=0, end=1, every=1).schedule(10) == {0}
    assert FKOptions(start=0, end=1, every=0.001).schedule(3) == {0, 1, 2}
    assert FKOptions(at=(1, 5)).schedule(10) == {1, 5}


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"lambda": "-1"}, "fk.lambda: got '-1', expected float >= 0"),
        ({"potential": "sum"}, r"fk.potential: got 'sum', expected diff\|max\|add\|rt\|adaptive"),
        ({"particles": "1"}, "fk.particles"),
        ({"start": "0.9", "end": "0.1"}, "start=0.9 is after end=0.1"),
        ({"lambd": "1"}, "unknown option fk.lambd — did you mean 'lambda'"),
    ],
)
def test_bad_options_say_what_was_expected(values, message) -> None:
    with pytest.raises(SteerError, match=message):
        build(FKOptions, values, "fk")


def test_a_sampler_without_noise_is_refused_with_what_to_set(tiny_pipe) -> None:
    with pytest.raises(SteerError, match=r"eta=0.*set --eta 1"):
        generate(tiny_pipe, eta=0.0)
    with pytest.raises(SteerError, match="ddim, ddpm, euler"):
        generate(tiny_pipe, scheduler="dpm++")


def test_what_it_needs_is_said(tiny_pipe) -> None:
    with pytest.raises(SteerError, match="fk needs a reward"):
        generate(tiny_pipe, reward=None)
    with pytest.raises(SteerError, match="at least 2 particles per prompt, got 1; set --particles 2 or more"):
        generate(tiny_pipe, particles=1)
    with pytest.raises(SteerError, match=r"fk.at=10 is outside the run's steps; expected 0..9"):
        generate(tiny_pipe, fk={"at": "3,10"})
    with pytest.raises(SteerError, match=r"fk needs particles=8, but you asked for particles=4"):
        generate(tiny_pipe, fk={"particles": 8})


@pytest.mark.slow
@pytest.mark.parametrize(("fk", "share"), [({}, 0.5), ({"preset": "glass"}, 0.3)])
def test_adaptive_strength_does_not_see_the_scale_of_rewards(tiny_pipe, fk, share) -> None:
    def scaled(samples, prompts):
        return 4096 * brightness(samples, prompts) - 10

    fk = {"potential": "adaptive", "lambda": 3, **fk}
    first, second = (generate(tiny_pipe, fk=fk, reward=r, particles=8).items[0] for r in (brightness, scaled))
    lineages = [
        [event["ancestors"] for event in item.trace["events"] if event["kind"] == "resample"]
        for item in (first, second)
    ]
    assert lineages[0] == lineages[1] != []
    # lambda holds at the end, in the reward's own units
    assert 0 < first.trace["log_z"] < 6 < 100 < second.trace["log_z"]
    diff = generate(tiny_pipe, fk={**fk, "potential": "diff"}, particles=8).items[0]
    sizes = [next(e["ess"] for e in item.trace["events"] if e["kind"] == "fk") / 8 for item in (first, diff)]
    assert sizes[0] == pytest.approx(share, abs=1e-6)  # ess_target
    assert sizes[1] > 0.9


@pytest.mark.slow
def test_equal_rewards_never_resample_and_log_z_is_exact(tiny_pipe) -> None:
    def constant(samples, prompts):
        return torch.full((len(prompts),), 0.25)

    item = generate(tiny_pipe, reward=constant, fk={"lambda": 8}).items[0]
    assert item.trace["log_z"] == pytest.approx(2.0)
    assert item.trace["unique_ancestors"] == 4
    assert not any(event["kind"] == "resample" for event in item.trace["events"])


@pytest.mark.slow
@pytest.mark.parametrize(("fk", "warned"), [({}, True), ({"potential": "diff"}, False), ({"reward_min": -9}, False)])
def test_rewards_that_the_potential_cannot_see_are_warned_of(tiny_pipe, fk, warned) -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        generate(tiny_pipe, reward=lambda samples, prompts: brightness(samples, prompts) - 2, fk=fk, steps=4)
        generate(tiny_pipe, reward=lambda samples, prompts: torch.zeros(len(prompts)), steps=4)  # nothing to see at all
    assert sum("saw no reward above fk.reward_min=0" in str(warning.message) for warning in caught) == warned


@pytest.mark.slow
def test_the_trace_is_consistent_with_itself(tiny_pipe) -> None:
    trace = generate(tiny_pipe, fk={"lambda": 500, "potential": "diff"}, particles=8).items[0].trace
    fk = [event for event in trace["events"] if event["kind"] == "fk"]
    assert [event["step"] for event in fk] == [2, 4, 6, 8, 10]
    assert trace["log_z"] == pytest.approx(fk[-1]["log_z"])
    ancestors = list(range(8))
    for event in trace["events"]:
        if event["kind"] == "resample":
            ancestors = [ancestors[slot] for slot in event["ancestors"]]
    assert len(set(ancestors)) == trace["unique_ancestors"] == fk[-1]["unique_ancestors"] < 8
    assert all(1 <= event["ess"] <= 8 and math.isfinite(event["log_z"]) for event in fk)


@pytest.mark.slow
@pytest.mark.parametrize("scheduler", ["ddim", "dpm2-a"])  # the second evaluates twice in a step, and narrows once
def test_a_funnel_ends_with_fewer_particles(tiny_pipe, scheduler) -> None:
    own = {"keep": 0.5, "at": "2,5", "ess_threshold": 0, "lambda": 3}
    item = generate(tiny_pipe, fk=own, particles=7, scheduler=scheduler).items[0]
    assert item.trace["particles"] == 2  # 7, 4, 2
    assert item.trace["log_z"] is not None
    assert not item.trace["biased"]
    remaining = [event["slots"] for event in item.trace["events"] if event["kind"] == "resample"]
    assert [len(slots) for slots in remaining] == [4, 2]
    assert set(remaining[1]) < set(remaining[0]) < set(range(7))


@pytest.mark.slow
@pytest.mark.parametrize("fk", [{}, {"preset": "glass"}])
def test_an_outer_search_may_end_a_prompt_before_others(tiny_pipe, fk) -> None:
    def red(samples, prompts):
        return torch.tensor([float("red" in prompt) for prompt in prompts])

    options = {"best-of-n": {"n": 8, "target": 0.5}, "fk": fk}
    result = steer.Sampler(tiny_pipe).generate(
        ["a red circle", "a blue star"], methods=["best-of-n", "fk"], options=options, reward=red, particles=4, steps=4
    )
    spent = [item.trace["events"][-1]["spent"] for item in result.items]
    assert len(result.items) == 2
    assert max(spent[0]) < max(spent[1])


def test_weights_beyond_float64_are_an_error(tiny_pipe) -> None:
    def huge(samples, prompts):
        return samples.double().mean((1, 2, 3)) * 1e305

    with pytest.raises(SteerError, match=r"left the range of float64; lower fk.lambda"):
        generate(tiny_pipe, reward=huge, fk={"lambda": 1e6})


@pytest.mark.slow
def test_the_preset_glass_has_transitions_and_a_funnel(tiny_pipe) -> None:
    result = generate(tiny_pipe, fk={"preset": "glass"}, steps=6)
    item = result.items[0]
    assert item.recipe.settings["transitions"] == 2
    # fewer after two evaluations, again between the transitions, and weighed at the end
    assert [event["step"] for event in item.trace["events"] if event["kind"] == "fk"] == [1, 3, 6]
    assert item.trace["particles"] == 1
    own = {"lambda": 4, "potential": "adaptive", "ess_target": 0.3, "keep": 0.5, "start": 0.1, "end": 0.1}
    assert generate(tiny_pipe, fk={"preset": "glass", **own}, steps=6).rewards == result.rewards
    given = generate(tiny_pipe, fk={"preset": "glass", "keep": 1, "lambda": 500}, steps=6, transitions=3).items[0]
    assert given.recipe.settings["transitions"] == 3
    assert given.trace["particles"] == 4
    assert [event["step"] for event in given.trace["events"] if event["kind"] == "fk"] == [2, 6]
