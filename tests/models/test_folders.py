"""Model folders as people have them: variants load, and what is missing, damaged or foreign is named beforehand."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import ControlNetModel, UNet2DConditionModel
from support.families.flux import tiny_schnell
from support.families.pixart import tiny_alpha
from support.families.sd import tiny_sdxl
from support.tiny import drawn, tiny_sd

from steer import SteerError
from steer.models.load import load_model
from steer.models.options import ModelOptions
from steer.registry.plugins import manager


@pytest.fixture
def folder(tiny: Path, tmp_path: Path) -> Path:
    """A copy of a tiny pipeline's folder, to be damaged."""
    return Path(shutil.copytree(tiny, tmp_path / "model"))


def error_of(model: Any, **options: Any) -> str:
    with pytest.raises(SteerError) as caught:
        load_model(model, manager(), device="cpu", options=ModelOptions(**options))
    assert "\n" not in str(caught.value)
    return str(caught.value)


def renamed(folder: Path, part: str, variant: str) -> None:
    for file in list((folder / part).iterdir()):
        if file.suffix == ".safetensors":
            file.rename(file.with_name(f"{file.stem}.{variant}.safetensors"))


# ---- variants ----------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize(
    ("variant", "parts"),
    [("fp16", ("unet", "vae", "text_encoder")), ("bf16", ("unet",)), ("mine", ("text_encoder",))],
)
def test_a_folder_that_holds_a_variant_alone_loads(folder: Path, tiny: Path, variant, parts) -> None:
    for part in parts:
        renamed(folder, part, variant)
    assert torch.equal(drawn(folder), drawn(tiny))
    assert torch.equal(drawn(folder, variant=variant), drawn(tiny))
    assert "has no variant 'fp8'; it has" in error_of(folder, variant="fp8")


@pytest.mark.slow
def test_a_folder_saved_in_half_precision_with_shards(tmp_path: Path, tiny: Path) -> None:
    tiny_sd().to(torch.float16).save_pretrained(tmp_path, variant="fp16", max_shard_size="300kB")
    assert len(list((tmp_path / "unet").glob("*.fp16-*.safetensors"))) > 1
    assert torch.allclose(drawn(tmp_path), drawn(tiny), atol=0.02)
    next((tmp_path / "unet").glob("*.fp16-00002*")).unlink()
    assert "unet/ lacks diffusion_pytorch_model.fp16-00002" in error_of(tmp_path)


@pytest.mark.slow
def test_plain_weights_come_first_and_a_variant_if_it_is_asked_for(folder: Path, tiny: Path) -> None:
    zeros = tiny_sd()
    for leaf in zeros.unet.parameters():
        leaf.data.zero_()
    zeros.unet.save_pretrained(folder / "unet", variant="zeros")
    assert torch.equal(drawn(folder), drawn(tiny))
    assert not torch.equal(drawn(folder, variant="zeros"), drawn(tiny))


def test_parts_in_variants_that_differ_are_named(folder: Path) -> None:
    renamed(folder, "unet", "fp16")
    renamed(folder, "vae", "bf16")
    assert "in several variants alone (" in error_of(folder)


# ---- what is missing, damaged or foreign -------------------------------------------------------------------


def without(name: str) -> Callable[[Path], None]:
    def remove(folder: Path) -> None:
        place = folder / name
        shutil.rmtree(place) if place.is_dir() else place.unlink()

    return remove


def index_without(part: str, value: Any = None) -> Callable[[Path], None]:
    def edit(folder: Path) -> None:
        index = folder / "model_index.json"
        config = json.loads(index.read_text())
        config[part] = value
        if value is None:
            del config[part]
        index.write_text(json.dumps(config))

    return edit


def cut(name: str, share: float = 0.5) -> Callable[[Path], None]:
    def shorten(folder: Path) -> None:
        data = (folder / name).read_bytes()
        (folder / name).write_bytes(data[: int(len(data) * share)])

    return shorten


