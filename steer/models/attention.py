"""The attention that a denoiser's layers compute with."""

from __future__ import annotations

import warnings
from typing import Any

import torch

from steer.errors import SteerError, message_of, nearest

REPLACEABLE = ("AttnProcessor", "AttnProcessor2_0", "JointAttnProcessor2_0", "XFormersAttnProcessor",
               "XFormersJointAttnProcessor")  # fmt: skip
"""Processors of older layers that diffusers' switch to xformers replaces by others that compute the same. It replaces
any other too: Sana's linear attention by another function."""


def set_attention(denoiser: Any, name: str, device: torch.device) -> None:
    """Set the attention of all of a denoiser's layers.

    Args:
        device: where it computes.

    Raises:
        SteerError: if its layers take no such attention, or it does not compute there in the denoiser's precision.
    """
    from diffusers.models.attention_dispatch import attention_backend

    taken = attentions_of(denoiser)
    if name not in taken:
        shown = ", ".join(one for one in taken if not one.startswith("_"))
        kind = type(denoiser).__name__
        raise SteerError(f"attention {name!r} is not one that {kind} takes{nearest(name, taken)}; it takes {shown}")
    try:
        if _dispatches(denoiser):
            with attention_backend(name):  # what is chosen for one model is not for all
                _try(name, denoiser.dtype, device)
                denoiser.set_attention_backend(name)
        elif name == "xformers":
            denoiser.enable_xformers_memory_efficient_attention()
    except (AttributeError, ValueError, RuntimeError, ImportError, AssertionError, OSError) as error:
        raise SteerError(
            f"attention {name!r} is not possible here, on {device} in {denoiser.dtype} ({message_of(error)}); leave "
            "--attention out"
        ) from None


def attentions_of(denoiser: Any) -> list[str]:
    """Return the names of the attentions that a denoiser's layers take."""
    from diffusers.models.attention_dispatch import AttentionBackendName

    if _dispatches(denoiser):
        return [backend.value for backend in AttentionBackendName]
    kinds = {type(processor).__name__ for processor in _processors(denoiser)}
    return ["native", "xformers"] if kinds <= set(REPLACEABLE) else ["native"]


def _processors(denoiser: Any) -> list[Any]:
    found = [getattr(module, "processor", None) for module in denoiser.modules()]
    return [processor for processor in found if processor is not None]


def _dispatches(denoiser: Any) -> bool:
    """Whether all layers let diffusers choose among all attentions that it has."""
    processors = _processors(denoiser)
    return bool(processors) and all(hasattr(processor, "_attention_backend") for processor in processors)


@torch.no_grad()
def _try(name: str, dtype: torch.dtype, device: torch.device) -> None:
    """Compute a small attention, for many kinds say only then that they cannot."""
    from diffusers.models.attention_dispatch import dispatch_attention_fn

    rows = torch.ones(1, 128, 2, 64, dtype=dtype, device=device)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        dispatch_attention_fn(rows, rows, rows, backend=name)
