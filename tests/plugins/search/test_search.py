"""Searches without gradients: what they draw, keep, spend and record."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import DDIMScheduler
from PIL import Image
from support.linear_gaussian import LinearGaussian
from support.tiny import brightness
from torch import Tensor

from steer import Method, Prompt, Sampler, SteerError, hookimpl
from steer.prompts.prompt import as_prompts
from steer.registry.plugins import manager
from steer.results.trace_plot import plot
from steer.rewards.combinations import WeightedSum
from steer.sampling.hooks import make_run, methods_of
from steer.sampling.methods_by_name import make_methods
from steer.sampling.run import Run
from steer.sampling.start import Start
from steer.sampling.state import State
from steer.sampling.trace import trace_of

TEXTS = ["a red circle", "a blue square", "the photo"]


@pytest.fixture(scope="module")
def sampler(tiny_pipe) -> Sampler:
    return Sampler(tiny_pipe)


def generate(sampler: Sampler, prompts: Any = TEXTS, **arguments: Any):
    settings = {"steps": 2, "guidance_scale": 3.0, "chunk": 6, "reward": brightness, "seed": 5, **arguments}
    return sampler.generate(prompts, **settings)


def candidates(trace: dict[str, Any], name: str) -> list[Any]:
    return [value for event in trace["events"] if event["kind"] == "candidate" for value in event[name]]


@pytest.mark.slow
@pytest.mark.parametrize("particles", [6, 4, 1])
@pytest.mark.parametrize("eta", [0.0, 1.0])
def test_best_of_n_is_the_best_of_n_plain_samples_in_any_rounds(sampler, particles, eta) -> None:
    plain = generate(sampler, particles=6, eta=eta)
    best = generate(sampler, particles=particles, eta=eta, methods="best-of-n", options={"best-of-n": {"n": 6}})
    assert best.cost.nfe == plain.cost.nfe == 3 * 6 * 2 * 2
    for one, many in zip(best.items, plain.items, strict=True):
        assert len(one.samples) == 1
        assert one.samples[0].slot == many.samples[many.chosen[0]].slot
        assert one.images[0].tobytes() == many.images[0].tobytes()
        assert candidates(one.trace, "slots") == list(range(6))
        assert candidates(one.trace, "reward") == [sample.reward for sample in many.samples]
        assert candidates(one.trace, "spent")[-1] == 6 * 2 * 2
        assert set(candidates(one.trace, "origin")) == {"seed"}


@pytest.mark.slow
def test_no_result_depends_on_the_pack(sampler) -> None:
    arguments = {"methods": "zero-order", "particles": 3, "options": {"zero-order": {"rounds": 2}}, "eta": 1.0}
    crowd = generate(sampler, **arguments)
    alone = generate(sampler, TEXTS[1], **arguments)
    assert alone.images[0].tobytes() == crowd.images[1].tobytes()
    assert candidates(alone.trace[0], "reward") == candidates(crowd.trace[1], "reward")
    assert candidates(alone.trace[0], "spent") == candidates(crowd.trace[1], "spent")


@pytest.mark.slow
def test_all_samples_are_kept_where_all_are_chosen(sampler) -> None:
    options = {"best-of-n": {"n": 5}}
    item = generate(sampler, TEXTS[0], methods="best-of-n", options=options, particles=2, choose="all").items[0]
    assert [sample.slot for sample in item.samples] == [0, 1, 2, 3, 4]
    assert not item.trace["biased"]
    item = generate(sampler, TEXTS[0], methods="best-of-n", options={"best-of-n": {"n": 5, "keep": 2}}).items[0]
    rewards = sorted(candidates(item.trace, "reward"), reverse=True)
    assert sorted((s.reward for s in item.samples), reverse=True) == rewards[:2]
    assert item.reward == rewards[0]
    assert item.trace["log_z"] is None  # who is left is no weighted draw


@pytest.mark.slow
def test_by_default_n_is_the_particles_asked_for_else_sixteen(sampler) -> None:
    assert len(candidates(generate(sampler, TEXTS[0], methods="best-of-n", particles=3).trace[0], "slots")) == 3
    item = generate(sampler, TEXTS[0], methods="best-of-n", steps=1).items[0]
    assert len(candidates(item.trace, "slots")) == 16
    assert item.recipe.options["best-of-n"]["n"] == 16


@pytest.mark.slow
@pytest.mark.parametrize("method", ["best-of-n", "random", "zero-order"])
def test_a_budget_in_evaluations_is_used_and_never_exceeded(sampler, method) -> None:
    budget, each = 45, 4  # two steps, guided
    options = {method: {"nfe": budget, **({"n": 100} if method == "best-of-n" else {})}}
    result = generate(sampler, TEXTS[:2], methods=method, options=options, particles=4)
    rounds = budget // (4 * each) * 4 if method == "zero-order" else budget // each
    assert result.cost.nfe == 2 * rounds * each
    for item in result.items:
        assert len(candidates(item.trace, "slots")) == rounds
        resolved = item.recipe.options[method]
        assert resolved["nfe"] is None
        again = generate(sampler, str(item.prompt), methods=method, options={method: resolved}, particles=4)
        assert again.images[0].tobytes() == item.images[0].tobytes()


@pytest.mark.parametrize(("nfe", "particles"), [(8, 2), (11, 2), (4, 1), (3, 1), (80, 16)])
def test_a_budget_asks_for_the_particles_that_it_pays_for(sampler, nfe, particles) -> None:
    run = make_run(
        sampler.backbone, as_prompts(TEXTS), settings={"steps": 2, "guidance_scale": 3.0},
        methods=make_methods(["random"], {"random": {"nfe": nfe}}, manager()),
        reward=WeightedSum([("brightness", 1.0, brightness)]),
    )  # fmt: skip
    assert run.particles == particles  # so that a pack of prompts fills its batches


@pytest.mark.slow  # searches as long as it says
def test_a_budget_in_seconds_ends_the_search_and_its_recipe_needs_no_clock(sampler) -> None:
    result = generate(sampler, TEXTS[:2], methods="random", options={"random": {"seconds": 0.4}}, particles=2)
    for item in result.items:
        drawn = len(candidates(item.trace, "slots"))
        assert item.recipe.options["random"] == {"nfe": None, "seconds": None, "target": None, "n": drawn}
        again = generate(sampler, str(item.prompt), methods="random", options=item.recipe.options, particles=2)
        assert again.images[0].tobytes() == item.images[0].tobytes()


@pytest.mark.slow
def test_a_target_ends_each_prompts_search_by_itself(sampler) -> None:
    rewards = [[s.reward for s in item.samples] for item in generate(sampler, particles=12).items]
    target = sorted(row[1] for row in rewards)[1]
    result = generate(sampler, methods="random", options={"random": {"n": 12, "target": target}}, particles=1)
    for item, row in zip(result.items, rewards, strict=True):
        reached = next((i + 1 for i, value in enumerate(row) if value >= target), 12)
        assert len(candidates(item.trace, "slots")) == reached
    assert result.cost.nfe == 4 * sum(len(candidates(trace, "slots")) for trace in result.trace)


@pytest.mark.slow  # populations within searches
def test_searches_nest_over_populations_that_steer(sampler) -> None:
    fk = {"fk": {"lambda": 300.0, "at": (1,)}}
    arguments = {"eta": 1.0, "steps": 3, "particles": 4}
    inner = generate(sampler, TEXTS[0], methods="fk", options=fk, **arguments).items[0]
    options = {**fk, "best-of-n": {"n": 12}}
    item = generate(sampler, TEXTS[0], methods=["best-of-n", "fk"], options=options, **arguments).items[0]
    assert [event["slots"] for event in item.trace["events"] if event["kind"] == "resample"] == [
        [0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 10, 11]
    ]  # fmt: skip
    assert candidates(item.trace, "reward")[:4] == [s.reward for s in inner.samples]
    assert item.reward == max(candidates(item.trace, "reward"))
    kept = generate(sampler, TEXTS[0], methods=["best-of-n", "fk"], options=options, choose="weighted", **arguments)
    assert len(kept.items[0].samples) == 12
    assert kept.trace[0]["log_z"] is not None  # the mean of three unbiased estimates

    class Sets(Method):
        """Takes no part in a population."""

        name = "sets"

        @hookimpl
        def configure(self, run: Run) -> None:
            run.set("eta", 1.0, by="sets")

    odd = generate(sampler, TEXTS[0], methods=["best-of-n", Sets()], options={"best-of-n": {"n": 6}}, **arguments)
    assert len(candidates(odd.trace[0], "slots")) == 6
    with pytest.warns(UserWarning, match="budget of 10 evaluations per prompt was overdrawn.*took 24"):
        options = {**fk, "best-of-n": {"nfe": 10}}
        generate(sampler, TEXTS[0], methods=["best-of-n", "fk"], options=options, **arguments)
    with pytest.raises(SteerError, match=r"n=6 is not a multiple of the 4 particles .* set best-of-n.n=8"):
        generate(sampler, TEXTS[0], methods=["best-of-n", "fk"], options={**fk, "best-of-n": {"n": 6}}, **arguments)


@pytest.mark.slow
def test_traces_are_drawn(sampler, tmp_path: Path) -> None:
    item = generate(sampler, TEXTS[0], methods="zero-order", particles=2, options={"zero-order": {"rounds": 1}}).items[
        0
    ]
    (tmp_path / "trace.png").write_bytes(plot(item.trace))
    with Image.open(tmp_path / "trace.png") as picture:
        assert picture.width > 500


@pytest.mark.parametrize(
    ("methods", "arguments", "said"),
    [
        ("best-of-n", {"reward": None}, "best-of-n needs a reward"),
        ("random", {}, "give one: -o random.nfe"),
        ("best-of-n", {"options": {"best-of-n": {"nfe": 3}}}, r"nfe=3 is less than one sample takes \(4\)"),
        ("zero-order", {"options": {"zero-order": {"nfe": 31}}}, r"nfe=31 is less than one round takes \(32\)"),
        ("best-of-n", {"options": {"best-of-n": {"n": 0}}}, "expected int or none >= 1"),
    ],
)
def test_what_does_not_fit_is_one_line(sampler, methods, arguments, said) -> None:
    with pytest.raises(SteerError, match=said):
        generate(sampler, TEXTS[0], methods=methods, **arguments)


# ---- against a diffusion of which everything is known ----------------------------------------------------


def near(samples: Tensor, prompts: Sequence[Prompt]) -> Tensor:
    """Squared distance to a far point, rounded: nothing to differentiate."""
    return -((samples.double() - torch.tensor([2.5, 2.0])) ** 2).sum(dim=1).mul(50).round().div(50)


def linear_run(
    methods: Any, options: Any, *, seeds: Sequence[int] = (1,), choose: str = "best", **settings: Any
) -> Run:
    scheduler = DDIMScheduler(beta_schedule="scaled_linear", clip_sample=False, set_alpha_to_one=True)
    prompts = as_prompts([Prompt(f"p{seed}", id=f"p{seed}", seed=seed) for seed in seeds])
    return make_run(
        LinearGaussian(scheduler), prompts, settings={"steps": 4, "chunk": 16, **settings},
        methods=make_methods(methods, options, manager()), reward=WeightedSum([("near", 1.0, near)]), choose=choose,
    )  # fmt: skip


@pytest.mark.slow  # twenty searches of 128 samples, twice
def test_random_steps_around_the_best_beat_fresh_seeds_at_equal_cost() -> None:
    seeds = range(0, 4000, 200)
    zero = linear_run(["zero-order"], {"zero-order": {"rounds": 15}}, seeds=seeds)
    reached = zero.search().rewards()
    best = linear_run(["best-of-n"], {"best-of-n": {"n": 128}}, seeds=seeds)
    assert zero.cost.nfe == len(seeds) * 128 * 4
    assert float((reached - best.search().rewards()).mean()) > 0.5


@pytest.mark.slow
def test_neighbors_are_normal_and_keep_the_stream_of_their_pivot() -> None:
    options = {"zero-order": {"rounds": 1, "radius": 0.8, "adapt": False}}
    run = linear_run(["zero-order"], options, seeds=range(0, 2000, 20), eta=1.0)
    starts: list[Start] = []

    def sample(start: Start) -> State:
        starts.append(start)
        return run.sample(start=start)

    methods_of(run)[0].search(run=run, sample=sample)
    seeds, neighbors = starts
    assert seeds.noise is not None and neighbors.noise is not None
    pivots = torch.stack([
        seeds.noise[(seeds.job == job) & (seeds.slot == stream)][0]
        for job, stream in zip(neighbors.job.tolist(), neighbors.streams.tolist(), strict=True)
    ])  # fmt: skip
    new = (neighbors.noise - 0.6 * pivots) / 0.8
    count = new.numel()
    assert float(new.mean()) == pytest.approx(0, abs=4 / count**0.5)
    assert float(new.var()) == pytest.approx(1, abs=4 * (2 / count) ** 0.5)

    options = {"zero-order": {"rounds": 1, "radius": 1e-6, "adapt": False}}
    still = linear_run(["zero-order"], options, choose="all", eta=1.0).search()
    best = still.x[:8][still.rewards()[:8].argmax()]
    assert torch.allclose(still.x[8:], best.expand(8, 2), atol=1e-4)  # with the noise of its transitions


def test_joined_populations_keep_rows_weights_and_caches() -> None:
    run = linear_run([], {}, seeds=(1, 50), particles=3)
    first, second = run.sample(), run.sample(start=Start.of([1], [3, 4], draw=2))
    first.rewards(), second.rewards()
    second.log_weight = torch.tensor([0.5, -1.0], dtype=torch.float64)
    whole = State.joined([first, second])
    assert whole.slot.tolist() == [0, 1, 2, 0, 1, 2, 3, 4]
    assert whole.rows_of(1).tolist() == [3, 4, 5, 6, 7]
    calls = run.cost.reward_calls
    assert torch.equal(whole.rewards(), torch.cat([first.rewards(), second.rewards()]))
    assert run.cost.reward_calls == calls
    expected = torch.tensor([0.0, 0.0, 0.0, 0.5, -1.0]).double().exp().mean().log()
    assert trace_of(whole, 1)["log_z"] == pytest.approx(float(expected))
    assert [event["draw"] for event in trace_of(whole, 1)["events"]] == [0, 2]
    with pytest.raises(ValueError, match="finished populations"):
        State.joined([first, run.sample(until=1)])


# ---- the command line ------------------------------------------------------------------------------------


@pytest.mark.slow  # four commands and figures of traces
def test_replay_is_bit_equal(sampler, tmp_path: Path) -> None:
    from click.testing import CliRunner

    from steer.cli.generate import generate as command
    from steer.cli.replay import replay

    sampler.backbone.pipe.save_pretrained(tmp_path / "tiny")
    (tmp_path / "mine.py").write_text("def bright(samples, prompts):\n    return samples.mean(dim=(1, 2, 3))\n")
    for method, option in (("random", "random.seconds=0.2"), ("zero-order", "zero-order.rounds=2")):
        out = tmp_path / method
        arguments = ["a red circle", "a blue square", "-m", tmp_path / "tiny", "-p", method, "--steps", "2", "-n", "2",
                     "-r", f"{tmp_path}/mine.py:bright", "--eta", "1", "--out", out, "-o", option]  # fmt: skip
        done = CliRunner().invoke(command, list(map(str, arguments)), catch_exceptions=False)
        assert done.exit_code == 0, done.output
        made = sorted(out.glob("*-[0-9][0-9][0-9].png"))
        assert len(made) == 2
        again = CliRunner().invoke(
            replay,
            [str(made[1]), "--allow-files", "--json", "--out", str(tmp_path / "again"), "--force"],
            catch_exceptions=False,
        )
        assert json.loads(again.output)["equal"] is True
