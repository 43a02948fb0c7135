"""The network of MDLM's checkpoints (Sahoo et al. 2024, arXiv 2406.07524), such as ``kuleshov-group/mdlm-owt``.

A diffusion transformer with rotary positions, whose blocks are modulated by an embedding of the noise level. The
checkpoints bring code of their own, which is not run: the tensors are read, and sizes are taken from them.
"""

import math
import re
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from steer import SteerError
from steer.plugin import Source, Weights, hub, locate, mismatch, read_object, read_tensors

MODEL_TYPE = "mdlm"
PREFIX = "backbone."
FREQUENCIES = 256
"""Sines and cosines of the noise level."""
TOKENIZER = Weights("openai-community/gpt2", "tokenizer.json", size=1_355_000, license="MIT", option="")
"""For checkpoints without one: GPT-2's, to which the mask is added as the last token."""
MASK = "[MASK]"


class Norm(nn.Module):
    """Layer normalization in fp32, with a weight and no bias."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        return functional.layer_norm(x.float(), x.shape[-1:]).to(x.dtype) * self.weight


class Block(nn.Module):
    """Attention among all tokens, then two linear layers; shifts, scales and gates come from the noise level."""

    def __init__(self, width: int, heads: int, condition: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = Norm(width), Norm(width)
        self.attn_qkv = nn.Linear(width, 3 * width, bias=False)
        self.attn_out = nn.Linear(width, width, bias=False)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(approximate="tanh"), nn.Linear(4 * width, width))
        self.adaLN_modulation = nn.Linear(condition, 6 * width)

    def forward(self, x: Tensor, turned: tuple[Tensor, Tensor], level: Tensor) -> Tensor:
        """Return ``[B, L, D]`` for tokens ``[B, L, D]``, rotations ``[L, d/2]`` and a level ``[B, C]``."""
        shift, scale, gate, shift2, scale2, gate2 = self.adaLN_modulation(level)[:, None].chunk(6, dim=2)
        q, k, v = self.attn_qkv(self.norm1(x) * (1 + scale) + shift).unflatten(2, (3, self.heads, -1)).unbind(dim=2)
        q, k = (_rotated(part, *turned).transpose(1, 2) for part in (q, k))
        heads = functional.scaled_dot_product_attention(q, k, v.transpose(1, 2))
        x = x + gate * self.attn_out(heads.transpose(1, 2).flatten(2))
        found: Tensor = x + gate2 * self.mlp(self.norm2(x) * (1 + scale2) + shift2)
        return found


class Mdlm(nn.Module):
    """Logits of tokens; the mask is one of them.

    Attributes:
        config: ``max_position_embeddings`` is the most tokens of a text.
    """

    def __init__(self, *, vocabulary: int, width: int, heads: int, condition: int, blocks: int, longest: int) -> None:
        super().__init__()
        self.config = SimpleNamespace(max_position_embeddings=longest, model_type=MODEL_TYPE)
        self.heads = heads
        self.vocab_embed = nn.ParameterDict({"embedding": nn.Parameter(torch.zeros(vocabulary, width))})
        self.sigma_map = nn.ModuleDict(
            {"mlp": nn.Sequential(nn.Linear(FREQUENCIES, condition), nn.SiLU(), nn.Linear(condition, condition))}
        )
        self.blocks = nn.ModuleList([Block(width, heads, condition) for _ in range(blocks)])
        self.output_layer = nn.ModuleDict(
            {
                "norm_final": Norm(width), "linear": nn.Linear(width, vocabulary),
                "adaLN_modulation": nn.Linear(condition, 2 * width),
            }
        )  # fmt: skip

    def forward(self, input_ids: Tensor) -> Any:
        """Return ``logits [B, L, V]`` for tokens ``[B, L]``; the published models do not see the noise level."""
        x = self.vocab_embed["embedding"][input_ids]
        sines = torch.cat([torch.ones(FREQUENCIES // 2), torch.zeros(FREQUENCIES // 2)]).to(x)  # of level 0
        level = functional.silu(self.sigma_map["mlp"](sines.expand(len(x), -1)))
        turned = _rotations(x.shape[1], x.shape[2] // self.heads, x.device)
        for block in self.blocks:
            x = block(x, turned, level)
        shift, scale = self.output_layer["adaLN_modulation"](level)[:, None].chunk(2, dim=2)
        return SimpleNamespace(
            logits=self.output_layer["linear"](self.output_layer["norm_final"](x) * (1 + scale) + shift)
        )


def _rotations(length: int, width: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Return cosines and sines of positions, ``[L, d/2]``."""
    speeds = torch.exp(torch.arange(0, width, 2, device=device).float() * (-math.log(10_000.0) / width))
    angles = torch.arange(length, device=device).float()[:, None] * speeds
    return angles.cos(), angles.sin()


