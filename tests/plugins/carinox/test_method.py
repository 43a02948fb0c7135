"""CARINOX as users run it: what it reaches, what it keeps, when it stops, and that it can be made again."""

from __future__ import annotations

import json
import math
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import DDIMScheduler
from PIL import Image
from support.linear_gaussian import LinearGaussian
from torch import Tensor

from steer import Prompt, Reward, Sampler, SteerError
from steer.registry.plugins import manager
from steer.results.search_plot import _curves
from steer.results.trace_plot import plot
from steer.rewards.combinations import WeightedSum
from steer.sampling.gradient_by_noise import vjp
from steer.sampling.hooks import make_run, methods_of
from steer.sampling.methods_by_name import make_methods
from steer.sampling.run import Run
from steer.sampling.trace import trace_of

TARGET = torch.tensor([2.0, -1.5], dtype=torch.float64)


def near(samples: Tensor, prompts: Any) -> Tensor:
    """1 at the target, a paraboloid around it."""
    return 1 - (samples.double() - TARGET).pow(2).sum(dim=1)


def linear_run(options: dict[str, Any], *, reward: Any = near, methods=("carinox",), seeds=(1,), **more) -> Run:
    scheduler = DDIMScheduler(beta_schedule="scaled_linear", clip_sample=False, set_alpha_to_one=True)
    table = {"carinox": {"weights": "uniform", "clip": None, "clip_reward": None, "regularize": 0.0, **options}}
    return make_run(
        LinearGaussian(scheduler), [Prompt(f"p{seed}", id=f"p{seed}", seed=seed) for seed in seeds],
        settings={"steps": 4, "chunk": 8, "eta": 0.0, **more.pop("settings", {})},
        methods=make_methods(methods, {**table, **more.pop("others", {})}, manager()),
        reward=reward if isinstance(reward, WeightedSum) else WeightedSum([("near", 1.0, reward)]), **more,
    )  # fmt: skip


def generator(run: Run) -> tuple[Tensor, Tensor]:
    """Return M and c of the linear generator x = M·z + c."""
    points = torch.cat([torch.zeros(1, 2), torch.eye(2)])
    plain = make_run(run.backbone, [Prompt("p", seed=1)], settings={"steps": 4, "eta": 0.0, "particles": 3, "chunk": 8})
    x = plain.sample(noise=points).x.double()
    return (x[1:] - x[0]).T, x[0]


@pytest.mark.slow  # dozens of iterations
@pytest.mark.parametrize(
    "options", [{"lr": 0.1, "iterations": 90}, {"lr": 0.2, "optimizer": "adam", "iterations": 120}]
)
def test_a_quadratic_reward_on_a_linear_generator_reaches_its_optimum(options) -> None:
    run = linear_run(options, choose="all")
    state = run.search()
    assert len(state) == 5
    assert torch.allclose(state.x.double(), TARGET.expand(5, 2), atol=2e-3)
    assert state.rewards().tolist() == pytest.approx([1.0] * 5, abs=1e-5)


def test_clipped_at_the_image_it_is_the_same_but_for_the_clipping() -> None:
    def other(samples: Tensor, prompts: Any) -> Tensor:
        return -(samples[:, 0].double() - 1).abs()

    def paths(**options: Any) -> tuple[list[Any], int]:
        reward = WeightedSum([("near", 1.0, near), ("other", 0.5, other)])
        run = linear_run({"iterations": 6, "lr": 0.05, "regularize": 0.1, **options}, reward=reward)
        events = [event for event in run.search().events if event.kind == "candidate"]
        return [event.data["reward"] for event in events], run.cost.backwards

    (plain, cost), (image, less) = paths(), paths(clip_at="image")
    assert torch.allclose(torch.tensor(image), torch.tensor(plain), atol=1e-5)
    assert less * 2 == cost
    clipped, _ = paths(clip_at="image", clip_reward=0.5)
    assert not torch.allclose(torch.tensor(clipped), torch.tensor(plain), atol=1e-3)


