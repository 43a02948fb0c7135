"""LoRAs in the forms that people pass on, their weights by part, and what is said of those that do not fit."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from support.families.flux import tiny_dev
from support.tiny import tiny_sd
from support.tiny_students import lora_of

from steer import Sampler, SteerError
from steer.models import loras
from steer.models.options import ModelOptions

peft = pytest.importorskip("peft")
NOISE = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(0))


def image(pipe: Any, *given: Any) -> torch.Tensor:
    return Sampler(pipe, model_options=ModelOptions(loras=given)).sample(NOISE, "a red circle", steps=2)


def adapted(module: torch.nn.Module, config: Any) -> torch.nn.Module:
    """Return a copy of a module with an adapter whose weights are random."""
    copied = copy.deepcopy(module)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        peft.inject_adapter_in_model(config, copied)
        for name, parameter in copied.named_parameters():
            if any(mark in name for mark in ("lora_", "hada_", "lokr_")):
                torch.nn.init.normal_(parameter, std=0.3)
    return copied


def state_of(module: torch.nn.Module, part: str) -> dict[str, torch.Tensor]:
    state = peft.utils.get_peft_model_state_dict(module, adapter_name="default")
    return {f"{part}.{name.removeprefix('base_model.model.')}": tensor.contiguous() for name, tensor in state.items()}


@pytest.fixture
def both(tmp_path: Path) -> Path:
    """A LoRA of UNet and text encoder."""
    pipe = tiny_sd()
    state: dict[str, torch.Tensor] = {}
    for part, targets in (("unet", ["to_q", "to_k"]), ("text_encoder", ["q_proj", "k_proj", "v_proj", "out_proj"])):
        config = peft.LoraConfig(r=2, lora_alpha=2, target_modules=targets)
        state |= state_of(adapted(getattr(pipe, part), config), part)
    save_file(state, tmp_path / "both.safetensors")
    return tmp_path / "both.safetensors"


@pytest.mark.slow
def test_denoiser_and_text_encoders_have_weights_of_their_own(both: Path) -> None:
    def expected(own: float, text: float) -> torch.Tensor:
        pipe = tiny_sd()
        pipe.load_lora_weights(str(both), adapter_name="x")
        pipe.fuse_lora(components=["unet"], lora_scale=own)
        pipe.fuse_lora(components=["text_encoder"], lora_scale=text)
        pipe.unload_lora_weights()
        return image(pipe)

    found = image(tiny_sd(), (str(both), 0.8, 0.3))
    assert torch.allclose(found, expected(0.8, 0.3), atol=1e-6)
    assert torch.allclose(image(tiny_sd(), (str(both), 0.8)), expected(0.8, 0.8), atol=1e-6)
    assert not torch.allclose(found, expected(0.8, 0.8), atol=1e-5)


def test_weights_are_parsed_and_survive_the_recipe() -> None:
    texts = ["a.safetensors", "org/name:0.5", "x/y.safetensors:0.8:0", "C:lora", "a:nan"]
    parsed = loras.parse(texts)
    assert parsed == (
        ("a.safetensors", 1.0),
        ("org/name", 0.5),
        ("x/y.safetensors", 0.8, 0.0),
        ("C:lora", 1.0),
        ("a:nan", 1.0),
    )
    options = ModelOptions(loras=parsed)
    assert ModelOptions.from_dict(json.loads(json.dumps(options.as_dict()))) == options


@pytest.mark.slow
def test_kohyas_form_is_the_same_lora(both: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file

    kohya = {}
    for name, tensor in load_file(both).items():
        part, _, rest = name.partition(".")
        layer, _, side = rest.removesuffix(".weight").rpartition(".")
        start = "lora_unet_" if part == "unet" else "lora_te_text_model_"
        plain = f"{start}{layer.replace('.', '_')}"
        kohya[f"{plain}.{'lora_down' if side == 'lora_A' else 'lora_up'}.weight"] = tensor
        kohya[f"{plain}.alpha"] = torch.tensor(2.0)
    save_file(kohya, tmp_path / "kohya.safetensors")
    wanted = image(tiny_sd(), (str(both), 0.7))
    assert torch.allclose(image(tiny_sd(), (str(tmp_path / "kohya.safetensors"), 0.7)), wanted, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["LoHa", "LoKr", "LoKr whole"])
def test_loha_and_lokr_in_kohyas_form_are_fused(tmp_path: Path, kind: str) -> None:
    pipe = tiny_sd()
    config: Any = {
        "LoHa": lambda: peft.LoHaConfig(r=2, alpha=1, target_modules=["to_q", "conv1"], init_weights=False),
        "LoKr": lambda: peft.LoKrConfig(r=2, alpha=1, target_modules=["to_q"], decompose_both=True),
        "LoKr whole": lambda: peft.LoKrConfig(r=64, alpha=64, target_modules=["to_q"]),
    }[kind]()
    unet = adapted(pipe.unet, config)
    state = {}
    for name, tensor in state_of(unet, "").items():
        layer, _, end = name.lstrip(".").rpartition(".")
        state[f"lora_unet_{layer.replace('.', '_')}.{end}"] = tensor
        state[f"lora_unet_{layer.replace('.', '_')}.alpha"] = torch.tensor(float(config.alpha))
    save_file(state, tmp_path / "lycoris.safetensors")
    pipe.unet = unet
    wanted = image(pipe)
    assert torch.allclose(image(tiny_sd(), (str(tmp_path / "lycoris.safetensors"), 1.0)), wanted, atol=1e-5)
    assert not torch.allclose(image(tiny_sd()), wanted, atol=1e-4)


def test_what_does_not_fit_is_told_with_the_model_that_it_seems_to_be_for(tmp_path: Path) -> None:
    lora_of(tiny_dev().transformer, "transformer", tmp_path / "flux.safetensors")
    with pytest.raises(SteerError, match=r"does not fit StableDiffusionPipeline.*; it seems to be for Flux"):
        image(tiny_sd(), (str(tmp_path / "flux.safetensors"), 1.0))
    layer = "lora_unet_down_blocks_7_attentions_0_transformer_blocks_0_attn2_to_k"
    for width, family in ((2048, "SDXL"), (768, "Stable Diffusion 1")):
        names = {f"{layer}.lora_down.weight": (2, width), f"{layer}.lora_up.weight": (640, 2), f"{layer}.alpha": ()}
        assert loras.made_for(names) == family
    assert loras.made_for({"lora_te2_text_model_encoder_layers_0_mlp_fc1.lora_down.weight": (2, 1280)}) == "SDXL"
    assert loras.made_for({"transformer.joint_blocks.0.x.lora_A.weight": (2, 8)}) == "SD3"
    assert loras.made_for({"a.lora_A.weight": (2, 8)}) is None
    tensors = {f"lora_unet_nowhere.{end}": torch.zeros(2, 2) for end in
               ("hada_w1_a", "hada_w1_b", "hada_w2_a", "hada_w2_b")}  # fmt: skip
    save_file(tensors, tmp_path / "loha.safetensors")
    with pytest.raises(SteerError, match="none of its layers is the model's"):
        image(tiny_sd(), (str(tmp_path / "loha.safetensors"), 1.0))


def test_small_factors_of_a_product_beyond_memory_are_left_out(tmp_path: Path) -> None:
    side = 10_000_000
    shapes = {"hada_w1_a": (side, 1), "hada_w1_b": (1, side), "hada_w2_a": (side, 1), "hada_w2_b": (1, side)}
    factors = {name: torch.zeros(1).expand(shape) for name, shape in shapes.items()}
    assert loras._difference(factors, 64) is None
    assert loras._difference({"hada_w1_a": torch.zeros(2, 2)}, 4) is None
    assert (
        loras._difference({"lokr_w1": torch.zeros(2, 2), "lokr_w2_a": torch.zeros(3), "lokr_w2_b": torch.zeros(2)}, 4)
        is None
    )


def test_pickles_are_refused(tmp_path: Path) -> None:
    (tmp_path / "lora.pt").write_bytes(b"x")
    with pytest.raises(SteerError, match=r"expected a .safetensors file; pickles are not read"):
        loras.add(None, [(str(tmp_path / "lora.pt"), 1.0)], fuse=True)


@pytest.mark.slow
def test_unfused_it_is_the_same_image(both: Path) -> None:
    pipe = tiny_sd()
    loras.add(pipe, [(str(both), 0.8, 0.3), (str(both), 0.2)], fuse=False)
    assert pipe.get_list_adapters()  # still there
    assert torch.allclose(image(pipe), image(tiny_sd(), (str(both), 0.8, 0.3), (str(both), 0.2)), atol=1e-5)
