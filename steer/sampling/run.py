"""A run: methods and the denoising loop."""

from __future__ import annotations

import copy
import math
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any

import pluggy
import torch
from torch import Tensor

from steer.errors import SteerError
from steer.models.backbone import Backbone, Conditioning
from steer.models.denoisers import Denoiser
from steer.processes import Process
from steer.processes.gaussian import Gaussian
from steer.processes.noise import Streams, hashed_seed
from steer.prompts.prompt import Prompt
from steer.registry.registration import PROJECT, check_hooks, register
from steer.results.cost import Cost
from steer.rewards.reward import WeightedSum
from steer.sampling import gradients
from steer.sampling import hooks as hookspecs
from steer.sampling.chunks import Chunks
from steer.sampling.gradients import Gradients, Losses, checkpointed
from steer.sampling.hooks import chain
from steer.sampling.method import Method
from steer.sampling.start import Start
from steer.sampling.state import Job, State
from steer.settings.run import SETTINGS, applies, check_modality, check_setting


class Run:
    """One pass of work over a pack of prompts with a set of methods.

    Attributes:
        backbone: the model, in a view of the run's own: what weights methods bring, no other run sees.
        reward: what steers, or ``None``.
        jobs: the prompts with their seeds, in order.
        cost: what has been spent so far.
        spent: ``[J]``, the part of each prompt in :attr:`Cost.forwards`; budgets count by it, so that none
            depends on what else is in the pack.
        chunks: how forwards are split.
        finalists: particles a prompt that are left at the end, where a method that prunes says so in ``configure``;
            packs are made so large that these fill them.
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
        choose: str = "best",
        preview: Callable[[Tensor], Tensor] | None = None,
    ) -> None:
        """Resolve the settings.

        Args:
            settings: what the user asked for; ``None`` values mean "not asked".
            defaults: the model's own defaults.
            methods: active methods, outermost first.
            observers: objects with hook wrappers that only watch.
            choose: how the result is chosen of the particles; a search drops what cannot be.
            run_seed: seeds of prompts that have none are hashed from it and their ids.
            preview: cheaper decoder of latents ``[B, C, H, W]`` for rewards before the last step.

        Raises:
            SteerError: for a value out of range or methods that contradict each other or the user.
        """
        self.backbone = backbone = backbone.view()
        self.reward = reward
        self.preview = preview
        self.choose = choose
        self.methods = tuple(methods)
        self.jobs = tuple(
            Job(p, p.seed if p.seed is not None else hashed_seed("prompt", run_seed, p.id))
            for p in map(backbone.completed, prompts)
        )
        self.cost = Cost()
        self.finalists: int | None = None
        self._next_slot = [0] * len(self.jobs)
        self.spent = torch.zeros(len(self.jobs), dtype=torch.int64)
        self._start: Start | None = None
        self._draws = 0
        self._process: tuple[dict[str, Any], Process] | None = None
        self._values: dict[str, tuple[Any, str]] = {}
        self._suggested: dict[str, tuple[Any, str]] = {}
        self._defaults = {
            "steps": backbone.default_steps, "guidance_scale": backbone.default_guidance, "particles": 1,
            "true_cfg_scale": 1.0, "negative": "", "denoiser": "base", **(defaults or {}),
        }  # fmt: skip
        for name, value in (settings or {}).items():
            if value is not None:
                check_setting(name, value)
                check_modality(name, backbone.modality)
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
        check_modality(name, self.backbone.modality)
        taken = self._values.get(name)
        if taken is not None and taken[0] != value:
            raise SteerError(
                f"{by} needs {name}={value!r}, but {taken[1]} asked for {name}={taken[0]!r}; drop one of the two"
            )
        self._values[name] = (value, by)

    def asked(self, name: str) -> bool:
        """Whether anybody set or suggested this field, so that it is not the model's default."""
        return name in self._values or name in self._suggested

    def required(self, name: str) -> tuple[Any, str] | None:
        """Return the value that is required of a field and by whom (``"you"``, a method), or ``None``."""
        return self._values.get(name)

    def suggest(self, name: str, value: Any, *, by: str) -> None:
        """Offer a value that holds unless somebody asks for another."""
        check_setting(name, value)
        self._suggested.setdefault(name, (value, by))

    def bring(self, denoiser: Denoiser, *, by: str) -> None:
        """Require weights other than the model's own; they are fetched and read when a population begins."""
        self.set("denoiser", denoiser.name, by=by)
        self.backbone.denoisers.promise(denoiser)

    def load_weights(self) -> None:
        """Fetch and read the weights that methods bring, so that it is no part of what is measured after.

        Raises:
            SteerError: see :meth:`steer.models.denoisers.Denoisers.resolve`.
        """
        self.backbone.denoisers.resolve(str(self.get("denoiser")))

    @property
    def settings(self) -> dict[str, Any]:
        """All settings as resolved, for the recipe."""
        resolved = {name: self.get(name) if applies(name, self.backbone.modality) else None for name in SETTINGS}
        resolved["chunk"] = self.chunks.size
        return resolved

    @property
    def particles(self) -> int:
        """Particles a prompt."""
        return int(self.get("particles"))

    # ---- sampling --------------------------------------------------------------------------------------

    def search(self) -> State:
        """Run the methods' searches, the first named outermost, down to one call of :meth:`sample`."""
        sample: Callable[[Start | None], State] = self._sample_from
        for function in reversed(list(chain(self.hooks, "search"))):
            sample = self._nested(function, sample)
        return sample(None)

    @property
    def start(self) -> Start:
        """Where the next fresh population begins: what the search around this one asked for, else all prompts'
        slots from 0 on."""
        if self._start is not None:
            return self._start
        return Start.of(range(len(self.jobs)), range(self.particles))

    def _sample_from(self, start: Start | None = None) -> State:
        return self.sample(start=start)

    def _nested(
        self, function: Callable[..., State], sample: Callable[[Start | None], State]
    ) -> Callable[[Start | None], State]:
        """Return a search as a function of where it begins; the search itself asks ``run.start``."""

        def outer(start: Start | None = None) -> State:
            around, self._start = self._start, self.start if start is None else start
            try:
                return function(run=self, sample=sample)
            finally:
                self._start = around

        return outer

    def sample(
        self,
        state: State | None = None,
        *,
        start: Start | None = None,
        particles: int | None = None,
        noise: Tensor | None = None,
        until: int | None = None,
        denoiser: str | None = None,
        hooks: bool = True,
        grad: bool = False,
    ) -> State:
        """Denoise a population to the end, or to a step.

        Args:
            state: a population to go on with; a fresh one is made if there is none.
            start: where a fresh population begins; :attr:`start` by default.
            particles: the same for all prompts' slots 0..particles−1.
            noise: ``[N, …]`` initial noise of a fresh population instead of the start's.
            until: stop when this many steps are done.
            denoiser: name of the weights to use; the setting's by default.
            hooks: whether the methods take part.
            grad: keep the graph from ``noise`` (or ``state.x``) to ``x`` and the samples. The denoiser and the
                decoder are checkpointed, so that memory does not grow with the steps; the scheduler is not, for
                a recomputed step would count twice, nor are the noise streams.

        Returns:
            The population; ``state.done`` tells whether it is final.
        """
        hook = self.hooks.hook if hooks else None
        with torch.set_grad_enabled(grad):
            if state is None:
                if particles is not None:
                    start = Start.of(range(len(self.jobs)), range(particles))
                start = self.start if start is None else start
                state = self.begin(start if noise is None else start.with_noise(noise), denoiser=denoiser)
                if hook:
                    hook.begin(state=state)
            return self._denoise(state, until, hook)

    def _denoise(self, state: State, until: int | None, hook: Any) -> State:
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

    def begin(
        self, start: Start | None = None, *, conditioning: Conditioning | None = None, denoiser: str | None = None
    ) -> State:
        """Make a population at the first noise level, its streams fresh.

        Args:
            start: its rows; :attr:`start` by default.
            conditioning: of :meth:`encode`, where it is known already.
            denoiser: name of the weights to use; the setting's by default.

        Raises:
            SteerError: see :meth:`steer.models.denoisers.Denoisers.resolve`.
        """
        denoiser = str(self.get("denoiser")) if denoiser is None else denoiser
        self.backbone.denoisers.resolve(denoiser)
        start = self.start if start is None else start
        process = self.process()
        if conditioning is None:
            with torch.no_grad():
                conditioning = self.encode()
        jobs = start.job.tolist()
        for job, slot in zip(jobs, start.slot.tolist(), strict=True):
            self._next_slot[job] = max(self._next_slot[job], slot + 1)
        streams = Streams.seeded([self.jobs[job].seed for job in jobs], start.streams.tolist())
        # drawn even where noise is given, so that the transitions' noise is the same either way
        drawn = self.backbone.noise(streams, self.latent_shape)
        noise = drawn if start.noise is None else start.noise.to(self.backbone.device)
        if noise.shape != drawn.shape:
            raise SteerError(f"noise has shape {tuple(noise.shape)}, expected {tuple(drawn.shape)}")
        return State(
            self,
            process,
            self.backbone.initial(process.prior(noise), conditioning.rows(start.job)),
            jobs=self.jobs,
            job=start.job,
            slot=start.slot,
            streams=streams,
            conditioning=conditioning,
            denoiser=denoiser,
            draw=start.draw,
        )

    def renoised(self, x0: Tensor, start: Start, step: int) -> State:
        """Make a population of given data, noised to where ``step`` steps are done (SDEdit, arXiv 2108.01073).

        :meth:`sample` goes on with it. It stands in no relation to the model's own distribution: there is no log Z.

        Args:
            x0: final latents ``[N, …]``.
            start: its rows, whose streams give the noise.
            step: 0..steps−1.

        Raises:
            SteerError: for a process other than the Gaussian one.
        """
        state = self.begin(start)
        if not isinstance(state.process, Gaussian):
            raise SteerError(
                f"{type(state.process).__name__} cannot begin with noised data; expected a Gaussian process"
            )
        state.process.skip_to(step)
        alpha, sigma = state.process.level
        state.x = alpha * x0.to(state.x) + sigma * self.noise(start).to(state.x)  # marks it as biased
        return state

    def noise(self, start: Start) -> Tensor:
        """Return the initial noise ``[N, …]`` that a population starting there has, on the backbone's device."""
        if start.noise is not None:
            return start.noise.to(self.backbone.device)
        seeds = [self.jobs[job].seed for job in start.job.tolist()]
        return self.backbone.noise(Streams.seeded(seeds, start.streams.tolist()), self.latent_shape)

    def fresh_start(self, jobs: Sequence[int], count: int) -> Start:
        """Return the next population of a search: ``count`` slots of each prompt that no particle has had."""
        self._draws += 1
        slots = torch.tensor([[self.fresh_slot(job) for _ in range(count)] for job in jobs], dtype=torch.int64)
        job = torch.tensor(jobs, dtype=torch.int64).repeat_interleave(count)
        return Start(job, slots.flatten(), draw=self._draws)

    def fresh_slot(self, job: int) -> int:
        """Return a slot of a prompt that no particle of this run has had."""
        slot = self._next_slot[job]
        self._next_slot[job] += 1
        return slot

    def process(self) -> Process:
        """Return a fresh noise process, at its first noise level."""
        settings = {name: self.get(name) for name in SETTINGS}
        # made once and copied: building a scheduler takes longer than a small model's forward
        if self._process is None or self._process[0] != settings:
            prompts = [job.prompt for job in self.jobs]
            self._process = settings, self.backbone.process_for(settings, self.latent_shape, prompts)
        return copy.deepcopy(self._process[1])

    @property
    def latent_shape(self) -> tuple[int, ...]:
        """Shape of one particle's latents."""
        return self.backbone.shape({name: self.get(name) for name in SETTINGS})

    def encode(self) -> Conditioning:
        """Encode the prompts; each is encoded once."""
        prompts = [job.prompt for job in self.jobs]
        negative = [str(p.metadata.get("negative", self.get("negative"))) for p in prompts]
        setting = self.backbone.cfg_setting
        scale = float(self.get(setting))
        if any(negative):
            check_modality("negative", self.backbone.modality)
        if any(negative) and not self.backbone.guided(scale):
            option = {"guidance_scale": "--guidance", "true_cfg_scale": "--true-cfg"}[setting]
            why = f"guidance is off at {setting}={scale:g}; raise {option}"
            by = (self.required(setting) or (scale, "you"))[1]
            if by != "you":
                why = f"{by} needs {setting}={scale:g}; leave it out"
            if not self.backbone.guided(math.inf):
                why = "this model is never guided; leave it out"
            warnings.warn(f"the negative prompt has no effect: {why}", stacklevel=2)
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

        def forward(rows: Tensor) -> Tensor:
            return self.predict_rows(state, rows, x[rows.to(x.device)])

        out, padding = self.chunks.map(forward, len(state), self.groups(state.job))
        evaluations = 2 if state.conditioning.guided else 1
        self.book(state.job, evaluations)
        self.cost.padding += padding * evaluations
        return out

    def book(self, job: Tensor, evaluations: int) -> None:
        """Count denoiser evaluations, so many for each row of the prompts ``job [N]``."""
        self.cost.nfe += len(job) * evaluations
        self.spent += evaluations * torch.bincount(job, minlength=len(self.jobs))

    def book_backwards(self, job: Tensor, evaluations: int, recomputed: bool) -> None:
        """Count evaluations that a gradient went back through, so many a row, and whether each was computed again."""
        again = evaluations if recomputed else 0
        self.cost.backwards += len(job) * evaluations
        self.cost.recomputed += len(job) * again
        self.spent += (2 * evaluations + again) * torch.bincount(job, minlength=len(self.jobs))

    def predict_rows(self, state: State, rows: Tensor, x: Tensor, *, keep: bool = False) -> Tensor:
        """Return the denoiser's output for some rows, in one forward that is not booked.

        Args:
            state: the population, for conditioning and time.
            rows: which of its rows.
            x: their scaled latents, ``[len(rows), …]``.
            keep: keep the activations where a graph is made, instead of computing them again on the way back.
        """
        conditioning = state.conditioning.rows(state.job[rows])
        predict = partial(self.backbone.predict, state.denoiser, conditioning=conditioning)
        return predict(x, state.timestep) if keep else checkpointed(predict, x, state.timestep)

    def groups(self, job: Tensor) -> Tensor | None:
        """Return what must not share a forward, one number a row; ``None`` where any rows may."""
        return None if self.backbone.mixes_prompts else job

    def vjp(self, start: Start, losses: Losses, **options: Any) -> Gradients:
        """Return losses of the samples that ``start`` leads to and their gradients by its noise.

        See :func:`steer.sampling.gradients.vjp`, which takes the same options. No method's hooks take part.

        Raises:
            SteerError: if the model makes texts: tokens have no gradient.
        """
        self.check_differentiable()
        return gradients.vjp(self, start, losses, **options)

    def check_differentiable(self) -> None:
        """Raise unless samples depend smoothly on the noise."""
        if not self.backbone.continuous:
            raise SteerError(
                f"a {self.backbone.modality} has no gradient by its noise, for its tokens are drawn; steer it by fk or "
                "best-of-n"
            )

    def decode(self, x0: Tensor) -> Any:
        """Decode ``[N, …]`` final latents to samples, chunk by chunk."""
        out, _ = self.chunks.map(lambda rows: checkpointed(self.backbone.decode, x0[rows.to(x0.device)]), len(x0))
        self.cost.decodes += len(x0)
        return out

    def score(self, state: State, draws: Tensor | None = None) -> Tensor:
        """Score a population's x0, decoding chunk by chunk unless its samples are there already.

        Args:
            state: the population.
            draws: ``[N, m, …]``, random values of x0 to score instead.

        Returns:
            ``[N]``, or ``[N, m]`` of draws.
        """
        if self.reward is None:
            raise SteerError("no reward was given; name one with --reward (steer plugins lists them)")
        reward, prompts = self.reward, state.prompts
        step = None if state.done else state.step
        decoded = state._cache.get("samples") if draws is None else None
        x0 = state.x0 if draws is None else draws.flatten(0, 1)
        each = 1 if draws is None else draws.shape[1]
        decode: Callable[[Tensor], Any] = self.backbone.decode
        if self.preview is not None and not state.done:
            decoded, decode = None, self._decode_preview

        def evaluate(rows: Tensor) -> Tensor:
            index = rows.to(x0.device)
            samples = decode(x0[index]) if decoded is None else decoded[index]
            return reward(samples, [prompts[row // each] for row in rows.tolist()], step=step)

        scores, _ = self.chunks.map(evaluate, len(x0))
        self.cost.decodes += 0 if decoded is not None else len(x0)
        self.cost.reward_calls += len(x0)
        return scores if draws is None else scores.view(len(state), each)

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
    manager = pluggy.PluginManager(PROJECT)
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
