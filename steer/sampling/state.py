"""State: everything there is per particle, and how it is reindexed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from torch import Tensor

from steer.errors import SteerError
from steer.models.media.media import joined
from steer.processes import Process, RandomX0
from steer.processes.noise import Streams, keyed
from steer.prompts.prompt import Prompt
from steer.sampling import gradients
from steer.sampling.start import Start

T = TypeVar("T")

if TYPE_CHECKING:
    from steer.rewards.reward import RewardFunction
    from steer.sampling.run import Run


@dataclass(frozen=True)
class Job:
    """One prompt's part of a run."""

    prompt: Prompt
    seed: int


@dataclass(frozen=True)
class Event:
    """Something that happened to the population, for traces: plain numbers only.

    Attributes:
        kind: ``"reward"``, ``"resample"`` or the name of a method's own record.
        step: steps taken when it happened; equal to the number of steps at the end.
        timestep: the denoiser's time, or 0 at the end.
        jobs: index of the prompt of each row.
        slots: slot of each row.
        data: name to one value a row, or one value a prompt.
        by_row: which of the two.
        draw: which population of a search it happened to.
    """

    kind: str
    step: int
    timestep: float
    jobs: tuple[int, ...]
    slots: tuple[int, ...]
    data: dict[str, list[Any]] = field(default_factory=dict)
    by_row: bool = False
    draw: int = 0

    @classmethod
    def candidates(cls, start: Start, steps: int, **data: list[Any]) -> Event:
        """Return the event that a search records for finished samples.

        Args:
            start: the rows that they came from.
            steps: denoising steps.
            **data: one value a row; ``origin`` (``"seed"``, ``"neighbour"``, ``"gradient"``), ``reward`` and ``spent``
                (the prompt's part of :attr:`steer.results.cost.Cost.forwards` when the sample was known) are plotted.
        """
        rows = tuple(start.job.tolist()), tuple(start.slot.tolist())
        return cls("candidate", steps, 0.0, *rows, data, by_row=True, draw=start.draw)


