"""Encoded texts are kept by their bytes."""

from __future__ import annotations

import torch

from steer.models.encodings import Encodings


def test_the_longest_unused_leaves_when_bytes_run_out() -> None:
    made: list[str] = []

    def get(kept: Encodings, key: str, floats: int = 10) -> None:
        def encode():
            made.append(key)
            return {"text": torch.full((1, floats), float(ord(key)))}, None

        cond, uncond = kept.get(key, encode)
        assert uncond is None and float(cond["text"][0, 0]) == ord(key)

    kept = Encodings(limit=100)  # two of 40 bytes
    for key in "abacb":
        get(kept, key)
    assert made == ["a", "b", "c", "b"]  # b had not been used for longer than a
    get(kept, "d", floats=1000)  # more than the limit, alone
    get(kept, "d", floats=1000)
    assert made[4:] == ["d"]
