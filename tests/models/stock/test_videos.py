"""Pipelines that make videos: the stock call's frames, steering, and files from generate to replay."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support.any_pipelines import Kind
from support.clips import noisy_square
from support.commands import Steer
from support.steered import PARTICLES, moved_by_fk, populations
from support.video_pipelines import SMALL, tiny_latte, tiny_wan, video_kinds

import steer
from steer import SteerError
from steer.models.media import media_of, mp4
from steer.models.media.video import Video, Videos
from steer.models.stock.inputs import argument_of, checked
from steer.models.stock.signature import Argument, CallSignature

KINDS = {f"{kind.name}, {kind.task}": kind for kind in video_kinds()}
VIDEO = Argument("video", "video", many=True, required=True)


class Seen:
    """A reward of videos that keeps what it saw."""

    modality = "video"

    def __init__(self) -> None:
        self.samples: list[torch.Tensor] = []
        self.fps = 0.0

    def __call__(self, samples: Videos, prompts: list[str]) -> torch.Tensor:
        self.samples += list(samples.frames())
        self.fps = samples.fps
        return samples.frames().mean(dim=(1, 2, 3, 4))


def stock(pipe: Any, kind: Kind, seed: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    made = pipe(
        prompt="a red circle", **kind.inputs, **kind.stock, num_inference_steps=kind.steps, generator=generator,
        output_type="pt",
    )  # fmt: skip
    return made.frames[0].float()


def test_a_video_does_not_depend_on_how_many_a_call_makes() -> None:
    sampler, inputs = steer.Sampler(tiny_latte()), {"video_length": 4, "clean_caption": False}
    common = {"particles": 2, "choose": "all", "steps": 2, "seed": 3, "inputs": inputs, **SMALL}
    alone, together = (sampler.generate("a red circle", chunk=chunk, **common).videos for chunk in (1, 2))
    # of several videos, the pipeline pads the embeddings of the prompt
    assert all(np.array_equal(one.frames, other.frames) for one, other in zip(alone, together, strict=True))


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_every_class_gives_the_stock_video_and_is_steered(kind: Kind) -> None:
    pipe, seen = kind.make(), Seen()
    sampler, prompt = steer.Sampler(pipe), steer.Prompt("a red circle", seed=5, metadata=kind.inputs)
    made = sampler.generate([prompt], particles=2, steps=kind.steps, reward=seen, choose="all", **kind.settings)
    for row, frames in enumerate(seen.samples):
        expected = (stock(pipe, kind, 5 + row) * 255).round().to(torch.uint8)
        assert torch.equal((frames * 255).round().to(torch.uint8), expected)
        assert np.array_equal(made.items[0].videos[row].frames, expected.permute(0, 2, 3, 1).numpy())
    plain = populations(sampler, kind)
    search = {"methods": ["best-of-n"], "options": {"best-of-n": {"n": PARTICLES}}}
    best = populations(sampler, kind, count=1, particles=None, **search)
    assert best.items[0].reward == max(plain.rewards[0])
    assert moved_by_fk(sampler, kind, plain) > 3  # standard errors


def test_frames_per_second_are_the_calls_or_those_of_its_example() -> None:
    from diffusers import CogVideoXPipeline, LTXPipeline, StableVideoDiffusionPipeline, WanPipeline

    from steer.models.stock.outputs import frames_per_second

    rates = [frames_per_second(CallSignature(cls), {}) for cls in (WanPipeline, CogVideoXPipeline, LTXPipeline)]
    assert rates == [16, 8, 25] and frames_per_second(CallSignature(LTXPipeline), {"frame_rate": 12}) == 12
    assert frames_per_second(CallSignature(StableVideoDiffusionPipeline), {}) == 7


WAN = ("--size", "16x16", "--steps", "3", "--input", "num_frames=5", "--input", "max_sequence_length=16")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("wan") / "model"
    tiny_wan().save_pretrained(place)
    return place


@pytest.mark.slow
def test_generate_score_and_replay_give_the_same_frames(folder: Path, steer: Steer, tmp_path: Path) -> None:
    steer("generate", "a red circle", "-m", folder, *WAN, "-p", "fk", "-r", "motion", "-n", "3", "--seed", "5",
          "--out", "out")  # fmt: skip
    (file,) = Path("out").glob("*.mp4")
    assert Path("out/sheet.png").is_file() and len(list(mp4.frames(file))) == 5
    (row,) = json.loads(steer("score", file, "-r", "motion", "-r", "jpeg", "--json").out)["rows"]
    assert row["prompt"] == "a red circle" and row["scores"].keys() == {"motion", "jpeg"}
    outcome = json.loads(steer("replay", file, "--out", "again", "--json").out)
    assert outcome["equal"] and outcome["max_difference"] == 0
    assert next(Path("again").glob("*.mp4")).read_bytes() == file.read_bytes()


@pytest.mark.slow
def test_render_resumes(folder: Path, steer: Steer) -> None:
    Path("p.jsonl").write_text('{"prompt": "a red circle"}\n{"prompt": "a blue square", "num_frames": 9}\n')
    words = ("render", "p.jsonl", "-m", folder, *WAN, "-n", "2", "-r", "motion", "--previews", "1", "--out", "r")
    steer(*words)
    rows = [json.loads(line) for line in Path("r/metadata.jsonl").read_text().splitlines()]
    assert [row["frames"] for row in rows] == [5, 9] and rows[0]["fps"] == 16
    file = Path("r") / rows[1]["file_name"]
    before = file.read_bytes()
    file.unlink()
    steer(*words)
    assert file.read_bytes() == before and b"previews" in Path("r/details.jsonl").read_bytes()


def test_a_video_is_an_input(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").write_bytes(media_of("video").encoded(Video(noisy_square()), {}))
    stored = checked(VIDEO, "a.mp4", str(tmp_path))
    frames = argument_of(VIDEO, stored)
    assert stored.keys() == {"file", "sha256"} and len(frames) == 12 and frames[0].size == (48, 32)
    (tmp_path / "b.mp4").write_bytes(b"hello")
    with pytest.raises(SteerError, match=r"video: \S+b\.mp4: video cannot be read: it is damaged, or no video"):
        checked(VIDEO, "b.mp4", str(tmp_path))


def test_a_video_that_is_too_long_for_a_call_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.mp4").write_bytes(media_of("video").encoded(Video(noisy_square(3)), {}))
    monkeypatch.setattr("steer.models.stock.inputs.MOST_PIXELS", 10_000)
    with pytest.raises(SteerError, match="more than 10,000 pixels in all frames"):
        checked(VIDEO, str(tmp_path / "a.mp4"), None)
