"""The weights that ship: stock libraries load them, and they do what the model card says."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import open_clip
import pytest
import torch
from diffusers import StableDiffusionPipeline

from steer import ModelOptions, Sampler
from steer_shapes import paths
from steer_shapes.captions import split_of
from steer_shapes.grammar import CATEGORIES, parse_prompt
from steer_shapes.layout import draw_scene
from steer_shapes.moving import parse_moving
from steer_shapes.prompts import FILES, VIDEO_FILES, file_text
from steer_shapes.render import render_batch
from steer_shapes.reward import ShapesReward
from steer_shapes.train import clip as clip_stage
from steer_shapes.train import tokenizer as tokenizers
from steer_shapes.train.data import to_tensor
from steer_shapes.train.t2i import generate

PROMPTS = Path(__file__).parents[3] / "prompts"


@pytest.fixture(scope="module")
def pipe() -> StableDiffusionPipeline:
    loaded = StableDiffusionPipeline.from_pretrained(str(paths.pipeline()), local_files_only=True)
    loaded.set_progress_bar_config(disable=True)
    return loaded


def rows(name: str) -> list[dict[str, str]]:
    return [json.loads(line) for line in (PROMPTS / name).read_text("utf-8").splitlines()]


def test_size() -> None:
    files = [path for path in paths.WEIGHTS.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) <= 34e6
    assert sum(path.stat().st_size for path in files if paths.video() in path.parents) <= 4e6
    suffixes = {path.suffix for path in files}
    assert suffixes <= {".safetensors", ".json", ".txt", ".md"}


def test_configurations_name_no_folder_of_the_machine_that_wrote_them() -> None:
    for path in paths.WEIGHTS.rglob("*.json"):
        assert not re.search(r'"/\w', path.read_text("utf-8")), path


@pytest.mark.slow
def test_the_preview_decoder_shows_what_the_autoencoder_shows() -> None:
    sampler = Sampler("shapes", device="cpu", dtype="fp32", model_options=ModelOptions(preview="own"))
    rng = np.random.default_rng(0)
    drawn = [draw_scene(rng, plain_share=1.0) for _ in range(24)]
    images = to_tensor(render_batch([scene for _, scene in drawn]))
    prompts = [asked.text() for asked, _ in drawn]
    with torch.no_grad():
        latents = sampler.backbone.pipe.vae.encode(images * 2 - 1).latent_dist.mean
        noisy = latents + 0.3 * torch.randn(latents.shape, generator=torch.Generator().manual_seed(0))
        for x in (latents, noisy):
            assert (sampler.model.preview(x) - sampler.backbone.decode(x)).square().mean() < 0.003
        assert ShapesReward()(sampler.model.preview(latents), prompts).mean() > 0.9
        tiny = sampler.model.preview.model
        assert (tiny.encode(images * 2 - 1).latents - latents).square().mean() < 0.05


@pytest.mark.slow  # a trained model draws
def test_stock_pipeline_draws_what_is_asked(pipe: StableDiffusionPipeline) -> None:
    parts = (pipe.unet, pipe.vae, pipe.text_encoder)
    assert {part.dtype for part in parts} == {torch.float32}
    prompts = [row["prompt"] for row in rows("shapes-tune.jsonl") if row["category"] == "color"]
    images = generate(pipe, prompts[:8], steps=20)
    rewards = ShapesReward()(images, prompts[:8])
    assert images.shape == (8, 3, 64, 64)
    assert rewards.mean() > 0.7 and (rewards == 1).any()


@pytest.mark.slow  # a trained model
def test_autoencoder_keeps_scenes_readable(pipe: StableDiffusionPipeline) -> None:
    rng = np.random.default_rng(0)
    from steer_shapes.layout import draw_scene
    from steer_shapes.render import render_batch
    from steer_shapes.train.data import to_tensor

    drawn = [draw_scene(rng) for _ in range(32)]
    images = to_tensor(render_batch([scene for _, scene in drawn]))
    with torch.no_grad():
        latents = pipe.vae.encode(images * 2 - 1).latent_dist.mean
        output = pipe.vae.decode(latents).sample / 2 + 0.5
    assert (latents.mean((0, 2, 3)).abs() < 0.15).all()
    assert ((latents.std((0, 2, 3)) - 1).abs() < 0.15).all()
    assert (ShapesReward()(output, [r.text() for r, _ in drawn]) == 1).float().mean() > 0.9


@pytest.mark.slow
def test_tokenizer_reads_every_word_as_one_token(pipe: StableDiffusionPipeline) -> None:
    longest = "a small striped purple triangle to the right of a large dotted orange square "
    longest += "and to the right of a small striped yellow triangle"
    parse_prompt(longest)
    ids = pipe.tokenizer(longest).input_ids
    assert len(ids) == len(longest.split()) + 2 <= tokenizers.MAX_LENGTH
    assert len(pipe.tokenizer("zebras, ünïcode & 日本").input_ids) > 5


@pytest.mark.slow  # a trained model reads hundreds of images
def test_stock_open_clip_tells_near_captions_apart() -> None:
    name = f"local-dir:{paths.clip()}"
    model, _ = open_clip.create_model_from_pretrained(name)
    model.eval()
    tokens = open_clip.get_tokenizer(name)
    ids = tokens(["a red circle", "a blue star above a green cross"])
    assert ids.shape == (2, tokenizers.MAX_LENGTH)
    assert model.visual.image_size == 64 and tuple(model.visual.image_mean) == clip_stage.MEAN
    figures = clip_stage.retrieval(model, tokens, 1, split="eval", groups=20)
    assert figures["captions_all"] > 0.8 and figures["images_all"] > 0.8


@pytest.mark.slow
def test_prompt_files_are_as_the_generator_makes_them() -> None:
    for name, (_, split, count) in FILES.items():
        assert (PROMPTS / name).read_text("utf-8") == file_text(name)
        listed = rows(name)
        assert len({row["id"] for row in listed}) == len({row["prompt"] for row in listed})
        for row in listed:
            assert split_of(row["prompt"]) == split
            assert parse_prompt(row["prompt"]).category == row["category"]
        assert [row["category"] for row in listed] == [c for c in CATEGORIES for _ in range(count)]
    for name, split in VIDEO_FILES.items():
        assert (PROMPTS / name).read_text("utf-8") == file_text(name)
        listed = rows(name)
        assert len({row["id"] for row in listed}) == len({row["prompt"] for row in listed}) == len(listed) > 30
        for row in listed:
            asked = parse_moving(row["prompt"])
            assert (asked.split, asked.motion) == (split, row["category"])
