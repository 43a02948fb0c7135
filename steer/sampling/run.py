"""``Run``: the denoising loop for a pack of prompts, within the methods' searches."""

import copy
from collections.abc import Callable, Iterable, Mapping, Sequence
from types import SimpleNamespace
from typing import Any

import pluggy
import torch
from torch import Tensor

from steer.errors import SteerError
from steer.models.backbone import Backbone, Guider
from steer.models.denoisers import Denoiser
from steer.models.encoded_prompts import Conditioning, evaluations
from steer.models.stock.process import Called
from steer.models.weaker import Weaker
from steer.processes import Process
from steer.processes.gaussian import Gaussian
from steer.processes.noise import Streams, hashed_seed
from steer.prompts.prompt import Prompt
from steer.prompts.syntax import spoken, weighted
from steer.registry.registration import implementations
from steer.rewards.combinations import WeightedSum, parts_of
from steer.rewards.reward import RewardFunction
from steer.sampling.books import Books
from steer.sampling.chunks import Chunks, default_chunk
from steer.sampling.conditioning import encode
from steer.sampling.forwards import Decode, Forwards
from steer.sampling.resolved_settings import Choices
from steer.sampling.shared_memory import SharedMemory
from steer.sampling.start import Job, Slots, Start
from steer.sampling.state import State


