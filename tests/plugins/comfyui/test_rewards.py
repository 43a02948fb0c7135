"""Rewards as the nodes take them."""

from __future__ import annotations

import pytest
import torch

from steer import SteerError
from steer_comfyui.rewards import check_reward, load_reward, parsed, scores_of


def test_options_are_lines() -> None:
    assert parsed("shapes.a=1\n\n  clip.model=x  ") == {"shapes": {"a": "1"}, "clip": {"model": "x"}}
    assert parsed("") == {}


@pytest.mark.parametrize(
    ("expression", "options", "message"),
    [
        ("shaped", "", "unknown reward 'shaped'.*shapes"),
        ("shapes", "shapes.nothing=1", "shapes.nothing"),
        ("shapes", "clip.model=x", "clip"),
        ("fk", "", "'fk' is a method, not a reward"),
    ],
)
def test_a_mistake_is_found_before_anything_is_loaded(tmp_path, expression, options, message) -> None:
    with pytest.raises(SteerError, match=message):
        check_reward(expression, options, tmp_path)


def test_a_workflow_names_files_of_one_folder_alone(tmp_path) -> None:
    allowed = tmp_path / "models" / "steer"
    allowed.mkdir(parents=True)
    for place in (allowed, tmp_path):
        (place / "mine.py").write_text("def half(samples, prompts):\n    return samples.mean(dim=(1, 2, 3)) / 2\n")
    for inside in ("mine.py", f"{allowed}/mine.py"):
        reward = load_reward(f"{inside}:half:3", "", "cpu", allowed, offload=True)
        assert scores_of(reward, torch.ones(2, 4, 4, 3), "a cat") == [1.5, 1.5]
    for outside in (f"{tmp_path}/mine.py", f"{allowed}/../../mine.py", "./mine.py", "~/mine.py"):
        with pytest.raises(SteerError, match=r"a workflow may name Python files of .*steer alone"):
            check_reward(f"{outside}:half", "", allowed)
