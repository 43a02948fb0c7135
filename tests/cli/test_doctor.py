"""``steer doctor`` tells what is there and what is broken."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from steer.cli.parts import diagnosis as doctor
from steer.registry.declarations import Weights
from steer.registry.plugins import Broken, Plugins
from steer.registry.registry import Entry, Origin


def test_it_reports_versions_devices_memory_and_verdicts() -> None:
    data = doctor.diagnose(Plugins())
    assert data["packages"]["torch"] == torch.__version__.split("+")[0]
    assert data["devices"][0]["name"] == "cpu"
    assert set(data["families"]) == set(doctor.FAMILIES_GB)
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
    [(80.0, 128.0, "fits the GPU"), (8.0, 64.0, "--offload"), (None, 64.0, "CPU"), (8.0, 16.0, "too large")],
)
def test_verdicts_follow_from_the_memory(device: float | None, memory: float, verdict: str) -> None:
    assert verdict in doctor._fits(18.0, device, memory)
