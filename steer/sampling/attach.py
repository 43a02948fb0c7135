"""Steering inside a stock pipeline's call, for pipelines that have no backbone here.

::

    attachment = steer.attach(pipe, "a cat", particles=4, methods=["fk"], reward=sharpness)
    with attachment as kwargs:
        images = pipe(image=control, num_inference_steps=30, **kwargs).images
    best = images[attachment.best[0]]

Within the block, a stand-in for ``pipe.scheduler`` runs the hooks around each of its steps. The pipeline
makes the predictions, so there are no gradients through it, no other denoiser, and as many particles at the end as
at the start. If a method asks for stochastic transitions and the scheduler's own step has no ``eta`` (Euler,
flow-match Euler), the stand-in takes the step by the kernel of :mod:`steer.processes.gaussian`; with ``transitions``,
by that of :mod:`steer.processes.glass`.
"""

import copy
import functools
import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from types import TracebackType
from typing import Any, NoReturn

import torch
from torch import Tensor

from steer.errors import SteerError
from steer.models.backbone import Backbone
from steer.models.encoded_prompts import Conditioning, Encoded
from steer.models.lent import Lent
from steer.processes.gaussian import Gaussian
from steer.processes.glass import Glass
from steer.processes.noise import Streams
from steer.prompts.prompt import Prompt, as_prompts, with_seed
from steer.registry.plugins import Plugins, manager
from steer.rewards.by_name import OptionValues, RewardSpec, make_reward, reward_list
from steer.rewards.isolation import undisturbed
from steer.sampling.hooks import make_run
from steer.sampling.method import acting_hooks
from steer.sampling.methods_by_name import MethodSpec, check_owners, make_methods, method_list
from steer.sampling.state import State
from steer.sampling.trace import trace_of
from steer.settings.run_settings import SETTINGS

Decoder = Callable[[Tensor], Tensor]


