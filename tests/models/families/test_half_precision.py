"""Every family in half precision from a saved folder: finite images, and each part in its precision."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from support.families import Family, all_families, each_class

from steer.models.device import dtype_name
from steer.models.load import load_model
from steer.models.options import modules_of
from steer.models.single_file import part_dtype
from steer.prompts.prompt import Prompt
from steer.registry.plugins import manager
from steer.sampling.hooks import make_run

pytestmark = [
    pytest.mark.slow,  # saves and loads each family
    pytest.mark.filterwarnings("ignore:this CPU emulates"),
]


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """One folder for each class of pipelines, by the name of a family."""
    found: dict[type, tuple[str, Path]] = {}
    for family in all_families():
        pipe = family.make()
        if type(pipe) not in found:
            found[type(pipe)] = family.name, tmp_path_factory.mktemp(family.name)
            pipe.save_pretrained(found[type(pipe)][1])
    assert {name for name, _ in found.values()} == {family.name for family in each_class()}
    return dict(found.values())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("family", each_class(), ids=lambda family: family.name)
def test_images_are_finite_and_parts_as_precise_as_they_must_be(
    folders, family: Family, dtype: torch.dtype, monkeypatch
) -> None:
    backbone = load_model(str(folders[family.name]), manager(), device="cpu", dtype=dtype_name(dtype)).backbone
    for name, value in family.backbone.items():
        monkeypatch.setattr(type(backbone), name, value)
    precision = type(backbone).precision(dtype)
    for name, part in modules_of(backbone.pipe).items():
        assert next(part.parameters()).dtype == part_dtype(precision, name), name
    vae = backbone.pipe.vae
    overflows = vae.dtype == torch.float16 and getattr(vae.config, "force_upcast", False)
    assert backbone.safe_vae.dtype == (torch.float32 if overflows else vae.dtype)
    size = {} if family.size is None else {"width": family.size[0], "height": family.size[1]}
    settings = {"steps": 2, **family.guided, **size}
    samples = make_run(backbone, [Prompt(family.texts[0], seed=5)], settings=settings).search().samples
    assert torch.isfinite(samples).all() and samples.dtype == torch.float32
