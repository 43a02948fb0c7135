"""The embedded video model: the stock pipeline loads it, videos show what is asked, steering shows it more often."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from diffusers import LattePipeline
from support.commands import Steer

import steer as package
from steer.models.media import mp4
from steer_shapes import paths
from steer_shapes.prompts import video_rows
from steer_shapes.train import t2v

PROMPT = "a red circle moving left"


@pytest.fixture(scope="module")
def sampler() -> package.Sampler:
    return package.Sampler("shapes-video", device="cpu")


@pytest.mark.slow  # a trained model draws
@pytest.mark.thorough  # nine videos
def test_videos_show_their_sentences(sampler: package.Sampler) -> None:
    prompts = [row["prompt"] for row in video_rows("tune")][::4]
    result = sampler.generate(prompts, reward="shapes-video", steps=10, seed=1)
    scores = torch.tensor([item.reward for item in result.items])
    assert len(prompts) == 9 and scores.mean() > 0.6
    assert {(len(video), video.fps, video.frames.shape) for video in result.videos} == {(9, 8.0, (9, 64, 64, 3))}


@pytest.mark.slow  # a trained model draws
def test_the_stock_pipeline_draws_the_same_video(sampler: package.Sampler) -> None:
    pipe = LattePipeline.from_pretrained(str(paths.video()), local_files_only=True)
    pipe.set_progress_bar_config(disable=True)
    assert {part.dtype for part in (pipe.transformer, pipe.vae, pipe.text_encoder)} == {torch.float32}
    stock = t2v.generate(pipe, [PROMPT] * 2, seed=3, steps=3).stored().pixels.permute(0, 1, 3, 4, 2)
    for chunk in (1, 2):  # the pipeline itself would pad the embeddings of several videos
        mine = sampler.generate(PROMPT, seed=3, steps=3, particles=2, choose="all", chunk=chunk).videos
        assert all(torch.equal(torch.from_numpy(one.frames), other) for one, other in zip(mine, stock, strict=True))


@pytest.mark.slow  # a trained model draws
def test_generate_writes_a_video_that_replays(steer: Steer, place: Path) -> None:
    done = steer(
        *("generate", PROMPT, "-m", "shapes-video", "--steps", 6, "--seed", 2, "--device", "cpu", "--out", "out"),
        *("-p", "best-of-n", "-o", "best-of-n.n=2", "-r", "shapes-moving", "--json"),
    )
    assert done.code == 0, done.err
    (item,) = json.loads(done.out)["items"]
    file = place / "out" / item["files"][0]
    assert file.suffix == ".mp4" and len(list(mp4.frames(file))) == 9
    # what the model is trained for is in the recipe, so that replay does not depend on its folder
    assert item["recipe"]["prompt"]["metadata"]["video_length"] == 9
    assert "equal to the original" in steer("replay", file, "--device", "cpu", "--out", "again").out
    scored = json.loads(steer("score", file, "-r", "shapes-video", "-r", "shapes-moving", "--json").out)
    assert {"shapes-video", "shapes-moving"} <= scored["rows"][0]["scores"].keys()


@pytest.mark.slow
def test_mistakes_are_one_line(steer: Steer) -> None:
    common = ("-m", "shapes-video", "--steps", 2, "--device", "cpu", "--out", "out")
    for prompt, words, said in (
        ("a zebra moving left", ("-r", "shapes-video"), "is not a sentence of the shapes grammar"),
        ("a red circle", ("-r", "shapes-moving"), "ends with no motion"),
        (PROMPT, ("-r", "shapes"), "'a red circle moving left' is not a sentence of the shapes grammar"),
        (PROMPT, ("--input", "frames=3"), "unknown input of LattePipeline 'frames'"),
        (PROMPT, ("--input", "video_length=4"), "it got width=64, height=64, video_length=4, clean_caption=False;"),
    ):
        assert said in steer("generate", prompt, *common, *words).error()


@pytest.mark.parametrize("role", ["reward", "judge"])
@pytest.mark.parametrize("name", ["shapes-video", "shapes-moving", "shapes", "shapes-count"])
def test_prompts_that_are_no_sentences_are_refused_before_anything_is_sampled(
    sampler: package.Sampler, role: str, name: str
) -> None:
    sentence = "a red circle" if name in ("shapes", "shapes-count") else PROMPT
    with pytest.raises(package.SteerError, match="is not a sentence of the shapes grammar"):
        sampler.generate([sentence, "a zebra moving left"], steps=2, **{role: name})
    assert sampler.last_cost.nfe == 0


@pytest.mark.slow  # a trained model draws
@pytest.mark.thorough  # dozens of videos
def test_steering_meets_more_sentences(sampler: package.Sampler) -> None:
    prompts = [row["prompt"] for row in video_rows("eval")][::4]
    common = {"judge": "shapes-video", "steps": 10, "run_seed": 5}
    plain = sampler.generate(prompts, **common)
    best = sampler.generate(
        prompts, methods=["best-of-n"], options={"best-of-n": {"n": 4}}, reward="shapes-moving", **common
    )
    gains = torch.tensor(
        [b.judge["shapes-video"] - p.judge["shapes-video"] for b, p in zip(best.items, plain.items, strict=True)]
    )
    assert gains.mean() > 2 * gains.std() / len(gains) ** 0.5
