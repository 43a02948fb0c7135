"""LoRAs: fused into a pipeline's weights, or kept beside them if those are quantized."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from steer.errors import SteerError, cause_of, message_of
from steer.models.downloads import lora_files
from steer.models.downloads.checkpoints import NAMED, check_ending, read_tensors, shapes_of
from steer.models.downloads.files import lora_of

Lora = tuple[str, float] | tuple[str, float, float]
"""Its name, its weight, and its weight in the text encoders if that is another."""

DOWN = ("lora_A", "lora_down", "lora.down")
"""Marks of exactly one tensor per layer."""
LYCORIS = ("hada_", "lokr_")
KOHYA = {
    "lora_unet_": "unet",
    "lora_transformer_": "transformer",
    "lycoris_": "transformer",
    "lora_te_": "text_encoder",
    "lora_te1_": "text_encoder",
    "lora_te2_": "text_encoder_2",
}
"""How names of layers begin in kohya's form, and the part that they belong to."""
CROSS_ATTENTION = {768: "Stable Diffusion 1", 1024: "Stable Diffusion 2", 2048: "SDXL"}
"""Models by the width of the texts that their UNet takes."""


def parse(texts: Iterable[str]) -> tuple[Lora, ...]:
    """Parse ``PATH``, ``PATH:WEIGHT`` and ``PATH:WEIGHT:TEXT_WEIGHT``.

    Raises:
        SteerError: for an empty path.
    """
    parsed: list[Lora] = []
    for text in texts:
        path = text
        weights: list[float] = []
        while len(weights) < 2 and (number := _number(path.rpartition(":")[2])) is not None and ":" in path:
            path, weights = path.rpartition(":")[0], [number, *weights]
        if not path:
            raise SteerError(f"lora {text!r}: expected PATH, PATH:WEIGHT or PATH:WEIGHT:TEXT_WEIGHT")
        parsed.append((path, *weights) if weights else (path, 1.0))  # type: ignore[arg-type]
    return tuple(parsed)


def _number(text: str) -> float | None:
    try:
        number = float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def add(pipe: Any, loras: Iterable[Lora], *, fuse: bool) -> None:
    """Add LoRAs to a pipeline, in order.

    Args:
        pipe: the pipeline.
        loras: the LoRAs.
        fuse: into the weights; quantized ones cannot take them, and then each layer computes them beside its own.

    Raises:
        SteerError: if one cannot be read, or is for another model.
    """
    kept: dict[str, tuple[float, float]] = {}
    for number, (path, *weights) in enumerate(loras):
        scales = (weights[0], weights[-1])
        place = lora_files.locate(path)
        if place.is_file():
            check_ending(place, "lora")
            if place.suffix != ".safetensors":
                raise SteerError(
                    f"lora {path!r}: expected a .safetensors file; pickles are not read: they could run code"
                )
        shapes = _shapes(place)
        if shapes and any(mark in name for name in shapes for mark in LYCORIS) and hasattr(pipe, "unet"):
            if not fuse:
                raise SteerError(f"lora {path!r} is a LoHa or LoKr, which are fused, and the model is quantized")
            _merge_lycoris(pipe, path, file_of(place), scales)
            continue
        name = f"lora{number}"
        _load(pipe, path, place, name, shapes)
        if not fuse:
            kept[name] = scales
            continue
        for scale, parts in zip(scales, _sides(pipe), strict=True):
            if parts:
                pipe.fuse_lora(components=parts, adapter_names=[name], lora_scale=scale)
        pipe.unload_lora_weights()
    if kept:
        texts = _sides(pipe)[1]
        weights_by_part = [
            {part: text if part in texts else own for part in pipe._lora_loadable_modules}
            for own, text in kept.values()
        ]
        pipe.set_adapters(list(kept), weights_by_part)


def _sides(pipe: Any) -> tuple[list[str], list[str]]:
    """Return the parts that take LoRAs: the denoiser, and the text encoders."""
    parts = [part for part in pipe._lora_loadable_modules if getattr(pipe, part, None) is not None]
    return [part for part in parts if "text" not in part], [part for part in parts if "text" in part]


