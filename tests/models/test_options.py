"""LoRAs, preview decoders, attention: what can be done to a model when it is loaded."""

from __future__ import annotations

import warnings
from pathlib import Path

import accelerate
import numpy as np
import pytest
import torch
from diffusers import AutoencoderTiny, StableDiffusionPipeline
from diffusers.utils import convert_state_dict_to_diffusers
from safetensors.torch import load_file, save_file
from support.tiny import brightness, tiny_sd

from steer import Prompt, Sampler, SteerError
from steer.models.common import overflow_safe
from steer.models.loras import parse as parse_loras
from steer.models.options import ModelOptions
from steer.sampling.gradient_by_noise import vjp
from steer.sampling.hooks import make_run

peft = pytest.importorskip("peft")


@pytest.fixture(scope="module")
def lora(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pipe = tiny_sd()
    pipe.unet.add_adapter(peft.LoraConfig(r=2, lora_alpha=2, target_modules=["to_q", "to_k"]))
    torch.manual_seed(1)
    for name, parameter in pipe.unet.named_parameters():
        if "lora_" in name:
            torch.nn.init.normal_(parameter, std=0.5)
    layers = convert_state_dict_to_diffusers(peft.utils.get_peft_model_state_dict(pipe.unet))
    folder = tmp_path_factory.mktemp("lora")
    pipe.save_lora_weights(folder, unet_lora_layers=layers)
    return folder


def image(options: ModelOptions) -> torch.Tensor:
    noise = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    return Sampler(tiny_sd(), model_options=options).sample(noise, "a red circle", steps=4)


@pytest.mark.slow  # loads four models
def test_a_lora_changes_the_image_by_its_weight(lora: Path) -> None:
    none = image(ModelOptions())
    zero = image(ModelOptions(loras=((str(lora), 0.0),)))
    one = image(ModelOptions(loras=((str(lora), 1.0),)))
    halves = image(ModelOptions(loras=((str(lora), 0.5), (str(lora), 0.5))))
    assert torch.allclose(zero, none, atol=1e-6)
    assert (one - none).abs().max() > 1e-3
    assert torch.allclose(one, halves, atol=1e-5)


def test_a_lora_that_does_not_fit_is_named(tmp_path: Path) -> None:
    save_file({"foreign.lora_A.weight": torch.zeros(2, 3)}, tmp_path / "foreign.safetensors")
    with pytest.raises(SteerError, match=r"foreign\.safetensors' does not fit StableDiffusionPipeline"):
        image(ModelOptions(loras=((str(tmp_path / "foreign.safetensors"), 1.0),)))
    with pytest.raises(SteerError, match="does not exist"):
        image(ModelOptions(loras=(("./nothing.safetensors", 1.0),)))


@pytest.mark.slow
def test_layers_of_a_lora_that_the_model_lacks_are_told(lora: Path, tmp_path: Path) -> None:
    (file,) = lora.glob("*.safetensors")
    tensors = load_file(file)
    layers = sum("lora_A" in name or "lora.down" in name for name in tensors)
    for name, tensor in list(tensors.items()):
        if "mid_block" in name:
            tensors[name.replace("mid_block", "down_blocks.7")] = tensor.clone()
    more = sum("lora_A" in name or "lora.down" in name for name in tensors)
    save_file(tensors, tmp_path / "more.safetensors")
    with pytest.warns(UserWarning, match=rf"{more - layers} of its {more} layers have no place in StableDiffusionPipe"):
        both = image(ModelOptions(loras=((str(tmp_path / "more.safetensors"), 1.0),)))
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        assert torch.equal(both, image(ModelOptions(loras=((str(lora), 1.0),))))


def test_lora_weights_are_parsed() -> None:
    assert parse_loras(["a.safetensors", "org/name:0.5", "C:lora"]) == (
        ("a.safetensors", 1.0), ("org/name", 0.5), ("C:lora", 1.0),
    )  # fmt: skip
    with pytest.raises(SteerError, match="expected PATH"):
        parse_loras([":0.5"])


def test_options_survive_the_recipe() -> None:
    import json

    options = ModelOptions(loras=(("x", 0.5),), vae_memory=("tiling",), preview="taesd")
    assert ModelOptions.from_dict(json.loads(json.dumps(options.as_dict()))) == options


@pytest.mark.slow
def test_a_preview_decoder_scores_on_the_way_but_not_at_the_end(tmp_path: Path) -> None:
    AutoencoderTiny(latent_channels=4).save_pretrained(tmp_path)
    seen: list[tuple[int, ...]] = []

    def brightness(samples: torch.Tensor, prompts: list[str]) -> torch.Tensor:
        seen.append(tuple(samples.shape[1:]))
        return samples.mean(dim=(1, 2, 3))

    sampler = Sampler(tiny_sd(), model_options=ModelOptions(preview=str(tmp_path)))
    sampler.generate("a red circle", methods=["fk"], reward=brightness, particles=2, steps=5)
    assert set(seen[:-1]) == {(3, 64, 64)}  # AutoencoderTiny scales by 8, the tiny model's own decoder by 2
    assert seen[-1] == (3, 16, 16)


@pytest.mark.slow
def test_a_model_may_have_a_preview_decoder_of_its_own(tmp_path: Path) -> None:
    own = ModelOptions(preview="own")
    with pytest.raises(SteerError, match=r"own preview decoder of a pipeline in memory is not known; give a hub id or"):
        Sampler(tiny_sd(), model_options=own)
    tiny_sd().save_pretrained(tmp_path)
    with pytest.raises(SteerError, match=r"own preview decoder is missing: no folder 'preview'; give a hub id"):
        Sampler(tmp_path, model_options=own)
    AutoencoderTiny(latent_channels=4).save_pretrained(tmp_path / "preview")
    sampler = Sampler(tmp_path, model_options=own)
    assert sampler.model.preview(torch.zeros(1, 4, 8, 8)).shape == (1, 3, 64, 64)
    assert "preview" in sampler.model.weights


def test_a_known_preview_decoder_is_refused_by_families_that_it_is_not_for() -> None:
    # before it is looked for: there is no network in tests
    with pytest.raises(SteerError, match="'taesdxl' is not for the latents of StableDiffusion: use taesd"):
        Sampler(tiny_sd(), model_options=ModelOptions(preview="taesdxl"))


@pytest.mark.slow
def test_an_offloaded_pipeline_stays_as_its_owner_set_it_up() -> None:
    pipe = tiny_sd()
    accelerate.cpu_offload(pipe.unet, torch.device("cpu"))
    assert next(pipe.unet.parameters()).device.type == "meta"
    noise = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    offloaded = Sampler(pipe).sample(noise, "a red circle", steps=4)
    assert torch.allclose(offloaded, image(ModelOptions()), atol=1e-6)


def test_autoencoders_that_overflow_are_used_in_fp32() -> None:
    alone, hooked = tiny_sd().vae.half(), tiny_sd()
    safe = overflow_safe(alone)
    assert (safe.dtype, alone.dtype) == (torch.float32, torch.float16)
    _, unet_hook = accelerate.cpu_offload_with_hook(hooked.unet, torch.device("cpu"))
    accelerate.cpu_offload_with_hook(hooked.vae.half(), torch.device("cpu"), prev_module_hook=unet_hook)
    assert overflow_safe(hooked.vae) is hooked.vae  # a copy would hold a second UNet, and send that one away
    assert hooked.vae.dtype == torch.float32


def test_a_preview_decoder_of_another_family_is_refused(tmp_path: Path) -> None:
    AutoencoderTiny(latent_channels=16).save_pretrained(tmp_path)
    with pytest.raises(SteerError, match="16 channels, the model's have 4"):
        Sampler(tiny_sd(), model_options=ModelOptions(preview=str(tmp_path)))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"offload": "modle"}, "did you mean 'model'"),
        ({"vae_memory": ("slicin",)}, "did you mean 'slicing'"),
        ({"attention": "flashy"}, "flashy"),
        ({"offload": "model"}, "CUDA"),
        ({"preview": "tasd"}, "did you mean 'taesd'"),
    ],
)
def test_what_cannot_be_done_is_said(options, message: str) -> None:
    with pytest.raises(SteerError, match=message):
        Sampler(tiny_sd(), device="cpu", model_options=ModelOptions(**options))


