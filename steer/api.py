"""The Python API: ``Sampler(model).generate(prompts, …) → Result``."""

from __future__ import annotations

import time
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from steer.cost import Cost
from steer.doctor import memory_gb
from steer.errors import SteerError
from steer.loading import (
    MethodSpec,
    OptionValues,
    RewardSpec,
    check_judges,
    check_owners,
    make_judges,
    make_methods,
    make_reward,
)
from steer.model_options import ModelOptions
from steer.models import load_model
from steer.noise import keyed
from steer.plugins import Plugins, manager
from steer.prompts import Prompt, as_prompts, check_seed, with_seed
from steer.recipe import Recipe, describe_method, describe_reward
from steer.rewards import WeightedSum
from steer.run import Run
from steer.state import State
from steer.trace import trace_of

PACK_ROWS = 64
"""Particles that go through the loop together; several prompts share a pack. No result depends on it."""

CHOICES = ("best", "weighted", "all")


@dataclass(frozen=True)
class Sample:
    """One particle at the end.

    Attributes:
        image: the decoded sample.
        slot: its slot; ``seed + slot`` seeded its noise.
        reward: its score, ``None`` without a reward.
        log_weight: its log importance weight.
        judge: scores of the held-out judges, by name; nothing was steered or chosen by them.
    """

    image: Image.Image
    slot: int
    reward: float | None
    log_weight: float
    judge: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Item:
    """What one prompt came to.

    Attributes:
        prompt: the prompt.
        seed: the seed of its slot 0.
        samples: all particles, by slot.
        chosen: indices into ``samples``.
        trace: see :func:`steer.trace.trace_of`.
        recipe: reproduces it.
    """

    prompt: Prompt
    seed: int
    samples: tuple[Sample, ...]
    chosen: tuple[int, ...]
    trace: dict[str, Any]
    recipe: Recipe

    @property
    def images(self) -> list[Image.Image]:
        """The chosen images."""
        return [self.samples[index].image for index in self.chosen]

    @property
    def reward(self) -> float | None:
        """Reward of the first chosen sample."""
        return self.samples[self.chosen[0]].reward

    @property
    def mean_reward(self) -> float | None:
        """Mean reward over all particles, each counted once."""
        values = [sample.reward for sample in self.samples if sample.reward is not None]
        return sum(values) / len(values) if values else None

    @property
    def judge(self) -> Mapping[str, float]:
        """Judges' scores of the first chosen sample."""
        return self.samples[self.chosen[0]].judge


@dataclass(frozen=True)
class Result:
    """What :meth:`Sampler.generate` returns: one item a prompt, and the cost of all."""

    items: tuple[Item, ...]
    cost: Cost

    @property
    def images(self) -> list[Image.Image]:
        """The chosen images of all prompts, in order."""
        return [image for item in self.items for image in item.images]

    @property
    def rewards(self) -> list[list[float | None]]:
        """Rewards ``[prompts][particles]``."""
        return [[sample.reward for sample in item.samples] for item in self.items]

    @property
    def trace(self) -> list[dict[str, Any]]:
        """One trace a prompt."""
        return [item.trace for item in self.items]

    def save(self, folder: str | Path) -> Path:
        """Write images with their recipes, traces, a contact sheet and ``result.json``; return the folder."""
        from steer.output import OutputFolder

        output = OutputFolder(Path(folder))
        for item in self.items:
            output.write(item)
        output.finish(self.cost)
        return output.folder


