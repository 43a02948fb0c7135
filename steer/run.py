"""A run: settings, methods and the denoising loop."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import pluggy
import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from steer import hookspecs
from steer.backbones.base import Backbone, Conditioning
from steer.chunks import Chunks
from steer.cost import Cost
from steer.errors import SteerError, unknown
from steer.methods import Method
from steer.noise import Streams, hashed_seed
from steer.plugins import chain, check_hooks, register
from steer.process.gaussian import Gaussian
from steer.process.schedulers import make_scheduler, set_timesteps
from steer.prompts import Prompt
from steer.rewards import WeightedSum
from steer.state import Job, State


@dataclass(frozen=True)
class Setting:
    """The declaration of a field of a run that users, methods and models may set."""

    kind: type | tuple[type, ...]
    low: float | None
    high: float | None
    meaning: str


SETTINGS: dict[str, Setting] = {
    "steps": Setting(int, 1, 10_000, "denoising steps"),
    "timesteps": Setting(tuple, None, None, "explicit timesteps, highest first, instead of the scheduler's spacing"),
    "guidance_scale": Setting((int, float), 0, 1000, "classifier-free guidance; off at 1 and below"),
    "true_cfg_scale": Setting(
        (int, float), 0, 1000, "classifier-free guidance of a model that takes guidance_scale as an input (Flux)"
    ),
    "eta": Setting((int, float), 0, 1, "stochasticity of the transitions: 0 is the ODE, 1 the ancestral sampler"),
    "scheduler": Setting(str, None, None, "scheduler by name, instead of the model's own"),
    "particles": Setting(int, 1, 65_536, "particles a prompt"),
    "width": Setting(int, 1, 65_536, "image width in pixels"),
    "height": Setting(int, 1, 65_536, "image height in pixels"),
    "negative": Setting(str, None, None, "negative prompt"),
    "chunk": Setting(int, 1, 65_536, "particles a forward; part of the recipe"),
}
"""Every field with its type, range and meaning."""


def check_setting(name: str, value: Any) -> None:
    """Raise unless ``value`` is within the declared type and range of the setting ``name``."""
    if name not in SETTINGS:
        raise unknown("setting", name, SETTINGS)
    setting = SETTINGS[name]
    kinds = setting.kind if isinstance(setting.kind, tuple) else (setting.kind,)
    ok = isinstance(value, kinds) and not (isinstance(value, bool) and bool not in kinds)
    if ok and setting.low is not None and setting.high is not None:
        ok = setting.low <= value <= setting.high  # a NaN fails here too
    if not ok:
        type_name = " or ".join(kind.__name__ for kind in kinds)
        bounds = "" if setting.low is None else f" in {setting.low:g}..{setting.high:g}"
        raise SteerError(f"{name}={value!r}: expected {type_name}{bounds} ({setting.meaning})")


class Run:
    """One pass of work over a pack of prompts with a set of methods.

    Attributes:
        backbone: the model.
        reward: what steers, or ``None``.
        jobs: the prompts with their seeds, in order.
        cost: what has been spent so far.
        chunks: how forwards are split.
    """

    def __init__(
        self,
        backbone: Backbone,
        prompts: Sequence[Prompt],
        *,
        settings: Mapping[str, Any] | None = None,
        defaults: Mapping[str, Any] | None = None,
        methods: Sequence[Method] = (),
        observers: Iterable[object] = (),
        reward: WeightedSum | None = None,
        run_seed: int = 0,
        preview: Callable[[Tensor], Tensor] | None = None,
    ) -> None:
        """Resolve the settings.

        Args:
            settings: what the user asked for; ``None`` values mean "not asked".
            defaults: the model's own defaults.
            methods: active methods, outermost first.
            observers: objects with hook wrappers that only watch.
            run_seed: seeds of prompts that have none are hashed from it and their ids.
            preview: cheaper decoder of latents ``[B, C, H, W]`` for rewards before the last step.

        Raises:
            SteerError: for a value out of range or methods that contradict each other or the user.
        """
        self.backbone = backbone
        self.reward = reward
        self.preview = preview
        self.methods = tuple(methods)
        self.jobs = tuple(
            Job(p, p.seed if p.seed is not None else hashed_seed("prompt", run_seed, p.id)) for p in prompts
        )
        self.cost = Cost()
        self._next_slot = [0] * len(self.jobs)
        self._values: dict[str, tuple[Any, str]] = {}
        self._suggested: dict[str, tuple[Any, str]] = {}
        self._defaults = {
            "steps": backbone.default_steps, "guidance_scale": backbone.default_guidance, "particles": 1,
            "true_cfg_scale": 1.0, "negative": "", **(defaults or {}),
        }  # fmt: skip
        for name, value in (settings or {}).items():
            if value is not None:
                check_setting(name, value)
                self._values[name] = (value, "you")
        self.hooks = _hook_manager(self.methods, observers)
        self.hooks.hook.configure(run=self)
        on_cpu = backbone.device.type == "cpu"
        self.chunks = Chunks(self.get("chunk") or min(self.particles, 4 if on_cpu else 16))

    # ---- settings --------------------------------------------------------------------------------------

    def get(self, name: str) -> Any:
        """Return a setting: the user's, else a method's, else one suggested, else the model's default."""
        for source in (self._values, self._suggested):
            if name in source:
                return source[name][0]
        return self._defaults.get(name)

    def set(self, name: str, value: Any, *, by: str) -> None:
        """Require a value; a conflict with the user or another method is an error that names both."""
        check_setting(name, value)
        taken = self._values.get(name)
        if taken is not None and taken[0] != value:
            raise SteerError(
                f"{by} needs {name}={value!r}, but {taken[1]} asked for {name}={taken[0]!r}; drop one of the two"
            )
        self._values[name] = (value, by)

    def suggest(self, name: str, value: Any, *, by: str) -> None:
        """Offer a value that holds unless somebody asks for another."""
        check_setting(name, value)
        self._suggested.setdefault(name, (value, by))

    @property
    def settings(self) -> dict[str, Any]:
        """All settings as resolved, for the recipe."""
        resolved = {name: self.get(name) for name in SETTINGS}
        resolved["chunk"] = self.chunks.size
        return resolved

    @property
    def particles(self) -> int:
        """Particles a prompt."""
        return int(self.get("particles"))

    # ---- sampling --------------------------------------------------------------------------------------

    def search(self) -> State:
        """Run the methods' searches, the first named outermost, down to one call of :meth:`sample`."""
        sample: Callable[..., State] = self.sample
        for function in reversed(list(chain(self.hooks, "search"))):
            sample = _nested(function, self, sample)
        return sample()

    def sample(
        self,
        state: State | None = None,
        *,
        particles: int | None = None,
        noise: Tensor | None = None,
        until: int | None = None,
        denoiser: str = "base",
        hooks: bool = True,
        grad: bool = False,
    ) -> State:
        """Denoise a population to the end, or to a step.

        Args:
            state: a population to go on with; a fresh one is made if there is none.
            particles: particles a prompt of a fresh population; the run's setting by default.
            noise: ``[N, …]`` initial noise of a fresh population instead of its streams' own.
            until: stop when this many steps are done.
            denoiser: name of the weights to use.
            hooks: whether the methods take part.
            grad: keep the graph from ``noise`` (or ``state.x``) to ``x`` and the samples. The denoiser and the
                decoder are checkpointed, so that memory does not grow with the steps; the scheduler is not, for
                a recomputed step would count twice, nor are the noise streams.

        Returns:
            The population; ``state.done`` tells whether it is final.
        """
        with torch.set_grad_enabled(grad):
            return self._sample(state, particles, noise, until, denoiser, self.hooks.hook if hooks else None)

    def _sample(
        self,
        state: State | None,
        particles: int | None,
        noise: Tensor | None,
        until: int | None,
        denoiser: str,
        hook: Any,
    ) -> State:
        if state is None:
            state = self.begin(particles or self.particles, noise=noise, denoiser=denoiser)
            if hook:
                hook.begin(state=state)
        while not state.done and (until is None or state.step < until):
            if hook:
                hook.before_predict(state=state)
            state.accept_prediction(self.predict(state))
            if hook:
                hook.after_predict(state=state)
            state.advance()
            if hook:
                hook.after_step(state=state)
        if state.done and hook:
            if self.reward is not None:
                _ = state.samples  # decoded once, for the reward and for the result
            hook.finish(state=state)
        return state

    def begin(self, particles: int, *, noise: Tensor | None = None, denoiser: str = "base") -> State:
        """Make a population at the first noise level: slots 0..particles−1 of every prompt, streams fresh."""
        process = self.process()
        with torch.no_grad():
            conditioning = self.encode()
        count = len(self.jobs)
        job = torch.arange(count).repeat_interleave(particles)
        slot = torch.arange(particles).repeat(count)
        self._next_slot = [max(known, particles) for known in self._next_slot]
        streams = Streams.seeded([self.jobs[j].seed for j in job.tolist()], slot.tolist())
        shape = self.latent_shape
        # drawn even where noise is given, so that the transitions' noise is the same either way
        drawn = streams.normal(shape, self.backbone.device)
        if noise is not None and noise.shape != drawn.shape:
            raise SteerError(f"noise has shape {tuple(noise.shape)}, expected {tuple(drawn.shape)}")
        return State(
            self,
            process,
            process.prior(drawn if noise is None else noise.to(self.backbone.device)),
            jobs=self.jobs,
            job=job,
            slot=slot,
            streams=streams,
            conditioning=conditioning,
            denoiser=denoiser,
        )

    def fresh_slot(self, job: int) -> int:
        """Return a slot of a prompt that no particle of this run has had."""
        slot = self._next_slot[job]
        self._next_slot[job] += 1
        return slot

    def process(self) -> Gaussian:
        """Return a fresh noise process with a scheduler of its own."""
        scheduler = make_scheduler(self.get("scheduler"), self.backbone.scheduler)
        steps = self.get("steps")
        keywords = self.backbone.schedule_keywords(steps, self.latent_shape)
        set_timesteps(scheduler, steps, self.get("timesteps"), self.backbone.device, **keywords)
        return Gaussian(scheduler, eta=self.get("eta"))

    @property
    def latent_shape(self) -> tuple[int, ...]:
        """Shape of one particle's latents."""
        return self.backbone.latent_shape(self.get("width"), self.get("height"))

    def encode(self) -> Conditioning:
        """Encode the prompts; each is encoded once."""
        prompts = [job.prompt for job in self.jobs]
        negative = [str(p.metadata.get("negative", self.get("negative"))) for p in prompts]
        setting = self.backbone.cfg_setting
        scale = float(self.get(setting))
        if any(negative) and not self.backbone.guided(scale):
            option = {"guidance_scale": "--guidance", "true_cfg_scale": "--true-cfg"}[setting]
            warnings.warn(
                f"the negative prompt has no effect: guidance is off at {setting}={scale:g}; raise {option}",
                stacklevel=2,
            )
        if setting == "true_cfg_scale":
            return self.backbone.encode(prompts, negative, scale, embedded_scale=float(self.get("guidance_scale")))
        if self.get("true_cfg_scale") != 1:
            raise SteerError(
                f"true_cfg_scale={self.get('true_cfg_scale'):g} is for models that take guidance_scale as an input "
                f"(Flux); {type(self.backbone).__name__} is guided by guidance_scale: use --guidance"
            )
        return self.backbone.encode(prompts, negative, scale)

    # ---- forwards, each booked -------------------------------------------------------------------------

    def predict(self, state: State) -> Tensor:
        """Return the denoiser's output for a population, chunk by chunk."""
        x = state.process.model_input(state.x)
        timestep = state.timestep

        def forward(rows: Tensor) -> Tensor:
            conditioning = state.conditioning.rows(state.job[rows])
            predict = partial(self.backbone.predict, state.denoiser, conditioning=conditioning)
            return _checkpointed(predict, x[rows.to(x.device)], timestep)

        groups = None if self.backbone.mixes_prompts else state.job
        out, padding = self.chunks.map(forward, len(state), groups)
        evaluations = 2 if state.conditioning.guided else 1
        self.cost.nfe += len(state) * evaluations
        self.cost.padding += padding * evaluations
        return out

    def decode(self, x0: Tensor) -> Tensor:
        """Decode ``[N, …]`` final latents to samples, chunk by chunk."""
        out, _ = self.chunks.map(lambda rows: _checkpointed(self.backbone.decode, x0[rows.to(x0.device)]), len(x0))
        self.cost.decodes += len(x0)
        return out

    def score(self, state: State) -> Tensor:
        """Score a population's x0, decoding chunk by chunk unless its samples are there already."""
        if self.reward is None:
            raise SteerError("no reward was given; name one with --reward (steer plugins lists them)")
        reward, prompts = self.reward, state.prompts
        step = None if state.done else state.step
        decoded = state._cache.get("samples")
        x0 = state.x0
        decode: Callable[[Tensor], Tensor] = self.backbone.decode
        if self.preview is not None and not state.done:
            decoded, decode = None, self._decode_preview

        def evaluate(rows: Tensor) -> Tensor:
            index = rows.to(x0.device)
            samples = decode(x0[index]) if decoded is None else decoded[index]
            return reward(samples, [prompts[row] for row in rows.tolist()], step=step)

        scores, _ = self.chunks.map(evaluate, len(state))
        self.cost.decodes += 0 if decoded is not None else len(state)
        self.cost.reward_calls += len(state)
        return scores

    def judge(self, state: State, judge: WeightedSum) -> Tensor:
        """Score finished samples by a judge, ``[N]``, chunk by chunk; no hook sees it."""
        prompts = state.prompts

        def evaluate(rows: Tensor) -> Tensor:
            return judge(state.samples[rows.to(state.samples.device)], [prompts[row] for row in rows.tolist()])

        scores, _ = self.chunks.map(evaluate, len(state))
        self.cost.reward_calls += len(state)
        return scores

    def _decode_preview(self, x0: Tensor) -> Tensor:
        assert self.preview is not None
        return self.preview(x0)


def _hook_manager(methods: Sequence[Method], observers: Iterable[object]) -> pluggy.PluginManager:
    """Build a run's own manager. pluggy calls the last registered first, so methods go in reversed."""
    manager = pluggy.PluginManager(hookspecs.PROJECT)
    manager.add_hookspecs(hookspecs)
    names = [method.name for method in methods]
    for name in names:
        if names.count(name) > 1:
            raise SteerError(f"method {name!r} is named twice; give it once")
    for method in reversed(methods):
        check_hooks(method, method.name)
        register(manager, method, method.name)
    for observer in observers:
        register(manager, observer, type(observer).__name__)
    return manager


def _checkpointed(function: Callable[..., Tensor], x: Tensor, *arguments: Any) -> Tensor:
    """Call a function that draws no randomness, without keeping its activations for the backward pass."""
    if not (torch.is_grad_enabled() and x.requires_grad):
        return function(x, *arguments)
    out: Tensor = checkpoint(function, x, *arguments, use_reentrant=False, preserve_rng_state=False)
    return out


def _nested(function: Callable[..., State], run: Run, sample: Callable[..., State]) -> Callable[..., State]:
    def outer() -> State:
        return function(run=run, sample=sample)

    return outer
