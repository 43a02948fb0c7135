"""The Gaussian process x_t = alpha·x0 + sigma·noise over any diffusers scheduler, and its transition kernel.

A step is the stock scheduler's own whenever it has the requested ``eta``. The kernel below takes the other steps, and
gives every transition's mean and sd in closed form.
"""

from __future__ import annotations

import copy
import inspect
import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from steer.errors import SteerError
from steer.processes.noise import Streams
from steer.processes.rows import taking
from steer.processes.schedulers import scheduler_kind

DEAF = ("CogVideoXDDIMScheduler", "CogVideoXDPMScheduler")
"""Schedulers that take eta and clip_sample, and follow neither."""
RENOISING = ("LCMScheduler", "FlowMatchLCMScheduler", "SCMScheduler")
"""Schedulers that noise x0 afresh at every step: sd = σ'."""
MIDPOINTS = {"KDPM2DiscreteScheduler": 0, "KDPM2AncestralDiscreteScheduler": -1}
"""Schedulers whose second evaluation of a step is between two levels, and how far off their list of those is."""


def kernel_sd(here: tuple[float, float], there: tuple[float, float], eta: float) -> float:
    """Return the sd of the transition from level ``here`` to ``there``: η·σ'·sqrt(1 − (α σ' / (α' σ))²).

    η=0 is the ODE (DDIM, Euler, flow-match Euler), η=1 the ancestral sampler (DDPM, Euler-ancestral); DDIM's
    eq. 16 (arXiv 2010.02502) written for any (alpha, sigma).
    """
    (alpha, sigma), (alpha_next, sigma_next) = here, there
    if sigma_next == 0:
        return 0.0
    ratio = (alpha * sigma_next) / (alpha_next * sigma)
    return eta * sigma_next * math.sqrt(max(0.0, 1.0 - ratio * ratio))


def kernel_mean(x: Tensor, x0: Tensor, here: tuple[float, float], there: tuple[float, float], sd: float) -> Tensor:
    """Return the transition's mean α'·x0 + sqrt(σ'² − sd²)·(x − α·x0)/σ."""
    (alpha, sigma), (alpha_next, sigma_next) = here, there
    direction = math.sqrt(max(0.0, sigma_next**2 - sd**2)) / sigma
    return alpha_next * x0 + direction * (x - alpha * x0)


