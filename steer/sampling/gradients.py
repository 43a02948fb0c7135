"""Gradients of rewards by noise or latents: chunk by chunk, one reward after another.

A chunk goes forward once. Its samples are then a leaf for one loss after another. Each loss's graph is freed before
the next one is made, and its gradient by the samples is pulled back through decoder and denoiser. So memory holds one
chunk in the generator plus one reward, for any number of seeds and rewards. Only denoiser and decoder are
checkpointed: a recomputed scheduler would count its steps twice, and recomputed noise would be drawn anew.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from steer.errors import RewardError, SteerError
from steer.models.backbone import Backbone
from steer.models.device import repeatably
from steer.prompts.prompt import Prompt
from steer.rewards.combinations import WeightedSum, parts_of, score, without_gradient
from steer.rewards.reward import RewardFunction
from steer.sampling.chunks import during
from steer.sampling.forwards import Forwards

Merge = Callable[[Tensor, Tensor], Tensor]
"""Merges the gradients of all losses by the samples ``[R, B, …]`` of rows ``[B]`` into one gradient ``[B, …]``."""

Losses = Mapping[str, RewardFunction]
"""Differentiable functions of (samples, prompts) by name, one value per sample; the caller chooses the sign."""


@dataclass(frozen=True)
class Gradients:
    """Result of :func:`steer.sampling.gradient_by_noise.vjp`, for R losses, W watched rewards and N rows.

    A row whose sample or gradient is not finite keeps its values; the other rows are not affected.

    Attributes:
        values: float64 ``[R, N]`` on the CPU, the losses.
        grads: fp32 ``[R, N, …]`` on the backbone's device, of each loss by each row's noise; ``[1, N, …]`` if they
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


def check_differentiable(backbone: Backbone) -> None:
    """Raise unless a model's samples depend smoothly on the noise, and can be differentiated.

    Raises:
        SteerError: if it makes texts: tokens have no gradient; if only its pipeline's whole call can be made; or if it
            is under group offload, whose layers have left when the way back needs them.
    """
    backbone.check_predicts("a gradient")
    if not backbone.continuous:
        raise SteerError(
            f"a {backbone.modality} has no gradient, because its tokens are random draws; steer it by fk or best-of-n"
        )
    if backbone.leaves_early:
        raise SteerError(
            "under group offload there is no gradient: layers leave the device before the way back needs them; use "
            "--offload model, or a search without gradients (--plugin zero-order, --plugin best-of-n)"
        )


def by_latents(
    forwards: Forwards,
    loss: Losses,
    x: Tensor,
    estimate: Callable[[Tensor, Tensor], Tensor],
    denoiser: str,
    prompts: Sequence[Prompt],
    job: Tensor,
    groups: Tensor | None,
    step: int | None,
    evaluations: int,
) -> tuple[Tensor, Tensor]:
    """Return a reward of decoded estimates and its gradient by the latents.

    Args:
        forwards: decoder, chunks and books.
        loss: the one reward, by its name.
        x: ``[N, …]``, without a graph.
        estimate: of x0 ``[B, …]``, from some rows' latents ``[B, …]`` and the rows ``[B]``.
        denoiser: name of the weights that it asks.
        prompts: of each row.
        job: ``[N]``, the prompt of each row.
        groups: ``[N]``: rows of different groups cannot share a forward; ``None`` if all can.
        step: the step of the estimate, for messages; ``None`` at the end.

    Returns:
        Values, float64 ``[N]`` on the CPU, and gradients ``[N, …]``.

    Raises:
        SteerError: if the reward is not differentiable, or the gradient is not finite.
    """

    def pull_rows(rows: Tensor) -> tuple[Tensor, ...]:
        with during("differentiating"), torch.enable_grad():
            leaf = x[rows.to(x.device)].requires_grad_()
            samples = forwards.decode_rows(estimate(leaf, rows), final=step is None)
            return pull(samples, leaf, loss, {}, [prompts[row] for row in rows.tolist()], step)

    with forwards.backbone.recomputing(denoiser):
        (values, grads, _), padding = repeatably(
            x.device, lambda: forwards.chunks.map_several(pull_rows, len(x), groups), "the model"
        )
    forwards.books.predicted(job, evaluations, padding)
    forwards.books.went_back(job, evaluations, recomputed=True)
    forwards.books.scored(decodes=len(x), rewards=len(x))
    gradient = grads[:, 0]
    bad = ~torch.isfinite(gradient).flatten(1).all(dim=1)
    if bool(bad.any()):
        (name,) = loss
        where = "on the final samples" if step is None else f"at step {step}"
        raise RewardError(
            f"reward {name!r} gave a gradient that is not finite for prompt "
            f"{prompts[int(bad.nonzero()[0])][:60]!r} ({where})"
        )
    return values[:, 0], gradient


