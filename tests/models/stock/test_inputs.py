"""Inputs of a pipeline's call: from the command line and from rows, in recipes and replays, and hostile ones."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from support.any_pipelines import mask, photo
from support.commands import Steer

import steer as steering
from steer import SteerError
from steer.models.stock.inputs import checked, read_file
from steer.models.stock.signature import Argument, CallSignature

IMG2IMG = ("--pipeline", "StableDiffusionImg2ImgPipeline", "--steps", "3")
IMAGE = Argument("image", "image", many=False, required=True)


def recipe(path: Path) -> dict[str, Any]:
    data: dict[str, Any] = json.loads(Image.open(path).text["steer"])  # type: ignore[attr-defined]
    return data


def made(folder: str) -> list[Path]:
    return sorted(Path(folder).glob("*-[0-9][0-9][0-9].png"))


def test_what_a_call_takes_is_read_from_its_signature() -> None:
    from diffusers import FluxKontextPipeline, StableDiffusionInpaintPipeline, StableDiffusionXLControlNetPipeline

    inpaint = CallSignature(StableDiffusionInpaintPipeline).inputs
    assert {inpaint[name].kind for name in ("image", "mask_image", "ip_adapter_image")} == {"image"}
    assert (inpaint["strength"].kind, inpaint["padding_mask_crop"].kind) == ("number", "whole")
    assert not inpaint.keys() & {"prompt", "generator", "latents", "prompt_embeds", "callback_on_step_end"}
    control = CallSignature(StableDiffusionXLControlNetPipeline).inputs
    assert (control["guess_mode"].kind, control["original_size"].many) == ("flag", True)
    assert CallSignature(FluxKontextPipeline).inputs["prompt_2"].kind == "text"


@pytest.mark.parametrize(
    ("kind", "many", "typed", "value"),
    [
        ("number", False, "0.5", 0.5),
        ("number", True, "[0.5, 1]", [0.5, 1]),
        ("whole", False, "3", 3),
        ("flag", False, "true", True),
        ("text", False, "true", "true"),
        ("text", True, '["a", "b"]', ["a", "b"]),
        ("whole", True, "[[1, 2], [3, 4]]", [[1, 2], [3, 4]]),
    ],
)
def test_values_are_read_as_the_call_takes_them(kind: str, many: bool, typed: str, value: Any) -> None:
    argument = Argument("it", kind, many, required=False)
    assert checked(argument, typed, None) == value
    assert checked(argument, value, None) == value


@pytest.mark.parametrize(
    ("argument", "value", "message"),
    [
        (Argument("strength", "number", False, False), "much", "strength: got 'much', expected a number"),
        (Argument("clip_skip", "whole", False, False), "1.5", "expected a whole number"),
        (Argument("guess_mode", "flag", False, False), "1", "expected true or false"),
        (Argument("strength", "number", False, False), "[1]", "expected a number"),
        (IMAGE, 3, "image: got 3, expected an image file"),
        (IMAGE, "gone.png", "image: the file .*gone.png does not exist; files are relative to the prompt file"),
        (IMAGE, ".", "is a folder"),
        (IMAGE, {"file": "gone.png", "sha256": "ab"}, r"is not here; put it there, or name .* --input image=FILE"),
    ],
)
def test_bad_values_are_told(argument: Argument, value: Any, message: str, tmp_path: Path) -> None:
    with pytest.raises(SteerError, match=message):
        checked(argument, value, str(tmp_path))


def test_hostile_files_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "text.png").write_text("no picture")
    with pytest.raises(SteerError, match="not a PNG, JPEG or WebP"):
        checked(IMAGE, "text.png", str(tmp_path))
    photo(64).save(tmp_path / "large.png")
    monkeypatch.setattr("steer.prompts.pictures.opening.MAX_PIXELS", 1000)
    with pytest.raises(SteerError, match="64x64 pixels, more than 1,000"):
        checked(IMAGE, "large.png", str(tmp_path))


def test_transparent_parts_are_white_and_masks_are_gray(tmp_path: Path) -> None:
    Image.new("RGBA", (4, 4), (255, 0, 0, 0)).save(tmp_path / "clear.png")
    stored = checked(IMAGE, "clear.png", str(tmp_path))
    assert read_file(Argument("image", "image", False, False), stored).getpixel((0, 0)) == (255, 255, 255)
    assert read_file(Argument("mask_image", "image", False, False), stored).mode == "L"


@pytest.mark.slow
def test_an_input_is_typed_recorded_and_asked_for_by_replay(steer: Steer, tiny: Path) -> None:
    photo().save("photo.png")
    arguments = ("-m", tiny, *IMG2IMG, "--input", "image=photo.png", "--input", "strength=0.7")
    done = steer("generate", "a red circle", *arguments, "-n", "2", "--out", "out")
    assert done.code == 0, done.err
    images = made("out")
    stored = recipe(images[0])["prompt"]["metadata"]
    assert stored["strength"] == 0.7
    assert stored["image"]["file"] == str(Path("photo.png").absolute())
    assert len(stored["image"]["sha256"]) == 64
    assert json.loads(steer("replay", images[1], "--json").out)["equal"] is True
    Path("photo.png").rename("moved.png")
    assert "is not here; put it there, or name its present place" in steer("replay", images[1]).error()
    done = steer("replay", images[1], "--input", "image=moved.png", "--json")
    assert json.loads(done.out)["equal"] is True
    photo(16, 90).save("photo.png")
    assert "has changed: SHA-256" in steer("replay", images[1]).error()
    assert "unknown input file" in steer("replay", images[1], "--input", "mask=moved.png").error()


@pytest.mark.slow
def test_rows_name_files_relative_to_their_prompt_file(steer: Steer, tiny: Path) -> None:
    Path("set/photos").mkdir(parents=True)
    photo().save("set/photos/a.png")
    mask().save("set/mask.png")
    rows = [
        {"id": "one", "prompt": "a red circle", "image": "photos/a.png", "mask_image": "mask.png", "strength": 0.8},
        {"id": "two", "prompt": "a blue square", "image": "photos/a.png"},
    ]
    Path("set/prompts.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    arguments = (
        *("-m", tiny, "--pipeline", "StableDiffusionInpaintPipeline", "--steps", "3", "-p", "fk", "-n", "2"),
        *("-r", "./rewards.py:brightness", "--input", "mask_image=set/mask.png"),
    )
    done = steer("render", "set/prompts.jsonl", *arguments, "--out", "out")
    assert done.code == 0, done.err
    first = recipe(next(Path("out/images").glob("one*.png")))
    assert first["prompt"]["metadata"]["image"]["file"].endswith("set/photos/a.png")
    before = {path: path.stat().st_mtime_ns for path in Path("out/images").glob("*.png")}
    assert steer("render", "--config", "out/run.toml").code == 0
    assert {path: path.stat().st_mtime_ns for path in Path("out/images").glob("*.png")} == before
    photo(16, 90).save("set/photos/a.png")  # another picture is another prompt
    assert steer("render", "set/prompts.jsonl", *arguments, "--out", "out").code == 0
    assert (
        recipe(next(Path("out/images").glob("one*.png")))["prompt"]["metadata"]["image"]
        != (first["prompt"]["metadata"]["image"])
    )


@pytest.mark.slow
def test_a_baseline_and_a_judge_have_the_inputs_too(steer: Steer, tiny: Path) -> None:
    photo().save("photo.png")
    done = steer(
        *("generate", "a red circle", "-m", tiny, *IMG2IMG, "--input", "image=photo.png", "-p", "best-of-n", "-n", "3"),
        *("-r", "./rewards.py:brightness", "--judge", "jpeg", "--baseline", "--out", "out", "--json"),
    )
    assert done.code == 0, done.err
    assert len(made("out/plain")) == 1


@pytest.mark.slow
def test_a_saved_pipeline_without_a_family_is_a_model(steer: Steer, place: Path) -> None:
    from support.any_pipelines import image_kinds

    kind = next(kind for kind in image_kinds() if kind.name == "StableDiffusionControlNetPipeline")
    pipe = kind.make()
    pipe.save_pretrained("control")
    photo().save("edges.png")
    arguments = ("-m", "control", "--input", "image=edges.png", "--steps", "3", "--seed", "5", "--out", "out")
    done = steer("generate", "a red circle", *arguments)
    assert done.code == 0, done.err
    generator = torch.Generator().manual_seed(5)
    image = pipe("a red circle", image=photo(), num_inference_steps=3, generator=generator).images[0]
    assert Image.open(made("out")[0]).tobytes() == image.tobytes()


@pytest.mark.thorough
@pytest.mark.slow
def test_methods_are_compared_at_equal_cost(steer: Steer, tiny: Path) -> None:
    photo().save("photo.png")
    texts = ("a red circle", "a blue square", "the photo", "a circle", "a red square")
    Path("p.txt").write_text("\n".join(texts))
    done = steer(
        *("compare", "p.txt", "-m", tiny, "--pipeline", "StableDiffusionImg2ImgPipeline", "--steps", "2"),
        *("--guidance", "1", "--input", "image=photo.png", "--input", "strength=1.0", "--budget", "nfe=8"),
        *("-r", "./rewards.py:brightness", "--judge", "jpeg", "--method", "plain", "--method", "best-of-n"),
        *("--method", "fk:lambda=50", "-o", "fk.every=0.5", "--out", "c", "--json"),
    )
    assert done.code == 0, done.err
    assert {line["cost"]["nfe"] for line in json.loads(done.out)["lines"]} == {8}


@pytest.mark.parametrize(
    ("typed", "message"),
    [
        (("--input", "picture=photo.png"), "unknown input of StableDiffusionImg2ImgPipeline 'picture'"),
        (("--input", "image"), "expected NAME=VALUE"),
        (("--input", "image=gone.png"), "gone.png does not exist"),
        (("--input", "image=photo.png", "--input", "strength=high"), "strength: got 'high', expected a number"),
        (("--input", "image=rewards.py"), "cannot be read"),
    ],
)
def test_bad_inputs_are_told_before_the_model_is_loaded(
    steer: Steer, tiny: Path, typed: tuple[str, ...], message: str
) -> None:
    photo().save("photo.png")
    assert message in steer("generate", "a red circle", "-m", tiny, *IMG2IMG, *typed, "--out", "out").error()
    assert not Path("out").exists()


def test_a_family_takes_no_inputs(steer: Steer, tiny: Path) -> None:
    photo().save("photo.png")
    error = steer("generate", "a red circle", "-m", tiny, "--input", "image=photo.png", "--out", "out").error()
    assert error == "StableDiffusionPipeline takes no inputs besides the text; drop --input image"


def test_an_unknown_class_is_told(steer: Steer, tiny: Path) -> None:
    error = steer("generate", "a", "-m", tiny, "--pipeline", "StableDiffusionImgToImgPipeline", "--out", "out").error()
    assert "is no pipeline class of diffusers" in error
    assert "StableDiffusionImg2ImgPipeline" in error


def test_an_image_in_memory_is_steered_but_not_replayed() -> None:
    from support.any_pipelines import image_kinds

    kind = next(kind for kind in image_kinds() if kind.name == "StableDiffusionImg2ImgPipeline")
    result = steering.Sampler(kind.make()).generate("a red circle", steps=2, inputs=kind.inputs)
    assert not result.items[0].recipe.replayable
    assert set(result.items[0].recipe.prompt["metadata"]["image"]) == {"sha256"}
