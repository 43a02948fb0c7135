"""What is particular to Flux: room for texts, guidance as an input or distilled away, LoRAs, previews."""

from __future__ import annotations

import functools
import re
import warnings
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
from diffusers import AutoencoderTiny
from support.families import Family, flux, flux2
from support.tiny import brightness

from steer import Sampler, SteerError
from steer.models.encoded_prompts import Conditioning
from steer.models.load import load_model
from steer.models.options import ModelOptions
from steer.prompts.prompt import Prompt
from steer.registry.plugins import manager
from steer.sampling.hooks import make_run
from steer.sampling.state import State

DEV, _, SCHNELL = flux.FAMILIES
DEV2, KLEIN = flux2.FAMILIES
TEXT = "a blue square and a circle"
each_encoder = pytest.mark.parametrize("family", [DEV, DEV2, KLEIN], ids=lambda family: family.name)


made = functools.lru_cache(maxsize=2)(lambda make: make())


def pipeline(family: Family) -> Any:
    return made(family.make)


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give texts little room, for speed."""
    monkeypatch.setattr("steer.models.families.flux.Flux.text_tokens", flux2.ROOM)


def run(family: Family, **settings: Any) -> State:
    width, height = family.size
    given = {"steps": 2, "width": width, "height": height, **settings}
    return make_run(load_model(pipeline(family), manager()).backbone, [Prompt(TEXT, seed=5)], settings=given).search()


def stock(family: Family, **keywords: Any) -> torch.Tensor:
    width, height = family.size
    latents = pipeline(family)(
        prompt=TEXT, num_inference_steps=2, width=width, height=height, output_type="latent",
        generator=torch.Generator().manual_seed(5), **keywords,
    ).images  # fmt: skip
    return family.spatial(latents)


@pytest.mark.slow
@each_encoder
def test_a_call_without_options_is_stocks(family: Family) -> None:
    """At the full room for texts, the family's own guidance and schedule."""
    assert torch.allclose(run(family).x, stock(family), atol=1e-5)


@pytest.mark.slow
@each_encoder
def test_a_text_beyond_the_room_of_the_encoder_is_shown(family: Family, short: None) -> None:
    backbone = load_model(pipeline(family), manager()).backbone
    with pytest.warns(UserWarning, match="the text encoder takes") as caught:
        backbone.encode_one(Prompt("circle " * 100), None)
    room = int(re.search(r"takes (\d+)", str(caught[0].message))[1])
    kept = "a" + " circle" * (room - 1)  # the tokenizers have one token for each of these
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        whole, _ = backbone.encode_one(Prompt(kept), None)
    with pytest.warns(UserWarning, match=rf"has {room + 1} tokens, .* takes {room}; cut off: ' ?square'"):
        cut, _ = backbone.encode_one(Prompt(f"{kept} square"), None)
    assert torch.equal(cut["text"], whole["text"])


def test_guidance_that_schnell_does_not_take_warns(short: None) -> None:
    with pytest.warns(UserWarning, match="guidance_scale=5 has no effect: .* give --true-cfg"):
        given = run(SCHNELL, guidance_scale=5.0)
    assert torch.equal(given.x, run(SCHNELL, guidance_scale=0.0).x)


@pytest.mark.slow
def test_guidance_that_was_distilled_away_warns(short: None) -> None:
    pipe = pipeline(KLEIN)
    pipe.register_to_config(is_distilled=True)
    try:
        backbone = load_model(pipe, manager()).backbone
        assert (backbone.default_steps, backbone.default_guidance) == (4, 1.0)
        with pytest.warns(UserWarning, match="guidance_scale=4 has no effect: .* distilled"):
            given = run(KLEIN, guidance_scale=4.0)
        assert torch.equal(given.x, run(KLEIN).x)
    finally:
        pipe.register_to_config(is_distilled=False)


@pytest.mark.slow
def test_a_negative_prompt_of_klein_equals_stock_given_its_embedding(short: None) -> None:
    embedded, _ = pipeline(KLEIN).encode_prompt("a circle", max_sequence_length=flux2.ROOM)
    theirs = stock(KLEIN, guidance_scale=4.0, max_sequence_length=flux2.ROOM, negative_prompt_embeds=embedded)
    ours = run(KLEIN, guidance_scale=4.0, negative="a circle").x
    assert torch.allclose(ours, theirs, atol=1e-5)
    assert not torch.allclose(ours, run(KLEIN, guidance_scale=4.0).x, atol=1e-5)