class attach:  # noqa: N801 - used like a function
    """A pipeline whose next call is steered; the module's docstring has an example.

    Attributes:
        state: the population, once the pipeline's call began.
    """

    def __init__(
        self,
        pipe: Any,
        prompts: str | Iterable[str],
        particles: int | None = None,
        methods: Sequence[MethodSpec] | MethodSpec = (),
        reward: RewardSpec | Sequence[RewardSpec] | None = None,
        *,
        options: OptionValues | None = None,
        seed: int | None = None,
        run_seed: int = 0,
        transitions: int | None = None,
        decode: Decoder | None = None,
        plugins: Plugins | None = None,
    ) -> None:
        """Prepare.

        Args:
            pipe: any diffusers pipeline that calls ``scheduler.step`` once per step, on guided predictions.
            prompts: texts.
            particles: particles per prompt; the method's default if left out.
            methods: see :meth:`steer.Sampler.stream`.
            reward: see :meth:`steer.Sampler.stream`.
            options: plugin options.
            seed: seed of slot 0 of every prompt without one of its own.
            run_seed: from it and the prompts' ids the other seeds are hashed.
            transitions: stochastic transitions that share the call's steps (GLASS), 1 up to their number; for
                one-step schedulers. ``None`` leaves this to the methods.
            decode: latents ``[N, …]`` to samples; by default the pipeline's autoencoder, for latents ``[N, C, H, W]``.
                Packed latents (Flux, Qwen-Image) need it: they do not say the image size.
            plugins: the plugins to look up names in.

        Raises:
            SteerError: if the arguments contradict each other.
        """
        found = plugins if plugins is not None else manager()
        self.pipe = pipe
        self.state: State | None = None
        self._backbone = _Stock(pipe, decode)
        self._lent = Lent(pipe, freeze=False)  # dropout is the call's own affair
        values = dict(options or {})
        reward_specs = reward_list(reward)
        active = make_methods(method_list(methods), values, found)
        with undisturbed():
            scorer = make_reward(reward_specs, values, found, self._backbone.device)
        check_owners(values, active, reward_specs)
        rows = with_seed(as_prompts(prompts), seed)
        self.run = make_run(
            self._backbone,
            rows,
            settings={"particles": particles, "transitions": transitions},
            methods=active,
            reward=scorer,
            run_seed=run_seed,
        )
        self.run.process()  # the methods' requests to the scheduler are known here
        for name in SETTINGS:
            needed = self.run.choices.required(name)
            if needed is not None and name not in ("particles", "eta", "transitions"):
                raise SteerError(
                    f"method {needed[1]!r} needs {name}={needed[0]!r}, but the pipeline's call decides it; use it "
                    "with steer.Sampler, or choose another method"
                )
        for method in active:
            for hook in sorted(acting_hooks([method]) & {"before_predict", "search"}):
                raise SteerError(
                    f"method {method.name!r} uses the hook {hook}, which a stock pipeline's call does not have"
                    "; use it with steer.Sampler, or choose another method"
                )

    def __enter__(self) -> dict[str, Any]:
        """Put the stand-in in place and return the keyword arguments of the pipeline's call."""
        self.state = None  # a call that failed left its own half-way
        self._lent.__enter__()
        self._original = self.pipe.scheduler
        self._streams = self.run.streams(self.run.start)
        stand_in = copy.copy(self._original)
        step = stand_in.step

        @functools.wraps(step)
        def steered(model_output: Tensor, timestep: Any, sample: Tensor, *args: Any, **kwargs: Any) -> Any:
            return self._step(functools.partial(step, *args), model_output, timestep, sample, kwargs)

        stand_in.step = steered
        self._stand_in = stand_in
        self.pipe.scheduler = stand_in
        accepted = inspect.signature(self.pipe.__call__).parameters
        keywords: dict[str, Any] = {
            "prompt": [str(job.prompt) for job in self.run.jobs],
            "num_images_per_prompt": self.run.particles,
            "generator": list(self._streams.generators),
        }
        if self.run.get("eta") is not None and "eta" in accepted:
            keywords["eta"] = self.run.get("eta")
        return {name: value for name, value in keywords.items() if name in accepted}

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.pipe.scheduler = self._original
        self._lent.__exit__(kind, error, traceback)

    @property
    def best(self) -> list[int]:
        """For each prompt, the index of the image of highest reward among the pipeline's images."""
        state = self._finished()
        rewards = state.rewards()
        return [int(rows[rewards[rows].argmax()]) for rows in map(state.rows_of, range(len(state.jobs)))]

    @property
    def traces(self) -> list[dict[str, Any]]:
        """One trace per prompt."""
        state = self._finished()
        return [trace_of(state, job) for job in range(len(state.jobs))]

    def _finished(self) -> State:
        if self.state is None or not self.state.done:
            raise SteerError("the pipeline has not finished a call inside the block yet")
        return self.state

    @torch.no_grad()
    def _step(self, step: Any, prediction: Tensor, timestep: Any, sample: Tensor, keywords: dict[str, Any]) -> Any:
        from diffusers.schedulers.scheduling_utils import SchedulerOutput  # imported with the pipeline

        hook = self.run.hooks.hook
        if self.state is None or self.state.done:
            self.state = self._begin(sample, timestep, keywords)
            with undisturbed():
                hook.begin(state=self.state)
        state = self.state
        assert isinstance(state.process, _Attached)
        state.process.bind(step, keywords)
        state.accept_prediction(prediction)
        with undisturbed():
            hook.after_predict(state=state)
        if len(state) != len(sample):
            raise SteerError(
                f"a method changed the number of particles from {len(sample)} to {len(state)}; a stock "
                "pipeline's call cannot follow"
            )
        state.advance()
        with undisturbed():
            hook.after_step(state=state)
            if state.done:
                hook.finish(state=state)
        if not keywords.get("return_dict", True):
            return (state.x,)
        return SchedulerOutput(prev_sample=state.x)

    def _begin(self, sample: Tensor, timestep: Any, keywords: dict[str, Any]) -> State:
        start = self.run.start
        if len(sample) != len(start):
            raise SteerError(
                f"the pipeline works on {len(sample)} latents, expected {len(start)} "
                f"({len(self.run.jobs)} prompts x {self.run.particles} particles); pass on all that the block gives"
            )
        # a step that takes eta gets the call's; the others get the methods'
        takes_eta = "eta" in inspect.signature(self._stand_in.step).parameters
        eta, transitions = keywords.get("eta") if takes_eta else self.run.get("eta"), self.run.get("transitions")
        process = (
            _Attached(self._stand_in, eta=eta)
            if transitions is None
            else _AttachedGlass(self._stand_in, transitions=transitions, eta=self.run.get("eta"))
        )
        process.begin_at(timestep)
        return self.run.population(start, process, sample, self._streams, Conditioning({}, None, 1.0))


