"""What is the user's is left as it was: a pipeline in memory, and the process around it."""

from __future__ import annotations

import os
import random
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from support.tiny import brightness, tiny_sd

import steer
from steer import SteerError
from steer.evaluate.compare.measure import Measurer, Settings
from steer.evaluate.compare.spec import Entry
from steer.models.load import load_model
from steer.plugin import vjp
from steer.registry.plugins import manager
from steer.render.spec import Task
from steer.sampling.hooks import make_run


def mixed() -> Any:
    """Return a pipeline whose modules and parameters are in states of all kinds."""
    pipe = tiny_sd()
    pipe.unet.train()
    pipe.unet.mid_block.eval()
    pipe.unet.conv_out.requires_grad_(False)
    pipe.text_encoder.requires_grad_(False)
    pipe.text_encoder.train()
    pipe.vae.decoder.requires_grad_(False)
    pipe.unet.conv_out.register_forward_hook(lambda *_: None)
    pipe.unet.set_attn_processor(dict(pipe.unet.attn_processors))
    return pipe


def picture(pipe: Any) -> dict[str, Any]:
    """Return all that is the user's, as plain data."""
    parts = {name: part for name, part in pipe.components.items() if isinstance(part, torch.nn.Module)}
    return {
        "parts": {name: id(part) for name, part in pipe.components.items()},
        "config": dict(pipe.config),
        "scheduler": {name: str(value) for name, value in vars(pipe.scheduler).items()},
        "processors": {name: id(processor) for name, processor in pipe.unet.attn_processors.items()},
        "modules": [
            (name, inner, module.training, len(module._forward_hooks), len(module._forward_pre_hooks))
            for name, part in parts.items() for inner, module in part.named_modules()
        ],
        "parameters": [
            (name, inner, id(leaf), leaf.requires_grad, leaf.dtype, leaf.device, leaf.grad is None, leaf._version)
            for name, part in parts.items() for inner, leaf in part.named_parameters()
        ],
        "torch": (
            torch.get_default_dtype(), torch.is_grad_enabled(), torch.get_num_threads(),
            torch.are_deterministic_algorithms_enabled(), torch.backends.cudnn.deterministic,
        ),
        "random": (torch.get_rng_state().tolist(), repr(np.random.get_state()), random.getstate()),
        "warnings": list(warnings.filters),
        "environment": dict(os.environ),
    }  # fmt: skip


class Meddler(steer.Method):
    """A method that changes what it can of the process, and may end the run."""

    name = "meddler"
    raises: BaseException | None = None

    @steer.hookimpl
    def after_predict(self, state: steer.State) -> None:
        meddle()
        if self.raises is not None and state.step == 1:
            raise self.raises


def meddle() -> None:
    torch.rand(3)
    np.random.rand(3)
    random.random()
    torch.set_default_dtype(torch.float64)
    torch.use_deterministic_algorithms(True, warn_only=True)
    warnings.simplefilter("ignore", ResourceWarning)
    os.environ["MEDDLED"] = "1"
    os.environ.pop("THERE_BEFORE", None)


def meddling_reward(samples: torch.Tensor, prompts: list[str]) -> torch.Tensor:
    scores = brightness(samples, prompts)
    meddle()
    torch.set_grad_enabled(False)
    return scores


ARGUMENTS = {"steps": 3, "particles": 2, "seed": 1}
CARINOX = {"carinox": {"iterations": 1}}


def generate(pipe: Any, **arguments: Any) -> None:
    steer.Sampler(pipe).generate(["a red circle", "a blue square"], **{**ARGUMENTS, "chunk": 2, **arguments})


def sample(pipe: Any, grad: bool) -> None:
    noise = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(0)).requires_grad_(grad)
    images = steer.Sampler(pipe).sample(noise, "a", grad=grad, steps=2)
    if grad:  # what is computed again on the way back, when the pipeline is its owner's, is the same
        images.sum().backward()
        exact = steer.Sampler(tiny_sd())
        again = noise.detach().requires_grad_()
        exact.sample(again, "a", grad=True, steps=2).sum().backward()
        assert torch.equal(noise.grad, again.grad)


def between_items(pipe: Any) -> None:
    before = picture(pipe)
    prompts = [steer.Prompt("a red circle", settings={"steps": steps}) for steps in (1, 2, 3)]
    for item in steer.Sampler(pipe).stream(prompts, methods=[Meddler()], seed=1):
        assert picture(pipe) == before, item
    next(steer.Sampler(pipe).stream(prompts, seed=1))  # and the rest is never asked for


def attached(pipe: Any, method: steer.Method) -> None:
    with steer.attach(pipe, "a red circle", 2, [method], meddling_reward, seed=1) as given:
        pipe(num_inference_steps=3, output_type="pt", **{**given, "guidance_scale": 1.0})


def differentiated(pipe: Any) -> None:
    run = make_run(load_model(pipe, manager()).backbone, [steer.Prompt("a", seed=1)], settings={"steps": 2})
    vjp(run, run.start, {"bright": brightness})
    run.sample(until=1)
    assert run.search().done


def compared(pipe: Any) -> None:
    measurer = Measurer(steer.Sampler(pipe), Settings(reward=[brightness], judges=[], run={"steps": 2}))
    assert len(list(measurer.rows(Entry("plain", ""), [Task(steer.Prompt("a", seed=1), 0, 0)]))) == 1


PATHS: dict[str, Callable[[Any], None]] = {
    "loading": lambda pipe: steer.Sampler(pipe) and None,
    "plain": generate,
    "fk": lambda pipe: generate(pipe, methods=["fk", Meddler()], reward=meddling_reward),
    "best-of-n": lambda pipe: generate(pipe, methods=["best-of-n"], reward=meddling_reward, judge=brightness),
    "carinox": lambda pipe: generate(pipe, methods=["carinox"], reward=brightness, options=CARINOX),
    "between items": between_items,
    "sample": lambda pipe: sample(pipe, grad=False),
    "sample with a graph": lambda pipe: sample(pipe, grad=True),
    "attach": lambda pipe: attached(pipe, Meddler()),
    "vjp": differentiated,
    "compare": compared,
}


@pytest.mark.slow
@pytest.mark.parametrize("path", PATHS)
def test_every_way_in_leaves_all_as_it_was(path, monkeypatch) -> None:
    monkeypatch.setenv("THERE_BEFORE", "1")
    pipe = mixed()
    before = picture(pipe)
    PATHS[path](pipe)
    assert picture(pipe) == before


@pytest.mark.slow
@pytest.mark.parametrize("error", [RuntimeError("mine"), KeyboardInterrupt(), SteerError("mine")], ids=repr)
@pytest.mark.parametrize("way", ["generate", "attach"])
def test_an_error_in_the_middle_leaves_all_as_it_was(way, error) -> None:
    pipe, method = mixed(), Meddler()
    method.raises = error
    before = picture(pipe)
    with pytest.raises(type(error)):
        if way == "attach":
            attached(pipe, method)
        else:
            generate(pipe, methods=[method])
    assert picture(pipe) == before


def test_a_run_is_in_inference_mode_whatever_the_pipelines(monkeypatch) -> None:
    seen = []
    pipe = mixed()
    pipe.unet.conv_in.register_forward_hook(
        lambda *_: seen.append(
            (pipe.unet.training, pipe.text_encoder.training, pipe.unet.conv_out.weight.requires_grad)
        )
    )
    generate(pipe)
    assert set(seen) == {(False, False, False)}
