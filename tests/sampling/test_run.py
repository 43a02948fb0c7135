"""The loop and what it promises to methods."""

from __future__ import annotations

import pytest
import torch
from support.tiny import brightness

import steer
from steer import SteerError, hookimpl
from steer.models.load import load_model
from steer.prompts.prompt import Prompt
from steer.registry.plugins import manager
from steer.registry.registration import RUN_HOOKS
from steer.rewards.combinations import WeightedSum
from steer.sampling import hooks
from steer.sampling.chunks import Chunks
from steer.sampling.run import Run
from steer.sampling.trace import trace_of


@pytest.fixture
def make_run(tiny_pipe):
    backbone = load_model(tiny_pipe, manager()).backbone

    def make(methods=(), *, reward=None, count=2, **settings) -> Run:
        prompts = [Prompt(text, seed=seed) for text, seed in (("a red circle", 1), ("a blue square", 50))][:count]
        given = {"particles": 3, "steps": 4, "guidance_scale": 3.0, "eta": 1.0, "chunk": 4, **settings}
        scorer = None if reward is None else WeightedSum([("r", 1.0, reward)])
        return hooks.make_run(backbone, prompts, settings=given, methods=methods, reward=scorer)

    return make


def recorder(label: str, log: list[str]) -> steer.Method:
    class Recorder(steer.Method):
        name = label

        @hookimpl
        def configure(self, run):
            log.append(f"{label} configure")

        @hookimpl
        def begin(self, state):
            assert state.prediction is None
            log.append(f"{label} begin")

        @hookimpl
        def before_predict(self, state):
            log.append(f"{label} before_predict")

        @hookimpl
        def after_predict(self, state):
            assert state.x0.shape == state.x.shape
            log.append(f"{label} after_predict")

        @hookimpl
        def after_step(self, state):
            log.append(f"{label} after_step")

        @hookimpl
        def finish(self, state):
            assert state.done
            assert torch.equal(state.x0, state.x)
            log.append(f"{label} finish")

        @hookimpl
        def search(self, run, sample):
            log.append(f"{label} search in")
            state = sample()
            log.append(f"{label} search out")
            return state

    return Recorder()


def test_hooks_run_in_the_order_of_the_command_line(make_run) -> None:
    log: list[str] = []
    make_run([recorder("b", log), recorder("a", log)], steps=1).search()
    flat = ["configure", "search in", *RUN_HOOKS[1 : RUN_HOOKS.index("search")], "search out"]
    expected = [f"{label} {hook}" for hook in flat for label in ("ba" if hook != "search out" else "ab")]
    assert log == expected  # searches nest, the first outermost


def test_settings_in_conflict_name_both(make_run) -> None:
    class Wants(steer.Method):
        def __init__(self, label, steps):
            super().__init__()
            self.name, self.steps = label, steps

        @hookimpl
        def configure(self, run):
            run.set("steps", self.steps, by=self.name)

    with pytest.raises(SteerError, match="one needs steps=9, but you asked for steps=4"):
        make_run([Wants("one", 9)])
    with pytest.raises(SteerError, match="two needs steps=8, but one asked for steps=9"):
        make_run([Wants("one", 9), Wants("two", 8)], steps=None)
    assert make_run([Wants("one", 9), Wants("two", 9)], steps=None).get("steps") == 9
    with pytest.raises(SteerError, match="method 'one' is named twice"):
        make_run([Wants("one", 4), Wants("one", 4)])


def test_a_suggestion_yields_to_the_user(make_run) -> None:
    run = make_run(steps=None)
    run.suggest("steps", 7, by="x")
    run.suggest("steps", 8, by="y")
    assert run.get("steps") == 7
    run.set("steps", 5, by="z")
    assert run.get("steps") == 5


