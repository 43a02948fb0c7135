"""BLIP-VQA against numbers of the reference implementation, and the two rewards that ask it."""

from __future__ import annotations

import gc
import json
from pathlib import Path

import pytest
import torch
from support.reward_models import BERT_WORDS, blip_config, blip_vqa_folder, compose, fixture, layout, photograph, scenes
from support.tiny import tiny_sd
from torchvision.transforms import InterpolationMode, Resize

from steer import Prompt, Sampler, SteerError
from steer.testing import check_reward
from steer_rewards import blip, blip_vqa, checkpoints
from steer_rewards.blip_vqa import BlipVqaOptions, build, first_word, key_map, load
from steer_rewards.bvqa import Bvqa
from steer_rewards.da import Da

CPU = torch.device("cpu")
FILE = "model_base_vqa_capfilt_large.pth"
PROMPTS = ["a red circle", "two blue squares to the left of a star", "a red circle and a green triangle"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return blip_vqa_folder(tmp_path_factory.mktemp("blip-vqa"))


@pytest.fixture(scope="module")
def da(folder: Path) -> Da:
    return Da(BlipVqaOptions(weights=str(folder)))


@pytest.fixture(scope="module")
def bvqa(folder: Path) -> Bvqa:
    return Bvqa(BlipVqaOptions(weights=str(folder)))


@pytest.fixture(scope="module")
def images() -> torch.Tensor:
    return torch.rand(3, 3, 40, 36, generator=torch.Generator().manual_seed(0))


@pytest.mark.slow
def test_answers_and_gradients_are_the_references(folder: Path) -> None:
    _, known = fixture("blip_vqa")
    model = load(folder / FILE, CPU, torch.float32)
    pixels = known["img"].clone().requires_grad_()
    embedded = model.vision_model(pixel_values=pixels).last_hidden_state
    logits = first_word(model, embedded, known["q"], 38)
    (gradient,) = torch.autograd.grad(logits.softmax(dim=1)[:, 7].sum(), pixels)
    assert (embedded - known["e"]).abs().max() < 1e-5
    assert (logits - known["logits"]).abs().max() < 1e-5
    assert (gradient - known["g"]).abs().max() < 1e-4 * known["g"].abs().max()


@pytest.mark.slow
def test_the_key_map_covers_the_published_checkpoint() -> None:
    published = layout("blip_vqa")
    expected = checkpoints.shapes_of(build(blip.config("base", 480)))
    assert {key_map(name): shape for name, shape in published.items() if key_map(name)} == expected
    assert {name for name in published if key_map(name) is None} == {
        "text_encoder.embeddings.position_ids", "text_decoder.bert.embeddings.position_ids",
    }  # fmt: skip


@pytest.mark.slow  # dozens of calls
@pytest.mark.parametrize("name", ["da", "bvqa"])
def test_they_keep_the_contract_of_a_reward(name: str, request) -> None:
    check_reward(request.getfixturevalue(name), *scenes(), name=name).require()


@pytest.mark.slow
def test_da_is_the_mean_of_yes_and_bvqa_the_product_against_no(da: Da, bvqa: Bvqa, images: torch.Tensor) -> None:
    da_expected, bvqa_expected = [], []
    for row, prompt in enumerate(PROMPTS):
        embedded = da.embed(images[row : row + 1])
        # question by question, so that no other has any part in it
        yes = [da.answers(embedded, [0], [q])[0].softmax(0)[da.tokenizer.yes] for q in da.questions(prompt)]
        da_expected.append(torch.stack(yes).mean())
        both = [bvqa.answers(embedded, [0], [q])[0].softmax(0) for q in bvqa.questions(prompt)]
        share = [p[bvqa.tokenizer.yes] / (p[bvqa.tokenizer.yes] + p[bvqa.tokenizer.no]) for p in both]
        bvqa_expected.append(torch.stack(share).prod())
    assert torch.allclose(da(images, PROMPTS), torch.stack(da_expected), atol=1e-6)
    assert torch.allclose(bvqa(images, PROMPTS), torch.stack(bvqa_expected), atol=1e-6)
    assert da.questions(PROMPTS[1])[1] == "are the two blue squares to the left of the star?"
    assert bvqa.questions(PROMPTS[1]) == ["two blue squares?", "a star?"]


@pytest.mark.parametrize("size", [(32, 32), (64, 48), (40, 100)])
def test_images_are_prepared_as_pil_pictures_are(da: Da, size: tuple[int, int]) -> None:
    picture, tensor = photograph(size)
    assert (da.pixels(tensor) - compose(Resize((32, 32), InterpolationMode.BICUBIC))(picture)).abs().max() < 0.055


def test_a_question_begins_with_enc_and_an_answer_with_dec(da: Da) -> None:
    first, *rest = da._ids("is there a red circle?")
    assert [BERT_WORDS[token] for token in rest] == [*["is", "there", "a", "red", "circle", "?"], "[SEP]"]
    assert first == 39
    assert (da.tokenizer.answer_start, da.tokenizer.question_start) == (38, 39)
    assert (da.tokenizer.yes, da.tokenizer.no) == (5, 6)


def test_many_questions_go_in_groups_of_one_length(da: Da, images: torch.Tensor, monkeypatch) -> None:
    whole = da(images, PROMPTS)
    seen = []
    monkeypatch.setattr(
        blip_vqa, "first_word", lambda model, e, ids, start: seen.append(ids.shape) or first_word(model, e, ids, start)
    )
    monkeypatch.setattr(blip_vqa, "PAIRS", 2)
    assert torch.allclose(da(images, PROMPTS), whole, atol=1e-6)
    assert all(count <= 2 for count, _ in seen) and len({length for _, length in seen}) > 1


def test_questions_of_the_prompt_go_before_the_rules(da: Da, images: torch.Tensor) -> None:
    asked = Prompt("a red circle", metadata={"questions": ["is there a star in the image?"]})
    other = Prompt("a blue circle", metadata={"assertions": ["a star"]})
    scores = da(images[:1].expand(3, -1, -1, -1), [asked, other, "a star"])
    assert torch.allclose(scores[0], scores[1:], atol=1e-6)
    assert da(images[:1], ["a red circle"]) != scores[0]
    with pytest.raises(SteerError, match=r"'a bear' \(id b\): got str as 'questions', expected a list of texts"):
        da(images[:1], [Prompt("a bear", id="b", metadata={"questions": "is there a bear?"})])


def test_a_prompt_without_content_is_asked_about_as_a_whole(da: Da, bvqa: Bvqa, images: torch.Tensor) -> None:
    assert da.questions("!!!") == bvqa.questions("!!!") == ["does this image show !!!?"]
    for reward in (da, bvqa):
        assert reward(images[:1], ["!!!"]).isfinite().all()


@pytest.mark.slow
def test_two_rewards_share_one_model(da: Da, bvqa: Bvqa, folder: Path) -> None:
    assert da.model is bvqa.model
    other = Da(BlipVqaOptions(weights=str(folder)), dtype=torch.bfloat16)
    assert other.model is not da.model
    count = len(blip_vqa._loaded)
    del other
    gc.collect()
    assert len(blip_vqa._loaded) == count - 1


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_agrees_and_keeps_gradients(da: Da, folder: Path, images, dtype: torch.dtype) -> None:
    half = Da(BlipVqaOptions(weights=str(folder)), dtype=dtype)
    pixels = images.clone().requires_grad_()
    scores, expected = half(pixels, PROMPTS), da(pixels, PROMPTS)
    assert scores.dtype == torch.float32
    assert torch.allclose(scores, expected, rtol=0.15)
    (gradient,), (wanted,) = (torch.autograd.grad(s.sum(), pixels) for s in (scores, expected))
    assert torch.nn.functional.cosine_similarity(gradient.flatten(), wanted.flatten(), dim=0) > 0.98


@pytest.mark.slow
@pytest.mark.parametrize("file", ["model.safetensors", "pytorch_model.bin"])
def test_a_conversion_to_transformers_scores_the_same(da: Da, images, tmp_path: Path, file: str) -> None:
    state = {name: tensor.clone() for name, tensor in da.model.state_dict().items()}
    (tmp_path / "config.json").write_text(json.dumps(blip_config(32, vision_eps=1e-5)))
    (tmp_path / "vocab.txt").write_text(Path(da_vocabulary(da)).read_text())
    if file.endswith(".bin"):  # of transformers before 4.31, with positions as a tensor
        state["text_encoder.embeddings.position_ids"] = torch.arange(64)[None]
        torch.save(state, tmp_path / file)
    else:  # stores tied tensors once
        from safetensors.torch import save_file

        for name in ("weight", "bias"):
            del state[f"text_decoder.cls.predictions.decoder.{name}"]
        save_file(state, tmp_path / file)
    converted = Da(argument=str(tmp_path))
    assert torch.equal(converted(images, PROMPTS), da(images, PROMPTS))


def da_vocabulary(da: Da) -> str:
    return str(Path(da.options.weights or "") / "vocab.txt")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["da", "bvqa"])
