"""When a student's weights are fetched and read: not before a population begins, and once."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support import renders
from support.hub_server import Hub, as_hub, serve
from support.tiny import tiny_sd
from support.tiny_students import lora_file, unet_file

from steer import Sampler, SteerError
from steer.evaluate.compare.measure import Measurer, Settings
from steer.evaluate.compare.spec import parse_entries
from steer.prompts.prompt import Prompt
from steer.registry.plugins import manager
from steer.render import Renderer, Spec
from steer.render.local import LocalEngine
from steer.sampling.session import Session
from steer_dmd2 import loading

REPO = "someone/student"
CARD = {"format": 1, "family": "StableDiffusionPipeline", "base": "tiny", "schedules": {"1": [399]}, "form": "unet"}
CARD |= {"guidance_scale": 1.0, "training": {}}
OPTIONS = {"dmd2": {"student": REPO}}


@pytest.fixture
def student(tmp_path: Path) -> dict[str, bytes]:
    """A student of the tiny model, as its folder holds it."""
    from safetensors.torch import save

    state = torch.load(unet_file(tiny_sd(), tmp_path / "unet.bin"), weights_only=True)
    return {"student.json": json.dumps(CARD).encode(), "student.safetensors": save(state)}


@pytest.fixture
def hub(student: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """A hub that has it."""
    with serve(Hub({REPO: student})) as server, as_hub(server, tmp_path / "cache", monkeypatch):
        yield server


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The weights that were read."""
    files: list[Path] = []
    original = loading._read
    monkeypatch.setattr(loading, "_read", lambda file: files.append(file) or original(file))
    return files


def session(sampler: Sampler, options: dict[str, Any]) -> Session:
    return Session(sampler.model, sampler.plugins, methods=["dmd2"], options=options)


def asked_for_weights(hub: Hub) -> list[str]:
    return [path for _, path, _ in hub.requests if path.endswith("student.safetensors")]


@pytest.mark.slow
def test_what_only_plans_fetches_no_weights_and_changes_no_model(hub: Hub, tmp_path: Path, reads) -> None:
    pipe = tiny_sd()
    spec = Spec(renders.asked(pipe, methods=["dmd2"], options=OPTIONS, particles=2, chunk=2))
    engines: list[LocalEngine] = []

    def engine(spec: Spec) -> LocalEngine:
        engines.append(LocalEngine(spec))
        return engines[-1]

    plan = Renderer(tmp_path / "out", spec, engine).plan([Prompt("a circle"), Prompt("a square")])
    assert plan.nfe == 4
    assert plan.groups[0].settings["denoiser"] == f"dmd2 {REPO} 1"
    sampler = Sampler(pipe)
    assert session(sampler, OPTIONS).packs([Prompt("a circle")])
    (entry,) = parse_entries([f"dmd2:student={REPO}"], [], manager())
    measurer = Measurer(sampler, Settings([], []))
    measurer.check([Prompt("a circle")])
    measurer.session(entry).packs([Prompt("a circle")])
    for model in (sampler.backbone, engines[0]._session.backbone):
        assert list(model.denoisers) == ["base"]
    assert not reads and not asked_for_weights(hub)
    asked = {path.rpartition("/")[2] for _, path, _ in hub.requests if REPO in path}
    assert asked == {"student.json"}  # which says the steps


def test_a_known_student_is_planned_without_a_single_request(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    sampler = Sampler(tiny_sd())
    preset = loading.PRESETS["sd-turbo"]
    monkeypatch.setitem(loading.PRESETS, "sd-turbo", preset.__class__(**{**vars(preset), "build": None}))
    session(sampler, {"dmd2": {"student": "sd-turbo", "steps": 2}}).packs([Prompt("a circle")])
    assert not hub.requests and list(sampler.backbone.denoisers) == ["base"]


@pytest.mark.slow
def test_weights_are_fetched_and_read_once_for_all_packs(hub: Hub, reads) -> None:
    sampler = Sampler(tiny_sd())
    settings = {"methods": ["dmd2"], "options": OPTIONS, "seed": 1}
    first = sampler.generate([Prompt("a circle"), Prompt("a square", settings={"particles": 2})], **settings)
    asked = asked_for_weights(hub)
    assert len([path for path in asked if "/resolve/" in path]) and len(reads) == 1
    again = sampler.generate("a circle", **settings)
    assert asked_for_weights(hub) == asked and len(reads) == 1
    assert np.array_equal(np.asarray(first.images[0]), np.asarray(again.images[0]))
    assert list(sampler.backbone.denoisers) == ["base"]  # the model is as it was
    plain = sampler.generate("a circle", seed=1, steps=1, guidance_scale=1.0).images[0]
    assert not np.array_equal(np.asarray(plain), np.asarray(again.images[0]))


@pytest.mark.slow
def test_what_does_not_fit_is_told_before_anything_is_fetched(hub: Hub, student, tmp_path: Path, reads) -> None:
    def refused(message: str, **options) -> None:
        with pytest.raises(SteerError, match=message):
            session(Sampler(tiny_sd()), {"dmd2": options}).packs([Prompt("a circle")])

    refused("was not made for dmd2.steps=3", student=REPO, steps=3)
    hub.files["someone/other"] = student | {"student.json": json.dumps(CARD | {"family": "FluxPipeline"}).encode()}
    refused("was made from a FluxPipeline", student="someone/other")
    refused("there is no such repository", student="someone/nothing")
    assert not asked_for_weights(hub)
    # of a file that is here the shapes are known, without its tensors
    from safetensors.torch import save_file

    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "student.json").write_bytes(student["student.json"])
    save_file({"conv_in.weight": torch.zeros(3, 4)}, folder / "student.safetensors")
    refused(r"is for another base: student.safetensors has tensors .*missing", student=str(folder))
    assert not reads


@pytest.mark.slow
def test_a_lora_that_does_not_fit_is_told_before_the_first_step(tmp_path: Path) -> None:
    sampler = Sampler(tiny_sd())
    other = tiny_sd()
    other.unet.mid_block.attentions[0].transformer_blocks[0].attn1.to_q = torch.nn.Linear(8, 8)
    file = lora_file(other, tmp_path / "lora.safetensors")
    options = {"dmd2": {"student": str(file), "steps": 1}}
    begun = session(sampler, options)
    with pytest.raises(SteerError, match="is for another base"):
        next(begun.stream([Prompt("a circle")]))
    assert begun.cost.nfe == 0


@pytest.mark.slow
def test_a_student_of_a_revision_is_fetched_at_it(hub: Hub) -> None:
    Sampler(tiny_sd()).generate("a circle", methods=["dmd2"], options={"dmd2": {"student": f"{REPO}@v1"}})
    fetched = [path for _, path, _ in hub.requests if "/resolve/" in path]
    assert len({path.rpartition("/")[2] for path in fetched}) == 2 and all("/resolve/v1/" in path for path in fetched)