class _Attached(Gaussian):
    """The stand-in's own steps as a process. Levels and estimates are ours. The transition is the pipeline's call, or
    ours if the call cannot have the requested noise."""

    def bind(self, step: Any, keywords: dict[str, Any]) -> None:
        """Set how the pipeline makes the coming transition."""
        self._call = functools.partial(step, **{**keywords, "return_dict": False})

    def step(self, x: Tensor, prediction: Tensor, streams: Streams) -> Tensor:
        if self._kernel:  # computed in fp32, as the schedulers' steps are; the pipeline continues in its own precision
            return super().step(x.float(), prediction.float(), streams).to(prediction.dtype)
        return super().step(x, prediction, streams)

    def step_of_scheduler(self, prediction: Tensor, x: Tensor, keywords: dict[str, Any]) -> Tensor:
        result: Tensor = self._call(prediction, self.timestep, x, **keywords)[0]
        return result


class _AttachedGlass(_Attached, Glass):
    """Transitions that share the call's steps; computed in fp32."""

    def step(self, x: Tensor, prediction: Tensor, streams: Streams) -> Tensor:
        return super().step(x.float(), prediction.float(), streams).to(prediction.dtype)


class _Stock(Backbone):
    """A pipeline that predicts by itself: only decoding is ours."""

    def __init__(self, pipe: Any, decode: Decoder | None) -> None:
        denoiser = getattr(pipe, "unet", None) or getattr(pipe, "transformer", None)
        if denoiser is None or not hasattr(pipe, "scheduler"):
            raise SteerError(f"{type(pipe).__name__} has no denoiser and scheduler to attach to")
        super().__init__(pipe, denoiser)
        self._decode = decode

    def decode(self, x: Tensor) -> Any:
        if self._decode is not None:
            return self._decode(x)
        if getattr(self.pipe, "vae", None) is None or x.ndim != 4:
            raise SteerError(
                f"{type(self.pipe).__name__}: latents {tuple(x.shape)} have no default decoder; pass decode="
            )
        return super().decode(x)

    @property
    def autoencoder(self) -> Any:
        return self.safe_vae

    def guided(self, guidance_scale: float) -> bool:
        self._refuse()

    def encode_one(self, prompt: Prompt, negative: str | None) -> Encoded:
        self._refuse()

    def latent_shape(self, width: int | None, height: int | None) -> tuple[int, ...]:
        return ()

    def schedule_keywords(self, steps: int, shape: tuple[int, ...], config: Mapping[str, Any]) -> dict[str, Any]:
        # only asked whether the sampler draws noise; the pipeline sets the real shift itself
        return {"mu": 0.0} if self.pipe.scheduler.config.get("use_dynamic_shifting") else {}

    def predict(self, denoiser: str, x: Tensor, timestep: Tensor, conditioning: Conditioning) -> Tensor:
        self._refuse()

    def _refuse(self) -> NoReturn:
        raise SteerError(
            f"a method asked for a prediction or a gradient of {type(self.pipe).__name__}, which is only attached to; "
            "use a model family that steer.Sampler supports"
        )
