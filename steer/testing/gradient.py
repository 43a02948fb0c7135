"""Checks that a reward's gradient is complete and agrees with finite differences of its score."""

import functools
from collections.abc import Callable

import torch
from torch import Tensor

from steer.testing.subject import Failed, Subject

GRADIENT_TOLERANCE = 0.05
RANDOM_TOLERANCE = 0.25
"""Along random directions, slopes are small and rounding counts more; a lost part shows as much more than this."""
RANDOM_DIRECTIONS = 4
STEPS = (3e-2, 1e-2, 3e-3, 1e-3)
"""Steps of the finite differences. Rounding needs large ones, curvature small ones; the best agreement counts."""


def gradient(subject: Subject) -> str | None:
    """The gradient agrees with finite differences per row: along itself, and along random directions.

    Along itself, the slope is largest and rounding matters least. But a gradient that lacks a part, for example of a
    channel that passes a detach(), is right along itself; a random direction shows the lost part.
    """
    if not subject.differentiable:
        return None
    count = min(3, len(subject.samples))
    # away from 0 and 1, at which a reward that clamps has no two-sided derivative
    base = (0.1 + 0.8 * subject.samples[:count]).detach()
    prompts = list(subject.prompts[:count])
    leaf = base.clone().requires_grad_()
    scores = subject.call(leaf, prompts)
    if not scores.requires_grad:
        raise Failed(
            "declares differentiable but its scores carry no gradient (a detach(), numpy or no_grad() inside?)"
        )
    (grad,) = torch.autograd.grad(scores.sum(), leaf)
    if not bool(torch.isfinite(grad).all()):
        raise Failed("the gradient is not finite")
    if float(grad.abs().max()) == 0.0:
        raise Failed("the gradient is zero everywhere; set differentiable = False")
    generator = torch.Generator().manual_seed(3)
    worst, least = 0.0, 0.01 * float(grad.flatten(1).norm(dim=1).max())
    random = []
    for row in range(count):
        score = functools.partial(subject.score, prompts=[prompts[row]] * 2)
        norm = float(grad[row].norm())
        if norm:
            along = _differences(score, base[row], grad[row] / norm)
            worst = max(worst, min(abs(d / length - norm) / max(abs(d / length), norm) for length, d in along))
        for _ in range(RANDOM_DIRECTIONS):
            signs = torch.randint(0, 2, grad[row].shape, generator=generator).to(grad) * 2 - 1
            direction = signs / signs.norm()
            slope = float((grad[row] * direction).sum())
            # a slope along random signs is about as large as the gradient's norm over theirs
            usual = max(norm, least) / float(signs.norm())
            random.append((slope, usual, _differences(score, base[row], direction)))
    if worst > GRADIENT_TOLERANCE:
        raise Failed(
            f"gradient and finite differences differ by {worst:.1%}, expected at most {GRADIENT_TOLERANCE:.0%}"
        )
    # the two small steps' deviation from the line through the large one is rounding: 1e-2 of a score in bf16
    noise = max(
        abs(d - large * length / longest) for *_, ((longest, large), *rest) in random for length, d in rest[-2:]
    )
    lost = max(
        min((abs(d / length - slope) - 4 * noise / length) / usual for length, d in steps)
        for slope, usual, steps in random
    )
    if lost > RANDOM_TOLERANCE:
        raise Failed(
            f"along random directions, gradient and finite differences differ by {lost:.0%} of the usual slope, "
            f"expected at most {RANDOM_TOLERANCE:.0%}; a part of the gradient is lost (a detach() or a rounding?)"
        )
    hidden = all(4 * noise / steps[0][0] > usual for _, usual, steps in random)
    return f"within {worst:.2%} of finite differences along itself" + (
        "; rounding hides whether a part is missing" if hidden else ", and no part is missing"
    )


def _differences(score: Callable[[Tensor], Tensor], at: Tensor, direction: Tensor) -> list[tuple[float, float]]:
    """Return (length, half the difference of the scores to both sides) for each of ``STEPS``."""
    found = []
    for step in STEPS:
        push = step * direction / direction.abs().max()
        up, down = score(torch.stack([at + push, at - push])).tolist()
        found.append((float(push.norm()), (up - down) / 2))
    return found
