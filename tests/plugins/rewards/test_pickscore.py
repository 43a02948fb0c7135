"""PickScore against transformers' own ``logits_per_image``, with its image processor and its tokenizer."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import open_clip
import pytest
import torch
from support.reward_models import layout
from support.tiny_clips import PROMPTS, as_tensor, pictures, slope, transformers_folder, transformers_model
from transformers import CLIPImageProcessor, CLIPTokenizer

from steer import SteerError
from steer.testing import check_reward
from steer_rewards import checkpoints
from steer_rewards import transformers_clip as clip
from steer_rewards.pickscore import PickScore, PickScoreOptions, build


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return transformers_folder(tmp_path_factory.mktemp("pickscore"))


@pytest.fixture(scope="module")
def pickscore(folder: Path) -> PickScore:
    return PickScore(PickScoreOptions(weights=str(folder)))


@pytest.fixture(scope="module")
def tokenizer() -> CLIPTokenizer:
    """CLIP's tokenizer in transformers' class, from the byte pairs that open_clip ships."""
    file = Path(open_clip.tokenizer.__file__).with_name("bpe_simple_vocab_16e6.txt.gz")
    lines = gzip.decompress(file.read_bytes()).decode().split("\n")[1 : 49152 - 256 - 2 + 1]
    merges = [(left, right) for left, right in (line.split() for line in lines)]
    letters = list(open_clip.tokenizer.bytes_to_unicode().values())
    words = [*letters, *(letter + "</w>" for letter in letters), *("".join(merge) for merge in merges)]
    words += ["<|startoftext|>", "<|endoftext|>"]
    return CLIPTokenizer(vocab={word: number for number, word in enumerate(words)}, merges=merges)


@pytest.mark.slow
@pytest.mark.parametrize(("size", "tolerance"), [((32, 32), 1e-4), ((64, 49), 0.01), ((20, 43), 0.01)])
def test_scores_equal_logits_per_image(pickscore, tokenizer, size: tuple[int, int], tolerance: float) -> None:
    images = pictures(size)
    processor = CLIPImageProcessor(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32})
    inputs = dict(processor(images=images, return_tensors="pt"))
    inputs |= dict(tokenizer(PROMPTS, padding="max_length", max_length=77, truncation=True, return_tensors="pt"))
    with torch.no_grad():
        expected = transformers_model()(**inputs).logits_per_image.diagonal()
    scores = pickscore(as_tensor(images), PROMPTS)
    # the processor rounds a resized picture to whole numbers, a tensor is not rounded
    assert (scores - expected).abs().max() < tolerance
    assert expected.std() > 10 * tolerance


@pytest.mark.slow
def test_texts_become_the_tokens_of_transformers(pickscore: PickScore, tokenizer: CLIPTokenizer) -> None:
    texts = [
        "A photo of two Blue squares, left of it: 3 stars!", "naïve   café\n", "it's 1990's — “art” &amp; more",
        "cafe\u0301 ÅNGSTRÖM ２ 红色", "word " * 100, "",
    ]  # fmt: skip
    ours = pickscore.embedder.tokenizer(texts).tolist()
    theirs = tokenizer(texts, max_length=77, truncation=True)["input_ids"]
    for tokens, expected in zip(ours, theirs, strict=True):
        assert tokens[: len(expected)] == expected
        assert set(tokens[len(expected) :]) <= {0}


def test_gradients_agree_with_differences(pickscore: PickScore) -> None:
    image = as_tensor(pictures((40, 28)))[:1].clamp(0.05, 0.95)
    found, expected = slope(lambda images: pickscore(images, PROMPTS[:1]).sum(), image)
    assert found == pytest.approx(expected, rel=2e-2)
    assert abs(expected) > 1e-2


@pytest.mark.slow
def test_the_scale_of_scores_is_exact_in_half_precision(pickscore: PickScore, folder: Path) -> None:
    half = PickScore(PickScoreOptions(weights=str(folder), dtype="bf16"))
    assert half.model.visual_projection.weight.dtype == torch.bfloat16
    assert half.scale == pickscore.scale  # rounded to bf16, it would be off by up to 1.6%


def test_a_configuration_that_makes_no_model_is_named(folder: Path, tmp_path: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    config["vision_config"]["hidden_size"] = "wide"
    (tmp_path / "config.json").write_text(json.dumps(config))
    (tmp_path / "model.safetensors").symlink_to(folder / "model.safetensors")
    with pytest.raises(SteerError, match=r"config\.json does not describe a valid model \(.*hidden_size") as error:
        PickScore(PickScoreOptions(weights=str(tmp_path)))
    assert "\n" not in str(error.value)


@pytest.mark.slow  # dozens of calls
def test_it_keeps_the_contract_of_a_reward(pickscore: PickScore) -> None:
    check_reward(pickscore).require()


@pytest.mark.slow  # lays out the published network
def test_the_key_map_covers_the_published_checkpoint() -> None:
    published = layout("pickscore")
    mapped = {clip.key_map(name): shape for name, shape in published.items() if clip.key_map(name) is not None}
    assert mapped == checkpoints.shapes_of(build(clip.VIT_H))
    left_out = {name for name in published if clip.key_map(name) is None}
    assert left_out == {f"{half}_model.embeddings.position_ids" for half in ("text", "vision")}
    assert sum(shape.numel() for shape in mapped.values()) == 986_109_441


@pytest.mark.slow  # lays out the published network
def test_a_checkpoint_of_another_size_is_named(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").symlink_to(folder / "model.safetensors")
    with pytest.raises(SteerError, match=r"checkpoint .*model\.safetensors does not fit CLIPModel: \d+ missing"):
        PickScore(PickScoreOptions(weights=str(tmp_path)))  # no configuration beside it: it must be a ViT-H-14
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(SteerError, match=r"config\.json has no vision_config"):
        PickScore(PickScoreOptions(weights=str(tmp_path)))
    with pytest.raises(SteerError, match="pickscore takes no argument"):
        PickScore(argument="v2")
