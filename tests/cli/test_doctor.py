"""``steer doctor`` tells what is there and what is broken."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from support.tiny import tiny_sd

from steer.cli.parts import diagnosis as doctor
from steer.models.families.sd import StableDiffusion
from steer.models.footprint import Footprint, footprint
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
        (34.0, 128.0, "fits the GPU ("),
        (24.0, 64.0, "encoders and the rest in turns (18.0 GB at a time"),
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
    assert "config.json" in doctor.diagnose(manager(), [str(tmp_path / "model")])["models"][str(tmp_path / "model")]
