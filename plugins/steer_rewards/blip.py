"""BLIP (Li et al. 2022, arXiv 2201.12086) on transformers' classes: sizes, names of tensors and tokens.

The checkpoints of BLIP's authors and of ImageReward hold timm's vision transformer and a BERT with cross attention.
transformers has both under other names, and with another epsilon in the vision transformer.
"""

import re
import warnings
from pathlib import Path
from typing import Any, Literal

from steer import SteerError
from steer.plugin import locate, read_object
from steer_rewards import catalog

CONFIG = "config.json"
VOCABULARY = "vocab.txt"
MAX_TOKENS = 35

_BERT_WORDS = 30522
_BERT_IDS = {"yes": 2748, "no": 2053}
_VISION_EPS = 1e-6

_VISION_NAMES = tuple(
    (re.compile(pattern), name)
    for pattern, name in (
        (r"^cls_token$", "embeddings.class_embedding"),
        (r"^pos_embed$", "embeddings.position_embedding"),
        (r"^patch_embed\.proj\.", "embeddings.patch_embedding."),
        (r"^blocks\.(\d+)\.norm([12])\.", r"encoder.layers.\1.layer_norm\2."),
        (r"^blocks\.(\d+)\.attn\.proj\.", r"encoder.layers.\1.self_attn.projection."),
        (r"^blocks\.(\d+)\.attn\.", r"encoder.layers.\1.self_attn."),
        (r"^blocks\.(\d+)\.", r"encoder.layers.\1."),
        (r"^norm\.", "post_layernorm."),
    )
)


def vision_name(name: str) -> str:
    """Return transformers' name of a vision transformer's tensor, given BLIP's name; unknown names are kept."""
    for pattern, replacement in _VISION_NAMES:
        new, count = pattern.subn(replacement, name)
        if count:
            return new
    return name


def config(vit: Literal["base", "large"], image_size: int, given: Path | None = None) -> Any:
    """Return transformers' ``BlipConfig`` for a published size, or from a ``config.json``.

    Args:
        vit: ViT-B or ViT-L, with patches of 16 pixels.
        image_size: side of the model's images in pixels.
        given: a file in the format of ``BlipConfig``; used instead if it exists.

    Raises:
        SteerError: if the file is not such a configuration.
    """
    from transformers import BlipConfig

    if given is not None and given.is_file():
        data = read_object(given, "config")
        if not {"text_config", "vision_config"} <= data.keys():
            raise SteerError(f"{given} is not a BLIP configuration: it needs text_config and vision_config")
        sizes = BlipConfig.from_dict(data)
    else:
        width, depth, heads = (768, 12, 12) if vit == "base" else (1024, 24, 16)
        sizes = BlipConfig.from_dict(
            {
                "vision_config": {
                    "hidden_size": width,
                    "num_hidden_layers": depth,
                    "num_attention_heads": heads,
                    "intermediate_size": 4 * width,
                    "image_size": image_size,
                    "patch_size": 16,
                },
                "text_config": {"num_attention_heads": 12},
            }
        )
    sizes.vision_config.layer_norm_eps = _VISION_EPS  # as in training; converted checkpoints wrongly state 1e-5
    sizes.text_config.encoder_hidden_size = sizes.vision_config.hidden_size
    return sizes


class Tokenizer:
    """BERT's uncased tokenizer, with the tokens that BLIP adds: ``[DEC]`` begins an answer, ``[ENC]`` a question."""

    def __init__(self, vocabulary: Path, model_words: int, owner: str) -> None:
        """Read the vocabulary.

        Args:
            vocabulary: a ``vocab.txt``, one word per line.
            model_words: rows of the model's word embeddings, two more than the vocabulary's words.
            owner: the reward's name, for messages.

        Raises:
            SteerError: if the vocabulary is not the model's.
        """
        from tokenizers import BertWordPieceTokenizer

        try:
            self._tokenizer = BertWordPieceTokenizer(str(vocabulary), lowercase=True)
        except Exception as error:  # the library raises bare exceptions
            raise SteerError(
                f"{vocabulary} is not a BERT vocabulary ({error}); expected bert-base-uncased's"
            ) from error
        words = self._tokenizer.get_vocab_size()
        if words + 2 != model_words:
            raise SteerError(
                f"{vocabulary} has {words} words, but the model of {owner} knows {model_words - 2}; expected "
                "bert-base-uncased's vocab.txt"
            )
        self._owner = owner
        self.answer_start, self.question_start = words, words + 1
        self.yes, self.no = self._answer("yes", vocabulary), self._answer("no", vocabulary)

    def _answer(self, word: str, vocabulary: Path) -> int:
        number = self._tokenizer.token_to_id(word)
        known = _BERT_IDS[word] if self.answer_start == _BERT_WORDS else number
        if number is None or number != known:
            raise SteerError(
                f"{vocabulary} has {word!r} as word {number}, expected {known}; it is not bert-base-uncased's"
            )
        return int(number)

    def ids(self, text: str) -> list[int]:
        """Return the tokens of a text, ``[CLS]`` … ``[SEP]``, at most 35; a longer text is cut with a warning."""
        ids = [int(token) for token in self._tokenizer.encode(text).ids]
        if len(ids) > MAX_TOKENS:
            warnings.warn(
                f"{text[:40]!r}… is longer than the {MAX_TOKENS} tokens of the reward {self._owner}; its end is not "
                "scored",
                stacklevel=4,
            )
            ids = [*ids[: MAX_TOKENS - 1], ids[-1]]
        return ids


def vocabulary(owner: str, given: str | None, weights: Path) -> Path:
    """Return the vocabulary file: the user's, else the one beside the weights, else the hub's.

    Raises:
        SteerError: if it is not available.
    """
    beside = weights.with_name(VOCABULARY)
    if given is None and beside.is_file():
        return beside
    return locate(catalog.BERT, owner=owner, given=given)