class State:
    """A population of N particles of one or several prompts, in lockstep.

    Attributes:
        jobs: the prompts, in order.
        job: ``[N]`` int64 on the CPU, the index into ``jobs`` of each row.
        slot: ``[N]`` int64 on the CPU; a slot owns a noise stream and stays when content is copied.
        ancestors: ``[N]`` int64 on the CPU, the slot that each row's content began in.
        log_weight: ``[N]`` float64 on the CPU, unnormalised; log Z of a prompt is its log-mean-exp.
        x: ``[N, …]`` fp32 latents at the current noise level; of texts, int64 tokens ``[N, L]``.
        prediction: the denoiser's output for ``x``, guidance included; ``None`` before it ran.
        x0: the estimate of the final x that belongs to ``x`` and ``prediction``.
        samples: decoded ``x0``; images are float ``[N, 3, H, W]`` in [0, 1], texts
            :class:`steer.models.media.text.Texts`.
        extra: a method's own data, by name; tensors with one row a particle.
        draw: which population of a search this is, from 0; a method keys its randomness by it.
        biased: whether a method changed x, the prediction or who is in the population without accounting for it
            in ``log_weight``; there is no log Z then.
        events: what happened, for traces.
    """

    def __init__(
        self,
        run: Run,
        process: Process,
        x: Tensor,
        *,
        jobs: Sequence[Job],
        job: Tensor,
        slot: Tensor,
        streams: Streams,
        conditioning: Any,
        denoiser: str = "base",
        draw: int = 0,
    ) -> None:
        self.run = run
        self.process = process
        self.jobs = tuple(jobs)
        self.job = job
        self.slot = slot
        self.streams = streams
        self.conditioning = conditioning
        self.denoiser = denoiser
        self.draw = draw
        self.ancestors = slot.clone()
        self.log_weight = torch.zeros(len(slot), dtype=torch.float64)
        self.extra: dict[str, Tensor] = {}
        self.biased = False
        self.events: list[Event] = []
        self._x = x
        self._prediction: Tensor | None = None
        self._cache: dict[str, Any] = {}

    def __len__(self) -> int:
        return len(self.slot)

    # ---- where the population stands -------------------------------------------------------------------

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
        """The denoiser's time at this step, 0-dimensional."""
        return self.process.timestep

    @property
    def alpha(self) -> float:
        """Signal level: ``x = alpha·x0 + sigma·noise``."""
        return self.process.level[0]

    @property
    def sigma(self) -> float:
        """Noise level."""
        return self.process.level[1]

    # ---- what the particles are ------------------------------------------------------------------------

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
        """The estimate of the final x, its mode where it is a random draw; at the end it is x."""
        if self.done:
            return self._x
        if self._prediction is None:
            raise RuntimeError("x0 is known between after_predict and the end of the step, and after the last one")
        return self._cached("x0", lambda: self.process.estimate(self._x, self._require_prediction()))

    @property
    def draws_x0(self) -> bool:
        """Whether x0 is a random draw here, as tokens are before the end, and not one estimate."""
        return not self.done and isinstance(self.process, RandomX0)

    def x0_draws(self, count: int) -> Tensor:
        """Draw ``count`` values of x0 a particle, ``[N, count, …]``, each keyed by its slot and the step.

        Raises:
            RuntimeError: where x0 is no random draw (:attr:`draws_x0`), or the denoiser has not run.
        """
        process, x, prediction = self.process, self._x, self._require_prediction()
        if self.done or not isinstance(process, RandomX0):
            raise RuntimeError("x0 is one estimate here; see draws_x0")
        rows = []
        for index, slot in zip(self.job.tolist(), self.slot.tolist(), strict=True):
            job = self.jobs[index]
            generator = keyed(job.seed, job.prompt.id, "x0", slot=slot, step=self.step, draw=self.draw)
            rows.append(torch.from_numpy(generator.random((count, *x.shape[1:]))))
        return process.draw_x0(x, prediction, torch.stack(rows).to(x.device))

    @property
    def samples(self) -> Any:
        """Decoded ``x0``, chunk by chunk, kept until x changes."""
        return self._cached("samples", lambda: self.run.decode(self.x0))

    @property
    def prompts(self) -> list[Prompt]:
        """The prompt of each row."""
        return [self.jobs[index].prompt for index in self.job.tolist()]

    def rewards(self, *, draws: int | None = None) -> Tensor:
        """Score each particle's ``x0`` by the run's reward.

        Decoding and scoring go chunk by chunk, so that memory does not grow with the population.

        Args:
            draws: score so many random draws of x0 a particle instead; where :attr:`draws_x0`.

        Returns:
            float64 ``[N]`` on the CPU, or ``[N, draws]``.

        Raises:
            SteerError: if the run has no reward.
        """
        if draws is None:
            return self._cached("rewards", self._evaluate)
        return self._cached(f"rewards:{draws}", lambda: self._evaluate(draws))

    def gradient(self, reward: RewardFunction | None = None, *, name: str = "reward") -> tuple[Tensor, Tensor]:
        """Return the reward of each particle's decoded ``x0`` and its gradient by ``x``, for guidance within a hook.

        The denoiser is asked once more, for its prediction was made without a graph; it and the way back are booked.
        Chunk by chunk: memory does not grow with the population. At the end the gradient is that of decoding alone.

        Args:
            reward: a differentiable function of (samples, prompts); the run's reward by default.
            name: what a given reward is called in messages.

        Returns:
            Values, float64 ``[N]`` on the CPU, and gradients ``[N, …]`` like ``x``.

        Raises:
            SteerError: if there is no reward, it gives no gradient, or one that is not finite; if x is tokens.
        """
        self.run.check_differentiable()
        return gradients.by_state(self, reward, name)

    @property
    def known_rewards(self) -> Tensor | None:
        """Rewards of the current ``x0`` if they were computed, else ``None``."""
        return self._cache.get("rewards")

    # ---- rows ------------------------------------------------------------------------------------------

    def rows_of(self, job: int) -> Tensor:
        """Return the indices of a prompt's rows, in order."""
        return (self.job == job).nonzero().flatten()

    def resample(self, ancestors: Tensor, log_weight: Tensor) -> None:
        """Copy content: row i becomes a copy of row ``ancestors[i]``; slots and their streams stay.

        Args:
            ancestors: int64 ``[N]``, row indices; each must belong to the same prompt as its row.
            log_weight: float64 ``[N]``, the weights after resampling.
        """
        if not torch.equal(self.job[ancestors], self.job):
            raise ValueError("a particle can only descend from a particle of its own prompt")
        self._record("resample", True, {"ancestors": self.slot[ancestors].tolist()})
        self._gather(ancestors)
        self.log_weight = log_weight.to(torch.float64)

    def select(self, rows: Tensor) -> None:
        """Reindex everything per particle, slots included: row i becomes the old row ``rows[i]``.

        Each row may be taken once; use :meth:`resample` to copy and :meth:`spawn` to add. Leaving rows out marks
        the run as biased: who is pruned is no weighted draw.
        """
        if len(torch.unique(rows)) != len(rows):
            raise ValueError("select() takes each row once; a slot cannot be in two places")
        self.biased |= len(rows) < len(self)
        self._gather(rows)
        self.job, self.slot = self.job[rows], self.slot[rows]
        self.log_weight = self.log_weight[rows]
        self.streams = self.streams.keep(rows.tolist())

    keep = select

    def spawn(self, parents: Tensor) -> None:
        """Add copies of the given rows in fresh slots, never used before, with noise streams of their own.

        Marks the run as biased: copies beside their parent count its weight twice.
        """
        count = len(self)
        jobs = self.job[parents]
        slots = torch.tensor([self.run.fresh_slot(index) for index in jobs.tolist()], dtype=torch.int64)
        seeds = [self.jobs[index].seed for index in jobs.tolist()]
        self._gather(torch.cat([torch.arange(count), parents]))
        self.job = torch.cat([self.job, jobs])
        self.slot = torch.cat([self.slot, slots])
        self.log_weight = torch.cat([self.log_weight, self.log_weight[parents]])
        self.streams = self.streams.extend(Streams.seeded(seeds, slots.tolist()))
        self.biased |= len(parents) > 0

    @classmethod
    def joined(cls, states: Sequence[State]) -> State:
        """Return finished populations of one run as one: what a search drew in several rounds.

        Rows keep slot, streams and weight, so a prompt's log-mean-exp stays an estimate of Z. Of ``extra`` and of
        what is cached, that is kept which all have.
        """
        first, *others = states
        if not all(state.done for state in states) or len({id(state.run) for state in states}) > 1:
            raise ValueError("joined() takes finished populations of one run")
        if not others:
            return first

        def together(tables: Sequence[dict[str, Any]]) -> dict[str, Any]:
            common = [name for name in tables[0] if all(name in table for table in tables)]
            return {name: joined([table[name] for table in tables]) for name in common}

        whole = cls(
            first.run,
            first.process,
            torch.cat([state._x for state in states]),
            jobs=first.jobs,
            job=torch.cat([state.job for state in states]),
            slot=torch.cat([state.slot for state in states]),
            streams=Streams([generator for state in states for generator in state.streams.generators]),
            conditioning=first.conditioning,
            denoiser=first.denoiser,
            draw=first.draw,
        )
        whole.ancestors = torch.cat([state.ancestors for state in states])
        whole.log_weight = torch.cat([state.log_weight for state in states])
        whole.extra = together([state.extra for state in states])
        whole._cache = together([state._cache for state in states])
        whole.biased = any(state.biased for state in states)
        whole.events = [event for state in states for event in state.events]
        return whole

    # ---- for methods and traces ------------------------------------------------------------------------

    def record(self, kind: str, **per_job: Sequence[Any]) -> None:
        """Note a method's diagnostics, one value a prompt, for traces."""
        self._record(kind, False, {name: list(values) for name, values in per_job.items()})

    def note(self, kind: str, **per_row: Sequence[Any]) -> None:
        """Note plain data, one value a particle, for traces."""
        self._record(kind, True, {name: list(values) for name, values in per_row.items()})

    @property
    def origin(self) -> Start:
        """The rows as a start, without their noise: for what a search records of them."""
        return Start(self.job, self.slot, draw=self.draw)

    # ---- for the loop ----------------------------------------------------------------------------------

    def accept_prediction(self, prediction: Tensor) -> None:
        """Take the denoiser's output for the current ``x``."""
        self._prediction = prediction
        self._cache.clear()

    def advance(self) -> None:
        """Take the process's step."""
        self._x = self.process.step(self._x, self._require_prediction(), self.streams)
        self._prediction = None
        self._cache.clear()

    # ---- inside ----------------------------------------------------------------------------------------

    def _evaluate(self, draws: int | None = None) -> Tensor:
        values = None if draws is None else self.x0_draws(draws)
        scores = self.run.score(self, values).to("cpu", torch.float64)
        self._record("reward", True, {"reward": (scores if draws is None else scores.mean(dim=1)).tolist()})
        return scores

    def _cached(self, name: str, compute: Callable[[], T]) -> T:
        if name not in self._cache:
            self._cache[name] = compute()
        found: T = self._cache[name]
        return found

    def _gather(self, rows: Tensor) -> None:
        count = len(self)
        self.process.select(rows, count)
        self.ancestors = self.ancestors[rows]
        self._x = self._x[rows.to(self._x.device)]
        if self._prediction is not None:
            self._prediction = self._prediction[rows.to(self._prediction.device)]
        self.extra = {name: value[rows.to(value.device)] for name, value in self.extra.items()}
        self._cache = {name: value[rows.to(value.device)] for name, value in self._cache.items()}

    def _record(self, kind: str, by_row: bool, data: dict[str, list[Any]]) -> None:
        timestep = 0.0 if self.done else float(self.timestep)
        rows = tuple(self.job.tolist()), tuple(self.slot.tolist())
        self.events.append(Event(kind, self.step, timestep, *rows, data, by_row, self.draw))

    def _require_prediction(self) -> Tensor:
        if self._prediction is None:
            raise RuntimeError("the denoiser has not run at this step")
        return self._prediction

    def _check_like(self, value: Tensor, name: str) -> None:
        # of tokens, a prediction has one dimension more than x
        like = self._prediction if name == "prediction" and self._prediction is not None else self._x
        if value.shape != like.shape:
            raise SteerError(f"a method set state.{name} to shape {tuple(value.shape)}, expected {tuple(like.shape)}")