class Run:
    """Samples a pack of prompts with a set of methods. :func:`steer.sampling.hooks.make_run` makes it.

    Attributes:
        backbone: a view of the model for this run: no other run sees the weights that methods bring.
        reward: the reward that steers, or ``None``.
        jobs: the prompts with their seeds, in order.
        hooks: the methods and observers that take part.
        choose: how the result is chosen among the particles; a search drops those that cannot be chosen.
        choices: the settings by priority.
        forwards: model and reward, chunk by chunk.
        cost: the cost so far.
        spent: float64 ``[J]``, each prompt's part of :attr:`Cost.forwards`; budgets count by it.
        memory: decides what waits on the CPU, if a session shares the device among its runs.
        finalists: particles per prompt that are left at the end, if a method that prunes sets it in ``configure``;
            packs are made large enough for these to fill them.
    """

    def __init__(
        self,
        backbone: Backbone,
        prompts: Sequence[Prompt],
        hooks: pluggy.PluginManager,
        *,
        settings: Mapping[str, Any] | None = None,
        defaults: Mapping[str, Any] | None = None,
        reward: WeightedSum | None = None,
        run_seed: int = 0,
        choose: str = "best",
        preview: Decode | None = None,
    ) -> None:
        """Resolve the settings.

        Args:
            hooks: of :func:`steer.sampling.hooks.hook_manager`.
            settings: what the user asked for; ``None`` values mean "not asked".
            defaults: the model's own defaults.
            run_seed: seeds of prompts that have none are hashed from it and their ids.
            choose: see above.
            preview: cheaper decoder of latents ``[B, C, H, W]`` for rewards before the last step.

        Raises:
            SteerError: for a value out of range or methods that contradict each other or the user.
        """
        self.backbone = backbone = backbone.view()
        self.reward, self.hooks, self.choose = reward, hooks, choose
        if weighted(syntax := (settings or {}).get("prompt_syntax")):
            if not backbone.weighs_text:
                raise SteerError(
                    f"prompt_syntax={syntax} weighs words for the text encoders of Stable Diffusion 1, 2 and XL; "
                    f"{type(backbone).__name__} has another: leave --prompt-syntax out"
                )
            prompts = [spoken(prompt) for prompt in prompts]
        self.jobs = tuple(
            Job(p, p.seed if p.seed is not None else hashed_seed("prompt", run_seed, p.id))
            for p in map(backbone.completed, prompts)
        )
        self.finalists: int | None = None
        self.memory: SharedMemory | None = None
        self._books = Books(len(self.jobs))
        self.cost, self.spent = self._books.cost, self._books.spent
        self._slots = Slots(len(self.jobs))
        self._start: Start | None = None
        self._process: tuple[dict[str, Any], Process] | None = None
        usual = {
            "steps": backbone.default_steps,
            "guidance_scale": backbone.default_guidance,
            "particles": 1,
            "slot": 0,
            "true_cfg_scale": 1.0,
            "negative": "",
            "denoiser": "base",
        }
        self.choices = Choices(
            settings or {}, {**usual, **backbone.own_defaults, **(defaults or {})}, backbone.modality
        )
        self.hooks.hook.configure(run=self)
        chunk = self.get("chunk") or backbone.usual_chunk or default_chunk(backbone.device.type, self.particles)
        chunks = Chunks(chunk)
        self.forwards = Forwards(backbone, chunks, self._books, reward, preview)

    # ---- settings --------------------------------------------------------------------------------------

    def get(self, name: str) -> Any:
        """Return a setting: the user's, else a method's, else one suggested, else the model's default."""
        return self.choices.get(name)

    def set(self, name: str, value: Any, *, by: str) -> None:
        """Require a value; a conflict with the user or another method is an error that names both."""
        self.choices.set(name, value, by=by)

    def suggest(self, name: str, value: Any, *, by: str) -> None:
        """Offer a value that holds unless the user or a method requires another."""
        self.choices.suggest(name, value, by=by)

    @property
    def particles(self) -> int:
        """Particles per prompt."""
        return int(self.get("particles"))

    def bring(self, denoiser: Denoiser, *, by: str) -> None:
        """Require weights other than the model's own; they are fetched and read when a population begins."""
        self.backbone.check_predicts(by)
        self.set("denoiser", denoiser.name, by=by)
        self.backbone.denoisers.promise(denoiser)

    def guide_by(self, guider: Guider, *, by: str) -> None:
        """Have this run's predictions guided otherwise than by classifier-free guidance.

        Raises:
            SteerError: for a model that cannot be, or a second guider.
        """
        self.backbone.check_predicts(by)
        if not self.backbone.takes_guider:
            raise SteerError(
                f"{by} guides models with classifier-free guidance; {type(self.backbone).__name__} has none"
            )
        if self.backbone.guider is not None:
            raise SteerError(f"{by} and another method both guide this model; name one of them")
        self.backbone.guider = guider

    def guide_away(self, weaker: Weaker, *, by: str) -> None:
        """Have this run's predictions guided away from one that is worse on purpose, beside any other guidance.

        Raises:
            SteerError: for a model that cannot be, or a second one.
        """
        self.backbone.check_predicts(by)
        if self.backbone.weaker is not None:
            raise SteerError(f"{by} and another method both guide away from a weaker prediction; name one of them")
        self.backbone.weaker = weaker

    def load_weights(self) -> None:
        """Fetch and read the weights that methods bring, so that later measurements do not include it.

        Raises:
            SteerError: see :meth:`steer.models.denoisers.Denoisers.resolve`.
        """
        self.backbone.denoisers.resolve(str(self.get("denoiser")))

    def make_room(self, rewards: Iterable[RewardFunction]) -> None:
        """Count rewards that a method has loaded for itself; without room for all, they wait on the CPU between
        scorings."""
        if self.memory is not None:
            self.memory.add(part for reward in rewards for part in parts_of(reward))

    @property
    def settings(self) -> dict[str, Any]:
        """All settings as resolved, for the recipe."""
        return {**self.choices.resolved(), "chunk": self.chunks.size}

    def book(self, again: "Run") -> None:
        """Count what another run over the same prompts has cost as this one's."""
        for name, value in vars(again.cost).items():
            setattr(self.cost, name, getattr(self.cost, name) + value)
        self.spent += again.spent

    @property
    def chunks(self) -> Chunks:
        """How forwards are split."""
        return self.forwards.chunks

    # ---- sampling --------------------------------------------------------------------------------------

    def search(self) -> State:
        """Run the methods' searches, the first named outermost, down to one call of :meth:`sample`."""
        sample: Callable[[Start | None], State] = self._sample_from
        for function in reversed(implementations(self.hooks, "search")):
            sample = self._nested(function, sample)
        with self.backbone.inference():
            return sample(None)

    @property
    def start(self) -> Start:
        """The rows of the next fresh population: those of the surrounding search, else the particles of all prompts."""
        if self._start is not None:
            return self._start
        return Start.of(range(len(self.jobs)), range(first := self.get("slot"), first + self.particles))

    def _sample_from(self, start: Start | None = None) -> State:
        return self.sample(start=start)

    def _nested(
        self, function: Callable[..., State], sample: Callable[[Start | None], State]
    ) -> Callable[[Start | None], State]:
        """Return a search as a function of its start, which the search reads from ``run.start``."""

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
        steps: int | None = None,
        denoiser: str | None = None,
        hooks: bool = True,
        grad: bool = False,
    ) -> State:
        """Denoise a population to the end, or to a step.

        Args:
            state: a population to continue with; by default a fresh one.
            start: the rows of a fresh population; :attr:`start` by default.
            particles: the same as a start of all prompts' slots 0..particles−1.
            noise: ``[N, …]`` initial noise of a fresh population instead of the start's.
            until: stop when this many steps are done.
            steps: of a fresh population; the setting's by default.
            denoiser: name of the weights to use; the setting's by default.
            hooks: whether the methods take part.
            grad: keep the graph from ``noise`` (or ``state.x``) to ``x`` and the samples. The denoiser and the
                decoder are checkpointed, so that memory does not grow with the steps. The scheduler and the noise
                streams are not, because a recomputed step would count twice.

        Returns:
            The population; ``state.done`` says whether it is final.
        """
        with self.backbone.inference(), torch.set_grad_enabled(grad):
            if state is None:
                if particles is not None:
                    start = Start.of(range(len(self.jobs)), range(particles))
                start = self.start if start is None else start
                state = self.begin(start if noise is None else start.with_noise(noise), denoiser=denoiser, steps=steps)
                if hooks:
                    self.hooks.hook.begin(state=state)
            self._denoise(state, until, self.hooks.hook if hooks else _SILENT)
            if state.done and hooks:
                if self.reward is not None:
                    _ = state.samples  # decoded once, for the reward and for the result
                self.hooks.hook.finish(state=state)
            return state

    @staticmethod
    def _denoise(state: State, until: int | None, hook: Any) -> None:
        while not state.done and (until is None or state.step < until):
            hook.before_predict(state=state)
            state.predict()
            hook.after_predict(state=state)
            state.advance()
            hook.after_step(state=state)

    # ---- populations -----------------------------------------------------------------------------------

    def begin(
        self,
        start: Start | None = None,
        *,
        conditioning: Conditioning | None = None,
        denoiser: str | None = None,
        steps: int | None = None,
    ) -> State:
        """Make a population at the first noise level, with fresh noise streams.

        Args:
            start: its rows; :attr:`start` by default.
            conditioning: of :meth:`encode`, if it is known already.
            denoiser: name of the weights to use; the setting's by default.
            steps: of the schedule; the setting's by default.

        Raises:
            SteerError: see :meth:`steer.models.denoisers.Denoisers.resolve`; or if the noise has another shape than the
                latents.
        """
        denoiser = str(self.get("denoiser")) if denoiser is None else denoiser
        self.backbone.denoisers.resolve(denoiser)
        self.backbone.bring(denoiser, alone=True)
        start = self.start if start is None else start
        process = self.process(steps)
        streams = self.streams(start)
        if isinstance(process, Called):
            called, size = process, self.chunks.size
            x = self.chunks.unrepeatable("denoising", lambda: called.begin(streams, start.noise, size))
            return self.population(start, process, x, streams, Conditioning({}, None, 1.0), denoiser)
        if conditioning is None:
            with torch.no_grad():
                conditioning = self.encode()
        # drawn even if noise is given, so that the transitions' noise is the same either way
        drawn = self.backbone.noise(streams, self.latent_shape)
        noise = drawn if start.noise is None else start.noise.to(self.backbone.device)
        if noise.shape != drawn.shape:
            raise SteerError(f"noise has shape {tuple(noise.shape)}, expected {tuple(drawn.shape)}")
        x = self.backbone.initial(process.prior(noise), conditioning.rows(start.job))
        return self.population(start, process, x, streams, conditioning, denoiser)

    def population(
        self,
        start: Start,
        process: Process,
        x: Tensor,
        streams: Streams,
        conditioning: Conditioning,
        denoiser: str = "base",
    ) -> State:
        """Make a population from existing latents.

        Args:
            start: its rows.
            process: as it stands.
            x: ``[N, …]``.
            streams: of the rows, in their state after ``x`` was drawn.
            conditioning: of the run's prompts.
            denoiser: name of the weights to use.
        """
        self._slots.take(start)
        return State(
            process,
            x,
            forwards=self.forwards,
            fresh_slot=self._slots.fresh,
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

        :meth:`sample` continues with it. It is not a sample of the model's own distribution, so there is no log Z.

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

    def streams(self, start: Start) -> Streams:
        """Return the noise streams of a population with this start."""
        return Streams.seeded([self.jobs[job].seed for job in start.job.tolist()], start.streams.tolist())

    def noise(self, start: Start) -> Tensor:
        """Return the initial noise ``[N, …]`` of a population with this start, on the backbone's device."""
        if start.noise is not None:
            return start.noise.to(self.backbone.device)
        process = self.process()
        if isinstance(process, Called):
            return process.noise(self.streams(start))
        return self.backbone.noise(self.streams(start), self.latent_shape)

    def fresh_start(self, jobs: Sequence[int], count: int) -> Start:
        """Return the start of a search's next population: ``count`` fresh slots of each prompt."""
        return self._slots.start(jobs, count)

    # ---- what the model is asked with ------------------------------------------------------------------

    def process(self, steps: int | None = None) -> Process:
        """Return a fresh noise process, at its first noise level.

        Args:
            steps: of its schedule; the setting's by default.
        """
        settings = self.choices.all()
        if steps is not None:
            settings["steps"] = steps
        # made once and copied: building a scheduler takes longer than a small model's forward
        if self._process is None or self._process[0] != settings:
            prompts = [job.prompt for job in self.jobs]
            self._process = settings, self.backbone.process_for(settings, self.latent_shape, prompts)
            if settings["transitions"] is not None and not hasattr(self._process[1], "transitions"):
                raise SteerError(
                    f"transitions={settings['transitions']} needs a Gaussian process, which "
                    f"{type(self.backbone).__name__} does not have; leave --transitions out"
                )
        return copy.deepcopy(self._process[1])

    @property
    def latent_shape(self) -> tuple[int, ...]:
        """Shape of one particle's latents."""
        return self.backbone.shape(self.choices.all())

    def encode(self) -> Conditioning:
        """Encode the prompts; each is encoded once."""
        prompts = [job.prompt for job in self.jobs]
        with self.backbone.inference():
            encoded = self.chunks.once("encoding texts", lambda: encode(self.backbone, self.choices, prompts))
        assert isinstance(encoded, Conditioning)
        return encoded

    @property
    def sample_cost(self) -> int:
        """Denoiser evaluations that one particle takes from noise to data if nothing steers it."""
        guided = self.backbone.guided(float(self.get(self.backbone.cfg_setting)))
        process: Any = self.process()
        if self.backbone.weaker is None:
            return int((process.length - process.index) * evaluations(guided))
        left = (process.at(index).timestep for index in range(process.index, process.length))
        return sum(self.backbone.evaluations(guided, torch.as_tensor(timestep)) for timestep in left)


def _nothing(**_: object) -> None:
    return


_SILENT = SimpleNamespace(before_predict=_nothing, after_predict=_nothing, after_step=_nothing)
"""The loop's hooks without methods."""
