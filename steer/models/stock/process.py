"""The noise process of a population that a pipeline's own calls denoise: they predict, and the steps are ours."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from typing import Any, Protocol

import torch
from torch import Tensor

from steer.errors import SteerError
from steer.models.stock.stand_in import Step, result
from steer.processes.gaussian import Gaussian
from steer.processes.glass import Glass
from steer.processes.noise import Streams

OWN = (
    "a method asked for a prediction of its own, and the calls of a pipeline make one per step; use a model of a "
    "family that steer predicts with"
)


class Calls(Protocol):
    """The calls that denoise a population, all before the same step of their scheduler."""

    evaluations: int
    """Denoiser evaluations per row that the last prediction took."""

    @property
    def padding(self) -> int:
        """Rows that fill up the calls."""

    def begin(self, scheduler: Any, streams: Streams, noise: Tensor | None, at_once: int) -> Step:
        """Begin the calls, with ``scheduler`` as theirs, and return the first step that they ask for.

        Args:
            scheduler: fresh; the calls set its timesteps.
            streams: a generator per row.
            noise: ``[N, D]`` in place of the first draws.
            at_once: rows per call.
        """

    def go_on(self, outcome: Any) -> Step:
        """Give the step's outcome for all rows and return the next step that the calls ask for."""

    def act(self, step: Callable[[], Any]) -> Any:
        """Have the scheduler's own step taken, as a part of the calls, and return what it returns."""

    def end(self, outcome: Any) -> Any | None:
        """Give the last step's outcome and return the samples; ``None`` if the calls do not give any."""

    def decode(self, x: Tensor, rows: Tensor) -> Any:
        """Turn latents ``[B, …]`` in place of those of some rows into samples."""

    def noise(self, scheduler: Any, streams: Streams) -> Tensor:
        """Draw ``[N, D]``, all that rows draw before their first step."""

    def select(self, rows: Tensor, count: int) -> None:
        """Reindex: row i is from now on the old row ``rows[i]`` of ``count``."""