class Gaussian:
    """A scheduler as a :class:`steer.processes.Process`.

    Args:
        scheduler: a fresh scheduler whose timesteps are set; the process owns it.
        eta: stochasticity in [0, 1]; ``None`` keeps the scheduler's own.

    Raises:
        SteerError: if the scheduler cannot have this ``eta``.
    """

    def __init__(self, scheduler: Any, *, eta: float | None = None) -> None:
        self.scheduler = scheduler
        self.eta = eta
        # on the CPU, for every look at a level on the device would wait for it
        self._timesteps: Tensor = scheduler.timesteps.cpu()
        self._family = _family(scheduler)
        self._sigmas: Tensor | None = scheduler.sigmas.cpu() if hasattr(scheduler, "sigmas") else None
        self.index, self.length = 0, len(self._timesteps) - (self._family == "trig")  # its list ends with the data's
        self._edm = scheduler_kind(scheduler) == "edm"
        parameters = inspect.signature(scheduler.step).parameters
        self._takes_generator = "generator" in parameters
        self._eta_native = "eta" in parameters and type(scheduler).__name__ not in DEAF
        self._own_eta = _own_eta(scheduler)
        self._kernel = eta is not None and not self._eta_native and eta != self._own_eta
        if self._kernel and self._own_eta is None:
            others = {"flow": "flow-euler", "edm": "edm-euler"}.get(
                scheduler_kind(scheduler), "ddim, ddpm, euler or euler-a"
            )
            raise SteerError(
                f"eta={eta:g} is not possible with {type(scheduler).__name__}, whose steps have no eta; "
                f"use --scheduler {others}, or leave out --eta and methods that ask for it"
            )
        if self._kernel and self._clips:
            raise SteerError(
                f"eta={eta:g} is not possible with {type(scheduler).__name__} and clip_sample; use --scheduler ddim"
            )

    @property
    def one_step(self) -> bool:
        """Whether a transition depends on nothing but its two levels, and is known in closed form."""
        return self._own_eta is not None

    @property
    def done(self) -> bool:
        return self.index >= self.length

    @property
    def whole(self) -> bool:
        return self.done or bool(getattr(self.scheduler, "state_in_first_order", True))

    @property
    def timestep(self) -> Tensor:
        return self._timesteps[min(self.index, self.length - 1)]

    @property
    def level(self) -> tuple[float, float]:
        return (1.0, 0.0) if self.done else self._level(self.index)

    @property
    def stochastic(self) -> bool:
        if self.eta is not None:
            return self.eta > 0
        if self._eta_native:
            return bool(inspect.signature(self.scheduler.step).parameters["eta"].default)
        if self._own_eta is not None:
            return self._own_eta > 0
        config, name = self.scheduler.config, type(self.scheduler).__name__
        sde = str(config.get("algorithm_type", "")).startswith("sde")
        return (
            sde
            or "Ancestral" in name
            or name in (*RENOISING, "CogVideoXDPMScheduler")
            or bool(config.get("stochastic_sampling"))
        )

    def prior(self, noise: Tensor) -> Tensor:
        scale = (
            self.scheduler.config.sigma_data
            if self._family == "trig"
            else getattr(self.scheduler, "init_noise_sigma", 1.0)
        )
        return noise * scale

    def model_input(self, x: Tensor) -> Tensor:
        scale = getattr(self.scheduler, "scale_model_input", None)
        return x if scale is None else scale(x, self.timestep)

    def estimate(self, x: Tensor, prediction: Tensor) -> Tensor:
        alpha, sigma = self._level(self.index)
        if self._edm:  # the model's output is a mixture of noise and data, by level
            return self._clip(self.scheduler.precondition_outputs(x, prediction, sigma))
        kind = "flow" if self._family == "flow" else self.scheduler.config.get("prediction_type", "epsilon")
        if kind == "flow":
            x0 = x - sigma * prediction
        elif kind == "epsilon":
            x0 = (x - sigma * prediction) / alpha
        elif kind == "v_prediction":
            # v belongs to the variance-preserving x; schedules with alpha = 1 are converted first
            norm = math.hypot(alpha, sigma)
            a, s = alpha / norm, sigma / norm
            x0 = a * (x / norm) - s * prediction
        elif kind == "trigflow":
            angle = float(self.timestep)
            x0 = math.cos(angle) * x - math.sin(angle) * prediction
        elif kind == "sample":
            x0 = prediction
        else:
            raise SteerError(f"prediction_type {kind!r} is not supported (epsilon, v_prediction, sample, flow)")
        return self._clip(x0)

    def begin_at(self, timestep: Any) -> None:
        """Begin at a timestep of the schedule, as image-to-image does, or at the first if there is no such timestep."""
        matches = (self._timesteps == torch.as_tensor(timestep).to(self._timesteps)).nonzero()
        self.index = int(matches[0]) if len(matches) else 0

    def skip_to(self, index: int) -> None:
        """Move to another evaluation of the schedule, without history, to denoise noised data from there.

        Raises:
            ValueError: if there is no such evaluation.
        """
        if not 0 <= index < self.length:
            raise ValueError(f"index {index} is outside the schedule's {self.length} evaluations")
        self.index = index
        if hasattr(self.scheduler, "set_begin_index"):
            self.scheduler.set_begin_index(index)

    def at(self, index: int) -> Gaussian:
        """Return this process at another evaluation, to read the levels and the model's input there.

        It shares the scheduler's history and must not be stepped."""
        other = copy.copy(self)
        other.scheduler = copy.copy(self.scheduler)
        other.index = index
        if getattr(other.scheduler, "_step_index", None) is not None:
            other.scheduler._step_index = index
        return other

    def transition(self, x: Tensor, x0: Tensor) -> tuple[Tensor, float]:
        """Return mean ``[N, …]`` and sd of the coming transition of a one-step scheduler.

        Raises:
            SteerError: for a multistep scheduler, whose transition depends on its history.
        """
        if self._own_eta is None:
            raise SteerError(f"{type(self.scheduler).__name__} has no transition in closed form; use ddim or euler")
        eta = self._own_eta if self.eta is None else self.eta
        here, there = self._level(self.index), self._next_level(self.index)
        sd = kernel_sd(here, there, eta)
        return kernel_mean(x, x0, here, there, sd), sd

    def step(self, x: Tensor, prediction: Tensor, streams: Streams) -> Tensor:
        if self._kernel:
            mean, sd = self.transition(x, self.estimate(x, prediction))
            if sd > 0:
                mean = mean + sd * streams.normal(x.shape[1:], x.device)
            self._advance_scheduler()
            self.index += 1
            return mean
        keywords: dict[str, Any] = {"generator": list(streams.generators)} if self._takes_generator else {}
        if self._eta_native and self.eta is not None:
            keywords["eta"] = self.eta
        result = self.step_of_scheduler(prediction, x, keywords)
        self.index += 1
        return result

    def step_of_scheduler(self, prediction: Tensor, x: Tensor, keywords: dict[str, Any]) -> Tensor:
        """Return x after the scheduler's own step."""
        result: Tensor = self.scheduler.step(prediction, self.timestep, x, return_dict=False, **keywords)[0]
        return result

    def select(self, rows: Tensor, count: int) -> None:
        """Reindex the history of a multistep scheduler: tensors shaped like the population."""
        take = taking(rows)
        for name, value in vars(self.scheduler).items():
            if isinstance(value, (list, tuple)):
                setattr(self.scheduler, name, type(value)(_reindexed(part, take, count) for part in value))
            else:
                setattr(self.scheduler, name, _reindexed(value, take, count))

    def _advance_scheduler(self) -> None:
        """Advance the scheduler's own counter after a step of the kernel."""
        if getattr(self.scheduler, "_step_index", None) is not None:
            self.scheduler._step_index += 1

    @property
    def _clips(self) -> bool:
        config = self.scheduler.config
        return self._clips_samples or bool(config.get("thresholding", False))

    @property
    def _clips_samples(self) -> bool:
        return bool(self.scheduler.config.get("clip_sample", False)) and type(self.scheduler).__name__ not in DEAF

    def _clip(self, x0: Tensor) -> Tensor:
        config = self.scheduler.config
        if config.get("thresholding", False) and hasattr(self.scheduler, "_threshold_sample"):
            thresholded: Tensor = self.scheduler._threshold_sample(x0)
            return thresholded
        if self._clips_samples:
            bound = float(config.get("clip_sample_range", 1.0))
            return x0.clamp(-bound, bound)
        return x0

    def _level(self, index: int) -> tuple[float, float]:
        if self._family == "vp":
            return _vp(float(self.scheduler.alphas_cumprod[int(self._timesteps[index])]))
        if self._family == "trig":
            angle = float(self._timesteps[index])
            return max(0.0, math.cos(angle)), self.scheduler.config.sigma_data * math.sin(angle)
        return self._at_sigma(self._sigma(index))

    def _next_level(self, index: int) -> tuple[float, float]:
        if self._family == "trig":
            return self._level(index + 1)
        if self._family != "vp":
            return self._at_sigma(self._sigma(index + 1))
        timestep = int(self._timesteps[index])
        if hasattr(self.scheduler, "previous_timestep"):
            previous = int(self.scheduler.previous_timestep(timestep))
        else:  # as in DDIM's own step, which is not always the next timestep of the list
            previous = timestep - self.scheduler.config.num_train_timesteps // self.length
        if previous >= 0:
            return _vp(float(self.scheduler.alphas_cumprod[previous]))
        return _vp(float(getattr(self.scheduler, "final_alpha_cumprod", 1.0)))

    def _sigma(self, index: int) -> float:
        offset = MIDPOINTS.get(type(self.scheduler).__name__)
        if offset is not None and index % 2:
            return float(self.scheduler.sigmas_interpol[index + offset])
        assert self._sigmas is not None
        return float(self._sigmas[index])

    def _at_sigma(self, sigma: float) -> tuple[float, float]:
        if self._family == "flow":
            return 1.0 - sigma, sigma
        if self._family == "ve":
            return 1.0, sigma
        alpha = 1.0 / math.sqrt(1.0 + sigma * sigma)
        return alpha, sigma * alpha