@pytest.mark.slow
def test_true_cfg_of_flux2_extrapolates_from_the_negative_prompt(short: None) -> None:
    backbone = load_model(pipeline(DEV2), manager()).backbone
    both = backbone.encode([Prompt(TEXT)], ["a circle"], 3.0, embedded_scale=4.0)
    x = torch.randn(1, *backbone.latent_shape(16, 24), generator=torch.Generator().manual_seed(0))
    timestep = torch.tensor(700.0)
    positive, negative = (
        backbone.predict("base", x, timestep, Conditioning(half, None, 1.0)) for half in (both.cond, both.uncond)
    )
    guided = backbone.predict("base", x, timestep, both)
    assert torch.allclose(guided, negative + 3 * (positive - negative), atol=1e-5)
    assert not torch.allclose(positive, negative, atol=1e-3)


def test_true_cfg_is_refused_where_guidance_is_cfg(short: None) -> None:
    with pytest.raises(SteerError, match="true_cfg_scale=3 is for models that take guidance_scale as an input"):
        run(KLEIN, true_cfg_scale=3.0)


def test_the_image_says_which_scale_is_which(short: None) -> None:
    settings = {"steps": 1, "width": 16, "height": 24, "guidance_scale": 5.0, "true_cfg_scale": 3.0}
    recipe = Sampler(pipeline(DEV)).generate(TEXT, **settings).items[0].recipe
    assert "CFG scale: 3.0, Distilled CFG Scale: 5.0," in recipe.parameters(0)


def lora_of(family: Family, folder: Path) -> Path:
    pipe = family.make()
    pipe.transformer.add_adapter(peft.LoraConfig(r=2, lora_alpha=2, target_modules=["to_q", "to_k", "proj_out"]))
    torch.manual_seed(1)
    for name, parameter in pipe.transformer.named_parameters():
        if "lora_" in name:
            torch.nn.init.normal_(parameter, std=0.3)
    layers = peft.utils.get_peft_model_state_dict(pipe.transformer)
    pipe.save_lora_weights(folder, transformer_lora_layers=layers)
    return folder


@pytest.mark.slow  # loads three models
@pytest.mark.parametrize("family", [DEV, DEV2], ids=lambda family: family.name)
def test_a_lora_changes_the_latents_by_its_weight(family: Family, short: None, tmp_path: Path) -> None:
    folder = str(lora_of(family, tmp_path))

    def image(*weights: float) -> torch.Tensor:
        options = ModelOptions(loras=tuple((folder, weight) for weight in weights), attention="native")
        sampler = Sampler(family.make(), model_options=options)
        noise = torch.randn(1, *sampler.backbone.latent_shape(16, 24), generator=torch.Generator().manual_seed(0))
        return sampler.sample(noise, TEXT, steps=2, width=16, height=24)

    none, one = image(), image(1.0)
    assert (one - none).abs().max() > 1e-3
    assert torch.allclose(image(0.5, 0.5), one, atol=1e-5)


@pytest.mark.slow
def test_a_preview_decoder_takes_the_latents_unpacked(short: None, tmp_path: Path) -> None:
    AutoencoderTiny(
        latent_channels=4, encoder_block_out_channels=(8, 8), decoder_block_out_channels=(8, 8),
        num_encoder_blocks=(1, 1), num_decoder_blocks=(1, 1),
    ).save_pretrained(tmp_path)  # fmt: skip
    sizes: list[tuple[int, ...]] = []

    def seen(samples: torch.Tensor, prompts: list[str]) -> torch.Tensor:
        sizes.append(tuple(samples.shape[1:]))
        return brightness(samples, prompts)

    sampler = Sampler(pipeline(DEV), model_options=ModelOptions(preview=str(tmp_path)))
    sampler.generate(TEXT, methods=["fk"], reward=seen, particles=2, steps=5, width=16, height=24, eta=1.0)
    assert len(sizes) > 1 and set(sizes) == {(3, 24, 16)}
    with pytest.raises(SteerError, match="takes latents of 4 channels, the model's have 16"):
        Sampler(pipeline(DEV2), model_options=ModelOptions(preview=str(tmp_path)))
