"""Tiny text encoders and tokenizers that need no files."""

from __future__ import annotations

import string
from collections.abc import Sequence

from transformers import (
    Gemma2Config,
    Gemma2Model,
    GemmaTokenizer,
    T5Config,
    T5EncoderModel,
    T5Tokenizer,
)

from support.tiny import WORDS

T5_LENGTH = 16


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


GEMMA_LETTERS = "".join(dict.fromkeys([*string.ascii_letters, *string.digits, *".,:;'-><()\n"]))


def gemma_tokenizer(sentences: Sequence[str] = ()) -> GemmaTokenizer:
    """Return a Gemma tokenizer that has a token for every word of the sentences after a space, and spells the rest."""
    words = dict.fromkeys([*WORDS, *" ".join(sentences).split()])
    tokens = ["<pad>", "<eos>", "<bos>", "<unk>", "<mask>", "▁", *GEMMA_LETTERS]
    merges = []
    for word in words:
        left = "▁"
        for letter in word:
            merges.append((left, letter))
            left += letter
            tokens.append(left)
    vocabulary = {token: i for i, token in enumerate(dict.fromkeys(tokens))}
    return GemmaTokenizer(vocab=vocabulary, merges=list(dict.fromkeys(merges)), add_bos_token=True)


def gemma_text(tokenizer: GemmaTokenizer, width: int = 32) -> Gemma2Model:
    """Return a random Gemma 2 for that tokenizer. Seed torch before."""
    config = Gemma2Config(
        vocab_size=len(tokenizer), hidden_size=width, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, head_dim=8, query_pre_attn_scalar=8,
    )  # fmt: skip
    return Gemma2Model(config).eval()