class Called(Gaussian):
    """A scheduler's process whose predictions the calls of a pipeline make; :meth:`bind` says which.

    Levels and estimates are ours. A step is the scheduler's own, with the arguments that the pipeline gave it, unless
    it cannot have the requested noise.
    """

    _calls: Calls

    def bind(self, calls: Calls) -> Called:
        """Set the calls, and return this."""
        self._calls = calls
        self._asked: Step | None = None
        self._asked_at = -1
        self._last: Tensor | None = None
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> Called:
        other = copy.copy(self)
        for name, value in vars(self).items():
            setattr(other, name, value if name == "_calls" else copy.deepcopy(value, memo))
        other._calls = copy.copy(self._calls)
        return other

    # ---- the calls -----------------------------------------------------------------------------------------

    @property
    def evaluations(self) -> int:
        """Denoiser evaluations per row that the last prediction took."""
        return self._calls.evaluations

    @property
    def padding(self) -> int:
        """Rows that fill up the calls."""
        return self._calls.padding

    def noise(self, streams: Streams) -> Tensor:
        """Draw ``[N, D]``, the standard normal numbers that the calls of these rows draw before their first step."""
        return self._calls.noise(copy.deepcopy(self.scheduler), streams)

    def begin(self, streams: Streams, noise: Tensor | None, at_once: int) -> Tensor:
        """Begin the calls, up to their first step, and return the first x ``[N, …]``.

        Args:
            streams: of the rows.
            noise: ``[N, D]`` in place of what the rows draw.
            at_once: rows per call.
        """
        step = self._calls.begin(self.scheduler, streams, noise, at_once)
        self._timesteps = self.scheduler.timesteps.cpu()
        self._sigmas = self.scheduler.sigmas.cpu() if hasattr(self.scheduler, "sigmas") else None
        self.length = len(self._timesteps) - (self._family == "trig")
        self.begin_at(step.time)
        own = [getattr(self.scheduler, name, None) for name in ("step_index", "begin_index")]
        # a timestep that is there twice (Heun) does not say which; the scheduler does, if the pipeline told it
        self.index = next((index for index in own if index is not None), self.index)
        self._ask(step)
        return step.sample

    def predict(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Go on with ``x`` to the next prediction.

        Returns:
            The prediction ``[N, …]``, and the x that it belongs to: a pipeline may change it after a step, as those
            do that keep a part of an image.

        Raises:
            SteerError: for another x at the same step, or if the pipeline's loop is none that is known here.
        """
        if self._asked is None:
            raise SteerError(OWN)
        if self._asked_at < self.index:
            self._ask(self._calls.go_on(self._outcome(x)))
        elif not torch.equal(x, self._asked.sample):
            raise SteerError(OWN)
        return self._asked.prediction, self._asked.sample

    def _ask(self, step: Step) -> None:
        if not bool(step.time == self.timestep):
            raise SteerError(
                f"the pipeline steps at {float(step.time):g} where its schedule has {float(self.timestep):g}: its loop "
                "cannot be steered"
            )
        if step.prediction.shape[2:] != step.sample.shape[2:] or len(step.prediction) != len(step.sample):
            raise SteerError(
                f"the pipeline predicts {tuple(step.prediction.shape)} for latents {tuple(step.sample.shape)}: its "
                "loop cannot be steered"
            )
        self._asked, self._asked_at = step, self.index

    def end(self, x: Tensor) -> Any | None:
        """Let the calls finish with the final ``x`` and return their samples; ``None`` if they cannot give them."""
        return self._calls.end(self._outcome(x))

    def decode(self, x: Tensor, rows: Tensor) -> Any:
        """Turn latents ``[B, …]`` in place of those of some rows into samples, as the pipeline does after its loop."""
        return self._calls.decode(x, rows)

    def at(self, index: int) -> Called:
        """As :meth:`Gaussian.at`; there is no prediction there."""
        other = super().at(index)
        assert isinstance(other, Called)
        other._asked = None
        return other

    def skip_to(self, index: int) -> None:
        """Raise: a call begins where the pipeline begins it."""
        raise SteerError(OWN)

    def _outcome(self, x: Tensor) -> Any:
        """Return the last step's outcome with its latents replaced by ``x``."""
        assert self._asked is not None
        return result(self._asked.others, x, x if self.done or self._last is None else self._last)

    # ---- the process ---------------------------------------------------------------------------------------

    def estimate(self, x: Tensor, prediction: Tensor) -> Tensor:
        x, prediction = x.float(), prediction.float()
        if prediction.shape[1:2] == (2 * x.shape[1],) and x.ndim > 3:  # the second half is a learned variance
            prediction = prediction.chunk(2, dim=1)[0]
        return super().estimate(x, prediction)

    def step(self, x: Tensor, prediction: Tensor, streams: Streams) -> Tensor:
        if not self._own:  # in fp32, as schedulers' own steps are
            self._last = self.estimate(x, prediction).to(x.dtype)
            return super().step(x.float(), prediction.float(), streams).to(x.dtype)
        return super().step(x, prediction, streams)

    @property
    def _own(self) -> bool:
        """Whether steps are the scheduler's own."""
        return not self._kernel

    def step_of_scheduler(self, prediction: Tensor, x: Tensor, keywords: Mapping[str, Any]) -> Tensor:
        assert self._asked is not None
        asked = self._asked
        given: dict[str, Any] = {**asked.others, **keywords, "return_dict": False}
        out = self._calls.act(
            lambda: self.scheduler.own_step(model_output=prediction, timestep=asked.timestep, sample=x, **given)
        )
        self._last = out[1] if len(out) > 1 and isinstance(out[1], Tensor) else None
        stepped: Tensor = out[0]
        return stepped

    def select(self, rows: Tensor, count: int) -> None:
        super().select(rows, count)
        if self._asked is None or len(self._asked.sample) != count:  # finished, and joined with others
            return
        self._calls.select(rows, count)
        if isinstance(self._last, Tensor):
            self._last = self._last[rows.to(self._last.device)]
        self._asked = self._asked.rows(rows)


class CalledGlass(Called, Glass):
    """The same with transitions that share the calls' steps."""

    @property
    def _own(self) -> bool:
        return False


def called(scheduler: Any, settings: Mapping[str, Any], eta: float | None, calls: Calls) -> Called:
    """Return the process of calls.

    Args:
        scheduler: fresh, with timesteps that may be replaced by those of the calls.
        settings: of the run.
        eta: stochasticity of the steps; ``None`` for the scheduler's own, or what the pipeline gives it.
        calls: that predict.

    Raises:
        SteerError: if the scheduler cannot have this stochasticity.
    """
    transitions = settings["transitions"]
    if transitions is None:
        return Called(scheduler, eta=eta).bind(calls)
    return CalledGlass(scheduler, transitions=transitions, eta=settings["eta"]).bind(calls)
