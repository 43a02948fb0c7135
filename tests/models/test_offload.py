"""Every family under every ``--offload`` on a pretended GPU: the same images, and nothing that mixes devices."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
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


@pytest.mark.parametrize("family", each_class(), ids=lambda family: family.name)
def test_images_are_those_of_a_model_that_stays(family: Family, monkeypatch: pytest.MonkeyPatch) -> None:
    size = {} if family.size is None else {"width": family.size[0], "height": family.size[1]}
    given = {"steps": family.fewest, "reward": brightness, **family.guided, **size}
    cls = type(load_model(family.make(), manager()).backbone)
    for name, value in family.backbone.items():
        monkeypatch.setattr(cls, name, value)
    monkeypatch.setattr(load, "pick_device", torch.device)
    rewards = []
    with pretended(), streams() if REAL is None else nullcontext():
        for offload in OFFLOADS:
            sampler = Sampler(family.make(), device="cuda", model_options=ModelOptions(offload=offload))
            rewards.append(sampler.generate([Prompt(family.texts[0], seed=5)], **given).rewards)
            places = {part.device.type for part in sampler.backbone.denoisers["base"].parameters()}
            assert places == {"none": {"cuda"}, "sequential": {"meta"}}.get(offload, {"cpu"})
    assert rewards == [rewards[0]] * len(OFFLOADS)
