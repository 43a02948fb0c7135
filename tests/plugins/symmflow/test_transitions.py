"""A symmetric flow with stochastic transitions: the image half on the joint Gaussian, whose velocity is known."""

from __future__ import annotations

import pytest
import torch
from support.linear_gaussian import Given

from steer import Sampler, SteerError
from steer.prompts.prompt import Prompt
from steer_symmflow import flow
from steer_symmflow.process import SymmetricFlow

RHO = 0.6


def velocity(z: torch.Tensor, t: float) -> torch.Tensor:
    """E[u | z_t] for image and semantics of unit variance and correlation ρ."""
    a, b = 1 - (1 - flow.SIGMA) * t, t
    covariance = torch.tensor([[a * a + b * b, a * b * RHO], [a * b * RHO, a * a + b * b]], dtype=torch.float64)
    keep = 1 - flow.SIGMA
    cross = torch.tensor([[b - keep * a, a * RHO], [-keep * b * RHO, b - keep * a]], dtype=torch.float64)
    return z @ torch.linalg.solve(covariance, cross.T)


def drawn(steps: int, transitions: int | None, eta: float | None = None, shift: float = 1.0) -> torch.Tensor:
    """Run the chain from independent noise and semantics; return z at its end, float64 ``[N, 2]``."""
    generator = torch.Generator().manual_seed(0)
    z = torch.randn(20_000, 2, generator=generator, dtype=torch.float64)
    process = SymmetricFlow(steps, "euler", eta, transitions, shift)
    noises = Given(torch.randn(steps, len(z), 1, generator=generator, dtype=torch.float64))
    while not process.done:
        z = process.step(z, velocity(z, process.time), noises)
    return z


@pytest.mark.parametrize("shift", [1.0, 2.0])
@pytest.mark.parametrize("transitions", [1, 2, 5])
def test_every_number_of_transitions_has_the_flows_marginals(transitions: int, shift: float) -> None:
    """Image and semantics' noise end independent and of unit variance; what is left is the sample's own error."""
    errors = [(torch.cov(drawn(steps, transitions, shift=shift).T) - torch.eye(2)).abs().max() for steps in (10, 100)]
    assert errors[1] < 0.04 * shift and errors[1] < errors[0]  # the longest steps are as many times as long


def test_a_transition_for_each_step_is_the_kernel_to_the_bit() -> None:
    assert torch.equal(drawn(8, 8), drawn(8, None, 1.0))


def test_methods_act_between_transitions_and_may_reindex_within() -> None:
    order = torch.tensor([3, 3, 0, 1])
    z = torch.randn(4, 2, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    noise, ends = torch.ones(2, 4, 1).double(), []
    for early in (True, False):
        process, x, given, whole = SymmetricFlow(6, "euler", None, 2), z, Given(noise), []
        while not process.done:
            if process.index == (0 if early else 2):
                process.select(order, 4)
                x = x[order]
            whole.append(process.whole)
            x = process.step(x, velocity(x, process.time), given)
        assert whole == [True, False, False] * 2 and process.whole and process.stochastic
        ends.append(x)
    torch.testing.assert_close(*ends)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"transitions": 9}, "transitions=9 are more than the 4 evaluations"),
        ({"transitions": 2, "eta": 0.0}, "draw noise, and eta=0 allows none"),
        ({"transitions": 2, "scheduler": "rk4"}, "needs --scheduler euler, got rk4"),
    ],
)
def test_what_cannot_be_cut_is_refused(folders, settings, said: str) -> None:
    with pytest.raises(SteerError, match=said):
        Sampler(f"symmflow:{folders['classes']}", device="cpu").generate(
            [Prompt("x", metadata={"class": "box"})], steps=4, **settings
        )


def test_fk_narrows_its_particles_between_transitions(folders) -> None:
    result = Sampler(f"symmflow:{folders['classes']}", device="cpu").generate(
        [Prompt("x", metadata={"class": "box"})], methods="fk", reward=lambda images, prompts: images.mean((1, 2, 3)),
        particles=8, steps=6, options={"fk": {"preset": "glass"}},
    )  # fmt: skip
    assert len(result.items[0].samples) == 2 and result.cost.nfe < 8 * 6
