"""Workflows in a real ComfyUI, through its HTTP API, with a tiny model of its own classes.

Runs where ``COMFYUI`` names a checkout whose requirements this interpreter has.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from support.comfyui import ROOT, ComfyUI, tiny_pipeline

from steer import Prompt
from steer.models.load import load_model
from steer.plugin import WeightedSum, make_methods, make_run, manager

VIDEO = {"width": 64, "height": 64, "length": 9, "batch_size": 1}
TEXT, SEED, STEPS, CFG = "a red circle", 7, 5, 3.0
pytestmark = [pytest.mark.slow, pytest.mark.process]


@pytest.fixture(scope="module")
def pipe():
    return tiny_pipeline()


@pytest.fixture(scope="module")
def comfyui(pipe, tmp_path_factory) -> Iterator[ComfyUI]:
    checkout = os.environ.get("COMFYUI")
    if not checkout:
        pytest.skip("COMFYUI is not set")
    server = ComfyUI(Path(checkout), tmp_path_factory.mktemp("comfyui"), pipe, [TEXT, ""])
    (server.base / "models" / "steer" / "mine.py").write_text(
        "def brightness(samples, prompts):\n    return samples.mean(dim=(1, 2, 3))\n"
    )
    yield server
    server.stop()


def brightness(samples: torch.Tensor, prompts: list[str]) -> torch.Tensor:
    return samples.mean(dim=(1, 2, 3))


def graph(batch: int = 1, reward: str = "mine.py:brightness", **nodes):
    return {
        "model": {"class_type": "TinyCheckpoint", "inputs": {"ckpt_name": "tiny"}},
        "positive": {"class_type": "CLIPTextEncode", "inputs": {"text": TEXT, "clip": ["model", 1]}},
        "negative": {"class_type": "CLIPTextEncode", "inputs": {"text": "", "clip": ["model", 1]}},
        "latent": {"class_type": "EmptyLatentImage", "inputs": {"width": 64, "height": 64, "batch_size": batch}},
        "reward": {"class_type": "SteerRewardLoader", "inputs": {"reward": reward, "device": "cpu", "offload": True}},
        **nodes,
    }


def sampler(kind: str, name: str, latent: str = "latent", **inputs):
    parts = {"model": ["model", 0], "positive": ["positive", 0], "negative": ["negative", 0]}
    given = {"seed": SEED, "steps": STEPS, "cfg": CFG, "sampler_name": name, "scheduler": "simple", "denoise": 1.0}
    return {"class_type": kind, "inputs": {**parts, "latent_image": [latent, 0], **given, **inputs}}


def steered(kind: str, name: str, **inputs):
    return sampler(f"Steer{kind}Sampler", name, vae=["model", 2], reward=["reward", 0], prompt=TEXT, **inputs)


def fk(name: str = "euler_ancestral", **inputs):
    return steered("FK", name, **{"particles": 4, "strength": 300.0, "potential": "diff", "keep": 4, **inputs})


def shown(node: str, output: int):
    return {"class_type": "PreviewAny", "inputs": {"source": [node, output]}}


def saved(node: str, output: int):
    return {"class_type": "SaveImage", "inputs": {"images": [node, output], "filename_prefix": node}}


def pixels(comfyui: ComfyUI, output: dict) -> np.ndarray:
    return np.stack(
        [np.asarray(Image.open(comfyui.base / "output" / one["filename"]).convert("RGB")) for one in output["images"]]
    )


def test_fk_in_comfyui_equals_fk_in_steer(comfyui, pipe) -> None:
    """The same weights, seed, schedule and reward; steer begins with ComfyUI's first noise, which is 0.2 % wider."""
    found = comfyui.outputs(graph(fk=fk(), report=shown("fk", 3), images=saved("fk", 1)))
    report = json.loads(found["report"]["text"][0])
    run = make_run(
        load_model(pipe, manager()).backbone,
        [Prompt(TEXT, seed=SEED)],
        methods=make_methods(["fk"], {"fk": {"lambda": 300.0, "potential": "diff"}}, manager()),
        reward=WeightedSum([("brightness", 1.0, brightness)]),
        settings={"particles": 4, "steps": STEPS, "guidance_scale": CFG},
    )
    widest = float(run.process().level[1])
    state = run.sample(noise=run.noise(run.start) * (1 + widest**-2) ** 0.5)
    resampled = [[event.step, event.data["ancestors"]] for event in state.events if event.kind == "resample"]
    assert report["resampled"] == resampled
    assert any(ancestors != [0, 1, 2, 3] for _, ancestors in resampled)
    order = state.rewards().argsort(descending=True)
    assert report["scores"] == pytest.approx(state.rewards()[order].tolist(), abs=1e-4)
    assert report["seeds"] == [SEED + slot for slot in state.slot[order].tolist()]
    assert report["evaluations"] == run.cost.nfe == 4 * STEPS * 2
    theirs = (state.samples[order].movedim(1, -1) * 255).numpy()
    assert np.abs(pixels(comfyui, found["images"]) - theirs).max() < 2


