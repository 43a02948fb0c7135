"""``--vae``: another autoencoder, from a folder, a file or the hub."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from diffusers import AutoencoderKL
from support import original
from support.hub_server import Hub, as_hub, serve
from support.tiny import drawn, tiny_sd, tiny_vae

from steer import SteerError


@pytest.fixture(scope="module")
def other() -> AutoencoderKL:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(7)
        return tiny_vae(4).eval()


@pytest.mark.slow
@pytest.mark.parametrize("form", ["folder", "pipeline", "file of diffusers", "original file", "hub"])
def test_another_autoencoder_decodes(tiny: Path, other, tmp_path: Path, monkeypatch, form: str) -> None:
    pipe = tiny_sd()
    pipe.register_modules(vae=other)
    place = tmp_path / "vae"
    if form == "pipeline":
        pipe.save_pretrained(place)
    elif form == "original file":
        place = original.write(original.vae(other.state_dict()), tmp_path / "vae.safetensors")
    else:
        other.save_pretrained(place)
        place = place / "diffusion_pytorch_model.safetensors" if "file" in form else place
    wanted = drawn(pipe)
    assert not torch.equal(wanted, drawn(str(tiny)))
    if form != "hub":
        assert torch.equal(drawn(str(tiny), vae=str(place)), wanted)
        return
    with (
        serve(Hub({"org/vae": {file.name: file.read_bytes() for file in place.iterdir()}})) as running,
        as_hub(running, tmp_path / "cache", monkeypatch),
    ):
        assert torch.equal(drawn(str(tiny), vae="org/vae"), wanted)


@pytest.mark.slow
def test_a_file_without_an_autoencoder_takes_one(tiny: Path, other, tmp_path: Path) -> None:
    tensors = {name: t for name, t in original.whole(tiny_sd()).items() if not name.startswith("first_stage_model.")}
    file = original.write(tensors, tmp_path / "model.safetensors")
    other.save_pretrained(tmp_path / "vae")
    options = {"base": str(tiny), "vae": str(tmp_path / "vae")}
    assert torch.equal(drawn(str(file), **options), drawn(str(tiny), vae=str(tmp_path / "vae")))


@pytest.mark.slow
def test_the_wrong_autoencoder_is_told(tiny: Path, tmp_path: Path) -> None:
    def said(vae: Path) -> str:
        with pytest.raises(SteerError) as caught:
            drawn(str(tiny), vae=str(vae))
        assert "\n" not in str(caught.value)
        return str(caught.value)

    tiny_vae(16).save_pretrained(tmp_path / "sixteen")
    assert "has latents of 16 channels, the model needs 4" in said(tmp_path / "sixteen")
    scaled = tiny_vae(4)
    scaled.register_to_config(scaling_factor=0.13025)
    scaled.save_pretrained(tmp_path / "sdxl")
    assert "scaling_factor 0.13025, the model needs 0.18215; it is for another family" in said(tmp_path / "sdxl")
    tiny_sd().unet.save_pretrained(tmp_path / "unet")
    assert "is a UNet2DConditionModel, expected AutoencoderKL" in said(tmp_path / "unet")
    file = original.write({"encoder.conv_in.weight": torch.zeros(1)}, tmp_path / "part.safetensors")
    assert "is no AutoencoderKL like the model's" in said(file)
    assert "does not exist; expected a file" in said(tmp_path / "nothing")
    assert "give --vae-memory tiling" in said(Path("tiling"))
    (tmp_path / "broken.safetensors").write_bytes(b"x")
    assert "cannot be read" in said(tmp_path / "broken.safetensors")
    with pytest.raises(SteerError, match=r"set pipe.vae of a pipeline in memory"):
        drawn(tiny_sd(), vae=str(tmp_path / "sixteen"))
