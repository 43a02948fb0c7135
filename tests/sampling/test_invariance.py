"""An image depends on its prompt and its seed, not on what is computed beside it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from support.tiny import brightness

import steer
from steer.models.load import load_model
from steer.processes.noise import Streams, hashed_seed, keyed, slot_generator
from steer.prompts.prompt import Prompt
from steer.registry.plugins import manager
from steer.sampling.hooks import make_run

NOUNS = ["circle", "square"]
TEXTS = [f"{a} {color} {noun}" for a in ("a", "the") for color in ("red", "blue") for noun in NOUNS]
SETTINGS = {"steps": 3, "guidance_scale": 3.0, "eta": 1.0}


def latents(pipe, texts, **settings) -> dict[tuple[str, int], torch.Tensor]:
    run = make_run(load_model(pipe, manager()).backbone, [Prompt(t) for t in texts], settings={**SETTINGS, **settings})
    state = run.search()
    return {
        (str(state.jobs[j].prompt), s): state.x[i]
        for i, (j, s) in enumerate(zip(state.job.tolist(), state.slot.tolist(), strict=True))
    }


def farthest(a, b) -> float:
    assert set(a) <= set(b)
    return max(float((a[key] - b[key]).abs().max()) for key in a)


@pytest.mark.slow  # fifteen images at four sizes of a chunk
def test_an_image_alone_and_in_a_crowd(tiny_pipe) -> None:
    texts = TEXTS[:5]
    crowd = latents(tiny_pipe, texts, particles=3, chunk=4)
    assert len(crowd) == 15
    for chunk in (1, 5, 15):
        assert farthest(crowd, latents(tiny_pipe, texts, particles=3, chunk=chunk)) <= 1e-4
    assert farthest(latents(tiny_pipe, texts[3:4], particles=1, chunk=1), crowd) <= 1e-4
    assert farthest(latents(tiny_pipe, texts[::-1], particles=3, chunk=4), crowd) <= 1e-4


@pytest.mark.slow
def test_at_one_chunk_size_it_is_bit_equal(tiny_pipe) -> None:
    crowd = latents(tiny_pipe, TEXTS, particles=4, chunk=4)
    for texts, particles in ((TEXTS[2:3], 4), (TEXTS[5:6], 1), (TEXTS[4:0:-1], 3)):
        assert farthest(latents(tiny_pipe, texts, particles=particles, chunk=4), crowd) == 0


@pytest.mark.slow  # three populations of several prompts
def test_steered_images_are_bit_equal_alone_and_among_others(tiny_pipe) -> None:
    def steered(texts):
        result = steer.Sampler(tiny_pipe).generate(
            texts, methods=["fk"], reward=brightness, particles=4, chunk=3, choose="all",
            options={"fk": {"lambda": 300, "potential": "diff"}}, **SETTINGS,
        )  # fmt: skip
        return {str(item.prompt): item for item in result.items}

    crowd = steered(TEXTS[2:7])
    assert any(event["kind"] == "resample" for event in crowd[TEXTS[3]].trace["events"])
    for texts in ([TEXTS[3]], [TEXTS[6], TEXTS[3]]):
        alone = steered(texts)[TEXTS[3]]
        assert alone.trace == crowd[TEXTS[3]].trace
        for a, b in zip(alone.images, crowd[TEXTS[3]].images, strict=True):
            assert np.array_equal(np.asarray(a), np.asarray(b))


def test_slot_i_of_seed_s_is_the_stock_generator_of_s_plus_i() -> None:
    streams = Streams.seeded([7, 7, 2**32 - 1], [0, 3, 1])
    first, second = streams.normal((2, 3), "cpu"), streams.normal((2, 3), "cpu")
    for row, seed in enumerate((7, 10, 0)):
        generator = torch.Generator().manual_seed(seed)
        assert torch.equal(first[row], torch.randn(1, 2, 3, generator=generator)[0])
        assert torch.equal(second[row], torch.randn(1, 2, 3, generator=generator)[0])
    assert slot_generator(2**32 - 1, 1).initial_seed() == 0


def test_addresses_are_stable_across_versions_and_machines() -> None:
    """Recipes written today must replay tomorrow: these values may never change."""
    assert hashed_seed("prompt", 0, "p1") == 1085634937
    assert keyed(1, "p1", "resample", step=4).random() == pytest.approx(0.5115829928467917, abs=1e-15)


def test_every_part_of_the_address_counts() -> None:
    def draw(seed=1, prompt="p", purpose="resample", **rest) -> float:
        return keyed(seed, prompt, purpose, **rest).random()

    base = {"slot": 0, "step": 0, "draw": 0}
    values = [draw(**base), draw(2), draw(prompt="q"), draw(purpose="choose"), *(draw(**{k: 1}) for k in base)]
    assert len(set(values)) == len(values)
    assert draw() == draw(**base)
    assert hashed_seed("a", 11) != hashed_seed("a1", 1)
    seeds = [hashed_seed("prompt", 0, str(i)) for i in range(2000)]
    assert len(set(seeds)) == 2000
    assert all(0 <= seed < 2**32 for seed in seeds)