def file_of(place: Path) -> Path:
    """Return the file of a LoRA's weights, if its place tells it."""
    return place if place.is_file() else place / (lora_of([file.name for file in place.iterdir()]) or "")


def _shapes(place: Path) -> dict[str, tuple[int, ...]]:
    """Return the shapes of a LoRA's tensors; empty if its file is not known yet, or damaged."""
    file = file_of(place)
    try:
        return shapes_of(file) if file.suffix == ".safetensors" else {}
    except SteerError:  # diffusers says what is wrong with it
        return {}


def _load(pipe: Any, path: str, place: Path, name: str, shapes: Mapping[str, tuple[int, ...]]) -> None:
    if not hasattr(pipe, "load_lora_weights"):
        raise SteerError(f"{type(pipe).__name__} takes no LoRA")
    try:
        # safetensors only: a pickled LoRA could run code
        pipe.load_lora_weights(str(place), adapter_name=name, use_safetensors=True, local_files_only=True)
    except ImportError as error:
        raise SteerError(
            f"LoRAs need the package peft ({message_of(error)}); pip install 'steer-diffusion[lora]'"
        ) from None
    except OSError as error:
        raise SteerError(f"lora {path!r} cannot be read: {cause_of(error)}") from error
    except Exception as error:  # shape mismatches, foreign keys, missing files: a dozen kinds, all the file's fault
        raise _misfit(pipe, path, shapes, message_of(error)) from error
    if name not in {n for adapters in pipe.get_list_adapters().values() for n in adapters}:
        raise _misfit(pipe, path, shapes, "none of its tensors belongs to the model")
    _warn_of_layers_left_out(pipe, path, place, name, shapes)


def _misfit(pipe: Any, path: str, shapes: Mapping[str, tuple[int, ...]], reason: str) -> SteerError:
    return SteerError(f"lora {path!r} does not fit {type(pipe).__name__}: {reason}{_seems(shapes)}")


def _warn_of_layers_left_out(
    pipe: Any, path: str, place: Path, name: str, shapes: Mapping[str, tuple[int, ...]]
) -> None:
    """Warn if a LoRA has layers that the model lacks; diffusers takes the others and only logs it."""
    loaded = pipe.lora_state_dict(str(place), use_safetensors=True, local_files_only=True)
    tensors = loaded[0] if isinstance(loaded, tuple) else loaded
    there = {_layer(key) for key in tensors if any(mark in key for mark in DOWN)}
    parts = {part: module for part, module in pipe.components.items() if isinstance(module, nn.Module)}
    taken = {
        _layer(f"{part}.{layer}.lora_A")
        for part, module in parts.items()
        for layer, inside in module.named_modules()
        if name in getattr(inside, "lora_A", ())
    }
    if len(taken) < len(there):
        left = sorted(there - taken) or sorted(there)
        listed = ", ".join(left[:NAMED]) + (" …" if len(left) > NAMED else "")
        warnings.warn(
            f"lora {path!r}: {len(there) - len(taken)} of its {len(there)} layers have no place in "
            f"{type(pipe).__name__} and are left out: {listed}{_seems(shapes) or '; was it made for another model?'}",
            stacklevel=2,
        )


def _layer(key: str) -> str:
    """Return the layer that a tensor of a LoRA belongs to; text encoders lost a level of names in transformers 5.6."""
    for mark in DOWN:
        key = key.partition(f".{mark}")[0]
    return key.replace(".text_model.", ".").replace(".processor", "")


def _seems(shapes: Mapping[str, tuple[int, ...]]) -> str:
    """Say what model a LoRA seems to be for, by its tensors; empty if that is not clear."""
    found = made_for(shapes)
    return f"; it seems to be for {found}" if found else ""


def made_for(shapes: Mapping[str, tuple[int, ...]]) -> str | None:
    """Return the model that a LoRA seems to be for, by the names and shapes of its tensors."""
    plain = {name.replace("_", "."): shape for name, shape in shapes.items()}
    marks = {
        "Flux": (".double.blocks.", ".single.transformer.blocks.", ".single.blocks."),
        "SD3": (".joint.blocks.",),
        "Qwen-Image": (".txt.mlp.", ".txt.mod."),
        "Wan": (".blocks.0.cross.attn.", ".blocks.0.self.attn."),
        "SDXL": ("lora.te2.",),
    }
    for family, found in marks.items():
        if any(mark in f".{name}" for name in plain for mark in found):
            return family
    widths = {
        shape[-1] if len(shape) == 2 else shape[1]
        for name, shape in plain.items()
        if ".attn2.to.k." in name and name.endswith((".lora.down.weight", ".lora.A.weight", ".hada.w1.b"))
    }
    return CROSS_ATTENTION.get(widths.pop()) if len(widths) == 1 else None


