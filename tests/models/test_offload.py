"""Every family under every ``--offload`` on a pretended GPU: the same images and gradients, no mixing of devices."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any
from unittest.mock import patch

import pytest
import torch
from diffusers.hooks.group_offloading import ModuleGroup
from support.families import Family, each_class
from support.pretended import CUDA, REAL, Pretended, pretended
from support.tiny import brightness
from torch import Tensor, nn

from steer import Prompt, Sampler
from steer.models import load
from steer.models.load import load_model
from steer.models.options import OFFLOADS, ModelOptions
from steer.registry.plugins import manager
from steer.sampling.gradient_by_noise import vjp
from steer.sampling.hooks import make_run

pytestmark = [pytest.mark.slow, pytest.mark.skipif(CUDA != "cuda", reason="the machine has another accelerator")]


class Stream:
    """A stream of a pretended GPU, where everything is done when it is asked for."""

    def synchronize(self) -> None:
        pass


def exchanged(tensor: Tensor, source: Tensor) -> None:
    """Put a tensor in the place of another; torch itself exchanges data of one class of tensors only."""
    kept = isinstance(tensor, nn.Parameter)
    torch.utils.swap_tensors(tensor, nn.Parameter(source, requires_grad=False) if kept else source)


@contextmanager
def streams() -> Iterator[None]:
    """Have diffusers move groups of layers to the pretended GPU and back by its own plan, in streams."""

    def there(group: ModuleGroup, tensor: Tensor, source: Tensor, _: object) -> None:
        exchanged(tensor, source.to(group.onload_device))

    def back(group: ModuleGroup) -> None:
        inside = [tensor for module in group.modules for tensor in (*module.parameters(), *module.buffers())]
        for tensor in (*inside, *group.parameters, *group.buffers):
            if isinstance(tensor, Pretended):
                exchanged(tensor, tensor.detach().cpu())

    with (
        patch.multiple(torch.cuda, Stream=Stream, current_stream=Stream, stream=lambda _: nullcontext()),
        patch.multiple(Tensor, pin_memory=lambda tensor: tensor, is_pinned=lambda tensor: True),
        patch.multiple(ModuleGroup, _transfer_tensor_to_device=there, _offload_to_memory=back),
    ):
        yield


@pytest.fixture(params=each_class(), ids=lambda family: family.name)
def family(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Family:
    cls = type(load_model(request.param.make(), manager()).backbone)
    for name, value in request.param.backbone.items():
        monkeypatch.setattr(cls, name, value)
    monkeypatch.setattr(load, "pick_device", torch.device)
    return request.param


def settings(family: Family) -> dict[str, Any]:
    size = {} if family.size is None else {"width": family.size[0], "height": family.size[1]}
    return {"steps": family.fewest, **family.guided, **size}


def on_cuda(family: Family, offload: str) -> Sampler:
    return Sampler(family.make(), device="cuda", model_options=ModelOptions(offload=offload))


def test_images_are_those_of_a_model_that_stays(family: Family) -> None:
    rewards = []
    with pretended(), streams() if REAL is None else nullcontext():
        for offload in OFFLOADS:
            sampler, prompt = on_cuda(family, offload), Prompt(family.texts[0], seed=5)
            (sample,) = sampler.generate([prompt], reward=brightness, **settings(family)).items[0].samples
            rewards.append(sample.reward)
            places = {part.device.type for part in sampler.backbone.denoisers["base"].parameters()}
            assert places == {"none": {"cuda"}, "sequential": {"meta"}}.get(offload, {"cpu"})
    assert rewards == pytest.approx([rewards[0]] * len(OFFLOADS), rel=1e-5)


def test_gradients_are_those_of_a_model_that_stays(family: Family) -> None:
    grads = []
    with pretended():
        for offload in ("none", "model", "sequential"):  # under group offload there are none
            given = {**settings(family), "particles": 2, "chunk": 2}
            run = make_run(on_cuda(family, offload).backbone, [Prompt(family.texts[0], seed=5)], settings=given)
            grads.append(vjp(run, run.start, {"brightness": brightness}).grads.cpu())
    assert grads[0].any() and all(torch.allclose(one, grads[0], rtol=1e-4, atol=1e-7) for one in grads)
