"""VQAScore: CLIP-FlanT5 against numbers of the reference implementation, and models of transformers."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from huggingface_hub import constants
from PIL import Image
from safetensors.torch import load_file, save_file
from support.reward_models import (
    T5_WORDS,
    clip_flant5_config,
    clip_flant5_folder,
    compose,
    fixture,
    layout,
    llava_folder,
    photograph,
    qwen2_vl_folder,
    qwen3_vl_folder,
    scenes,
)  # fmt: skip
from support.tiny import tiny_sd
from torchvision.transforms import InterpolationMode, Resize

from steer import Sampler, SteerError
from steer.models.downloads import weights
from steer.registry.plugins import manager
from steer.sampling.methods_by_name import check_names
from steer.settings.options import build as build_options
from steer.testing import check_reward
from steer_rewards import checkpoints
from steer_rewards.clip_flant5 import build, key_map, load
from steer_rewards.image_text import ImageText
from steer_rewards.vqa import Vqa, VqaOptions

CPU = torch.device("cpu")
PROMPTS = ["a red circle", "two blue square and a circle", "a red circle"]
REAL = {"xl": (2048, 5120, 32), "xxl": (4096, 10240, 64)}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return clip_flant5_folder(tmp_path_factory.mktemp("clip-flant5"))


@pytest.fixture(scope="module")
def vqa(folder: Path) -> Vqa:
    return Vqa(argument=str(folder))


@pytest.fixture(scope="module")
def llava(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return llava_folder(tmp_path_factory.mktemp("llava"))


@pytest.fixture(scope="module")
def images() -> torch.Tensor:
    return torch.rand(3, 3, 40, 36, generator=torch.Generator().manual_seed(0))


@pytest.mark.slow
def test_scores_and_gradients_are_the_references(folder: Path) -> None:
    _, known = fixture("clip_flant5")
    model = load(folder, CPU, torch.float32)
    before, after = known["ids"][:, :4], known["ids"][:, 5:]
    assert (known["ids"][:, 4] == -200).all()
    pixels = known["img"].clone().requires_grad_()
    scores = model(pixels, before, after, (after != 0).long(), known["lab"][0], 60)
    (gradient,) = torch.autograd.grad(scores.sum(), pixels)
    assert (scores - known["out"]).abs().max() < 1e-5
    assert (gradient - known["g"]).abs().max() < 1e-4 * known["g"].abs().max()


def test_the_head_is_not_tied_to_the_embedding(folder: Path) -> None:
    state, _ = fixture("clip_flant5")
    model = load(folder, CPU, torch.float32)
    assert torch.equal(model.t5.lm_head.weight, state["lm_head.weight"])
    assert torch.equal(model.t5.shared.weight, state["shared.weight"])


@pytest.mark.slow  # lays out the published network
@pytest.mark.parametrize("name", ["xl", "xxl"])
def test_the_key_map_covers_the_published_checkpoints(name: str) -> None:
    width, inner, heads = REAL[name]
    sizes = {"d_model": width, "d_ff": inner, "d_kv": 64, "num_heads": heads, "num_layers": 24, "vocab_size": 32128}
    config = {**clip_flant5_config(), **sizes, "mm_hidden_size": 1024}
    del config["vision_config"]
    expected = checkpoints.shapes_of(build(config))
    published = layout(f"clip_flant5_{name}")
    mapped = {key_map(name): shape for name, shape in published.items() if key_map(name)}
    if any(name.startswith("vision.vision_model.") for name in expected):  # transformers 4
        mapped = {name.replace("vision.", "vision.vision_model.", 1): shape for name, shape in mapped.items()}
    assert mapped == expected
    assert {name for name in published if key_map(name) is None} == {"embed_tokens.weight"}


@pytest.mark.slow  # dozens of calls
def test_it_keeps_the_contract_of_a_reward(vqa: Vqa) -> None:
    report = check_reward(vqa, *scenes(), name="vqa").require()
    assert any(check.name == "gradient" and check.status == "passed" for check in report.checks)


def test_the_question_is_the_papers_tokenized_on_both_sides_of_the_image(vqa: Vqa) -> None:
    text = vqa.backend.text
    ids, mask = text.after(["a red circle"])
    words = [T5_WORDS[token] for token in ids[0].tolist()]
    # a newline, the question, " ASSISTANT: ", of which this tokenizer knows some words, and the end
    assert words[:9] == ["Does", "this", "figure", "show", '"', "a", "red", "circle", "<unk>"]
    assert words[-2:] == [":", "</s>"]
    assert [T5_WORDS[token] for token in text.before][-3:] == ["USER", ":", "</s>"]
    assert text.answer == [T5_WORDS.index("Yes"), 1]
    assert mask.all()
    long_ids, long_mask = text.after(["a red circle", "two blue square and a circle"])
    assert torch.equal(long_ids[0, : ids.shape[1]], ids[0]) and long_mask.sum(dim=1).tolist()[0] == ids.shape[1]


@pytest.mark.parametrize("size", [(32, 32), (64, 48), (40, 100)])
def test_images_are_prepared_as_pil_pictures_are(vqa: Vqa, size: tuple[int, int]) -> None:
    picture, tensor = photograph(size)
    square = Image.new("RGB", (max(size), max(size)), (122, 116, 104))
    square.paste(picture, ((max(size) - size[0]) // 2, (max(size) - size[1]) // 2))
    assert (vqa.backend.pixels(tensor) - compose(Resize(32, InterpolationMode.BICUBIC))(square)).abs().max() < 0.055


def test_texts_are_tokenized_once(vqa: Vqa, images: torch.Tensor, monkeypatch) -> None:
    scores = vqa(images, PROMPTS)
    monkeypatch.setattr(vqa.backend.text, "_ids", lambda _: pytest.fail("the text was tokenized again"))
    assert torch.equal(vqa(images, PROMPTS), scores)


@pytest.mark.slow
def test_bf16_agrees_and_fp16_is_refused(vqa: Vqa, folder: Path, images: torch.Tensor) -> None:
    half = Vqa(VqaOptions(dtype="bf16"), argument=str(folder))
    assert half.backend.model.t5.lm_head.weight.dtype == torch.bfloat16
    assert torch.allclose(half(images, PROMPTS), vqa(images, PROMPTS), rtol=0.1)
    with pytest.raises(SteerError, match="vqa cannot run in fp16, because T5 overflows; expected bf16 or fp32"):
        Vqa(argument=str(folder), dtype=torch.float16)
    with pytest.raises(SteerError, match=r"option vqa.dtype: got 'fp16', expected auto\|fp32\|bf16"):
        build_options(VqaOptions, {"dtype": "fp16"}, "vqa")


@pytest.mark.slow
def test_shards_and_safetensors_load_the_same(vqa: Vqa, folder: Path, images: torch.Tensor, tmp_path: Path) -> None:
    for name in ("config.json", "tokenizer.json"):
        shutil.copy(folder / name, tmp_path / name)
    state = {name: tensor.clone() for name, tensor in fixture("clip_flant5")[0].items()}
    for name in ("embed_tokens", "encoder.embed_tokens", "decoder.embed_tokens"):
        del state[f"{name}.weight"]  # stored once
    names = sorted(state)
    index = {}
    for number, part in enumerate((names[::2], names[1::2]), 1):
        file = f"model-0000{number}-of-00002.safetensors"
        save_file({name: state[name] for name in part}, tmp_path / file)
        index |= dict.fromkeys(part, file)
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": index}))
    assert torch.equal(Vqa(argument=str(tmp_path))(images, PROMPTS), vqa(images, PROMPTS))
    (tmp_path / "model-00002-of-00002.safetensors").unlink()
    with pytest.raises(SteerError, match="names the shard model-00002-of-00002"):
        Vqa(argument=str(tmp_path))


@pytest.mark.slow
def test_damaged_and_foreign_files_are_named(folder: Path, tmp_path: Path, monkeypatch) -> None:
    shutil.copytree(folder, tmp_path / "x")
    weights = tmp_path / "x" / "pytorch_model.bin"
    weights.write_bytes(weights.read_bytes()[:20000])
    with pytest.raises(SteerError, match=r"checkpoint .*pytorch_model.bin cannot be read"):
        Vqa(argument=str(tmp_path / "x"))
    torch.save({"other.weight": torch.zeros(2)}, weights)
    with pytest.raises(SteerError, match=r"does not fit ClipFlanT5Model: \d+ missing.*left over: t5.other.weight"):
        Vqa(argument=str(tmp_path / "x"))
    tokenizer = json.loads((folder / "tokenizer.json").read_text())
    tokenizer["model"]["vocab"]["Oui"] = tokenizer["model"]["vocab"].pop("Yes")
    (tmp_path / "other.json").write_text(json.dumps(tokenizer))
    with pytest.raises(SteerError, match=r"turns 'Yes' into \[2, 1\], expected one word and the end token 1"):
        Vqa(VqaOptions(tokenizer=str(tmp_path / "other.json")), argument=str(folder))
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(SteerError, match=r"vqa:xl needs zhiqiulin/clip-flant5-xl \(6.3 GB\).*`steer download vqa:xl`"):
        Vqa()
    with pytest.raises(SteerError, match=r"vqa has no model 'xll'; expected xl, xxl, ORG/MODEL of the hub"):
        Vqa(argument="xll")


@pytest.mark.slow
@pytest.mark.parametrize("model", ["folder", "llava"])
def test_it_steers(request, model: str) -> None:
    name = f"vqa:{request.getfixturevalue(model)}"
    result = Sampler(tiny_sd()).generate(
        "a red circle", methods=["fk"], particles=3, steps=4, seed=1, reward=name,
        options={"fk": {"lambda": 5.0, "start": 0, "end": 1}},
    )  # fmt: skip
    assert all(0 <= score <= 1 for score in result.rewards[0])


@pytest.mark.slow  # loads models of transformers
@pytest.mark.parametrize(
    "write",
    [qwen2_vl_folder, *(pytest.param(one, marks=pytest.mark.thorough) for one in (llava_folder, qwen3_vl_folder))],
)
def test_a_model_of_transformers_keeps_the_contract(write, tmp_path: Path) -> None:
    reward = Vqa(argument=str(write(tmp_path)))
    assert isinstance(reward.backend, ImageText) and reward.differentiable
    report = check_reward(reward, *scenes(), name=write.__name__).require()
    assert any(check.name == "gradient" and check.status == "passed" for check in report.checks)


def test_its_model_may_be_an_option_and_names_go_before_folders(folder: Path, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(weights, "cached", lambda needed: None)
    monkeypatch.setattr(weights, "reachable", lambda needed: False)
    check_names([], ["vqa"], {"vqa": {"model": str(folder)}}, manager())  # asks for nothing of the hub
    monkeypatch.chdir(tmp_path)
    (tmp_path / "xl").mkdir()
    with pytest.raises(SteerError, match="vqa:xl needs zhiqiulin/clip-flant5-xl"):
        Vqa()
    with pytest.raises(SteerError, match=r"got both vqa:.* and -o vqa.weights=x; give one of the two"):
        Vqa(VqaOptions(weights="x"), argument=str(folder))


@pytest.mark.slow
def test_it_answers_what_the_model_answers_alone(llava: Path, images: torch.Tensor) -> None:
    """P("Yes") among all tokens right after the chat's question, one picture at a time and without padding."""
    from transformers import AutoModelForImageTextToText, AutoProcessor

    processor, model = AutoProcessor.from_pretrained(llava), AutoModelForImageTextToText.from_pretrained(llava)
    expected = []
    for image, prompt in zip(images, PROMPTS, strict=True):
        text = f'USER: <image>\nDoes this figure show "{prompt}"? Please answer yes or no. ASSISTANT:'
        inputs = processor(images=image, text=text, return_tensors="pt", do_rescale=False)
        with torch.no_grad():
            logits = model(**inputs).logits[0, -1]
        expected.append(logits.softmax(0)[processor.tokenizer.convert_tokens_to_ids("Yes")])
    scores = Vqa(argument=str(llava))(images, PROMPTS)
    assert torch.allclose(scores, torch.stack(expected), atol=1e-6)
    assert scores.std() > 1e-4