def _merge_lycoris(pipe: Any, path: str, file: Path, scales: tuple[float, float]) -> None:
    """Fuse a LoHa (arXiv 2108.06098) or LoKr (2309.14859) in kohya's form, which diffusers does not read."""
    from diffusers.loaders.lora_conversion_utils import _maybe_map_sgm_blocks_to_diffusers

    tensors = read_tensors(file, what="lora")
    shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    try:
        tensors = _maybe_map_sgm_blocks_to_diffusers(tensors, pipe.unet.config)
    except (ValueError, LookupError) as error:
        raise _misfit(pipe, path, shapes, message_of(error)) from error
    layers: dict[str, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        layer, _, kind = name.partition(".")
        layers.setdefault(layer, {})[kind] = tensor
    modules = {
        f"{start}{prefix}{name.replace('.', '_')}": (module, part)
        for start, part in KOHYA.items()
        if isinstance(getattr(pipe, part, None), nn.Module)
        for name, module in getattr(pipe, part).named_modules()
        for prefix in ("", *(("text_model_",) if "text" in part else ()))
        if isinstance(getattr(module, "weight", None), Tensor)
    }
    left = []
    for layer, parts in layers.items():
        module, part = modules.get(layer, (None, ""))
        change = None if module is None else _difference(parts, module.weight.numel())
        if module is None or change is None:
            left.append(layer)
            continue
        scale = scales["text" in part]
        with torch.no_grad():
            weight = module.weight
            weight.copy_((weight.float() + scale * change.reshape(weight.shape).to(weight.device)).to(weight.dtype))
    if len(left) == len(layers):
        raise _misfit(pipe, path, shapes, "none of its layers is the model's")
    if left:
        warnings.warn(
            f"lora {path!r}: {len(left)} of its {len(layers)} layers have no place in {type(pipe).__name__}, or a form "
            f"that is not read, and are left out: {', '.join(sorted(left)[:NAMED])}",
            stacklevel=2,
        )


def _difference(parts: Mapping[str, Tensor], size: int) -> Tensor | None:
    """Return what a layer adds to its weight of ``size`` numbers, in fp32; ``None`` for a form that is not read."""
    alpha = parts.get("alpha")
    read = {name: tensor.float() for name, tensor in parts.items() if name != "alpha"}
    try:
        # small factors can have a product beyond all memory
        if _product({name: tensor.to("meta") for name, tensor in read.items()})[0].numel() != size:
            return None
        product, rank = _product(read)
        return product * (float(alpha) / rank) if rank and alpha is not None else product
    except (KeyError, IndexError, RuntimeError, ValueError):
        return None


def _product(read: Mapping[str, Tensor]) -> tuple[Tensor, int]:
    """Return the product of a LoHa's or LoKr's factors, and the rank by which it is scaled; 0 if it is not.

    Raises:
        KeyError: if a factor is missing.
        ValueError: for a form that is not read.
    """
    if any(name in read for name in ("hada_t1", "lokr_t2", "dora_scale")):
        raise ValueError
    if "hada_w1_a" in read:
        product = (read["hada_w1_a"] @ read["hada_w1_b"]) * (read["hada_w2_a"] @ read["hada_w2_b"])
        return product, read["hada_w1_b"].shape[0]
    sides = []
    rank = 0  # whole matrices are not scaled
    for side in ("lokr_w1", "lokr_w2"):
        if side in read:
            sides.append(read[side])
        else:
            rank = read[f"{side}_b"].shape[0]
            sides.append(read[f"{side}_a"] @ read[f"{side}_b"].flatten(1))
    first, second = sides
    return torch.kron(first.reshape(*first.shape, *[1] * (second.ndim - 2)), second.contiguous()), rank
