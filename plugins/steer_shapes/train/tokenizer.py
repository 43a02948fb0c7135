"""A small, complete CLIP tokenizer: every word of the grammar is one token.

It is ordinary byte-pair encoding over CLIP's full byte alphabet, learned until each word of the grammar is one
token. Words outside the grammar split into letters instead of failing.
"""

import re
from collections import Counter
from itertools import pairwise

from torch import Tensor
from transformers import CLIPTokenizer

from ..grammar import NUMBERS, PLURALS, RELATION_WORDS
from ..scenes import COLORS, SHAPES, SIZES, TEXTURES

MAX_LENGTH = 32


def words() -> list[str]:
    """Return all words of the grammar, in a fixed order."""
    relations = [word for words in RELATION_WORDS.values() for word in words.split()]
    lists = (SHAPES, PLURALS.values(), COLORS, SIZES, TEXTURES, NUMBERS, relations)
    found = ["a", "an", "and", *(word for group in lists for word in group)]
    return list(dict.fromkeys(found))


def _byte_alphabet() -> list[str]:
    """Return a printable character for each of the 256 bytes, in CLIP's order."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in printable]
    return [chr(b) for b in printable] + [chr(256 + i) for i in range(len(others))]


def learn_merges(vocabulary: list[str]) -> list[tuple[str, str]]:
    """Return byte-pair merges that make every word one token, most frequent pairs first."""
    pieces = [[*word[:-1], word[-1] + "</w>"] for word in vocabulary]
    merges = []
    while pairs := Counter(pair for word in pieces for pair in pairwise(word)):
        best = min(pairs, key=lambda pair: (-pairs[pair], pair))
        merges.append(best)
        for word in pieces:
            at = 0
            while at < len(word) - 1:
                if (word[at], word[at + 1]) == best:
                    word[at : at + 2] = ["".join(best)]
                at += 1
    return merges


def build() -> CLIPTokenizer:
    """Return the tokenizer; transformers can load what its ``save_pretrained`` writes."""
    alphabet = _byte_alphabet()
    merges = learn_merges(words())
    tokens = [*alphabet, *(letter + "</w>" for letter in alphabet)]
    tokens += ["".join(pair) for pair in merges]
    tokens += ["<|startoftext|>", "<|endoftext|>"]
    vocabulary = {token: index for index, token in enumerate(dict.fromkeys(tokens))}
    tokenizer = CLIPTokenizer(vocab=vocabulary, merges=merges, model_max_length=MAX_LENGTH)
    for word in words():
        ids = tokenizer(word).input_ids
        assert re.fullmatch(re.escape(word), tokenizer.decode(ids[1:-1]).strip()), word
        assert len(ids) == 3, f"{word!r} is not one token"
    return tokenizer


def encode(tokenizer: CLIPTokenizer, prompts: list[str]) -> Tensor:
    """Return token ids [N, 32], padded and cut."""
    ids: Tensor = tokenizer(
        prompts, padding="max_length", max_length=MAX_LENGTH, truncation=True, return_tensors="pt"
    ).input_ids
    return ids
