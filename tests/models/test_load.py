"""Loading models: what works and what a mistake says."""

from __future__ import annotations

import json
import warnings

import pytest
import torch
from support.tiny import tiny_sd

import steer
from steer import SteerError
from steer.models import load
from steer.models.device import pick_device, pick_dtype
from steer.models.load import load_model
from steer.registry.plugins import manager


def one_line_error(model) -> str:
    with pytest.raises(SteerError) as caught:
        load_model(model, manager(), device="cpu")
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.slow
def test_a_saved_folder_gives_what_the_pipeline_in_memory_gives(tmp_path) -> None:
    pipe = tiny_sd()
    pipe.save_pretrained(tmp_path / "model")
    (tmp_path / "model" / "steer.json").write_text('{"steps": 3, "guidance_scale": 2.0}')
    noise = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    in_memory = steer.Sampler(pipe).sample(noise, "a red circle", steps=3, guidance_scale=2.0, seed=1)
    loaded = steer.Sampler(str(tmp_path / "model"), device="cpu")
    assert torch.equal(loaded.sample(noise, "a red circle", seed=1), in_memory)
    assert loaded.model.name == str(tmp_path / "model")


@pytest.mark.slow
def test_a_default_eta_is_of_the_models_own_scheduler(tmp_path) -> None:
    tiny_sd().save_pretrained(tmp_path)
    (tmp_path / "steer.json").write_text('{"steps": 2, "eta": 1.0}')
    sampler = steer.Sampler(str(tmp_path), device="cpu")
    own, other, asked = (
        sampler.generate("a red circle", **settings).items[0].recipe.settings["eta"]
        for settings in ({}, {"scheduler": "unipc"}, {"scheduler": "ddim", "eta": 0.5})
    )
    assert (own, other, asked) == (1.0, None, 0.5)


def test_mistakes_in_a_folder(tmp_path) -> None:
    assert "unknown model './nowhere'" in one_line_error("./nowhere")
    (tmp_path / "empty").mkdir()
    assert "has no model_index.json" in one_line_error(tmp_path / "empty")
    index = tmp_path / "empty" / "model_index.json"
    index.write_text("{")
    assert "model_index.json cannot be read" in one_line_error(tmp_path / "empty")
    index.write_text(json.dumps({"_class_name": "AudioLDMPipeline"}))
    message = one_line_error(tmp_path / "empty")
    assert message.startswith("pipelines of class 'AudioLDMPipeline' cannot be steered: it makes audio")
    index.write_text(
        json.dumps({"_class_name": "StableDiffusionPipeline", "unet": ["diffusers", "UNet2DConditionModel"]})
    )
    assert "has no scheduler, without which StableDiffusionPipeline cannot run" in one_line_error(tmp_path / "empty")


@pytest.mark.slow
def test_a_model_that_does_not_fit_while_it_is_loaded_says_what_would_help(tmp_path, monkeypatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")

    tiny_sd().save_pretrained(tmp_path)
    monkeypatch.setattr(load, "apply", full)
    message = one_line_error(tmp_path)
    assert "does not fit into memory while it is loaded (CUDA out of memory" in message
    assert "use --dtype bf16 or fp16, --offload model, or a smaller model" in message


@pytest.mark.slow
def test_bad_defaults_of_a_model_are_refused(tmp_path) -> None:
    tiny_sd().save_pretrained(tmp_path)
    (tmp_path / "steer.json").write_text('{"stpes": 3}')
    assert "did you mean 'steps'" in one_line_error(tmp_path)
    (tmp_path / "steer.json").write_text("[3]")
    assert "steer.json holds a JSON list, expected an object" in one_line_error(tmp_path)
    (tmp_path / "steer.json").write_text('{"inputs": {"num_frames": 9}}')
    assert "unknown input in steer.json 'num_frames'" in one_line_error(tmp_path)
    (tmp_path / "steer.json").write_text('{"steps": 2, "scheduler": "lcm", "timesteps": [900, 400]}')
    assert load_model(str(tmp_path), manager(), device="cpu").defaults["timesteps"] == (900, 400)


def test_a_hub_id_while_offline_is_one_line() -> None:
    message = one_line_error("nobody/such-a-model-3141")
    assert "'nobody/such-a-model-3141' is no local folder and not in the hub's cache" in message


def test_an_object_that_is_no_pipeline() -> None:
    with pytest.raises(SteerError, match="pipelines of class 'int'"):
        load_model(3, manager())


def test_devices_and_precisions() -> None:
    with pytest.raises(SteerError, match="unknown device 'gpu'"):
        pick_device("gpu")
    with pytest.raises(SteerError, match="unknown dtype 'float32'; expected fp32"):
        pick_dtype("float32", torch.device("cpu"))
    if not torch.cuda.is_available():
        with pytest.raises(SteerError, match="no CUDA"):
            pick_device("cuda:1")


def test_a_prompt_too_long_is_shown_its_cut(tiny_pipe) -> None:
    backbone = load_model(tiny_pipe, manager()).backbone
    long = "a photo of the " * 3 + "a red circle and a blue square"  # 19 words, the encoder takes 14
    with pytest.warns(UserWarning, match=r"has 19 tokens, the text encoder takes 14; cut off: .*and a blue square"):
        backbone.encode([steer.Prompt(long)], [""], 5.0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        backbone.encode([steer.Prompt("a red circle")], [""], 5.0)


def test_what_is_cut_is_never_shown_as_nothing(tiny_pipe) -> None:
    backbone = load_model(tiny_pipe, manager()).backbone
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        backbone.encode([steer.Prompt("a red circle" + tiny_pipe.tokenizer.eos_token * 20)], [""], 5.0)


def test_sizes_that_do_not_fit(tiny_pipe) -> None:
    with pytest.raises(SteerError, match="width=17 does not fit the model"):
        steer.Sampler(tiny_pipe).generate("a red circle", width=17, steps=1, seed=1)
