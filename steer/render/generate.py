"""Sampling prompts into a folder for ``steer generate``: finished items stay if it ends early; it does not resume."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Protocol

from steer.errors import SteerError
from steer.prompts.prompt import Prompt
from steer.results.baseline_sheet import comparison
from steer.results.cost import Cost
from steer.results.folder import OutputFolder
from steer.results.items import Item
from steer.results.names import PLAIN, comparison_name
from steer.sampling.request import SamplingRequest
from steer.sampling.sampler import Sampler


class GenerationWatcher(Protocol):
    """Sees the progress, and may end it by raising."""

    def part(self, prompts: int, label: str) -> AbstractContextManager[Sequence[object]]:
        """Return a context around ``count`` prompts that gives observers of their runs."""

    def written(self) -> None:
        """An item is written, and another follows."""

    def stopped(self, done: int, prompts: int, place: str) -> None:
        """An error or Ctrl-C ended it; the prompts finished before are kept in ``place``."""


@dataclass(frozen=True)
class Generated:
    """The items that were made, and their cost.

    Attributes:
        items: in the prompts' order.
        plain: the same prompts without methods, if requested.
        cost: of the items.
        data: the content of ``result.json``.
    """

    items: list[Item]
    plain: list[Item]
    cost: Cost
    data: dict[str, Any]


def generate(
    prompts: Sequence[Prompt],
    request: SamplingRequest,
    place: str,
    watcher: GenerationWatcher,
    *,
    baseline: bool = False,
    drawn_from: Collection[str] = (),
    force: bool = False,
) -> Generated:
    """Sample prompts into a folder, every item written as soon as it is finished.

    Args:
        prompts: the prompts.
        request: model, methods and settings.
        place: a path or an fsspec URL.
        watcher: sees the progress.
        baseline: also sample the prompts without methods, into ``plain`` there, and compare.
        drawn_from: the inputs that stand in for prompts, if any.
        force: replace the results of an earlier run in the folder.

    Raises:
        SteerError: for settings that contradict each other, a model that reads none of the inputs, or a
            folder that holds results or is in use.
    """
    folder = OutputFolder(place)
    with folder.claimed([prompt.id for prompt in prompts], force=force):
        return _generate(prompts, request, folder, watcher, baseline, drawn_from)


def _generate(
    prompts: Sequence[Prompt],
    request: SamplingRequest,
    folder: OutputFolder,
    watcher: GenerationWatcher,
    baseline: bool,
    drawn_from: Collection[str],
) -> Generated:
    plain_folder = OutputFolder(folder.storage.url(PLAIN)) if baseline else None
    sampler = request.sampler()
    if drawn_from and not sampler.backbone.inputs & set(drawn_from):
        named = " or ".join(f"--{name}" for name in drawn_from)
        raise SteerError(f"model {request.model!r} does not draw from {named}; give a PROMPT too, or another --model")
    label = "steering" if request.methods else "sampling"
    items, cost = _sampled(sampler, prompts, request, folder, watcher, label)
    if plain_folder is None:
        return Generated(items, [], cost, folder.finish(cost))
    try:
        same = [without_methods(item) for item in items]
        plain, plain_cost = _sampled(sampler, same, request.unsteered(), plain_folder, watcher, "plain")
    except BaseException:  # the steered items are finished, even if their baseline is not
        folder.finish(cost, complete=False)
        raise
    plain_folder.finish(plain_cost)
    folder.write_bytes(comparison_name(items[0].medium), comparison(plain, items, _steered_by(request)))
    rows = [
        {"id": item.prompt.id, "mean_reward": item.mean_reward, "reward": item.reward, "judge": dict(item.judge)}
        for item in plain
    ]
    return Generated(items, plain, cost, folder.finish(cost, baseline=rows, baseline_cost=plain_cost.as_dict()))


def _sampled(
    sampler: Sampler,
    prompts: Sequence[Prompt],
    request: SamplingRequest,
    folder: OutputFolder,
    watcher: GenerationWatcher,
    label: str,
) -> tuple[list[Item], Cost]:
    """Sample and write prompts; return their items in order, and the cost."""
    items: list[Item] = []
    try:
        with watcher.part(len(prompts), label) as observers:
            for item in sampler.stream(prompts, seed=request.seed, observers=observers, **request.arguments()):
                folder.write(item)
                items.append(item)
                if len(items) < len(prompts):  # items that finished despite it are complete
                    watcher.written()
    except BaseException:
        if items:  # Ctrl-C or an error in the middle: finished items stay, with their sheet and result.json
            folder.finish(sampler.last_cost, complete=False)
            watcher.stopped(len(items), len(prompts), folder.storage.name)
        raise
    order = {prompt.id: number for number, prompt in enumerate(prompts)}
    return sorted(items, key=lambda item: order[item.prompt.id]), sampler.last_cost


def without_methods(item: Item) -> Prompt:
    """Return an item's prompt for a plain run, with its seed and the settings that its methods chose."""
    settings = {name: value for name, value in item.recipe.settings.items() if value is not None}
    return item.prompt.having(seed=item.seed, settings=settings, options={})


def _steered_by(request: SamplingRequest) -> str:
    methods = " + ".join(map(str, request.methods)) or "again plain"
    rewards = " + ".join(map(str, request.reward))
    return f"{methods} by {rewards}" if rewards else methods
