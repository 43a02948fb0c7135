"""A tiny Qwen tokenizer, whole words in one token each as with the real one."""

from __future__ import annotations

from tokenizers.pre_tokenizers import ByteLevel
from transformers import Qwen2Tokenizer

from support.tiny import WORDS

ALONE = ["system", "user", "assistant", "Describe", "a"]
AFTER_A_SPACE = [
    *WORDS, "image", "by", "detailing", "color", "shape", "size", "texture", "quantity", "text", "spatial",
    "relationships", "objects", "background",
]  # fmt: skip
CHAT = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def qwen_tokenizer() -> Qwen2Tokenizer:
    """Return a byte-level tokenizer that knows the pipelines' templates and a few words, and spells the rest."""
    tokens, merges = sorted(ByteLevel.alphabet()), []
    for word in [*ALONE, *(f"Ġ{word}" for word in AFTER_A_SPACE)]:
        left = word[0]
        for letter in word[1:]:
            merges.append((left, letter))
            left += letter
            tokens.append(left)
    vocabulary = {token: i for i, token in enumerate(dict.fromkeys(tokens))}
    tokenizer = Qwen2Tokenizer(
        vocab=vocabulary, merges=list(dict.fromkeys(merges)), extra_special_tokens=["<|im_start|>", "<|im_end|>"]
    )
    tokenizer.chat_template = CHAT
    return tokenizer