def test_each_of_n_samples_is_what_comfyuis_own_sampler_makes_of_its_seed(comfyui) -> None:
    nodes = {}
    for seed in range(SEED, SEED + 3):
        nodes[f"own{seed}"] = sampler("KSampler", "euler", seed=seed)
        decoded = {"samples": [f"own{seed}", 0], "vae": ["model", 2]}
        nodes[f"images{seed}"] = {"class_type": "VAEDecode", "inputs": decoded}
        nodes[f"saved{seed}"] = saved(f"images{seed}", 0)
        inputs = {"images": [f"images{seed}", 0], "reward": ["reward", 0], "prompt": TEXT}
        nodes[f"score{seed}"] = {"class_type": "SteerScore", "inputs": inputs}
        nodes[f"text{seed}"] = shown(f"score{seed}", 2)
    best = steered("BestOfN", "euler", n=3, at_once=2, keep=3)
    found = comfyui.outputs(graph(best=best, report=shown("best", 3), all=saved("best", 1), **nodes))
    report = json.loads(found["report"]["text"][0])
    assert sorted(report["seeds"]) == [SEED, SEED + 1, SEED + 2]
    assert report["scores"] == sorted(report["scores"], reverse=True)
    assert report["evaluations"] == 3 * STEPS * 2
    images = pixels(comfyui, found["all"]).astype(int)
    for row, (seed, score) in enumerate(zip(report["seeds"], report["scores"], strict=True)):
        assert float(found[f"text{seed}"]["text"][0]) == pytest.approx(score, abs=1e-4)
        assert np.abs(images[row] - pixels(comfyui, found[f"saved{seed}"])[0]).max() <= 1


@pytest.fixture(scope="module")
def names(comfyui) -> list[str]:
    """The samplers that ComfyUI offers for FK."""
    return comfyui.get("/object_info/SteerFKSampler")["SteerFKSampler"]["input"]["required"]["sampler_name"][0]


def test_fk_steers_every_sampler_that_it_offers(comfyui, names) -> None:
    """Particles keep apart, whatever noise the sampler draws, and none depends on the size of its batch."""
    nodes = {}
    for name in names:
        for strength in (300.0, 0.0):
            nodes[f"{name}:{strength:g}"] = fk(name, strength=strength, options="fk.at=1,2")
            nodes[f"report:{name}:{strength:g}"] = shown(f"{name}:{strength:g}", 3)
        nodes[f"two:{name}"] = fk(name, strength=0.0, particles=2)
        nodes[f"report:two:{name}"] = shown(f"two:{name}", 3)
    found = comfyui.outputs(graph(**nodes))
    reports = {key: json.loads(value["text"][0]) for key, value in found.items()}
    for name in names:
        tilted, plain, two = (reports[f"report:{key}"] for key in (f"{name}:300", f"{name}:0", f"two:{name}"))
        assert any(len(set(ancestors)) < 4 for _, ancestors in tilted["resampled"]), name
        assert len({round(score, 9) for score in tilted["scores"]}) == 4, name
        assert plain["resampled"] == [], name
        alone = dict(zip(plain["seeds"], plain["scores"], strict=True))
        for seed, score in zip(two["seeds"], two["scores"], strict=True):
            assert alone[seed] == pytest.approx(score, abs=1e-4), name


def test_the_best_and_those_above_a_threshold_go_on_with_their_latents(comfyui) -> None:
    scored = {"images": ["all", 1], "scores": ["all", 2], "latent": ["all", 0]}
    nodes = {
        "all": steered("BestOfN", "euler", n=4, at_once=4, keep=4),
        "report": shown("all", 3),
        "best": {"class_type": "SteerTakeBest", "inputs": {**scored, "n": 2}},
        "none": {"class_type": "SteerThreshold", "inputs": {**scored, "threshold": 5.0, "if_none": "skip"}},
        "one": {"class_type": "SteerThreshold", "inputs": {**scored, "threshold": 5.0, "if_none": "best"}},
        "decoded": {"class_type": "VAEDecode", "inputs": {"samples": ["best", 1], "vae": ["model", 2]}},
    }
    for node, output in (("best", 0), ("none", 0), ("one", 0), ("decoded", 0)):
        nodes[f"saved:{node}"] = saved(node, output)
    found = comfyui.outputs(graph(**nodes))
    best = pixels(comfyui, found["saved:best"]).astype(int)
    assert best.shape == (2, 64, 64, 3)
    assert np.abs(best - pixels(comfyui, found["saved:decoded"])).max() <= 1
    assert len(found["saved:one"]["images"]) == 1
    assert "saved:none" not in found
    failing = {"class_type": "SteerThreshold", "inputs": {**scored, "threshold": 5.0, "if_none": "error"}}
    message = comfyui.error(graph(all=nodes["all"], failing=failing, saved=saved("failing", 0)))
    assert message.startswith("no image reaches the threshold 5: the best of 4 has ")