@pytest.mark.slow  # a hundred and twenty iterations
def test_with_the_regularizer_it_reaches_the_optimum_of_both(monkeypatch) -> None:
    """∇: w·2·Mᵀ(Mz + c − t) + λ·z·(1 − 1/‖z‖²) = 0, found by Newton from the unregularized optimum."""
    run = linear_run({"iterations": 120, "lr": 0.05, "regularize": 0.3, "seeds": 1})
    m, c = generator(run)

    def slope(z: Tensor) -> Tensor:
        return 2 * m.T @ (m @ z + c - TARGET) + 0.3 * z * (1 - 1 / (z @ z))

    z = torch.linalg.solve(m, TARGET - c)
    for _ in range(50):
        z = z - torch.linalg.solve(torch.autograd.functional.jacobian(slope, z), slope(z))
    # the image of least loss may come before: the regularizer is no part of what chooses
    noises: list[Tensor] = []

    def spy(run, start, losses, **given):
        noises.append(start.noise)
        return vjp(run, start, losses, **given)

    monkeypatch.setattr("steer_carinox.method.vjp", spy)
    run.search()
    assert torch.allclose(noises[-1][0].double(), z, atol=2e-3)


def test_the_best_of_all_seeds_and_iterations_is_kept() -> None:
    run = linear_run({"iterations": 12, "lr": 0.45})  # too fast: it overshoots and comes back
    state = run.search()
    candidates = [event for event in state.events if event.kind == "candidate"]
    assert len(candidates) == 12
    best = max(value for event in candidates for value in event.data["reward"])
    assert state.rewards().tolist() == pytest.approx([best], abs=1e-5)
    assert candidates[-1].data["reward"][state.slot[0]] < best
    assert [event.data["iteration"][0] for event in candidates] == list(range(12))
    assert candidates[0].data["origin"] == ["seed"] * 5


def test_reno_is_one_seed_and_uniform_weights() -> None:
    method = make_methods(["carinox"], {"carinox": {"preset": "reno"}}, manager())[0]
    assert (method.options.seed_count, method.options.table) == (1, "uniform")
    method = make_methods(["carinox"], {"carinox": {"preset": "reno", "seeds": "3"}}, manager())[0]
    assert method.options.seed_count == 3
    assert make_methods(["carinox"], {}, manager())[0].options.seed_count == 5
    assert linear_run({"preset": "reno"}, settings={"particles": 2}).particles == 2
    sizes = [linear_run({"seeds": n}, settings={"chunk": None}).chunks.size for n in (1, 5, 9)]
    assert sizes == [1, 5, 5]


def test_slots_say_where_to_start() -> None:
    run = linear_run({"iterations": 1, "slots": "0,94,58"}, choose="all", seeds=(0, 7))
    state = run.search()
    assert state.slot.tolist() == [0, 94, 58] * 2
    expected = torch.randn(1, 2, generator=torch.Generator().manual_seed(7 + 94))
    assert torch.allclose(run.noise(state.origin)[4], expected[0])
    for options, said in (({"slots": "0,0"}, "distinct"), ({"slots": "-1"}, "at least 0"),
                          ({"slots": "1,2", "seeds": 5}, "slots names 2; leave seeds out")):  # fmt: skip
        with pytest.raises(SteerError, match=said):
            linear_run(options)


@pytest.mark.slow
def test_budgets_end_the_climb() -> None:
    each = 4 + 4 * 3  # four steps forward, and back with a forward again
    for budget, rounds in ((5 * each * 7 + 4, 7), (5 * each * 7 + 3, 6)):  # and the image that is kept
        run = linear_run({"nfe": budget, "lr": 0.01}, seeds=(1, 100))
        state = run.search()
        assert sum(event.kind == "candidate" for event in state.events) == rounds
        assert run.spent.tolist() == [5 * each * rounds + 4] * 2
    cheap = linear_run({"nfe": 5 * 6 * 7 + 5 * 4, "lr": 0.01, "truncate": 1, "recompute": False}, choose="all")
    assert sum(event.kind == "candidate" for event in cheap.search().events) == 7
    assert cheap.spent.tolist() == [5 * 6 * 7 + 5 * 4]
    with pytest.raises(SteerError, match=r"nfe=83 is less than one iteration and the last samples take \(84, 5 se"):
        linear_run({"nfe": 83}).search()
    timed = linear_run({"seconds": 0.2, "iterations": 100_000, "lr": 1e-5})
    done = sum(event.kind == "candidate" for event in timed.search().events)
    assert 1 <= done < 100_000
    assert methods_of(timed)[0].replay_options(0) == {"seconds": None, "iterations": done}


