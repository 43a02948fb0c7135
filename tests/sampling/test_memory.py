"""Running out of memory and out of numbers: what is done about it, and what is said."""

from __future__ import annotations

import pytest
import torch
from support.tiny import brightness, tiny_sd

import steer
from steer import SteerError

ARGUMENTS = {"particles": 4, "seed": 3, "steps": 4, "guidance_scale": 1.0, "reward": brightness}
FK = {"methods": ["fk"], "options": {"fk": {"lambda": 50.0}}}


def small_memory(pipe, rows: int, after: int = 0, part: str = "unet"):
    """Have a part of a pipeline run out of memory above so many rows, after so many calls."""
    calls = []

    def hook(module, inputs):
        calls.append(len(inputs[0]))
        if len(calls) > after and len(inputs[0]) > rows:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory")

    module = getattr(pipe, part)
    (module.decoder if part == "vae" else module).register_forward_pre_hook(hook)
    return pipe


@pytest.mark.slow
@pytest.mark.parametrize("part", ["unet", "vae"])
def test_a_pack_begins_again_at_half_the_chunk(part) -> None:
    expected = steer.Sampler(tiny_sd()).generate("a red circle", **ARGUMENTS, **FK, chunk=2)
    sampler = steer.Sampler(small_memory(tiny_sd(), 2, after=3 if part == "unet" else 1, part=part))
    result = sampler.generate("a red circle", **ARGUMENTS, **FK, chunk=4)
    item = result.items[0]
    assert item.recipe.settings["chunk"] == 2
    assert result.rewards == expected.rewards  # all of it by one size, as the recipe says
    assert result.cost.nfe > expected.cost.nfe  # what was thrown away is counted


@pytest.mark.slow
def test_the_packs_to_come_begin_at_the_size_that_fits() -> None:
    prompts = [steer.Prompt("a red circle", settings={"steps": steps}) for steps in (2, 3)]
    pipe = small_memory(tiny_sd(), 2)
    failures = []
    pipe.unet.register_forward_pre_hook(lambda module, inputs: failures.append(len(inputs[0]) > 2))
    items = steer.Sampler(pipe).generate(prompts, particles=4, seed=3, chunk=4, guidance_scale=1.0).items
    assert [item.recipe.settings["chunk"] for item in items] == [2, 2]
    small = steer.Sampler(pipe).generate(prompts[:1], particles=1, seed=3, guidance_scale=1.0).items
    assert small[0].recipe.settings["chunk"] == 1


@pytest.mark.parametrize(
    ("part", "message"), [("unet", "while denoising.*--offload model"), ("vae", "while decoding.*--vae-memory tiling")]
)
def test_one_row_that_does_not_fit_says_what_would_help(part, message) -> None:
    with pytest.raises(SteerError, match=message):
        steer.Sampler(small_memory(tiny_sd(), 0, part=part)).generate("a", steps=1, seed=1)


def test_one_image_that_cannot_be_decoded_is_not_tried_again_in_smaller_chunks(monkeypatch) -> None:
    tried = []
    sampler = steer.Sampler(small_memory(tiny_sd(), 0, part="vae"))
    sampler.backbone.pipe.vae.decoder.register_forward_pre_hook(lambda *_: tried.append(1), prepend=True)
    monkeypatch.setattr(type(sampler.backbone), "decoded_at_once", lambda self, latents: 1)  # as on a GPU
    with pytest.raises(SteerError, match="while decoding, with one row at a time: use --vae-memory tiling"):
        sampler.generate("a", steps=1, seed=1, particles=4, chunk=4)
    assert tried == [1]


def test_a_reward_that_does_not_fit_says_what_would_help() -> None:
    def hungry(samples, prompts):
        raise torch.cuda.OutOfMemoryError("CUDA out of memory")

    with pytest.raises(SteerError, match="while rewarding, with one row at a time: use a smaller reward"):
        steer.Sampler(tiny_sd()).generate("a", steps=1, seed=1, reward=hungry)


@pytest.mark.slow
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("reward", [None, brightness])
@pytest.mark.parametrize(("dtype", "helps"), [(torch.float16, "--dtype bf16"), (torch.float32, "--guidance-scale")])
def test_images_that_are_no_numbers_are_an_error(value, reward, dtype, helps) -> None:
    pipe = tiny_sd()
    pipe.vae.decoder.register_forward_hook(lambda module, inputs, out: out.index_fill(3, torch.tensor([0]), value))
    pipe.to(dtype)
    with pytest.raises(SteerError, match=f"not finite.*{helps}"):
        steer.Sampler(pipe).generate("a", steps=1, seed=1, reward=reward)


@pytest.mark.parametrize("relieved", [True, False])
def test_a_text_encoder_that_does_not_fit_is_tried_again_with_more_room_or_named(relieved, monkeypatch) -> None:
    pipe, asked = tiny_sd(), []

    def hook(module, arguments, keywords):
        if not (relieved and asked):
            raise torch.cuda.OutOfMemoryError("CUDA out of memory")

    pipe.text_encoder.register_forward_pre_hook(hook, with_kwargs=True)
    sampler = steer.Sampler(pipe)
    monkeypatch.setattr(type(sampler.backbone), "crowd", lambda self: not asked and not asked.append(1))
    if relieved:
        assert sampler.generate("a red circle", steps=1, seed=1).items
    else:
        with pytest.raises(SteerError, match="out of memory while encoding texts: use --offload model"):
            sampler.generate("a red circle", steps=1, seed=1)
