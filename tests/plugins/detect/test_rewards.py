"""The rewards over detections: their scores by hand, colors against open_clip, and the contract of rewards."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import pytest
import torch
from open_clip.transform import image_transform
from PIL import Image
from support.reward_models import photograph, scenes
from support.tiny_clips import PREPROCESS, open_clip_folder, open_clip_model
from support.tiny_detectors import mask2former_folder, owlv2_folder

from steer import Prompt, Sampler, SteerError
from steer.plugin import manager
from steer.testing import check_reward
from steer_detect.asked import Want, parse
from steer_detect.colors import COLORS, Colors, cut_out
from steer_detect.detection import Detection
from steer_detect.rewards import ColorOptions, Count, DetectOptions, GenEval, ObjectColors, Objects, Positions

CPU = torch.device("cpu")
KINDS: dict[str, Any] = {
    "objects": Objects,
    "count": Count,
    "positions": Positions,
    "colors": ObjectColors,
    "geneval": GenEval,
}
LEFT, RIGHT = (0.0, 0.0, 20.0, 20.0), (40.0, 0.0, 60.0, 20.0)


@pytest.fixture(scope="module")
def detector(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return mask2former_folder(tmp_path_factory.mktemp("detector"))


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return open_clip_folder(tmp_path_factory.mktemp("clip"))


@pytest.fixture(scope="module")
def rewards(detector: Path, clip: Path) -> dict[str, Any]:
    plain, colored = DetectOptions(weights=str(detector)), ColorOptions(weights=str(detector), clip=str(clip))
    return {name: kind(colored if kind.Options is ColorOptions else plain) for name, kind in KINDS.items()}


@pytest.mark.slow
@pytest.mark.parametrize("name", KINDS)
def test_it_keeps_the_contract_of_a_reward(rewards: dict[str, Any], name: str) -> None:
    check_reward(rewards[name], *scenes(), name=name).require()


@pytest.mark.parametrize(
    ("name", "prompt", "found", "score"),
    [
        ("objects", "a dog and two cats", [("dog", 0.8), ("cat", 0.5)], (0.8 + 0.25) / 2),
        ("objects", "a dog", [("dog", 0.4), ("dog", 0.7), ("cat", 0.9)], 0.7),
        ("objects", "a dog", [("dog", 0.3)], 0),
        ("count", "two dogs", [("dog", 0.95), ("dog", 0.95)], 1),
        ("count", "two dogs", [("dog", 0.95), ("dog", 0.8)], 0.5),
        ("count", "two dogs", [("dog", 0.95)] * 5, 0),
        ("count", "two dogs and a cat", [("dog", 0.95), ("dog", 0.95)], 0.5),
        ("count", "a red dog and a blue dog", [("dog", 0.95), ("dog", 0.95)], 1),
        ("positions", "a dog left of a cat", [("dog", 0.9, LEFT), ("cat", 0.9, RIGHT)], 1),
        ("positions", "a dog left of a cat", [("dog", 0.9, RIGHT), ("cat", 0.9, LEFT)], 0),
        ("positions", "two dogs left of a cat", [("dog", 0.9, LEFT), ("cat", 0.9, RIGHT)], 0.5),
        ("positions", "a dog and a cat", [], 1),
        ("colors", "a dog", [], 1),
        ("colors", "a red dog", [], 0),
    ],
)
def test_scores_by_hand(rewards: dict[str, Any], name: str, prompt: str, found: list[tuple], score: float) -> None:
    made = [Detection(one, sure, where[0] if where else LEFT) for one, sure, *where in found]
    image = torch.zeros(3, 64, 64)
    assert rewards[name].score(image, parse(prompt), made) == pytest.approx(score)


def test_thresholds_can_be_set(detector: Path) -> None:
    made = [Detection("dog", 0.5, LEFT), Detection("dog", 0.4, (1.0, 0.0, 21.0, 20.0))]
    count = Count(DetectOptions(weights=str(detector), counting=0.3, overlap=0.5))
    assert count.score(torch.zeros(3, 64, 64), parse("one dog"), made) == 1
    assert (
        Objects(DetectOptions(weights=str(detector), threshold=0.6)).score(torch.zeros(3, 9, 9), parse("a dog"), made)
        == 0
    )


@pytest.mark.slow
def test_colors_are_classified_as_genevals_evaluation_does(clip: Path) -> None:
    picture, image = photograph((60, 44))
    mask = np.zeros((20, 30), dtype=bool)
    mask[3:15, 5:22] = True
    box = (12.0, 9.0, 42.0, 29.0)
    colors = Colors(str(clip), CPU)
    want = Want("hot dog", color="blue")
    found = colors.chances(image[0], [Detection("hot dog", 0.9, box, mask), Detection("hot dog", 0.8, box)], want)
    whole = np.zeros((44, 60), dtype=bool)
    whole[9:29, 12:42] = mask
    gray = Image.new("RGB", picture.size, "#999")
    crops = [Image.composite(picture, gray, Image.fromarray(whole)).crop(box), picture.crop(box)]
    model, tokenize = open_clip_model(), open_clip.get_tokenizer("ViT-B-32")
    transform = image_transform(32, is_train=False, mean=tuple(PREPROCESS["mean"]), std=tuple(PREPROCESS["std"]))
    texts = []
    for color in COLORS:
        phrases = [
            f"a photo of a {color} hot dog",
            f"a photo of a {color}-colored hot dog",
            f"a photo of a {color} object",
        ]
        features = torch.nn.functional.normalize(model.encode_text(tokenize(phrases)), dim=-1).mean(dim=0)
        texts.append(features / features.norm())
    pixels = torch.stack([transform(crop) for crop in crops])
    expected = (100 * model.encode_image(pixels, normalize=True) @ torch.stack(texts).T).softmax(dim=1)
    # PIL rounds a resized picture to whole numbers, a tensor is not rounded
    assert (found - expected).abs().max() < 0.02 and expected.std() > 0.02
    assert found.argmax(dim=1).tolist() == expected.argmax(dim=1).tolist()
    assert colors.names(image[0], [Detection("hot dog", 0.9, box, mask)], want) == [COLORS[int(expected[0].argmax())]]
    assert colors.known(Want("dog", color="teal"))[-1] == "teal" and colors.known(want) == COLORS


def test_crops_have_at_least_one_pixel() -> None:
    image = torch.rand(3, 8, 10)
    for box in [(3.2, 3.2, 3.3, 3.3), (10.0, 8.0, 10.0, 8.0), (-4.0, -4.0, 0.2, 0.2), (0.0, 0.0, 10.0, 8.0)]:
        part = cut_out(image, Detection("dog", 0.9, box))
        assert part.shape[1] >= 1 and part.shape[2] >= 1


@pytest.mark.slow
def test_best_of_n_by_a_detector_from_a_prompts_own_metadata(tiny_pipe: Any, tmp_path: Path) -> None:
    options = {"objects": {"weights": str(owlv2_folder(tmp_path)), "threshold": 0.0}}
    prompt = Prompt("a painting", metadata={"include": [{"class": "hot dog", "count": 1}]})
    settings = {"particles": 3, "steps": 2, "seed": 1, "width": 16, "height": 16, "options": options}
    (item,) = Sampler(tiny_pipe).generate([prompt], methods=["best-of-n"], reward="objects:owlv2", **settings).items
    rewards = [sample.reward for sample in item.samples]
    assert len(item.samples) == 1 and rewards[0] > 0


def test_a_prompt_that_asks_for_nothing_known_is_refused_before_sampling(rewards: dict[str, Any]) -> None:
    with pytest.raises(SteerError, match="this detector does not know 'unicorn'"):
        rewards["objects"].completed(Prompt("a unicorn"))
    with pytest.raises(SteerError, match="prompt '8k' names no object to detect"):
        rewards["objects"].completed(Prompt("8k"))


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        (
            None,
            r"count needs facebook/mask2former-swin-small-coco-instance \(276.0 MB\), which is not in the hub's cache",
        ),
        ("owlv2", r"count:owlv2 needs google/owlv2-base-patch16-ensemble .* set -o count.weights=PATH"),
        ("me/mine", r"count:me/mine needs me/mine \(size unknown\)"),
        ("owl", r"unknown detector 'owl' — did you mean 'owlv2'\?; expected mask2former, owlv2, grounding-dino, ORG"),
    ],
)
def test_missing_weights_and_unknown_detectors(argument: str | None, message: str, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(SteerError, match=message):
        Count(argument=argument)


def test_what_to_download_is_declared(detector: Path) -> None:
    entry = manager().registry.rewards["geneval"]
    assert next(needed.repo for needed in entry.weights("grounding-dino")) == "IDEA-Research/grounding-dino-tiny"
    assert [needed.option for needed in entry.weights(None)] == ["weights", "clip"]
    assert len(entry.weights(str(detector))) == 1
    with pytest.raises(SteerError, match=r"got both count:.* and -o count.weights=.*; give one of the two"):
        Count(DetectOptions(weights="x"), argument=str(detector))
