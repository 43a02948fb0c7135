"""All families and methods on a pretended device: nothing mixes devices, and few things make the host wait for it."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from support.families import Family, all_families, each_class
from support.pretended import CUDA, STRICT, Traffic, pretended
from support.tiny import brightness, tiny_sd

from steer import Prompt, Sampler, hookimpl
from steer.models.load import load_model
from steer.registry.plugins import manager
from steer.rewards.combinations import WeightedSum
from steer.sampling.gradient_by_noise import vjp
from steer.sampling.hooks import make_run
from steer.sampling.methods_by_name import make_methods
from steer.sampling.state import State

pytestmark = pytest.mark.slow
SD_SCHEDULERS = [
    "ddpm", "euler", "euler-a", "dpm++", "dpm++-karras", "dpm++-sde", "unipc", "deis", "pndm", "lms", "lcm", "heun",
]  # fmt: skip


def on(kind: str, family: Family, monkeypatch: pytest.MonkeyPatch) -> Sampler:
    pipe = family.make()
    cls = type(load_model(pipe, manager()).backbone)
    for name, value in family.backbone.items():
        monkeypatch.setattr(cls, name, value)
    return Sampler(pipe.to(torch.device(kind)))


def settings(family: Family) -> dict[str, Any]:
    size = {} if family.size is None else {"width": family.size[0], "height": family.size[1]}
    return {"particles": 2, "chunk": 2, **family.guided, **size, **family.stochastic}


class Counting:
    """Notes what each step waits for and copies to the device."""

    def __init__(self, traffic: Traffic) -> None:
        self.traffic, self.counts = traffic, [traffic.counts]

    @hookimpl
    def after_step(self, state: State) -> None:
        self.counts.append(self.traffic.counts)

    def step(self, number: int) -> tuple[int, int]:
        """Return the syncs and uploads of a step after the first, which encodes the texts."""
        assert 0 < number < len(self.counts) - 1
        before, after = self.counts[number : number + 2]
        return after[0] - before[0], after[1] - before[1]


def sample(sampler: Sampler, family: Family, traffic: Traffic, methods=(), **given: Any) -> Counting:
    """Sample one prompt to the end; count from the second step on."""
    counting, options = Counting(traffic), given.pop("options", {})
    run = make_run(
        sampler.backbone, [Prompt(family.texts[0], seed=5)], observers=[counting],
        settings={**settings(family), **given}, methods=make_methods(list(methods), options, manager()),
        reward=WeightedSum([("brightness", 1.0, brightness)]),
    )  # fmt: skip
    state = run.search()
    assert torch.isfinite(state.rewards()).all()
    return counting


@pytest.mark.parametrize("family", all_families(), ids=lambda family: family.name)
def test_a_family_samples_and_is_steered_on_cuda(family: Family, monkeypatch) -> None:
    with pretended() as traffic:
        sampler = on(CUDA, family, monkeypatch)
        syncs, uploads = sample(sampler, family, traffic, steps=2).step(1)
        assert syncs == 0, traffic.syncs
        # the rows, their prompts, the time and the noise; the positions of Flux and its kin, for each half
        assert uploads <= 8, traffic.uploads
        syncs, uploads = sample(sampler, family, traffic, ["fk"], steps=2).step(1)
        assert syncs <= 3, traffic.syncs  # samples, scores and weights, as below
        assert uploads <= 8 + 4, traffic.uploads
        sample(sampler, family, traffic, ["fk"], steps=2, options={"fk": {"lookahead": 1}})


@pytest.mark.parametrize("family", all_families(), ids=lambda family: family.name)
def test_a_family_is_differentiated_on_mps_and_nothing_is_in_double(family: Family, monkeypatch) -> None:
    with pretended(STRICT):
        given = {**settings(family), "steps": 2}
        run = make_run(on(STRICT, family, monkeypatch).backbone, [Prompt(family.texts[0], seed=5)], settings=given)
        assert bool(vjp(run, run.start, {"brightness": brightness}).finite.all())


@pytest.fixture(scope="module")
def sd() -> Family:
    return Family("sd", tiny_sd, {"guidance_scale": 5.0}, {}, {}, {})


@pytest.mark.parametrize(("chunk", "most"), [(2, (3, 7)), (1, (5, 10))])
def test_a_step_of_fk_waits_for_each_chunks_samples_and_scores_and_once_for_the_weights(
    sd, chunk, most, monkeypatch
) -> None:
    with pretended() as traffic:
        sampler = on(CUDA, sd, monkeypatch)
        counting = sample(sampler, sd, traffic, ["fk"], steps=3, chunk=chunk, options={"fk": {"lambda": 1000.0}})
        syncs, uploads = counting.step(1)
        assert syncs <= most[0] and uploads <= most[1], (traffic.syncs, traffic.uploads)


class Bright:
    """Brightness; carinox climbs rewards that say they have a gradient."""

    name, differentiable = "bright", True
    __call__ = staticmethod(brightness)


SEARCHES = {
    "zero-order": {"rounds": 1}, "carinox": {"iterations": 1, "seeds": 1}, "prune": {"particles": 2},
    "best-of-n": {"n": 2}, "random": {"n": 2}, "refine": {"seeds": 1, "rounds": 1, "survivors": 1, "copies": 1},
    "beam": {"particles": 2, "at": (0.0,)},
}  # fmt: skip


@pytest.mark.parametrize("family", each_class(), ids=lambda family: family.name)
def test_searches_stay_on_the_device(family: Family, monkeypatch) -> None:
    given = {**settings(family), **family.plain}
    del given["particles"]  # searches have their own
    with pretended(STRICT):  # which has CUDA's rules, and no float64
        sampler = on(STRICT, family, monkeypatch)
        for method in list(SEARCHES)[: None if family.name == "sd" else 3]:  # the rest does no more to a model
            found = sampler.generate(
                [Prompt(family.texts[0], seed=5)], methods=method, options={method: SEARCHES[method]}, reward=Bright(),
                **given, **({"particles": 1} if method == "zero-order" else {}),
                steps=2 if method in ("prune", "beam") else family.fewest,
            )  # fmt: skip
            assert found.items[0].samples, method


@pytest.mark.slow
@pytest.mark.parametrize("scheduler", SD_SCHEDULERS)
def test_a_schedulers_step_waits_for_nothing(sd, scheduler: str, monkeypatch) -> None:
    with pretended() as traffic:
        given = {"steps": 4, "scheduler": scheduler, "eta": None, "options": {"prune": {"particles": 2}}}
        counting = sample(on(CUDA, sd, monkeypatch), sd, traffic, ["prune"], **given)
        waits = [counting.step(number)[0] for number in range(1, len(counting.counts) - 1)]
        assert waits.count(0) >= len(waits) - 1, traffic.syncs  # one prunes
