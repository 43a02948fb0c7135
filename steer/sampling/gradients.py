"""Gradients of rewards by noise or latents: chunk by chunk, one reward after another.

A chunk goes forward once. Its samples are then a leaf for each loss in turn, whose own graph is gone before the
next one's is made, and what comes back at the samples is pulled through decoder and denoiser. So memory is one
chunk's way through the generator plus one reward, however many seeds and rewards there are. Only denoiser and
decoder are checkpointed: a scheduler that is computed again would count its steps twice, and noise that is drawn
inside would be drawn anew.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from steer.errors import RewardError, SteerError
from steer.prompts.prompt import Prompt
from steer.rewards.reward import RewardFunction, score, without_gradient

if TYPE_CHECKING:
    from steer.sampling.run import Run
    from steer.sampling.start import Start
    from steer.sampling.state import State

Merge = Callable[[Tensor, Tensor], Tensor]
"""Takes gradients of all losses by samples ``[R, B, …]`` and their rows ``[B]``, gives one gradient ``[B, …]``."""

Losses = Mapping[str, RewardFunction]
"""Differentiable functions of (samples, prompts) by name, each giving one value a sample; the sign is the caller's."""


@dataclass(frozen=True)
class Gradients:
    """What :func:`vjp` returns, for R losses, W watched rewards and N rows.

    A row whose sample or gradient is not finite keeps what it got: it says nothing of the other rows.

    Attributes:
        values: float64 ``[R, N]`` on the CPU, the losses.
        grads: fp32 ``[R, N, …]`` on the backbone's device, of each loss by each row's noise; ``[1, N, …]`` where they
            were merged.
        watched: float64 ``[W, N]`` on the CPU.
    """

    values: Tensor
    grads: Tensor
    watched: Tensor

    @property
    def finite(self) -> Tensor:
        """Whether all values and gradients of a row are finite: bool ``[N]`` on the CPU."""
        by_row = torch.isfinite(self.grads).flatten(2).all(dim=2).all(dim=0)
        return torch.isfinite(self.values).all(dim=0) & by_row.cpu()


def vjp(
    run: Run,
    start: Start,
    losses: Losses,
    *,
    watch: Losses | None = None,
    merge: Merge | None = None,
    truncate: int | None = None,
    recompute: bool = True,
    denoiser: str | None = None,
) -> Gradients:
    """Sample without hooks and pull each loss back to the initial noise.

    Args:
        run: gives model, settings, chunks and the books.
        start: rows and their noise.
        losses: what to differentiate, at least one.
        watch: rewards of the same samples whose values alone are wanted.
        merge: makes one gradient by the samples of those of all losses, which then goes back once instead of once a
            loss: the way back through the generator is most of the time.
        truncate: the gradient goes through the denoiser of the last so many steps only. Before, its output counts as
            a constant and the gradient follows the sampler's linear path: that keeps the product of many Jacobians
            from exploding or vanishing, and saves their way back. ``None`` takes all steps.
        recompute: forget the activations of denoiser and decoder and compute them again on the way back. Without, a
            chunk takes the memory of all its evaluations at once, and each way back costs a forward less.
        denoiser: name of the weights to use, instead of the run's own.

    Raises:
        SteerError: for a loss that gives no gradient, naming it.
    """
    watched = watch or {}
    noise = run.noise(start)
    with torch.no_grad():
        conditioning = run.encode()
    steps = 0

    def pull(rows: Tensor) -> tuple[Tensor, ...]:
        nonlocal steps
        with torch.enable_grad():
            leaf = noise[rows.to(noise.device)].detach().requires_grad_()
            state = run.begin(start.take(rows).with_noise(leaf), conditioning=conditioning, denoiser=denoiser)
            steps = state.steps
            _denoise(run, state, truncate, recompute)
            samples = _decoded(run.backbone.decode, state.x, recompute)
            join = None if merge is None else partial(_merged, merge, rows)
            return _pull(samples, leaf, losses, watched, state.prompts, None, join)

    (values, grads, seen), padding = run.chunks.map_several(pull, len(start), run.groups(start.job))
    evaluations = 2 if conditioning.guided else 1
    back = min(steps, steps if truncate is None else truncate)
    run.book(start.job, steps * evaluations)
    ways = len(losses) if merge is None else 1
    run.book_backwards(start.job, ways * back * evaluations, recompute)
    run.cost.padding += padding * steps * evaluations
    run.cost.decodes += len(start)
    run.cost.reward_calls += len(start) * (len(losses) + len(watched))
    return Gradients(values.T, grads.transpose(0, 1), seen.T)


