"""A population that a k-diffusion sampler of ComfyUI denoises, met by steer's hooks at every step.

The sampler's loop belongs to ComfyUI. It calls a denoiser with ``x`` and a noise level, and gets an estimate of x0.
:class:`Population` stands in for that denoiser: it asks the real one, and runs the hooks round it in the order of
steer's own loop. Rows that a method copies are written into the sampler's ``x``, and into the estimates that it may
have kept from earlier steps.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import SimpleNamespace
from typing import Any, NoReturn

import torch
from torch import Tensor

from steer import Method, Prompt, State, SteerError
from steer.plugin import Backbone, Conditioning, Process, RewardFunction, Run, Start, Streams, acting_hooks, make_run

Denoise = Callable[..., Tensor]
"""ComfyUI's denoiser: ``(x, sigma [N], **given)`` to estimates of x0 like ``x``."""
KEPT = 2
"""Earlier estimates that a multistep sampler uses at most (``dpmpp_3m_sde``)."""


class Steps:
    """A place on ComfyUI's schedule; its sampler takes the steps. A :class:`steer.plugin.Process`."""

    def __init__(self, sigmas: Sequence[float], *, flow: bool, stochastic: bool) -> None:
        """Prepare.

        Args:
            sigmas: noise levels, one more than steps; the last is 0.
            flow: x is (1−σ)·x0 + σ·noise; if not, x0 + σ·noise.
            stochastic: whether the sampler draws noise at each step.
        """
        self.index, self.length, self.whole = 0, len(sigmas) - 1, True
        self.arrived: Tensor | None = None
        self._sigmas, self._flow, self._stochastic = tuple(sigmas), flow, stochastic
        self._kept: list[Tensor] = []

    @property
    def done(self) -> bool:
        return self.index >= self.length

    @property
    def stochastic(self) -> bool:
        return self._stochastic

    @property
    def timestep(self) -> Tensor:
        return torch.tensor(self._sigmas[self.index])

    @property
    def level(self) -> tuple[float, float]:
        sigma = self._sigmas[self.index]
        return (1 - sigma if self._flow else 1.0), sigma

    def prior(self, noise: Tensor) -> Tensor:
        return noise

    def model_input(self, x: Tensor) -> Tensor:
        return x

    def estimate(self, x: Tensor, prediction: Tensor) -> Tensor:
        return prediction.to(x.dtype)

    def begins_next(self, sigma: float) -> bool:
        """Whether a noise level is that of the next step; a second-order sampler asks for others between them."""
        return self.index + 1 < self.length and sigma == self._sigmas[self.index + 1]

    def step(self, x: Tensor, prediction: Tensor, streams: Streams) -> Tensor:
        """Take over the sampler's own step, :attr:`arrived`."""
        assert self.arrived is not None
        self.index += 1
        arrived, self.arrived = self.arrived, None
        return arrived

    def keep(self, estimate: Tensor) -> Tensor:
        """Return an estimate for the sampler, and remember it: the sampler may use it at later steps."""
        self._kept = [*self._kept, estimate][-KEPT:]
        return estimate

    def select(self, rows: Tensor, count: int) -> None:
        if self.done:
            return
        if len(rows) != count:
            raise SteerError(
                f"a method changed the number of particles from {count} to {len(rows)}, and ComfyUI's sampler keeps "
                "its batch; leave fk.keep out, and set beam.width=1"
            )
        for estimate in self._kept:
            estimate.copy_(estimate[rows.to(estimate.device)])


class Model(Backbone):
    """ComfyUI's model: its samplers ask it for predictions, its VAE decodes."""

    predicts = False

    def __init__(
        self, denoiser: torch.nn.Module, device: torch.device, steps: Steps, decode: Callable[[Tensor], Tensor]
    ) -> None:
        super().__init__(SimpleNamespace(scheduler=None, _execution_device=device), denoiser)
        self._steps, self._decode = steps, decode

    def process_for(self, settings: Mapping[str, Any], shape: tuple[int, ...], prompts: Sequence[Prompt]) -> Process:
        if settings["transitions"] is not None:
            raise SteerError("ComfyUI's samplers have no transitions of ODE steps; leave fk.preset=glass out")
        return self._steps

    def latent_shape(self, width: int | None, height: int | None) -> tuple[int, ...]:
        return ()

    def decode(self, x: Tensor) -> Tensor:
        return self._decode(x)

    def encode_one(self, prompt: Prompt, negative: str | None) -> NoReturn:
        raise NotImplementedError  # CONDITIONING comes from ComfyUI

    def predict(self, denoiser: str, x: Tensor, timestep: Tensor, conditioning: Conditioning) -> NoReturn:
        self.check_predicts("a method")

    def check_predicts(self, what: str) -> NoReturn:
        raise SteerError(f"{what} needs predictions of its own, and ComfyUI's sampler makes one per step; leave it out")


