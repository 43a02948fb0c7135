"""Models in one file: they give what their folder gives, and what is missing is told."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import UNet2DConditionModel
from support import original
from support.families.flux import ROOM, tiny_dev
from support.families.sd import tiny_sd3, tiny_sdxl
from support.hub_server import Hub, as_hub, serve
from support.tiny import clip_text, tiny_sd

import steer
from steer import SteerError
from steer.models.families.flux import Flux
from steer.models.load import load_model
from steer.models.options import ModelOptions
from steer.models.single_file import Checkpoint
from steer.registry.plugins import manager


def sdxl() -> Any:
    """Return a tiny SDXL with text encoders of two widths, by which diffusers tells them apart in a file."""
    pipe = tiny_sdxl()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        unet = UNet2DConditionModel.from_config({**pipe.unet.config, "cross_attention_dim": 80})
        pipe.register_modules(text_encoder_2=clip_text(projection=32, hidden=48), unet=unet.eval())
    return pipe


def sd3() -> Any:
    """Return a tiny SD3 with text encoders of two widths."""
    pipe = tiny_sd3()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        pipe.register_modules(text_encoder_2=clip_text(projection=32, hidden=24))
        torch.nn.init.eye_(pipe.text_encoder.text_projection.weight)  # files of SD3 leave it out
    return pipe


MAKERS = {"sd": tiny_sd, "sdxl": sdxl, "sd3": sd3, "flux": tiny_dev}


@pytest.fixture(scope="module")
def bases(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A folder of each family."""
    root = tmp_path_factory.mktemp("bases")
    for name, make in MAKERS.items():
        make().save_pretrained(root / name)
    return {name: root / name for name in MAKERS}


def without_weights(base: Path, place: Path, parts: tuple[str, ...] | None = None) -> Path:
    """Copy a folder without the weights of some parts, by default of all."""
    shutil.copytree(base, place)
    for file in place.rglob("*.safetensors"):
        if parts is None or file.parent.name in parts:
            file.unlink()
    return place


def drawn(model: Path, **options: Any) -> torch.Tensor:
    sampler = steer.Sampler(str(model), device="cpu", model_options=ModelOptions(**options))
    noise = torch.randn(1, *sampler.backbone.latent_shape(16, 16), generator=torch.Generator().manual_seed(0))
    return sampler.sample(noise, "a red circle", steps=2, seed=1, width=16, height=16)


def error_of(model: Path | str, **options: Any) -> str:
    with pytest.raises(SteerError) as caught:
        load_model(str(model), manager(), device="cpu", options=ModelOptions(**options))
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["sd", "sdxl", "sd3"])
def test_a_whole_model_in_one_file_needs_only_configurations_beside_it(bases, tmp_path: Path, name: str) -> None:
    file = original.write(original.whole(MAKERS[name]()), tmp_path / "model.safetensors")
    without_weights(bases[name], tmp_path / "model")
    assert torch.allclose(drawn(file), drawn(bases[name]), atol=1e-6)  # memory of another alignment: other last bits


@pytest.mark.slow
@pytest.mark.parametrize("parts", [("transformer",), ("transformer", "text_encoder", "text_encoder_2")])
def test_parts_that_a_file_lacks_come_from_its_base(bases, tmp_path: Path, parts: tuple[str, ...]) -> None:
    starts = {"transformer": "model.diffusion_model.", "text_encoder": "text_encoders.clip_l.",
              "text_encoder_2": "text_encoders.clip_g."}  # fmt: skip
    tensors = original.whole(sd3())
    kept = {name: t for name, t in tensors.items() if name.startswith(tuple(starts[part] for part in parts))}
    file = original.write(kept, tmp_path / "model.safetensors")
    base = without_weights(bases["sd3"], tmp_path / "base", parts)
    assert torch.allclose(drawn(file, base=str(base)), drawn(bases["sd3"]), atol=1e-6)
    shutil.rmtree(base)
    base = without_weights(bases["sd3"], base)
    assert "'model.safetensors' needs a base" in (said := error_of(file, base=str(base)).replace(f"{tmp_path}/", ""))
    assert "has no weights" in said and "--base" in said


