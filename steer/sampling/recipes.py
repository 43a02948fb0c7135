"""``Recipes``: what is written down of a session's items, so that each can be made again."""

import functools
from collections.abc import Mapping, Sequence
from typing import Any

from steer.models.device import dtype_of
from steer.models.downloads.checkpoints import sha256_of
from steer.models.load import Model
from steer.models.stock.inputs import recorded
from steer.registry.local_files import is_file_reference
from steer.results.recipe import Recipe, sampler_name, versions
from steer.rewards.by_name import RewardSpec, spec_name
from steer.rewards.combinations import WeightedSum, named_parts
from steer.rewards.expressions import leaves, parse_expression
from steer.rewards.reward import RewardFunction
from steer.sampling.hooks import methods_of
from steer.sampling.methods_by_name import MethodSpec
from steer.sampling.run import Run
from steer.settings.paths import existing


class Recipes:
    """Writes the recipes of one session; digests of files and weights are taken once."""

    def __init__(
        self,
        model: Model,
        *,
        methods: Sequence[MethodSpec],
        reward: Sequence[RewardSpec],
        judge: Sequence[RewardSpec],
        scorer: WeightedSum | None,
        choose: str,
        run_seed: int,
    ) -> None:
        """Args:
        scorer: made from ``reward``.
        """
        self._model, self._scorer = model, scorer
        self._methods, self._reward, self._judge = tuple(methods), tuple(reward), tuple(judge)
        self._choose, self._run_seed = choose, run_seed

    def of(self, run: Run, index: int, options: Mapping[str, Mapping[str, Any]], size: Mapping[str, int]) -> Recipe:
        """Return the recipe of a run's prompt.

        Args:
            options: the prompt's, by owner; what methods resolved of theirs is added.
            size: of what was made, by name (``width``, ``height``, …).
        """
        job, backbone = run.jobs[index], run.backbone
        # the size of what a call made is no argument that makes it again
        settings = {**run.settings, **(size if backbone.predicts else {})}
        prompt, dtype = job.prompt, dtype_of(backbone.denoisers["base"])
        metadata, named = recorded(prompt.metadata)
        specs = [*self._methods, *self._reward]
        return Recipe(
            model=self._model.name,
            model_options=self._model.options.as_dict(),
            files=self._files,
            weights={**self.model_weights(run), **self._judgment},
            prompt={
                "text": str(prompt),
                "id": prompt.id,
                "category": prompt.category,
                "seed": job.seed,
                "metadata": metadata,
            },
            settings=settings,
            methods=[spec_name(spec) for spec in self._methods],
            reward=[spec_name(spec) for spec in self._reward],
            options=_resolved(run, index, options),
            choose=self._choose,
            run_seed=self._run_seed,
            device=backbone.device.type,
            dtype=str(dtype).removeprefix("torch."),
            versions=versions(),
            sampler=sampler_name(settings.get("scheduler"), backbone.scheduler),
            replayable=named and all(isinstance(spec, str) for spec in specs),
            judge=[spec for spec in self._judge if isinstance(spec, str)],
            cfg_setting=backbone.cfg_setting,
        )

    def model_weights(self, run: Run) -> dict[str, str]:
        """Return digests of the model's parts and, if a method brings one, of the denoiser that a run computes with."""
        denoiser = str(run.get("denoiser"))
        file = run.backbone.denoisers.file_of(denoiser)
        return {**self._model.weights, **({} if file is None else {denoiser: sha256_of(file)})}

    @functools.cached_property
    def _judgment(self) -> dict[str, str]:
        return {} if self._scorer is None else digests("reward", self._scorer)

    @functools.cached_property
    def _files(self) -> dict[str, str]:
        return {**self._model.files, **code_of(self._methods, self._reward)}


def digests(kind: str, scorer: RewardFunction) -> dict[str, str]:
    """Return digests of the weights of a reward's parts; names tell the precision, which is another one on another
    device.

    Args:
        kind: what names begin with.
    """
    found = ((name, part.digest()) for name, part in named_parts("", scorer))
    return {f"{kind} {name} in {digest[0]}": digest[1] for name, digest in found if digest is not None}


def code_of(methods: Sequence[MethodSpec], rewards: Sequence[RewardSpec]) -> dict[str, str]:
    """Return the SHA-256 of each local file of code that methods and rewards name."""
    names = [spec.partition(":")[0] for spec in methods if isinstance(spec, str)]
    names += [term.name for spec in rewards if isinstance(spec, str) for term in leaves(parse_expression(spec))]
    places = {name: existing(name) for name in names if is_file_reference(name)}
    return {name: sha256_of(place) for name, place in places.items() if place is not None}


def _resolved(run: Run, index: int, options: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    found = {owner: dict(table) for owner, table in options.items()}
    for method in methods_of(run):
        resolved = method.replay_options(index)
        if resolved:
            found.setdefault(method.name, {}).update(resolved)
    return found
