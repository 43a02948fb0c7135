"""Tiny random models in folders, and a mask."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from PIL import Image

from steer_symmflow.model import SymmFlowConfig, SymmFlowModel
from steer_symmflow.train.cli import unet_config

COLORS = ((0, 0, 0), (255, 0, 0), (0, 255, 0))


def tiny(kind: str) -> SymmFlowModel:
    torch.manual_seed(0)
    unet = {**unet_config((16, 32), 2, (16, 16)), "norm_num_groups": 8, "attention_head_dim": 8}
    colors = COLORS if kind == "masks" else ()
    shift = 1.0 if kind == "masks" else 2.0
    labels = ("none", "box", "disc")
    return SymmFlowModel(SymmFlowConfig(kind, labels, (16, 16), colors, 4.0, patch=2, shift=shift, unet=unet))


@pytest.fixture(scope="session")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("symmflow")
    for kind in ("masks", "classes"):
        tiny(kind).save(root / kind, torch.float32)
    mask = Image.new("RGB", (16, 16))
    mask.paste((255, 0, 0), (2, 3, 9, 12))
    mask.save(root / "mask.png")
    return {"masks": root / "masks", "classes": root / "classes", "mask": root / "mask.png"}


@pytest.fixture(autouse=True)
def small_sheets(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let trainings measure and show few scenes."""
    monkeypatch.setattr("steer_symmflow.train.task.MEASURED", 8)
    monkeypatch.setattr("steer_symmflow.train.task.SHOWN", 4)
