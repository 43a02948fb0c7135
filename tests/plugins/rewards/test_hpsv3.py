"""HPSv3 against numbers of the reference implementation, and its text, images and files."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path

import pytest
import torch
from huggingface_hub import constants
from safetensors.torch import save_file
from support.reward_models import fixture, hpsv3_folder, layout, photograph, scenes
from transformers import Qwen2VLImageProcessor

from steer import SteerError
from steer.testing import check_reward
from steer_rewards import checkpoints
from steer_rewards.hpsv3 import INSTRUCTION, PUBLISHED, Hpsv3, Hpsv3Options, Preference, key_map, prepared

PROMPTS = ["a red circle", "two blue square and a circle", "a red circle"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return hpsv3_folder(tmp_path_factory.mktemp("hpsv3"))


@pytest.fixture(scope="module")
def hpsv3(folder: Path) -> Hpsv3:
    return Hpsv3(Hpsv3Options(weights=str(folder)))


@pytest.fixture(scope="module")
def images() -> torch.Tensor:
    return torch.rand(3, 3, 40, 36, generator=torch.Generator().manual_seed(0))


@pytest.mark.slow
def test_scores_and_gradients_are_the_references(hpsv3: Hpsv3) -> None:
    _, known = fixture("hpsv3")
    pixels = known["pixels"].clone().requires_grad_()
    read = (known["ids"] == hpsv3.model.reward).int().argmax(dim=1)
    scores = hpsv3.model(known["ids"], known["mask"], read, pixels, known["grid"])
    (gradient,) = torch.autograd.grad(scores.sum(), pixels)
    assert (scores - known["out"][:, 0]).abs().max() < 1e-5
    assert (gradient - known["grad"]).abs().max() < 1e-4 * known["grad"].abs().max()


@pytest.mark.slow  # lays out the published network
def test_the_key_map_covers_the_published_checkpoint() -> None:
    from transformers import Qwen2VLConfig

    published = layout("hpsv3")
    words = published["model.embed_tokens.weight"][0]
    with checkpoints.empty():
        model = Preference(Qwen2VLConfig.from_dict({**PUBLISHED, "vocab_size": words}), words - 1)
    mapped = {key_map(name): shape for name, shape in published.items() if key_map(name)}
    assert mapped == checkpoints.shapes_of(model)
    assert {name for name in published if key_map(name) is None} == {"lm_head.weight"}


def test_the_instruction_is_the_published_one_letter_by_letter() -> None:
    text = INSTRUCTION.replace("{prompt}", "P {x")
    assert hashlib.sha256(text.encode()).hexdigest() == (
        "41f22b67767be360a52f31d8da40749aab977c9662425b9ab654025817e0af55"
    )


@pytest.mark.slow
@pytest.mark.parametrize("size", [(512, 512), (64, 64), (300, 700), (28, 56), (448, 448), (1000, 90)])
def test_images_are_prepared_as_qwens_processor_does(hpsv3: Hpsv3, size: tuple[int, int]) -> None:
    picture, tensor = photograph(size)
    pixels = 256 * 28 * 28
    processor = Qwen2VLImageProcessor(min_pixels=pixels, max_pixels=pixels)
    ours = prepared(tensor, hpsv3.model.side)
    expected = processor(picture, return_tensors="pt")
    assert expected["image_grid_thw"].tolist() == [[1, ours.shape[2] // 14, ours.shape[3] // 14]]
    assert (hpsv3.model.patches(ours) - expected["pixel_values"]).abs().max() < 0.055


@pytest.mark.thorough
@pytest.mark.slow
def test_it_keeps_the_contract_of_a_reward(hpsv3: Hpsv3) -> None:
    report = check_reward(hpsv3, *scenes(2), name="hpsv3", batch=2).require()
    assert any(check.name == "gradient" and check.status == "passed" for check in report.checks)


@pytest.mark.slow
def test_a_longer_prompt_beside_it_changes_no_score(hpsv3: Hpsv3, images: torch.Tensor) -> None:
    together = hpsv3(images, PROMPTS)
    alone = torch.cat([hpsv3(images[i : i + 1], PROMPTS[i : i + 1]) for i in range(3)])
    assert torch.allclose(together, alone, atol=1e-5)
    assert together.std() > 1e-4


@pytest.mark.slow
def test_bf16_keeps_the_head_in_fp32_and_fp16_is_refused(hpsv3: Hpsv3, folder: Path, images: torch.Tensor) -> None:
    half = Hpsv3(Hpsv3Options(weights=str(folder), dtype="bf16"))
    assert half.model.qwen.dtype == torch.bfloat16 and half.model.rm_head[0].weight.dtype == torch.float32
    assert torch.allclose(half(images, PROMPTS), hpsv3(images, PROMPTS), atol=0.1)
    with pytest.raises(SteerError, match="hpsv3 cannot run in fp16"):
        Hpsv3(dtype=torch.float16)


def test_marks_of_the_model_in_a_prompt_are_refused(hpsv3: Hpsv3, images: torch.Tensor) -> None:
    with pytest.raises(
        SteerError, match=r"hpsv3: prompt 'a <\|image_pad\|> b' holds <\|image_pad\|>, a mark of the model"
    ):
        hpsv3(images[:1], ["a <|image_pad|> b"])


def test_what_is_missing_or_does_not_fit_is_named(folder: Path, tmp_path: Path, monkeypatch) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(folder, copy)
    state = fixture("hpsv3")[0]
    del state["rm_head.5.bias"]
    save_file(state, copy / "HPSv3.safetensors")
    with pytest.raises(SteerError, match=r"does not fit Preference: 1 missing.*rm_head\.5\.bias"):
        Hpsv3(Hpsv3Options(weights=str(copy)))
    tokenizer = json.loads((folder / "tokenizer.json").read_text())
    del tokenizer["model"]["vocab"]["word3"]
    (copy / "tokenizer.json").write_text(json.dumps(tokenizer))
    with pytest.raises(SteerError, match=r"has 80 words in model\.embed_tokens\.weight, and the tokenizer 79 with"):
        Hpsv3(Hpsv3Options(weights=str(copy)))
    (copy / "tokenizer.json").write_text("{")
    with pytest.raises(SteerError, match="cannot be read as a tokenizer"):
        Hpsv3(Hpsv3Options(weights=str(copy)))
    (copy / "tokenizer.json").unlink()
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(SteerError, match=r"hpsv3 needs tokenizer\.json of Qwen/Qwen2-VL-7B-Instruct \(7\.0 MB\)"):
        Hpsv3(Hpsv3Options(weights=str(copy)))
    with pytest.raises(
        SteerError, match=r"hpsv3 needs HPSv3\.safetensors of MizzenAI/HPSv3 \(16\.6 GB\).*download hpsv3`"
    ):
        Hpsv3()
    with pytest.raises(SteerError, match="hpsv3 takes no argument, got 'v4'"):
        Hpsv3(argument="v4")
