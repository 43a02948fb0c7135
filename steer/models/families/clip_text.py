"""Texts of any length and with weights, for CLIP text encoders: chunks of 75 tokens, as A1111's web UI makes them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from steer.prompts.syntax import Piece, parse

Token = tuple[int, float]
"""A token and its weight."""

Forward = Callable[[Tensor], tuple[Tensor, Tensor]]
"""From token ids ``[1, L]`` to hidden states ``[1, L, D]`` and the pooled embedding ``[1, P]``."""

BACKTRACK = 20
"""Tokens after a comma that move to the next chunk together, if the chunk ends among them."""


def chunks_of(text: str, tokenizer: Any, converted: Callable[[str, Any], str]) -> list[list[Token]]:
    """Split a text with weights into chunks of at most as many tokens as the encoder takes beside its special ones.

    Args:
        text: as written (:mod:`steer.prompts.syntax`).
        tokenizer: of the encoder.
        converted: see :func:`encode_texts`.
    """
    room = tokenizer.model_max_length - 2
    comma = tokenizer(",", add_special_tokens=False).input_ids
    chunks: list[list[Token]] = [[]]
    for piece in parse(text):
        if piece.text is None:
            chunks.append([])
            continue
        for token in _tokens(piece, tokenizer, converted):
            if len(chunks[-1]) == room:
                moved = _after_comma(chunks[-1], comma)
                chunks.append(moved)
            chunks[-1].append(token)
    return chunks


def encode_texts(
    texts: Sequence[str],
    encoders: Sequence[tuple[Any, Forward]],
    converted: Callable[[str, Any], str],
    device: torch.device,
) -> list[tuple[Tensor, Tensor]]:
    """Encode texts with weights, all to the same length; one chunk of weight 1 gives the stock result.

    Args:
        texts: as written (:mod:`steer.prompts.syntax`).
        encoders: tokenizer and forward of each encoder; their hidden states stand side by side.
        converted: from words and a tokenizer to the words that the tokenizer knows, as for textual inversion.
        device: of the encoders.

    Returns:
        Of each text, hidden states ``[1, L·chunks, D]`` and the last encoder's pooled embedding of the first chunk.
    """
    chunks = [[chunks_of(text, tokenizer, converted) for tokenizer, _ in encoders] for text in texts]
    most = max(len(found) for of_text in chunks for found in of_text)
    return [_encode(of_text, most, encoders, device) for of_text in chunks]


def _encode(
    chunks: Sequence[list[list[Token]]], most: int, encoders: Sequence[tuple[Any, Forward]], device: torch.device
) -> tuple[Tensor, Tensor]:
    columns = []
    for (tokenizer, forward), own in zip(encoders, chunks, strict=True):
        padded = [_padded(chunk, tokenizer) for chunk in [*own, *([[]] * (most - len(own)))]]
        found = [(*forward(torch.tensor([ids], device=device)), weights) for ids, weights in padded]
        columns.append(torch.cat([_emphasized(hidden, weights) for hidden, _, weights in found], dim=1))
    return torch.cat(columns, dim=-1), found[0][1]


def _tokens(piece: Piece, tokenizer: Any, converted: Callable[[str, Any], str]) -> list[Token]:
    words = converted(piece.text or "", tokenizer)
    ids = tokenizer(words, add_special_tokens=False, truncation=False, verbose=False).input_ids
    return [(token, piece.weight) for token in ids]


def _after_comma(chunk: list[Token], comma: list[int]) -> list[Token]:
    """Take the tokens after a chunk's last comma from it, if the comma is near its end."""
    for place in range(len(chunk) - 1, max(len(chunk) - 1 - BACKTRACK, 0), -1):
        if [chunk[place][0]] == comma:
            moved = chunk[place + 1 :]
            del chunk[place + 1 :]
            return moved
    return []


def _padded(chunk: Sequence[Token], tokenizer: Any) -> tuple[list[int], list[float]]:
    missing = tokenizer.model_max_length - 2 - len(chunk)
    ids = [tokenizer.bos_token_id, *(token for token, _ in chunk), tokenizer.eos_token_id]
    return ids + [tokenizer.pad_token_id] * missing, [1.0, *(weight for _, weight in chunk)] + [1.0] * (missing + 1)


def _emphasized(hidden: Tensor, weights: list[float]) -> Tensor:
    """Multiply each token's state by its weight, and keep the mean of all, unless it is no more than rounding."""
    if all(weight == 1 for weight in weights):
        return hidden
    mean = hidden.mean()
    weighed = hidden * hidden.new_tensor(weights)[None, :, None]
    now = weighed.mean()
    return weighed * torch.where(now.abs() > 1e-5 * weighed.abs().mean(), mean / now, 1.0)
