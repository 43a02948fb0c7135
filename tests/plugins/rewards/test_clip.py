"""The CLIP reward against a direct open_clip computation, preprocessing included."""

from __future__ import annotations

import json
from pathlib import Path

import open_clip
import pytest
import torch
from support.tiny_clips import OPEN_CLIP, PREPROCESS, PROMPTS, as_tensor, open_clip_folder, pictures, slope

from steer import SteerError
from steer.testing import check_reward
from steer_rewards import embedding
from steer_rewards.clip import Clip, ClipOptions


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return open_clip_folder(tmp_path_factory.mktemp("clip"))


@pytest.fixture(scope="module")
def clip(folder: Path) -> Clip:
    return Clip(argument=str(folder))


@pytest.mark.parametrize(("size", "tolerance"), [((32, 32), 1e-4), ((64, 48), 0.055), ((20, 44), 0.055)])
def test_scores_equal_open_clip_with_its_own_transform(clip: Clip, folder: Path, size, tolerance: float) -> None:
    model, transform = open_clip.create_model_from_pretrained(f"local-dir:{folder}")
    tokens = open_clip.get_tokenizer(f"local-dir:{folder}")(PROMPTS)
    images = pictures(size)
    with torch.no_grad():
        x = model.eval().encode_image(torch.stack([transform(i) for i in images]), normalize=True)
        expected = 100 * (x * model.encode_text(tokens, normalize=True)).sum(1)
    scores = clip(as_tensor(images), PROMPTS)
    # PIL rounds a resized picture to whole numbers, a tensor is not rounded
    assert (scores - expected).abs().max() < tolerance
    assert expected.std() > 10 * tolerance


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["longest", "squash"])
@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear"])
def test_other_ways_to_resize_follow_open_clip_too(tmp_path: Path, mode: str, interpolation: str) -> None:
    folder = open_clip_folder(tmp_path, resize_mode=mode, interpolation=interpolation)
    model, transform = open_clip.create_model_from_pretrained(f"local-dir:{folder}")
    images = pictures((60, 40))
    with torch.no_grad():
        expected = model.eval().encode_image(torch.stack([transform(i) for i in images]), normalize=True)
        found = Clip(argument=str(folder)).embedder.images(as_tensor(images))
    assert (found - expected).abs().max() < 1e-3


@pytest.mark.slow
@pytest.mark.parametrize(("dtype", "tolerance"), [("fp16", 0.1), ("bf16", 1.0)])
def test_half_precision_keeps_scores_and_gradients(folder: Path, clip: Clip, dtype, tolerance: float) -> None:
    half = Clip(ClipOptions(dtype=dtype), argument=str(folder))
    gradients = []
    for reward in (clip, half):
        images = as_tensor(pictures((40, 40))).requires_grad_()
        gradients.append(torch.autograd.grad(reward(images, PROMPTS).sum(), images)[0])
    assert (clip(images, PROMPTS) - half(images, PROMPTS)).abs().max() < tolerance
    likeness = torch.nn.functional.cosine_similarity(*(gradient.flatten(1) for gradient in gradients))
    assert likeness.min() > 0.98


@pytest.mark.slow
def test_it_keeps_the_contract_of_a_reward(clip: Clip) -> None:
    check_reward(clip).require()


