"""``steer train dmd2`` at tiny size: the same losses after a break, every form, and what it refuses."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from PIL import Image
from tiny import tiny_sd

from steer import SteerError
from steer.api import Sampler
from steer.plugins import manager
from steer_dmd2.train import data as datasets
from steer_dmd2.train.recipe import Recipe
from steer_dmd2.train.session import Watch, run

CAPTIONS = ["a red circle", "a blue square", "a photo of the circle"]


class KilledError(Exception):
    """Stands for the power cut."""


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("teacher")
    tiny_sd().save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("images")
    for index, caption in enumerate(CAPTIONS):
        Image.new("RGB", (20 + index, 16), (80 * index, 40, 200)).save(folder / f"{index}.png")
        (folder / f"{index}.txt").write_text(caption, encoding="utf-8")
    return folder


def recipe(teacher: Path, data: Path, **changes) -> Recipe:
    values = {
        "timesteps": (999, 499), "guidance_scale": 3.0, "steps": 3, "ratio": 2, "batch": 4, "rate": 1e-3,
        "critic_rate": 1e-3, "warmup": 2, "pairs": 4, "pair_steps": 2, "critic_warmup": 1, "snr_clip": 5.0, **changes,
    }  # fmt: skip
    return Recipe(str(teacher), str(data), **values)


def train(recipe: Recipe, out: Path, *, resume: bool = False, kill_after: int | None = None, **watch) -> Path:
    def tell(text: str) -> None:
        if kill_after is not None and text.startswith(f"{kill_after}/"):
            raise KilledError

    settings = {"save_every": 2, "sheet_every": 100, "log_every": 1, **watch}
    return run(recipe, out, manager(), Watch(**settings), resume=resume, device="cpu", tell=tell)


def losses(out: Path) -> list[dict[str, float]]:
    rows = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    return [{k: v for k, v in row.items() if k != "seconds_a_step"} for row in rows if "phase" in row]


@pytest.mark.parametrize(("killed", "changes"), [(5, {}), (3, {"accumulate": 2, "gan": 0.0, "lora": 2})])
def test_a_killed_run_resumes_to_the_same_losses(teacher, images, tmp_path, killed: int, changes) -> None:
    plan = recipe(teacher, images, **changes)
    whole = train(plan, tmp_path / "whole")
    with pytest.raises(KilledError):
        train(plan, tmp_path / "broken", kill_after=killed)
    broken = train(plan, tmp_path / "broken", resume=True)
    assert losses(tmp_path / "broken") == losses(tmp_path / "whole")
    assert len(losses(tmp_path / "whole")) == plan.total == 6
    phases = [row["phase"] for row in losses(tmp_path / "whole")]
    assert phases == ["regression"] * 2 + ["critic"] + ["matching"] * 3
    a, b = (datasets.load_file(folder / "student.safetensors") for folder in (whole, broken))
    assert a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)
    result = Sampler(str(teacher)).generate(CAPTIONS[0], methods=["dmd2"], options={"dmd2": {"student": str(whole)}})
    assert len(result.images) == 1 and result.cost.nfe == 2


def test_the_loss_falls_on_captions_alone_with_the_teachers_own_samples(teacher, tmp_path) -> None:
    prompts = tmp_path / "prompts.txt"
    prompts.write_text("\n".join(CAPTIONS), encoding="utf-8")
    plan = recipe(teacher, prompts, timesteps=(699,), warmup=25, pairs=8, steps=1, critic_warmup=0, warmup_rate=3e-3)
    train(plan, tmp_path / "run", reward="jpeg", sheet_every=26)
    regression = [row["regression"] for row in losses(tmp_path / "run") if "regression" in row]
    assert sum(regression[-5:]) < 0.7 * sum(regression[:5])
    assert (tmp_path / "run" / "sheets" / "000026.png").is_file()
    assert "reward" in (tmp_path / "run" / "log.jsonl").read_text()


def test_an_sdxl_teacher_trains_too(tmp_path, images) -> None:
    from tiny_students import tiny_sdxl

    tiny_sdxl().save_pretrained(tmp_path / "sdxl")
    plan = recipe(tmp_path / "sdxl", images, warmup=0, pairs=0, critic_warmup=0, steps=1, simulate=False)
    folder = train(plan, tmp_path / "run")
    assert json.loads((folder / "student.json").read_text())["family"] == "StableDiffusionXLPipeline"
    with pytest.raises(SteerError, match="was made from a StableDiffusionXLPipeline"):
        Sampler(tiny_sd()).generate("a circle", methods=["dmd2"], options={"dmd2": {"student": str(folder)}})


def test_what_does_not_fit_together_is_refused_in_one_line(teacher, images, tmp_path) -> None:
    prompts = tmp_path / "prompts.txt"
    prompts.write_text("a red circle", encoding="utf-8")
    for changes, data, message in (
        ({"pairs": 0}, images, "--warmup trains on pairs"),
        ({"batch": 5}, images, "multiple of the student's 2 steps"),
        ({"timesteps": (499, 999)}, images, "highest first"),
        ({"warmup": 0, "pairs": 0}, prompts, "captions only, and the GAN needs images"),
        ({}, tmp_path / "nowhere", "expected a folder of images"),
        ({}, "shapes-masks", "comes without captions"),
    ):
        with pytest.raises(SteerError, match=message):
            train(recipe(teacher, data, **changes), tmp_path / "run")
    assert not (tmp_path / "run" / "recipe.json").exists()
    train(recipe(teacher, images, warmup=0, pairs=0, critic_warmup=0, steps=1), tmp_path / "done")
    with pytest.raises(SteerError, match="holds a run already"):
        train(recipe(teacher, images), tmp_path / "done")
    with pytest.raises(SteerError, match="has ratio=2, now it is 7"):
        train(recipe(teacher, images, warmup=0, pairs=0, critic_warmup=0, ratio=7), tmp_path / "done", resume=True)


def test_a_teacher_of_another_family_is_refused(tmp_path) -> None:
    from types import SimpleNamespace

    from steer_dmd2.train.teacher import check_family

    pipe = type("PixArtAlphaPipeline", (), {})()
    other = SimpleNamespace(pipe=pipe, scheduler=SimpleNamespace(config={}))
    with pytest.raises(SteerError, match="is a PixArtAlphaPipeline; train dmd2 takes UNet families"):
        check_family(other, "pixart")


def test_folders_of_images_are_read_both_ways_and_missing_captions_named(images, tmp_path) -> None:
    assert [text for _, text in datasets.read_folder(images)] == CAPTIONS
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    with pytest.raises(SteerError, match=r"a\.png has no caption"):
        datasets.read_folder(tmp_path)
    metadata = tmp_path / "metadata.jsonl"
    metadata.write_text('{"file_name": "a.png", "text": "a circle"}\n', encoding="utf-8")
    assert [(path.name, text) for path, text in datasets.read_folder(tmp_path)] == [("a.png", "a circle")]
    for row, message in (
        ('{"file_name": "a.png"}', "no caption for 'a.png'"),
        ('{"file_name": "../../etc/hosts", "text": "x"}', "no file inside"),
        ("{", "line 1: .* expected one JSON object"),
    ):
        metadata.write_text(row, encoding="utf-8")
        with pytest.raises(SteerError, match=message):
            datasets.read_folder(tmp_path)
