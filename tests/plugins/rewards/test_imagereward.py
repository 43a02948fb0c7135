"""ImageReward against numbers of the reference implementation, and as a reward."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from huggingface_hub import constants
from support.reward_models import BERT_WORDS, compose, fixture, imagereward_folder, layout, photograph, scenes
from support.tiny import tiny_sd
from torchvision.transforms import CenterCrop, InterpolationMode, Resize

from steer import Sampler, SteerError
from steer.testing import check_reward
from steer_rewards import blip, checkpoints
from steer_rewards.imagereward import ImageReward, ImageRewardOptions, build, key_map, load
from steer_rewards.preprocess import CLIP_MEAN, CLIP_STD

CPU = torch.device("cpu")
PROMPTS = ["a red circle", "two blue squares to the left of a star", "a red circle"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return imagereward_folder(tmp_path_factory.mktemp("imagereward"))


@pytest.fixture(scope="module")
def reward(folder: Path) -> ImageReward:
    return ImageReward(ImageRewardOptions(weights=str(folder)))


def test_scores_and_gradients_are_the_references(folder: Path) -> None:
    _, known = fixture("imagereward")
    model = load(folder / "ImageReward.pt", CPU, torch.float32)
    pixels = known["img"].clone().requires_grad_()
    scores = model(pixels, known["ids"], known["mask"])
    (gradient,) = torch.autograd.grad(scores.sum(), pixels)
    assert (scores - known["out"][:, 0]).abs().max() < 1e-5
    assert (gradient - known["g"]).abs().max() < 1e-4 * known["g"].abs().max()


@pytest.mark.slow
def test_the_key_map_covers_the_published_checkpoint() -> None:
    published = layout("imagereward")
    expected = checkpoints.shapes_of(build(blip.config("large", 224)))
    assert {key_map(name): shape for name, shape in published.items() if key_map(name)} == expected
    assert {name for name in published if key_map(name) is None} == {
        "blip.text_encoder.embeddings.position_ids",
        *(f"blip.{head}_proj.{part}" for head in ("vision", "text") for part in ("weight", "bias")),
    }
    # all but the head's 17 million bytes are 1.78 GB of fp32
    assert sum(shape.numel() for shape in expected.values()) * 4 == pytest.approx(1.785e9, rel=1e-3)


@pytest.mark.slow  # dozens of calls
def test_it_keeps_the_contract_of_a_reward(reward: ImageReward) -> None:
    check_reward(reward, *scenes(), name="imagereward").require()


def test_the_reward_normalizes_and_tokenizes_as_the_reference(reward: ImageReward) -> None:
    _, known = fixture("imagereward")
    images = known["img"] * torch.tensor(CLIP_STD).view(1, 3, 1, 1) + torch.tensor(CLIP_MEAN).view(1, 3, 1, 1)
    ids, mask = reward.tokens(["a red circle", "a zebra"])
    words = [[BERT_WORDS[token] for token in row] for row in ids.tolist()]
    assert words[0][:6] == ["[CLS]", "a", "red", "circle", "[SEP]", "[PAD]"]
    assert words[1][:6] == ["[CLS]", "a", "[UNK]", "[SEP]", "[PAD]", "[PAD]"]
    assert ids.shape == (2, 35) and mask.sum(dim=1).tolist() == [5, 4]
    expected = reward.model(known["img"], ids, mask)
    assert (reward(images, ["a red circle", "a zebra"]) - expected).abs().max() < 1e-4
    # padding is masked: the same tokens without it
    alone = reward.model(known["img"][:1], ids[:1, :5], mask[:1, :5])
    assert (alone - expected[:1]).abs().max() < 1e-5


@pytest.mark.parametrize("size", [(32, 32), (64, 48), (40, 100)])
def test_images_are_prepared_as_pil_pictures_are(reward: ImageReward, size: tuple[int, int]) -> None:
    picture, tensor = photograph(size)
    expected = compose(Resize(32, InterpolationMode.BICUBIC), CenterCrop(32))(picture)
    # PIL rounds a resized picture to whole numbers, a tensor is not rounded
    assert (reward.pixels(tensor) - expected).abs().max() < 0.055


def test_texts_are_tokenized_once(reward: ImageReward, monkeypatch) -> None:
    images = torch.rand(3, 3, 40, 48, generator=torch.Generator().manual_seed(0))
    scores = reward(images, PROMPTS)
    assert scores[0] != scores[1]
    monkeypatch.setattr(reward.tokenizer, "ids", lambda _: pytest.fail("the text was tokenized again"))
    assert torch.equal(reward(images, PROMPTS), scores)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_agrees_and_keeps_gradients(reward: ImageReward, folder: Path, dtype: torch.dtype) -> None:
    half = ImageReward(ImageRewardOptions(weights=str(folder)), dtype=dtype)
    images = torch.rand(3, 3, 32, 32, generator=torch.Generator().manual_seed(0)).requires_grad_()
    scores, expected = half(images, PROMPTS), reward(images, PROMPTS)
    assert scores.dtype == torch.float32
    assert (scores - expected).abs().max() < 0.1 * expected.std()
    assert half.model.head[0].weight.dtype == torch.float32
    (gradient,), (wanted,) = (torch.autograd.grad(s.sum(), images) for s in (scores, expected))
    assert torch.nn.functional.cosine_similarity(gradient.flatten(), wanted.flatten(), dim=0) > 0.99


def test_a_prompt_that_is_too_long_warns(reward: ImageReward) -> None:
    with pytest.warns(UserWarning, match="longer than the 35 tokens of the reward imagereward"):
        reward(torch.rand(1, 3, 32, 32), ["a red circle and " * 20])


@pytest.mark.slow
def test_it_steers(folder: Path) -> None:
    result = Sampler(tiny_sd()).generate(
        "a red circle", methods=["fk"], particles=3, steps=4, seed=1, reward="imagereward",
        options={"imagereward": {"weights": str(folder)}, "fk": {"lambda": 5.0, "start": 0, "end": 1}},
    )  # fmt: skip
    (scores,) = result.rewards
    assert len(set(scores)) > 1


def test_without_weights_the_message_names_the_file_and_the_ways_to_get_it(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(
        SteerError,
        match=r"imagereward needs ImageReward.pt of THUDM/ImageReward \(1.8 GB\).*`steer download imagereward`.*"
        r"-o imagereward.weights=PATH",
    ):
        ImageReward()


@pytest.mark.slow
def test_damaged_and_foreign_files_are_named(folder: Path, tmp_path: Path) -> None:
    whole = (folder / "ImageReward.pt").read_bytes()
    bad = tmp_path / "ImageReward.pt"
    bad.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(SteerError, match=r"checkpoint .*ImageReward.pt cannot be read"):
        ImageReward(ImageRewardOptions(weights=str(bad)))
    bad.write_bytes(whole)  # of the right kind, but not of ViT-L's size, and no config.json says so
    with pytest.raises(SteerError, match=r"does not fit ImageRewardModel: \d+ missing"):
        ImageReward(ImageRewardOptions(weights=str(bad)))
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    with pytest.raises(SteerError, match="is not a BLIP configuration"):
        ImageReward(ImageRewardOptions(weights=str(bad)))
    words = tmp_path / "vocab.txt"
    words.write_text("\n".join((folder / "vocab.txt").read_text().splitlines()[:30]))
    with pytest.raises(SteerError, match=r"vocab.txt has 30 words, but the model of imagereward knows 38"):
        ImageReward(ImageRewardOptions(weights=str(folder), vocabulary=str(words)))
    with pytest.raises(SteerError, match="imagereward takes no argument, got 'large'"):
        ImageReward(argument="large")
