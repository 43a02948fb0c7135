"""Data to train on: the digits that come in a package, and their held-out split."""

from __future__ import annotations

import numpy as np

from steer.plugins import manager
from steer_symmflow.train.data import moved, open_data


def test_digits_are_real_and_their_splits_apart() -> None:
    data = open_data("digits", None, manager())
    assert (data.kind, data.size, data.labels) == ("classes", (16, 16), tuple("0123456789"))
    (train, _), (held, targets) = (data.all_of(split) for split in ("train", "eval"))
    assert (len(train), len(held)) == (1618, 179)
    seen = {image.tobytes() for image in train}
    assert sum(image.tobytes() in seen for image in held) == 0
    assert np.bincount(targets, minlength=10).min() >= 8


def test_training_digits_are_moved_and_held_out_ones_are_not() -> None:
    data = open_data("digits", None, manager())
    stored = {split: {image.tobytes() for image in data.all_of(split)[0]} for split in ("train", "eval")}
    drawn = {split: data.batch(np.random.default_rng(0), 200, split)[0] for split in ("train", "eval")}
    assert all(image.tobytes() in stored["eval"] for image in drawn["eval"])
    unmoved = np.mean([image.tobytes() in stored["train"] for image in drawn["train"]])
    assert 0 < unmoved < 0.2  # one place of 25


def test_an_image_that_is_moved_leaves_black_behind() -> None:
    image = np.arange(1, 10, dtype=np.uint8).reshape(1, 3, 3, 1).repeat(3, axis=3)
    both = moved(np.concatenate([image, image]), np.array([[1, -1], [0, 2]]))
    assert both[0, ..., 0].tolist() == [[0, 0, 0], [2, 3, 0], [5, 6, 0]]
    assert both[1, ..., 0].tolist() == [[0, 0, 1], [0, 0, 4], [0, 0, 7]]
