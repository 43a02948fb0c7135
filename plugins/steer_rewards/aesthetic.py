"""LAION's aesthetic score (Schuhmann 2022, improved-aesthetic-predictor): predicts people's ratings of pictures.

A small network on the image half of a CLIP ViT-L-14. The prompt is not used.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from steer import Field, Options, Prompt, Reward
from steer.plugin import locate
from steer_rewards import catalog, checkpoints, preprocess
from steer_rewards import transformers_clip as clip
from steer_rewards.embedding import PRECISION, Embedder, Precision, precision

WIDTHS = (1024, 128, 64, 16, 1)


class AestheticOptions(Options):
    """Options of ``aesthetic``."""

    head: str | None = Field(
        None, description="Local file with the head's weights (aesthetic-model.pth), or the folder that holds it."
    )
    clip: str | None = Field(
        None,
        description="Local file with the CLIP's weights in transformers' format, or the folder that holds it; a "
        f"{clip.CONFIG} beside it is used too.",
    )
    dtype: Precision = Field("auto", description=PRECISION)


class Aesthetic(Reward):
    """Predicted rating on a scale of 1–10; mostly 4.5–7, higher is better. Differentiable. Ignores the prompt."""

    differentiable = True
    needs_prompt = False
    Options = AestheticOptions
    options: AestheticOptions

    def prepare(self) -> None:
        catalog.no_argument("aesthetic", self.argument, option="head")
        head = locate(catalog.AESTHETIC_HEAD, owner="aesthetic", given=self.options.head)
        file = locate(catalog.AESTHETIC_CLIP, owner="aesthetic", given=self.options.clip)
        dtype = self.dtype or precision(self.options.dtype, self.device)
        self.model = model = load_clip(file, self.device, dtype)
        self.head = load_head(head, model.config.projection_dim, self.device)
        self.embedder = Embedder(
            owner="aesthetic",
            preprocess=preprocess.of_transformers(model.config.image_size),
            encode_images=lambda pixels: model(pixel_values=pixels).image_embeds,
            device=self.device,
            dtype=dtype,
        )

    def __call__(self, samples: Tensor, prompts: Sequence[Prompt | str]) -> Tensor:
        scores: Tensor = self.head(self.embedder.images(samples))
        return scores.squeeze(1).to(samples.device)


class Head(nn.Module):
    """Linear layers without activations between them, as published; the dropout is only for training."""

    def __init__(self, width: int) -> None:
        """Args: width: of the embeddings."""
        super().__init__()
        layers: list[nn.Module] = []
        for size in WIDTHS:
            layers.append(nn.Linear(width, size))
            # the published names number dropouts among the layers: 0, 2, 4, 6, 7
            if size > 16:
                layers.append(nn.Identity())
            width = size
        self.layers = nn.Sequential(*layers)

    def forward(self, embeddings: Tensor) -> Tensor:
        """Return ratings ``[N, 1]`` of unit vectors ``[N, D]``."""
        ratings: Tensor = self.layers(embeddings)
        return ratings


def build_clip(config: dict[str, Any]) -> Any:
    """Return the CLIP's image half without weights."""
    from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

    # the width of the common space is given beside the two halves; in older files, only there
    vision = config["vision_config"] | {"projection_dim": config.get("projection_dim", 512)}
    with checkpoints.empty():
        return CLIPVisionModelWithProjection(CLIPVisionConfig.from_dict(vision))


def load_clip(file: Path, device: torch.device, dtype: torch.dtype) -> Any:
    """Return the CLIP's image half, frozen.

    Raises:
        SteerError: naming the file, if it is damaged or does not fit the model.
    """
    with checkpoints.described(file.with_name(clip.CONFIG)):
        model = build_clip(clip.config_beside(file, clip.VIT_L))
    checkpoints.fill(model, file, key_map=clip.vision_key_map, dtype=dtype, device=device)
    return model


def load_head(file: Path, width: int, device: torch.device) -> Head:
    """Return the head, frozen, in fp32: that costs nothing, and lower precision changes the second digit of ratings.

    Raises:
        SteerError: naming the file, if it is damaged or does not fit.
    """
    with checkpoints.empty():
        head = Head(width)
    checkpoints.fill(head, file, dtype=torch.float32, device=device)
    return head