@pytest.mark.slow
@pytest.mark.parametrize("leaf", [False, True])
def test_a_pipeline_under_group_offload_is_used_as_it_is(leaf) -> None:
    pipe = tiny_sd()
    kind = {"offload_type": "leaf_level"} if leaf else {"offload_type": "block_level", "num_blocks_per_group": 1}
    pipe.unet.enable_group_offload(onload_device=torch.device("cpu"), offload_device=torch.device("cpu"), **kind)
    noise = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    assert torch.equal(Sampler(pipe).sample(noise, "a red circle", steps=4), image(ModelOptions()))
    run = make_run(Sampler(pipe).backbone, [Prompt("a")], settings={"steps": 1})
    with pytest.raises(SteerError, match=r"under group offload there is no gradient.*use --offload model, or"):
        vjp(run, run.start, {"brightness": brightness})
    pipe.vae.enable_group_offload(onload_device=torch.device("cpu"), offload_device=torch.device("cpu"), **kind)
    pipe.vae.half().register_to_config(force_upcast=True)
    with pytest.raises(SteerError, match=r"pipe.vae.to\(torch.float32\) before enable_group_offload"):
        overflow_safe(pipe.vae)


@pytest.mark.slow
def test_a_pipeline_that_was_loaded_by_a_device_map_is_used_as_it_is(tmp_path: Path) -> None:
    tiny_sd().save_pretrained(tmp_path)
    pipe = StableDiffusionPipeline.from_pretrained(tmp_path, device_map="cpu")
    noise = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    assert torch.equal(Sampler(pipe).sample(noise, "a red circle", steps=4), image(ModelOptions()))


