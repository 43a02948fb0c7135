"""The Python API: ``Sampler(model).generate(prompts, …) → Result``."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from typing import Any

import torch

from steer.errors import SteerError
from steer.models.load import load_model
from steer.models.options import ModelOptions
from steer.models.stock.inputs import with_inputs
from steer.prompts.prompt import as_prompts, with_seed
from steer.registry.plugins import Plugins, manager
from steer.results.cost import Cost
from steer.results.items import Item, Sample
from steer.results.result import Result
from steer.rewards.by_name import OptionValues, RewardSpec
from steer.rewards.isolation import undisturbed
from steer.rewards.reward import RewardFunction
from steer.sampling.hooks import make_run
from steer.sampling.methods_by_name import MethodSpec
from steer.sampling.session import Session

__all__ = ["Item", "Result", "Sample", "Sampler"]


class Sampler:
    """A model ready to be sampled and steered.

    Attributes:
        rewards: rewards by their labels, which later calls with equal options of theirs may use again; ``None``, the
            default, has every call make its own and keeps none in memory.
    """

    def __init__(
        self,
        model: Any = "shapes",
        *,
        device: str | None = None,
        dtype: str | None = None,
        model_options: ModelOptions | None = None,
        plugins: Plugins | None = None,
    ) -> None:
        """Load a model: a known name, a folder, a hub id or a pipeline (:func:`steer.models.load.load_model`)."""
        self.plugins = plugins if plugins is not None else manager()
        with undisturbed():
            self.model = load_model(model, self.plugins, device=device, dtype=dtype, options=model_options)
        self.backbone = self.model.backbone
        self.last_cost = Cost()
        self.rewards: dict[str, RewardFunction] | None = None

    def generate(self, prompts: str | Iterable[str], **arguments: Any) -> Result:
        """Sample and steer; takes the arguments of :meth:`stream`, returns what it yields in the prompts' order."""
        rows = as_prompts(prompts)
        place = {prompt.id: number for number, prompt in enumerate(rows)}
        items = sorted(self.stream(rows, **arguments), key=lambda item: place[item.prompt.id])
        return Result(tuple(items), self.last_cost)

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
        inputs: Mapping[str, Any] | None = None,
        **settings: Any,
    ) -> Iterator[Item]:
        """Sample and steer, yielding each prompt's item as soon as its pack is done.

        Prompts with equal settings of their own share packs, so items come group by group.

        Args:
            prompts: texts or :class:`~steer.prompts.prompt.Prompt` objects, whose own settings have priority.
            methods: names (``"fk"``), ``./file.py`` references, classes or instances; outermost first. Each pack
                takes a copy of an instance.
            reward: an expression (``"shapes:1+clip:0.5"``), a function of (samples, prompts), a
                :class:`~steer.rewards.reward.Reward`, or several, which are summed.
            judge: like ``reward``. Each judge is scored at the end and reported; it does not steer or choose, and may
                not be a reward too.
            options: plugin options, ``{"fk": {"lambda": 4.0}}``.
            particles: particles per prompt.
            seed: seed of slot 0 of every prompt that has none of its own, 0..2³²−1; slot i is seeded
                ``seed + i``. Without one, a prompt's seed is hashed from ``run_seed`` and its id.
            run_seed: see ``seed``.
            choose: ``"best"`` by reward, ``"weighted"`` drawn by weight, or ``"all"``; best if there is a reward.
            observers: objects with hook wrappers that only watch.
            inputs: arguments of the pipeline's call beside the text, for all prompts, as ``{"image": "photo.png"}``;
                for pipelines without a family (docs/inputs.md). An input of a prompt's own row has priority.
            **settings: fields of a run: ``steps``, ``guidance_scale``, ``eta``, ``scheduler``, ``timesteps``,
                ``width``, ``height``, ``negative``, ``chunk`` (:data:`steer.settings.run_settings.SETTINGS`).

        Raises:
            SteerError: before anything is computed, if the arguments contradict each other.
        """
        with undisturbed():
            session = Session(
                self.model,
                self.plugins,
                methods=methods,
                reward=reward,
                judge=judge,
                options=options,
                particles=particles,
                run_seed=run_seed,
                choose=choose,
                observers=observers,
                shared=self.rewards,
                **settings,
            )
            rows = with_inputs(as_prompts(prompts), self.backbone.call_inputs, inputs or {}, self.model.name)
            items = session.stream(with_seed(rows, seed))
        self.last_cost = Cost()
        with closing(items):
            while True:
                with undisturbed():  # between the items the process is the caller's
                    item = next(items, None)
                if item is None:
                    return
                self.last_cost = session.cost
                yield item

    def sample(
        self,
        noise: torch.Tensor,
        prompts: str | Iterable[str],
        *,
        grad: bool = False,
        seed: int | None = None,
        run_seed: int = 0,
        **settings: Any,
    ) -> Any:
        """Turn initial noise into samples, without methods; with ``grad``, differentiably.

        Args:
            noise: standard normal ``[J·k, …]``, k rows for each of the J prompts, in order.
            prompts: J texts.
            grad: keep the graph from ``noise`` to the samples, the denoiser checkpointed.
            seed: see :meth:`stream`; decides the transitions' noise of stochastic samplers.
            run_seed: see :meth:`stream`.
            **settings: see :meth:`stream`.

        Returns:
            Samples ``[J·k, …]``; images are float ``[J·k, 3, H, W]`` in [0, 1], texts :class:`steer.plugin.Texts`.
        """
        rows = with_seed(as_prompts(prompts), seed)
        if len(noise) == 0 or len(noise) % len(rows):
            raise SteerError(f"noise has {len(noise)} rows, expected a multiple of the {len(rows)} prompts")
        given = {**settings, "particles": len(noise) // len(rows)}
        run = make_run(self.backbone, rows, settings=given, defaults=self.model.defaults, run_seed=run_seed)
        with undisturbed(), self.backbone.inference(), torch.set_grad_enabled(grad):
            return run.sample(noise=noise, grad=grad).samples