def wrote(name: str, text: str) -> Callable[[Path], None]:
    return lambda folder: (folder / name).write_text(text) and None


def in_channels(count: int) -> Callable[[Path], None]:
    def edit(folder: Path) -> None:
        unet = UNet2DConditionModel.from_config({**tiny_sd().unet.config, "in_channels": count})
        unet.save_pretrained(folder / "unet")

    return edit


def class_name(name: Any) -> Callable[[Path], None]:
    return index_without("_class_name", name)


POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:abc\nsize 123\n"
UNET = "unet/diffusion_pytorch_model.safetensors"
CASES: dict[str, tuple[Callable[[Path], None], str]] = {
    "no tokenizer folder": (without("tokenizer"), "has no folder tokenizer/ for its tokenizer"),
    "no vocabulary": (lambda f: shutil.rmtree(f / "tokenizer") or (f / "tokenizer").mkdir(), "has no vocabulary"),
    "no scheduler folder": (without("scheduler"), "has no folder scheduler/"),
    "no scheduler file": (without("scheduler/scheduler_config.json"), "scheduler/ has no configuration"),
    "no vae folder": (without("vae"), "has no folder vae/"),
    "no vae in the index": (index_without("vae"), "has no vae, without which StableDiffusionPipeline cannot run"),
    "no tokenizer in the index": (index_without("tokenizer", [None, None]), "has no tokenizer, without which"),
    "no config": (without("unet/config.json"), "unet/ has no config.json"),
    "no weights": (without(UNET), "unet/ has no weights"),
    "other weights": (
        lambda f: (f / UNET).rename(f / "unet" / "flax_model.msgpack") and None,
        "unet/ has no weights; flax_model.msgpack is nothing that diffusers reads",
    ),
    "a pointer": (wrote(UNET, POINTER), "is a pointer of git-lfs and not the file; run `git lfs pull`"),
    "a pointer for a tokenizer": (wrote("tokenizer/tokenizer.json", POINTER), "is a pointer of git-lfs"),
    "truncated": (cut(UNET), "safetensors is damaged ("),
    "truncated in its header": (cut(UNET, 0.001), "is damaged (it is no safetensors file)"),
    "a page in its place": (wrote(UNET, "<html>" * 400), "is damaged (it is no safetensors file)"),
    "empty": (wrote(UNET, ""), "unet/diffusion_pytorch_model.safetensors is damaged"),
    "inpainting": (in_channels(9), "takes 9 channels, latents have 4 (it seems to be for inpainting)"),
    "pix2pix": (in_channels(8), "seems to be for InstructPix2Pix"),
    "depth": (in_channels(5), "seems to be for depth-to-image"),
    "a ControlNet for its UNet": (
        index_without("unet", ["diffusers", "ControlNetModel"]),
        "its unet is a ControlNetModel, expected UNet2DConditionModel",
    ),
    "another class": (class_name("StableDiffusionXLPipeline"), "has no text_encoder_2, without which"),
    "an unknown class": (class_name("StableDifusionPipeline"), "did you mean 'StableDiffusionPipeline'"),
    "no class": (class_name(None), "'(none)' is no pipeline class of diffusers"),
    "a class of the community": (class_name(["pipeline", "Mine"]), "is no pipeline class of diffusers"),
    "one that makes sound": (class_name("StableAudioPipeline"), "it makes audio"),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_what_is_wrong_with_a_folder_is_named(folder: Path, case: str) -> None:
    damage, message = CASES[case]
    damage(folder)
    assert message in error_of(folder)


def test_an_index_that_names_shards_which_are_not_there(folder: Path) -> None:
    shutil.rmtree(folder / "unet")
    tiny_sd().unet.save_pretrained(folder / "unet", max_shard_size="300kB")
    next((folder / "unet").glob("*-00002-of-*")).unlink()
    assert "unet/ lacks diffusion_pytorch_model-00002-of-" in error_of(folder)


def test_a_refiner_has_no_first_text_encoder(tmp_path: Path) -> None:
    pipe = tiny_sdxl()
    pipe.save_pretrained(tmp_path)
    index_without("text_encoder", [None, None])(tmp_path)
    assert "has no text_encoder, without which StableDiffusionXLPipeline cannot run" in error_of(tmp_path)
    pipe.text_encoder = None
    assert "has no text_encoder, which steer calls" in error_of(pipe)


@pytest.mark.slow
def test_encoders_of_another_model(tmp_path: Path) -> None:
    tiny_sdxl().save_pretrained(tmp_path)
    class_name("StableDiffusionPipeline")(tmp_path)
    message = "has parts that StableDiffusionPipeline does not take: text_encoder_2, tokenizer_2; correct _class_name"
    assert message in error_of(tmp_path)
    pipe = tiny_sd()
    pipe.unet.register_to_config(cross_attention_dim=64)
    assert "takes texts 64 wide, its text encoders give 32; they are of two models" in error_of(pipe)


def test_what_is_no_pipeline_at_all(tmp_path: Path, tiny: Path) -> None:
    pipe = tiny_sd()
    ControlNetModel.from_unet(pipe.unet).save_pretrained(tmp_path / "control")
    (tmp_path / "lora").mkdir()
    (tmp_path / "lora" / "pytorch_lora_weights.safetensors").write_bytes(b"x")
    (tmp_path / "hub" / "snapshots").mkdir(parents=True)
    shutil.copytree(tiny, tmp_path / "hub" / "snapshots" / "abc")
    pipe.text_encoder.save_pretrained(tmp_path / "clip")
    for name, message in {
        "control": "holds a ControlNetModel: give it as --part controlnet=FOLDER",
        "lora": "it holds a LoRA: give it as --lora",
        "clip": "it holds a model of transformers (CLIPTextModel)",
        "hub": f"the pipeline is in {tmp_path / 'hub' / 'snapshots' / 'abc'}",
    }.items():
        assert message in error_of(tmp_path / name)
    assert f"is a part of the pipeline in {tiny}; give that folder" in error_of(tiny / "unet")
    (tmp_path / "notes.txt").write_bytes(b"x")
    assert "expected a folder in diffusers format" in error_of(tmp_path / "notes.txt")
    for name in ("v1-5.ckpt", "sdxl.safetensors"):
        (tmp_path / name).write_bytes(b"x")
        assert "cannot be read" in error_of(tmp_path / name)
    assert "is a URL" in error_of("https://huggingface.co/a/b/resolve/main/x.safetensors?token=hf_secret")
    assert "secret" not in error_of("https://huggingface.co/a/b/resolve/main/x.safetensors?token=hf_secret")


def test_pipelines_in_memory_are_looked_at_too() -> None:
    pipe = tiny_sd()
    pipe.unet = UNet2DConditionModel.from_config({**pipe.unet.config, "in_channels": 9})
    assert "takes 9 channels" in error_of(pipe)
    pipe = tiny_sd()
    pipe.vae = None
    assert "has no vae, which steer calls" in error_of(pipe)
    pipe = tiny_schnell()
    pipe.transformer.register_to_config(in_channels=96)  # Flux Fill takes an image and a mask beside the latents
    assert "is no text-to-image model" in error_of(pipe)


def test_a_tokenizer_that_needs_a_package_names_it(tmp_path: Path) -> None:
    tiny_alpha().save_pretrained(tmp_path)
    shutil.rmtree(tmp_path / "tokenizer")
    (tmp_path / "tokenizer").mkdir()
    (tmp_path / "tokenizer" / "spiece.model").write_bytes(b"x" * 2000)
    message = error_of(tmp_path)
    assert "damaged" not in message and "pip install sentencepiece" in message