@pytest.mark.slow
def test_a_plateau_ends_each_seed_by_itself() -> None:
    run = linear_run({"iterations": 400, "lr": 0.5, "momentum": 0.0, "patience": 5}, choose="all")
    state = run.search()
    rows = [len(event.slots) for event in state.events if event.kind == "candidate"]
    assert rows[0] == 5
    assert len(rows) < 400
    assert len(set(rows)) > 1  # seeds stop one by one
    assert state.rewards().tolist() == pytest.approx([1.0] * 5, abs=0.01)


def test_curves_of_the_trace_are_of_all_seeds_whoever_has_stopped() -> None:
    events = [
        {"iteration": [0, 0], "draw": 0, "slots": [0, 1], "clip": [1.0, 3.0]},
        {"iteration": [1], "draw": 0, "slots": [1], "clip": [5.0]},
        {"iteration": [0, 0], "draw": 1, "slots": [2, 3], "clip": [0.0, 1.0]},
    ]
    x, y = zip(*_curves(events)["clip"], strict=True)
    assert x == pytest.approx((0, 1, math.nan, 0), nan_ok=True)
    assert y == pytest.approx((2, 3, math.nan, 0.5), nan_ok=True)


@pytest.mark.slow  # sixty iterations
def test_a_guard_stops_where_it_falls() -> None:
    options = {"iterations": 60, "lr": 0.2, "momentum": 0.0, "guard": f"{__file__}:first_positive"}
    state = linear_run({**options, "seeds": 1}, settings={"particles": 1}).search()
    candidates = [event for event in state.events if event.kind == "candidate"]
    guard = [event.data[f"guard {__file__}:first_positive"][0] for event in candidates]
    assert len(guard) < 60
    kept = max(i for i, value in enumerate(guard) if value == max(guard))
    assert state.rewards()[0] == pytest.approx(candidates[kept].data["reward"][0], abs=1e-4)
    assert len(guard) == kept + 1 + 5
    free = linear_run({**options, "guard": None, "seeds": 1}).search()
    assert float(free.rewards()[0]) > float(state.rewards()[0])


def first_positive(samples: Tensor, prompts: Any) -> Tensor:
    """Likes samples between the start and the target; needs no gradient."""
    return -(samples[:, 1].detach() + 0.9).abs()


@pytest.mark.slow
def test_a_seed_whose_gradient_is_not_finite_is_dropped_and_the_rest_goes_on() -> None:
    def edge(samples: Tensor, prompts: Any) -> Tensor:
        left = samples[:, 0].detach() < 0.6
        broken = torch.zeros(len(samples), dtype=torch.float64)
        broken[left] = (0 * samples[left, 0]).sqrt().double()  # the slope of √0
        return near(samples, prompts) + broken

    starts = linear_run({"iterations": 1}, choose="all").search()
    lost = (starts.x[:, 0] < 0.6).nonzero().flatten().tolist()
    assert 0 < len(lost) < 5
    run = linear_run({"iterations": 60, "lr": 0.1}, reward=edge, choose="all")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        state = run.search()
    messages = [str(w.message) for w in caught if "dropped" in str(w.message)]
    assert [f"seed 1 + {slot} of prompt 'p1' is dropped at iteration 0" in text for slot, text in
            zip(lost, messages, strict=True)]  # fmt: skip
    reached = near(state.x, [])
    kept = [slot for slot in range(5) if slot not in lost]
    assert reached[kept].tolist() == pytest.approx([1.0] * len(kept), abs=1e-3)
    assert torch.equal(state.x[lost], starts.x[lost])


def test_a_seed_without_an_image_is_dropped_and_the_rest_goes_on() -> None:
    def overflow(run: Run, limit: float) -> None:
        decode = run.backbone.decode

        def decoded(x: Tensor) -> Tensor:
            return torch.where(x[:, :1] < limit, torch.nan, 1.0) * decode(x)  # as half precision would

        run.backbone.decode = decoded  # type: ignore[method-assign]

    run = linear_run({"iterations": 3, "lr": 0.01, "watch": (f"{__file__}:first_positive",)}, choose="all")
    overflow(run, 0.6)
    with pytest.warns(UserWarning, match="dropped at iteration 0: its gradient is not finite"):
        state = run.search()
    lost = set(range(5)) - set(state.slot.tolist())
    assert 0 < len(lost) < 5
    assert bool(torch.isfinite(state.rewards()).all())
    json.dumps(trace_of(state, 0), allow_nan=False)
    assert not any(lost & set(event.slots) for event in state.events if event.kind == "candidate")
    run = linear_run({"iterations": 3})
    overflow(run, 1e9)
    with pytest.warns(UserWarning, match="dropped"), pytest.raises(SteerError, match="no seed of prompt 'p1' gave a"):
        run.search()