@pytest.mark.slow
def test_attention_and_vae_savings_keep_the_image() -> None:
    saved = image(ModelOptions(attention="native", vae_memory=("slicing", "tiling")))
    assert torch.allclose(saved, image(ModelOptions()), atol=1e-5)


def test_urls_are_no_loras_and_keep_their_keys() -> None:
    with pytest.raises(SteerError, match="is a URL; fetch the file") as caught:
        image(ModelOptions(loras=parse_loras(["https://civitai.com/x.safetensors?token=secret"])))
    assert "secret" not in str(caught.value)


def test_weights_channels_last_give_the_same_images_but_for_last_bits(tmp_path: Path) -> None:
    AutoencoderTiny(latent_channels=4).save_pretrained(tmp_path)
    options = ModelOptions(channels_last=True, preview=str(tmp_path))
    assert ModelOptions.from_dict(options.as_dict()) == options
    assert "channels_last" not in ModelOptions().as_dict()  # recipes from before have none
    plain, last = Sampler(tiny_sd()), Sampler(tiny_sd(), model_options=options)

    def orders(module: torch.nn.Module) -> set[bool]:
        weights = [layer.weight for layer in module.modules() if isinstance(layer, torch.nn.Conv2d)]
        kernels = [weight for weight in weights if weight.shape[1] > 1 and weight.shape[2] > 1]  # else both at once
        return {weight.is_contiguous() for weight in kernels}

    parts = (last.backbone.pipe.unet, last.backbone.pipe.vae, last.model.preview.model)
    assert [orders(part) for part in parts] == [{False}, {False}, {False}]
    assert orders(plain.backbone.pipe.unet) == {True}
    settings = {"steps": 2, "particles": 2, "choose": "all"}
    images = [sampler.generate(["a red circle"], **settings).images for sampler in (plain, last)]
    assert np.abs(np.stack([np.asarray(i, np.int16) for i in images[0]]) - np.stack(images[1])).max() <= 1
