"""``State``: the particles, with operations that copy, drop, add and join them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from steer.models.encoded_prompts import Conditioning
from steer.models.media.media import joined
from steer.models.stock.process import Called
from steer.processes import Process, RandomX0
from steer.processes.noise import Streams, keyed
from steer.processes.rows import taking
from steer.prompts.prompt import Prompt
from steer.rewards.reward import RewardFunction
from steer.sampling import gradients
from steer.sampling.batch import Batch
from steer.sampling.events import Event
from steer.sampling.forwards import Forwards, groups_of
from steer.sampling.start import Job, Start


class State(Batch):
    """A population of N particles of one or several prompts, in lockstep.

    Attributes:
        jobs: the prompts, in order.
        job: ``[N]`` int64 on the CPU, the index into ``jobs`` of each row.
        slot: ``[N]`` int64 on the CPU; a slot owns a noise stream and stays when content is copied.
        ancestors: ``[N]`` int64 on the CPU, the slot that each row's content began in.
        log_weight: ``[N]`` float64 on the CPU, unnormalized; log Z of a prompt is its log-mean-exp.
        x: ``[N, …]`` fp32 latents at the current noise level; of texts, int64 tokens ``[N, L]``.
        prediction: the denoiser's output for ``x``, guidance included; ``None`` before it ran.
        x0: the estimate of the final x that belongs to ``x`` and ``prediction``.
        samples: decoded ``x0``; images are float ``[N, 3, H, W]`` in [0, 1], texts
            :class:`steer.models.media.text.Texts`.
        extra: a method's own data, by name; tensors with one row per particle.
        draw: number of the search's population, from 0; a method keys its randomness by it.
        forwards: calls of model and reward.
        biased: whether a method changed x, the prediction or the population without accounting for it in
            ``log_weight``; there is no log Z then.
        events: for traces.
    """

    def __init__(
        self,
        process: Process,
        x: Tensor,
        *,
        forwards: Forwards,
        fresh_slot: Callable[[int], int],
        jobs: Sequence[Job],
        job: Tensor,
        slot: Tensor,
        streams: Streams,
        conditioning: Conditioning,
        denoiser: str = "base",
        draw: int = 0,
    ) -> None:
        super().__init__(process, x, forwards=forwards, job=job, conditioning=conditioning, denoiser=denoiser)
        self._fresh_slot = fresh_slot
        self.jobs = tuple(jobs)
        self.slot = slot
        self.streams = streams
        self.draw = draw
        self.ancestors = slot.clone()
        self.log_weight = torch.zeros(len(slot), dtype=torch.float64)
        self.extra: dict[str, Tensor] = {}
        self.events: list[Event] = []

    # ---- what the particles are ------------------------------------------------------------------------

    @property
    def draws_x0(self) -> bool:
        """Whether x0 is a random draw at this step (tokens before the end) and not one estimate."""
        return not self.done and isinstance(self.process, RandomX0)

    def x0_draws(self, count: int) -> Tensor:
        """Draw ``count`` values of x0 per particle, ``[N, count, …]``, each keyed by its slot and the step.

        Raises:
            RuntimeError: if x0 is not a random draw (:attr:`draws_x0`), or the denoiser has not run.
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
    def prompts(self) -> list[Prompt]:
        """The prompt of each row."""
        return [self.jobs[index].prompt for index in self.job.tolist()]

    def rewards(self, *, draws: int | None = None) -> Tensor:
        """Score each particle's ``x0`` by the run's reward.

        Decoding and scoring go chunk by chunk, so that memory does not grow with the population.

        Args:
            draws: score this many random draws of x0 per particle instead; needs :attr:`draws_x0`.

        Returns:
            float64 ``[N]`` on the CPU, or ``[N, draws]``.

        Raises:
            SteerError: if the run has no reward.
        """
        if draws is None:
            return self._cached("rewards", self._evaluate)
        return self._cached(f"rewards:{draws}", lambda: self._evaluate_draws(draws))

    def rewards_of(self, x0: Tensor) -> Tensor:
        """Score other values of x0 in place of the particles' own, such as those of a look-ahead; traces tell of these
        too.

        Args:
            x0: ``[N, …]``.

        Returns:
            float64 ``[N]`` on the CPU.

        Raises:
            SteerError: if the run has no reward.
        """
        return self._noted(self._scored(x0, self.prompts))

    def gradient(self, reward: RewardFunction | None = None, *, name: str = "reward") -> tuple[Tensor, Tensor]:
        """Return the reward of each particle's decoded ``x0`` and its gradient by ``x``, for guidance within a hook.

        The denoiser runs once more, because its prediction was made without a graph; both passes are booked. Memory
        does not grow with the population. At the end the gradient is that of decoding alone.

        Args:
            reward: a differentiable function of (samples, prompts); the run's reward by default.
            name: the given reward's name in messages.

        Returns:
            Values, float64 ``[N]`` on the CPU, and gradients ``[N, …]`` like ``x``.

        Raises:
            SteerError: if there is no reward, it is not differentiable, its gradient is not finite, or x is tokens.
        """
        gradients.check_differentiable(self.forwards.backbone)
        if reward is None:
            reward = self.forwards.required_reward()
            name = reward.name

        def estimate(leaf: Tensor, rows: Tensor) -> Tensor:
            return leaf if self.done else self.process.estimate(leaf, self.forward(leaf, rows))

        evaluations = 0 if self.done else self.evaluations
        return gradients.by_latents(
            self.forwards,
            {name: reward},
            self._x.detach(),
            estimate,
            self.denoiser,
            self.prompts,
            self.job,
            groups_of(self.job, self.conditioning),
            self._estimated_at,
            evaluations,
        )

    @property
    def evaluations(self) -> int:
        """Denoiser evaluations that the next prediction takes per row."""
        return self.forwards.backbone.evaluations(self.conditioning.guided, self.timestep)

    # ---- rows ------------------------------------------------------------------------------------------

    def rows_of(self, job: int) -> Tensor:
        """Return the indices of a prompt's rows, in order."""
        return (self.job == job).nonzero().flatten()

    def copy_from(self, ancestors: Tensor, log_weight: Tensor, rows: Tensor | None = None) -> None:
        """Resample: row ``rows[i]`` becomes a copy of row ``ancestors[i]``; slots and their noise streams stay.

        Args:
            ancestors: int64 ``[M]``, row indices; each must belong to the same prompt as the row that it fills.
            log_weight: float64 ``[M]``, the weights after resampling.
            rows: int64 ``[M]``, rows that remain, each once; all by default. That others end is no bias if
                ``log_weight`` accounts for them.
        """
        rows = torch.arange(len(self)) if rows is None else rows
        if not torch.equal(self.job[ancestors], self.job[rows]):
            raise ValueError("a particle can only descend from a particle of its own prompt")
        origins = self.slot[ancestors].tolist()
        self._move(ancestors, rows)
        self._record("resample", True, {"ancestors": origins})
        self.log_weight = log_weight.to(torch.float64)

    def keep(self, rows: Tensor) -> None:
        """Reindex everything per particle, slots included: row i becomes the old row ``rows[i]``.

        Each row may be taken once; use :meth:`copy_from` to copy and :meth:`spawn` to add. Leaving rows out marks the
        run as biased, because pruning is not a weighted draw.
        """
        self.biased |= len(rows) < len(self)
        self._move(rows, rows)

    def spawn(self, parents: Tensor) -> None:
        """Add copies of the given rows in unused slots, with noise streams of their own.

        Marks the run as biased: copies beside their parent count its weight twice.
        """
        count = len(self)
        jobs = self.job[parents]
        slots = torch.tensor([self._fresh_slot(index) for index in jobs.tolist()], dtype=torch.int64)
        seeds = [self.jobs[index].seed for index in jobs.tolist()]
        self._gather(torch.cat([torch.arange(count), parents]))
        self.job = torch.cat([self.job, jobs])
        self.slot = torch.cat([self.slot, slots])
        self.log_weight = torch.cat([self.log_weight, self.log_weight[parents]])
        self.streams = self.streams.extend(Streams.seeded(seeds, slots.tolist()))
        self.biased |= len(parents) > 0

    @classmethod
    def joined(cls, states: Sequence[State]) -> State:
        """Return finished populations of one run as one, such as the rounds of a search.

        Rows keep slot, streams and weight, so a prompt's log-mean-exp stays an estimate of Z. Entries of ``extra`` and
        of the cache are kept if all populations have them.
        """
        first, *others = states
        if not all(state.done for state in states) or len({id(state.forwards) for state in states}) > 1:
            raise ValueError("joined() takes finished populations of one run")
        if not others:
            return first

        def together(tables: Sequence[dict[str, Any]]) -> dict[str, Any]:
            common = [name for name in tables[0] if all(name in table for table in tables)]
            return {name: joined([table[name] for table in tables]) for name in common}

        whole = cls(
            first.process,
            torch.cat([state._x for state in states]),
            forwards=first.forwards,
            fresh_slot=first._fresh_slot,
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
        """Record a method's diagnostics, one value per prompt, for traces."""
        self._record(kind, False, {name: list(values) for name, values in per_job.items()})

    def note(self, kind: str, **per_row: Sequence[Any]) -> None:
        """Record plain data, one value per particle, for traces."""
        self._record(kind, True, {name: list(values) for name, values in per_row.items()})

    @property
    def origin(self) -> Start:
        """The rows as a start, without their noise, for the records of a search."""
        return Start(self.job, self.slot, draw=self.draw)

    # ---- for the loop ----------------------------------------------------------------------------------

    def advance(self) -> None:
        """Take the process's step."""
        self._x = self.process.step(self._x, self._require_prediction(), self.streams)
        self._prediction = None
        self._cache.clear()

    # ---- inside ----------------------------------------------------------------------------------------

    @property
    def _estimated_at(self) -> int | None:
        return None if self.done else self.step

    def _evaluate(self) -> Tensor:
        return self._noted(self._scored(self.x0, self.prompts, self._cache.get("samples")))

    def _evaluate_draws(self, count: int) -> Tensor:
        draws = self.x0_draws(count)
        prompts = [prompt for prompt in self.prompts for _ in range(count)]
        scores = self._scored(draws.flatten(0, 1), prompts).view(len(self), count)
        self._noted(scores.mean(dim=1))
        return scores

    def _scored(self, x0: Tensor, prompts: Sequence[Prompt], samples: Any = None) -> Tensor:
        decode = self.process.decode if isinstance(self.process, Called) else None
        scores = self.forwards.score(x0, prompts, step=self._estimated_at, samples=samples, decode=decode)
        return scores.cpu().double()

    def _noted(self, rewards: Tensor) -> Tensor:
        self._record("reward", True, {"reward": rewards.tolist()})
        return rewards

    def _gather(self, rows: Tensor) -> None:
        count = len(self)
        self.process.select(rows, count)
        take = taking(rows)
        self.ancestors, self._x = take(self.ancestors), take(self._x)
        self._prediction = None if self._prediction is None else take(self._prediction)
        self.extra = {name: take(value) for name, value in self.extra.items()}
        self._cache = {name: take(value) for name, value in self._cache.items()}

    def _move(self, content: Tensor, rows: Tensor) -> None:
        """Leave only the slots of the given rows, in that order, with the content of others."""
        if len(torch.unique(rows)) != len(rows):
            raise ValueError("each row can be taken once; a slot cannot be in two places")
        self._gather(content)
        self.job, self.slot = self.job[rows], self.slot[rows]
        self.log_weight = self.log_weight[rows]
        self.streams = self.streams.keep(rows.tolist())

    def _record(self, kind: str, by_row: bool, data: dict[str, list[Any]]) -> None:
        timestep = 0.0 if self.done else float(self.timestep)
        rows = tuple(self.job.tolist()), tuple(self.slot.tolist())
        self.events.append(Event(kind, self.step, timestep, *rows, data, by_row, self.draw))
