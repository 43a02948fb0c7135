"""Images and texts as unit vectors in one space: the base of all rewards built on a CLIP."""

import warnings
from collections.abc import Callable, Sequence
from typing import Any, Literal

import torch
from torch import Tensor

from steer.plugin import DTYPES

TEXTS_KEPT = 4096
Precision = Literal["auto", "fp32", "bf16", "fp16"]
PRECISION = (
    "Precision of the model: fp16 halves the memory and changes the fourth digit of scores, bf16 the third; auto is "
    "fp16 on CUDA, else fp32."
)

GRADIENT_SCALE = 1024.0
"""In fp16 a score's gradient by a pixel would round to zero, so it passes through the model multiplied by this."""

Tokenizer = Callable[..., Tensor]
"""A tokenizer of open_clip: texts to tokens ``[N, length]``; takes ``context_length``."""


def precision(name: Precision, device: torch.device) -> torch.dtype:
    """Return the precision that an option asks for on a device."""
    return DTYPES[("fp16" if device.type == "cuda" else "fp32") if name == "auto" else name]


class Embedder:
    """Embeds images and texts. Gradients reach the images; every text is embedded once, in its own batch."""

    def __init__(
        self, *, owner: str, preprocess: Callable[[Tensor], Tensor], encode_images: Callable[[Tensor], Tensor],
        device: torch.device, dtype: torch.dtype, encode_tokens: Callable[[Tensor], Tensor] | None = None,
        tokenizer: Tokenizer | None = None,
    ) -> None:  # fmt: skip
        """Combine the parts of a model.

        Args:
            owner: the reward's name, for the warning about texts that are too long.
            preprocess: from images ``[N, 3, H, W]`` in [0, 1] to the model's input, in fp32.
            encode_images: from the model's input, in ``dtype``, to features ``[N, D]``.
            encode_tokens: from tokens to features ``[N, D]``; not needed by rewards that read no text.
        """
        self.owner, self.preprocess, self.tokenizer = owner, preprocess, tokenizer
        self.encode_images, self.encode_tokens = encode_images, encode_tokens
        self.device, self.dtype = device, dtype
        self._texts: dict[str, Tensor] = {}

    def images(self, samples: Tensor) -> Tensor:
        """Return unit vectors ``[N, D]`` in fp32 of images ``[N, 3, H, W]`` in [0, 1]."""
        pixels = self.preprocess(samples.to(self.device, torch.float32))
        scale = GRADIENT_SCALE if self.dtype == torch.float16 else 1.0
        features = self.encode_images(scale_gradient(pixels, 1 / scale).to(self.dtype)).float()
        return unit(scale_gradient(features, scale))

    def texts(self, texts: Sequence[str]) -> Tensor:
        """Return unit vectors ``[N, D]`` in fp32."""
        known = {text: self._texts[text] if text in self._texts else self._text(text) for text in dict.fromkeys(texts)}
        if len(self._texts) + len(known) > TEXTS_KEPT:
            self._texts.clear()
        self._texts |= known
        return torch.cat([known[text] for text in texts])

    def cosine(self, samples: Tensor, texts: Sequence[str]) -> Tensor:
        """Return the cosines ``[N]`` of images and their texts, on the samples' device."""
        return (self.images(samples) * self.texts([str(text) for text in texts])).sum(dim=1).to(samples.device)

    @torch.no_grad()
    def _text(self, text: str) -> Tensor:
        assert self.tokenizer is not None and self.encode_tokens is not None
        tokens = self.tokenizer([text])
        length = tokens.shape[1]
        longer = self.tokenizer([text], context_length=4 * length)
        if int((longer != longer[0, -1]).sum()) > length:
            warnings.warn(
                f"prompt {text[:40]!r}… is longer than the {length} tokens of the reward {self.owner}; its end is not "
                "scored",
                stacklevel=4,
            )
        return unit(self.encode_tokens(tokens.to(self.device)).float())


def unit(features: Tensor) -> Tensor:
    """Return ``[N, D]`` with rows of length 1."""
    lengths: Tensor = features.norm(dim=1, keepdim=True)
    return features / lengths


def scale_gradient(tensor: Tensor, scale: float) -> Tensor:
    """Return the tensor unchanged; gradients that pass back through it are multiplied by ``scale``."""
    if scale == 1.0:
        return tensor
    scaled: Tensor = _ScaleGradient.apply(tensor, scale)
    return scaled


class _ScaleGradient(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, tensor: Tensor, scale: float) -> Tensor:
        ctx.scale = scale
        return tensor.view_as(tensor)

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        return gradients[0] * ctx.scale, None
