"""Files of a model's folder by their names: which hold weights, of which variant, and which of them make a whole."""

import re
from collections.abc import Iterable
from dataclasses import dataclass

_NAME = re.compile(
    r"(?P<stem>model|pytorch_model|diffusion_pytorch_model|open_clip_model|open_clip_pytorch_model)"
    r"(\.(?P<variant>[A-Za-z]\w*))?(-(?P<shard>\d+)-of-(?P<shards>\d+))?(\.(?P<old_variant>[A-Za-z]\w*))?"
    r"\.(?P<suffix>safetensors|bin)"
)
"""Both forms of names: ``model.fp16-00001-of-00002.safetensors``, and ``model-00001-of-00002.fp16.safetensors``."""

PREFERRED = ("fp16", "bf16")
"""Variants that are taken before others where there is a choice."""

LORA = "pytorch_lora_weights.safetensors"
"""The name by which diffusers saves a LoRA."""


@dataclass(frozen=True)
class WeightsFile:
    """A file of weights by its name.

    Attributes:
        name: the name.
        variant: ``"fp16"`` for example; ``""`` for plain weights.
        shards: how many files make a whole.
        safe: whether it is in safetensors and not a pickle.
    """

    name: str
    variant: str
    shards: int
    safe: bool


def weights_file(name: str) -> WeightsFile | None:
    """Return what a file of that name holds, if it holds weights that transformers or diffusers read."""
    match = _NAME.fullmatch(name)
    if match is None:
        return None
    variant = match["variant"] or match["old_variant"] or ""
    return WeightsFile(name, variant, int(match["shards"] or 1), match["suffix"] == "safetensors")


def weights_of(names: Iterable[str], variant: str | None = None) -> list[str]:
    """Choose the weights of one part's folder.

    Args:
        names: of its files.
        variant: what is taken if it is there.

    Returns:
        The names: the variant's if it is there, else plain ones, else those of the only variants that there are;
        safetensors if they are there, else pickles.
    """
    files = [file for file in map(weights_file, sorted(names)) if file is not None]
    variants = sorted({file.variant for file in files}, key=lambda name: _order(name, variant))
    for chosen in variants[:1]:
        same = [file for file in files if file.variant == chosen]
        safe = [file.name for file in same if file.safe]
        return safe or [file.name for file in same]
    return []


def lora_of(names: Iterable[str]) -> str | None:
    """Return the file with a repository's LoRA: the usual one, or the only ``.safetensors``."""
    safe = [name for name in names if name.endswith(".safetensors")]
    return LORA if LORA in safe else safe[0] if len(safe) == 1 else None


def variants_of(names: Iterable[str]) -> set[str]:
    """Return the variants in which weights are there, ``""`` among them for plain ones."""
    return {file.variant for file in map(weights_file, names) if file is not None}


def _order(name: str, asked: str | None) -> tuple[bool, bool, int, str]:
    place = PREFERRED.index(name) if name in PREFERRED else len(PREFERRED)
    return name != asked, name != "", place, name