@pytest.mark.slow
def test_a_processor_that_takes_pictures_only_is_not_called_differentiable(llava: Path, images, monkeypatch) -> None:
    from transformers import AutoProcessor
    from transformers.processing_utils import ProcessorMixin

    pil = AutoProcessor.from_pretrained(llava, backend="pil")
    monkeypatch.setattr(AutoProcessor, "from_pretrained", lambda *_, **__: pil)
    assert isinstance(pil, ProcessorMixin)
    reward = Vqa(argument=str(llava))
    assert not reward.differentiable
    check_reward(reward, images, PROMPTS, name="pil").require()
    monkeypatch.undo()
    assert torch.allclose(reward(images, PROMPTS), Vqa(argument=str(llava))(images, PROMPTS), rtol=0.05)


def test_a_broken_model_of_transformers_is_named(llava: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(llava, copy)
    file = copy / "model.safetensors"
    state = load_file(file)
    save_file({name: tensor for name, tensor in state.items() if "lm_head" not in name}, file, {"format": "pt"})
    with pytest.raises(SteerError, match=r"do not fit the model: 1 missing: lm_head\.weight"):
        Vqa(argument=str(copy))
    file.write_bytes(file.read_bytes()[:5000])
    with pytest.raises(SteerError, match="is not an image-text-to-text model that transformers can load"):
        Vqa(argument=str(copy))