def test_what_needs_a_latent_that_is_not_connected_is_left_out(comfyui) -> None:
    """ComfyUI tells its window why, and nobody else."""
    nodes = {
        "all": steered("BestOfN", "euler", n=2, at_once=2, keep=2),
        "best": {"class_type": "SteerTakeBest", "inputs": {"images": ["all", 1], "scores": ["all", 2], "n": 1}},
        "decoded": {"class_type": "VAEDecode", "inputs": {"samples": ["best", 1], "vae": ["model", 2]}},
    }
    found = comfyui.outputs(graph(images=saved("best", 0), latent_images=saved("decoded", 0), **nodes))
    assert len(found["images"]["images"]) == 1
    assert "latent_images" not in found


@pytest.mark.parametrize("name", ["euler_ancestral", "dpmpp_2m_sde", "lcm"])
def test_flow_models_are_steered_too(comfyui, name) -> None:
    """``dpmpp_2m_sde`` begins a little below the first noise level of a flow."""
    flow = {"class_type": "ModelSamplingSD3", "inputs": {"model": ["model", 0], "shift": 3.0}}
    found = comfyui.outputs(graph(flow=flow, fk=fk(name, model=["flow", 0]), report=shown("fk", 3)))
    report = json.loads(found["report"]["text"][0])
    assert [step for step, _ in report["resampled"]] == [1, 2, 3, 4]
    assert len(report["scores"]) == 4


def test_a_part_of_an_image_is_sampled_again(comfyui) -> None:
    """With a mask, and noise from halfway on."""
    nodes = {
        "mask": {"class_type": "SolidMask", "inputs": {"value": 1.0, "width": 64, "height": 64}},
        "first": sampler("KSampler", "euler"),
        "masked": {"class_type": "SetLatentNoiseMask", "inputs": {"samples": ["first", 0], "mask": ["mask", 0]}},
        "report": shown("fk", 3),
    }
    nodes["fk"] = fk(latent="masked", denoise=0.5)
    report = json.loads(comfyui.outputs(graph(**nodes))["report"]["text"][0])
    assert len(report["scores"]) == 4
    assert report["resampled"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"reward": "shaped"}, "unknown reward 'shaped'"),
        ({"reward": "./input/mine.py:brightness"}, "a workflow may name Python files of"),
        ({"fk": fk(options="fk.strat=0.1")}, "unknown option fk.strat"),
    ],
)
def test_a_typing_error_is_shown_before_anything_runs(comfyui, changes, message) -> None:
    status, answer = comfyui.queue(graph(**{"fk": fk(), "images": saved("fk", 1), **changes}))
    assert status == 400
    assert message in json.dumps(answer["node_errors"])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"batch": 2}, "got 2 latents; give one (batch_size 1): the sampler makes its own batch of particles"),
        ({"fk": fk(options="fk.keep=0.5")}, "a method changed the number of particles from 4 to 2"),
        ({"fk": fk(options="fk.at=50")}, "fk.at=50 is outside the run's steps; expected 0..4"),
        (
            {"latent": {"class_type": "EmptyHunyuanLatentVideo", "inputs": VIDEO}},
            "got the latent of a video, (1, 4, 3, ",
        ),
        (
            {"model": {"class_type": "TinyCheckpoint", "inputs": {"ckpt_name": "large"}}},
            "memory does not suffice for 4 images at once; lower particles or at_once, or the size",
        ),
    ],
)
def test_a_mistake_ends_in_one_line(comfyui, changes, message) -> None:
    text = comfyui.error(graph(**{"fk": fk(), "images": saved("fk", 1), **changes}))
    assert text.startswith(message)
    assert "\n" not in text


def test_the_shipped_workflow_runs(comfyui) -> None:
    """With the tiny model in the checkpoint's place, and a reward that needs no download in CLIP's."""
    (file,) = (ROOT / "plugins" / "steer_comfyui" / "workflows").glob("*.json")
    nodes = json.loads(file.read_text())
    nodes["1"]["class_type"] = "TinyCheckpoint"
    nodes["2"]["inputs"]["value"] = TEXT
    nodes["5"]["inputs"] |= {"width": 64, "height": 64}
    nodes["6"]["inputs"]["reward"] = "shapes"
    found = comfyui.outputs(nodes)
    assert len(found["8"]["images"]) == 1
    assert json.loads(found["9"]["text"][0])["prompt"] == TEXT
