"""A student is treated as the model's own denoiser was: compiled, its attention set, offloaded; the two take turns."""

from __future__ import annotations

import warnings
from pathlib import Path

import accelerate
import pytest
import torch
from safetensors.torch import load_file, save_file
from support.pretended import CUDA, pretended
from support.tiny import tiny_sd
from support.tiny_students import lora_file, unet_file
from torch import nn

from steer import Prompt, Sampler, SteerError
from steer.models import load
from steer.models.options import ModelOptions
from steer.registry.plugins import manager
from steer.sampling.hooks import make_run
from steer.sampling.methods_by_name import make_methods
from steer.sampling.run import Run
from steer_dmd2.loading import Chosen, _way
from steer_dmd2.presets import PRESETS

on_cuda = pytest.mark.skipif(CUDA != "cuda", reason="the machine has another accelerator")


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(unet_file(tiny_sd(), tmp_path_factory.mktemp("student") / "student.bin"))


def run_of(sampler: Sampler, file: str | None) -> Run:
    methods = make_methods(["dmd2"], {"dmd2": {"student": file, "steps": 1}}, manager()) if file else []
    settings = {} if file else {"steps": 1, "guidance_scale": 1.0}
    return make_run(sampler.backbone, [Prompt("a red circle", seed=1)], methods=methods, settings=settings)


def student_of(sampler: Sampler) -> nn.Module:
    return sampler.backbone.denoisers.read()[-1]


def place(module: nn.Module) -> str:
    return next(module.parameters()).device.type


@pytest.mark.slow
def test_it_is_compiled_laid_out_and_its_attention_is_set(file: str, monkeypatch: pytest.MonkeyPatch) -> None:
    told = []
    monkeypatch.setattr("steer.models.options.set_attention", lambda module, name, device: told.append((module, name)))
    options = ModelOptions(compile=True, attention="xformers", channels_last=True)
    sampler = Sampler(tiny_sd(), model_options=options)
    run_of(sampler, file).load_weights()
    assert told == [(sampler.backbone.pipe.unet, "xformers"), (student_of(sampler), "xformers")]
    assert student_of(sampler)._compiled_call_impl is not None
    assert not student_of(sampler).conv_in.weight.is_contiguous()


@pytest.mark.slow
def test_it_is_offloaded_layer_by_layer(file: str) -> None:
    pipe = tiny_sd()
    accelerate.cpu_offload(pipe.unet, torch.device("cpu"))
    sampler = Sampler(pipe)
    images = run_of(sampler, file).search().samples
    assert place(student_of(sampler)) == "meta"
    assert torch.allclose(images, run_of(Sampler(tiny_sd()), file).search().samples, atol=1e-6)


@pytest.mark.slow
@on_cuda
def test_it_is_offloaded_as_a_whole(file: str) -> None:
    with pretended():
        pipe = tiny_sd()
        pipe.enable_model_cpu_offload(device=torch.device("cuda"))
        sampler, seen = Sampler(pipe), []
        run = run_of(sampler, file)
        run.load_weights()
        student = student_of(sampler)
        student.conv_in.register_forward_pre_hook(lambda *_: seen.append([*map(place, (pipe.text_encoder, student))]))
        pipe.vae.decoder.register_forward_pre_hook(lambda *_: seen.append([place(student), place(pipe.unet)]))
        assert place(student) == "cpu"
        _ = run.search().samples
        assert seen == [["cpu", "cuda"], ["cpu", "cpu"]]
        _ = run_of(sampler, None).search().samples  # the model's own, beside the student
        assert seen[2:] == [["cpu", "cpu"]]


@pytest.mark.slow
@on_cuda
def test_the_models_own_leaves_the_device_while_a_student_is_used(file: str, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(load, "pick_device", torch.device)
    tiny_sd().save_pretrained(tmp_path)
    with pretended():
        sampler = Sampler(str(tmp_path), device="cuda", dtype="fp32")
        base = sampler.backbone.pipe.unet
        for used, places in ((file, ["cpu", "cuda"]), (None, ["cuda", "cpu"]), (file, ["cpu", "cuda"])):
            _ = run_of(sampler, used).search().samples
            assert [place(base), place(student_of(sampler))] == places
            assert place(sampler.backbone.pipe.vae) == place(sampler.backbone.pipe.text_encoder) == "cuda"
        run = run_of(sampler, file)
        state = run.begin()
        run.forwards.predict("base", state.x, state.process.timestep, state.conditioning, state.job)  # both at once
        assert [place(base), place(student_of(sampler))] == ["cuda", "cuda"]


@pytest.mark.slow
def test_a_lora_that_a_student_replaces_is_told(file: str, tmp_path: Path) -> None:
    lora = lora_file(tiny_sd(), tmp_path / "lora.safetensors")
    sampler = Sampler(tiny_sd(), model_options=ModelOptions(loras=((str(lora), 1.0),)))
    with pytest.warns(UserWarning, match=r"the model's LoRAs have no effect: .*lora.safetensors; leave them out"):
        run_of(sampler, file).load_weights()
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        run_of(sampler, str(lora)).load_weights()


def test_a_quantized_base_is_refused_with_the_way_that_serves(file: str) -> None:
    pipe = tiny_sd()
    pipe.unet.conv_in.weight = nn.Parameter(torch.zeros(2, dtype=torch.uint8), requires_grad=False)
    with pytest.raises(SteerError, match="whole weights, and these are quantized; take the model as it is"):
        run_of(Sampler(pipe), file)
    backbone = Sampler(tiny_sd()).backbone
    lcm = PRESETS["lcm-sd15"].variants[4]
    way = _way(Chosen("lcm-sd15", lcm.source, "lora", 4, None), backbone)
    file = "latent-consistency/lcm-lora-sdv1-5/pytorch_lora_weights.safetensors"
    assert way.endswith(f"--lora {file}:1 --steps 4 --scheduler lcm --guidance 1")


@pytest.mark.slow
def test_what_a_lora_has_for_other_parts_is_told(tmp_path: Path) -> None:
    lora = lora_file(tiny_sd(), tmp_path / "lora.safetensors")
    side = {f"text_encoder.x.lora_{side}.weight": torch.zeros(2, 2) for side in "AB"}
    save_file({**load_file(lora), **side}, lora)
    with pytest.warns(UserWarning, match=r"what lora.safetensors has for text_encoder is left out"):
        run_of(Sampler(tiny_sd()), str(lora)).load_weights()
