"""Steering inside a stock pipeline's call, for pipelines that have no backbone here.

::

    attachment = steer.attach(pipe, "a cat", particles=4, methods=["fk"], reward=sharpness)
    with attachment as kwargs:
        images = pipe(image=control, num_inference_steps=30, **kwargs).images
    best = images[attachment.best[0]]

:class:`steer.Sampler` steers such pipelines too, and calls them itself; this is for calls that are your own, with
arguments that only code can give. Within the block, a stand-in for ``pipe.scheduler`` hands each step over to the
run's loop. The pipeline makes the predictions, so there are no gradients through it, no other denoiser, and as many
particles at the end as at the start. If a method asks for stochastic transitions and the scheduler's own step has no
``eta`` (Euler, flow-match Euler), the step is taken by the kernel of :mod:`steer.processes.gaussian`; with
``transitions``, by that of :mod:`steer.processes.glass`.
"""

import copy
import functools
import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, NoReturn

import torch
from torch import Tensor

from steer.errors import SteerError
from steer.models.backbone import Backbone
from steer.models.encoded_prompts import Conditioning, Encoded
from steer.models.lent import Lent
from steer.models.stock.paused import Paused, ask
from steer.models.stock.process import called
from steer.models.stock.stand_in import Step, result, stand_in
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
        left = self.run.finalists
        if left is not None and left < self.run.particles:
            raise SteerError(
                f"{left} of {self.run.particles} particles would be left at the end, and a stock pipeline's call keeps "
                "all; choose another method, or options that keep all, or use steer.Sampler"
            )

    def __enter__(self) -> dict[str, Any]:
        """Put the stand-in in place and return the keyword arguments of the pipeline's call."""
        self.state = None  # a call that failed left its own half-way
        self._loop: Paused | None = None
        self._lent.__enter__()
        self._original = self.pipe.scheduler
        self._streams = self.run.streams(self.run.start)
        self._stand_in = stand_in(copy.copy(self._original), self._meet)
        self.pipe.scheduler = self._stand_in
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
    def _meet(self, step: Step) -> Any:
        """Give the run's loop the step that the pipeline asks for, and return its outcome."""
        if self._loop is None or self._loop.over:
            self.state = None
            self._loop = Paused(functools.partial(self._sample, step))
        answer: Any = step
        while True:
            with undisturbed():
                answer = self._loop.resume(answer)
            if not isinstance(answer, _Within):
                break
            answer = answer.act()
        if self._loop.over:  # the last step is done
            assert self.state is not None
            return result(step.others, self.state.x)
        return answer

    def _sample(self, step: Step) -> State:
        """Sample a population whose predictions the pipeline's call makes, from its first step on."""
        start = self.run.start
        if len(step.sample) != len(start):
            raise SteerError(
                f"the pipeline works on {len(step.sample)} latents, expected {len(start)} "
                f"({len(self.run.jobs)} prompts x {self.run.particles} particles); pass on all that the block gives"
            )
        # a step that takes eta gets the call's; the others get the methods'
        takes_eta = "eta" in inspect.signature(self._stand_in.step).parameters
        eta = step.others.get("eta") if takes_eta else self.run.get("eta")
        settings = {"transitions": self.run.get("transitions"), "eta": self.run.get("eta")}
        process = called(self._stand_in, settings, eta, _ThisCall(step, self._backbone.decode))
        x = process.begin(self._streams, None, len(start))
        self.state = self.run.population(start, process, x, self._streams, Conditioning({}, None, 1.0))
        self.run.hooks.hook.begin(state=self.state)
        return self.run.sample(self.state)


@dataclass(frozen=True)
class _Within:
    """Something to do as a part of the pipeline's call."""

    act: Callable[[], Any]


class _ThisCall:
    """The call that the caller makes, as the calls of a population; the run's loop is paused while it goes on."""

    evaluations, padding = 1, 0

    def __init__(self, first: Step, decode: Decoder) -> None:
        self._first, self._decode = first, decode

    def begin(self, scheduler: Any, streams: Streams, noise: Tensor | None, at_once: int) -> Step:
        return self._first

    def go_on(self, outcome: Any) -> Step:
        step: Step = ask(outcome)
        return step

    def act(self, step: Callable[[], Any]) -> Any:
        return ask(_Within(step))

    def end(self, outcome: Any) -> None:
        return None

    def decode(self, x: Tensor, rows: Tensor) -> Tensor:
        return self._decode(x)

    def noise(self, scheduler: Any, streams: Streams) -> NoReturn:
        raise SteerError("a stock pipeline's call draws its own noise; use steer.Sampler")

    def select(self, rows: Tensor, count: int) -> None:
        if len(rows) != count:
            raise SteerError(
                f"a method changed the number of particles from {count} to {len(rows)}; a stock pipeline's call cannot "
                "follow"
            )


class _Stock(Backbone):
    """A pipeline that predicts by itself: only decoding is ours."""

    predicts = False

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
