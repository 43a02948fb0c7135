"""``unifiedreward`` against a real server process: its points, and replies without them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from support.judge_server import MODEL, JudgeServer, judge_server

from steer import Prompt, SteerError
from steer.testing import check_reward
from steer_judges.questions import Question
from steer_judges.replies import BadReply, Reply
from steer_judges.unifiedreward import Points, UnifiedReward, UnifiedRewardOptions

IMAGES = torch.zeros(3, 3, 16, 16)
IMAGES[0, 0] = IMAGES[1, 2] = 1  # red, blue and black
PROMPTS = ["a red circle", "a blue square", "a red circle"]


@pytest.fixture(scope="module")
def server() -> Iterator[JudgeServer]:
    with judge_server() as server:
        yield server


def unified(server: JudgeServer, **options: Any) -> UnifiedReward:
    return UnifiedReward(UnifiedRewardOptions(url=server.url, cache=None, retries=0, **options), argument=MODEL)


def test_the_score_is_the_mean_share_of_points(server: JudgeServer) -> None:
    alignment = torch.tensor([0.98, 0.98, 0.02])
    assert torch.allclose(unified(server)(IMAGES, PROMPTS), (alignment + 0.5 + 0.375) / 3, atol=1e-6)
    assert torch.allclose(unified(server, axes=("alignment",))(IMAGES, PROMPTS), alignment, atol=1e-6)


def test_it_asks_in_the_models_own_words_whatever_the_row_asks(server: JudgeServer) -> None:
    reward = unified(server)
    server.requests()
    reward(IMAGES[:1], [Prompt("a red circle", metadata={"questions": ["is it red?"]})])
    (asked,) = server.requests()
    assert asked["text"].startswith(
        "You are presented with a generated image and its associated text caption. Your task"
    )
    assert asked["text"].endswith(
        "Style Score (1-5): Z\n\nYour task is provided as follows:\nText Caption: [a red circle]"
    )
    assert "logprobs" not in asked["fields"]


def test_its_own_model_is_asked_unless_another_is_named(server: JudgeServer) -> None:
    with pytest.raises(SteerError, match=r"unifiedreward: .*`CodeGoat24/UnifiedReward-2.0-qwen3vl-8b` does not exist"):
        UnifiedReward(UnifiedRewardOptions(url=server.url))


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("Alignment Score (1-5): 3\nCoherence Score (1-5): 2", "no points for style"),
        ("Alignment Score (1-5): X\nCoherence Score (1-5): 2\nStyle Score (1-5): 2", "no points for alignment"),
        ("Alignment Score: nan\nCoherence Score: 2\nStyle Score: 2", "points for alignment are nan, expected 1 to 5"),
        ("Alignment Score: 7\nCoherence Score: 2\nStyle Score: 2", "are 7, expected 1 to 5"),
    ],
)
def test_a_reply_without_points_is_refused(text: str, why: str) -> None:
    with pytest.raises(BadReply, match=why):
        Points(("alignment", "coherence", "style")).score(Reply(text), Question(""))


@pytest.mark.slow
def test_it_keeps_the_contract_of_a_reward(server: JudgeServer) -> None:
    check_reward(unified(server), IMAGES, PROMPTS, name="unifiedreward").require()
