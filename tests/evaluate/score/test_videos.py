"""``steer score`` on videos: beside images, by frames, hostile files, resuming, bounded memory."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from support.clips import noisy_square

from steer.evaluate.score.files import find_files, read_video
from steer.models.media import media_of
from steer.models.media.video import Video

VIDEO = media_of("video")
Run = Callable[..., tuple[int, str, str]]


def save(path: Path, frames: np.ndarray | None = None, texts: dict[str, str] | None = None) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(VIDEO.encoded(Video(noisy_square() if frames is None else frames), texts or {}))
    return path


def gray(*levels: int) -> np.ndarray:
    return np.stack([np.full((16, 16, 3), level, np.uint8) for level in levels])


def scores_of(out: str) -> dict[str, dict[str, float]]:
    return {Path(row["file"]).name: row["scores"] for row in json.loads(out)["rows"]}


def test_images_and_videos_of_a_folder_are_scored_alike(steer: Run, tmp_path: Path) -> None:
    save(tmp_path / "in" / "a.mp4", gray(0, 51, 102, 153))
    save(tmp_path / "in" / "deep" / "b.MOV", gray(200, 200))
    Image.new("RGB", (16, 16), (102,) * 3).save(tmp_path / "in" / "c.png")
    code, out, _ = steer("in", "-r", "./rewards.py:bright", "--prompt", "", "--json")
    found = {name: scores["./rewards.py:bright"] for name, scores in scores_of(out).items()}
    assert code == 0 and found == pytest.approx({"a.mp4": 0.3, "b.MOV": 200 / 255, "c.png": 0.4}, abs=0.01)
    code, out, _ = steer(
        "in/a.mp4", "-r", "./rewards.py:bright", "--prompt", "", "--json", "-o", "./rewards.py.frames=last"
    )
    assert scores_of(out)["a.mp4"]["./rewards.py:bright"] == pytest.approx(0.6, abs=0.01)


def test_rewards_of_videos_score_files_and_refuse_images(steer: Run, tmp_path: Path) -> None:
    save(tmp_path / "still.mp4", gray(90, 90, 90, 90)), save(tmp_path / "blink.mp4", gray(0, 255, 0, 255))
    code, out, _ = steer("still.mp4", "blink.mp4", "-r", "flicker", "-r", "motion", "--json")
    found = scores_of(out)
    assert code == 0 and found["still.mp4"] == pytest.approx({"flicker": 0, "motion": 0})
    assert found["blink.mp4"] == pytest.approx({"flicker": -1, "motion": 0}, abs=0.02)
    Image.new("RGB", (16, 16)).save(tmp_path / "c.png")
    code, out, err = steer("blink.mp4", "c.png", "-r", "flicker")
    assert (code, out) == (2, "") and err.count("\n") == 1
    assert "reward 'flicker' scores videos, and steer score was given images" in err


@pytest.mark.slow
def test_prompts_come_from_the_file_or_from_beside_it(steer: Run, tmp_path: Path) -> None:
    recipe = {"prompt": {"text": "from the recipe", "id": "x", "category": None}}
    save(tmp_path / "in" / "a.mp4", texts={"steer": json.dumps(recipe)})
    save(tmp_path / "in" / "b.mp4", texts={"parameters": "a b\nSteps: 3, Sampler: Euler, Seed: 1, Size: 8x8"})
    save(tmp_path / "in" / "c.mp4")
    (tmp_path / "in" / "c.txt").write_text("one caption beside it")
    code, out, _ = steer("in", "-r", "./rewards.py:words", "--json")
    assert code == 0 and [row["prompt"] for row in json.loads(out)["rows"]] == [
        "from the recipe", "a b", "one caption beside it",
    ]  # fmt: skip
    (tmp_path / "in" / "c.txt").unlink()
    code, _, err = steer("in", "-r", "./rewards.py:words")
    assert code == 2 and "video in/c.mp4 has no prompt; give --prompt" in err


def test_hostile_files_are_told_and_the_others_scored(steer: Run, tmp_path: Path) -> None:
    good = save(tmp_path / "in" / "good.mp4").read_bytes()
    for name, data in (("cut.mp4", good[:3000]), ("text.mp4", b"hello"), ("list.webm", b"#EXTM3U\n/etc/hostname\n")):
        (tmp_path / "in" / name).write_bytes(data)
    code, out, err = steer("in", "-r", "./rewards.py:bright", "--prompt", "", "--json")
    assert code == 1 and [Path(row["file"]).name for row in json.loads(out)["rows"]] == ["good.mp4"]
    warnings = sorted(err.strip().splitlines())
    assert [line.rpartition("video in/")[2] for line in warnings] == [
        f"{name} cannot be read: it is damaged, or no video" for name in ("cut.mp4", "list.webm", "text.mp4")
    ]


@pytest.mark.slow
def test_what_was_scored_is_not_scored_again(steer: Run, tmp_path: Path) -> None:
    save(tmp_path / "a.mp4"), save(tmp_path / "b.mp4", gray(1, 2, 3))
    words = ("a.mp4", "b.mp4", "-r", "./rewards.py:bright", "--prompt", "", "--out", "scores.jsonl")
    assert steer(*words)[0] == 0
    before = (tmp_path / "scores.jsonl").read_text()
    assert steer(*words)[0] == 0 and (tmp_path / "scores.jsonl").read_text() == before
    save(tmp_path / "b.mp4", gray(9, 9, 9))
    assert steer(*words)[0] == 0 and (tmp_path / "scores.jsonl").read_text().count("\n") == 3


@pytest.mark.slow
def test_a_long_video_is_never_held_as_a_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = read_video(save(tmp_path / "a.mp4", gray(*range(0, 200, 2)))).samples
    alive: list[int] = []
    real = torch.stack

    def stack(parts: Any, *arguments: Any, **keywords: Any) -> torch.Tensor:
        alive.append(len(parts))
        return real(parts, *arguments, **keywords)

    monkeypatch.setattr("steer.models.media.video.CHUNK_PIXELS", 5 * 16 * 16)
    monkeypatch.setattr(torch, "stack", stack)
    assert sum(part.shape[1] - 2 for part in found.chunks(2)) == 98 and max(alive) == 5
    alive.clear()
    found.frames([0, 50, 99])
    assert alive == [3]


def test_a_folder_is_searched_for_both(tmp_path: Path) -> None:
    for name in ("b.mkv", "a.png", "c.txt", ".hidden.mp4", "d.AVI"):
        (tmp_path / name).write_bytes(b"")
    assert [path.name for path in find_files([tmp_path])] == ["a.png", "b.mkv", "d.AVI"]
