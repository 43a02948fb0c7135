"""CLIPs in transformers' classes and layout: the base of PickScore and the aesthetic score."""

import re
import unicodedata
from pathlib import Path
from typing import Any

from torch import Tensor

from steer import SteerError
from steer.plugin import read_object

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
        SteerError: naming the configuration, if it is not for a CLIP.
    """
    beside = file.with_name(CONFIG)
    if not beside.is_file():
        return published
    config = read_object(beside, "config")
    if not isinstance(config.get("vision_config"), dict):
        raise SteerError(f"{beside} has no vision_config; expected the configuration of a CLIP in transformers' format")
    return config


def key_map(name: str) -> str | None:
    """Map a published name; drop the position numbers that older versions of transformers saved."""
    return None if _POSITION_IDS.fullmatch(name) else name


def vision_key_map(name: str) -> str | None:
    """Map the name of a CLIP's tensor to its name in the image half; drop all others."""
    if name == "logit_scale" or name.startswith(("text_model.", "text_projection.")):
        return None
    return key_map(name)


def tokenizer(length: int) -> Any:
    """Return CLIP's tokenizer with transformers' text cleaning; it needs no download.

    open_clip's package holds the vocabulary, but its own cleaning also straightens quotes and unescapes HTML. Texts are
    padded with zeros; tokens after the end of the text do not affect the features.

    Args:
        length: tokens per text, including start and end; longer texts are cut.
    """
    from open_clip.tokenizer import SimpleTokenizer

    made = SimpleTokenizer(context_length=length)
    made.clean_fn = clean
    return made


def clean(text: str) -> str:
    """Clean a text like transformers' CLIP tokenizer: composed characters, single spaces, lower case."""
    return " ".join(unicodedata.normalize("NFC", text).split()).lower()


def pooled(output: Any) -> Tensor:
    """Return the projected features; transformers 5 wraps them in an object, transformers 4 does not."""
    features: Tensor = output if isinstance(output, Tensor) else output.pooler_output
    return features