def test_other_methods_go_on_from_the_noises_that_were_found() -> None:
    run = linear_run(
        {"iterations": 4, "lr": 0.05}, methods=["carinox", "fk"], settings={"eta": 1.0},
        others={"fk": {"lambda": 9.0, "at": (1, 2), "potential": "diff"}},
    )  # fmt: skip
    state = run.search()
    # who is where after a resampling has nothing to do with who was best before
    assert len(state) == 5
    assert len(set(state.ancestors.tolist())) < 5
    assert trace_of(state, 0)["log_z"] is None  # the noises are no draws of the prior
    plain = linear_run({"iterations": 4, "lr": 0.05}, choose="all").search()
    assert trace_of(plain, 0)["log_z"] is None


def test_rewards_must_have_a_gradient() -> None:
    class Verdict(Reward):
        def __call__(self, samples, prompts):
            return samples.mean(dim=1)

    with pytest.raises(SteerError, match=r"'near' is not differentiable; .*--plugin zero-order"):
        linear_run({}, reward=Verdict())

    def rounded(samples, prompts):
        return samples.detach().mean(dim=1)

    with pytest.raises(SteerError, match="'near' is not differentiable"):
        linear_run({}, reward=rounded).search()

    class Words(LinearGaussian):
        modality = "text"

    for method, said in (("carinox", "a text has no gradient"), ("zero-order", "a text has none")):
        with pytest.raises(SteerError, match=said):
            make_run(Words(DDIMScheduler()), [Prompt("")], methods=make_methods([method], {}, manager()),
                reward=WeightedSum([("near", 1.0, near)]))  # fmt: skip
    with pytest.raises(SteerError, match="carinox needs a reward"):
        make_run(LinearGaussian(DDIMScheduler()), [Prompt("p")], methods=make_methods(["carinox"], {}, manager()))


def test_it_climbs_from_the_best_of_plain_samples() -> None:
    plain = linear_run({}, seeds=(0, 7), settings={"particles": 9}).sample(hooks=False)
    best = [plain.slot[rows[plain.rewards()[rows].argsort()[-2:]]].sort().values for rows in map(plain.rows_of, (0, 1))]
    run = linear_run({"explore": 9, "seeds": 2, "iterations": 3, "lr": 0.05}, seeds=(0, 7))
    state = run.search()
    events = [event for event in state.events if event.kind == "candidate"]
    assert events[0].slots == (*best[0].tolist(), *best[1].tolist())
    first = plain.rewards()[plain.rows_of(1)][best[1]]
    assert events[0].data["reward"][2:] == pytest.approx(first.tolist(), abs=1e-5)
    assert events[0].data["spent"][0] == (9 + 2 * 4) * 4  # each: its samples, then forward and backward with recompute
    # again without exploring
    (carinox,) = methods_of(run)
    options = {"iterations": 3, "lr": 0.05, "seeds": 2, "explore": 9, **carinox.replay_options(1)}
    again = linear_run(options, seeds=(7,))
    assert torch.allclose(again.search().x, state.x[state.rows_of(1)], atol=1e-5)
    assert again.cost.nfe == run.cost.nfe // 2 - 9 * 4
    # nfe counts the samples
    with pytest.raises(SteerError, match=r"carinox.nfe=40 is less than one iteration and the last samples take \(72"):
        linear_run({"explore": 9, "seeds": 2, "nfe": 40}).search()


def test_what_cannot_be_explored_is_told() -> None:
    with pytest.raises(SteerError, match="explore=1 is less than the 5 seeds"):
        linear_run({"explore": 1}).search()
    with pytest.raises(SteerError, match="explore cannot be used within best-of-n"):
        linear_run({"explore": 9}, methods=["best-of-n", "carinox"])
    with pytest.raises(SteerError, match="explore chooses the slots; leave slots out"):
        linear_run({"explore": 9, "slots": "0,1"})


