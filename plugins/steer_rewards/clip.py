"""CLIP score: cosine similarity of image and text, times 100 (Hessel et al. 2021, arXiv 2104.08718, unclipped).

Any open_clip model, with open_clip's own preprocessing done on tensors, so that gradients reach the image.
"""

from __future__ import annotations

import pickle
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from steer import Field, Options, Prompt, Reward, SteerError
from steer.errors import nearest
from steer.plugins import manager
from steer_rewards.preprocess import normalise, resize, shortest_side_and_crop

TEXTS_KEPT = 4096
CONFIG = "open_clip_config.json"


class ClipOptions(Options):
    """Options of ``clip``."""

    model: str = Field(
        "shapes",
        description="CLIP to use where the reward names none: a known name (shapes), an open_clip NAME/PRETRAINED "
        "such as ViT-B-32/laion2b_s34b_b79k, or a folder in open_clip's layout.",
    )


@dataclass(frozen=True)
class Source:
    """A CLIP as open_clip names it: model name and tag of the weights (``None``: in the name)."""

    name: str
    pretrained: str | None


class Clip(Reward):
    """100·cos(image, text); about 15–40, higher is better. Differentiable."""

    differentiable = True
    Options = ClipOptions
    options: ClipOptions

    def __init__(
        self,
        options: ClipOptions | None = None,
        *,
        argument: str | None = None,
        device: torch.device | str = "cpu",
        dtype: torch.dtype | None = None,
    ) -> None:
        """Load the CLIP that ``argument`` or the option ``model`` names.

        Raises:
            SteerError: if there is no such CLIP or its weights cannot be had.
        """
        super().__init__(options, argument=argument, device=device, dtype=dtype)
        self.source = find(argument if argument is not None else self.options.model)
        self.model, self.tokenizer = load(self.source, self.device, dtype or torch.float32)
        visual = self.model.visual
        self._config: dict[str, Any] = dict(visual.preprocess_cfg)
        size = visual.image_size
        self._size = size if isinstance(size, int) else int(size[0])
        self._texts: dict[str, Tensor] = {}

    def __call__(self, samples: Tensor, prompts: Sequence[Prompt | str]) -> Tensor:
        """Score images ``[N, 3, H, W]`` in [0, 1] against their prompts."""
        images = self.embed_images(samples)
        texts = self.embed_texts([str(prompt) for prompt in prompts])
        return 100 * (images * texts).sum(dim=1)

    def embed_images(self, samples: Tensor) -> Tensor:
        """Return unit vectors ``[N, D]`` in fp32."""
        images = samples.to(self.device, torch.float32)
        if self._config.get("resize_mode", "shortest") == "squash":
            images = resize(images, self._size, self._size)
        else:
            images = shortest_side_and_crop(images, self._size)
        images = normalise(images, self._config["mean"], self._config["std"])
        dtype = next(self.model.parameters()).dtype
        features: Tensor = self.model.encode_image(images.to(dtype)).float()
        return _unit(features)

    def embed_texts(self, texts: Sequence[str]) -> Tensor:
        """Return unit vectors ``[N, D]`` in fp32; every text is encoded once, alone."""
        for text in dict.fromkeys(texts):
            if text not in self._texts:
                if len(self._texts) >= TEXTS_KEPT:
                    self._texts.clear()
                self._texts[text] = self._embed_text(text)
        return torch.cat([self._texts[text] for text in texts])

    @torch.no_grad()
    def _embed_text(self, text: str) -> Tensor:
        tokens = self.tokenizer([text]).to(self.device)
        longer = self.tokenizer([text], context_length=4 * tokens.shape[1])
        if int((longer != longer[0, -1]).sum()) > tokens.shape[1]:
            warnings.warn(
                f"prompt {text[:40]!r}… is longer than the {tokens.shape[1]} tokens of the reward clip; its end is "
                "not scored",
                stacklevel=4,
            )
        features: Tensor = self.model.encode_text(tokens).float()
        return _unit(features)


def _unit(features: Tensor) -> Tensor:
    lengths: Tensor = features.norm(dim=1, keepdim=True)
    return features / lengths


def find(name: str) -> Source:
    """Resolve a CLIP's name.

    Args:
        name: a name that a plugin registered, ``NAME/PRETRAINED`` of open_clip, or a folder.

    Raises:
        SteerError: if it is none of these.
    """
    import open_clip

    aliases = manager().registry.clips
    folder = Path(aliases[name].load()()) if name in aliases else Path(name).expanduser()
    if folder.is_dir():
        if not (folder / CONFIG).is_file():
            raise SteerError(f"clip folder {name!r} has no {CONFIG}; expected a folder in open_clip's layout")
        return Source(f"local-dir:{folder}", None)
    model, slash, tag = name.partition("/")
    models = open_clip.list_models()
    if not slash or model not in models:
        known = [*aliases, *models]
        raise SteerError(
            f"unknown clip {name!r}{nearest(model, known)}; expected {', '.join(aliases) or 'a folder'}, an open_clip "
            "NAME/PRETRAINED such as ViT-B-32/laion2b_s34b_b79k, or a folder in open_clip's layout"
        )
    tags = open_clip.list_pretrained_tags_by_model(model)
    if tag not in tags:
        raise SteerError(f"clip {model} has no weights {tag!r}{nearest(tag, tags)} (known: {', '.join(tags)})")
    return Source(model, tag)


def load(source: Source, device: torch.device, dtype: torch.dtype) -> tuple[Any, Any]:
    """Return model and tokenizer, frozen and in inference mode; weights are read without unpickling code.

    Raises:
        SteerError: if the weights cannot be fetched or do not fit.
    """
    import open_clip
    from safetensors import SafetensorError

    broken = (OSError, RuntimeError, ValueError, KeyError, EOFError, SafetensorError, pickle.UnpicklingError)
    try:
        model = open_clip.create_model(
            source.name, pretrained=source.pretrained, require_pretrained=True, device="cpu", weights_only=True
        )
        tokenizer = open_clip.get_tokenizer(source.name)
    except broken as error:
        label = source.name if source.pretrained is None else f"{source.name}/{source.pretrained}"
        reason = " ".join(str(error).split())[:160]
        raise SteerError(
            f"clip {label!r} cannot be loaded ({type(error).__name__}: {reason}); fetch it where there is a network, "
            "or give a folder in open_clip's layout as clip:FOLDER"
        ) from error
    # open_clip takes precision as text; converted here so that layer norms and buffers follow too
    model = model.to(device=device, dtype=dtype).eval().requires_grad_(False)
    return model, tokenizer
