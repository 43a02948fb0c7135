"""Both directions of a flow on a pretended device: images drawn, steered and differentiated, and images read.

The device is Apple's: it keeps the rules of CUDA, and has no float64 besides.
"""

from __future__ import annotations

import pytest
import torch
from support.pretended import STRICT, pretended

from steer import Prompt
from steer.plugin import vjp
from steer.registry.plugins import manager
from steer.rewards.combinations import WeightedSum
from steer.sampling.hooks import make_run
from steer.sampling.methods_by_name import make_methods
from steer_symmflow.backbone import SymmFlow
from steer_symmflow.model import load
from steer_symmflow.reading.votes import votes
from steer_symmflow.reward import Agreement


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["masks", "classes"])
def test_a_flow_draws_and_reads_on_the_device(folders, kind: str) -> None:
    prompt = Prompt("box", seed=3, metadata={"mask": str(folders["mask"]), "class": "box"})
    images = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    expected = votes(load(folders[kind]), images, steps=2, draws=1)
    with pretended(STRICT):
        model = load(folders[kind], torch.device(STRICT))
        assert torch.equal(votes(model, images.to(STRICT), steps=2, draws=1).cpu(), expected)
        agreement = Agreement(argument=str(folders[kind]), device=STRICT)
        settings = {"steps": 2, "particles": 2, "chunk": 2}
        run = make_run(
            SymmFlow(model), [prompt], settings={**settings, "eta": 1.0}, methods=make_methods(["fk"], {}, manager()),
            reward=WeightedSum([("symmflow", 1.0, agreement)]),
        )  # fmt: skip
        assert torch.isfinite(run.search().rewards()).all()
        run = make_run(SymmFlow(model), [prompt], settings={**settings, "scheduler": "midpoint"})
        assert bool(vjp(run, run.start, {"symmflow": agreement}).finite.all())
