"""Searches that spend less on the worst: pruning on the way, and refining the best."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats
from support.tiny import brightness

from steer import Sampler, SteerError
from steer.prompts.prompt import Prompt
from steer.sampling.hooks import make_run
from steer.sampling.start import Start
from steer_search.stopping import expected_gain

TEXTS = ["a red circle", "a blue square", "the photo"]
EACH = 2  # evaluations per step, guided


@pytest.fixture(scope="module")
def sampler(tiny_pipe) -> Sampler:
    return Sampler(tiny_pipe)


def generate(sampler: Sampler, method: str, prompts: Any = TEXTS, *, options: dict[str, Any], **arguments: Any):
    settings = {"steps": 4, "guidance_scale": 3.0, "chunk": 4, "reward": brightness, "seed": 5, "eta": 1.0, **arguments}
    return sampler.generate(prompts, methods=method, options={method: options}, **settings)


def candidates(item: Any, name: str) -> list[Any]:
    return [value for event in item.trace["events"] if event["kind"] == "candidate" for value in event[name]]


@pytest.mark.slow  # four searches of three prompts
def test_pruned_particles_cost_nothing_more_and_the_others_are_what_they_were(sampler) -> None:
    result = generate(sampler, "prune", options={"particles": 6, "at": "0.25,0.5", "keep": 0.5}, choose="all")
    plain = generate(sampler, "best-of-n", options={"n": 6}, choose="all")
    for pruned, whole in zip(result.items, plain.items, strict=True):
        # 6 for the first step and the second, 3 from there on, 2 from half on; each look is after the prediction
        assert len(pruned.samples) == 2
        by_slot = {sample.slot: sample for sample in whole.samples}
        for sample in pruned.samples:
            assert sample.image.tobytes() == by_slot[sample.slot].image.tobytes()
        looks = [event for event in pruned.trace["events"] if event["kind"] == "reward"]
        assert [len(event["slots"]) for event in looks] == [6, 3, 2]
        order = sorted(zip(looks[0]["reward"], looks[0]["slots"], strict=True), reverse=True)
        assert sorted(slot for _, slot in order[:3]) == looks[1]["slots"]
        assert pruned.trace["log_z"] is None
    assert result.cost.nfe == len(TEXTS) * EACH * (6 + 6 + 3 + 2)
    alone = generate(sampler, "prune", TEXTS[1], options={"particles": 6, "at": "0.25,0.5", "keep": 0.5})
    assert alone.images[0].tobytes() == max(result.items[1].samples, key=lambda s: s.reward).image.tobytes()
    ahead = generate(sampler, "prune", options={"particles": 4, "at": "0.25", "keep": 0.25, "lookahead": 1})
    assert ahead.cost.nfe == len(TEXTS) * EACH * (4 + 4 + 4 + 1 + 1)


def test_packs_are_made_for_those_that_are_left(sampler) -> None:
    from steer.sampling.session import Session, pack_size_of

    sizes = []
    for options in ({"prune": {"particles": 32, "keep": 0.25}}, {"fk": {"particles": 32}}):
        session = Session(
            sampler.model, sampler.plugins, methods=list(options), reward=brightness, options=options, chunk=4
        )
        sizes.append(pack_size_of(session.run([Prompt("a")])))
    assert sizes == [64 // 8, 64 // 32]


@pytest.mark.slow  # searches up to a budget
@pytest.mark.parametrize("nfe", [24, 45, 80])
def test_refinement_keeps_to_its_budget_and_gets_no_worse(sampler, nfe) -> None:
    options = {"nfe": nfe, "survivors": 2, "copies": 2}
    item = generate(sampler, "refine", TEXTS[0], options=options).items[0]
    spent, origins, rewards = (candidates(item, name) for name in ("spent", "origin", "reward"))
    seeds = max(1, nfe // 2 // (4 * EACH))
    assert origins.count("seed") == seeds
    assert max(spent) <= nfe < max(spent) + 2 * EACH  # another refinement would not have been paid for
    assert item.reward == max(rewards)
    again = generate(sampler, "refine", options=options)
    assert again.images[0].tobytes() == item.images[0].tobytes()  # whatever the pack
    assert len(item.samples) == 1


@pytest.mark.slow
def test_a_refinement_whose_seeds_overdrew_ends_and_says_so(sampler) -> None:
    with pytest.warns(UserWarning, match="the budget of 12 evaluations per prompt was overdrawn: the methods within"):
        result = sampler.generate(
            TEXTS[0], methods=["refine", "fk"], reward=brightness, steps=4, guidance_scale=3.0, particles=4, seed=5,
            options={"refine": {"nfe": 12}},
        )  # fmt: skip
    assert len(result.images) == 1


@pytest.mark.slow
def test_rounds_targets_and_what_is_kept(sampler) -> None:
    options = {"seeds": 3, "rounds": 2, "survivors": 2, "copies": 1, "depth": 0.25}
    item = generate(sampler, "refine", TEXTS[0], options=options, choose="all").items[0]
    assert candidates(item, "origin") == ["seed"] * 3 + ["refined"] * 4
    assert len(item.samples) == item.trace["unique_ancestors"] == 2  # distinct ones
    assert candidates(item, "spent")[-1] == EACH * (3 * 4 + 4 * 1)
    easy = generate(sampler, "refine", TEXTS[0], options={**options, "target": -1}).items[0]
    assert set(candidates(easy, "origin")) == {"seed"}
    with pytest.raises(SteerError, match=r"refine.nfe=7 is less than one sample takes \(8\)"):
        generate(sampler, "refine", TEXTS[0], options={"nfe": 7})


@pytest.mark.slow
def test_renoised_data_is_at_its_level(sampler) -> None:
    run = make_run(sampler.backbone, [Prompt("a", seed=3), Prompt("b", seed=9)], settings={"steps": 5, "eta": 1.0})
    start = Start.of([0, 1], [4, 7])
    x0 = torch.randn(4, *run.latent_shape, generator=torch.Generator().manual_seed(0))
    state = run.renoised(x0, start, 2)
    process = run.process()
    cumulative = float(process.scheduler.alphas_cumprod[int(process.scheduler.timesteps[2])])
    wanted = cumulative**0.5 * x0 + (1 - cumulative) ** 0.5 * run.noise(start)
    assert torch.allclose(state.x, wanted, atol=1e-6)
    assert (state.step, state.biased) == (2, True)
    assert run.sample(state).done and run.cost.nfe == 3 * 4 * state.conditioning.evaluations


@pytest.mark.slow
def test_the_expected_gain_of_one_more_sample_is_that_of_students_t() -> None:
    rewards = [0.2, 0.9, 0.4, 0.7, 0.5]
    values = np.array(rewards)
    draws = values.mean() + values.std(ddof=1) * (1 + 1 / 5) ** 0.5 * stats.t.rvs(4, size=2_000_000, random_state=0)
    gains = np.maximum(draws - values.max(), 0)
    assert expected_gain(rewards) == pytest.approx(gains.mean(), abs=5 * gains.std() / len(draws) ** 0.5)
    assert expected_gain([0.3] * 4) == 0
    with pytest.raises(ValueError, match="at least 4"):
        expected_gain([1.0, 2.0])


@pytest.mark.slow
def test_samples_by_difficulty_whatever_the_pack(sampler) -> None:
    def varied(samples, prompts):  # the photo is easy: all its samples are as good
        known = samples.mean(dim=(1, 2, 3))
        return torch.where(torch.tensor([prompt == "the photo" for prompt in prompts]), torch.ones_like(known), known)

    options = {"n": 24, "min_gain": 1e-4}
    arguments = {"options": options, "particles": 4, "steps": 2, "reward": varied}
    items = generate(sampler, "best-of-n", **arguments).items
    drawn = [len(candidates(item, "reward")) for item in items]
    assert drawn[2] == 4 < max(drawn[:2])
    alone = generate(sampler, "best-of-n", TEXTS[1], **arguments).items[0]
    assert candidates(alone, "reward") == candidates(items[1], "reward")