def _vp(alpha_cumprod: float) -> tuple[float, float]:
    return math.sqrt(alpha_cumprod), math.sqrt(max(0.0, 1.0 - alpha_cumprod))


def _family(scheduler: Any) -> str:
    """``flow``: α=1−σ; ``ve``: α=1, EDM included; ``vp``: by alphas_cumprod[t]; ``vp-sigma``: VP, indexed by sigmas;
    ``trig``: by the angle t, x = cos(t)·x0 + sin(t)·noise, both in units of ``sigma_data`` (arXiv 2410.11081)."""
    name = type(scheduler).__name__
    if scheduler_kind(scheduler) == "trigflow":
        return "trig"
    if scheduler_kind(scheduler) == "flow":
        return "flow"
    if name.startswith(("DPMSolver", "UniPC", "DEIS")) and name != "DPMSolverSDEScheduler":
        return "vp-sigma"
    if hasattr(scheduler, "sigmas") and hasattr(scheduler, "timesteps"):
        return "ve"
    if hasattr(scheduler, "alphas_cumprod"):
        return "vp"
    raise SteerError(f"scheduler {name} is not supported: it has neither alphas_cumprod nor sigmas")


def _own_eta(scheduler: Any) -> float | None:
    """The eta of a one-step scheduler's own step; ``None`` for multistep and other schedulers."""
    if scheduler.config.get("stochastic_sampling"):
        return None
    return {
        "CogVideoXDDIMScheduler": 0.0,
        "DDIMScheduler": 0.0,
        "DDIMParallelScheduler": 0.0,
        "DDPMScheduler": 1.0,
        "EulerDiscreteScheduler": 0.0,
        "EulerAncestralDiscreteScheduler": 1.0,
        "EDMEulerScheduler": 0.0,
        "FlowMatchEulerDiscreteScheduler": 0.0,
    }.get(type(scheduler).__name__)


def _reindexed(value: Any, take: Callable[[Any], Any], count: int) -> Any:
    """Return the rows that ``take`` takes of a tensor with a row per particle; anything else as it is."""
    # schedules are one-dimensional; tensors with a row per particle and more dimensions are history
    return take(value) if isinstance(value, Tensor) and value.ndim >= 2 and value.shape[0] == count else value
