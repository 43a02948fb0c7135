"""Data to train on: the digits that come in a package, and their held-out split."""

from __future__ import annotations

import numpy as np

from steer.plugins import manager
from steer_symmflow.train.data import open_data


def test_digits_are_real_and_their_splits_apart() -> None:
    data = open_data("digits", None, manager())
    assert (data.kind, data.size, data.labels) == ("classes", (16, 16), tuple("0123456789"))
    (train, _), (held, targets) = (data.all_of(split) for split in ("train", "eval"))
    assert (len(train), len(held)) == (1618, 179)
    seen = {image.tobytes() for image in train}
    assert sum(image.tobytes() in seen for image in held) == 0
    assert np.bincount(targets, minlength=10).min() >= 8
