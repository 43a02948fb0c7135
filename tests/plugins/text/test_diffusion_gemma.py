"""DiffusionGemma against diffusers' own pipeline, with the real architecture at a tiny random size."""

from __future__ import annotations

from typing import Any

import diffusers
import pytest
import torch
import transformers

from steer import Prompt, Sampler
from steer_text import tokenizer

KNOWN = hasattr(diffusers, "DiffusionGemmaPipeline") and hasattr(transformers, "DiffusionGemmaForBlockDiffusion")
pytestmark = pytest.mark.skipif(not KNOWN, reason="this diffusers or transformers has no DiffusionGemma")

CANVAS, STEPS = 4, 4


class Processor:
    """A tokenizer with the template that the pipeline asks for."""

    def __init__(self, tokens: Any) -> None:
        self.tokenizer = tokens
        self.batch_decode = tokens.batch_decode

    def apply_chat_template(self, messages: list[dict[str, str]], **_: Any) -> dict[str, torch.Tensor]:
        return dict(self.tokenizer(messages[0]["content"], return_tensors="pt"))


def tiny(scheduler: Any) -> Any:
    from transformers import DiffusionGemmaConfig, DiffusionGemmaForBlockDiffusion, DiffusionGemmaTextConfig
    from transformers.models.gemma4.configuration_gemma4 import Gemma4VisionConfig

    torch.manual_seed(1)
    tokens = tokenizer.build(["one two three four five six seven eight nine ten"], length=64)
    text = DiffusionGemmaTextConfig(
        vocab_size=len(tokens), hidden_size=16, intermediate_size=16, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=1, head_dim=8, global_head_dim=8, num_experts=2, top_k_experts=1, moe_intermediate_size=8,
        sliding_window=32, layer_types=["sliding_attention", "full_attention"], pad_token_id=0, eos_token_id=3,
        bos_token_id=2,
    )  # fmt: skip
    vision = Gemma4VisionConfig(
        hidden_size=16,
        intermediate_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=2,
        head_dim=8,
    )
    config = DiffusionGemmaConfig(text_config=text, vision_config=vision, canvas_length=CANVAS)
    model = DiffusionGemmaForBlockDiffusion(config).eval()
    with torch.no_grad():  # random logits of this size would be all but equal
        model.lm_head.weight.mul_(20)
    pipe = diffusers.DiffusionGemmaPipeline(model, scheduler, Processor(tokens))
    pipe.set_progress_bar_config(disable=True)
    return pipe


@pytest.mark.slow  # imports the model and draws every text twice
@pytest.mark.parametrize("name", ["BlockRefinementScheduler", "DiscreteDDIMScheduler", "EntropyBoundScheduler"])
def test_plain_samples_are_the_stock_pipelines(name: str) -> None:
    pipe = tiny(getattr(diffusers, name)())
    count, prompts = 2, ["one two three", "four"]
    result = Sampler(pipe, device="cpu").generate(
        prompts, particles=count, seed=5, choose="all", steps=STEPS, length=2 * CANVAS, temperature=1.0, chunk=2
    )
    stock = [
        pipe(
            prompt=text, gen_length=2 * CANVAS, num_inference_steps=STEPS, temperature=1.0,
            generator=torch.Generator().manual_seed(5 + slot),
        ).texts[0]
        for text in prompts for slot in range(count)
    ]  # fmt: skip
    assert result.texts == stock
    assert len(set(stock)) > 2


@pytest.mark.arithmetic
def test_fk_steers_it() -> None:
    def fives(samples, prompts):
        return torch.tensor([float(text.split().count("five")) for text in samples])

    sampler = Sampler(tiny(diffusers.BlockRefinementScheduler()), device="cpu")
    run = {
        "particles": 6,
        "steps": 4,
        "length": CANVAS,
        "temperature": 1.0,
        "reward": fives,
        "choose": "all",
        "chunk": 48,
    }
    options = {"fk": {"lambda": 3.0, "start": 0.0, "every": 0.1, "end": 1.0}}
    prompts = [Prompt("one", id=str(seed), seed=seed) for seed in range(0, 800, 100)]
    plain = sampler.generate(prompts, **run).items
    steered = sampler.generate(prompts, methods="fk", options=options, **run).items
    gain = [one.mean_reward - other.mean_reward for one, other in zip(steered, plain, strict=True)]
    assert sum(gain) / len(gain) > 0.3
