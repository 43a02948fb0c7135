"""A tiny MDLM in a folder, as its authors publish theirs; its weights are waves, so that no file is needed."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from support.reward_models import words_tokenizer

WORDS = ["<|endoftext|>", "<unk>", "a", "red", "blue", "circle", "square", "and"]
VOCABULARY, WIDTH, HEADS, CONDITION, BLOCKS = len(WORDS) + 1, 8, 2, 4, 2
"""The last token is the mask."""


def shapes() -> dict[str, tuple[int, ...]]:
    """Return the names and shapes of the published network's weights."""
    found: dict[str, tuple[int, ...]] = {
        "vocab_embed.embedding": (VOCABULARY, WIDTH),
        "sigma_map.mlp.0.weight": (CONDITION, 256), "sigma_map.mlp.0.bias": (CONDITION,),
        "sigma_map.mlp.2.weight": (CONDITION, CONDITION), "sigma_map.mlp.2.bias": (CONDITION,),
        "output_layer.norm_final.weight": (WIDTH,),
        "output_layer.linear.weight": (VOCABULARY, WIDTH), "output_layer.linear.bias": (VOCABULARY,),
        "output_layer.adaLN_modulation.weight": (2 * WIDTH, CONDITION),
        "output_layer.adaLN_modulation.bias": (2 * WIDTH,),
    }  # fmt: skip
    for number in range(BLOCKS):
        for name, shape in {
            "norm1.weight": (WIDTH,), "norm2.weight": (WIDTH,), "attn_qkv.weight": (3 * WIDTH, WIDTH),
            "attn_out.weight": (WIDTH, WIDTH), "mlp.0.weight": (4 * WIDTH, WIDTH), "mlp.0.bias": (4 * WIDTH,),
            "mlp.2.weight": (WIDTH, 4 * WIDTH), "mlp.2.bias": (WIDTH,),
            "adaLN_modulation.weight": (6 * WIDTH, CONDITION), "adaLN_modulation.bias": (6 * WIDTH,),
        }.items():  # fmt: skip
            found[f"blocks.{number}.{name}"] = shape
    return found


def waves() -> dict[str, Tensor]:
    """Return weights of every shape."""
    state = {}
    for number, (name, shape) in enumerate(sorted(shapes().items())):
        steps = torch.arange(float(torch.Size(shape).numel()), dtype=torch.float64)
        state[name] = (0.4 * torch.sin(0.7 * steps + number) + ("norm" in name)).float().reshape(shape)
    return state


def mdlm_folder(folder: Path, *, tokenizer: bool = True, **config: object) -> Path:
    """Write the model; without a tokenizer, as the published ones are, it takes GPT-2's."""
    folder.mkdir(parents=True, exist_ok=True)
    described: Mapping[str, object] = {"model_type": "mdlm", "model_length": 16, "n_heads": HEADS, **config}
    (folder / "config.json").write_text(json.dumps(described))
    state = {f"backbone.{name}": tensor for name, tensor in waves().items()}
    width = WIDTH // HEADS
    state["backbone.rotary_emb.inv_freq"] = 1 / (10_000 ** (torch.arange(0, width, 2).float() / width))
    save_file(state, folder / "model.safetensors")
    if tokenizer:
        words_tokenizer(WORDS).save(str(folder / "tokenizer.json"))
    return folder
