"""Students on a pretended device: their weights and steps are where the model is."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from support.pretended import CUDA, STRICT, pretended
from support.tiny import brightness, tiny_sd
from support.tiny_students import difference_folder, lora_file, tiny_sdxl, unet_file

from steer import Sampler
from steer.models import load
from steer.registry.plugins import manager
from steer_dmd2.train.teacher import Teacher


@pytest.mark.slow
@pytest.mark.parametrize(
    ("form", "steps"),
    [(unet_file, 1), (lora_file, 4), (difference_folder, 4)],
    ids=["unet-1", "lora-4", "difference-4"],
)
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


@pytest.mark.slow
@pytest.mark.skipif(CUDA != "cuda", reason="the machine has another accelerator")
def test_a_teacher_trains_on_a_gpu_that_its_encoders_leave(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tiny_sd().save_pretrained(tmp_path)
    x, time = torch.randn(2, 4, 8, 8), torch.tensor([900, 100])

    def found(device: str) -> list[torch.Tensor]:
        teacher = Teacher(str(tmp_path), manager(), device=device)
        student = teacher.copy("student")
        teacher.encode_images(torch.zeros(1, 3, 16, 16))
        there = [x.detach().to(device).requires_grad_(), time.to(device)]
        out = teacher.predict("base", *there, teacher.encode(["a red circle", "a"], 3.0))
        out = out + teacher.predict("student", *there, teacher.encode(["a", "a square"]))
        (out.sum() + teacher.decode(there[0]).sum()).backward()
        places = [part.device.type for part in (teacher.backbone.pipe.text_encoder, student)]
        assert places == ["cpu", device]
        return [out.detach().cpu(), student.conv_in.weight.grad.cpu(), there[0].grad.cpu()]

    expected = found("cpu")
    monkeypatch.setattr(load, "pick_device", torch.device)
    monkeypatch.setattr(load, "room_of", lambda device: 1000)
    with pretended():
        for one, other in zip(found("cuda"), expected, strict=True):
            assert torch.allclose(one, other, atol=1e-5)
