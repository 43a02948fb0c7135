"""Calls of a run's model and reward: predict, decode, score and judge, in chunks, with their cost booked."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from steer.errors import SteerError
from steer.models.backbone import Backbone
from steer.models.encoded_prompts import Conditioning
from steer.models.room import in_equal_batches, scored_at_once
from steer.models.stock.process import Called
from steer.prompts.prompt import Prompt
from steer.rewards.combinations import WeightedSum
from steer.sampling.books import Books
from steer.sampling.chunks import Chunks, during

Decode = Callable[[Tensor], Any]
"""Latents ``[B, …]`` to samples."""
DecodeRows = Callable[[Tensor, Tensor], Any]
"""Latents ``[B, …]`` in place of those of some rows, int64 ``[B]``, to samples."""


def within(backbone: Backbone, function: Callable[..., Any], denoiser: str | None = None) -> Callable[..., Any]:
    """Return a function of the model without its encoders that puts it into inference mode, and the denoiser that it
    uses onto the device, itself: it may be called again on the way back, when whoever asked for the gradient has the
    model back, or has used other weights."""

    def inside(*arguments: Any, **keywords: Any) -> Any:
        with backbone.inference():
            backbone.enter(encoding=False)
            if denoiser is not None:
                backbone.bring(denoiser)
            return function(*arguments, **keywords)

    return inside


def checkpointed(function: Callable[..., Tensor], x: Tensor, *arguments: Any) -> Tensor:
    """Call a function that draws no randomness, without keeping its activations for the backward pass."""
    if not (torch.is_grad_enabled() and x.requires_grad):
        return function(x, *arguments)
    out: Tensor = checkpoint(function, x, *arguments, use_reentrant=False, preserve_rng_state=False)
    return out


def groups_of(job: Tensor, conditioning: Conditioning) -> Tensor | None:
    """Return a group per row ``[N]``: rows of different groups cannot share a forward. ``None`` if all can."""
    return job if conditioning.ragged else None


class Forwards:
    """Predictions, decoded samples and scores for rows of a run.

    Attributes:
        chunks: how forwards are split.
        books: accounts of their cost.
        reward: the reward that steers, or ``None``.
        share: asked after each prediction for the share of its work that was done, if a cache does the rest.
        preview: cheaper decoder of latents ``[B, C, H, W]`` for rewards before the last step, or ``None``.
    """

    def __init__(
        self,
        backbone: Backbone,
        chunks: Chunks,
        books: Books,
        reward: WeightedSum | None = None,
        preview: Decode | None = None,
    ) -> None:
        self.backbone, self.chunks, self.books, self.reward, self.preview = backbone, chunks, books, reward, preview
        self.share: Callable[[], float] = lambda: 1.0

    def predict(self, denoiser: str, x: Tensor, timestep: Tensor, conditioning: Conditioning, job: Tensor) -> Tensor:
        """Return the denoiser's output for all rows.

        Args:
            denoiser: name of the weights.
            x: scaled latents ``[N, …]``.
            timestep: 0-dimensional.
            conditioning: of J prompts.
            job: ``[N]``, the prompt of each row.
        """

        evaluations = self.backbone.evaluations(conditioning.guided, timestep)
        timestep = timestep.to(x.device)

        def forward(rows: Tensor) -> Tensor:
            with during("denoising"):
                return self.predict_rows(denoiser, x[rows.to(x.device)], timestep, conditioning.rows(job[rows]))

        out, padding = self.chunks.map(forward, len(job), groups_of(job, conditioning))
        self.books.predicted(job, evaluations, padding, self.share())
        return out

    def called(self, process: Called, x: Tensor, job: Tensor) -> tuple[Tensor, Tensor]:
        """Return the predictions that the calls of a pipeline make next for all rows, and the x that they belong to.

        Args:
            process: of the calls.
            x: ``[N, …]``, the latents to go on with.
            job: ``[N]``, the prompt of each row.
        """
        prediction, x = self.chunks.unrepeatable("denoising", lambda: process.predict(x))
        self.books.predicted(job, process.evaluations, process.padding, self.share())
        return prediction, x

    def made(self, process: Called, x0: Tensor) -> Any:
        """Return what the calls of a pipeline make of ``x0`` ``[N, …]``: their results if they are at their end."""
        samples = self.chunks.unrepeatable("decoding", lambda: process.end(x0)) if process.done else None
        if samples is None:
            return self.decode(x0, decode=process.decode)
        self.books.scored(decodes=len(x0), rewards=0)
        return self._finite(samples)

    def predict_rows(
        self, denoiser: str, x: Tensor, timestep: Tensor, conditioning: Conditioning, *, keep: bool = False
    ) -> Tensor:
        """Return the denoiser's output in one forward that is not booked.

        Args:
            denoiser: name of the weights.
            x: scaled latents ``[B, …]``.
            timestep: 0-dimensional.
            conditioning: of each row.
            keep: keep the activations if a graph is made, instead of computing them again on the way back.
        """
        predict = partial(
            within(self.backbone, self.backbone.prediction, denoiser), denoiser, conditioning=conditioning
        )
        timestep = timestep.to(x.device)
        return predict(x, timestep) if keep else checkpointed(predict, x, timestep)

    def decode_rows(self, x0: Tensor, *, final: bool, keep: bool = False) -> Any:
        """Decode the latents of one chunk ``[B, …]``, on a GPU in batches of their own; not booked.

        Args:
            x0: the latents.
            final: whether they are final; if not, the preview decoder is used if there is one.
            keep: keep the activations if a graph is made, instead of computing them again on the way back.
        """
        if final or self.preview is None:
            decode, most = within(self.backbone, self.backbone.decode), self.backbone.decoded_at_once(x0)
        else:
            decode, most = self.preview, len(x0)

        def decoded(part: Tensor, _: object) -> Any:
            with during("decoding", rows=None if keep else len(part)):
                return decode(part) if keep else checkpointed(decode, part)

        return in_equal_batches(decoded, x0, most)

    def decode(self, x0: Tensor, *, final: bool = True, decode: DecodeRows | None = None) -> Any:
        """Decode latents ``[N, …]`` to samples.

        Args:
            x0: the latents.
            final: take the preview decoder, if there is one, unless this is true.
            decode: takes the model's place.
        """
        out, _ = self.chunks.map(lambda rows: self._decoded(x0[rows.to(x0.device)], final, rows, decode), len(x0))
        self.books.scored(decodes=len(x0), rewards=0)
        return out

    def score(
        self,
        x0: Tensor,
        prompts: Sequence[Prompt],
        *,
        step: int | None = None,
        samples: Any = None,
        decode: DecodeRows | None = None,
    ) -> Tensor:
        """Score latents by the run's reward, decoding chunk by chunk so that memory does not grow with their number.

        Args:
            x0: ``[N, …]``.
            prompts: of each row.
            step: the step of these estimates, for messages; ``None`` if they are final.
            samples: the decoded latents, if known.
            decode: takes the model's place.

        Returns:
            ``[N]``.

        Raises:
            SteerError: if the run has no reward.
        """
        reward = self.required_reward()
        if step is not None and self.preview is not None:  # all rewards before the end use the same decoder
            samples = None

        def evaluate(rows: Tensor) -> Tensor:
            index = rows.to(x0.device)
            found = self._decoded(x0[index], step is None, rows, decode) if samples is None else samples[index]
            with during("rewarding", rows=scored_at_once(found)):
                return reward(found, [prompts[row] for row in rows.tolist()], step=step)

        scores, _ = self.chunks.map(evaluate, len(x0))
        self.books.scored(decodes=len(x0) if samples is None else 0, rewards=len(x0))
        return scores

    def judge(self, judge: WeightedSum, samples: Any, prompts: Sequence[Prompt]) -> Tensor:
        """Score finished samples by a judge, ``[N]``; no hook sees it."""

        def evaluate(rows: Tensor) -> Tensor:
            with during("rewarding", rows=scored_at_once(samples)):
                return judge(samples[rows.to(samples.device)], [prompts[row] for row in rows.tolist()])

        scores, _ = self.chunks.map(evaluate, len(samples))
        self.books.scored(decodes=0, rewards=len(samples))
        return scores

    def _decoded(self, x0: Tensor, final: bool, rows: Tensor, decode: DecodeRows | None) -> Any:
        """Decode some rows; samples that are no numbers are an error, not black images."""
        if decode is None or (self.preview is not None and not final):
            return self._finite(self.decode_rows(x0, final=final))
        with during("decoding", rows=len(x0)), torch.no_grad():
            return self._finite(decode(x0, rows))

    def _finite(self, samples: Any) -> Any:
        """Return samples if they are numbers."""
        if not self.backbone.medium.finite(samples):
            dtype = next((leaf.dtype for leaf in self.backbone.denoisers["base"].parameters()), torch.float32)
            helps = (
                "--dtype bf16, or --dtype fp32"
                if dtype is torch.float16
                else "--dtype fp32, a lower --guidance-scale, or another --scheduler"
            )
            name = str(dtype).removeprefix("torch.")
            made = self.backbone.medium.plural
            raise SteerError(f"the model gave {made} that are not finite (NaN), computing in {name}; use {helps}")
        return samples

    def required_reward(self) -> WeightedSum:
        """Return the run's reward.

        Raises:
            SteerError: if it has none.
        """
        if self.reward is None:
            raise SteerError("no reward was given; name one with --reward (steer plugins lists them)")
        return self.reward
