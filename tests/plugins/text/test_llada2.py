"""LLaDA2 against diffusers' own pipeline, at a tiny random size."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import diffusers
import pytest
import torch

from steer import Prompt, Sampler, SteerError
from steer_text import tokenizer

pytestmark = pytest.mark.skipif(not hasattr(diffusers, "LLaDA2Pipeline"), reason="this diffusers has no LLaDA2")

WORDS = "one two three four five six seven eight nine ten"
LENGTH, BLOCK = 13, 4


class Network(torch.nn.Module):
    """Two layers of attention, bidirectional within the window, with masks and positions as the pipeline gives them."""

    def __init__(self, vocabulary: int, width: int = 16) -> None:
        super().__init__()
        self.words, self.places = torch.nn.Embedding(vocabulary, width), torch.nn.Embedding(64, width)
        layers = (torch.nn.TransformerEncoderLayer(width, 2, 32, 0.0, batch_first=True) for _ in range(2))
        self.mix = torch.nn.ModuleList(layers)
        self.out = torch.nn.Linear(width, vocabulary)
        self.config, self.device, self.dtype = SimpleNamespace(), torch.device("cpu"), torch.float32

    def forward(self, ids: torch.Tensor, attention_mask: torch.Tensor, position_ids: torch.Tensor) -> Any:
        hidden = self.words(ids) + self.places(position_ids)
        for layer in self.mix:
            hidden = layer(hidden, src_key_padding_mask=attention_mask == 0)
        return SimpleNamespace(logits=3 * self.out(hidden))


@pytest.fixture(scope="module")
def pipe() -> Any:
    torch.manual_seed(3)
    tokens = tokenizer.build([WORDS], length=64)
    scheduler = diffusers.BlockRefinementScheduler(block_length=BLOCK)
    made = diffusers.LLaDA2Pipeline(Network(len(tokens)).eval(), scheduler, tokens)
    made.set_progress_bar_config(disable=True)
    return made


@pytest.mark.slow
@pytest.mark.parametrize("heat", [0.0, 1.0])
def test_plain_samples_are_the_stock_pipelines(pipe: Any, heat: float) -> None:
    prompts, count = ["one two three", "four five six seven eight"], 3
    result = Sampler(pipe, device="cpu").generate(
        prompts, particles=count, seed=5, choose="all", steps=4, length=LENGTH, temperature=heat, chunk=2
    )
    stock = [
        pipe(
            prompt=text, gen_length=LENGTH, num_inference_steps=4, temperature=heat,
            generator=torch.Generator().manual_seed(5 + slot),
        ).texts[0]
        for text in prompts for slot in range(count)
    ]  # fmt: skip
    assert result.texts == stock
    assert len(set(stock)) > (1 if heat == 0 else 3)


@pytest.mark.arithmetic
def test_fk_steers_it_and_heats_it_where_nobody_said_how_much(pipe: Any) -> None:
    def tens(samples, prompts):
        return torch.tensor([float(text.split().count("ten")) for text in samples])

    sampler = Sampler(pipe, device="cpu")
    run = {"particles": 8, "steps": 4, "length": LENGTH, "reward": tens, "choose": "all", "chunk": 64}
    options = {"fk": {"lambda": 3.0, "start": 0.0, "every": 0.1, "end": 1.0}}
    prompts = [Prompt("one two three", id=str(seed), seed=seed) for seed in range(0, 800, 100)]
    plain = sampler.generate(prompts, temperature=1.0, **run).items
    steered = sampler.generate(prompts, methods="fk", options=options, **run).items
    gain = [one.mean_reward - other.mean_reward for one, other in zip(steered, plain, strict=True)]
    assert sum(gain) / len(gain) > 0.2
    assert steered[0].recipe.settings["temperature"] == 1.0
    with pytest.raises(SteerError, match=r"without noise \(temperature=0\).*--temperature 1"):
        sampler.generate("one two three", methods="fk", temperature=0.0, **run)