@pytest.mark.slow
def test_a_transformer_alone_as_diffusers_names_its_tensors(bases, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(Flux, "text_tokens", ROOM)
    file = original.write(tiny_dev().transformer.state_dict(), tmp_path / "flux.safetensors")
    base = without_weights(bases["flux"], tmp_path / "base", ("transformer",))
    assert torch.equal(drawn(file, base=str(base)), drawn(bases["flux"]))


@pytest.mark.slow
@pytest.mark.parametrize("form", ["transformer", "whole"])
def test_flux_by_the_names_of_its_trainers(bases, tmp_path: Path, monkeypatch, form: str) -> None:
    monkeypatch.setattr(Flux, "text_tokens", ROOM)
    pipe = tiny_dev()
    alone = form == "transformer"
    tensors = original.flux(pipe.transformer.state_dict()) if alone else original.whole(pipe)
    file = original.write(tensors, tmp_path / "flux.safetensors")
    base = without_weights(bases["flux"], tmp_path / "base", ("transformer",) if alone else None)
    with original.flux_of_width(32):
        assert torch.allclose(drawn(file, base=str(base)), drawn(bases["flux"]), atol=1e-6)
    assert Checkpoint.of(file, "flux").origin == "black-forest-labs/FLUX.1-dev"


@pytest.mark.slow
def test_checkpoints_of_torch_are_read_without_running_their_code(bases, tmp_path: Path) -> None:
    file = tmp_path / "model.ckpt"
    torch.save({"state_dict": original.whole(tiny_sd()), "epoch": 3}, file)
    assert torch.equal(drawn(file, base=str(bases["sd"])), drawn(bases["sd"]))
    torch.save({"state_dict": {"x": torch.zeros(1)}, "run": print}, file)
    assert "no pickle of tensors alone" in (said := error_of(file)) and "take it as .safetensors" in said


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["lora_unet_down_blocks_0.lora_up.weight"], "is a LoRA: give it as --lora"),
        (["emb_params"], "is an embedding of textual inversion: give it as --embedding"),
        (["encoder.conv_in.weight", "decoder.conv_in.weight"], "is an autoencoder: give it as --vae"),
        (["control_model.time_embed.0.weight"], "is a ControlNet"),
        (["double_blocks.0.img_mlp.0.weight", "double_blocks.0.img_mlp.0.scale_weight"], "does not read"),
        (["double_blocks.0.img_mlp.0.weight", "double_blocks.0.img_mlp.0.weight_scale"], "scaled fp8"),
        ([], "holds no tensors"),
        (["a.weight", "b.weight"], "of no architecture that diffusers tells by its tensors (a.weight, b.weight, …)"),
    ],
)
def test_files_that_are_no_models_say_what_they_are(tmp_path: Path, names: list[str], message: str) -> None:
    file = original.write(dict.fromkeys(names, torch.zeros(1)), tmp_path / "model.safetensors")
    assert message in error_of(file)


def test_a_file_with_another_ending_is_to_be_renamed(tmp_path: Path) -> None:
    for name in ("model.sft", "model.SAFETENSORS"):
        original.write({"a": torch.zeros(1)}, tmp_path / name)
        assert "is known by its ending: rename it to model.safetensors" in error_of(tmp_path / name)


def test_of_a_gguf_file_only_the_denoiser_is_taken() -> None:
    names = ("model.diffusion_model.out.0.weight", "first_stage_model.encoder.conv_in.weight")
    for ending, held in ((".safetensors", {"unet", "vae"}), (".gguf", {"unet"})):
        checkpoint = Checkpoint(Path(f"x{ending}"), "x", dict.fromkeys(names, (1,)))
        assert checkpoint.parts("StableDiffusionPipeline", "unet") == held


