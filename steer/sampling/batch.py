"""Rows of latents at one noise level, with the model's prediction for them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from torch import Tensor

from steer.errors import SteerError
from steer.models.encoded_prompts import Conditioning
from steer.models.stock.process import Called
from steer.processes import Process
from steer.sampling.forwards import Forwards

T = TypeVar("T")


class Batch:
    """N rows in lockstep, without slots and weights; :class:`steer.State` adds those.

    Attributes:
        process: the rows' place on the schedule, and the transition to the next one.
        forwards: model and reward, chunk by chunk.
        job: ``[N]`` int64 on the CPU, the index of each row's prompt.
        conditioning: of the prompts.
        denoiser: name of the weights.
        biased: whether a method changed x or the prediction.
    """

    def __init__(
        self,
        process: Process,
        x: Tensor,
        *,
        forwards: Forwards,
        job: Tensor,
        conditioning: Conditioning,
        denoiser: str = "base",
    ) -> None:
        self.process, self.forwards = process, forwards
        self.job, self.conditioning, self.denoiser = job, conditioning, denoiser
        self.biased = False
        self._x = x
        self._prediction: Tensor | None = None
        self._cache: dict[str, Any] = {}

    def __len__(self) -> int:
        return len(self.job)

    # ---- where the rows stand ----------------------------------------------------------------------------

    @property
    def step(self) -> int:
        """Steps taken so far."""
        return self.process.index

    @property
    def steps(self) -> int:
        """Steps in all."""
        return self.process.length

    @property
    def done(self) -> bool:
        """Whether ``x`` is final."""
        return self.process.done

    @property
    def whole(self) -> bool:
        """Whether a step begins here; within one of a second-order scheduler, ``x`` is a trial point, and a change of
        it is all but lost. Reindexing is exact either way."""
        return self.process.whole

    @property
    def timestep(self) -> Tensor:
        """The denoiser's time at this step, 0-dimensional, on the CPU."""
        return self.process.timestep

    @property
    def alpha(self) -> float:
        """Signal level: ``x = alpha·x0 + sigma·noise``."""
        return self.process.level[0]

    @property
    def sigma(self) -> float:
        """Noise level."""
        return self.process.level[1]

    # ---- what they are ---------------------------------------------------------------------------------

    @property
    def x(self) -> Tensor:
        """Latents at the current noise level; assigning marks the run as biased."""
        return self._x

    @x.setter
    def x(self, value: Tensor) -> None:
        self._check_like(value, "x")
        self._x = value
        self._prediction = None
        self._cache.clear()
        self.biased = True

    @property
    def prediction(self) -> Tensor | None:
        """The denoiser's output for ``x``; assigning marks the run as biased."""
        return self._prediction

    @prediction.setter
    def prediction(self, value: Tensor) -> None:
        self._check_like(value, "prediction")
        self._prediction = value
        self._cache.clear()
        self.biased = True

    @property
    def x0(self) -> Tensor:
        """The estimate of the final x, its mode if it is a random draw; at the end it is x."""
        if self.done:
            return self._x
        if self._prediction is None:
            raise RuntimeError("x0 is known between after_predict and the end of the step, and after the last one")
        return self._cached("x0", lambda: self.process.estimate(self._x, self._require_prediction()))

    @property
    def samples(self) -> Any:
        """Decoded ``x0``, chunk by chunk, kept until x changes."""
        return self._cached("samples", self._decoded)

    def glimpse(self) -> Any:
        """Return decoded ``x0`` for a look at it: by the preview decoder if there is one, and not kept."""
        decode = self.process.decode if isinstance(self.process, Called) else None
        return self.forwards.decode(self.x0, final=False, decode=decode)

    # ---- what the denoiser says ------------------------------------------------------------------------

    def predict(self) -> None:
        """Run the denoiser on the current ``x``."""
        if isinstance(self.process, Called):
            prediction, self._x = self.forwards.called(self.process, self._x, self.job)
            self.accept_prediction(prediction)
            return
        x = self.process.model_input(self._x)
        self.accept_prediction(self.forwards.predict(self.denoiser, x, self.timestep, self.conditioning, self.job))

    def accept_prediction(self, prediction: Tensor) -> None:
        """Set the denoiser's output for the current ``x``."""
        self._prediction = prediction
        self._cache.clear()

    def forward(self, x: Tensor, rows: Tensor, *, keep: bool = False) -> Tensor:
        """Return the denoiser's output for other latents of some rows, in one forward that is not booked.

        Args:
            x: ``[len(rows), …]``.
            rows: which rows they stand for.
            keep: keep the activations if a graph is made, instead of computing them again on the way back.
        """
        conditioning = self.conditioning.rows(self.job[rows])
        x = self.process.model_input(x)
        return self.forwards.predict_rows(self.denoiser, x, self.timestep, conditioning, keep=keep)

    def standing_at(self, process: Process, x: Tensor) -> Batch:
        """Return the same rows at another noise level: a look-ahead that leaves these as they are.

        Args:
            process: as it stands there.
            x: ``[N, …]``, the latents there.
        """
        return Batch(
            process, x, forwards=self.forwards, job=self.job, conditioning=self.conditioning, denoiser=self.denoiser
        )

    # ---- inside ----------------------------------------------------------------------------------------

    def _decoded(self) -> Any:
        if isinstance(self.process, Called):
            return self.forwards.made(self.process, self.x0)
        return self.forwards.decode(self.x0)

    def _cached(self, name: str, compute: Callable[[], T]) -> T:
        if name not in self._cache:
            self._cache[name] = compute()
        found: T = self._cache[name]
        return found

    def _require_prediction(self) -> Tensor:
        if self._prediction is None:
            raise RuntimeError("the denoiser has not run at this step")
        return self._prediction

    def _check_like(self, value: Tensor, name: str) -> None:
        # of tokens, a prediction has one dimension more than x
        like = self._prediction if name == "prediction" and self._prediction is not None else self._x
        if value.shape != like.shape:
            raise SteerError(f"a method set state.{name} to shape {tuple(value.shape)}, expected {tuple(like.shape)}")
