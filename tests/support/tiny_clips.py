"""CLIPs of tiny size and random weights in folders, as users have them, and pictures to score."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor, nn

PROMPTS = ["a red circle", "two blue squares", "a red circle"]
OPEN_CLIP: dict[str, Any] = {
    "embed_dim": 16,
    "vision_cfg": {"image_size": 32, "layers": 2, "width": 32, "head_width": 8, "patch_size": 8},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 2},
}
PREPROCESS = {
    "mean": [0.4, 0.5, 0.6], "std": [0.3, 0.25, 0.2], "interpolation": "bicubic", "resize_mode": "shortest",
}  # fmt: skip
TRANSFORMERS: dict[str, Any] = {
    "projection_dim": 16,
    "text_config": {
        "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2,
        "hidden_act": "gelu", "eos_token_id": 49407,
    },
    "vision_config": {
        "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4,
        "image_size": 32, "patch_size": 8, "hidden_act": "gelu",
    },
}  # fmt: skip


def open_clip_model() -> Any:
    """Return a tiny random CLIP of open_clip's; the same at every call."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return open_clip.CLIP(**OPEN_CLIP).eval()


def open_clip_folder(folder: Path, **preprocess: Any) -> Path:
    """Write it in open_clip's layout, with open_clip's own tokenizer."""
    folder.mkdir(parents=True, exist_ok=True)
    config = {"model_cfg": OPEN_CLIP, "preprocess_cfg": {**PREPROCESS, **preprocess}}
    (folder / "open_clip_config.json").write_text(json.dumps(config))
    state = {name: tensor.contiguous() for name, tensor in open_clip_model().state_dict().items()}
    save_file(state, folder / "open_clip_model.safetensors")
    return folder


def hps_folder(folder: Path) -> Path:
    """Write it as HPS is published: half precision, beside what its training left."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": OPEN_CLIP}))
    state = {name: tensor.half() for name, tensor in open_clip_model().state_dict().items()}
    torch.save({"epoch": 1, "name": "tiny", "state_dict": state}, folder / "HPS_v2.1_compressed.pt")
    return folder


def transformers_model() -> Any:
    """Return a tiny random CLIP of transformers'; the same at every call."""
    from transformers import CLIPConfig, CLIPModel

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return CLIPModel(CLIPConfig.from_dict(TRANSFORMERS)).eval()


def transformers_folder(folder: Path) -> Path:
    """Write it as old versions of transformers did: with the numbers of the positions."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(TRANSFORMERS))
    state = {name: tensor.contiguous() for name, tensor in transformers_model().state_dict().items()}
    state["text_model.embeddings.position_ids"] = torch.arange(77)[None]
    state["vision_model.embeddings.position_ids"] = torch.arange(17)[None]
    save_file(state, folder / "model.safetensors")
    return folder


def published_head(width: int) -> nn.Sequential:
    """Return the network as its authors wrote it, dropouts included, with random weights."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        return nn.Sequential(
            nn.Linear(width, 1024), nn.Dropout(0.2), nn.Linear(1024, 128), nn.Dropout(0.2), nn.Linear(128, 64),
            nn.Dropout(0.1), nn.Linear(64, 16), nn.Linear(16, 1),
        ).eval()  # fmt: skip


def aesthetic_folder(folder: Path) -> Path:
    """Write a CLIP and the network on top of it."""
    transformers_folder(folder)
    state = {f"layers.{name}": tensor for name, tensor in published_head(16).state_dict().items()}
    torch.save(state, folder / "aesthetic-model.pth")
    return folder


def pictures(size: tuple[int, int], count: int = 3) -> list[Image.Image]:
    """Return smooth random pictures of a width and height."""
    small = np.random.default_rng(0).integers(0, 256, (count, 6, 6, 3), dtype=np.uint8)
    return [Image.fromarray(pixels).resize(size, Image.Resampling.BICUBIC) for pixels in small]


def as_tensor(images: list[Image.Image]) -> Tensor:
    """Return pictures as float ``[N, 3, H, W]`` in [0, 1]."""
    return torch.stack([torch.from_numpy(np.array(image)).permute(2, 0, 1).float() / 255 for image in images])


def slope(function: Any, images: Tensor, step: float = 2e-3) -> tuple[float, float]:
    """Return a scalar function's slope along a random direction: by its gradient, and by differences."""
    leaf = images.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(function(leaf), leaf)
    direction = torch.randn(images.shape, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        up, down = function(images + step * direction), function(images - step * direction)
    return float((gradient * direction).sum()), float((up - down) / (2 * step))
