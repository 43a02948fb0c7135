"""Students on a pretended device: their weights and steps are where the model is."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from support.pretended import STRICT, pretended
from support.tiny import brightness
from support.tiny_students import lora_file, tiny_sdxl, unet_file

from steer import Sampler


@pytest.mark.parametrize(("form", "steps"), [(unet_file, 1), (lora_file, 4)], ids=["unet-1", "lora-4"])
def test_a_student_draws_and_is_steered_on_the_device(form, steps: int, tmp_path: Path) -> None:
    pipe = tiny_sdxl()
    file = form(pipe, tmp_path / ("student.bin" if form is unet_file else "student.safetensors"))
    with pretended(STRICT):
        sampler = Sampler(pipe.to(torch.device(STRICT)))
        options = {"dmd2": {"student": str(file), "steps": steps}}
        methods = ["dmd2", "fk"] if steps > 1 else ["dmd2"]
        result = sampler.generate("a red circle", methods=methods, options=options, reward=brightness, particles=2)
        assert result.items[0].samples[0].reward is not None
        ((_, student),) = sampler.backbone.denoisers._read.values()
        assert {value.device.type for value in student.state_dict().values()} == {STRICT}
