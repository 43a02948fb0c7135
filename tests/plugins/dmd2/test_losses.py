"""The losses against cases worked out by hand, and the gradient where both scores are known."""

from __future__ import annotations

import math

import pytest
import torch

from steer_dmd2.train import losses
from steer_dmd2.train.schedule import Schedule, forward_inputs, simulate


def test_distribution_matching_by_hand() -> None:
    # mean|x − real| is 2 in the first row and ½ in the second
    x = torch.tensor([[1.0, 3.0], [0.0, 1.0]], requires_grad=True)
    real = torch.tensor([[0.0, 0.0], [0.0, 0.0]])
    fake = torch.tensor([[1.0, -1.0], [0.5, 0.0]])
    loss = losses.distribution_matching(x, real, fake)
    gradient = torch.tensor([[0.5, -0.5], [1.0, 0.0]])
    assert loss.item() == pytest.approx(0.5 * (gradient**2).mean().item())
    loss.backward()
    assert torch.allclose(x.grad, gradient / 4)


def test_distribution_matching_is_zero_where_the_scores_agree_and_survives_a_perfect_sample() -> None:
    x = torch.randn(3, 4, requires_grad=True)
    losses.distribution_matching(x, x.detach() + 1, x.detach() + 1).backward()
    assert x.grad.abs().max() == 0
    losses.distribution_matching(x, x.detach(), x.detach()).backward()  # 0/0
    assert x.grad.isfinite().all()


def test_adversarial_losses_by_hand() -> None:
    real, fake = torch.tensor([0.0, 0.0]), torch.tensor([0.0, math.log(3.0)])
    assert losses.adversarial_student(fake).item() == pytest.approx((math.log(2) + math.log(4 / 3)) / 2)
    expected = math.log(2) + (math.log(2) + math.log(4)) / 2
    assert losses.adversarial_critic(real, fake).item() == pytest.approx(expected)


def test_denoising_loss_and_min_snr_weight_by_hand() -> None:
    prediction, target = torch.tensor([[1.0, 1.0], [2.0, 0.0]]), torch.zeros(2, 2)
    assert losses.denoising(prediction, target).item() == pytest.approx(1.5)
    # SNR 9 and 1, clipped at 3
    alpha, sigma = torch.tensor([3.0, 1.0]), torch.tensor([1.0, 1.0])
    weight = losses.min_snr_weight(alpha, sigma, 3.0)
    assert torch.allclose(weight, torch.tensor([1 / 3, 1.0]))
    assert losses.denoising(prediction, target, weight).item() == pytest.approx((1 / 3 + 2) / 2)


def test_min_snr_weighs_the_error_of_x0_alike_whatever_is_predicted() -> None:
    timestep, error = torch.tensor([10, 50, 90]), torch.full((3, 4), 0.1)
    seen = []
    for kind in ("epsilon", "v_prediction"):
        schedule = Schedule.of_alphas(torch.linspace(0.99, 0.01, 100), kind)
        alpha, sigma = schedule.level(timestep, 2)
        x0, noise = torch.zeros(3, 4), torch.ones(3, 4)
        # the output whose estimate of x0 is off by the error
        off = schedule.target(x0, noise, timestep) - error * (alpha / sigma if kind == "epsilon" else 1 / sigma)
        found = schedule.x0(schedule.diffuse(x0, noise, timestep), off, timestep)
        assert torch.allclose(found, error, atol=1e-5)
        weight = losses.min_snr_weight(*schedule.level(timestep, 1), 5.0, kind)
        seen.append(losses.denoising(off, schedule.target(x0, noise, timestep), weight).item())
    schedule = Schedule(torch.linspace(0.99, 0.01, 100), torch.linspace(0.01, 0.99, 100), "flow")
    (alpha, sigma), x0, noise = schedule.level(timestep, 2), torch.zeros(3, 4), torch.ones(3, 4)
    off = schedule.target(x0, noise, timestep) - error / sigma
    weight = losses.min_snr_weight(*schedule.level(timestep, 1), 5.0, "flow")
    found = losses.denoising(off, schedule.target(x0, noise, timestep), weight).item()
    assert found == pytest.approx(((alpha / sigma).square().clamp(max=5.0) * 0.01).mean().item(), rel=1e-4)
    snr = torch.linspace(0.99, 0.01, 100)[timestep]
    expected = ((snr / (1 - snr)).clamp(max=5.0) * 0.01).mean().item()
    assert seen == pytest.approx([expected, expected], rel=1e-4)


@pytest.mark.parametrize("kind", ["epsilon", "v_prediction", "flow"])
def test_a_perfect_prediction_gives_x0_back(kind: str) -> None:
    schedule = Schedule.of_alphas(torch.linspace(0.99, 0.01, 100), kind)
    if kind == "flow":
        schedule = Schedule(torch.linspace(0.99, 0.01, 100), torch.linspace(0.01, 0.99, 100), kind)
    x0, noise, timestep = torch.randn(5, 4, 2, 2), torch.randn(5, 4, 2, 2), torch.tensor([0, 20, 50, 80, 99])
    x = schedule.diffuse(x0, noise, timestep)
    assert torch.allclose(schedule.x0(x, schedule.target(x0, noise, timestep), timestep), x0, atol=1e-5)


