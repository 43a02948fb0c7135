"""HPS against a direct open_clip computation with open_clip's own letterboxing transform."""

from __future__ import annotations

import json
from pathlib import Path

import open_clip
import pytest
import torch
from open_clip.transform import image_transform
from support.reward_models import layout
from support.tiny_clips import OPEN_CLIP, PROMPTS, as_tensor, hps_folder, open_clip_model, pictures, slope

from steer import SteerError
from steer.testing import check_reward
from steer_rewards import checkpoints
from steer_rewards.hps import Hps, HpsOptions

FILE = "HPS_v2.1_compressed.pt"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return hps_folder(tmp_path_factory.mktemp("hps"))


@pytest.fixture(scope="module")
def hps(folder: Path) -> Hps:
    return Hps(HpsOptions(weights=str(folder)))


@pytest.mark.parametrize(("size", "tolerance"), [((32, 32), 1e-6), ((64, 48), 5e-4), ((20, 44), 5e-4)])
def test_scores_equal_open_clip_with_the_longest_side_fitted_and_black_beside_it(hps, size, tolerance: float) -> None:
    model = open_clip_model().half().float()
    transform = image_transform(32, is_train=False, resize_mode="longest", fill_color=0)
    images = pictures(size)
    tokens = open_clip.get_tokenizer("ViT-H-14")(PROMPTS)
    with torch.no_grad():
        image_features, text_features, _ = model(torch.stack([transform(image) for image in images]), tokens)
    expected = (image_features @ text_features.T).diagonal()
    # PIL rounds a resized picture to whole numbers, a tensor is not rounded
    assert (hps(as_tensor(images), PROMPTS) - expected).abs().max() < tolerance
    assert expected.std() > 10 * tolerance


def test_gradients_agree_with_differences(hps: Hps) -> None:
    image = as_tensor(pictures((40, 28)))[:1].clamp(0.05, 0.95)
    found, expected = slope(lambda images: hps(images, PROMPTS[:1]).sum(), image)
    assert found == pytest.approx(expected, rel=2e-2)
    assert abs(expected) > 1e-3


@pytest.mark.slow
def test_it_keeps_the_contract_of_a_reward(hps: Hps) -> None:
    check_reward(hps).require()


@pytest.mark.parametrize("dtype", ["fp16", "bf16"])
def test_half_precision_is_close(folder: Path, hps: Hps, dtype) -> None:
    images = as_tensor(pictures((64, 48)))
    half = Hps(HpsOptions(weights=str(folder), dtype=dtype))
    assert next(half.embedder.encode_images.__self__.parameters()).dtype != torch.float32  # type: ignore[attr-defined]
    assert (half(images, PROMPTS) - hps(images, PROMPTS)).abs().max() < {"fp16": 1e-3, "bf16": 1e-2}[dtype]


@pytest.mark.slow
def test_the_published_checkpoints_fit_vit_h_14_name_by_name() -> None:
    with checkpoints.empty():
        model = open_clip.CLIP(**open_clip.get_model_config("ViT-H-14"))
    published = layout("hps")
    assert checkpoints.shapes_of(model) == published
    assert sum(shape.numel() for shape in published.values()) == 986_109_441  # as open_clip's table of models has it


def damaged(folder: Path, out: Path, how: str) -> Path:
    """Write a checkpoint that is wrong in some way."""
    (out / "open_clip_config.json").write_text(json.dumps({"model_cfg": OPEN_CLIP}))
    content = torch.load(folder / FILE, weights_only=True)
    state = content["state_dict"]
    if how == "truncated":
        (out / FILE).write_bytes((folder / FILE).read_bytes()[:-5000])
        return out
    if how == "missing":
        del state["visual.proj"]
    elif how == "left over":
        state["score_predictor.weight"] = torch.zeros(1)
    elif how == "shape":
        state["text_projection"] = torch.zeros(16, 8)
    elif how == "code":
        state = {"x": print}
    elif how == "no state":
        state = {"model": state}
    torch.save({"state_dict": state}, out / FILE)
    return out


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("truncated", "cannot be read .*it is truncated or not a checkpoint"),
        ("missing", "does not fit CLIP: 1 missing: visual.proj"),
        ("left over", "does not fit CLIP: 1 left over: score_predictor.weight"),
        ("shape", r"1 of another shape: text_projection \[16, 8\] instead of \[16, 16\]"),
        ("code", "cannot be read .no pickle of tensors alone"),
        ("no state", "holds no state dict"),
    ],
)
def test_a_wrong_checkpoint_is_named_with_what_is_wrong(folder: Path, tmp_path: Path, how: str, message: str) -> None:
    with pytest.raises(SteerError, match=rf"checkpoint .*{FILE} .*{message}"):
        Hps(HpsOptions(weights=str(damaged(folder, tmp_path, how))))


def test_a_configuration_of_no_model_is_named(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "HPS_v2.1_compressed.pt").symlink_to(folder / "HPS_v2.1_compressed.pt")
    (tmp_path / "open_clip_config.json").write_text('{"model_cfg": {"embed_dim": 8, "bogus": 1}}')
    with pytest.raises(SteerError, match=r"open_clip_config\.json does not describe a valid model \(TypeError"):
        Hps(HpsOptions(weights=str(tmp_path)))


def test_versions_are_told_apart_and_missing_weights_name_both_ways(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    for argument, file in ((None, FILE), ("v2.1", FILE), ("v2.0", "HPS_v2_compressed.pt")):
        name = "hps" if argument is None else f"hps:{argument}"
        with pytest.raises(SteerError) as caught:
            Hps(argument=argument)
        assert str(caught.value) == (
            f"{name} needs {file} of xswu/HPSv2 (2.0 GB), which is not in the hub's cache, and the hub cannot be "
            f"reached: run `steer download {name}` on a machine that can, or copy it here and set -o hps.weights=PATH"
        )
    with pytest.raises(SteerError, match=r"hps has no version 'v2' — did you mean 'v2\.1'"):
        Hps(argument="v2")