@pytest.mark.slow
def test_tensors_without_a_place_are_told(bases, tmp_path: Path) -> None:
    pipe = sd3()
    width = pipe.transformer.config.attention_head_dim
    norms = {  # SD3.5's, which SD3 lacks
        f"model.diffusion_model.joint_blocks.{layer}.{side}_block.attn.ln_{kind}.weight": torch.ones(width)
        for layer in range(pipe.transformer.config.num_layers)
        for side in ("x", "context")
        for kind in "qk"
    }
    file = original.write({**original.whole(pipe), **norms}, tmp_path / "sd3.safetensors")
    with pytest.warns(UserWarning, match=r"\d+ of its tensors have no place .* left out: .*norm.* ….*--base"):
        load_model(str(file), manager(), device="cpu", options=ModelOptions(base=str(bases["sd3"])))


@pytest.mark.slow
def test_a_base_of_another_architecture_is_refused(bases, tmp_path: Path) -> None:
    file = original.write(original.whole(tiny_sd()), tmp_path / "model.safetensors")
    said = error_of(file, base=str(bases["sdxl"]))
    assert "does not fit the StableDiffusionXLPipeline" in said
    assert "it seems to be like stable-diffusion-v1-5/stable-diffusion-v1-5" in said
    assert "does not fit" in error_of(file, base=str(bases["flux"]))
    assert "--base is for a model in one file" in error_of(bases["sd"], base=str(bases["sd"]))


def test_offline_it_is_told_which_configurations_are_missing(tmp_path: Path) -> None:
    file = original.write(original.whole(tiny_sd()), tmp_path / "model.safetensors")
    said = error_of(file)
    assert "'stable-diffusion-v1-5/stable-diffusion-v1-5' is no local folder and not in the hub's cache" in said
    assert "name one by --base" in said


@pytest.mark.slow
def test_of_a_base_on_the_hub_only_what_the_file_lacks_is_fetched(bases, tmp_path: Path, monkeypatch) -> None:
    tensors = {key: tensor for key, tensor in original.whole(tiny_sd()).items() if "first_stage" not in key}
    file = original.write(tensors, tmp_path / "model.safetensors")
    published = {str(one.relative_to(bases["sd"])): one.read_bytes() for one in bases["sd"].rglob("*") if one.is_file()}
    with serve(Hub({"org/tiny": published})) as running, as_hub(running, tmp_path / "cache", monkeypatch):
        found = drawn(file, base="org/tiny")
        fetched = [path for method, path, _ in running.requests if method == "GET" and path.endswith("safetensors")]
        assert len(fetched) == 1 and "/vae/" in fetched[0]
        running.requests.clear()
        assert torch.equal(drawn(file, base="org/tiny"), found)
        assert not [path for method, path, _ in running.requests if method == "GET" and path.endswith("safetensors")]
    assert torch.equal(found, drawn(bases["sd"]))


@pytest.mark.slow
def test_marks_of_v_prediction_are_followed(bases, tmp_path: Path) -> None:
    tensors = original.whole(tiny_sd()) | dict.fromkeys(("v_pred", "ztsnr"), torch.zeros(0))
    file = original.write(tensors, tmp_path / "model.safetensors")
    model = load_model(str(file), manager(), device="cpu", options=ModelOptions(base=str(bases["sd"])))
    config = model.backbone.scheduler.config
    assert (config.prediction_type, config.rescale_betas_zero_snr) == ("v_prediction", True)


@pytest.mark.slow
def test_the_recipe_holds_the_files_digest(bases, tmp_path: Path) -> None:
    file = original.write(original.whole(tiny_sd()), tmp_path / "model.safetensors")
    sampler = steer.Sampler(str(file), device="cpu", model_options=ModelOptions(base=str(bases["sd"])))
    recipe = sampler.generate("a red circle", steps=1, seed=1).items[0].recipe
    (digest,) = recipe.files.values()
    assert len(digest) == 64 and f"Model hash: {digest[:10]}" in recipe.parameters(0)
    assert recipe.model_options["base"] == str(bases["sd"])
