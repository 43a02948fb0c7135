"""State: resampling, keeping and spawning reindex everything there is per particle."""

from __future__ import annotations

import pytest
import torch
from support.tiny import brightness

from steer.models.load import load_model
from steer.prompts.prompt import Prompt
from steer.registry.plugins import manager
from steer.rewards.combinations import WeightedSum
from steer.sampling import hooks
from steer.sampling.run import Run

PROMPTS = [Prompt("a red circle", seed=10), Prompt("a blue square", seed=20)]


@pytest.fixture
def make_run(tiny_pipe):
    backbone = load_model(tiny_pipe, manager()).backbone

    def make(prompts=PROMPTS, **settings) -> Run:
        given = {"particles": 3, "steps": 6, "guidance_scale": 1.0, "chunk": 4, **settings}
        return hooks.make_run(backbone, prompts, settings=given, reward=WeightedSum([("b", 1.0, brightness)]))

    return make


def predicted(run: Run, steps: int = 2):
    """Return a population whose prediction, x0, samples and rewards at step ``steps`` are known."""
    state = run.sample(until=steps)
    state.predict()
    state.extra["mine"] = torch.arange(len(state)) * 10
    state.rewards()
    _ = state.samples
    return state


def content(state):
    return {
        "x": state.x, "prediction": state.prediction, "x0": state.x0, "samples": state.samples,
        "rewards": state.rewards(), "mine": state.extra["mine"],
    }  # fmt: skip


@pytest.mark.slow
def test_resample_copies_content_and_leaves_slots(make_run) -> None:
    state = predicted(make_run())
    before, slots, streams = content(state), state.slot.clone(), list(state.streams.generators)
    calls = state.forwards.books.cost.reward_calls
    rows = torch.tensor([2, 2, 0, 3, 5, 5])
    weights = torch.arange(6, dtype=torch.float64)
    state.copy_from(rows, weights)
    for name, value in content(state).items():
        assert torch.equal(value, before[name][rows]), name
    assert state.forwards.books.cost.reward_calls == calls  # copied, not scored again
    assert torch.equal(state.slot, slots)
    assert torch.equal(state.log_weight, weights)
    assert state.ancestors.tolist() == [2, 2, 0, 0, 2, 2]
    assert state.streams.generators == streams
    state.advance()
    assert state.x.shape[0] == 6


@pytest.mark.slow
def test_copies_part_in_the_next_stochastic_transition(make_run) -> None:
    state = predicted(make_run(eta=1.0))
    state.copy_from(torch.tensor([0, 0, 2, 3, 3, 3]), torch.zeros(6))
    assert torch.equal(state.x[0], state.x[1])
    state.advance()
    assert not torch.allclose(state.x[0], state.x[1])


@pytest.mark.slow
def test_resampling_may_leave_fewer_rows(make_run) -> None:
    state = predicted(make_run())
    before, streams = content(state), list(state.streams.generators)
    ancestors, rows = torch.tensor([2, 2, 4]), torch.tensor([0, 2, 4])
    state.copy_from(ancestors, torch.ones(3), rows)
    for name, value in content(state).items():
        assert torch.equal(value, before[name][ancestors]), name
    assert state.slot.tolist() == [0, 2, 1]
    assert state.streams.generators == [streams[row] for row in rows]
    assert state.log_weight.tolist() == [1, 1, 1]
    assert not state.biased
    with pytest.raises(ValueError, match="once"):
        state.copy_from(torch.tensor([0, 0]), torch.zeros(2), torch.tensor([1, 1]))


@pytest.mark.slow
def test_resampling_across_prompts_is_refused(make_run) -> None:
    state = predicted(make_run())
    with pytest.raises(ValueError, match="own prompt"):
        state.copy_from(torch.tensor([3, 1, 2, 3, 4, 5]), torch.zeros(6))


@pytest.mark.slow
def test_keep_takes_slots_and_streams_along(make_run) -> None:
    state = predicted(make_run(eta=1.0))
    state.log_weight = torch.arange(6, dtype=torch.float64)
    before, streams = content(state), list(state.streams.generators)
    rows = torch.tensor([4, 1])
    state.keep(rows)
    for name, value in content(state).items():
        assert torch.equal(value, before[name][rows]), name
    assert state.slot.tolist() == [1, 1]
    assert state.job.tolist() == [1, 0]
    assert state.prompts == ["a blue square", "a red circle"]
    assert state.log_weight.tolist() == [4, 1]
    assert state.streams.generators == [streams[4], streams[1]]
    with pytest.raises(ValueError, match="once"):
        state.keep(torch.tensor([0, 0]))


