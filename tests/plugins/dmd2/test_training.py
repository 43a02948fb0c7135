"""``steer train dmd2`` at tiny size: the same losses after a break, every form, and what it refuses."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path

import pytest
import torch
from PIL import Image
from support.families.flux import tiny_dev, tiny_schnell
from support.families.sd import tiny_sd3
from support.tiny import tiny_sd

from steer import SteerError
from steer.registry.plugins import manager
from steer.sampling.sampler import Sampler
from steer.training import Watch, files
from steer.training.checkpoints import _save
from steer.training.display import Silent
from steer_dmd2.train import data as datasets
from steer_dmd2.train import session
from steer_dmd2.train.recipe import Recipe

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
    return Recipe(teacher=str(teacher), data=str(data), **values)


def train(
    recipe: Recipe,
    out: Path,
    *,
    resume: bool = False,
    kill_after: int | None = None,
    reward: str | None = None,
    told: list[str] | None = None,
    **watch,
) -> Path:
    class Shown(Silent):
        def say(self, text: str) -> None:
            if told is not None:
                told.append(text)

        def show(self, done: float, total: float | None = None, *, note: str | None = None) -> None:
            if done == kill_after:
                raise KilledError

    settings = Watch(**{"save_every": 2, "sheet_every": 100, "log_every": 1, **watch})
    return session.train(
        recipe, out, manager(), watch=settings, reward=reward, resume=resume, device="cpu", display=Shown()
    )


def losses(out: Path) -> list[dict[str, float]]:
    rows = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    return [{k: v for k, v in row.items() if k != "seconds"} for row in rows if "phase" in row]


@pytest.mark.parametrize(("killed", "changes"), [
    (5, {"pixel_gan": 1.0, "pixel_gan_rate": 1e-3}),
    pytest.param(3, {"accumulate": 2, "gan": 0.0, "lora": 2}, marks=pytest.mark.thorough),
])  # fmt: skip
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
    from support.tiny_students import tiny_sdxl

    tiny_sdxl().save_pretrained(tmp_path / "sdxl")
    plan = recipe(tmp_path / "sdxl", images, warmup=0, pairs=0, critic_warmup=0, steps=1, simulate=False)
    folder = train(plan, tmp_path / "run")
    assert json.loads((folder / "student.json").read_text())["family"] == "StableDiffusionXLPipeline"
    with pytest.raises(SteerError, match="was made from a StableDiffusionXLPipeline"):
        Sampler(tiny_sd()).generate("a circle", methods=["dmd2"], options={"dmd2": {"student": str(folder)}})


@pytest.mark.parametrize(("make", "changes"), [
    (tiny_sd3, {"lora": 2, "critic_lora": 2}),
    pytest.param(tiny_sd3, {"width": 32, "height": 16}, marks=pytest.mark.thorough),
    pytest.param(tiny_dev, {"width": 32, "height": 32}, marks=pytest.mark.thorough),
    pytest.param(tiny_schnell, {"lora": 2, "width": 32, "height": 32}, marks=pytest.mark.thorough),
], ids=["sd3-lora", "sd3-wide", "flux-dev", "flux-schnell-lora"])  # fmt: skip
def test_flows_are_teachers_too(tmp_path, images, make, changes) -> None:
    make().save_pretrained(tmp_path / "flow")
    plan = recipe(tmp_path / "flow", images, pairs=2, pair_steps=2, warmup=1, steps=2, **changes)
    folder = train(plan, tmp_path / "run", sheet_every=4)
    assert (tmp_path / "run" / "sheets" / "000004.png").is_file()
    sampler = Sampler(str(tmp_path / "flow"))
    sized = {name: changes[name] for name in ("width", "height") if name in changes}
    drawn = [
        sampler.generate("a circle", methods=methods, options=options, seed=1, steps=steps, **sized)
        for methods, options, steps in ((["dmd2"], {"dmd2": {"student": str(folder)}}, None), ([], {}, 2))
    ]
    assert drawn[0].cost.nfe == 2
    assert drawn[0].images[0].tobytes() != drawn[1].images[0].tobytes()


def test_what_does_not_fit_together_is_refused_in_one_line(teacher, images, tmp_path) -> None:
    prompts = tmp_path / "prompts.txt"
    prompts.write_text("a red circle", encoding="utf-8")
    for changes, data, message in (
        ({"pairs": 0}, images, "--warmup trains on pairs"),
        ({"batch": 5}, images, "multiple of the student's 2 steps, such as 4"),
        ({"timesteps": (499, 999)}, images, "highest first"),
        ({"timesteps": (499, 0)}, images, r"distinct timesteps in 1\.\.999"),
        ({"lora": 2, "start": str(images)}, images, "--lora with --start"),
        ({"start": str(tmp_path / "none")}, images, "is not a folder; expected one written by `steer train dmd2`"),
        ({"start": str(images)}, images, r"has no student\.json"),
        ({"pixel_gan_trunk": "shapes-detector"}, images, "--pixel-gan-trunk is for the discriminator of --pixel-gan"),
        ({"pixel_gan": 1.0, "pixel_gan_trunk": "no"}, images, r"known image features \(shapes-detector\)"),
        ({"warmup": 0, "pairs": 0, "gan": 0.0, "pixel_gan": 1.0}, prompts, "needs images.*or --pixel-gan 0"),
        ({}, "shapes", "has images of 64x64, but the student makes 16x16"),
        ({"warmup": 0, "pairs": 0}, prompts, "captions only, and the GAN needs images"),
        ({}, tmp_path / "nowhere", "expected a folder of images"),
        ({}, "shapes-masks", r"a known source \(shapes\)"),
    ):
        with pytest.raises(SteerError, match=message):
            train(recipe(teacher, data, **changes), tmp_path / "run")
    with pytest.raises(SteerError, match="unknown reward 'nothing'"):
        train(recipe(teacher, images), tmp_path / "run", reward="nothing")
    with pytest.raises(SteerError, match="'length' scores texts, and the student makes images"):
        train(recipe(teacher, images), tmp_path / "run", reward="length")
    with pytest.raises(SteerError, match="holds no run"):
        train(recipe(teacher, images), tmp_path / "run", resume=True)
    assert not (tmp_path / "run").exists()
    with pytest.raises(SteerError, match="cannot be written to"):
        train(recipe(teacher, images), prompts / "run")
    train(recipe(teacher, images, warmup=0, pairs=0, critic_warmup=0, steps=1), tmp_path / "done")
    with pytest.raises(SteerError, match="holds a run already"):
        train(recipe(teacher, images), tmp_path / "done")
    with pytest.raises(SteerError, match="has ratio=2, now it is 7"):
        train(recipe(teacher, images, warmup=0, pairs=0, critic_warmup=0, ratio=7), tmp_path / "done", resume=True)


def test_a_resumed_run_says_what_is_wrong_with_what_it_finds(teacher, images, tmp_path) -> None:
    plan = recipe(teacher, images, warmup=0, pairs=0, critic_warmup=0, steps=2)
    train(plan, tmp_path, save_every=1)
    log = tmp_path / "log.jsonl"
    rows = log.read_text().splitlines(keepends=True)
    log.write_text("".join(rows) + '{"step": 2, "los')  # the power went as it was written
    train(plan, tmp_path, resume=True)
    assert log.read_text().splitlines(keepends=True) == rows
    with pytest.raises(SteerError, match="has taken 2 steps already, of 1 that were asked for; give --steps 2 or more"):
        train(dataclasses.replace(plan, steps=1), tmp_path, resume=True)
    checkpoint = tmp_path / "checkpoint.pt"
    whole = checkpoint.read_bytes()
    for content in (whole[: len(whole) // 2], b"", b"\x80\x04N."):
        checkpoint.write_bytes(content)
        with pytest.raises(SteerError, match=r"cannot resume from checkpoint .*checkpoint\.pt"):
            train(plan, tmp_path, resume=True)
    checkpoint.write_bytes(whole)
    (tmp_path / "recipe.json").write_text("[1]")
    with pytest.raises(SteerError, match=r"recipe\.json (cannot be read|holds a JSON)"):
        train(plan, tmp_path, resume=True)


def test_encoded_images_are_used_again_only_for_the_same_data(images, tmp_path) -> None:
    encoded = []

    def encode(batch: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        encoded.append(len(batch))
        return batch, torch.zeros_like(batch)

    def load(folder: Path, model: str = "a") -> datasets.Dataset:
        cache = tmp_path / "latents.safetensors"
        return datasets.load(str(folder), manager(), encode, (8, 8), cache, model=model, scenes=1, seed=0)

    first = load(images)
    again = load(images)
    assert encoded == [3] and again.captions == first.captions and torch.equal(again.mean, first.mean)
    other = tmp_path / "other"
    shutil.copytree(images, other)
    (other / "0.txt").write_text("another caption", encoding="utf-8")
    assert load(other).captions[0] == "another caption" and encoded == [3, 3]
    Image.new("RGB", (16, 16), "white").save(other / "1.png")
    assert load(other).mean[1].min() == 1 and encoded == [3, 3, 3]
    load(other, "b")
    assert len(encoded) == 4


def test_a_full_disk_is_told_and_leaves_the_old_file_whole(tmp_path) -> None:
    import resource

    from safetensors.torch import save_file

    path = tmp_path / "file"
    path.write_text("old")
    state = {"w": torch.zeros(200_000)}
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        for write in (
            lambda p: _save(state, p),
            lambda p: save_file(state, p),
            lambda p: p.write_text("n" * 800_000),
        ):
            resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))
            with pytest.raises(SteerError, match=r"file cannot be written \(.*; make room, or choose another --out"):
                files.write_whole(path, write)
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
            assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    before = path.stat().st_mode
    (tmp_path / ".file.part").write_text("what a killed run left")
    files.write_whole(path, lambda p: save_file(state, p))
    assert path.stat().st_mode == before and list(tmp_path.iterdir()) == [path]


def test_a_run_begins_from_a_student_once_and_says_if_other_processes_go_on(teacher, images, tmp_path) -> None:
    short = {"warmup": 0, "pairs": 0, "critic_warmup": 0, "steps": 1, "gan": 0.0}
    first = train(recipe(teacher, images, **short, seed=1), tmp_path / "first")
    begun = recipe(teacher, images, **{**short, "steps": 2, "rate": 1e-12}, start=str(first))
    out = tmp_path / "second"
    with pytest.raises(KilledError):
        train(begun, out, kill_after=2, save_every=1)
    start = datasets.load_file(first / "student.safetensors")
    shutil.rmtree(first)  # what it began from is in the checkpoint
    checkpoint = out / "checkpoint.pt"
    state = torch.load(checkpoint, weights_only=True)
    torch.save({**state, "step": 1, "processes": 2}, checkpoint)
    told: list[str] = []
    folder = train(begun, out, resume=True, told=told)
    end = datasets.load_file(folder / "student.safetensors")
    assert all(torch.allclose(start[name], end[name], atol=1e-6) for name in start)
    assert any(line.startswith("2 processes before, 1 now") for line in told)


def test_images_that_are_no_squares_and_teachers_of_v(images, tmp_path) -> None:
    tiny_sd("v_prediction").save_pretrained(tmp_path / "teacher")
    plan = recipe(tmp_path / "teacher", images, warmup=0, pairs=0, critic_warmup=0, steps=1, width=24, height=48)
    folder = train(plan, tmp_path / "run")
    assert json.loads((folder / "student.json").read_text())["prediction"] == "v_prediction"
    with pytest.raises(SteerError, match=r"made from a model with v_prediction .* this model has epsilon"):
        Sampler(tiny_sd()).generate("a circle", methods=["dmd2"], options={"dmd2": {"student": str(folder)}})


def test_rates_that_are_too_high_are_told(teacher, images, tmp_path) -> None:
    plan = recipe(teacher, images, warmup=0, pairs=0, critic_warmup=0, rate=1e30, critic_rate=1e30)
    with pytest.raises(SteerError, match="the training has diverged; start over in another --out with a lower --rate"):
        train(plan, tmp_path / "run")


def test_a_teacher_of_another_family_is_refused(tmp_path) -> None:
    from types import SimpleNamespace

    from steer_dmd2.train.teacher import check_family

    pipe = type("PixArtAlphaPipeline", (), {})()
    other = SimpleNamespace(pipe=pipe, scheduler=SimpleNamespace(config={}))
    with pytest.raises(SteerError, match="is a PixArtAlphaPipeline; train dmd2 takes StableDiffusionPipeline, "):
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
        ('{"file_name": "a.png"}', 'expected {"file_name".*; its keys are file_name'),
        ('{"file_name": "../../etc/hosts", "text": "x"}', "not a file inside"),
        ('{"file_name": "a.png", "text": " "}', "no caption for 'a.png'"),
        ("{", "line 1: not JSON"),
        ("[" * 100_000, "line 1: JSON is nested too deep"),
        ('{"file_name": "a\\u0000.png", "text": "x"}', 'expected {"file_name"'),
        ('{"file_name": "' + "a" * 5000 + '.png", "text": "x"}', "not a file inside"),
        ("[1]", 'expected {"file_name"'),
    ):
        metadata.write_text(row, encoding="utf-8")
        with pytest.raises(SteerError, match=message):
            datasets.read_folder(tmp_path)
    metadata.write_bytes('{"file_name": "a.png", "text": "café"}'.encode("latin-1"))
    with pytest.raises(SteerError, match="expected UTF-8 text"):
        datasets.read_folder(tmp_path)
    metadata.write_text('{"file_name": "a.png", "text": "a\u2028circle"}\n', encoding="utf-8")
    assert datasets.read_folder(tmp_path)[0][1] == "a\u2028circle"
