"""Recipes: what they hold, that they make the same image again, and that hostile ones do nothing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image, PngImagePlugin
from safetensors.torch import load_file, save_file
from support import original
from support.commands import Steer
from support.tiny import tiny_sd
from support.tiny_clips import hps_folder
from support.tiny_students import lora_file


def _recipe(path: Path) -> dict[str, Any]:
    data: dict[str, Any] = json.loads(Image.open(path).text["steer"])  # type: ignore[attr-defined]
    return data


def _make(steer: Steer, tiny: Path, out: str, *arguments: str) -> list[Path]:
    done = steer("generate", *arguments, "-m", tiny, "--steps", "3", "--out", out)
    assert done.code == 0, done.err
    return sorted(Path(out).glob("*-[0-9][0-9][0-9].png"))


@pytest.mark.slow
@pytest.mark.parametrize("scheduler", ["ddim", "euler-a", "dpm++"])
def test_plain_images_replay_bit_for_bit(steer: Steer, tiny: Path, scheduler: str) -> None:
    made = _make(steer, tiny, "out", "a red circle", "a blue square", "-n", "2", "--scheduler", scheduler)
    assert len(made) == 4
    done = steer("replay", made[3], "--json")
    assert json.loads(done.out)["equal"] is True
    again = Path(json.loads(done.out)["file"])
    assert Image.open(again).tobytes() == Image.open(made[3]).tobytes()
    assert _recipe(again) == _recipe(made[3])


@pytest.mark.slow  # figures of traces
@pytest.mark.parametrize("prompts", [["a red circle"], ["a blue square", "the photo"]])
def test_steered_images_replay_bit_for_bit(steer: Steer, tiny: Path, prompts: list[str]) -> None:
    made = _make(steer, tiny, "out", *prompts, "-p", "fk", "-r", "./rewards.py:brightness", "-o", "fk.lambda=500")
    assert "--allow-files" in steer("replay", made[0]).error()
    done = steer("replay", made[-1], "--allow-files")
    assert (done.code, "equal to the original" in done.out) == (0, True)


@pytest.mark.slow
def test_a_climbed_image_replays_bit_for_bit_whatever_the_clock_says(steer: Steer, tiny: Path) -> None:
    climb = ["-p", "carinox", "-r", "clip:shapes", "-o", "carinox.weights=uniform", "-o", "carinox.seeds=2"]
    (made,) = _make(steer, tiny, "out", "a red circle", *climb, "-o", "carinox.seconds=1")
    stored = _recipe(made)["options"]["carinox"]
    assert stored.get("seconds") is None and stored["iterations"] >= 1
    assert json.loads(steer("replay", made, "--json").out)["equal"] is True


@pytest.mark.slow
def test_images_of_local_files_replay_and_what_is_missing_or_changed_is_told(steer: Steer, tiny: Path) -> None:
    model = original.write(original.whole(tiny_sd()), Path("model.safetensors"))
    vae = original.write(original.vae(tiny_sd().vae.state_dict()), Path("vae.safetensors"))
    arguments = ["--base", str(tiny), "--vae", str(vae), "--steps", "2", "--out", "out"]
    done = steer("generate", "a red circle", "-m", model, *arguments)
    assert done.code == 0, done.err
    (made,) = Path("out").glob("*-[0-9][0-9][0-9].png")
    assert json.loads(steer("replay", made, "--json").out)["equal"] is True
    vae.rename("moved.safetensors")
    assert "the recipe uses the file 'vae.safetensors' (SHA-256 " in steer("replay", made).error()
    original.write({**original.vae(tiny_sd().vae.state_dict()), "loss.x": torch.zeros(1)}, vae)
    model.rename("elsewhere.safetensors")
    assert "or name its present place by --model" in steer("replay", made).error()
    outcome = json.loads(steer("replay", made, "--model", "elsewhere.safetensors", "--json").out)
    assert (outcome["equal"], list(outcome["files_differ"])) == (True, ["vae.safetensors"])


@pytest.mark.slow
def test_weights_that_are_no_longer_those_of_the_recipe_are_named(steer: Steer, tiny: Path) -> None:
    base, lora = Path("base"), Path("lora")
    tiny_sd().save_pretrained(base)
    lora.mkdir()
    lora_file(tiny_sd(), lora / "pytorch_lora_weights.safetensors")
    model = original.write(original.unet(tiny_sd().unet.state_dict()), Path("unet.safetensors"))
    arguments = ["-m", model, "--base", base, "--lora", lora, "--steps", "1", "--out", "out"]
    done = steer("generate", "a red circle", *map(str, arguments))
    assert done.code == 0, done.err
    (made,) = Path("out").glob("*-[0-9][0-9][0-9].png")
    outcome = json.loads(steer("replay", made, "--json").out)
    assert (outcome["equal"], outcome["weights_differ"]) == (True, {})
    assert set(_recipe(made)["weights"]) == {"unet", "vae", "text_encoder", "lora lora"}
    for file in (base / "text_encoder" / "model.safetensors", lora / "pytorch_lora_weights.safetensors"):
        tensors = load_file(file)
        save_file({name: tensor + 0.01 for name, tensor in tensors.items()}, file, metadata={"format": "pt"})
    assert set(json.loads(steer("replay", made, "--json").out)["weights_differ"]) == {"text_encoder", "lora lora"}
    assert "the weights of text_encoder are others" in steer("replay", made).out


@pytest.mark.slow
def test_rewards_that_are_others_than_they_were_are_named(steer: Steer, tiny: Path) -> None:
    weights = hps_folder(Path("hps")) / "HPS_v2.1_compressed.pt"
    reward = ["-r", "hps+./rewards.py:brightness", "-o", "hps.weights=hps", "-p", "best-of-n", "-o", "best-of-n.n=2"]
    made = _make(steer, tiny, "out", "a red circle", *reward)[0]
    assert set(_recipe(made)["files"]) == {"./rewards.py"}
    outcome = json.loads(steer("replay", made, "--allow-files", "--json").out)
    assert (outcome["equal"], outcome["weights_differ"], outcome["files_differ"]) == (True, {}, {})
    state = torch.load(weights, weights_only=True)
    state["state_dict"]["visual.proj"] += 0.01
    torch.save(state, weights)
    Path("rewards.py").write_text(f"{Path('rewards.py').read_text()}# another line\n")
    done = steer("replay", made, "--allow-files")
    assert "the weights of reward hps in fp32 are others" in done.out and "file ./rewards.py had SHA-256" in done.out


@pytest.mark.slow
@pytest.mark.parametrize(
    ("levels", "code", "said"), [(1, 0, "except for rounding by up to 1/255"), (40, 1, "by up to 40/255")]
)
def test_the_exit_code_says_whether_the_image_is_the_same(
    steer: Steer, tiny: Path, levels: int, code: int, said: str
) -> None:
    (made,) = _make(steer, tiny, "out", "a red circle")
    image = Image.open(made)
    texts = PngImagePlugin.PngInfo()
    for key, text in image.text.items():  # type: ignore[attr-defined]
        texts.add_text(key, text)
    red, *rest = image.getpixel((3, 5))  # type: ignore[misc]
    image.putpixel((3, 5), (red + levels if red < 128 else red - levels, *rest))
    image.save(made, pnginfo=texts)
    done = steer("replay", made, "--out", "again")
    assert (done.code, said in done.out) == (code, True)
    assert Path("again", made.name).is_file()
    outcome = json.loads(steer("replay", made, "--json").out)
    assert (outcome["equal"], outcome["same"], outcome["max_difference"]) == (False, code == 0, levels)


@pytest.mark.slow
def test_parameters_are_written_as_a1111_does(steer: Steer, tiny: Path) -> None:
    arguments = ["-n", "2", "--seed", "7", "--scheduler", "dpm++", "--negative", "blurry", "--choose", "all"]
    made = _make(steer, tiny, "out", "a red circle", *arguments)
    text = Image.open(made[1]).text["parameters"]  # type: ignore[attr-defined]
    first, negative, facts = text.split("\n")
    assert (first, negative) == ("a red circle", "Negative prompt: blurry")
    assert facts.startswith("Steps: 3, Sampler: DPM++ 2M, CFG scale: 7.5, Seed: 8, Size: 16x16, Model: ")


@pytest.mark.slow  # six images, their traces and sheets
def test_odd_prompts_and_ids_stay_in_the_folder_and_replay(steer: Steer, tiny: Path, place: Path) -> None:
    rows = [
        {"prompt": "👩 שלום \u0007\u001b[31m 日本 [/] [red]", "id": "../../x"},
        {"prompt": "word " * 2000, "id": "a/b\0c"},
        {"prompt": "x\u2028y\u0000", "seed": 2**32 - 1},
    ]
    (place / "odd.jsonl").write_text("\n".join(map(json.dumps, rows)))
    made = _make(
        steer, tiny, "out/deep", "-f", "odd.jsonl", "-n", "2", "--choose", "all", "-r", "./rewards.py:brightness"
    )
    assert len(made) == 6
    assert sorted(p.name for p in place.iterdir()) == ["odd.jsonl", "out", "rewards.py"]
    for path in made[1::2]:
        assert "equal to the original" in steer("replay", path, "--allow-files", "--out", "again").out


HOSTILE: list[tuple[dict[str, Any], str]] = [
    ({"settings.particles": 10**9}, "particles"),
    ({"settings.observers": [1]}, "observers"),
    ({"settings.steps": float("nan")}, "steps"),
    ({"settings.timesteps": 5}, "timesteps=5: expected tuple"),
    ({"settings": "x"}, "damaged"),
    ({"prompt": {}}, "damaged"),
    ({"prompt.id": 3}, "damaged"),
    ({"prompt.seed": -1}, "seed"),
    ({"prompt.text": " "}, "blank"),
    ({"methods": ["./evil.py"]}, "--allow-files"),
    ({"reward": ["x.py:f"]}, "--allow-files"),
    ({"options": {"carinox": {"guard": "./evil.py:f"}}}, "--allow-files"),
    ({"options": {"carinox": {"watch": ["shapes", "./evil.py:f"]}}}, "--allow-files"),
    ({"options": {"fk": 3}}, "damaged"),
    ({"model": "../../etc"}, "unknown model"),
    ({"model_options": {"bogus": 1}}, "damaged"),
    ({"choose": "rm"}, "expected best"),
    ({"schema": 2}, "schema"),
    ({"slot": 7}, "no particle 7"),
    ({"slot": -1}, "damaged"),
    ({"extra": 1}, "damaged"),
]


@pytest.mark.slow
def test_hostile_recipes_end_in_one_line(steer: Steer, tiny: Path, place: Path) -> None:
    (made,) = _make(steer, tiny, "out", "a red circle")
    picture, recipe = Image.open(made), _recipe(made)
    for changes, said in HOSTILE:
        changed = json.loads(json.dumps(recipe))
        for name, value in changes.items():
            *path, last = name.split(".")
            table = changed
            for part in path:
                table = table[part]
            table[last] = value
        info = PngImagePlugin.PngInfo()
        info.add_itxt("steer", json.dumps(changed))
        picture.save("hostile.png", pnginfo=info)
        line = steer("replay", "hostile.png", "--out", "never").error()
        assert said in line, (changes, line)
        assert not Path("never").exists()


def test_pngs_without_a_recipe(steer: Steer) -> None:
    Image.new("RGB", (4, 4)).save("plain.png")
    assert "no steer recipe" in steer("replay", "plain.png").error()
    for text in ("{", "[]", "3", '"x"', "[" * 100_000):
        info = PngImagePlugin.PngInfo()
        info.add_itxt("steer", text)
        Image.new("RGB", (4, 4)).save("damaged.png", pnginfo=info)
        assert "damaged" in steer("replay", "damaged.png").error()


def test_damaged_files_beside_a_text_say_nothing_of_it(steer: Steer, place: Path) -> None:
    (place / "run" / "texts").mkdir(parents=True)
    (place / "run" / "texts" / "a.txt").write_text("a town\n")
    (place / "run" / "details.jsonl").write_text('{"id": [], "recipe": {}}\n')
    (place / "run" / "journal.jsonl").write_text('{"id": {}}\n')
    assert "no recipe beside it" in steer("replay", "run/texts/a.txt").error()
