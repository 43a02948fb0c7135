"""Gradients chunk by chunk: against finite differences and against one graph over everything."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from support.tiny import tiny_sd
from torch import Tensor

from steer import Method, Prompt, Reward, RewardError, SteerError, hookimpl
from steer.models.load import load_model
from steer.registry.plugins import manager
from steer.rewards.combinations import WeightedSum
from steer.sampling.forwards import checkpointed
from steer.sampling.gradient_by_noise import vjp
from steer.sampling.hooks import make_run
from steer.sampling.run import Run
from steer.sampling.start import Start

PROMPTS = [Prompt("a red circle", seed=3), Prompt("a blue square", seed=90)]


def energy(samples: Tensor, prompts: list[str]) -> Tensor:
    return samples.double().pow(2).mean(dim=(1, 2, 3))


def left_half(samples: Tensor, prompts: list[str]) -> Tensor:
    """Depends on its prompt, so that rows mixed up would show."""
    lengths = torch.tensor([float(len(prompt)) for prompt in prompts])
    return lengths * samples[..., :8].double().mean(dim=(1, 2, 3)).sin()


LOSSES = {"energy": energy, "left": left_half}


@pytest.fixture(scope="module")
def backbone() -> Any:
    pipe = tiny_sd()
    for part in (pipe.unet, pipe.vae, pipe.text_encoder):
        part.double()
    return load_model(pipe, manager()).backbone


@pytest.fixture(scope="module")
def make(backbone):
    def run(*, methods=(), reward=None, **settings: Any) -> Run:
        given = {"particles": 2, "steps": 2, "guidance_scale": 3.0, "chunk": 3, **settings}
        return make_run(backbone, PROMPTS, settings=given, methods=methods, reward=reward)

    return run


def noise_for(run: Run) -> Tensor:
    return run.noise(run.start).double()


@pytest.mark.slow  # each both as a whole and in chunks
@pytest.mark.parametrize("settings", [{"eta": 1.0}, {"scheduler": "dpm++"}, {"steps": 1}])
def test_chunked_gradients_are_those_of_the_whole_graph(make, settings) -> None:
    run = make(**settings)
    noise = noise_for(run).requires_grad_()
    samples = run.sample(noise=noise, grad=True, hooks=False).samples
    prompts = [PROMPTS[job] for job in run.start.job.tolist()]
    values = [loss(samples, prompts) for loss in LOSSES.values()]
    whole = [torch.autograd.grad(value.sum(), noise, retain_graph=True)[0] for value in values]

    for recompute in (True, False):
        got = vjp(run, run.start.with_noise(noise.detach()), LOSSES, recompute=recompute)
        assert got.values.shape == (2, 4)
        assert bool(got.finite.all())
        for row, value, gradient in zip(range(2), values, whole, strict=True):
            assert torch.allclose(got.values[row], value.detach().double(), rtol=1e-6)
            assert torch.allclose(got.grads[row], gradient, rtol=1e-5, atol=1e-9)


@pytest.mark.slow  # two evaluations per loss besides
def test_gradients_agree_with_finite_differences(make) -> None:
    run = make(eta=1.0)
    noise = noise_for(run)
    grads = vjp(run, run.start.with_noise(noise), LOSSES).grads
    for loss, gradient in zip(LOSSES, grads, strict=True):
        torch.manual_seed(0)
        direction = torch.randn_like(noise)
        direction = direction + gradient * (direction.norm() / gradient.norm())  # a random one may be nearly level
        up, down = (
            vjp(run, run.start.with_noise(noise + sign * 1e-3 * direction), {loss: LOSSES[loss]}).values[0]
            for sign in (1, -1)
        )
        slope = (gradient * direction).flatten(1).sum(dim=1)
        assert slope.tolist() == pytest.approx(((up - down) / 2e-3).tolist(), rel=5e-3, abs=1e-6)


@pytest.mark.slow
def test_one_chunk_size_gives_the_same_bits_whatever_else_is_in_the_batch(make) -> None:
    run = make()
    together = vjp(run, run.start, LOSSES)
    alone = vjp(run, run.start.take(torch.tensor([3])), LOSSES)
    assert torch.equal(alone.grads[:, 0], together.grads[:, 3])
    assert torch.equal(alone.values[:, 0], together.values[:, 3])


@pytest.mark.slow
def test_what_is_watched_has_values_and_needs_no_gradient(make) -> None:
    def count(samples: Tensor, prompts: list[str]) -> Tensor:
        assert not torch.is_grad_enabled()
        return (samples > 0.5).flatten(1).sum(dim=1)

    run = make()
    watched = vjp(run, run.start, {"energy": energy}, watch={"count": count}).watched
    assert watched.tolist() == [count_on(run).tolist()]


@torch.no_grad()
def count_on(run: Run) -> Tensor:
    return (run.sample(hooks=False).samples > 0.5).flatten(1).sum(dim=1).double()


@pytest.mark.slow
def test_a_truncated_gradient_holds_the_early_predictions_constant(make) -> None:
    run = make(chunk=4, steps=3)
    noise = noise_for(run).requires_grad_()
    state = run.begin(run.start.with_noise(noise))
    while not state.done:
        last = state.step == 2
        with torch.set_grad_enabled(last):
            state.accept_prediction(state.forward(state.x, torch.arange(4)))
        state.advance()
    expected = torch.autograd.grad(energy(run.backbone.decode(state.x), []).sum(), noise)[0]
    got = vjp(run, run.start.with_noise(noise.detach()), {"energy": energy}, truncate=1)
    assert torch.allclose(got.grads[0], expected, rtol=1e-6)
    full = vjp(run, run.start.with_noise(noise.detach()), {"energy": energy}, truncate=3)
    assert not torch.allclose(full.grads[0], expected, rtol=1e-2)


@pytest.mark.slow  # twice there and back
def test_merged_gradients_go_back_once(make) -> None:
    run = make()
    separate = vjp(run, run.start, LOSSES)
    spent = run.cost.backwards
    weights = torch.tensor([[1.0, 2.0, 3.0, 4.0], [0.5, 0.0, -1.0, 1.0]])

    def merge(by_sample: Tensor, rows: Tensor) -> Tensor:
        return (weights[:, rows, None, None, None] * by_sample).sum(dim=0)

    merged = vjp(run, run.start, LOSSES, merge=merge)
    expected = (weights[..., None, None, None] * separate.grads).sum(dim=0)
    assert merged.grads.shape == (1, *expected.shape)
    assert torch.allclose(merged.grads[0], expected.to(merged.grads), rtol=1e-4, atol=1e-8)
    assert torch.equal(merged.values, separate.values)
    assert run.cost.backwards - spent == spent / 2


class Live:
    """Bytes that autograd holds for the way back, now and at most; each storage counted once."""

    def __init__(self) -> None:
        self.held: dict[int, list[int]] = {}
        self.peak = 0

    def pack(self, tensor: Tensor) -> Any:
        if isinstance(tensor, torch.nn.Parameter):
            return tensor
        key = tensor.untyped_storage().data_ptr()
        entry = self.held.setdefault(key, [0, tensor.untyped_storage().nbytes()])
        entry[0] += 1
        self.peak = max(self.peak, sum(size for _, size in self.held.values()))
        live = self

        class Kept:
            def __del__(self) -> None:
                entry[0] -= 1
                if entry[0] == 0:
                    live.held.pop(key, None)

        kept = Kept()
        kept.tensor = tensor
        return kept

    @staticmethod
    def unpack(kept: Any) -> Tensor:
        return kept if isinstance(kept, Tensor) else kept.tensor


def peak_bytes(run: Run, losses) -> int:
    live = Live()
    with torch.autograd.graph.saved_tensors_hooks(live.pack, live.unpack):
        vjp(run, run.start, losses)
    assert not live.held
    return live.peak


@pytest.mark.slow  # three passes there and back with hooks on every tensor
def test_memory_is_that_of_one_chunk_and_one_reward_whatever_the_seeds(make) -> None:
    def costly(samples: Tensor, prompts: list[str]) -> Tensor:
        value = samples
        for _ in range(20):
            value = value.sin()
        return value.mean(dim=(1, 2, 3))

    few = peak_bytes(make(particles=1, chunk=2), {"a": costly})
    assert peak_bytes(make(particles=4, chunk=2), {"a": costly}) == few
    assert peak_bytes(make(particles=4, chunk=2), {"a": costly, "b": costly, "c": costly}) == few


@pytest.mark.slow
def test_what_was_spent_is_booked_to_the_forward(make) -> None:
    run = make()
    vjp(run, run.start, LOSSES, watch={"energy": energy})
    rows, steps, guided = 4, 2, 2
    assert run.cost.nfe == rows * steps * guided
    assert run.cost.backwards == run.cost.recomputed == 2 * rows * steps * guided
    assert (run.cost.decodes, run.cost.reward_calls) == (rows, 3 * rows)
    assert run.spent.tolist() == [run.cost.forwards // 2] * 2
    cheap = make()
    vjp(cheap, cheap.start, LOSSES, truncate=1, recompute=False)
    assert (cheap.cost.backwards, cheap.cost.recomputed) == (2 * rows * guided, 0)


@pytest.mark.slow  # three sizes of a chunk
def test_out_of_memory_restarts_the_chunk_at_half_its_size(make) -> None:
    def needs_room(samples: Tensor, prompts: list[str]) -> Tensor:
        if len(samples) > 1:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory")
        return energy(samples, prompts)

    run = make(chunk=4)
    got = vjp(run, run.start, {"energy": needs_room})
    assert run.chunks.size == 1
    assert run.cost.nfe == 4 * 2 * 2  # what did not come to an end is not booked
    expected = vjp(make(), run.start, {"energy": energy})
    assert torch.allclose(got.grads, expected.grads, rtol=1e-4, atol=1e-9)


@pytest.mark.slow
def test_a_reward_without_gradient_is_named(make) -> None:
    class Verdict(Reward):
        def __call__(self, samples, prompts):
            return samples.mean(dim=(1, 2, 3))

    def rounded(samples: Tensor, prompts: list[str]) -> Tensor:
        return samples.detach().mean(dim=(1, 2, 3))

    def beside(samples: Tensor, prompts: list[str]) -> Tensor:
        return torch.ones(len(samples), requires_grad=True)

    run = make()
    for reward in (Verdict(), rounded, beside, WeightedSum([("energy", 1.0, energy), ("verdict", 1.0, Verdict())])):
        with pytest.raises(SteerError, match=r"'verdict' is not differentiable; .*zero-order"):
            vjp(run, run.start, {"verdict": reward})


@pytest.mark.slow
def test_a_gradient_that_is_not_finite_marks_its_row_and_no_other(make) -> None:
    def root(samples: Tensor, prompts: list[str]) -> Tensor:
        shift = torch.tensor([1.0 if prompt == "a red circle" else 0.0 for prompt in prompts])
        return (shift[:, None, None, None] * samples.double()).sqrt().mean(dim=(1, 2, 3))  # slope of √0

    run = make()
    got = vjp(run, run.start, {"root": root})
    assert got.finite.tolist() == [True] * 2 + [False] * 2
    assert bool(torch.isfinite(got.values).all())


def test_half_precision_does_not_lose_small_gradients(tiny_pipe) -> None:
    def faint(samples: Tensor, prompts: list[str]) -> Tensor:
        return 1e-12 * samples.float().mean(dim=(1, 2, 3))

    run = make_run(load_model(tiny_pipe, manager()).backbone, PROMPTS[:1], settings={"steps": 1, "chunk": 1})
    strong = vjp(run, run.start, {"x": lambda s, p: 1e12 * faint(s, p)}).grads
    weak = vjp(run, run.start, {"x": faint}).grads
    assert torch.allclose(weak * 1e12, strong, rtol=1e-4)
    assert float(strong.abs().max()) > 0


@pytest.mark.slow
def test_state_gradient_within_a_hook(make) -> None:
    seen: dict[str, Any] = {}

    class Watches(Method):
        name = "watches"

        @hookimpl
        def after_predict(self, state):
            if state.step == 1:
                seen["x"], seen["events"] = state.x.clone(), len(state.events)
                nfe = state.forwards.books.cost.nfe
                seen["values"], seen["gradient"] = state.gradient()
                seen["nfe"] = state.forwards.books.cost.nfe - nfe
                seen["rewards"] = state.rewards()

        @hookimpl
        def finish(self, state):
            seen["last"] = state.gradient(energy)[1]

    run = make(methods=[Watches()], reward=WeightedSum([("energy", 2.0, energy)]), eta=1.0)
    state = run.sample()
    assert not torch.is_grad_enabled() or not state.x.requires_grad
    assert seen["nfe"] == 4 * 2
    assert torch.allclose(seen["values"], seen["rewards"], rtol=1e-6)

    x = seen["x"].double().requires_grad_()
    at = run.sample(until=1, hooks=False)
    prediction = at.forward(x, torch.arange(4))
    value = 2 * energy(run.backbone.decode(at.process.estimate(x, prediction)), [])
    (expected,) = torch.autograd.grad(value.sum(), x)
    assert torch.allclose(seen["gradient"].double(), expected, rtol=1e-3, atol=1e-7)
    decoded = state.x.clone().requires_grad_()
    (expected,) = torch.autograd.grad(energy(run.backbone.decode(decoded), []).sum(), decoded)
    assert torch.allclose(seen["last"], expected, rtol=1e-4, atol=1e-8)


@pytest.mark.slow
def test_state_gradient_refuses_what_is_not_finite(make) -> None:
    def broken(samples: Tensor, prompts: list[str]) -> Tensor:
        return (samples.double() * 0).sqrt().mean(dim=(1, 2, 3))

    state = make().sample(until=1)
    with pytest.raises(RewardError, match=r"'mine' gave a gradient that is not finite .*at step 1"):
        state.gradient(broken, name="mine")
    with pytest.raises(SteerError, match="no reward was given"):
        state.gradient()


@pytest.mark.slow
def test_starts_take_rows_and_choose_slots(make) -> None:
    run = make()
    all_slots = run.sample()
    some = run.sample(start=Start.of([1], [1, 7]))
    assert (some.job.tolist(), some.slot.tolist()) == ([1, 1], [1, 7])
    assert torch.equal(some.x[0], all_slots.x[3])
    other_stream = Start(torch.tensor([1]), torch.tensor([9]), stream=torch.tensor([1]))
    assert torch.equal(run.sample(start=other_stream).x[0], all_slots.x[3])
    assert run.fresh_start([1], 1).slot.tolist() == [10]


def test_checkpointing_outside_a_graph_is_a_plain_call() -> None:
    assert checkpointed(torch.sin, torch.ones(2)).requires_grad is False