def by_state(state: State, reward: RewardFunction | None, name: str) -> tuple[Tensor, Tensor]:
    """Return values and gradients for :meth:`steer.State.gradient`."""
    run = state.run
    if reward is None:
        if run.reward is None:
            raise SteerError("no reward was given; name one with --reward (steer plugins lists them)")
        reward, name = run.reward, run.reward.name
    step = None if state.done else state.step
    decode = run.backbone.decode if state.done or run.preview is None else run.preview
    losses = {name: reward}
    x = state.x.detach()

    def pull(rows: Tensor) -> tuple[Tensor, ...]:
        with torch.enable_grad():
            leaf = x[rows.to(x.device)].requires_grad_()
            x0 = leaf
            if not state.done:
                prediction = run.predict_rows(state, rows, state.process.model_input(leaf))
                x0 = state.process.estimate(leaf, prediction)
            prompts = [state.jobs[job].prompt for job in state.job[rows].tolist()]
            return _pull(_decoded(decode, x0, True), leaf, losses, {}, prompts, step)

    (values, grads, _), padding = run.chunks.map_several(pull, len(state), run.groups(state.job))
    evaluations = 0 if state.done else (2 if state.conditioning.guided else 1)
    run.book(state.job, evaluations)
    run.book_backwards(state.job, evaluations, True)
    run.cost.padding += padding * evaluations
    run.cost.decodes += len(state)
    run.cost.reward_calls += len(state)
    gradient = grads[:, 0]
    bad = ~torch.isfinite(gradient).flatten(1).all(dim=1)
    if bool(bad.any()):
        row = int(bad.nonzero()[0])
        where = "on the final samples" if step is None else f"at step {step}"
        raise RewardError(
            f"reward {name!r} gave a gradient that is not finite for prompt {state.prompts[row][:60]!r} ({where})"
        )
    return values[:, 0], gradient


def checkpointed(function: Callable[..., Tensor], x: Tensor, *arguments: Any) -> Tensor:
    """Call a function that draws no randomness, without keeping its activations for the backward pass."""
    if not (torch.is_grad_enabled() and x.requires_grad):
        return function(x, *arguments)
    out: Tensor = checkpoint(function, x, *arguments, use_reentrant=False, preserve_rng_state=False)
    return out


def _denoise(run: Run, state: State, truncate: int | None, recompute: bool) -> None:
    """Run a chunk to the end within the graph."""
    rows = torch.arange(len(state))
    while not state.done:
        x = state.process.model_input(state.x)
        through = truncate is None or state.steps - state.step <= truncate
        with torch.set_grad_enabled(through):
            prediction = run.predict_rows(state, rows, x, keep=not recompute)
        state.accept_prediction(prediction)
        state.advance()


def _decoded(decode: Callable[[Tensor], Tensor], x0: Tensor, recompute: bool) -> Tensor:
    return checkpointed(decode, x0) if recompute else decode(x0)


