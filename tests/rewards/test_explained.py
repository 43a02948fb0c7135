"""What scores come from: rewards that say it, alone and in sums, and the file that keeps it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from steer.errors import RewardError
from steer.registry.plugins import Plugins
from steer.rewards.by_name import make_reward
from steer.rewards.reward import Reward

IMAGES = torch.stack([torch.full((3, 4, 4), value) for value in (0.0, 0.25, 1.0)])
PROMPTS = ["a", "b", "c"]
SPEAKER = """
from steer import Reward

class Speaks(Reward):
    def __call__(self, samples, prompts):
        return samples.mean(dim=(1, 2, 3))

    def explained(self, samples, prompts):
        scores = self(samples, prompts)
        return scores, [{"reason": f"{prompt}: {score:.1f}"} if score > 0.5 else {}
                        for prompt, score in zip(prompts, scores.tolist())]
"""


class Speaks(Reward):
    """Brightness, and the prompt with it."""

    def __call__(self, samples, prompts):
        return samples.mean(dim=(1, 2, 3))

    def explained(self, samples, prompts):
        scores = self(samples, prompts)
        return scores, [{"reason": f"{prompt} {score}"} for prompt, score in zip(prompts, scores.tolist(), strict=True)]


class Broken(Speaks):
    """Explains what is not finite."""

    def explained(self, samples, prompts):
        return torch.full((len(prompts),), torch.nan), [{}] * len(prompts)


def made(expression: str):
    plugins = Plugins()
    for name, kind in (("speaks", Speaks), ("broken", Broken)):
        plugins.registry.reward(name, kind)
    plugins.registry.reward("dark", lambda samples, prompts: 1 - samples.mean(dim=(1, 2, 3)))
    found = make_reward([expression], {}, plugins, torch.device("cpu"))
    assert found is not None
    return found


def test_one_reward_says_its_own_and_several_by_name() -> None:
    scores, details = made("speaks").explained(IMAGES, PROMPTS)
    assert scores.tolist() == [0, 0.25, 1] and details[1] == {"reason": "b 0.25"}
    scores, details = made("speaks:2+dark").explained(IMAGES, PROMPTS)
    assert scores.tolist() == [1, 1.25, 2] and details[2] == {"speaks": {"reason": "c 1.0"}}
    scores, details = made("min(speaks,dark)").explained(IMAGES, PROMPTS)
    assert scores.tolist() == made("min(speaks,dark)")(IMAGES, PROMPTS).tolist() and details == [{}, {}, {}]
    assert made("dark").explained(IMAGES, PROMPTS)[1] == [{}, {}, {}]


def test_batches_on_a_device_give_each_row_its_own(monkeypatch) -> None:
    whole = made("speaks").explained(IMAGES, PROMPTS)
    monkeypatch.setattr("steer.rewards.checked.scored_at_once", lambda samples: 2)
    scores, details = made("speaks").explained(IMAGES, PROMPTS)
    assert scores.tolist() == whole[0].tolist() and details == whole[1] and len(details) == 3


def test_explained_scores_are_checked_too() -> None:
    with pytest.raises(RewardError, match=r"'broken' returned nan for prompt 'a'"):
        made("broken").explained(IMAGES, PROMPTS)


def test_a_file_of_scores_keeps_them(steer, place: Path) -> None:
    from PIL import Image

    (place / "speaker.py").write_text(SPEAKER)
    for number, gray in enumerate((10, 240)):
        Image.new("RGB", (4, 4), (gray,) * 3).save(place / f"{number}.png")
    command = ["score", "0.png", "1.png", "-r", "./speaker.py:Speaks", "--prompt", "x", "--out", "scores.jsonl"]
    done = steer(*command)
    assert done.code == 0, done.err
    rows = {row["file"]: row for row in map(json.loads, (place / "scores.jsonl").read_text().splitlines())}
    assert rows["1.png"]["details"] == {"./speaker.py:Speaks": {"reason": "x: 0.9"}} and rows["0.png"]["details"] == {}
    before = (place / "scores.jsonl").read_bytes()
    assert steer(*command).code == 0 and (place / "scores.jsonl").read_bytes() == before
