"""Textual inversion: words that a file gives embeddings for, in the CLIP text encoders of Stable Diffusion and SDXL."""

from __future__ import annotations

import pickle
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from steer.errors import SteerError, message_of
from steer.models.downloads.source import Source

Embedding = tuple[str, str]
"""A file, and the word that stands for it in prompts."""

ENCODERS = (("text_encoder", "tokenizer", "clip_l"), ("text_encoder_2", "tokenizer_2", "clip_g"))
"""Text encoders, their tokenizers, and their names in files of SDXL."""


def parse(texts: Iterable[str]) -> tuple[Embedding, ...]:
    """Parse ``FILE`` and ``FILE:TOKEN``; the token is the file's name without its suffix by default."""
    parsed = []
    for text in texts:
        file, colon, token = text.rpartition(":")
        if not colon or Source(text).path is not None:
            file, token = text, Path(text).stem
        if not file or not token or token.split() != [token]:
            raise SteerError(f"embedding {text!r}: expected FILE or FILE:TOKEN, the token being one word")
        parsed.append((file, token))
    return tuple(parsed)


def add(pipe: Any, embeddings: Iterable[Embedding]) -> None:
    """Add words to a pipeline's tokenizers, and their embeddings to its text encoders.

    Raises:
        SteerError: for a file that cannot be read, or is for another model.
    """
    for file, token in embeddings:
        path = Source(file).path
        if path is None or not path.is_file():
            raise SteerError(f"embedding {file!r} does not exist; expected a .safetensors, .pt or .bin file")
        if not hasattr(pipe, "load_textual_inversion"):
            raise SteerError(f"{type(pipe).__name__} takes no embeddings of textual inversion; drop --embedding")
        content = _read(path, file)
        added = False
        for encoder_name, tokenizer_name, key in ENCODERS:
            encoder, tokenizer = getattr(pipe, encoder_name, None), getattr(pipe, tokenizer_name, None)
            table = None if encoder is None else encoder.get_input_embeddings()
            tensor = content.get(key, content.get(""))
            if table is None or tensor is None or tensor.shape[-1] != table.weight.shape[1] or not _is_clip(encoder):
                continue
            try:
                pipe.load_textual_inversion({token: tensor}, token=token, text_encoder=encoder, tokenizer=tokenizer)
            except ValueError as error:
                raise SteerError(
                    f"embedding {file!r}: the word {token!r} cannot be added ({message_of(error)}); name another: "
                    f"{file}:TOKEN"
                ) from error
            added = True
        if not added:
            widths = ", ".join(str(tensor.shape[-1]) for tensor in content.values())
            raise SteerError(
                f"embedding {file!r} is {widths} wide, which fits no text encoder of {type(pipe).__name__}; it is for "
                "another model (768: Stable Diffusion 1, 1024: Stable Diffusion 2, 768 and 1280: SDXL)"
            )


def _is_clip(encoder: Any) -> bool:
    return type(encoder).__name__.startswith("CLIPText")


def _read(file: Path, name: str) -> dict[str, Tensor]:
    """Read the embeddings ``[V, D]`` of a file, by the encoder's key; ``""`` if it has only one.

    The forms are A1111's (``string_to_param``), diffusers' (``{token: tensor}``), ``emb_params``, and SDXL's.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        if file.suffix == ".safetensors":
            content: Any = load_file(file)
        else:
            with torch.serialization.safe_globals([torch.nn.ParameterDict]):  # of the first trainers; runs no code
                content = torch.load(file, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, ValueError, EOFError, SafetensorError, pickle.UnpicklingError) as error:
        code = isinstance(error, pickle.UnpicklingError)
        reason = "no pickle of tensors alone; take it as .safetensors" if code else message_of(error, 120)
        raise SteerError(f"embedding {name!r} cannot be read ({reason})") from error
    if isinstance(content, Mapping) and "string_to_param" in content:
        params = content["string_to_param"]
        content = dict(params.items()) if isinstance(params, (Mapping, torch.nn.ParameterDict)) else {}
    tensors = {
        str(key): value.detach().reshape(-1, value.shape[-1])
        for key, value in (content.items() if isinstance(content, Mapping) else ())
        if isinstance(value, Tensor) and value.ndim in (1, 2)
    }
    known = {key: tensors[key] for *_, key in ENCODERS if key in tensors}
    if known or len(tensors) == 1:
        return known or {"": next(iter(tensors.values()))}
    raise SteerError(
        f"embedding {name!r} holds no embedding of textual inversion; expected one tensor, or clip_l, clip_g"
    )