def _pull(
    samples: Tensor,
    leaf: Tensor,
    losses: Losses,
    watch: Losses,
    prompts: Sequence[Prompt],
    step: int | None,
    join: Callable[[list[Tensor]], list[Tensor]] | None = None,
) -> tuple[Tensor, ...]:
    """Return losses ``[B, R]``, their gradients ``[B, R, …]`` by ``leaf``, and what is watched ``[B, W]``."""
    pixels = samples.detach()
    sound = torch.isfinite(pixels).flatten(1).all(dim=1)
    # a half-precision overflow in one row must not end the others: the row is scored on nothing and marked
    pixels = torch.where(_like(sound, pixels), pixels, 0.0)
    values: list[Tensor] = []
    grads: list[Tensor] = []
    by_samples: list[Tensor] = []
    for name, loss in losses.items():
        value, by_sample = _differentiate(name, loss, pixels, prompts, step)
        values.append(value)
        if join is None:
            grads.append(_back(samples, leaf, by_sample, keep=len(values) < len(losses)))
        else:
            by_samples.append(by_sample)
    if join is not None:
        grads = [_back(samples, leaf, by_sample, keep=False) for by_sample in join(by_samples)]
    with torch.no_grad():
        seen = [score(name, reward, pixels, prompts, step=step).double().cpu() for name, reward in watch.items()]
    nan = torch.where(sound.cpu(), 0.0, torch.nan).double()
    watched = torch.stack(seen, dim=1) if seen else torch.zeros(len(pixels), 0, dtype=torch.float64)
    return torch.stack(values, dim=1) + nan[:, None], torch.stack(grads, dim=1), watched


def _merged(merge: Merge, rows: Tensor, by_samples: list[Tensor]) -> list[Tensor]:
    return [merge(torch.stack(by_samples), rows)]


def _back(samples: Tensor, leaf: Tensor, by_sample: Tensor, *, keep: bool) -> Tensor:
    """Pull a gradient by the samples back to the leaf; ``keep`` leaves the graph for the next one."""
    scale = _unit_scale(by_sample)
    (grad,) = torch.autograd.grad(samples, leaf, (by_sample * scale).to(samples.dtype), retain_graph=keep)
    unscaled: Tensor = grad.detach() / _like(scale.flatten().to(grad.device), grad)
    return unscaled


def _differentiate(
    name: str, loss: RewardFunction, pixels: Tensor, prompts: Sequence[Prompt], step: int | None
) -> tuple[Tensor, Tensor]:
    """Return a loss's values ``[B]`` and its gradient by the samples; its graph is gone when this returns."""
    image = pixels.clone().requires_grad_()
    value = score(name, loss, image, prompts, step=step)
    part = without_gradient(name, loss)
    if part is not None or not value.requires_grad:
        raise no_gradient(part or name)
    # rows are independent: the gradient of the sum holds each row's own
    (by_sample,) = torch.autograd.grad(value.sum(), image, allow_unused=True)
    if by_sample is None:  # it has a graph, but of weights of its own
        raise no_gradient(name)
    return value.detach().to("cpu", torch.float64), by_sample


def no_gradient(name: str) -> SteerError:
    """Return the error for a reward that a gradient was asked of in vain."""
    return SteerError(
        f"reward {name!r} gives no gradient; take a differentiable one, or a search that needs none "
        "(--plugin zero-order, --plugin best-of-n)"
    )


def _unit_scale(gradient: Tensor) -> Tensor:
    """Return a power of two for each row that brings its largest entry to 0.5..1.

    The way back is linear, so scaling changes no bit of it in fp32; in half precision it keeps small gradients from
    becoming zero.
    """
    largest = gradient.detach().float().abs().flatten(1).amax(dim=1)
    usable = torch.isfinite(largest) & (largest > 0)
    _, exponent = torch.frexp(torch.where(usable, largest, 1.0))
    # beyond 2^±100 the scale itself would leave the range of fp32
    scale = torch.ldexp(torch.ones_like(largest), -exponent.clamp(-100, 100))
    return _like(scale, gradient)


def _like(rows: Tensor, value: Tensor) -> Tensor:
    """Return ``[B]`` shaped to be broadcast over ``[B, …]``."""
    return rows.view(-1, *[1] * (value.ndim - 1))