def test_weights_that_are_not_here_are_told_with_size_and_ways(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(SteerError) as caught:
        Clip(argument="ViT-B-32/laion2b_s34b_b79k")
    for fact in (
        "clip:ViT-B-32/laion2b_s34b_b79k needs open_clip_model.safetensors of laion/CLIP-ViT-B-32-laion2B-s34B-b79K",
        "(605.1 MB)", "`steer download clip:ViT-B-32/laion2b_s34b_b79k`", "-o clip.weights=PATH",
    ):  # fmt: skip
        assert fact in str(caught.value)


@pytest.mark.slow
def test_a_known_name_takes_a_local_file_and_keeps_what_its_tag_says(folder: Path, tmp_path: Path, monkeypatch) -> None:
    from open_clip import factory, pretrained

    tag = {**PREPROCESS, "hf_hub": "org/tiny/", "quick_gelu": True}
    monkeypatch.setitem(factory._MODEL_CONFIGS, "Tiny", OPEN_CLIP)
    monkeypatch.setitem(pretrained._PRETRAINED, "Tiny", {"here": tag})
    images = as_tensor(pictures((40, 40)))
    scores = Clip(ClipOptions(weights=str(folder)), argument="Tiny/here")(images, PROMPTS)
    (tmp_path / "open_clip_config.json").write_text(
        json.dumps({"model_cfg": {**OPEN_CLIP, "quick_gelu": True}, "preprocess_cfg": PREPROCESS})
    )
    (tmp_path / "open_clip_model.safetensors").symlink_to(folder / "open_clip_model.safetensors")
    expected = Clip(argument=str(tmp_path))(images, PROMPTS)
    assert torch.equal(scores, expected)
    assert not torch.allclose(scores, Clip(argument=str(folder))(images, PROMPTS))


def test_gradients_reach_the_image_and_agree_with_differences(clip: Clip) -> None:
    image = as_tensor(pictures((40, 40)))[:1].clamp(0.05, 0.95)
    found, expected = slope(lambda images: clip(images, PROMPTS[:1]).sum(), image)
    assert found == pytest.approx(expected, rel=2e-2)
    assert abs(expected) > 0.1


def test_rows_do_not_depend_on_each_other_and_texts_are_encoded_once(clip: Clip, monkeypatch) -> None:
    images = as_tensor(pictures((32, 32)))
    together = clip(images, PROMPTS)
    alone = torch.cat([clip(images[i : i + 1], PROMPTS[i : i + 1]) for i in range(3)])
    assert torch.allclose(together, alone, atol=1e-4)
    monkeypatch.setattr(clip.embedder, "encode_tokens", lambda *_: pytest.fail("the text was encoded again"))
    assert torch.equal(clip(images, PROMPTS), together)


def test_the_cache_of_texts_may_fill_up_within_a_batch(folder: Path, monkeypatch) -> None:
    monkeypatch.setattr(embedding, "TEXTS_KEPT", 2)
    clip = Clip(argument=str(folder))
    images = torch.rand(3, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    first = clip(images, ["a", "b", "a"])
    assert torch.equal(clip(images, ["a", "c", "a"])[::2], first[::2])
    assert len(clip.embedder._texts) <= 2


def test_weights_for_a_folder_are_refused(folder: Path) -> None:
    with pytest.raises(SteerError, match=r"clip.weights=x is for an open_clip NAME/PRETRAINED of the hub"):
        Clip(ClipOptions(weights="x"), argument=str(folder))


def test_a_prompt_that_is_too_long_warns(folder: Path) -> None:
    clip = Clip(argument=str(folder))
    with pytest.warns(UserWarning, match="longer than the 77 tokens"):
        clip(as_tensor(pictures((32, 32), 1)), ["a red circle and " * 40])


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("no-such-clip", "unknown clip 'no-such-clip'"),
        ("ViT-B-32/laion2b_s34b_b79", "did you mean 'laion2b_s34b_b79k'"),
        ("shape", "did you mean 'shapes'"),
    ],
)
def test_a_wrong_name_is_one_clear_error(name: str, message: str) -> None:
    with pytest.raises(SteerError, match=message):
        Clip(ClipOptions(model=name))


def test_a_folder_without_weights_or_with_broken_ones_is_named(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(SteerError, match=r"has no open_clip_config\.json"):
        Clip(argument=str(tmp_path))
    (tmp_path / "open_clip_config.json").write_text((folder / "open_clip_config.json").read_text())
    weights = (folder / "open_clip_model.safetensors").read_bytes()
    (tmp_path / "open_clip_model.safetensors").write_bytes(weights[: len(weights) // 2])
    with pytest.raises(SteerError, match="cannot be loaded"):
        Clip(argument=str(tmp_path))
