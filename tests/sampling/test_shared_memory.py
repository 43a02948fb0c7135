"""A pretended GPU that model, rewards and weights of methods share: what waits on the CPU, and batches of their own."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from support.pretended import REAL, pretended
from support.tiny import brightness, tiny_sd
from support.tiny_clips import open_clip_folder
from torch import Tensor, nn

from steer import Method, Prompt, Reward, Sampler, SteerError, hookimpl
from steer.models import room
from steer.models.denoisers import Denoiser
from steer.models.placement import Placed
from steer.plugin import Run
from steer.registry.plugins import manager
from steer.rewards import reward as rewards
from steer.rewards.checked import checked
from steer.rewards.combinations import WeightedSum
from steer.sampling import session as sessions
from steer.sampling.gradient_by_noise import vjp
from steer.sampling.hooks import make_run
from steer.sampling.session import Session
from steer.sampling.shared_memory import SharedMemory

pytestmark = pytest.mark.skipif(REAL is not None, reason="a real accelerator tells by itself")
CUDA = torch.device("cuda", 0)
PROMPTS = [Prompt("a red circle", seed=1), Prompt("a blue square", seed=5)]


class Judge(Reward):
    """Brightness by a weight of one, on a GPU that may have no room."""

    differentiable = True
    full = False

    def prepare(self) -> None:
        self.model = nn.Linear(1, 1, bias=False).to(self.device)
        nn.init.ones_(self.model.weight)
        self.sizes: list[int] = []

    def completed(self, prompt: Prompt) -> Prompt:
        assert self.is_ready
        return prompt

    def __call__(self, samples: Tensor, prompts: Sequence[Prompt]) -> Tensor:
        if self.full:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory")
        self.sizes.append(len(samples))
        return self.model(brightness(samples, prompts)[:, None])[:, 0]

    @property
    def place(self) -> str:
        return self.model.weight.device.type


@pytest.fixture
def waiting() -> Any:
    """A reward that waits on the CPU of a pretended machine."""
    with pretended():
        judge = Judge(device=CUDA)
        judge.waits = judge.park()
        assert judge.waits and judge.place == "cpu"
        yield judge


def run_of(sampler: Sampler, **given: Any) -> Run:
    settings = {"particles": 2, "chunk": 2, "steps": 2, "guidance_scale": 1.0, **given.pop("settings", {})}
    return make_run(sampler.backbone, PROMPTS[:1], settings=settings, **given)


def noted_moves(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return a list of where rewards go from here on."""
    moves: list[str] = []
    moved = rewards.moved

    def noted(modules: list[nn.Module], device: torch.device) -> None:
        moves.append(device.type)
        moved(modules, device)

    monkeypatch.setattr(rewards, "moved", noted)
    return moves


@pytest.mark.slow
def test_a_waiting_reward_comes_once_for_the_gradients_of_a_chunk(waiting: Judge, monkeypatch) -> None:
    moves = noted_moves(monkeypatch)
    run = run_of(Sampler(tiny_sd().to("cuda")))
    assert bool(vjp(run, run.start, {"judge": waiting}).finite.all())
    assert moves == ["cuda", "cpu"] and waiting.sizes == [1, 1]
    assert waiting.place == "cpu"


@pytest.mark.slow
def test_waiting_rewards_of_a_sum_come_one_after_another_for_its_gradient(waiting: Judge, monkeypatch) -> None:
    other = Judge(device=CUDA)
    other.waits = other.park()
    moves = noted_moves(monkeypatch)
    run = run_of(Sampler(tiny_sd().to("cuda")))
    together = vjp(run, run.start, {"sum": WeightedSum([("one", 2.0, waiting), ("other", -0.5, other)])})
    assert moves == ["cuda", "cpu"] * 2
    alone = vjp(run, run.start, {"judge": waiting})
    assert torch.allclose(together.values, 1.5 * alone.values)
    assert torch.allclose(together.grads, 1.5 * alone.grads, rtol=1e-4, atol=1e-7)


@pytest.mark.slow
def test_a_reward_that_a_method_loads_for_itself_waits_too_and_is_sent_away(tmp_path: Path, monkeypatch) -> None:
    guard = f"clip:{open_clip_folder(tmp_path)}"
    options = {"carinox": {"guard": guard, "seeds": 1, "iterations": 2, "weights": "uniform"}}
    given = {"methods": ["carinox"], "options": options, "steps": 1}
    with pretended():
        monkeypatch.setattr("steer.sampling.shared_memory.room_of", lambda device: 1000)
        moves = noted_moves(monkeypatch)
        sampler = Sampler(tiny_sd().to("cuda"))
        sampler.generate(PROMPTS[:1], reward=Judge(device=CUDA), **given)
        # the judge for each gradient, the guard for each look at it
        assert moves.count("cpu") == moves.count("cuda") + 2 >= 6


def test_a_waiting_reward_comes_once_for_all_batches(waiting: Judge, monkeypatch) -> None:
    moves = noted_moves(monkeypatch)
    monkeypatch.setattr(room, "PIXELS_AT_ONCE", 4 * 4)
    images = torch.arange(3.0).reshape(3, 1, 1, 1).expand(3, 3, 4, 4).to(CUDA)
    with torch.no_grad():
        scores = WeightedSum([("judge", 1.0, waiting)])(images, [*PROMPTS, PROMPTS[0]])
    assert scores.tolist() == [0.0, 1.0, 2.0] and waiting.sizes == [1, 1, 1]
    assert moves == ["cuda", "cpu"]