def test_drawn_timesteps_cover_their_range_once_each() -> None:
    schedule = Schedule.of_alphas(torch.linspace(0.99, 0.01, 1000))
    drawn = schedule.draw(96, torch.Generator().manual_seed(0)).sort().values
    assert torch.equal((drawn - 20) // 10, torch.arange(96))


def test_backward_simulation_feeds_the_student_its_own_noised_samples() -> None:
    schedule = Schedule.of_alphas(torch.linspace(0.99, 0.01, 100))
    noises = [torch.full((2, 1), float(value)) for value in (1, 2, 3)]
    (first, _), (second, at), (third, _) = simulate(lambda x, t: x + 10, schedule, noises, (90, 50, 10))
    alpha, sigma = schedule.level(torch.tensor([50]), 2)
    assert torch.equal(first, noises[0]) and at.tolist() == [50, 50]
    assert torch.allclose(second, alpha * 11 + sigma * 2)
    alpha, sigma = schedule.level(torch.tensor([10]), 2)
    assert torch.allclose(third, alpha * (second + 10) + sigma * 3)
    data = forward_inputs(torch.zeros(2, 1), schedule, noises, (90, 50, 10))
    assert torch.equal(data[0][0], noises[0]) and torch.allclose(data[2][0], sigma * 3)


MEANS, SHARES, SD = torch.tensor([-2.0, 1.5]), torch.tensor([0.4, 0.6]), 0.3


def mixture_estimate(x: torch.Tensor, alpha: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
    """E[x0 | x_t] of the two-mode target, in closed form."""
    variance = alpha**2 * SD**2 + sigma**2
    logits = SHARES.log() - (x - alpha * MEANS) ** 2 / (2 * variance)
    each = MEANS + alpha * SD**2 / variance * (x - alpha * MEANS)
    return (logits.softmax(1) * each).sum(1, keepdim=True)


def empirical_estimate(
    x: torch.Tensor, alpha: torch.Tensor, sigma: torch.Tensor, samples: torch.Tensor
) -> torch.Tensor:
    """E[x0 | x_t] where x0 is one of the given samples: the generator's own score, without a network."""
    weights = (-((x - alpha * samples.T) ** 2) / (2 * sigma**2)).softmax(1)
    return weights @ samples


@pytest.mark.training
@pytest.mark.parametrize("seed", range(3))
def test_matching_drives_a_generator_to_a_mixture_of_two_gaussians(seed: int) -> None:
    """The generator is a table, a value for each share of the noise, so that nothing but the loss decides its path.

    A network's path depends on its first weights and on the last bits of arithmetic: where its steep part settles, and
    so how far it is from the target after some steps. Over 20 seeds the table is within half of what is allowed.
    """
    count, steps, rate = 256, 400, 0.05
    schedule = Schedule.of_alphas(torch.linspace(0.995, 0.02, 1000))
    noise = torch.Generator().manual_seed(seed)
    shares = (torch.arange(count) + 0.5) / count
    table = torch.special.ndtri(shares).unsqueeze(1).requires_grad_()
    optimizer = torch.optim.Adam([table], betas=(0.5, 0.99))
    for step in range(steps):
        optimizer.param_groups[0]["lr"] = rate * (1 - step / steps)
        timestep = schedule.draw(count, noise)
        alpha, sigma = schedule.level(timestep, 2)
        made = table.detach()
        diffused = alpha * made + sigma * torch.randn(count, 1, generator=noise)
        real, fake = mixture_estimate(diffused, alpha, sigma), empirical_estimate(diffused, alpha, sigma, made)
        optimizer.zero_grad()
        losses.distribution_matching(table, real, fake).backward()
        optimizer.step()
    made = table.detach().flatten()
    mean = float((SHARES * MEANS).sum())
    variance = float((SHARES * (MEANS**2 + SD**2)).sum()) - mean**2
    assert float(made.mean()) == pytest.approx(mean, abs=0.15)
    assert float(made.var()) == pytest.approx(variance, rel=0.05)
    middle = float(MEANS.mean())
    for half, center, share in zip((made < middle, made >= middle), MEANS.tolist(), SHARES.tolist(), strict=True):
        assert float(half.float().mean()) == pytest.approx(share, abs=0.06)
        assert float(made[half].median()) == pytest.approx(center, abs=0.15)
        assert float(made[half].std()) == pytest.approx(SD, abs=0.2)


def test_a_known_gradient_is_that_of_the_loss_it_stands_for() -> None:
    x = torch.randn(3, 4, requires_grad=True)
    (x.sin().sum() + x.square().mean()).backward()
    expected, x.grad = x.grad, None
    leaf = x.detach().requires_grad_()
    value = leaf.sin().sum()
    (gradient,) = torch.autograd.grad(value, leaf)
    loss = losses.known_gradient(x, value, gradient)
    assert loss.item() == value.item()
    (loss + x.square().mean()).backward()
    assert torch.allclose(x.grad, expected)
