"""CLIPs in transformers' classes and layout: what PickScore and the aesthetic score are built on."""

from __future__ import annotations

import re
import unicodedata
from pathlib import Path
from typing import Any

from torch import Tensor

from steer import SteerError
from steer_rewards.settings import read_json

CONFIG = "config.json"

_POSITION_IDS = re.compile(r"(text|vision)_model\.embeddings\.position_ids")

VIT_H: dict[str, Any] = {
    "projection_dim": 1024,
    "text_config": {
        "hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 24, "num_attention_heads": 16,
        "hidden_act": "gelu", "projection_dim": 1024, "eos_token_id": 49407,
    },
    "vision_config": {
        "hidden_size": 1280, "intermediate_size": 5120, "num_hidden_layers": 32, "num_attention_heads": 16,
        "patch_size": 14, "hidden_act": "gelu", "projection_dim": 1024,
    },
}  # fmt: skip
"""LAION's ViT-H-14."""

VIT_L: dict[str, Any] = {
    "projection_dim": 768,
    "vision_config": {
        "hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 24, "num_attention_heads": 16,
        "patch_size": 14, "hidden_act": "quick_gelu", "projection_dim": 768,
    },
}  # fmt: skip
"""The image half of OpenAI's ViT-L-14."""


def config_beside(file: Path, published: dict[str, Any]) -> dict[str, Any]:
    """Return the configuration in the file's folder, if there is one, else that of the published weights.

    Raises:
        SteerError: naming the configuration, if it is no CLIP's.
    """
    beside = file.with_name(CONFIG)
    if not beside.is_file():
        return published
    config = read_json(beside)
    if not isinstance(config.get("vision_config"), dict):
        raise SteerError(f"{beside} has no vision_config; expected the configuration of a CLIP in transformers' format")
    return config


def key_map(name: str) -> str | None:
    """Map a published name: older versions of transformers saved the position numbers, which are no weights."""
    return None if _POSITION_IDS.fullmatch(name) else name


def vision_key_map(name: str) -> str | None:
    """Map the name of a whole CLIP's tensor to that of its image half; the rest is not needed."""
    if name == "logit_scale" or name.startswith(("text_model.", "text_projection.")):
        return None
    return key_map(name)


def tokenizer(length: int) -> Any:
    """Return CLIP's tokenizer with transformers' cleaning of texts, and no file to fetch for it.

    open_clip's package holds the vocabulary, but its own cleaning also straightens quotes and undoes HTML's escapes.
    Texts are padded with zeros; what stands after the end of text does not reach the features.

    Args:
        length: tokens of a text, start and end included; longer ones are cut.
    """
    from open_clip.tokenizer import SimpleTokenizer

    made = SimpleTokenizer(context_length=length)
    made.clean_fn = clean
    return made


def clean(text: str) -> str:
    """Return a text as transformers' tokenizer of CLIP reads it: composed characters, single spaces, lower case."""
    return " ".join(unicodedata.normalize("NFC", text).split()).lower()


def pooled(output: Any) -> Tensor:
    """Return the projected features, which transformers 5 puts into an object and 4 returned as they are."""
    features: Tensor = output if isinstance(output, Tensor) else output.pooler_output
    return features
