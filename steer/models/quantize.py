"""Weights in four or eight bits: of the denoiser, and of text encoders larger than CLIP."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import nn

from steer.errors import SteerError, unknown

PACKAGES = {"nf4": "bitsandbytes", "int8": "torchao", "fp8": "torchao"}
"""Kinds of quantization, and the packages that compute with them."""


def check(kind: str) -> None:
    """Raise unless there is such a quantization, and its package is installed."""
    if kind not in PACKAGES:
        raise unknown("quantize", kind, PACKAGES)
    need(PACKAGES[kind], f"quantize={kind}")


def need(package: str, what: str) -> None:
    """Raise unless a package is installed, saying how to install it."""
    if importlib.util.find_spec(package) is None:
        raise SteerError(f"{what} needs the package {package}: pip install {package}")


def quantize(pipe: Any, kind: str, device: torch.device | None = None) -> None:
    """Quantize the linear layers of a pipeline's large parts, in place.

    Args:
        pipe: the pipeline, its LoRAs fused.
        kind: one of :data:`PACKAGES`.
        device: where each layer is quantized, and stays; by default where it is.
    """
    for part in _parts(pipe):
        kept = tuple(getattr(part, "_keep_in_fp32_modules", None) or ())

        def taken(module: nn.Module, name: str, kept: tuple[str, ...] = kept) -> bool:
            return type(module) is nn.Linear and not set(kept) & set(name.split("."))

        if kind == "nf4":
            _in_nf4(part, taken)
        else:
            from torchao.quantization import Float8WeightOnlyConfig, Int8WeightOnlyConfig, quantize_

            config = Int8WeightOnlyConfig() if kind == "int8" else Float8WeightOnlyConfig()
            quantize_(part, config, filter_fn=taken, device=device)


def quantized(module: nn.Module) -> bool:
    """Whether weights of a module are quantized, be it here, by diffusers, or in a GGUF file."""
    return any(
        not weight.is_floating_point() or type(weight.data).__module__.startswith("torchao")
        for weight in module.parameters()
    )


def _parts(pipe: Any) -> Iterator[nn.Module]:
    for name, part in pipe.components.items():
        large = name in ("unet", "transformer") or "text_encoder" in name
        if isinstance(part, nn.Module) and large and not type(part).__name__.startswith("CLIPText"):
            yield part


def _in_nf4(part: nn.Module, taken: Callable[[nn.Module, str], bool]) -> None:
    """Replace linear layers; their weights are quantized when they next move, or are told where they are."""
    import bitsandbytes

    for name, layer in list(part.named_modules()):
        if not taken(layer, name) or not isinstance(layer, nn.Linear):
            continue
        place = layer.weight.device
        new = bitsandbytes.nn.Linear4bit(
            layer.in_features,
            layer.out_features,
            bias=layer.bias is not None,
            compute_dtype=layer.weight.dtype,
            quant_type="nf4",
            device="meta",
        )
        new.weight = bitsandbytes.nn.Params4bit(layer.weight.data, requires_grad=False, quant_type="nf4")
        new.bias = layer.bias
        # a CPU with bfloat16 would repack the weights at the first image, which only some widths allow, and a packed
        # layer passes no gradient on
        new.support_avx512bf16_for_cpu = False
        owner, _, leaf = name.rpartition(".")
        setattr(part.get_submodule(owner), leaf, new.to(place))
