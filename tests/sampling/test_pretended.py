"""All families and methods on a pretended device: nothing mixes devices, and few things make the host wait for it."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from support.families import Family, all_families
from support.pretended import Traffic, pretended
from support.tiny import brightness, tiny_sd

from steer import Prompt, Sampler
from steer.models.load import load_model
from steer.registry.plugins import manager
from steer.sampling.gradient_by_noise import vjp
from steer.sampling.hooks import make_run

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(torch.accelerator.is_available(), reason="a real accelerator tells by itself"),
]
EACH = {"sd", "sdxl", "sd3", "flux-dev", "flux2-klein", "pixart-sigma", "qwen-image", "sana", "z-image"}
"""One family of each pipeline's class."""
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


def generate(sampler: Sampler, family: Family, traffic: Traffic, **keywords: Any) -> tuple[int, int]:
    """Sample one prompt in one chunk; return the syncs and uploads that it took."""
    before = traffic.counts
    prompts = [Prompt(family.texts[0], seed=5)]
    result = sampler.generate(prompts, reward=brightness, **{**settings(family), **keywords})
    assert result.items[0].samples[0].reward is not None
    return traffic.counts[0] - before[0], traffic.counts[1] - before[1]


def climb(sampler: Sampler, family: Family) -> None:
    given = {**settings(family), "steps": 2}
    run = make_run(sampler.backbone, [Prompt(family.texts[0], seed=5)], settings=given)
    assert bool(vjp(run, run.start, {"brightness": brightness}).finite.all())


@pytest.mark.parametrize(
    "family",
    all_families(),
    ids=lambda family: family.name,
)
def test_a_family_on_cuda_plain_steered_and_differentiated(family: Family, monkeypatch) -> None:
    with pretended() as traffic:
        sampler = on("cuda", family, monkeypatch)
        # the first run encodes the text, for which a text encoder may wait
        _, few, more = (generate(sampler, family, traffic, steps=steps) for steps in (2, 2, 3))
        assert more[0] == few[0], traffic.syncs  # no step waits for the device
        # the rows, their prompts, the time and the noise; the positions of Flux and its kin, for each half
        assert more[1] - few[1] <= 8, traffic.uploads
        generate(sampler, family, traffic, steps=2, methods="fk", options={"fk": {"lookahead": 1}})
        climb(sampler, family)


@pytest.mark.parametrize("family", [f for f in all_families() if f.name in EACH], ids=lambda family: family.name)
def test_a_family_on_mps_computes_nothing_in_double(family: Family, monkeypatch) -> None:
    with pretended("mps") as traffic:
        sampler = on("mps", family, monkeypatch)
        generate(sampler, family, traffic, steps=2, methods="fk")
        climb(sampler, family)


@pytest.fixture(scope="module")
def sd() -> Family:
    return Family("sd", tiny_sd, {"guidance_scale": 5.0}, {}, {}, {})


def test_a_step_of_fk_waits_for_each_chunks_samples_and_scores_and_once_for_the_weights(sd, monkeypatch) -> None:
    with pretended() as traffic:
        sampler = on("cuda", sd, monkeypatch)
        keywords = {"methods": "fk", "options": {"fk": {"lambda": 1000.0}}}
        for chunk, syncs, uploads in ((2, 3, 7), (1, 5, 10)):
            few, more = (generate(sampler, sd, traffic, steps=steps, chunk=chunk, **keywords) for steps in (2, 3))
            assert more[0] - few[0] <= syncs, traffic.syncs
            assert more[1] - few[1] <= uploads, traffic.uploads


@pytest.mark.parametrize("kind", ["cuda", "mps"])
@pytest.mark.parametrize(
    ("method", "options"),
    [
        ("best-of-n", {"n": 3}), ("random", {"n": 3}), ("zero-order", {"rounds": 1}), ("prune", {"particles": 4}),
        ("refine", {"seeds": 2, "rounds": 1}), ("carinox", {"iterations": 2, "seeds": 2}),
    ],
)  # fmt: skip
def test_searches_stay_on_the_device(sd, kind: str, method: str, options, monkeypatch) -> None:
    class Bright:  # carinox climbs rewards that say they have a gradient
        name, differentiable = "bright", True
        __call__ = staticmethod(brightness)

    with pretended(kind):
        sampler = on(kind, sd, monkeypatch)
        found = sampler.generate(
            [Prompt("a red circle", seed=5)], methods=method, options={method: options}, reward=Bright(), steps=2,
            chunk=2,
        )  # fmt: skip
        assert found.items[0].samples


@pytest.mark.parametrize("scheduler", SD_SCHEDULERS)
def test_a_schedulers_step_waits_for_nothing(sd, scheduler: str, monkeypatch) -> None:
    with pretended() as traffic:
        sampler = on("cuda", sd, monkeypatch)
        few, more = (
            generate(sampler, sd, traffic, steps=steps, scheduler=scheduler, eta=None, methods="prune",
                     options={"prune": {"particles": 2}})
            for steps in (3, 5)
        )  # fmt: skip
        assert more[0] == few[0], traffic.syncs
