"""Gradients of losses of the samples by the initial noise, for methods that search by them."""

from functools import partial

import torch
from torch import Tensor

from steer.sampling.forwards import checkpointed, groups_of
from steer.sampling.gradients import Gradients, Losses, Merge, check_differentiable, pull
from steer.sampling.run import Run
from steer.sampling.start import Start
from steer.sampling.state import State


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
        merge: makes one gradient by the samples of those of all losses, which then goes back once instead of once per
            loss: the way back through the generator is most of the time.
        truncate: the gradient goes through the denoiser of the last so many steps only. Before, its output counts as
            a constant and the gradient follows the sampler's linear path: that keeps the product of many Jacobians
            from exploding or vanishing, and saves their way back. ``None`` takes all steps.
        recompute: forget the activations of denoiser and decoder and compute them again on the way back. Without, a
            chunk takes the memory of all its evaluations at once, and each way back costs a forward less.
        denoiser: name of the weights to use, instead of the run's own.

    Raises:
        SteerError: for a loss that gives no gradient, naming it; if the model makes texts: tokens have no gradient.
    """
    check_differentiable(run.backbone)
    watched = watch or {}
    noise = run.noise(start)
    with torch.no_grad():
        conditioning = run.encode()
    steps = 0

    def pull_rows(rows: Tensor) -> tuple[Tensor, ...]:
        nonlocal steps
        with torch.enable_grad():
            leaf = noise[rows.to(noise.device)].detach().requires_grad_()
            state = run.begin(start.take(rows).with_noise(leaf), conditioning=conditioning, denoiser=denoiser)
            steps = state.steps
            _denoise(state, truncate, recompute)
            decode = run.backbone.decode
            samples = checkpointed(decode, state.x) if recompute else decode(state.x)
            join = None if merge is None else partial(_merged, merge, rows)
            return pull(samples, leaf, losses, watched, state.prompts, None, join)

    forwards = run.forwards
    (values, grads, seen), padding = forwards.chunks.map_several(
        pull_rows, len(start), groups_of(start.job, conditioning)
    )
    evaluations = conditioning.evaluations
    back = min(steps, steps if truncate is None else truncate)
    ways = len(losses) if merge is None else 1
    forwards.books.predicted(start.job, steps * evaluations, padding)
    forwards.books.went_back(start.job, ways * back * evaluations, recomputed=recompute)
    forwards.books.scored(decodes=len(start), rewards=len(start) * (len(losses) + len(watched)))
    return Gradients(values.T, grads.transpose(0, 1), seen.T)


def _denoise(state: State, truncate: int | None, recompute: bool) -> None:
    """Run a chunk to the end within the graph."""
    rows = torch.arange(len(state))
    while not state.done:
        through = truncate is None or state.steps - state.step <= truncate
        with torch.set_grad_enabled(through):
            prediction = state.forward(state.x, rows, keep=not recompute)
        state.accept_prediction(prediction)
        state.advance()


def _merged(merge: Merge, rows: Tensor, by_samples: list[Tensor]) -> list[Tensor]:
    return [merge(torch.stack(by_samples), rows)]
