"""The aesthetic score against its definition on transformers' CLIP."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from support.reward_models import layout
from support.tiny_clips import (
    PROMPTS,
    aesthetic_folder,
    as_tensor,
    pictures,
    published_head,
    slope,
    transformers_model,
)
from transformers import CLIPImageProcessor

from steer import SteerError
from steer.testing import check_reward
from steer_rewards import checkpoints
from steer_rewards import transformers_clip as clip
from steer_rewards.aesthetic import Aesthetic, AestheticOptions, Head, build_clip


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return aesthetic_folder(tmp_path_factory.mktemp("aesthetic"))


@pytest.fixture(scope="module")
def aesthetic(folder: Path) -> Aesthetic:
    return Aesthetic(AestheticOptions(head=str(folder), clip=str(folder)))


@pytest.mark.parametrize(("size", "tolerance"), [((32, 32), 1e-6), ((64, 49), 1e-4)])
def test_scores_follow_the_definition(aesthetic: Aesthetic, size: tuple[int, int], tolerance: float) -> None:
    images = pictures(size)
    processor = CLIPImageProcessor(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32})
    with torch.no_grad():
        embeddings = transformers_model().get_image_features(**processor(images=images, return_tensors="pt"))
        embeddings = clip.pooled(embeddings)
        expected = published_head(16)(embeddings / torch.linalg.vector_norm(embeddings, dim=-1, keepdim=True))[:, 0]
    scores = aesthetic(as_tensor(images), PROMPTS)
    assert (scores - expected).abs().max() < tolerance
    assert expected.std() > 5 * tolerance


def test_it_reads_no_prompt(aesthetic: Aesthetic) -> None:
    images = as_tensor(pictures((32, 32)))
    assert not aesthetic.needs_prompt
    assert torch.equal(aesthetic(images, PROMPTS), aesthetic(images, [""] * 3))


def test_gradients_agree_with_differences(aesthetic: Aesthetic) -> None:
    image = as_tensor(pictures((40, 28)))[:1].clamp(0.05, 0.95)
    found, expected = slope(lambda images: aesthetic(images, [""]).sum(), image, step=5e-3)
    assert found == pytest.approx(expected, rel=2e-2)
    assert abs(expected) > 1e-4


@pytest.mark.slow
def test_it_keeps_the_contract_of_a_reward(aesthetic: Aesthetic) -> None:
    check_reward(aesthetic).require()


@pytest.mark.slow
def test_the_key_map_covers_the_published_checkpoints() -> None:
    published = layout("clip_vit_l_14")
    mapped = {
        clip.vision_key_map(name): shape for name, shape in published.items() if clip.vision_key_map(name) is not None
    }
    assert mapped == checkpoints.shapes_of(build_clip(clip.VIT_L))
    left_out = {name.partition(".")[0] for name in published if clip.vision_key_map(name) is None}
    assert left_out == {"text_model", "text_projection", "logit_scale", "vision_model"}
    assert [n for n in published if n.startswith("vision_model") and clip.vision_key_map(n) is None] == [
        "vision_model.embeddings.position_ids"
    ]
    weights = [shape for name, shape in published.items() if not name.endswith("position_ids")]
    assert sum(shape.numel() for shape in weights) == 427_616_513  # as open_clip's table of models has it
    assert checkpoints.shapes_of(Head(768)) == layout("aesthetic_head")


def test_a_wrong_file_is_named(folder: Path, tmp_path: Path) -> None:
    torch.save(published_head(16).state_dict(), tmp_path / "aesthetic-model.pth")
    with pytest.raises(SteerError, match=r"aesthetic-model\.pth does not fit Head: 10 missing: layers\.0\.weight"):
        Aesthetic(AestheticOptions(head=str(tmp_path), clip=str(folder)))
    with pytest.raises(SteerError, match=r"aesthetic\.clip=.* has no file model\.safetensors"):
        Aesthetic(AestheticOptions(head=str(folder), clip=str(tmp_path)))
