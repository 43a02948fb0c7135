"""The symmetric flow against its equations, and against a Gaussian in closed form."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from steer_symmflow import flow

S = flow.SIGMA


def test_interpolation_and_target_of_a_hand_case() -> None:
    x, m = torch.full((1, 1, 1, 1), 2.0), torch.full((1, 1, 1, 1), -1.0)
    n_x, n_m = torch.full((1, 1, 1, 1), 0.5), torch.full((1, 1, 1, 1), 4.0)
    z = flow.interpolate(x, m, n_x, n_m, torch.tensor([0.25]))
    keep = 1 - (1 - S) * 0.25
    assert z.flatten().tolist() == pytest.approx([keep * 0.5 + 0.25 * 2, keep * -1 + 0.25 * 4])
    wanted = flow.target(x, m, n_x, n_m)
    assert wanted.flatten().tolist() == pytest.approx([2 - (1 - S) * 0.5, 4 + (1 - S)])


def test_the_target_is_the_derivative_and_carries_each_end_to_the_other() -> None:
    torch.manual_seed(0)
    x, m, n_x, n_m = (torch.randn(3, 2, 4, 4, dtype=torch.float64) for _ in range(4))
    ends = [flow.interpolate(x, m, n_x, n_m, torch.full((3,), t, dtype=torch.float64)) for t in (0.0, 0.3, 0.3001, 1.0)]
    assert torch.allclose((ends[2] - ends[1]) / 1e-4, flow.target(x, m, n_x, n_m), atol=1e-6)
    assert torch.allclose(ends[0], flow.join(n_x, m))
    assert torch.allclose(ends[3], flow.join(x + S * n_x, n_m + S * m))

    def straight(z: torch.Tensor, t: float) -> torch.Tensor:
        return flow.target(x, m, n_x, n_m)

    for solver in flow.SOLVERS:  # along straight lines one step is exact, either way
        there = flow.integrate(straight, ends[0], 0.0, 1.0, 1, solver)
        assert torch.allclose(there, ends[3])
        assert torch.allclose(flow.integrate(straight, ends[3], 1.0, 0.0, 3, solver), ends[0])
    assert torch.allclose(flow.estimate(ends[1], straight(ends[1], 0.3), 0.3, 1.0), ends[3])


@pytest.mark.slow
@pytest.mark.parametrize("shift", [1.0, 2.0])
@pytest.mark.parametrize(("solver", "order"), [("euler", 1), ("midpoint", 2), ("rk4", 4)])
def test_solvers_have_their_order(solver: str, order: int, shift: float) -> None:
    def error(steps: int) -> float:
        z = torch.tensor([[1.0], [0.5]], dtype=torch.float64)
        out = flow.integrate(lambda z, t: z * (1 + t) + np.sin(5 * t), z, 0.0, 1.0, steps, solver, shift)
        fine = flow.integrate(lambda z, t: z * (1 + t) + np.sin(5 * t), z, 0.0, 1.0, 2000, "rk4")
        return float((out - fine).abs().max())

    assert np.log2(error(8) / error(16)) == pytest.approx(order, abs=0.35)


def test_a_shift_shortens_the_steps_where_the_image_is_noise() -> None:
    assert flow.grid(4) == ([0.0, 0.25, 0.5, 0.75, 1.0], [0.25] * 4)
    ends, lengths = flow.grid(4, 3.0)
    assert ends == pytest.approx([0, 0.1, 0.25, 0.5, 1])  # u / (u + 3·(1−u)) of quarters
    assert lengths == pytest.approx([0.1, 0.15, 0.25, 0.5])


def test_the_loss_weighs_the_halves() -> None:
    velocity = torch.tensor([[1.0, 2.0]]).view(1, 2, 1, 1)
    wanted = torch.tensor([[0.0, 5.0]]).view(1, 2, 1, 1)
    total, image, semantics = flow.loss(velocity, wanted, 0.25)
    assert (image.item(), semantics.item(), total.item()) == (1.0, 9.0, 0.25 + 0.75 * 9)


class JointGaussian:
    """Image and semantics, one number each, of unit variance and correlation ρ: E[u | z_t] exactly."""

    def __init__(self, rho: float) -> None:
        self.rho = rho

    def matrix(self, t: float) -> np.ndarray:
        a, b, c = 1 - (1 - S) * t, t, self.rho
        covariance = np.array([[a * a + b * b, a * b * c], [a * b * c, a * a + b * b]])
        cross = np.array([[b - (1 - S) * a, a * c], [-(1 - S) * b * c, b - (1 - S) * a]])
        return cross @ np.linalg.inv(covariance)

    def velocity(self, z: torch.Tensor, t: float) -> torch.Tensor:
        return z @ torch.from_numpy(self.matrix(t)).T

    def carried(self, start: float, end: float, steps: int = 800) -> np.ndarray:
        """What the flow does to z, by a matrix exponential a step; nothing of the package is used."""
        from scipy.linalg import expm

        h, out = (end - start) / steps, np.eye(2)
        for i in range(steps):
            out = expm(h * self.matrix(start + (i + 0.5) * h)) @ out
        return out


@pytest.mark.slow
@pytest.mark.parametrize("rho", [0.0, 0.6, -0.9])
def test_on_a_gaussian_both_directions_have_the_flows_means_and_variances(rho: float) -> None:
    law = JointGaussian(rho)
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(20_000, 1, generator=generator, dtype=torch.float64)
    given = 1.5  # generation: x given m; inference: m given x
    forwards = flow.integrate(law.velocity, flow.join(noise, torch.full_like(noise, given)), 0.0, 1.0, 30, "rk4")
    backwards = flow.integrate(law.velocity, flow.join(torch.full_like(noise, given), noise), 1.0, 0.0, 30, "rk4")
    for found, carried, own in (
        (forwards[:, 0], law.carried(0.0, 1.0), 0),
        (backwards[:, 1], law.carried(1.0, 0.0), 1),
    ):
        mean, variance = carried[own, 1 - own] * given, carried[own, own] ** 2
        assert float(found.mean()) == pytest.approx(mean, abs=5 * np.sqrt(variance / len(noise)) + 1e-4)
        assert float(found.var()) == pytest.approx(variance, rel=5 * np.sqrt(2 / len(noise)) + 1e-4)


@pytest.mark.parametrize("rho", [0.3, 0.9])
def test_the_marginals_are_exact_and_the_conditional_mean_is_shrunk(rho: float) -> None:
    """The flow carries p(m) to p(x), but couples an x to its m less than the data does.

    At no t are image and semantics both free of noise, so the velocity never sees the pair; for a Gaussian the mean of
    x given m comes out below ρ·m (0.464·m at ρ=0.6), with as much more variance. Stated here so that nobody takes the
    sampler for an exact conditional one.
    """
    carried = JointGaussian(rho).carried(0.0, 1.0)
    assert carried @ carried.T == pytest.approx(np.eye(2), abs=1e-3)
    assert 0.7 * rho < carried[0, 1] < 0.8 * rho