class Sampler:
    """A model ready to be sampled and steered."""

    def __init__(
        self, model: Any = "shapes", *, device: str | None = None, dtype: str | None = None,
        model_options: ModelOptions | None = None, plugins: Plugins | None = None,
    ) -> None:  # fmt: skip
        """Load a model; see :func:`steer.models.load_model` for what it can be."""
        self.plugins = plugins if plugins is not None else manager()
        self.model = load_model(model, self.plugins, device=device, dtype=dtype, options=model_options)
        self.backbone = self.model.backbone
        self.last_cost = Cost()

    def generate(self, prompts: str | Iterable[str], **arguments: Any) -> Result:
        """Sample and steer; takes the arguments of :meth:`stream` and collects what it yields."""
        items = tuple(self.stream(prompts, **arguments))
        return Result(items, self.last_cost)

    def stream(
        self,
        prompts: str | Iterable[str],
        *,
        methods: Sequence[MethodSpec] | MethodSpec = (),
        reward: Sequence[RewardSpec] | RewardSpec | None = None,
        judge: Sequence[RewardSpec] | RewardSpec | None = None,
        options: OptionValues | None = None,
        particles: int | None = None,
        seed: int | None = None,
        run_seed: int = 0,
        choose: str | None = None,
        observers: Iterable[object] = (),
        **settings: Any,
    ) -> Iterator[Item]:
        """Sample and steer, yielding each prompt's item as soon as its pack is done.

        Args:
            prompts: texts or :class:`~steer.prompts.Prompt` objects.
            methods: names (``"fk"``), ``./file.py`` references, classes or instances; outermost first.
            reward: an expression (``"shapes:1+clip:0.5"``), a function of (samples, prompts), a
                :class:`~steer.rewards.Reward`, or several, which are summed.
            judge: like ``reward``, each scored on its own when all is done and reported, but never steered or
                chosen by; may not be a reward too.
            options: plugin options, ``{"fk": {"lambda": 4.0}}``.
            particles: particles a prompt.
            seed: seed of slot 0 of every prompt that has none of its own, 0..2³²−1; slot i is seeded
                ``seed + i``. Without one, a prompt's seed is hashed from ``run_seed`` and its id.
            run_seed: see ``seed``.
            choose: ``"best"`` by reward, ``"weighted"`` drawn by weight, or ``"all"``; best if there is a reward.
            observers: objects with hook wrappers that only watch.
            **settings: fields of a run: ``steps``, ``guidance_scale``, ``eta``, ``scheduler``, ``timesteps``,
                ``width``, ``height``, ``negative``, ``chunk`` (:data:`steer.run.SETTINGS`).

        Raises:
            SteerError: before anything is computed, for whatever of this does not fit together.
        """
        method_specs = [methods] if isinstance(methods, (str, type)) or not isinstance(methods, Sequence) else methods
        reward_specs, judge_specs = _as_list(reward), _as_list(judge)
        check_judges(reward_specs, judge_specs)
        if choose is not None and choose not in CHOICES:
            raise SteerError(f"choose={choose!r}: expected {', '.join(CHOICES)}")
        if choose == "best" and not reward_specs:
            raise SteerError("choose='best' needs a reward; name one with --reward")
        rows = with_seed(as_prompts(prompts), seed)
        check_seed(run_seed, "run_seed")
        values = dict(options or {})
        scorer = make_reward(reward_specs, values, self.plugins, self.backbone.device)
        judges = make_judges(judge_specs, values, self.plugins, self.backbone.device)
        given = {**settings, "particles": particles}

        def make_run(pack: Sequence[Prompt]) -> Run:
            active = make_methods(method_specs, values, self.plugins)
            check_owners(values, active, [*reward_specs, *judge_specs])
            return Run(
                self.backbone, pack, settings=given, defaults=self.model.defaults, methods=active,
                observers=observers, reward=scorer, run_seed=run_seed, preview=self.model.preview,
            )  # fmt: skip

        probe = make_run(rows)  # every mistake in the settings shows here
        probe.process()
        _check_memory(probe)
        _warn_of_shared_noise(rows, probe)
        per_pack = max(1, PACK_ROWS // probe.particles)
        self.last_cost = Cost()
        chosen_by = choose or ("best" if scorer else "all")
        for start in range(0, len(rows), per_pack):
            run = make_run(rows[start : start + per_pack])
            with _timed(run.cost):
                state = run.search()
                items = self._items(
                    run, state, chosen_by, method_specs, reward_specs, judges, judge_specs, values, run_seed
                )
            self.last_cost = self.last_cost + run.cost
            yield from items

    def sample(
        self,
        noise: torch.Tensor,
        prompts: str | Iterable[str],
        *,
        grad: bool = False,
        seed: int | None = None,
        run_seed: int = 0,
        **settings: Any,
    ) -> torch.Tensor:
        """Turn initial noise into samples, without methods; with ``grad``, differentiably.

        Args:
            noise: standard normal ``[J·k, …]``, k rows for each of the J prompts, in order.
            prompts: J texts.
            grad: keep the graph from ``noise`` to the samples, the denoiser checkpointed.
            seed: see :meth:`stream`; decides the transitions' noise of stochastic samplers.
            run_seed: see :meth:`stream`.
            **settings: see :meth:`stream`.

        Returns:
            Samples ``[J·k, …]``; images are float ``[J·k, 3, H, W]`` in [0, 1].
        """
        rows = with_seed(as_prompts(prompts), seed)
        if len(noise) == 0 or len(noise) % len(rows):
            raise SteerError(f"noise has {len(noise)} rows, expected a multiple of the {len(rows)} prompts")
        given = {**settings, "particles": len(noise) // len(rows)}
        run = Run(self.backbone, rows, settings=given, defaults=self.model.defaults, run_seed=run_seed)
        with torch.set_grad_enabled(grad):
            return run.sample(noise=noise, grad=grad).samples

    def _items(
        self, run: Run, state: State, choose: str, methods: Sequence[MethodSpec], reward: Sequence[RewardSpec],
        judges: Mapping[str, WeightedSum], judge_specs: Sequence[RewardSpec], options: OptionValues, run_seed: int,
    ) -> list[Item]:  # fmt: skip
        with torch.no_grad():
            samples = (state.samples * 255).round().to("cpu", torch.uint8).permute(0, 2, 3, 1).numpy()
            rewards = state.rewards() if run.reward is not None else None
            verdicts = {name: run.judge(state, judge) for name, judge in judges.items()}
        items = []
        for index, job in enumerate(state.jobs):
            rows = state.rows_of(index)
            rows = rows[torch.argsort(state.slot[rows])]
            particles = tuple(
                Sample(
                    Image.fromarray(samples[row]),
                    int(state.slot[row]),
                    None if rewards is None else float(rewards[row]),
                    float(state.log_weight[row]),
                    {name: float(scores[row]) for name, scores in verdicts.items()},
                )
                for row in rows.tolist()
            )
            recipe = Recipe.of(
                model=self.model.name,
                model_options=self.model.options,
                backbone=self.backbone,
                job=job,
                settings={**run.settings, "width": samples.shape[2], "height": samples.shape[1]},
                methods=[describe_method(spec) for spec in methods],
                reward=[describe_reward(spec) for spec in reward],
                judge=[spec for spec in judge_specs if isinstance(spec, str)],
                options=options,
                choose=choose,
                run_seed=run_seed,
            )
            items.append(
                Item(job.prompt, job.seed, particles, _choose(particles, choose, job), trace_of(state, index), recipe)
            )
        return items


def _choose(samples: Sequence[Sample], how: str, job: Any) -> tuple[int, ...]:
    if how == "all":
        return tuple(range(len(samples)))
    if how == "best":
        return (max(range(len(samples)), key=lambda i: _reward(samples[i])),)
    weights = np.array([sample.log_weight for sample in samples])
    weights = np.exp(weights - weights.max())
    generator = keyed(job.seed, job.prompt.id, "choose")
    return (int(generator.choice(len(samples), p=weights / weights.sum())),)


def _as_list(reward: Sequence[RewardSpec] | RewardSpec | None) -> list[RewardSpec]:
    if reward is None:
        return []
    if isinstance(reward, str) or callable(reward):
        return [reward]
    return list(reward)


def _warn_of_shared_noise(prompts: Sequence[Prompt], run: Run) -> None:
    """Warn where one text is drawn twice with slots that share seeds: those images are copies."""
    seeds: dict[str, list[int]] = {}
    for job in run.jobs:
        seeds.setdefault(str(job.prompt), []).append(job.seed)
    for text, known in seeds.items():
        known.sort()
        if any(b - a < run.particles for a, b in pairwise(known)):
            warnings.warn(
                f"prompt {text[:60]!r} is drawn several times with overlapping seeds (each takes "
                f"{run.particles}, from its seed on); some images will be equal",
                stacklevel=3,
            )


def _check_memory(run: Run) -> None:
    """Refuse a population whose finished images alone are larger than this machine's memory.

    A lower bound: what gets past may still run out of memory, but a slip of the keyboard does not make the system
    kill the process without a word.
    """
    width, height, have = run.get("width"), run.get("height"), memory_gb()
    if width is None or height is None or have is None:
        return
    need = run.particles * 3 * 4 * width * height / 1e9
    if need > have:
        raise SteerError(
            f"{run.particles} particles of {width}x{height} pixels take at least {need:.0f} GB, this machine has "
            f"{have:.0f} GB; lower --size or --particles"
        )


@contextmanager
def _timed(cost: Cost) -> Iterator[None]:
    start = time.perf_counter()
    try:
        yield
    finally:
        cost.seconds += time.perf_counter() - start


def _reward(sample: Sample) -> float:
    return float("-inf") if sample.reward is None else sample.reward
