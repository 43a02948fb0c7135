"""Reading images whose files are odd: their names, their shapes, their modes."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from steer.cli.app import app
from steer_symmflow.model import load
from steer_symmflow.reading.overlay import LARGEST, SMALLEST, mask_picture, overlay


@pytest.mark.slow
def test_pictures_have_names_that_any_file_system_takes(folders, tmp_path: Path) -> None:
    images = tmp_path / "images"
    images.mkdir()
    for name in ("n" * 251, "<b>\n[red]", "same", "ünïcode"):
        Image.new("RGB", (16, 16)).save(images / f"{name}.png")
    (images / "SAME.JPG").write_bytes((images / "same.png").read_bytes())
    arguments = ["segment", images, "-m", f"symmflow:{folders['masks']}", "--steps", 1, "--draws", 1,
                 "--device", "cpu", "--out", tmp_path / "out", "--json"]  # fmt: skip
    result = CliRunner().invoke(app, [str(a) for a in arguments])
    assert result.exit_code == 0, result.output
    masks = [Path(row["mask"]).name for row in json.loads(result.stdout)["rows"]]
    assert sorted(masks) == sorted(
        ["_b___red_-mask.png", "SAME-mask.png", f"{'n' * 180}-mask.png", "same-2-mask.png", "ünïcode-mask.png"]
    )
    assert all((tmp_path / "out" / name).is_file() for name in masks)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("size", "shown"),
    [((16, 16), (SMALLEST, SMALLEST)), ((300, 500), (300, 500)), ((1, 6000), (1, LARGEST)), ((4, 1000), (8, 2000)),
     ((5000, 2500), (LARGEST, LARGEST // 2))],
)  # fmt: skip
def test_overlays_are_neither_tiny_nor_vast(folders, size: tuple[int, int], shown: tuple[int, int]) -> None:
    config = load(folders["masks"]).config
    labels = np.ones((16, 16), np.int64)
    labels[8:] = 2
    mask = mask_picture(config, labels, size[::-1])
    picture = overlay(config, Image.new("RGB", size, "white"), mask)
    legend = 2 * 16 + 4
    assert picture.size == (shown[0], shown[1] + legend)
    tinted = np.asarray(picture)[: shown[1] // 4, :, :].reshape(-1, 3)
    assert (tinted == tinted[0]).all() and tinted[0][0] > tinted[0][1]  # the first label is red
