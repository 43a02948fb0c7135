"""The wheel: what it installs at the top level, that it holds the data, and its size."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
WALL_MB = 60


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    out = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(out), str(ROOT)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    (path,) = out.glob("*.whl")
    return zipfile.ZipFile(path)


def test_top_level_names_are_the_packages_and_nothing_else(wheel: zipfile.ZipFile) -> None:
    names = {name.split("/")[0] for name in wheel.namelist()}
    names = {name for name in names if not name.endswith(".dist-info")}
    plugins = {folder.name for folder in (ROOT / "plugins").iterdir() if (folder / "__init__.py").is_file()}
    assert names == {"steer", *plugins}


def test_data_that_commands_need_is_inside(wheel: zipfile.ZipFile) -> None:
    names = set(wheel.namelist())
    assert {
        "steer/py.typed",
        "steer/data/prompts/shapes.jsonl",
        "steer/render/page/static/app.js",
        "steer_live/static/live.js",
    } <= names
    assert "steer_shapes/weights/pipeline/model_index.json" in names
    assert "steer_shapes/weights/pipeline/preview/diffusion_pytorch_model.safetensors" in names
    assert "steer_dmd2/weights/shapes-4step/student.safetensors" in names
    assert "steer_symmflow/weights/masks/model.safetensors" in names
    assert any(name.startswith("steer/testing/templates/") for name in names)
    assert "steer_shapes/weights/clip/open_clip_config.json" in names


def test_size_stays_below_the_wall(wheel: zipfile.ZipFile) -> None:
    size = sum(info.compress_size for info in wheel.infolist()) / 1e6
    assert size <= WALL_MB


def test_entry_points_name_importable_modules(wheel: zipfile.ZipFile) -> None:
    (entry_file,) = (name for name in wheel.namelist() if name.endswith("entry_points.txt"))
    text = wheel.read(entry_file).decode()
    assert "steer = steer.cli.app:main" in text
    plugins = [line.split("=")[1].strip() for line in text.splitlines() if " = steer_" in line]
    assert plugins
    for module in plugins:
        assert f"{module}/__init__.py" in wheel.namelist()
