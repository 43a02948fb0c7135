"""``steer doctor`` tells what is there and what is broken."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from support.families import Family, each_class
from support.memory_model import modeled
from support.pretended import REAL
from support.tiny import tiny_sd

from steer.cli.parts import diagnosis as doctor
from steer.models.backbone import Backbone
from steer.models.families.sd import StableDiffusion
from steer.models.footprint import Footprint, footprint
from steer.models.load import load_model
from steer.models.options import modules_of
from steer.models.room import bytes_of
from steer.models.single_file import part_dtype
from steer.registry.declarations import Weights
from steer.registry.plugins import Broken, Plugins, manager
from steer.registry.registry import Entry, Origin


def test_it_reports_versions_devices_memory_and_verdicts() -> None:
    data = doctor.diagnose(Plugins())
    assert data["packages"]["torch"] == torch.__version__.split("+")[0]
    assert data["devices"][0]["name"] == "cpu"
    assert data["problems"] == []


def test_broken_plugins_are_problems_with_their_reason() -> None:
    plugins = Plugins()
    origin = Origin("mine", "1.0", "mine (mine)")
    plugins.registry.entries["reward"]["bad"] = Entry("reward", "bad", "no_such_module_here:x", "", origin)
    plugins.broken.append(Broken(Origin("other", "2.0", "other"), "ImportError: no gpu"))
    problems = "\n".join(doctor.diagnose(plugins)["problems"])
    assert "reward bad: broken: No module named 'no_such_module_here'" in problems
    assert "plugin other: broken: ImportError: no gpu" in problems


def test_texts_of_others_are_printed_as_they_are(monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    from rich.console import Console

    from steer.cli.doctor import _print

    plugins = Plugins()
    plugins.broken.append(Broken(Origin("other", "2.0", "other"), "ImportError: pip install 'x[gpu]' [/gpu]"))
    _print(doctor.diagnose(plugins), Console(width=200))
    assert "pip install 'x[gpu]' [/gpu]" in capsys.readouterr().out


def test_the_hub_cache_lists_repositories_with_their_sizes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    blobs = tmp_path / "models--org--name" / "blobs"
    blobs.mkdir(parents=True)
    (blobs / "abc").write_bytes(bytes(20_000_000))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    assert doctor.hub_cache()["repositories"] == {"org/name": 0.02}


def test_weights_of_plugins_are_told_with_their_size_and_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    snapshot = tmp_path / "models--org--name" / "snapshots" / "abc"
    snapshot.mkdir(parents=True)
    (snapshot / "here.pt").write_bytes(b"")
    (snapshot.parent.parent / "refs").mkdir()
    (snapshot.parent.parent / "refs" / "main").write_text("abc")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    plugins = Plugins()
    files = [Weights("org/name", "here.pt"), Weights("org/name", "there.pt", size=2_000_000_000)]
    plugins.registry.reward("mine", "no_such_module:Mine", weights=files)
    plugins.registry.method("argued", "no_such_module:Argued", weights="no_such_module:function")
    rows = doctor.diagnose(plugins)["weights"]
    assert [(row["name"], row["file"], row["cached"]) for row in rows] == [
        ("mine", "here.pt", str(snapshot / "here.pt")),
        ("mine", "there.pt", None),
    ]
    assert rows[1]["label"] == "there.pt of org/name (2.0 GB)"


@pytest.mark.parametrize(
    ("device", "memory", "verdict"),
    [
        (42.0, 128.0, "fits the GPU ("),
        (34.0, 128.0, "encoders and the rest in turns (18.0 GB at a time"),  # less than a third is left
        (24.0, 64.0, "encoders and the rest in turns (18.0 GB at a time"),
        (18.5, 64.0, "with --offload model"),  # CUDA itself takes some
        (17.0, 64.0, "with --offload model (its transformer takes 16.0 GB"),
        (8.0, 64.0, "--offload sequential"),
        (None, 64.0, "on the CPU"),
        (None, 16.0, "too large for this machine (about 58.0 GB"),
    ],
)
def test_verdicts_follow_from_the_memory(device: float | None, memory: float, verdict: str) -> None:
    parts = {"transformer": 16 * 10**9, "text_encoder": 10 * 10**9, "text_encoder_2": 10**9}
    assert verdict in doctor.verdict_of(Footprint(parts, 2 * 10**9), device, memory)


@pytest.mark.slow  # a pipeline is made and saved
def test_a_models_configurations_tell_what_it_takes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pipe = tiny_sd()
    pipe.save_pretrained(tmp_path / "model")
    for weights in tmp_path.glob("model/*/*.safetensors"):
        weights.unlink()
    need = footprint(tmp_path / "model", StableDiffusion)
    assert need.parts == {
        name: 2 * sum(leaf.numel() for leaf in getattr(pipe, name).parameters()) for name in ("unet", "vae")
    } | {"text_encoder": need.parts["text_encoder"]}
    assert need.decoding >= 2 * 16 * 16 * 16 * 3  # a resnet's input, output and what is between at the image's size
    data = doctor.diagnose(manager(), [str(tmp_path / "model"), "org/none"])["models"]
    assert "0.0 GB" in data[str(tmp_path / "model")]
    assert "no pipeline in diffusers format" in data["org/none"]
    (tmp_path / "model" / "vae" / "config.json").unlink()
    assert "config.json" in said_of(tmp_path / "model")


def said_of(model: Path) -> str:
    return doctor.diagnose(manager(), [str(model)])["models"][str(model)]


@pytest.mark.slow  # pipelines are made and saved
@pytest.mark.skipif(REAL is not None, reason="a real accelerator tells by itself")
@pytest.mark.parametrize("family", each_class(), ids=lambda family: family.name)
def test_every_familys_parts_and_activations_are_those_of_the_model_on_a_gpu(family: Family, tmp_path: Path) -> None:
    family.make().save_pretrained(tmp_path)
    for weights in tmp_path.rglob("*.safetensors"):
        weights.unlink()
    pipe = family.make()
    cls = type(load_model(pipe, manager()).backbone)
    for name, part in modules_of(pipe).items():
        part.to(part_dtype(cls.precision(cls.half), name))
    parts = {name: bytes_of([part]) for name, part in modules_of(pipe).items() if name not in Backbone.optional}
    with modeled() as memory:
        backbone = load_model(pipe.to("cuda"), manager()).backbone
        latents = torch.zeros(1, *backbone.latent_shape(None, None), device="cuda")
        with torch.no_grad():
            decoding = memory.beside(lambda: backbone.decode(latents))
    need = footprint(tmp_path, cls)
    assert need.parts == parts
    assert need.decoding == pytest.approx(decoding, rel=0.1)


@pytest.mark.slow  # a pipeline is made and saved
def test_a_pipeline_without_a_family_is_told_its_weights(tmp_path: Path) -> None:
    tiny_sd().save_pretrained(tmp_path)
    index = json.loads((tmp_path / "model_index.json").read_text())
    (tmp_path / "model_index.json").write_text(json.dumps({**index, "_class_name": "StableDiffusionPanoramaPipeline"}))
    assert "0.0 GB" in said_of(tmp_path)
    (tmp_path / "model_index.json").write_text(json.dumps({**index, "_class_name": "NoPipeline"}))
    assert "describe no model that can be made (AttributeError" in said_of(tmp_path)


@pytest.mark.slow  # a pipeline is made and saved
@pytest.mark.parametrize(
    ("part", "change", "said"),
    [
        ("unet", {"block_out_channels": [0, 0]}, "does not describe a UNet2DConditionModel"),
        ("unet", {"block_out_channels": 7}, "does not describe a UNet2DConditionModel"),
        ("vae", {"norm_num_groups": 5}, "does not describe a AutoencoderKL"),
        ("vae", {"latent_channels": 3}, "describe no model that can be made"),
        ("scheduler", {"beta_schedule": "none"}, "describe no model that can be made (NotImplementedError"),
        ("", {"unet": 5}, "describe no model that can be made (TypeError"),
        ("", {"unet": ["diffusers", "utils"]}, "describe no model that can be made"),
    ],
)
def test_foreign_configurations_are_told(tmp_path: Path, part: str, change: dict[str, Any], said: str) -> None:
    tiny_sd().save_pretrained(tmp_path)
    names = {"": "model_index.json", "scheduler": "scheduler_config.json"}
    file = tmp_path / part / names.get(part, "config.json")
    file.write_text(json.dumps({**json.loads(file.read_text()), **change}))
    assert said in said_of(tmp_path) and "\n" not in said_of(tmp_path)