def test_searches_nest_around_it() -> None:
    run = linear_run(
        {"iterations": 3, "lr": 0.05, "seeds": 2}, methods=["best-of-n", "carinox"], others={"best-of-n": {"n": 3}}
    )
    with pytest.raises(SteerError, match=r"n=3 is not a multiple of the 2 particles"):
        run.search()
    run = linear_run(
        {"iterations": 3, "lr": 0.05, "seeds": 2}, methods=["best-of-n", "carinox"], others={"best-of-n": {"n": 6}}
    )
    state = run.search()
    climbed = [event for event in state.events if event.kind == "candidate" and "iteration" in event.data]
    assert [event.slots for event in climbed[::3]] == [(0, 1), (2, 3), (4, 5)]
    assert float(state.rewards()[0]) == pytest.approx(max(max(e.data["reward"]) for e in climbed), abs=1e-5)
    with pytest.raises(SteerError, match=r"carinox.seconds=1 within best-of-n .*give best-of-n.seconds"):
        linear_run({"seconds": 1}, methods=["best-of-n", "carinox"])
    with pytest.raises(SteerError, match="name best-of-n first"):
        linear_run({"iterations": 1}, methods=["carinox", "best-of-n"]).search()


def test_a_guard_that_steers_is_refused() -> None:
    reward = WeightedSum([("clip:shapes", 1.0, near), ("min(shapes,mine)", 1.0, near)])
    with pytest.raises(SteerError, match=r"carinox.guard=clip:shapes also steers"):
        linear_run({"guard": "clip:shapes"}, reward=reward)
    with pytest.raises(SteerError, match=r"carinox.guard=shapes also steers"):
        linear_run({"guard": "shapes"}, reward=reward)


# ---- on images -------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def shapes() -> Sampler:
    return Sampler("shapes")


SETTINGS = {"steps": 1, "guidance_scale": 1.0, "chunk": 2, "eta": 0.0, "methods": "carinox", "reward": "clip:shapes"}
TEXTS = [Prompt("a red circle", category="color"), Prompt("two blue squares", id="b")]


@pytest.mark.slow  # gradients through a trained model
def test_images_climb_and_no_result_depends_on_the_pack(shapes, tmp_path: Path) -> None:
    options = {"carinox": {"seeds": 2, "iterations": 3, "watch": ("shapes",), "weights": "clip=2"}}
    crowd = shapes.generate(TEXTS, options=options, **SETTINGS)
    alone = shapes.generate(TEXTS[1], options=options, **SETTINGS)
    assert alone.images[0].tobytes() == crowd.images[1].tobytes()
    trace = crowd.trace[0]
    candidates = [event for event in trace["events"] if event["kind"] == "candidate"]
    assert [sorted(event)[:3] for event in candidates] == [["clip:shapes", "draw", "iteration"]] * 3
    assert max(candidates[-1]["reward"]) > max(candidates[0]["reward"]) + 0.1
    assert crowd.items[0].reward == pytest.approx(max(max(event["reward"]) for event in candidates), abs=1e-3)
    assert all(0 <= value <= 1 for event in candidates for value in event["watch shapes"])
    note = next(event["text"] for event in trace["events"] if event["kind"] == "note")
    assert note == "category none (no weights by category); weights clip:shapes 2"
    (tmp_path / "trace.png").write_bytes(plot(trace))
    with Image.open(tmp_path / "trace.png") as picture:
        assert picture.height > 600


@pytest.mark.slow  # gradients through a trained model
def test_recipes_hold_what_files_and_rules_said(shapes, tmp_path: Path) -> None:
    (tmp_path / "w.toml").write_text('[weights.color]\n"clip:shapes" = 0.3\n[weights.numeracy]\nclip = 0.7\n')
    options = {"carinox": {"seeds": 1, "iterations": 2, "weights": str(tmp_path / "w.toml")}}
    items = shapes.generate(TEXTS, options=options, **SETTINGS).items
    assert [item.recipe.options["carinox"]["weights"] for item in items] == ["clip:shapes=0.3", "clip:shapes=0.7"]
    (tmp_path / "w.toml").unlink()
    again = shapes.generate(str(TEXTS[1]), **{**SETTINGS, "options": items[1].recipe.options, "seed": items[1].seed})
    assert again.images[0].tobytes() == items[1].images[0].tobytes()
    bad = [Prompt("a red circle", category="mood")]
    with pytest.raises(SteerError, match=r"prompt 'a red circle': unknown category 'mood' .*known: .*2d_spatial"):
        shapes.generate(bad, **SETTINGS)
