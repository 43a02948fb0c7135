"""Quantized weights and GGUF files: the image stays close, recipes hold it, and a missing package is told."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import pytest
import torch
from support import original
from support.families.flux import HEIGHT, ROOM, WIDTH, tiny_dev
from support.tiny import tiny_sd
from support.tiny_students import lora_of

from steer import Sampler, SteerError
from steer.models.families.flux import Flux
from steer.models.options import ModelOptions, apply, group_offload
from steer.models.quantize import PACKAGES, check, quantized

NOISE = torch.randn(1, 4, HEIGHT // 2, WIDTH // 2, generator=torch.Generator().manual_seed(0))


@pytest.fixture(autouse=True)
def short_texts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Flux, "text_tokens", ROOM)


def drawn(model: Any, **options: Any) -> torch.Tensor:
    sampler = Sampler(model, device="cpu", model_options=ModelOptions(**options))
    return sampler.sample(NOISE, "a red circle", steps=2, seed=1, width=WIDTH, height=HEIGHT)


def needs(package: str) -> None:
    """Skip without a package that has no place among those of the other tests."""
    if importlib.util.find_spec(package) is None:
        pytest.skip(f"the package {package} is not installed; make test-quantize tests this")


@pytest.mark.parametrize(("kind", "room"), [("int8", 0.01), ("fp8", 0.05), ("nf4", 0.2)])
def test_the_image_stays_close(kind: str, room: float, tmp_path: Path) -> None:
    needs(PACKAGES[kind])
    plain = drawn(tiny_dev())
    tiny_dev().save_pretrained(tmp_path / "model")
    sampler = Sampler(str(tmp_path / "model"), device="cpu", model_options=ModelOptions(quantize=kind))
    pipe = sampler.backbone.pipe
    assert quantized(pipe.transformer) and quantized(pipe.text_encoder_2)
    assert not quantized(pipe.text_encoder) and not quantized(pipe.vae)
    found = sampler.sample(NOISE, "a red circle", steps=2, seed=1, width=WIDTH, height=HEIGHT)
    assert 0 < (found - plain).abs().max() < room
    recipe = sampler.generate("a red circle", steps=1, seed=1, width=WIDTH, height=HEIGHT).items[0].recipe
    assert (recipe.model_options["quantize"], recipe.dtype) == (kind, "float32")
    noise = NOISE.clone().requires_grad_(True)
    text = sampler.backbone.encode([sampler_prompt()], [""], 1.0)
    timestep = torch.tensor(500.0)
    sampler.backbone.predict("base", noise, timestep, text).sum().backward()
    assert noise.grad is not None and noise.grad.abs().sum() > 0


def sampler_prompt() -> Any:
    from steer import Prompt

    return Prompt("a red circle")


@pytest.mark.parametrize("kind", ["int8", "nf4"])
def test_a_lora_is_fused_before(kind: str, tmp_path: Path) -> None:
    needs(PACKAGES[kind])
    lora_of(tiny_dev().transformer, "transformer", tmp_path / "lora.safetensors")
    given = {"loras": ((str(tmp_path / "lora.safetensors"), 30.0),)}
    fused = drawn(tiny_dev(), **given)
    found = drawn(tiny_dev(), **given, quantize=kind)
    assert (found - fused).abs().max() < (drawn(tiny_dev()) - fused).abs().max()


def gguf_file(path: Path, tensors: dict[str, torch.Tensor]) -> Path:
    """Write a transformer as people pass it on: large matrices of eight bits, the rest whole."""
    import gguf
    import numpy as np

    writer = gguf.GGUFWriter(str(path), "flux")
    for name, tensor in tensors.items():
        value = tensor.numpy().astype(np.float32)
        if value.ndim == 2 and value.shape[1] % 32 == 0:
            kind = gguf.GGMLQuantizationType.Q8_0
            writer.add_tensor(name, gguf.quants.quantize(value, kind), raw_dtype=kind)
        else:
            writer.add_tensor(name, value)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


@pytest.fixture
def base(tmp_path: Path) -> Path:
    """A folder of Flux without the weights of its transformer."""
    tiny_dev().save_pretrained(tmp_path / "base")
    (tmp_path / "base" / "transformer" / "diffusion_pytorch_model.safetensors").unlink()
    return tmp_path / "base"


@pytest.mark.slow
def test_a_gguf_file_by_the_names_of_its_trainers(base: Path, tmp_path: Path) -> None:
    needs("gguf")
    file = gguf_file(tmp_path / "Q8_0.gguf", original.flux(tiny_dev().transformer.state_dict()))
    with original.flux_of_width(32):
        assert 0 < (drawn(str(file), base=str(base)) - drawn(tiny_dev())).abs().max() < 0.01


@pytest.mark.slow
def test_a_gguf_file_and_loras_beside_its_weights(base: Path, tmp_path: Path) -> None:
    needs("gguf")
    file = gguf_file(tmp_path / "Q8_0.gguf", tiny_dev().transformer.state_dict())
    plain = drawn(tiny_dev())
    found = drawn(str(file), base=str(base))
    assert 0 < (found - plain).abs().max() < 0.01
    lora_of(tiny_dev().transformer, "transformer", tmp_path / "lora.safetensors")
    given = {"loras": ((str(tmp_path / "lora.safetensors"), 0.5),)}
    assert (drawn(str(file), base=str(base), **given) - drawn(tiny_dev(), **given)).abs().max() < 0.02
    sampler = Sampler(str(file), device="cpu", model_options=ModelOptions(base=str(base)))
    recipe = sampler.generate("a red circle", steps=1, seed=1, width=WIDTH, height=HEIGHT).items[0].recipe
    assert list(recipe.files) == [str(file)] and recipe.dtype == "float32"
    (tmp_path / "broken.gguf").write_bytes(b"GGUF")
    with pytest.raises(SteerError, match=r"broken\.gguf cannot be read"):
        drawn(str(tmp_path / "broken.gguf"), base=str(base))


def test_what_is_missing_or_impossible_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(SteerError, match="quantize=nf4 needs the package bitsandbytes: pip install bitsandbytes"):
        check("nf4")
    (tmp_path / "q4.gguf").write_bytes(b"GGUF")
    with pytest.raises(SteerError, match=r"q4\.gguf needs the package gguf: pip install gguf"):
        drawn(str(tmp_path / "q4.gguf"))
    with pytest.raises(SteerError, match="did you mean 'int8'"):
        ModelOptions(quantize="int4")
    with pytest.raises(SteerError, match="use --offload model"):
        ModelOptions(quantize="int8", offload="sequential")
    pipe = tiny_dev()
    pipe.transformer.x_embedder.weight = torch.nn.Parameter(torch.zeros(2, dtype=torch.uint8), requires_grad=False)
    with pytest.raises(SteerError, match="cannot move quantized layers"):  # those of a GGUF file
        apply(pipe, ModelOptions(offload="sequential"), torch.device("cpu"))
    with pytest.raises(SteerError, match="offload=group moves parts to a CUDA device"):
        drawn(tiny_dev(), offload="group")


@pytest.mark.slow
def test_under_group_offload_it_is_the_same_image() -> None:
    pipe = tiny_dev()
    group_offload(pipe, torch.device("cpu"), streams=False)
    assert torch.equal(Sampler(pipe).sample(NOISE, "a red circle", steps=2, seed=1, width=WIDTH, height=HEIGHT),
                       drawn(tiny_dev()))  # fmt: skip


def test_an_autoencoder_that_overflows_stays_out_of_group_offload() -> None:
    pipe = tiny_sd()
    pipe.vae.half().register_to_config(force_upcast=True)
    group_offload(pipe, torch.device("cpu"), streams=False)
    assert Sampler(pipe).backbone.safe_vae.dtype is torch.float32
