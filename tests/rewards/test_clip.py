"""The CLIP reward against a direct open_clip computation, preprocessing included."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import open_clip
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from steer import SteerError
from steer_rewards.clip import Clip, ClipOptions

PROMPTS = ["a red circle", "two blue squares", "a red circle"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny random CLIP in open_clip's layout, with open_clip's own tokenizer."""
    config: dict = {
        "embed_dim": 16,
        "vision_cfg": {"image_size": 32, "layers": 2, "width": 32, "head_width": 8, "patch_size": 8},
        "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 2},
    }
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = open_clip.CLIP(
            config["embed_dim"], open_clip.CLIPVisionCfg(**config["vision_cfg"]),
            open_clip.CLIPTextCfg(**config["text_cfg"]),
        )  # fmt: skip
    out = tmp_path_factory.mktemp("clip")
    preprocess = {
        "mean": [0.4, 0.5, 0.6],
        "std": [0.3, 0.25, 0.2],
        "interpolation": "bicubic",
        "resize_mode": "shortest",
    }
    (out / "open_clip_config.json").write_text(json.dumps({"model_cfg": config, "preprocess_cfg": preprocess}))
    save_file({k: v.contiguous() for k, v in model.state_dict().items()}, out / "open_clip_model.safetensors")
    return out


@pytest.fixture(scope="module")
def clip(folder: Path) -> Clip:
    return Clip(argument=str(folder))


def pictures(size: tuple[int, int], count: int = 3) -> list[Image.Image]:
    generator = np.random.default_rng(0)
    small = generator.integers(0, 256, (count, 6, 6, 3), dtype=np.uint8)
    return [Image.fromarray(pixels).resize(size, Image.Resampling.BICUBIC) for pixels in small]


def tensor(images: list[Image.Image]) -> torch.Tensor:
    return torch.stack([torch.from_numpy(np.array(i)).permute(2, 0, 1).float() / 255 for i in images])


@pytest.mark.parametrize(("size", "tolerance"), [((32, 32), 1e-4), ((64, 48), 0.055), ((20, 44), 0.055)])
def test_scores_equal_open_clip_with_its_own_transform(clip: Clip, folder: Path, size, tolerance: float) -> None:
    model, transform = open_clip.create_model_from_pretrained(f"local-dir:{folder}")
    tokens = open_clip.get_tokenizer(f"local-dir:{folder}")(PROMPTS)
    images = pictures(size)
    with torch.no_grad():
        x = model.eval().encode_image(torch.stack([transform(i) for i in images]), normalize=True)
        expected = 100 * (x * model.encode_text(tokens, normalize=True)).sum(1)
    scores = clip(tensor(images), PROMPTS)
    # PIL rounds a resized picture to whole numbers, a tensor is not rounded
    assert (scores - expected).abs().max() < tolerance
    assert expected.std() > 10 * tolerance


def test_gradients_reach_the_image_and_agree_with_differences(clip: Clip) -> None:
    image = tensor(pictures((40, 40)))[:1].clamp(0.05, 0.95).requires_grad_()
    (gradient,) = torch.autograd.grad(clip(image, PROMPTS[:1]).sum(), image)
    direction = torch.randn(image.shape, generator=torch.Generator().manual_seed(0))
    step = 2e-3
    up = clip(image.detach() + step * direction, PROMPTS[:1])
    down = clip(image.detach() - step * direction, PROMPTS[:1])
    expected = ((up - down) / (2 * step)).item()
    assert (gradient * direction).sum().item() == pytest.approx(expected, rel=2e-2)


def test_rows_do_not_depend_on_each_other_and_texts_are_encoded_once(clip: Clip, monkeypatch) -> None:
    images = tensor(pictures((32, 32)))
    together = clip(images, PROMPTS)
    alone = torch.cat([clip(images[i : i + 1], PROMPTS[i : i + 1]) for i in range(3)])
    assert torch.allclose(together, alone, atol=1e-4)
    monkeypatch.setattr(clip.embedder, "encode_tokens", lambda *_: pytest.fail("the text was encoded again"))
    assert torch.equal(clip(images, PROMPTS), together)


def test_a_prompt_that_is_too_long_warns(folder: Path) -> None:
    clip = Clip(argument=str(folder))
    with pytest.warns(UserWarning, match="longer than the 77 tokens"):
        clip(tensor(pictures((32, 32), 1)), ["a red circle and " * 40])


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
