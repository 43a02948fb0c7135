"""The promises on the embedded model: a trained one, as people first meet it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import StableDiffusionPipeline

from steer import Sampler
from steer.processes.schedulers import make_scheduler
from steer.prompts.files import read_prompts
from steer.prompts.prompt import as_prompts
from steer.sampling.hooks import make_run
from steer_shapes import paths

pytestmark = pytest.mark.slow  # a trained model draws dozens of images

PROMPTS = ["a red circle", "three green triangles"]
STEPS = 4
TUNE = Path(__file__).parents[3] / "prompts" / "shapes-tune.jsonl"


@pytest.fixture(scope="module")
def sampler() -> Sampler:
    return Sampler("shapes", device="cpu")


@pytest.fixture(scope="module")
def pipe() -> StableDiffusionPipeline:
    loaded = StableDiffusionPipeline.from_pretrained(str(paths.pipeline()), local_files_only=True)
    loaded.set_progress_bar_config(disable=True)
    return loaded


def stock(pipe: StableDiffusionPipeline, scheduler: str, seeds: list[int], eta: float | None) -> torch.Tensor:
    pipe = StableDiffusionPipeline(**{**pipe.components, "scheduler": make_scheduler(scheduler, pipe.scheduler)})
    pipe.set_progress_bar_config(disable=True)
    keywords = {} if eta is None else {"eta": eta}
    images: torch.Tensor = pipe(
        PROMPTS, num_images_per_prompt=2, num_inference_steps=STEPS, guidance_scale=4.0, output_type="pt",
        generator=[torch.Generator().manual_seed(seed) for seed in seeds], **keywords,
    ).images  # fmt: skip
    return images


@pytest.mark.parametrize(("scheduler", "eta"), [("ddim", 1.0), ("euler", None), ("dpm++", None)])
def test_unsteered_samples_equal_the_stock_pipelines(sampler, pipe, scheduler: str, eta: float | None) -> None:
    run = make_run(
        sampler.backbone,
        as_prompts(PROMPTS),
        settings={
            "steps": STEPS,
            "scheduler": scheduler,
            "eta": eta,
            "particles": 2,
            "guidance_scale": 4.0,
            "chunk": 4,  # as stock: kernels differ in the last bits between batch sizes
        },
    )
    seeds = [job.seed + slot for job in run.jobs for slot in range(2)]
    difference = (run.search().samples - stock(pipe, scheduler, seeds, eta)).abs().max()
    assert difference <= 1e-5


def test_its_own_defaults_come_from_its_folder(sampler: Sampler) -> None:
    item = sampler.generate("a red circle", steps=1).items[0]
    assert item.recipe.settings["guidance_scale"] == 4.0
    assert sampler.model.defaults["steps"] == 30


def test_an_image_is_the_same_alone_and_in_a_full_batch(sampler: Sampler) -> None:
    prompts = [f"a {color} star" for color in ("red", "blue", "green", "pink")]
    crowd = sampler.generate(prompts, particles=2, steps=STEPS, choose="all", chunk=5)
    alone = sampler.generate(prompts[2], particles=1, steps=STEPS, choose="all", chunk=1)
    one, other = np.asarray(alone.images[0]).astype(int), np.asarray(crowd.items[2].images[0]).astype(int)
    assert np.abs(one - other).max() <= 1  # 1e-4 is less than a step of 1/255


@pytest.mark.arithmetic
@pytest.mark.thorough
def test_fk_lifts_the_mean_of_its_particles(sampler: Sampler) -> None:
    prompts = read_prompts(TUNE)[::10]
    settings = {"particles": 4, "steps": 6, "eta": 1.0, "chunk": 24}
    plain = sampler.generate(prompts, reward="shapes", judge="clip", choose="all", **settings)
    unsteered = {
        "shapes": [item.mean_reward for item in plain.items],
        "clip": [np.mean([sample.judge["clip"] for sample in item.samples]) for item in plain.items],
    }
    for reward, lam in (("shapes", 40.0), ("clip", 2.0)):  # strong, so that few images show it: by 3.5 to 4.5 errors
        options = {"fk": {"potential": "diff", "lambda": lam}}
        steered = sampler.generate(prompts, methods=["fk"], reward=reward, options=options, **settings)
        lift = np.array([item.mean_reward for item in steered.items]) - unsteered[reward]
        assert lift.mean() > 2 * lift.std(ddof=1) / len(lift) ** 0.5


def test_its_clip_prefers_the_right_caption(sampler: Sampler) -> None:
    from steer_rewards.clip import Clip
    from steer_shapes.reward import ShapesReward

    item = sampler.generate("a red circle", particles=2, steps=8, reward="shapes", choose="best", seed=0).items[0]
    image = torch.from_numpy(np.asarray(item.images[0])).permute(2, 0, 1)[None].float() / 255
    assert ShapesReward()(image, ["a red circle"]).item() == 1
    scores = Clip()(image.expand(3, -1, -1, -1), ["a red circle", "a blue circle", "a red star"])
    assert scores.argmax() == 0
