"""Features that are reused: each call's own, in every family, and nothing is left of it afterward."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from support.any_pipelines import changed
from support.families import Family, each_class
from torch import Tensor, nn

from steer import Prompt, Sampler
from steer_search.reuse import Reuse, stacks_of

FAMILIES = {family.name: family for family in each_class()}
DEEPER = ("num_layers", "num_single_layers", "n_layers")


def deepened(family: Family) -> Any:
    """Return the family's pipeline with several blocks in each stack."""
    pipe = family.make()
    transformer = getattr(pipe, "transformer", None)
    if transformer is not None:
        layers = {name: 3 for name in DEEPER if name in transformer.config}
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(3)
            pipe.register_modules(transformer=changed("transformer", **layers)(pipe.components).eval())
    return pipe


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES.values(), ids=FAMILIES)
@torch.no_grad()
def test_a_call_reuses_what_the_call_in_its_place_left(family: Family, monkeypatch) -> None:
    backbone = Sampler(deepened(family)).backbone
    for name, value in family.backbone.items():
        monkeypatch.setattr(type(backbone), name, value)
    scale = float(family.guided.get(backbone.cfg_setting, 1.0))
    conditioning = backbone.encode([Prompt(family.texts[0])], [""], scale)
    network = backbone.denoisers["base"]
    width, height = family.size or (None, None)
    generator = torch.Generator().manual_seed(0)
    xs = [torch.randn(1, *backbone.latent_shape(width, height), generator=generator) for _ in range(3)]

    def predict(x: Tensor) -> Tensor:
        return backbone.predict("base", x, torch.tensor(0.5 if "sprint" in family.name else 500.0), conditioning)

    exact = [predict(x) for x in xs]
    attributes = {name: set(vars(module)) for name, module in network.named_modules()}
    reuse = Reuse([network], 2)
    with reuse():
        reuse.at(0)
        assert all(torch.equal(predict(x), full) for x, full in zip(xs, exact, strict=True))
        assert reuse.share() == 1
        reuse.at(1)
        for x, full in zip(xs, exact, strict=True):  # nothing changed since, and so nothing is lost
            torch.testing.assert_close(predict(x), full, rtol=1e-4, atol=1e-4 * float(full.abs().max()))
        assert reuse.share() < 0.95
        reuse.at(1)
        other = predict(xs[1])  # in the place of the first
        assert not torch.allclose(other, exact[1]) and not torch.allclose(other, exact[0])
        reuse.at(2)
        assert torch.equal(predict(xs[2]), exact[2])
    assert {name: set(vars(module)) for name, module in network.named_modules()} == attributes
    assert torch.equal(predict(xs[0]), exact[0])


class Small(nn.Module):
    """A stack of blocks with one output."""

    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(nn.Linear(4, 4) for _ in range(4))
        self.fails = False

    def forward(self, x: Tensor) -> Tensor:
        for block in self.blocks:
            x = block(x)
        if self.fails:
            raise RuntimeError("out of memory")
        return x


@torch.no_grad()
def test_after_a_call_that_failed_nothing_is_reused_until_all_is_computed_again() -> None:
    torch.manual_seed(0)
    network, (x, y) = Small(), torch.randn(2, 1, 4)
    reuse = Reuse([network], 3)
    with reuse():
        reuse.at(0)
        network(x)
        reuse.at(1)
        network.fails = True
        with pytest.raises(RuntimeError, match="out of memory"):
            network(x)
        network.fails = False
        exact = [network(x), network(y)]  # again, in the second place and the third
        assert reuse.share() == 1
        reuse.at(2)
        assert torch.equal(network(y), exact[1])
        reuse.at(3)
        network(x)
        reuse.at(4)
        torch.testing.assert_close(network(x), exact[0])
        assert reuse.share() < 1
        # rows of another number are no rows that are known
        torch.testing.assert_close(network(torch.cat([x, x]))[:1], exact[0])
        assert reuse.share() == 1


def test_what_has_no_known_blocks_is_computed_in_full() -> None:
    assert stacks_of(nn.Linear(4, 4)) == []
    assert len(stacks_of(Small())[0].skipped) == 3
