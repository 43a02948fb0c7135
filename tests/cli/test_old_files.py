"""Files of versions before settings had one declaration are read as they were."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from steer.cli.parts.config import read_toml
from steer.cli.parts.sampling_options import gathered, request_of
from steer.cli.render import RENDER_KEYS
from steer.errors import SteerError
from steer.evaluate.compare.compare_all import Request, _asked
from steer.evaluate.compare.folder import Folder
from steer.prompts.prompt import Prompt
from steer.render import replay
from steer.results.recipe import Recipe
from steer.sampling.request import SamplingRequest
from steer.settings.run_settings import RunSettings

RUN = """
# To go on: steer render --config old/run.toml
steps = 2
guidance = 2.0
eta = 0.5
scheduler = "ddim"
negative = "a blue square"
size = "64x64"
particles = 2
chunk = 2
reward = ["shapes"]
judge = ["clip:shapes"]
plugin = ["fk"]
run_seed = 3
choose = "all"
replicates = 1
previews = 2
dtype = "fp32"
out = "old"
file = ["old/prompts.jsonl"]
model = "shapes"
layout = "images"

[options.fk]
lambda = "2"

[versions]
steer = "0.1.0"
torch = "2.15.0"
diffusers = "0.42.1"
"""

RECIPE = """
{"cfg_setting": "guidance_scale", "choose": "all", "device": "cpu", "dtype": "float32", "judge": ["clip:shapes"],
"methods": ["fk"], "model": "shapes", "model_options": {"attention": null, "compile": false, "loras": [],
"offload": "none", "preview": null, "vae": []}, "options": {"fk": {"lambda": "2"}}, "prompt": {"category": null,
"id": "b572f47d20", "metadata": {}, "seed": 3976626585, "text": "a red circle"}, "replayable": true,
"reward": ["shapes"], "run_seed": 3, "sampler": "DDIM", "schema": 1, "settings": {"chunk": 2, "denoiser": "base",
"eta": 0.5, "guidance_scale": 2.0, "height": 64, "length": null, "negative": "a blue square", "particles": 2,
"scheduler": "ddim", "steps": 2, "temperature": null, "timesteps": [900, 400], "true_cfg_scale": 1.0, "width": 64},
"versions": {"diffusers": "0.42.1", "steer": "0.1.0", "torch": "2.15.0"}}
"""

ASKED = RunSettings(
    steps=2,
    guidance_scale=2.0,
    eta=0.5,
    scheduler="ddim",
    negative="a blue square",
    width=64,
    height=64,
    particles=2,
    chunk=2,
)

COMPARISON = {
    "reward": ["shapes"],
    "judge": ["clip:shapes"],
    "model": "shapes",
    "success": None,
    "replicates": 1,
    "seed": None,
    "run_seed": 0,
    "steps": 2,
    "guidance": 2.0,
    "eta": None,
    "scheduler": None,
    "size": "64x64",
    "chunk": 4,
    "embed": None,
    "clock": "wall",
    "dtype": None,
}
"""``compare.json``, without the digests of prompts."""


def test_a_run_file(tmp_path: Path) -> None:
    (tmp_path / "run.toml").write_text(RUN)
    request = request_of(gathered(read_toml(tmp_path / "run.toml", RENDER_KEYS), {}))
    assert request.settings == ASKED
    assert (list(request.methods), request.options) == (["fk"], {"fk": {"lambda": "2"}})
    assert (request.model, request.dtype, request.choose, request.run_seed) == ("shapes", "fp32", "all", 3)


def test_savings_of_the_autoencoder_by_their_old_name(tmp_path: Path) -> None:
    (tmp_path / "run.toml").write_text(f'vae = ["tiling"]\n{RUN}')
    request = request_of(gathered(read_toml(tmp_path / "run.toml", RENDER_KEYS), {}))
    assert (request.model_options.vae_memory, request.model_options.vae) == (("tiling",), None)
    recipe = json.loads(RECIPE)
    recipe["model_options"]["vae"] = ["slicing"]
    assert replay.request_of(Recipe(**recipe)).model_options.vae_memory == ("slicing",)


def test_a_recipe() -> None:
    request = replay.request_of(Recipe(**json.loads(RECIPE)), model="elsewhere")
    assert request.settings == ASKED.having(timesteps=(900, 400), denoiser="base", true_cfg_scale=1.0)
    assert (request.model, request.dtype, request.seed) == ("elsewhere", "fp32", None)
    assert set(request.arguments()) >= {"methods", "reward", "judge", "options", "choose", "run_seed", "timesteps"}


def test_the_folder_of_a_comparison(tmp_path: Path) -> None:
    def asked(**settings) -> dict:
        settings = RunSettings(**{"steps": 2, "guidance_scale": 2.0, "width": 64, "height": 64, "chunk": 4, **settings})
        sampling = SamplingRequest(reward=("shapes",), judge=("clip:shapes",), settings=settings)
        return _asked(Request([Prompt("a red star")], ["plain"], sampling))

    digests = {name: asked()[name] for name in ("prompts", "tuning")}
    (tmp_path / "compare.json").write_text(json.dumps({**COMPARISON, **digests}))
    (tmp_path / "cells").mkdir()
    (tmp_path / "cells" / "plain.jsonl").write_text("{}\n")
    with Folder(str(tmp_path)).open(asked()):
        pass
    of_today = {**asked(), "model_options": {"vae_memory": ["slicing"]}}
    (tmp_path / "compare.json").write_text(json.dumps({**of_today, "model_options": {"vae": ["slicing"]}}))
    with Folder(str(tmp_path)).open(of_today):
        pass
    (tmp_path / "compare.json").write_text(json.dumps(asked()))
    for settings in ({"guidance_scale": 3.0}, {"negative": "a square"}):
        with (
            pytest.raises(SteerError, match=r"holds a comparison with another (guidance|negative);"),
            Folder(str(tmp_path)).open(asked(**settings)),
        ):
            pass