def _rotated(x: Tensor, cosines: Tensor, sines: Tensor) -> Tensor:
    """Turn pairs of numbers half a width apart, in ``[B, L, heads, d]``."""
    first, second = x.chunk(2, dim=-1)
    cosines, sines = cosines[:, None].to(x.dtype), sines[:, None].to(x.dtype)
    return torch.cat([first * cosines - second * sines, second * cosines + first * sines], dim=-1)


# ---- loading ---------------------------------------------------------------------------------------------------------


def config_of(source: str) -> dict[str, Any] | None:
    """Return the configuration of a folder or a hub id that is an MDLM; ``None`` for any other, or none."""
    folder = Source(source).folder
    if folder is not None:
        file = folder / "config.json" if (folder / "config.json").is_file() else None
    elif not Source(source).like_an_id():
        return None
    else:
        file = hub.cached_file(source, "config.json")
        if file is None and not hub.cache_only():
            try:
                file = hub.fetch(source, "config.json")
            except SteerError:
                return None
    config = {} if file is None else read_object(file, "config")
    return config if config.get("model_type") == MODEL_TYPE else None


def load(source: str, config: Mapping[str, Any], what: str) -> tuple[Mdlm, Any]:
    """Return the network with its weights, in fp32, and its tokenizer.

    Args:
        source: a folder or a hub id.
        config: its configuration.
        what: the model as the user named it, for messages.

    Raises:
        SteerError: if the weights cannot be fetched or read, or are of another network.
    """
    needed = Weights(source, "model.safetensors", otherwise="pytorch_model.bin", option="")
    folder = Source(source).folder
    file = locate(needed, owner=what, given=folder)
    state = {name.removeprefix(PREFIX): tensor for name, tensor in read_tensors(file).items()}
    frequencies = state.pop("rotary_emb.inv_freq", None)
    model = _sized(state, frequencies, config, f"{what}: {file}")
    problem = mismatch({name: tensor.shape for name, tensor in model.state_dict().items()},
                       {name: tensor.shape for name, tensor in state.items()})  # fmt: skip
    if problem:
        raise SteerError(f"{what}: {file} is not a checkpoint of MDLM: {problem}")
    model.load_state_dict({name: tensor.float() for name, tensor in state.items()})
    return model.eval().requires_grad_(False), _tokenizer(folder, len(state["vocab_embed.embedding"]), what)


def _sized(state: Mapping[str, Tensor], frequencies: Tensor | None, config: Mapping[str, Any], what: str) -> Mdlm:
    try:
        vocabulary, width = state["vocab_embed.embedding"].shape
        condition = len(state["sigma_map.mlp.2.weight"])
        blocks = 1 + max(int(found[1]) for name in state if (found := re.match(r"blocks\.(\d+)\.", name)))
        heads = int(config.get("n_heads", 12)) if frequencies is None else width // (2 * len(frequencies))
        longest = int(config.get("model_length", 1024))
        halves = width // (2 * heads) if frequencies is None else len(frequencies)
        if heads < 1 or width != 2 * heads * halves or longest < 1:
            raise ValueError(f"{heads} heads of width {width}")
    except (KeyError, ValueError, TypeError, ZeroDivisionError) as error:
        raise SteerError(f"{what} is not a checkpoint of MDLM ({type(error).__name__}: {error})") from None
    return Mdlm(
        vocabulary=vocabulary, width=width, heads=heads, condition=condition, blocks=blocks, longest=longest
    )  # fmt: skip


def _tokenizer(folder: Path | None, vocabulary: int, what: str) -> Any:
    """Return the tokenizer beside the weights, else GPT-2's with the mask as the last token."""
    from transformers import PreTrainedTokenizerFast

    own = None if folder is None else folder / "tokenizer.json"
    file = own if own is not None and own.is_file() else locate(TOKENIZER, owner=what)
    end = "<|endoftext|>"
    tokenizer = PreTrainedTokenizerFast(tokenizer_file=str(file), bos_token=end, eos_token=end)
    tokenizer.add_special_tokens({"mask_token": MASK})
    if len(tokenizer) != vocabulary or tokenizer.mask_token_id != vocabulary - 1:
        raise SteerError(
            f"{what}: the network has {vocabulary} tokens, of which the last is the mask; {file} has {len(tokenizer)}"
        )
    return tokenizer
