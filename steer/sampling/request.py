"""``SamplingRequest``: model, methods, rewards, options and settings in one object, made by the commands."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from steer.models.options import ModelOptions
from steer.registry.plugins import manager
from steer.rewards.by_name import OptionValues, RewardSpec, check_judges, reward_names
from steer.sampling.methods_by_name import MethodSpec, check_names
from steer.sampling.sampler import Sampler
from steer.settings.run_settings import RunSettings


@dataclass(frozen=True)
class SamplingRequest:
    """Everything that decides the samples, except the prompts.

    It travels to workers: unless a method, a reward or the model is an object in memory, it is plain data.

    Attributes:
        model: a known name, a folder or a hub id; within this process also a pipeline.
        model_options: how the model is loaded.
        device: where to compute; ``None`` takes CUDA if there is one.
        dtype: ``"fp32"``, ``"bf16"``, ``"fp16"`` or ``None``.
        methods: outermost first.
        reward: rewards that steer; several are summed.
        judge: rewards that are only reported.
        options: of plugins, by owner.
        settings: of the run.
        seed: of every prompt that has none of its own.
        run_seed: from it and the prompts' ids the other seeds are hashed.
        choose: how results are chosen among particles; ``None`` is best if there is a reward, else all.
        loaded: the model in memory, if it is there already.
    """

    model: Any = "shapes"
    model_options: ModelOptions = field(default_factory=ModelOptions)
    device: str | None = None
    dtype: str | None = None
    methods: Sequence[MethodSpec] = ()
    reward: Sequence[RewardSpec] = ()
    judge: Sequence[RewardSpec] = ()
    options: OptionValues = field(default_factory=dict)
    settings: RunSettings = field(default_factory=RunSettings)
    seed: int | None = None
    run_seed: int = 0
    choose: str | None = None
    loaded: Sampler | None = field(default=None, repr=False, compare=False)

    def check(self) -> None:
        """Look up every name and validate every option, loading no weights.

        Raises:
            SteerError: for an unknown name or an invalid option.
        """
        check_judges(self.reward, self.judge)
        check_names(self.methods, [*self.reward, *self.judge], self.options, manager())

    def sampler(self) -> Sampler:
        """Return the model, loaded unless it is in memory already.

        Raises:
            SteerError: also if files of what it makes cannot be written here.
        """
        if self.loaded is not None:
            return self.loaded
        sampler = Sampler(self.model, device=self.device, dtype=self.dtype, model_options=self.model_options)
        sampler.backbone.medium.check()
        return sampler

    def arguments(self) -> Mapping[str, Any]:
        """Return the arguments of :meth:`steer.Sampler.stream` except the seed, which tasks have already."""
        return {
            "methods": self.methods,
            "reward": self.reward,
            "judge": self.judge,
            "options": self.options,
            "run_seed": self.run_seed,
            "choose": self.choose,
            **self.settings.given(),
        }

    def having(self, **settings: Any) -> SamplingRequest:
        """Return this request with some settings of the run changed."""
        return replace(self, settings=self.settings.having(**settings))

    def unsteered(self) -> SamplingRequest:
        """Return this request without methods; of the options, those of rewards stay."""
        rewards = reward_names([*self.reward, *self.judge])
        options = {owner: table for owner, table in self.options.items() if owner in rewards}
        return replace(self, methods=(), options=options)
