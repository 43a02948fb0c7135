"""Weights and long texts for CLIP encoders, against the stock pipelines' own encodings."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from support.families.sd import tiny_sd3, tiny_sdxl
from support.tiny import tiny_sd

from steer import SteerError
from steer.models.families import clip_text
from steer.models.families.clip_text import chunks_of
from steer.models.load import load_model
from steer.prompts.prompt import Prompt
from steer.prompts.syntax import WRITTEN
from steer.registry.plugins import manager
from steer.sampling.hooks import make_run
from steer.sampling.run import Run

PIPES = {"sd": tiny_sd, "sdxl": tiny_sdxl}
LONG = ", ".join(["a red circle", "a blue square"] * 12)


def run_of(pipe: Any, *texts: str, chunk: int = 2, syntax: str | None = "a1111", **settings: Any) -> Run:
    prompts = [Prompt(text, id=str(number), seed=5 + number) for number, text in enumerate(texts)]
    given = {"steps": 2, "guidance_scale": 5.0, "width": 16, "height": 16, "chunk": chunk, "prompt_syntax": syntax}
    return make_run(load_model(pipe, manager()).backbone, prompts, settings={**given, **settings})


@pytest.mark.slow
@pytest.mark.parametrize("family", PIPES)
@pytest.mark.parametrize("negative", ["", "a blue square"])
def test_a_text_without_weights_is_stocks(family: str, negative: str) -> None:
    pipe = PIPES[family]()
    images = [
        run_of(pipe, "a red circle", syntax=syntax, negative=negative).search().samples for syntax in ("a1111", None)
    ]
    assert torch.equal(*images)


@pytest.mark.parametrize("family", PIPES)
def test_weights_scale_the_states_of_their_words_and_keep_the_mean(family: str) -> None:
    pipe = PIPES[family]()
    for name, bias in pipe.text_encoder.named_parameters():
        if name.endswith("final_layer_norm.bias"):  # without one, the mean is nothing but rounding
            torch.nn.init.constant_(bias, 0.3)
    plain, weighed = (run_of(pipe, text).encode().cond["text"] for text in ("a red circle", "a (red:1.5) circle"))
    widths = [part.config.hidden_size for part in (pipe.text_encoder, getattr(pipe, "text_encoder_2", None)) if part]
    ids = pipe.tokenizer("a red circle").input_ids
    red = ids.index(*pipe.tokenizer("red", add_special_tokens=False).input_ids)
    for before, after in zip(plain.split(widths, dim=-1), weighed.split(widths, dim=-1), strict=True):
        scaled = before.clone()
        scaled[:, red] *= 1.5
        torch.testing.assert_close(after, scaled * (before.mean() / scaled.mean()))


def test_a_mean_that_is_rounding_is_not_kept() -> None:
    hidden = torch.tensor([[[1.0, -1.0], [2.0, -2.0 + 1e-7]]])
    assert torch.equal(clip_text._emphasized(hidden, [1.0, 1.5]), hidden * torch.tensor([1.0, 1.5])[None, :, None])


@pytest.mark.slow
@pytest.mark.parametrize("family", PIPES)
def test_each_chunk_of_a_long_text_is_encoded_as_stock_encodes_it_alone(family: str) -> None:
    pipe = PIPES[family]()
    both = run_of(pipe, "a red circle BREAK a blue square").encode()
    room = pipe.tokenizer.model_max_length
    assert both.cond["text"].shape[1] == both.uncond["text"].shape[1] == 2 * room  # type: ignore[index]
    alone = [run_of(pipe, text).encode().cond for text in ("a red circle", "a blue square")]
    for half, one in zip(both.cond["text"].split(room, dim=1), alone, strict=True):
        assert torch.equal(half, one["text"])
    if family == "sdxl":
        assert torch.equal(both.cond["pooled"], alone[0]["pooled"])


def test_no_token_is_lost_and_chunks_end_at_commas() -> None:
    tokenizer = tiny_sd().tokenizer
    chunks = chunks_of(LONG, tokenizer, lambda text, _: text)
    assert [token for chunk in chunks for token, _ in chunk] == tokenizer(LONG, add_special_tokens=False).input_ids
    assert len(chunks) > 1
    comma = tokenizer(",", add_special_tokens=False).input_ids[0]
    assert all(chunk[-1][0] == comma for chunk in chunks[:-1])


@pytest.mark.slow
def test_an_image_does_not_depend_on_the_length_of_the_texts_beside_it() -> None:
    pipe = tiny_sd()
    short, long = run_of(pipe, "a red circle", LONG).search().samples
    assert torch.equal(short, run_of(pipe, "a red circle").search().samples[0])
    assert not torch.equal(long, short)


def test_rewards_read_the_plain_words() -> None:
    seen: list[tuple[str, str]] = []

    class Watch:
        def __call__(self, samples: torch.Tensor, prompts: list[Prompt], step: int | None = None) -> torch.Tensor:
            seen.extend((str(prompt), prompt.metadata[WRITTEN]) for prompt in prompts)
            return torch.zeros(len(prompts))

    run = run_of(tiny_sd(), "a (red:1.3) circle")
    run.search()
    run.forwards.judge(Watch(), torch.zeros(1, 3, 8, 8), [run.jobs[0].prompt])  # type: ignore[arg-type]
    assert set(seen) == {("a red circle", "a (red:1.3) circle")}


def test_a_family_without_clip_alone_refuses_weights() -> None:
    with pytest.raises(SteerError, match="StableDiffusion3 has another: leave --prompt-syntax out"):
        run_of(tiny_sd3(), "a (red:1.3) circle")


def test_an_unknown_syntax_is_refused() -> None:
    with pytest.raises(SteerError, match=r"unknown prompt syntax 'a111'.*did you mean 'a1111'"):
        run_of(tiny_sd(), "a red circle", syntax="a111")
