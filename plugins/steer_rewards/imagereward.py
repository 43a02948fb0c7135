"""ImageReward (Xu et al. 2023, arXiv 2304.05977): a BLIP trained on people's rankings of images for one prompt.

A ViT-L encodes the image, BERT reads the prompt with cross attention to it, and a linear head turns the first token's
features into a number. Scores are standardized by the published mean and standard deviation.
"""

import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from steer import Field, Options, Prompt, Reward
from steer.plugin import locate
from steer_rewards import blip, catalog, checkpoints
from steer_rewards.embedding import GRADIENT_SCALE, PRECISION, Precision, precision, scale_gradient
from steer_rewards.preprocess import normalize, shortest_side_and_crop

MEAN, STD = 0.16717362830052426, 1.0333394966054072
HEAD = (1024, 128, 64, 16, 1)
_HEAD_NAMES = {f"mlp.layers.{theirs}": f"head.{ours}" for ours, theirs in enumerate((0, 2, 4, 6, 7))}
_UNUSED = ("blip.vision_proj.", "blip.text_proj.")  # BLIP's pretraining heads


class ImageRewardOptions(Options):
    """Options of ``imagereward``."""

    weights: str | None = Field(
        None,
        description=f"Local {catalog.IMAGEREWARD.file}, or the folder that holds it; for sizes other than ViT-L's, put "
        f"a {blip.CONFIG} of transformers' BlipConfig beside it.",
    )
    vocabulary: str | None = Field(
        None, description=f"Local {blip.VOCABULARY} of bert-base-uncased; by default the one beside the weights."
    )
    dtype: Precision = Field("auto", description=PRECISION)


class ImageRewardModel(nn.Module):
    """From pixels ``[N, 3, H, W]`` and tokens ``[N, L]`` to the standardized score ``[N]``."""

    def __init__(self, sizes: Any) -> None:
        """Args: sizes: a ``BlipConfig`` of transformers."""
        from transformers import BlipTextModel, BlipVisionModel

        super().__init__()
        self.vision = BlipVisionModel(sizes.vision_config)
        self.text = BlipTextModel(sizes.text_config, add_pooling_layer=False)
        widths = (sizes.text_config.hidden_size, *HEAD)
        # no activations in between, as published
        self.head = nn.Sequential(*(nn.Linear(a, b) for a, b in zip(widths, HEAD, strict=False)))

    def forward(self, pixels: Tensor, ids: Tensor, mask: Tensor) -> Tensor:
        """Return scores; ``mask`` is 0 where ``ids`` is padding, else 1."""
        image = self.vision(pixel_values=pixels.to(self.vision.dtype)).last_hidden_state
        features = self.text(input_ids=ids, attention_mask=mask, encoder_hidden_states=image).last_hidden_state[:, 0]
        scores: Tensor = self.head(features.to(self.head[0].weight.dtype))[:, 0]
        return (scores.float() - MEAN) / STD


class ImageReward(Reward):
    """How people would rank the image for its prompt; mostly −2…2, higher is better. Differentiable."""

    differentiable = True
    Options = ImageRewardOptions
    options: ImageRewardOptions

    def prepare(self) -> None:
        catalog.no_argument("imagereward", self.argument)
        file = locate(catalog.IMAGEREWARD, owner="imagereward", given=self.options.weights)
        self.precision = self.dtype or precision(self.options.dtype, self.device)
        self.model = load(file, self.device, self.precision)
        self.size = int(self.model.vision.config.image_size)
        vocabulary = blip.vocabulary("imagereward", self.options.vocabulary, file)
        self.tokenizer = blip.Tokenizer(vocabulary, int(self.model.text.config.vocab_size), "imagereward")
        self._ids = functools.lru_cache(maxsize=4096)(self.tokenizer.ids)

    def __call__(self, samples: Tensor, prompts: Sequence[Prompt | str]) -> Tensor:
        pixels = self.pixels(samples)
        ids, mask = self.tokens([str(prompt) for prompt in prompts])
        scale = GRADIENT_SCALE if self.precision == torch.float16 else 1.0
        scores = self.model(scale_gradient(pixels, 1 / scale), ids, mask)
        return scale_gradient(scores, scale).to(samples.device)

    def pixels(self, samples: Tensor) -> Tensor:
        """Return the model's input for images: ``[N, 3, size, size]`` in fp32."""
        return normalize(shortest_side_and_crop(samples.to(self.device, torch.float32), self.size))

    def tokens(self, texts: Sequence[str]) -> tuple[Tensor, Tensor]:
        """Return tokens and mask, both ``[N, 35]``, padded as in the reference, so that no row depends on another."""
        rows = [self._ids(text) for text in texts]
        ids = [row + [0] * (blip.MAX_TOKENS - len(row)) for row in rows]
        mask = [[1] * len(row) + [0] * (blip.MAX_TOKENS - len(row)) for row in rows]
        return torch.tensor(ids, device=self.device), torch.tensor(mask, device=self.device)


def key_map(name: str) -> str | None:
    """Return the model's name of a tensor of ``ImageReward.pt``."""
    if name.startswith(_UNUSED) or name.endswith("position_ids"):
        return None
    if name.startswith("blip.visual_encoder."):
        return "vision." + blip.vision_name(name.removeprefix("blip.visual_encoder."))
    if name.startswith("blip.text_encoder."):
        return "text." + name.removeprefix("blip.text_encoder.")
    stem, _, last = name.rpartition(".")
    return f"{_HEAD_NAMES[stem]}.{last}" if stem in _HEAD_NAMES else name


def build(sizes: Any) -> ImageRewardModel:
    """Return the model without weights."""
    with checkpoints.empty():
        return ImageRewardModel(sizes)


def load(file: Path, device: torch.device, dtype: torch.dtype) -> ImageRewardModel:
    """Return the model with a checkpoint's weights; the head stays in fp32.

    Raises:
        SteerError: naming the file, if it is damaged or does not fit the model.
    """
    with checkpoints.described(file.with_name(blip.CONFIG)):
        model = build(blip.config("large", 224, file.with_name(blip.CONFIG)))
    checkpoints.fill(model, file, key_map=key_map, device=device)
    model.vision.to(dtype)
    model.text.to(dtype)
    return model
