"""Fingerprints tell weights apart, and not names or places."""

from __future__ import annotations

import torch
from torch import nn
from torch.testing._internal.two_tensor import TwoTensor

from steer.models.fingerprints import fingerprint


def layers() -> nn.Sequential:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return nn.Sequential(nn.Linear(30, 7), nn.Conv2d(2, 3, 3), nn.LayerNorm(5, elementwise_affine=False))


def test_a_change_of_any_tensor_shows() -> None:
    one = fingerprint(layers())
    for name, _ in layers().named_parameters():
        other = layers()
        other.get_parameter(name).data += 0.01
        assert fingerprint(other) != one


def test_names_and_order_do_not_matter() -> None:
    linear, convolution, _ = layers()
    assert fingerprint(nn.ModuleDict({"b": convolution, "a": linear})) == fingerprint(layers())


def test_half_precision_tied_scalar_and_composed_weights_are_read() -> None:
    module = layers().to(torch.bfloat16)
    module.scale = nn.Parameter(torch.tensor(3.0))
    module.again = module[0]
    two = module[0].weight = nn.Parameter(TwoTensor(torch.zeros(5, 3), torch.zeros(5, 3)))  # as torchao's
    one = fingerprint(module)
    assert fingerprint(module) == one
    two.data.b += 1
    assert fingerprint(module) != one
    assert fingerprint(layers().to("meta")) != one