@pytest.mark.slow
@pytest.mark.parametrize("scheduler", ["ddim", "ddpm", "euler-a", "dpm++", "dpm++-sde", "unipc", "pndm", "deis", "lms"])
def test_a_kept_row_goes_on_as_if_the_others_were_there(make_run, scheduler) -> None:
    """An ungathered multistep history would mix two particles here."""
    unbroken = make_run(scheduler=scheduler).sample()
    run = make_run(scheduler=scheduler)
    state = run.sample(until=3)
    rows = torch.tensor([4, 0, 2])
    state.keep(rows)
    run.sample(state)
    assert torch.allclose(state.x, unbroken.x[rows], atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("scheduler", ["dpm++", "unipc", "pndm", "deis", "lms"])
def test_a_multistep_copy_has_its_parent_s_history(make_run, scheduler) -> None:
    rows = torch.tensor([2, 0, 2, 5, 4, 4])
    unbroken = make_run(scheduler=scheduler).sample()
    run = make_run(scheduler=scheduler)
    state = run.sample(until=3)
    state.copy_from(rows, torch.zeros(6))
    run.sample(state)
    assert torch.allclose(state.x, unbroken.x[rows], atol=1e-5)


def test_one_particle_s_history_of_a_single_row_population(make_run) -> None:
    """Schedules are vectors: a population as large as a schedule is long must not shuffle it."""
    run = make_run(scheduler="dpm++", particles=3, steps=6)
    state = run.sample(until=2)
    sigmas = state.process.scheduler.sigmas.clone()
    timesteps = state.process.scheduler.timesteps.clone()
    state.copy_from(torch.tensor([1, 1, 1, 4, 4, 4]), torch.zeros(6))
    assert torch.equal(state.process.scheduler.sigmas, sigmas)
    assert torch.equal(state.process.scheduler.timesteps, timesteps)


@pytest.mark.slow
def test_spawn_adds_copies_in_slots_never_used(make_run) -> None:
    state = predicted(make_run(eta=1.0))
    before = content(state)
    state.keep(torch.tensor([0, 3]))
    state.spawn(torch.tensor([0, 1, 1]))
    assert state.slot.tolist() == [0, 0, 3, 3, 4]  # 1 and 2 have been used, and stay so
    assert state.job.tolist() == [0, 1, 0, 1, 1]
    rows = torch.tensor([0, 3, 0, 3, 3])
    for name, value in content(state).items():
        assert torch.equal(value, before[name][rows]), name
    assert len(state.streams) == len(state.log_weight) == 5
    state.spawn(torch.tensor([0]))
    assert state.slot.tolist()[-1] == 4
    state.advance()
    assert len({tuple(x.flatten().tolist()) for x in state.x}) == 6


def test_assigning_x_forgets_what_belonged_to_the_old_one_and_marks_the_run(make_run) -> None:
    state = predicted(make_run())
    assert not state.biased
    state.x = state.x * 0.5
    assert state.biased
    assert state.prediction is None
    with pytest.raises(RuntimeError, match="x0 is known"):
        _ = state.x0
    with pytest.raises(Exception, match=r"state.x to shape \(1, 4, 8, 8\), expected \(6, 4, 8, 8\)"):
        state.x = state.x[:1]


def test_assigning_the_prediction_moves_x0(make_run) -> None:
    state = predicted(make_run())
    before = state.x0.clone()
    state.prediction = state.prediction + 1
    assert state.biased
    assert not torch.allclose(state.x0, before)


def test_pruning_and_spawning_take_log_z_away_and_reordering_does_not(make_run) -> None:
    state = make_run().sample(until=1)
    state.keep(torch.tensor([5, 4, 3, 2, 1, 0]))
    state.copy_from(torch.tensor([1, 1, 2, 3, 3, 3]), torch.zeros(6))
    assert not state.biased
    state.keep(torch.tensor([0, 3]))
    assert state.biased
    state.biased = False  # a method that has accounted for it
    state.spawn(torch.tensor([0]))
    assert state.biased