@pytest.mark.parametrize(
    ("name", "value"),
    [("steps", 0), ("steps", 2.5), ("particles", 0), ("eta", 1.5), ("eta", float("nan")), ("chunk", True)],
)
def test_settings_out_of_range_are_refused(make_run, name, value) -> None:
    with pytest.raises(SteerError, match=f"{name}=.*expected"):
        make_run(**{name: value})
    with pytest.raises(SteerError, match="unknown setting 'stepps' — did you mean 'steps'"):
        make_run(stepps=3)


@pytest.mark.slow
def test_a_method_that_changes_x_takes_log_z_away(make_run) -> None:
    class Pushes(steer.Method):
        name = "pushes"

        @hookimpl
        def before_predict(self, state):
            state.x = state.x + 0.01

    assert trace_of(make_run([Pushes()]).search(), 0)["log_z"] is None
    assert trace_of(make_run().search(), 0)["log_z"] == 0.0


@pytest.mark.slow
def test_a_resumed_run_is_the_unbroken_one(make_run) -> None:
    unbroken = make_run().sample()
    run = make_run()
    state = None
    for until in (1, 1, 3, None):
        state = run.sample(state, until=until)
    assert torch.equal(state.x, unbroken.x)
    assert state.done
    again = run.sample()  # streams of a fresh population start anew
    assert torch.equal(again.x, unbroken.x)


@pytest.mark.slow
def test_a_resumed_steered_run_is_the_unbroken_one(make_run) -> None:
    def fk():
        cls = manager().registry.methods["fk"].load()
        return [cls(cls.Options(**{"lambda": 300, "at": (1, 2, 3), "potential": "diff"}))]

    unbroken = make_run(fk(), reward=brightness).sample()
    run = make_run(fk(), reward=brightness)
    state = run.sample(until=2)
    run.sample(state)
    assert torch.equal(state.x, unbroken.x)
    assert torch.equal(state.log_weight, unbroken.log_weight)


def test_resampling_by_itself_leaves_log_z_alone(make_run) -> None:
    run = make_run(count=1)
    state = run.sample(until=2)
    state.log_weight = torch.log(torch.tensor([0.2, 0.3, 1.0], dtype=torch.float64))
    before = trace_of(state, 0)["log_z"]
    state.copy_from(torch.tensor([2, 2, 2]), torch.full((3,), before))
    assert trace_of(state, 0)["log_z"] == pytest.approx(before)


@pytest.mark.slow
def test_without_hooks_no_method_takes_part(make_run) -> None:
    log: list[str] = []
    run = make_run([recorder("a", log)])
    run.sample(hooks=False)
    assert log == ["a configure"]


@pytest.mark.slow
def test_costs_are_counted_to_the_forward(make_run) -> None:
    cost = make_run(reward=brightness)
    state = cost.search()
    state.rewards(), state.rewards()
    assert cost.cost.nfe == 2 * 3 * 4 * 2  # prompts · particles · steps · guidance
    assert cost.cost.padding == 2 * 4 * 2  # six rows in chunks of four
    assert cost.cost.decodes == cost.cost.reward_calls == 6
    plain = make_run(guidance_scale=1.0, chunk=6)
    plain.search()
    assert (plain.cost.nfe, plain.cost.padding, plain.cost.decodes) == (24, 0, 0)


def test_chunks_are_all_of_one_size_and_padding_is_dropped() -> None:
    seen = []

    def double(rows):
        seen.append(rows.tolist())
        return rows * 2

    out, padding = Chunks(4).map(double, 6)
    assert out.tolist() == [0, 2, 4, 6, 8, 10]
    assert seen == [[0, 1, 2, 3], [4, 5, 5, 5]]
    assert padding == 2


@pytest.mark.slow
def test_given_noise_replaces_the_streams_first_draw(make_run) -> None:
    run = make_run()
    own = run.sample()
    noise = torch.cat([torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(s)) for s in
                       (1, 2, 3, 50, 51, 52)])  # fmt: skip
    assert torch.equal(run.sample(noise=noise).x, own.x)
    with pytest.raises(SteerError, match=r"noise has shape \(1, 4, 8, 8\), expected \(6, 4, 8, 8\)"):
        run.sample(noise=noise[:1])
