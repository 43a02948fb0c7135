"""Textual inversion: files of every form give a word its embeddings."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from support.families.flux import tiny_dev
from support.families.sd import tiny_sd3, tiny_sdxl
from support.tiny import tiny_sd

from steer import Sampler, SteerError
from steer.models import embeddings
from steer.models.options import ModelOptions

VECTORS = torch.randn(2, 32, generator=torch.Generator().manual_seed(4))


def image(pipe: Any, text: str, *given: tuple[str, str], **settings: Any) -> torch.Tensor:
    sampler = Sampler(pipe, model_options=ModelOptions(embeddings=given))
    noise = torch.randn(1, *sampler.backbone.latent_shape(None, None), generator=torch.Generator().manual_seed(0))
    return sampler.sample(noise, text, steps=2, **settings)


def written(form: str, folder: Path) -> Path:
    file = folder / f"word.{'safetensors' if form in ('emb_params', 'token') else 'pt'}"
    if form == "emb_params":
        save_file({"emb_params": VECTORS}, file)
    elif form == "token":
        save_file({"<thing>": VECTORS}, file)
    elif form == "diffusers .bin":
        torch.save({"<thing>": VECTORS}, file)
    else:
        params: Any = {"*": VECTORS} if form == "a1111" else torch.nn.ParameterDict({"*": torch.nn.Parameter(VECTORS)})
        torch.save({"string_to_token": {"*": 265}, "string_to_param": params, "name": "thing", "step": 3}, file)
    return file


@pytest.mark.slow
@pytest.mark.parametrize("form", ["emb_params", "token", "diffusers .bin", "a1111", "first trainers"])
def test_a_word_has_the_embeddings_of_its_file(form: str, tmp_path: Path) -> None:
    file = written(form, tmp_path)
    stock = tiny_sd()
    stock.load_textual_inversion({"word": VECTORS}, token="word")
    wanted = image(stock, "a word circle")
    found = image(tiny_sd(), "a word circle", (str(file), "word"))
    assert torch.equal(found, wanted)
    assert not torch.equal(image(tiny_sd(), "a word circle"), wanted)
    weighed = image(tiny_sd(), "a (word:1.3) circle", (str(file), "word"), prompt_syntax="a1111")
    assert not torch.allclose(weighed, wanted, atol=1e-5)
    assert torch.equal(image(tiny_sd(), "a word circle", (str(file), "word"), prompt_syntax="a1111"), wanted)


@pytest.mark.slow
def test_sdxl_has_one_for_each_text_encoder(tmp_path: Path) -> None:
    other = VECTORS.flip(0)
    save_file({"clip_l": VECTORS, "clip_g": other}, tmp_path / "word.safetensors")
    stock = tiny_sdxl()
    stock.tokenizer_2 = type(stock.tokenizer)(vocab=stock.tokenizer.get_vocab(), merges=[], model_max_length=16)
    pipe = tiny_sdxl()
    pipe.tokenizer_2 = stock.tokenizer_2.__class__(vocab=pipe.tokenizer.get_vocab(), merges=[], model_max_length=16)
    for tensor, encoder, tokenizer in (
        (VECTORS, stock.text_encoder, stock.tokenizer), (other, stock.text_encoder_2, stock.tokenizer_2),
    ):  # fmt: skip
        stock.load_textual_inversion({"word": tensor}, token="word", text_encoder=encoder, tokenizer=tokenizer)
    given = (str(tmp_path / "word.safetensors"), "word")
    assert torch.equal(image(pipe, "a word circle", given), image(stock, "a word circle"))


@pytest.mark.slow
def test_mistakes_are_one_line(tmp_path: Path) -> None:
    def said(pipe: Any, file: Path, token: str = "word") -> str:
        with pytest.raises(SteerError) as caught:
            image(pipe, "a word", (str(file), token))
        assert "\n" not in str(caught.value)
        return str(caught.value)

    file = written("token", tmp_path)
    assert "does not exist" in said(tiny_sd(), tmp_path / "nothing.pt")
    assert "takes no embeddings" in said(tiny_sd3(), file)
    assert "the word 'circle</w>' cannot be added" in said(tiny_sd(), file, "circle</w>")
    save_file({"x": torch.zeros(1, 7)}, tmp_path / "other.safetensors")
    assert "is 7 wide, which fits no text encoder" in said(tiny_sd(), tmp_path / "other.safetensors")
    assert "is 7 wide, which fits no text encoder" in said(tiny_dev(), tmp_path / "other.safetensors")
    torch.save({"x": print}, tmp_path / "code.pt")
    assert "no pickle of tensors alone" in said(tiny_sd(), tmp_path / "code.pt")
    torch.save({"string_to_param": [1]}, tmp_path / "list.pt")
    assert "holds no embedding" in said(tiny_sd(), tmp_path / "list.pt")
    save_file({"a": torch.zeros(1, 32), "b": torch.zeros(1, 32)}, tmp_path / "two.safetensors")
    assert "holds no embedding" in said(tiny_sd(), tmp_path / "two.safetensors")


def test_names_are_parsed_and_survive_the_recipe(tmp_path: Path) -> None:
    parsed = embeddings.parse(["a/easynegative.pt", "b.safetensors:<cat>"])
    assert parsed == (("a/easynegative.pt", "easynegative"), ("b.safetensors", "<cat>"))
    with pytest.raises(SteerError, match="the token being one word"):
        embeddings.parse(["b.safetensors:two words"])
    options = ModelOptions(embeddings=parsed)
    assert ModelOptions.from_dict(options.as_dict()) == options
