"""The mathematics: regularizer, clipping and steps against hand-computed cases and torch.optim."""

from __future__ import annotations

import pytest
import torch

from steer_carinox.objective import Optimizer, clip_rows, norms, regularizer_gradient, total_gradient
from steer_carinox.tracker import Tracker


def regularizer(z: torch.Tensor) -> torch.Tensor:
    norm = norms(z).flatten()
    return 0.5 * norm**2 - (z[0].numel() - 1) * norm.log()


def test_regularizer_by_hand_and_by_autograd() -> None:
    z = torch.tensor([[3.0, 4.0]])  # a norm of 5, two entries
    assert regularizer(z).tolist() == pytest.approx([12.5 - 1.6094379])
    assert regularizer_gradient(z)[0].tolist() == pytest.approx([3 * 0.96, 4 * 0.96])
    z = torch.randn(5, 4, 3, 3, generator=torch.Generator().manual_seed(0)).requires_grad_()
    (expected,) = torch.autograd.grad(regularizer(z).sum(), z)
    assert torch.allclose(regularizer_gradient(z), expected, atol=1e-6)


def test_regularizer_is_least_where_norms_of_normals_are_likeliest() -> None:
    direction = torch.randn(1, 16_384, generator=torch.Generator().manual_seed(0))
    radii = torch.linspace(120, 136, 1601)
    best = radii[regularizer(radii[:, None] * direction / direction.norm()).argmin()]
    assert float(best) == pytest.approx(16_383**0.5, abs=0.1)


def test_rows_are_clipped_each_by_itself() -> None:
    gradient = torch.tensor([[3.0, 4.0], [0.03, 0.04], [0.0, 0.0]])
    expected = torch.tensor([[0.06, 0.08], [0.03, 0.04], [0.0, 0.0]])
    assert torch.allclose(clip_rows(gradient, 0.1), expected)
    assert torch.equal(clip_rows(gradient, None), gradient)
    assert torch.allclose(clip_rows(1e30 * gradient[:1], 0.1), expected[:1])  # whose squares are infinite in fp32


def test_total_gradient_by_hand() -> None:
    z = torch.tensor([[3.0, 4.0]])
    by_reward = torch.tensor([[[-0.02, 0.0]], [[0.0, -30.0]]])  # of two rewards
    weights = torch.tensor([[2.0], [1.0]])
    arguments = {"regularize": 0.01, "clip_reward": 0.1, "clip": None}
    # first: 0.01·0.96·(3, 4) + 2·(0.02, 0) = (.0688, .0384), norm .0788; second: (.0288, 30.0384), clipped to .1
    second = torch.tensor([0.0288, 30.0384]) * 0.1 / (0.0288**2 + 30.0384**2) ** 0.5
    expected = torch.tensor([0.0688, 0.0384]) + second
    total = total_gradient(z, by_reward, weights, **arguments)
    assert torch.allclose(total[0], expected, atol=1e-6)
    total = total_gradient(z, by_reward, weights, **{**arguments, "clip": 0.1})
    assert torch.allclose(total[0], expected * 0.1 / expected.norm(), atol=1e-6)


@pytest.mark.parametrize("kind", ["sgd", "adam"])
def test_steps_are_those_of_torch_optim(kind) -> None:
    torch.manual_seed(0)
    gradients = torch.randn(6, 3, 4)
    z = torch.randn(3, 4)
    reference = z.clone().requires_grad_()
    if kind == "sgd":
        optim = torch.optim.SGD([reference], lr=5.0, momentum=0.9, nesterov=True)
        mine = Optimizer("sgd", 5.0, 0.9)
    else:
        optim = torch.optim.Adam([reference], lr=0.05)
        mine = Optimizer("adam", 0.05)
    rows = torch.arange(3)
    for number, gradient in enumerate(gradients):
        reference.grad = gradient.clone()
        optim.step()
        z = mine.step(z, gradient[rows])
        assert torch.allclose(z, reference.detach()[rows], atol=1e-5)
        if number == 2:  # a row leaves, the others go on as before
            kept = torch.tensor([0, 2])
            mine.keep(kept)
            rows, z = rows[kept], z[kept]


def see(tracker: Tracker, losses: list[float], guards: list[float] | None = None) -> list[int]:
    """Feed one row; return the iterations after which it went on."""
    going = []
    for iteration, loss in enumerate(losses):
        guard = None if guards is None else torch.tensor([guards[iteration]], dtype=torch.float64)
        noise = torch.full((1, 2), float(iteration))
        loss_now = torch.tensor([loss], dtype=torch.float64)
        if bool(tracker.see(torch.tensor([0]), noise, loss_now, guard, iteration)[0]):
            going.append(iteration)
    return going


def tracker(**arguments) -> Tracker:
    settings = {"patience": None, "min_gain": 0.0, "guard_patience": None, **arguments}
    return Tracker(torch.zeros(1, 2), **settings)


def test_the_best_noise_is_kept_and_a_loss_that_is_no_number_counts_for_nothing() -> None:
    t = tracker()
    assert see(t, [3.0, 1.0, float("nan"), 2.0, float("inf")]) == [0, 1, 2, 3, 4]
    assert (t.loss.tolist(), t.iteration.tolist(), t.noise.tolist()) == ([1.0], [1], [[1.0, 1.0]])


def test_a_plateau_ends_a_seed() -> None:
    assert see(tracker(patience=2), [3.0, 2.0, 2.5, 1.9, 1.95, 2.0]) == [0, 1, 2, 3, 4]
    # gains of less than 0.5 are none, unless they add up
    assert see(tracker(patience=2, min_gain=0.5), [3.0, 2.9, 2.8]) == [0, 1]
    assert see(tracker(patience=3, min_gain=0.5), [3.0, 2.7, 2.4, 2.1]) == [0, 1, 2, 3]


def test_a_guard_that_falls_ends_a_seed_and_takes_back_what_came_after_its_best() -> None:
    t = tracker(guard_patience=2)
    assert see(t, [5.0, 4.0, 3.0, 2.0, 1.0], [0.5, 0.7, 0.6, 0.7, 0.2]) == [0, 1, 2, 3, 4]
    assert (t.loss.tolist(), t.iteration.tolist()) == ([2.0], [3])
    assert see(t, [0.5], [0.1]) == []
    assert t.iteration.tolist() == [3]
