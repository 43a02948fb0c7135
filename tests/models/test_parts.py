"""``--part``: a ControlNet and other parts by folder, in recipes and replays; those that do not fit are told."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from diffusers import ControlNetModel
from PIL import Image
from support.any_pipelines import controlnet, photo
from support.commands import Steer
from support.tiny import tiny_sd

from steer import SteerError
from steer.models.options import ModelOptions
from steer.models.parts import parse

CONTROL = ("--pipeline", "StableDiffusionControlNetPipeline", "--steps", "2", "--input", "image=edges.png")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with Stable Diffusion in ``model``, and ControlNets in ``control`` and ``other``."""
    found = tmp_path_factory.mktemp("parts")
    pipe = tiny_sd()
    pipe.save_pretrained(found / "model")
    for seed, name in enumerate(("control", "other")):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            controlnet(pipe.components).save_pretrained(found / name)
    return found


def test_they_are_written_as_names_and_places() -> None:
    assert parse(["controlnet=a/b", "vae=./c=d"]) == (("controlnet", "a/b"), ("vae", "./c=d"))
    for typed, message in ((["controlnet"], "expected NAME=ID"), (["vae=a", "vae=b"], "vae is given twice: 'a' and")):
        with pytest.raises(SteerError, match=message):
            parse(typed)
    options = ModelOptions(parts=(("controlnet", "a/b"),))
    assert ModelOptions.from_dict(options.as_dict()) == options
    assert "parts" not in ModelOptions().as_dict()


@pytest.mark.slow
def test_a_controlnet_and_a_model_make_the_stock_image_and_are_replayed(
    steer: Steer, folder: Path, tmp_path: Path
) -> None:
    from diffusers import StableDiffusionControlNetPipeline

    photo().save("edges.png")
    ours = tmp_path / "control"
    control = ControlNetModel.from_pretrained(folder / "control")
    control.save_pretrained(ours)
    words = ("-m", folder / "model", *CONTROL, "--part", f"controlnet={ours}", "--seed", "5")
    done = steer("generate", "a red circle", *words, "--out", "out")
    assert done.code == 0, done.err
    pipe = StableDiffusionControlNetPipeline.from_pretrained(folder / "model", controlnet=control, safety_checker=None)
    generator = torch.Generator().manual_seed(5)
    expected = pipe("a red circle", image=photo(), num_inference_steps=2, generator=generator).images[0]
    (file,) = Path("out").glob("*-[0-9][0-9][0-9].png")
    assert Image.open(file).tobytes() == expected.tobytes()
    assert steer("replay", file).code == 0
    ControlNetModel.from_pretrained(folder / "other").save_pretrained(ours)
    again = steer("replay", file, "--out", "again")
    assert again.code == 1 and "the weights of controlnet are others than they were" in again.out


@pytest.mark.slow
def test_a_part_replaces_the_models_own(steer: Steer, folder: Path) -> None:
    other = tiny_sd(prediction_type="epsilon")
    with torch.no_grad():
        other.unet.conv_out.weight.mul_(0.5)
    other.unet.save_pretrained("unet")
    for name, more in (("own", ()), ("other", ("--part", "unet=unet"))):
        words = ("-m", folder / "model", "--steps", "2", "--seed", "5", *more, "--out", name)
        assert steer("generate", "a red circle", *words).code == 0
    own, replaced = (Image.open(next(Path(name).glob("*-000.png"))) for name in ("own", "other"))
    expected = other("a red circle", num_inference_steps=2, generator=torch.Generator().manual_seed(5)).images[0]
    assert replaced.tobytes() == expected.tobytes() != own.tobytes()


@pytest.mark.parametrize(
    ("typed", "message"),
    [
        ((), "has no controlnet, without which StableDiffusionControlNetPipeline cannot run; name one by --part"),
        (("--part", "controlnets=control"), "unknown part of StableDiffusionControlNetPipeline 'controlnets'"),
        (("--part", "controlnet=./gone"), "part controlnet: './gone' does not exist; expected a folder"),
        (("--part", "controlnet={}/model/unet"), "is a UNet2DConditionModel, expected ControlNetModel"),
        (("--part", "controlnet=."), "has no config.json; fetch or copy it again"),
        (("--part", "controlnet"), "expected NAME=ID|FOLDER"),
    ],
)
def test_a_part_that_does_not_fit_is_told(steer: Steer, folder: Path, typed: tuple[str, ...], message: str) -> None:
    photo().save("edges.png")
    words = tuple(word.format(folder) for word in typed)
    done = steer("generate", "a red circle", "-m", folder / "model", *CONTROL, *words, "--out", "out")
    assert message in done.error()
    assert not Path("out").exists()
