"""PickScore (Kirstain et al. 2023, arXiv 2305.01569): a CLIP ViT-H-14 fine-tuned on users' choices between images."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from steer import Field, Options, Prompt, Reward
from steer.plugin import locate
from steer_rewards import catalog, checkpoints, preprocess
from steer_rewards import transformers_clip as clip
from steer_rewards.embedding import PRECISION, Embedder, Precision, precision


class PickScoreOptions(Options):
    """Options of ``pickscore``."""

    weights: str | None = Field(
        None,
        description=f"Local file with the weights, or the folder that holds it; a {clip.CONFIG} beside it is used too.",
    )
    dtype: Precision = Field("auto", description=PRECISION)


class PickScore(Reward):
    """exp(logit_scale)·cos(image, text); about 17–24, higher is better. Differentiable."""

    differentiable = True
    Options = PickScoreOptions
    options: PickScoreOptions

    def prepare(self) -> None:
        catalog.no_argument("pickscore", self.argument)
        file = locate(catalog.PICKSCORE, owner="pickscore", given=self.options.weights)
        dtype = self.dtype or precision(self.options.dtype, self.device)
        self.model = load(file, self.device, dtype)
        self.scale = float(self.model.logit_scale.float().exp())
        self.embedder = _embedder(self.model, self.device, dtype)

    def __call__(self, samples: Tensor, prompts: Sequence[Prompt | str]) -> Tensor:
        return self.scale * self.embedder.cosine(samples, prompts)


def build(config: dict[str, Any]) -> Any:
    """Return the model without weights."""
    from transformers import CLIPConfig, CLIPModel

    with checkpoints.empty():
        return CLIPModel(CLIPConfig.from_dict(config))


def load(file: Path, device: torch.device, dtype: torch.dtype) -> Any:
    """Return the model, frozen.

    Raises:
        SteerError: naming the file, if it is damaged or does not fit the model.
    """
    with checkpoints.described(file.with_name(clip.CONFIG)):
        model = build(clip.config_beside(file, clip.VIT_H))
    checkpoints.fill(model, file, key_map=clip.key_map, dtype=dtype, device=device)
    return model


def _embedder(model: Any, device: torch.device, dtype: torch.dtype) -> Embedder:
    return Embedder(
        owner="pickscore",
        preprocess=preprocess.of_transformers(model.config.vision_config.image_size),
        encode_images=lambda pixels: clip.pooled(model.get_image_features(pixel_values=pixels)),
        encode_tokens=lambda tokens: clip.pooled(model.get_text_features(input_ids=tokens)),
        tokenizer=clip.tokenizer(model.config.text_config.max_position_embeddings),
        device=device,
        dtype=dtype,
    )
