"""Tiny text encoders and tokenizers that need no files."""

from __future__ import annotations

import string

from tiny import WORDS, byte_pairs
from transformers import (
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    CLIPTokenizer,
    T5Config,
    T5EncoderModel,
    T5Tokenizer,
)

T5_LENGTH = 16
CLIP_LENGTH = 16


def clip_tokenizer() -> CLIPTokenizer:
    """Return a CLIP tokenizer that knows a few words and spells the rest."""
    vocabulary, merges = byte_pairs(WORDS)
    return CLIPTokenizer(vocab=vocabulary, merges=merges, model_max_length=CLIP_LENGTH)


def clip_text(projection: int | None = None, hidden: int = 32) -> CLIPTextModel | CLIPTextModelWithProjection:
    """Return a random CLIP text encoder, with a projection if its width is given. Seed torch before."""
    config = CLIPTextConfig(
        vocab_size=len(byte_pairs(WORDS)[0]), hidden_size=hidden, intermediate_size=64, num_hidden_layers=2,
        num_attention_heads=4, max_position_embeddings=CLIP_LENGTH, bos_token_id=0, eos_token_id=1, pad_token_id=1,
        projection_dim=projection or hidden,
    )  # fmt: skip
    return (CLIPTextModelWithProjection if projection else CLIPTextModel)(config).eval()


def t5_tokenizer(length: int = T5_LENGTH) -> T5Tokenizer:
    """Return a T5 tokenizer of the same words."""
    special = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("▁", -3.0)]
    letters = [(letter, -5.0) for letter in string.ascii_lowercase + string.digits + ".,"]
    words = [(f"▁{word}", -1.0) for word in WORDS]
    return T5Tokenizer(vocab=[*special, *letters, *words], extra_ids=0, model_max_length=length)


def t5_text(width: int = 32) -> T5EncoderModel:
    """Return a random T5 encoder. Seed torch before."""
    config = T5Config(
        vocab_size=len(t5_tokenizer()), d_model=width, d_kv=8, d_ff=64, num_layers=2, num_heads=4,
        feed_forward_proj="gated-gelu",
    )  # fmt: skip
    return T5EncoderModel(config).eval()
