"""Layers of a denoiser: finding them by name, and changing what they do for the length of a block."""

from __future__ import annotations

import inspect
import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from steer import SteerError
from steer.plugin import replaced_attribute

RETURNED = {
    "BasicTransformerBlock": ("hidden_states",),
    "FluxSingleTransformerBlock": ("encoder_hidden_states", "hidden_states"),
    "FluxTransformerBlock": ("encoder_hidden_states", "hidden_states"),
    "Flux2SingleTransformerBlock": ("hidden_states",),
    "Flux2TransformerBlock": ("encoder_hidden_states", "hidden_states"),
    "JointTransformerBlock": ("encoder_hidden_states", "hidden_states"),
    "QwenImageTransformerBlock": ("encoder_hidden_states", "hidden_states"),
    "SanaTransformerBlock": ("hidden_states",),
    "ZImageTransformerBlock": ("x",),
}
"""Transformer blocks of diffusers, and the arguments that they return changed."""

PERTURBED = {
    "AttnProcessor": "PAGIdentitySelfAttnProcessor2_0",
    "AttnProcessor2_0": "PAGIdentitySelfAttnProcessor2_0",
    "JointAttnProcessor2_0": "PAGJointAttnProcessor2_0",
    "SanaLinearAttnProcessor2_0": "PAGIdentitySanaLinearAttnProcessor2_0",
}
"""Attention processors of diffusers, and those in which no pixel attends to another in the second half of a batch."""


def attentions(denoiser: nn.Module, layers: Sequence[str], processors: Mapping[str, Any], owner: str) -> list[Any]:
    """Return the self-attentions with one of some processors that the layers name.

    Raises:
        SteerError: if a layer names none.
    """

    def fits(module: nn.Module) -> bool:
        own = type(getattr(module, "processor", None)).__name__
        return own in processors and not getattr(module, "is_cross_attention", True)

    return _named(denoiser, layers, fits, "self-attention that it knows", owner)


def blocks(denoiser: nn.Module, layers: Sequence[str], owner: str) -> list[nn.Module]:
    """Return the transformer blocks that the layers name.

    Raises:
        SteerError: if a layer names none.
    """
    return _named(denoiser, layers, lambda module: type(module).__name__ in RETURNED, "transformer block", owner)


def _named(
    denoiser: nn.Module, layers: Sequence[str], fits: Callable[[nn.Module], bool], what: str, owner: str
) -> list[Any]:
    known = {name: module for name, module in denoiser.named_modules() if fits(module)}
    found: dict[str, nn.Module] = {}
    for layer in layers:
        of_this = {name: module for name, module in known.items() if _is_in(layer, name)}
        if not of_this:
            names = ", ".join(list(known)[:4]) or "none"
            more = ", …" if len(known) > 4 else ""
            raise SteerError(
                f"{owner}.layers={layer}: no {what} of this {type(denoiser).__name__} is named so; expected a part of "
                f"one of these names: {names}{more}"
            )
        found |= of_this
    return list(found.values())


def _is_in(layer: str, name: str) -> bool:
    """Whether a layer, given as the number of a block or as words of a name, names a module."""
    if layer.isdecimal():
        return re.match(rf"(transformer_blocks|layers)\.{layer}(\.|$)", name) is not None
    return re.search(rf"(^|[._]){re.escape(layer)}([._]|$)", name) is not None


@contextmanager
def perturbed(modules: Sequence[Any]) -> Iterator[None]:
    """Have attentions perturb the second half of a batch, which each row sees with the identity as its attention."""
    from diffusers.models import attention_processor

    before = [module.processor for module in modules]
    try:
        for module in modules:
            module.processor = getattr(attention_processor, PERTURBED[type(module.processor).__name__])()
        yield
    finally:
        for module, processor in zip(modules, before, strict=True):
            module.processor = processor


@contextmanager
def skipped(modules: Sequence[nn.Module]) -> Iterator[None]:
    """Have transformer blocks return what they are given."""
    with ExitStack() as stack:
        for module in modules:
            stack.enter_context(replaced_attribute(module, "forward", _identity(module)))
        yield


def _identity(module: nn.Module) -> Callable[..., Any]:
    signature, names = inspect.signature(type(module).forward), RETURNED[type(module).__name__]

    def forward(*arguments: Any, **keywords: Any) -> Any:
        given = signature.bind(module, *arguments, **keywords).arguments
        returned = tuple(given[name] for name in names)
        return returned if len(returned) > 1 else returned[0]

    return forward


@contextmanager
def blurred(modules: Sequence[Any], sigma: float, size: tuple[int, int]) -> Iterator[None]:
    """Have attentions blur their queries over the image, which blurs the energy of the attention.

    Args:
        modules: the attentions.
        sigma: standard deviation of the blur, in tokens; infinite for the mean of all.
        size: height and width of the latents.
    """

    def hook(_: nn.Module, __: Any, queries: Tensor) -> Tensor:
        height, width = _grid(queries.shape[1], *size)
        image = queries.mT.unflatten(2, (height, width))
        return blur(image, sigma).flatten(2).mT

    handles = [module.to_q.register_forward_hook(hook) for module in modules]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _grid(tokens: int, height: int, width: int) -> tuple[int, int]:
    """Return height and width of a feature map with so many tokens, whose sides were halved, rounded up, at times."""
    while height * width > tokens:
        height, width = -(-height // 2), -(-width // 2)
    if height * width != tokens:
        raise SteerError(f"seg knows no image of {tokens} tokens; name layers that attend to the image alone")
    return height, width


def blur(image: Tensor, sigma: float) -> Tensor:
    """Return maps ``[B, C, H, W]`` blurred by a Gaussian, mirrored at the borders and cut off at 3 σ or at the size.

    Source: the reference code of arXiv 2408.00760.
    """
    if math.isinf(sigma):
        return image.mean(dim=(-2, -1), keepdim=True).expand_as(image)
    for dim in (-2, -1):
        side = image.shape[dim]
        reach = min(math.ceil(6 * sigma) // 2, side - 1)
        if not reach:
            continue
        offsets = torch.arange(-reach, reach + 1)
        weights = torch.exp(-0.5 * (offsets / sigma) ** 2)
        weights = (weights / weights.sum()).to(image)
        # mirrored without repeating the border, as torch pads
        places = (torch.arange(side)[:, None] + offsets).abs()
        places = torch.where(places >= side, 2 * (side - 1) - places, places).to(image.device)
        taken = image.movedim(dim, -1)[..., places]
        image = (taken * weights).sum(dim=-1).movedim(-1, dim)
    return image
