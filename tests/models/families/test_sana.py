"""What is Sana's own: the instruction before a prompt, the room for a text, parts that half precision cannot hold."""

from __future__ import annotations

import warnings

import pytest
import torch
from support.families.sana import tiny_sana
from support.tiny import WORDS

from steer import Sampler
from steer.models.backbone import Backbone
from steer.models.load import load_model
from steer.prompts.prompt import Prompt
from steer.registry.plugins import manager


@pytest.fixture(scope="module")
def backbone() -> Backbone:
    return load_model(tiny_sana(), manager()).backbone


def words(count: int) -> str:
    """Return a text of so many tokens: its first letter, then words."""
    return " ".join(["a", *(WORDS[i % len(WORDS)] for i in range(count - 1))])


def test_a_text_fills_the_room_behind_the_instruction_to_the_last_token(backbone) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        full = backbone.encode([Prompt(words(299))], [""], 1.0).cond
    assert full["mask"].sum() == full["mask"].numel() == 300
    with pytest.warns(UserWarning, match="has 300 tokens, the text encoder takes 299; cut off: ' ?circle'"):
        cut = backbone.encode([Prompt(words(299) + " circle")], [""], 1.0).cond
    assert torch.equal(cut["text"], full["text"])
    other = backbone.encode([Prompt(words(298) + " circle")], [""], 1.0).cond
    changed = (other["text"] != full["text"]).any(-1).nonzero()[:, 1]
    assert changed.tolist() == [299]  # the last token was seen


def test_a_negative_prompt_has_no_instruction(backbone) -> None:
    same = backbone.encode([Prompt("a circle")], ["a circle"], 4.5)
    assert same.uncond is not None
    assert not torch.allclose(same.cond["text"][:, 1:3], same.uncond["text"][:, 1:3], atol=1e-3)


@pytest.mark.slow
def test_what_leaves_the_range_of_float16_loads_in_bfloat16(tmp_path) -> None:
    tiny_sana().save_pretrained(tmp_path)
    loaded = Sampler(str(tmp_path), device="cpu", dtype="fp16")
    pipe = loaded.backbone.pipe
    assert pipe.transformer.dtype == torch.float16
    assert {pipe.text_encoder.dtype, pipe.vae.dtype} == {torch.bfloat16}
    noise = torch.randn(1, 8, 8, 8, generator=torch.Generator().manual_seed(0))
    half, whole = (sampler.sample(noise, "a red circle", steps=2, seed=1) for sampler in (loaded, Sampler(tiny_sana())))
    assert (half - whole).abs().max() < 0.05
    assert (half - whole).abs().max() > 0


def test_a_pipeline_all_in_float16_is_warned_of() -> None:
    pipe = tiny_sana()
    pipe.vae.half()
    with pytest.warns(UserWarning, match=r"Sana's vae overflows in float16; .*pipe\.vae\.to\(torch\.bfloat16\)"):
        load_model(pipe, manager())