def prepared(
    model: Model, prompt: Prompt, particles: int, steps: int, methods: Sequence[Method], reward: RewardFunction
) -> Run:
    """Return the run of one prompt.

    Raises:
        SteerError: if the methods do not fit the sampler.
    """
    settings = {"particles": particles, "steps": steps}
    return make_run(model, [prompt], methods=methods, reward=reward, settings=settings)


class Population:
    """One population on its way through a sampler, in the denoiser's place.

    Attributes:
        streams: the noise streams of its rows; the sampler's noise should come from them.
        state: the particles, once the first step began.
    """

    def __init__(self, run: Run, start: Start, methods: Sequence[Method], evaluations: int = 1) -> None:
        """Prepare.

        Args:
            start: the rows.
            methods: those that see every step.
            evaluations: of the model per row and prediction; 2 with guidance.
        """
        self.streams = run.streams(start)
        self._run, self._start, self._evaluations = run, start, evaluations
        process = run.process()
        assert isinstance(process, Steps)
        self._process, self._hook = process, run.hooks.hook
        self._acts = bool(acting_hooks(methods) - {"search"})
        self._denoise: Any = None
        self.state: State | None = None

    def through(self, sampler: Denoise, denoise: Denoise, x: Tensor, sigmas: Tensor, **given: Any) -> Tensor:
        """Take the population through a k-diffusion sampler, from ``x`` ``[N, …]`` to what the sampler returns.

        Args:
            sampler: ``sample_euler_ancestral`` and its like.
            denoise: the denoiser; the sampler may read its attributes.
            sigmas: the schedule.
            **given: further arguments of the sampler.

        Raises:
            SteerError: if the sampler did not meet every level of the schedule, so that methods missed steps.
        """
        self._denoise = denoise
        out = sampler(self, x, sigmas, **given)
        if not self._acts:
            self._process.index = self._process.length
            self.state = self._population(out)
        elif self.state is None or self._process.index != self._process.length - 1:
            raise SteerError(
                f"this sampler met {self._process.index + 1} of its {self._process.length} noise levels, so it cannot "
                "be steered on the way; choose another one"
            )
        else:
            self._advance(out)
        with torch.no_grad():
            _ = self.state.samples  # decoded once, for the reward and for the result
            self._hook.finish(state=self.state)
        return out

    def __call__(self, x: Tensor, sigma: Tensor, **given: Any) -> Tensor:
        """Return the estimates of x0 for ``x`` ``[N, …]`` at ``sigma`` ``[N]``; both may have rows copied."""
        meets = self._acts and (self.state is None or self._process.begins_next(float(sigma[0])))
        if meets:
            with torch.no_grad():
                self._arrive(x)
        estimate: Tensor = self._denoise(x, sigma, **given)
        self._run.forwards.books.predicted(self._start.job, self._evaluations, 0)
        if not meets or self.state is None:
            return estimate
        with torch.no_grad():
            self.state.accept_prediction(estimate)
            self._hook.after_predict(state=self.state)
            x.copy_(self.state.x)
        assert self.state.prediction is not None
        return self._process.keep(self.state.prediction)

    def __getattr__(self, name: str) -> Any:
        """Return an attribute of the denoiser: samplers look at its model."""
        return getattr(self._denoise, name)

    def _arrive(self, x: Tensor) -> None:
        if self.state is None:
            self.state = self._population(x.clone())
            self._hook.begin(state=self.state)
        else:
            self._advance(x.clone())
        self._hook.before_predict(state=self.state)
        x.copy_(self.state.x)

    def _advance(self, x: Tensor) -> None:
        assert self.state is not None
        self._process.arrived = x
        self.state.advance()
        self._hook.after_step(state=self.state)

    def _population(self, x: Tensor) -> State:
        return self._run.population(self._start, self._process, x, self.streams, Conditioning({}, None, 1.0))
