"""Moving shapes: sentences, rendered videos, and what the verifier and the steering reward say of them."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import torch
from support.commands import Steer

from steer.models.media import mp4
from steer.plugin import Videos
from steer_shapes.grammar import Phrase, PromptError
from steer_shapes.motion import ShapesMoving, ShapesVideo
from steer_shapes.moving import MOTIONS, Moving, held_out, parse_moving, render_moving, sample_moving
from steer_shapes.scenes import COLORS, SHAPES, SIZES


def drawn(asked: list[Moving], seed: int = 0) -> Videos:
    rng = np.random.default_rng(seed)
    pixels = np.stack([render_moving(one, rng) for one in asked])
    return Videos(torch.from_numpy(pixels).permute(0, 1, 4, 2, 3), 8)


def other(values: tuple[str, ...], value: str) -> str:
    return values[(values.index(value) + 1) % len(values)]


def test_sentences_are_read_as_they_are_written() -> None:
    for asked in map(Moving, (Phrase("star", "orange", "small"), Phrase("cross")), MOTIONS):
        assert parse_moving(asked.text()) == asked
    assert parse_moving("  A red  Circle moving LEFT. ") == Moving(Phrase("circle", "red"), "left")
    for text, said in (
        ("a red circle", "ends with no motion; expected moving left"),
        ("", "ends with no motion"),
        ("two red circles moving left", "what moves is one plain object"),
        ("a striped circle moving up", "what moves is one plain object"),
        ("a red zebra moving up", "expected one of circle"),
    ):
        with pytest.raises(PromptError, match=said) as error:
            parse_moving(text)
        assert "\n" not in str(error.value)


def test_held_out_combinations_are_in_no_other_split_whatever_the_size() -> None:
    splits = [held_out(split) for split in ("train", "tune", "eval")]
    assert sum(map(len, splits)) == len(set().union(*splits)) == len(COLORS) * len(SHAPES) * len(MOTIONS)
    evaluated = set(splits[2])
    rng = np.random.default_rng(0)
    trained = [sample_moving(rng) for _ in range(300)]
    assert {one.phrase.size for one in trained} == {None, *SIZES}
    assert not any(replace(one, phrase=replace(one.phrase, size=None)) in evaluated for one in trained)


@pytest.mark.slow  # the verifier reads hundreds of frames
def test_verifier_agrees_with_what_was_drawn() -> None:
    looks = [(motion, shape, COLORS[index % 8]) for index, (motion, shape) in enumerate(product(MOTIONS, SHAPES))]
    asked = [
        Moving(Phrase(shape, color, SIZES[index % 2]), motion) for index, (motion, shape, color) in enumerate(looks)
    ]
    asked += [Moving(Phrase("circle", color), "right") for color in COLORS]
    videos, verifier = drawn(asked), ShapesVideo()
    assert (verifier(videos, [one.text() for one in asked]) == 1).all()
    for change in (
        lambda one: replace(one, motion=other(tuple(MOTIONS), one.motion)),
        lambda one: replace(one, phrase=replace(one.phrase, shape=other(SHAPES, one.phrase.shape))),
        lambda one: replace(one, phrase=replace(one.phrase, color=other(COLORS, one.phrase.color))),
    ):
        scores = verifier(videos, [change(one).text() for one in asked])
        # one part is wrong, of four or five
        assert ((scores > 0.7) & (scores < 0.85)).all()


def test_verifier_sees_what_single_frames_do_not_show() -> None:
    (left,) = [Moving(Phrase("square", "green", "large"), "left")]
    text, verifier = left.text(), ShapesVideo()
    frames = drawn([left]).pixels

    def score(pixels: torch.Tensor) -> float:
        return float(verifier(Videos(pixels, 8), [text]))

    assert score(frames) == 1
    assert score(frames.flip(1)) == pytest.approx(0.8)  # it moves right
    assert score(frames[:, [4] * 9]) == pytest.approx(0.8)  # it stands still
    assert score(frames[:, [0, 8] * 4 + [0]]) == pytest.approx(0.8)  # it jumps
    assert score(torch.maximum(frames, frames.flip(4).flip(3))) < 1  # there are two
    assert score(torch.zeros_like(frames)) == 0
    last_is_blue = drawn([replace(left, phrase=replace(left.phrase, color="blue"))]).pixels
    assert score(torch.cat([frames[:, :8], last_is_blue[:, 8:]], dim=1)) == 1  # three quarters of the frames count


@pytest.mark.slow  # a trained model reads frames
def test_steering_reward_follows_the_verifier_and_has_a_gradient() -> None:
    rng = np.random.default_rng(1)
    asked = [sample_moving(rng, "eval") for _ in range(24)]
    videos, reward = drawn(asked), ShapesMoving()
    reward.prepare()
    right = reward(videos, [one.text() for one in asked])
    for wrong in (
        [replace(one, motion=other(tuple(MOTIONS), one.motion)) for one in asked],
        [replace(one, phrase=replace(one.phrase, shape=other(SHAPES, one.phrase.shape))) for one in asked],
        [replace(one, phrase=replace(one.phrase, color=other(COLORS, one.phrase.color))) for one in asked],
    ):
        assert (right > reward(videos, [one.text() for one in wrong]) + 0.1).float().mean() > 0.9
    pixels = (videos.pixels[:2].float() / 255).requires_grad_()
    reward(Videos(pixels, 8), [one.text() for one in asked[:2]]).sum().backward()
    assert pixels.grad is not None and pixels.grad[:, [0, 4, 8]].abs().sum() > 0 and pixels.grad[:, 1].abs().sum() == 0


@pytest.mark.slow  # the verifier reads a video
def test_files_are_scored(steer: Steer, place: Path) -> None:
    asked = Moving(Phrase("triangle", "purple", "small"), "up")
    frames = render_moving(asked, np.random.default_rng(2))
    (place / "clip.mp4").write_bytes(mp4.encoded(frames, 8, {}))
    common = ("score", "clip.mp4", "-r", "shapes-video", "-r", "shapes-moving")
    scores = json.loads(steer(*common, "--prompt", asked.text(), "--json").out)["rows"][0]["scores"]
    assert scores["shapes-video"] == 1 and scores["shapes-moving"] > 0.8
    said = steer(*common, "--prompt", "a purple triangle").error()
    assert "'a purple triangle' ends with no motion; expected moving left" in said