def pull(
    samples: Tensor,
    leaf: Tensor,
    losses: Losses,
    watch: Losses,
    prompts: Sequence[Prompt],
    step: int | None,
    join: Callable[[list[Tensor]], list[Tensor]] | None = None,
) -> tuple[Tensor, ...]:
    """Differentiate losses of samples one after another.

    Args:
        samples: ``[B, …]``, with a graph that begins at ``leaf``.
        leaf: the tensor to differentiate by.
        watch: rewards to evaluate without gradients.
        prompts: of each row.
        step: for messages; ``None`` at the end.
        join: merges the losses' gradients by the samples, before they are pulled back.

    Returns:
        Losses ``[B, R]``, their gradients ``[B, R, …]`` by ``leaf``, and watched values ``[B, W]``.
    """
    pixels = samples.detach()
    sound = torch.isfinite(pixels).flatten(1).all(dim=1)
    # a half-precision overflow in one row must not end the others: the row is scored on zeros and marked
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
    with torch.no_grad(), during("rewarding"):
        seen = [_seen(name, reward, pixels, prompts, step) for name, reward in watch.items()]
    nan = torch.where(sound.cpu(), 0.0, torch.nan).to(torch.float64)
    watched = torch.stack(seen, dim=1) if seen else torch.zeros(len(pixels), 0, dtype=torch.float64)
    return torch.stack(values, dim=1) + nan[:, None], torch.stack(grads, dim=1), watched


def _back(samples: Tensor, leaf: Tensor, by_sample: Tensor, *, keep: bool) -> Tensor:
    """Pull a gradient by the samples back to the leaf; ``keep`` leaves the graph for the next one."""
    scale = _unit_scale(by_sample)
    (grad,) = torch.autograd.grad(samples, leaf, (by_sample * scale).to(samples.dtype), retain_graph=keep)
    unscaled: Tensor = grad.detach() / _like(scale.flatten().to(grad.device), grad)
    return unscaled


def _differentiate(
    name: str, loss: RewardFunction, pixels: Tensor, prompts: Sequence[Prompt], step: int | None
) -> tuple[Tensor, Tensor]:
    """Return a loss's values ``[B]`` and its gradient by the samples; its graph is gone when this returns.

    The terms of a sum are differentiated one after another, so that memory holds the weights and the graph of one.
    """
    if not isinstance(loss, WeightedSum) or len(loss.terms) == 1:
        return _batches(name, loss, pixels, prompts, step)
    values, grads = torch.zeros(len(pixels), dtype=torch.float64), torch.zeros_like(pixels)
    for term, weight, part in loss.terms:
        value, grad = _batches(term, part, pixels, prompts, step)
        values += weight * value
        grads += weight * grad
    return values, grads


def _batches(
    name: str, loss: RewardFunction, pixels: Tensor, prompts: Sequence[Prompt], step: int | None
) -> tuple[Tensor, Tensor]:
    """Return values and gradients.

    On a GPU one row goes there and back at a time: with its activations, a reward may take as much as the generator.
    """
    size = len(pixels) if pixels.device.type == "cpu" else 1
    try:
        with during("rewarding"):
            values, grads = zip(
                *(
                    _there_and_back(name, loss, pixels[start : start + size], prompts[start : start + size], step)
                    for start in range(0, len(pixels), size)
                ),
                strict=True,
            )
    finally:
        for each in parts_of(loss):
            if each.waits:
                each.park()
    return torch.cat(values), torch.cat(grads)


def _there_and_back(
    name: str, loss: RewardFunction, pixels: Tensor, prompts: Sequence[Prompt], step: int | None
) -> tuple[Tensor, Tensor]:
    """Return the values and the gradient for some rows; a reward that waits on the CPU stays where it was used."""

    def there_and_back() -> tuple[Tensor, Tensor | None]:
        image = pixels.clone().requires_grad_()
        value = score(name, loss, image, prompts, step=step)
        part = without_gradient(name, loss)
        if part is not None or not value.requires_grad:
            raise no_gradient(part or name)
        # rows are independent: the gradient of the sum holds each row's own
        return value, torch.autograd.grad(value.sum(), image, allow_unused=True)[0]

    value, by_sample = repeatably(pixels.device, there_and_back, f"reward {name!r}")
    if by_sample is None:  # it has a graph, but of weights of its own
        raise no_gradient(name)
    return value.detach().cpu().double(), by_sample


def _seen(name: str, reward: RewardFunction, pixels: Tensor, prompts: Sequence[Prompt], step: int | None) -> Tensor:
    """Return a watched reward's scores, float64 ``[B]`` on the CPU."""

    def scores() -> Tensor:
        return score(name, reward, pixels, prompts, step=step)

    return repeatably(pixels.device, scores, f"reward {name!r}").cpu().double()


def no_gradient(name: str) -> SteerError:
    """Return the error for a reward that is not differentiable."""
    return SteerError(
        f"reward {name!r} is not differentiable; choose one that is, or a search without gradients "
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