def test_a_waiting_reward_that_finds_no_room_waits_again(waiting: Judge) -> None:
    images = torch.zeros(2, 3, 4, 4, device=CUDA)
    waiting.full = True
    with pytest.raises(torch.cuda.OutOfMemoryError):
        WeightedSum([("judge", 1.0, waiting)])(images, PROMPTS)
    assert waiting.place == "cpu"


@pytest.mark.slow
def test_a_gradient_without_room_for_the_reward_says_so_and_leaves_it_on_the_cpu(waiting: Judge) -> None:
    waiting.full = True
    run = run_of(Sampler(tiny_sd().to("cuda")))
    with pytest.raises(SteerError, match="while rewarding, with one row at a time: use a smaller reward"):
        vjp(run, run.start, {"judge": waiting})
    assert waiting.place == "cpu"


def test_a_reward_that_did_not_come_as_a_whole_goes_back(waiting: Judge, monkeypatch) -> None:
    def half(modules: list[nn.Module], device: torch.device) -> None:
        for module in modules:
            module.to(device)
        if device.type != "cpu":
            raise torch.cuda.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(rewards, "moved", half)
    with pytest.raises(torch.cuda.OutOfMemoryError):
        checked("judge", waiting, torch.zeros(1, 3, 4, 4, device=CUDA), PROMPTS[:1])
    assert waiting.place == "cpu"


@pytest.mark.slow
def test_planning_does_not_bring_a_reward_and_running_out_of_memory_sends_one_away(waiting: Judge) -> None:
    backbone = Sampler(tiny_sd().to("cuda")).backbone
    WeightedSum([("judge", 1.0, waiting)]).completed(PROMPTS[0])
    assert waiting.place == "cpu"
    memory = SharedMemory(backbone, [waiting])
    assert not memory.relieve()
    waiting.ready()
    assert waiting.place == "cuda"
    assert memory.relieve() and waiting.place == "cpu"


@pytest.mark.slow
def test_images_are_decoded_and_scored_in_equal_batches_whatever_the_chunk(monkeypatch) -> None:
    monkeypatch.setattr(room, "PIXELS_AT_ONCE", 2 * 16 * 16)
    with pretended():
        pipe, judge, decoded = tiny_sd().to("cuda"), Judge(device=CUDA), []
        pipe.vae.decoder.register_forward_pre_hook(lambda module, inputs: decoded.append(len(inputs[0])))
        given = {"reward": judge, "particles": 5, "steps": 1, "choose": "all"}
        items = Sampler(pipe).generate(PROMPTS, chunk=5, **given).items
        assert set(decoded) == set(judge.sizes) == {2}
        # each in another place of its batch, and of the same bits
        alone = [Sampler(pipe).generate([prompt], chunk=3, **given).items[0] for prompt in PROMPTS]
        for item, other in zip(items, alone, strict=True):
            pairs = zip(item.samples, other.samples, strict=True)
            assert all(abs(one.reward - two.reward) < 1e-5 for one, two in pairs)


class Other(Method):
    """Brings a copy of the model's denoiser."""

    name = "other"

    @hookimpl
    def configure(self, run: Run) -> None:
        def load(_: Path) -> nn.Module:
            return tiny_sd().unet.requires_grad_(False)

        run.bring(Denoiser("other", lambda: Path(__file__), load), by=self.name)


def on_gpu() -> Sampler:
    sampler = Sampler(tiny_sd().to("cuda"))
    sampler.backbone.denoisers.ready = sampler.backbone.ready
    sampler.backbone.reside(CUDA, crowded=False)
    return sampler


@pytest.mark.slow
def test_a_search_may_begin_with_a_gradient_through_weights_that_are_not_read_yet() -> None:
    with pretended():
        run = run_of(on_gpu(), methods=[Other()])
        assert bool(vjp(run, run.start, {"brightness": brightness}).finite.all())


@pytest.mark.slow
def test_the_way_back_brings_the_weights_that_it_needs() -> None:
    with pretended():
        run = run_of(on_gpu(), methods=[Other()])
        noise = run.noise(run.start).requires_grad_()
        samples = run.sample(noise=noise, grad=True).samples
        run.begin(denoiser="base")  # the other waits on the CPU
        (gradient,) = torch.autograd.grad(samples.sum(), noise)
        assert bool(torch.isfinite(gradient).all())


@pytest.mark.slow
def test_packs_that_were_encoded_together_go_one_by_one(monkeypatch) -> None:
    monkeypatch.setattr(Placed, "crowded", True)
    monkeypatch.setattr(sessions, "WAVE", 2)
    sampler, alive, most = Sampler(tiny_sd()), weakref.WeakSet(), 0
    session = Session(sampler.model, manager(), steps=1)

    def noted(number: int) -> Run:
        run = session.run([Prompt(f"a {number}", seed=number)])
        alive.add(run)
        return run

    for _ in session.encoded_ahead(map(noted, range(5))):
        gc.collect()
        most = max(most, len(alive))
    assert most == 2
