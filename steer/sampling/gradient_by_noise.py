"""``vjp``: gradients of losses of the samples by the initial noise."""

from contextlib import nullcontext
from functools import partial

import torch
from torch import Tensor

from steer.models.device import repeatably
from steer.sampling.chunks import during
from steer.sampling.forwards import groups_of
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
        run: has the model, the settings, the chunks and the books.
        start: rows and their noise.
        losses: functions to differentiate, at least one.
        watch: rewards of the same samples to evaluate without gradients.
        merge: merges the losses' gradients by the samples, so that one backward pass through the generator, which
            takes most of the time, serves all losses.
        truncate: number of last steps whose denoiser the gradient passes. Before them, the denoiser's output counts as
            a constant and the gradient follows the sampler's linear path: the product of many Jacobians cannot explode
            or vanish, and their backward passes are saved. ``None`` takes all steps.
        recompute: drop the activations of denoiser and decoder, and compute them again in the backward pass. Without
            it, a chunk takes the memory of all its evaluations at once, and a backward pass costs one forward less.
            Parts that are offloaded are always called again.
        denoiser: name of the weights to use, instead of the run's own.

    Raises:
        SteerError: if a loss is not differentiable, the model makes texts, whose tokens have no gradient, or it is
            under group offload.
    """
    check_differentiable(run.backbone)
    recompute = recompute or run.backbone.offloaded  # a part that has left comes back only if it is called again
    watched = watch or {}
    noise = run.noise(start)
    with torch.no_grad():
        conditioning = run.encode()
    forwards, evaluations = run.forwards, list[int]()

    def pull_rows(rows: Tensor) -> tuple[Tensor, ...]:
        nonlocal evaluations
        with during("differentiating"), torch.enable_grad():
            leaf = noise[rows.to(noise.device)].detach().requires_grad_()
            state = run.begin(start.take(rows).with_noise(leaf), conditioning=conditioning, denoiser=denoiser)
            evaluations = _denoise(state, truncate, recompute)
            samples = forwards.decode_rows(state.x, final=True, keep=not recompute)
            join = None if merge is None else partial(_merged, merge, rows)
            return pull(samples, leaf, losses, watched, state.prompts, None, join)

    inside = run.backbone.recomputing(denoiser or str(run.get("denoiser"))) if recompute else nullcontext()
    groups = groups_of(start.job, conditioning)
    with run.backbone.inference(), inside:
        (values, grads, seen), padding = repeatably(
            run.backbone.device, lambda: forwards.chunks.map_several(pull_rows, len(start), groups), "the model"
        )
    back = sum(evaluations if truncate is None else evaluations[max(0, len(evaluations) - truncate) :])
    ways = len(losses) if merge is None else 1
    forwards.books.predicted(start.job, sum(evaluations), padding)
    forwards.books.went_back(start.job, ways * back, recomputed=recompute)
    forwards.books.scored(decodes=len(start), rewards=len(start) * (len(losses) + len(watched)))
    return Gradients(values.T, grads.transpose(0, 1), seen.T)


def _denoise(state: State, truncate: int | None, recompute: bool) -> list[int]:
    """Run a chunk to the end within the graph; return the evaluations per row that each step took."""
    rows, taken = torch.arange(len(state)), []
    while not state.done:
        taken.append(state.evaluations)
        through = truncate is None or state.steps - state.step <= truncate
        with torch.set_grad_enabled(through):
            prediction = state.forward(state.x, rows, keep=not recompute)
        state.accept_prediction(prediction)
        state.advance()
    return taken


def _merged(merge: Merge, rows: Tensor, by_samples: list[Tensor]) -> list[Tensor]:
    return [merge(torch.stack(by_samples), rows)]