def test_they_steer(folder: Path, name: str) -> None:
    result = Sampler(tiny_sd()).generate(
        "a red circle", methods=["fk"], particles=3, steps=4, seed=1, reward=name,
        options={name: {"weights": str(folder)}, "fk": {"lambda": 5.0, "start": 0, "end": 1}},
    )  # fmt: skip
    assert all(0 <= score <= 1 for score in result.rewards[0])


@pytest.mark.slow
def test_damaged_and_foreign_files_are_named(folder: Path, tmp_path: Path) -> None:
    whole = (folder / FILE).read_bytes()
    bad = tmp_path / FILE
    bad.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(SteerError, match=rf"checkpoint .*{FILE} cannot be read"):
        Da(BlipVqaOptions(weights=str(bad)))
    state = fixture("blip_vqa")[0]
    del state["visual_encoder.pos_embed"]
    torch.save({"model": state}, bad)
    (tmp_path / "config.json").write_text((folder / "config.json").read_text())
    with pytest.raises(SteerError, match=r"does not fit .*: 1 missing: vision_model.embeddings.position_embedding"):
        Da(BlipVqaOptions(weights=str(bad)))
    words = tmp_path / "vocab.txt"
    words.write_text((folder / "vocab.txt").read_text().replace("yes", "oui"))
    with pytest.raises(SteerError, match=r"vocab.txt has 'yes' as word None.*not bert-base-uncased's"):
        Da(BlipVqaOptions(weights=str(folder), vocabulary=str(words)))
    with pytest.raises(SteerError, match=r"da and bvqa have no model 'salesforce'; expected ORG/MODEL"):
        Da(argument="salesforce")
    with pytest.raises(SteerError, match=r"got both da:.* and -o da.weights=x; give one of the two"):
        Da(BlipVqaOptions(weights="x"), argument=str(folder))


def test_the_real_vocabulary_must_have_the_real_numbers(tmp_path: Path) -> None:
    words = [f"w{number}" for number in range(30522)]
    words[0:5] = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    words[2748], words[2053] = "yes", "no"
    file = tmp_path / "vocab.txt"
    file.write_text("\n".join(words))
    found = blip.Tokenizer(file, 30524, "da")
    assert (found.yes, found.no, found.answer_start, found.question_start) == (2748, 2053, 30522, 30523)
    words[2748], words[2749] = words[2749], words[2748]
    file.write_text("\n".join(words))
    with pytest.raises(SteerError, match="has 'yes' as word 2749, expected 2748"):
        blip.Tokenizer(file, 30524, "da")
