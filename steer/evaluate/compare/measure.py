"""``Measurer``: samples one entry and measures rewards, verdicts, spread and cost, one row per sample."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from PIL import Image

from steer.errors import RewardError
from steer.evaluate.compare.budgets import Spent
from steer.evaluate.compare.embedding import Embed, spread
from steer.evaluate.compare.memory import PeakMemory
from steer.evaluate.compare.spec import Entry
from steer.models.device import dtype_name, dtype_of
from steer.prompts.prompt import Prompt
from steer.render.spec import Task
from steer.results.cost import exact
from steer.results.items import Item
from steer.rewards.by_name import OptionValues, RewardSpec, make_judges, make_reward
from steer.rewards.combinations import WeightedSum
from steer.sampling.method import acting_hooks
from steer.sampling.methods_by_name import make_methods
from steer.sampling.recipes import code_of, digests
from steer.sampling.sampler import Sampler
from steer.sampling.session import Session, image_size

Row = dict[str, Any]

COST = ("nfe", "backwards", "decodes", "reward_calls", "padding", "seconds", "memory_mb")
"""Fields of a row with what it cost."""


@dataclass(frozen=True)
class Settings:
    """The settings that all entries share.

    Attributes:
        reward: expressions that steer.
        judges: expressions that are only reported; the first one decides.
        options: of rewards and judges, by owner.
        run: settings of the run, such as ``steps``, unless an entry or its methods set others.
        run_seed: from it and the prompts' ids the seeds are hashed.
        clock: ``"wall"``, or ``"cpu"`` for the process's processor time, which other processes do not lengthen.
        embedding: of images, for their spread; ``None`` for none.
    """

    reward: Sequence[RewardSpec]
    judges: Sequence[RewardSpec]
    options: OptionValues = field(default_factory=dict)
    run: dict[str, Any] = field(default_factory=dict)
    run_seed: int = 0
    clock: str = "wall"
    embedding: Embed | None = None


@dataclass(frozen=True)
class Measured:
    """A row, and a picture of its sample; a text stands in the row itself."""

    row: Row
    image: Image.Image | None


class Measurer:
    """Samples entries of one model, judged alike."""

    def __init__(self, sampler: Sampler, settings: Settings) -> None:
        """Load reward and judges, once for all entries; the settings of all become the model's defaults."""
        self.model = replace(sampler.model, defaults={**sampler.model.defaults, **settings.run})
        self.settings, self.plugins = settings, sampler.plugins
        device = sampler.backbone.device
        self._reward = make_reward(settings.reward, settings.options, self.plugins, device)
        self._judges = make_judges(settings.judges, settings.options, self.plugins, device)
        self._memory = PeakMemory(device)
        self._clock: Callable[[], float] = time.process_time if settings.clock == "cpu" else time.perf_counter

    def session(self, entry: Entry) -> Session:
        """Return an entry's session.

        The samples of a method that only configures, such as a student, are not chosen. Like plain ones they get no
        reward while they are made, and all count.
        """
        steers = bool(acting_hooks(make_methods(entry.methods, entry.options, self.plugins)))
        choose, reward = entry.choose, self._reward
        if choose is None:
            choose = "best" if steers else "all"
        if not steers and choose == "all":
            reward = None
        return Session(
            self.model,
            self.plugins,
            methods=list(entry.methods),
            reward=None if reward is None else [reward],
            options=entry.options,
            run_seed=self.settings.run_seed,
            choose=choose,
            **{"particles": None, **entry.settings},
        )

    def fits(self, row: Row) -> bool:
        """Whether a row from a file has scores of this reward and these judges."""
        return row["judge"].keys() == self._judges.keys() and (row["rewards"] is None) == (self._reward is None)

    def check(self, prompts: Sequence[Prompt]) -> None:
        """Raise for a prompt that a reward or judge cannot read, before anything is sampled.

        A noise sample is scored for this. Its score does not count; only a mistake that a reward reports does.

        Raises:
            SteerError: naming it.
        """
        backbone = self.model.backbone
        samples = backbone.medium.probe(image_size(self.session(Entry("", "")).run(prompts[:1])), backbone.device)
        rewards = [reward for reward in (self._reward, *self._judges.values()) if reward is not None]
        for reward in rewards:
            for prompt in prompts:
                with torch.no_grad(), suppress(RewardError):
                    reward(samples, [prompt])

    def sources(self, entry: Entry, prompt: Prompt) -> dict[str, str]:
        """Return digests, by name, of the weights and local files that an entry's samples and scores come from.

        Names of weights tell their precision, on which their digests depend.

        Raises:
            SteerError: if weights that a method brings cannot be read.
        """
        session = self.session(entry)
        run = session.run([prompt])
        run.load_weights()
        precision = dtype_name(dtype_of(run.backbone.denoisers["base"]))
        found = {f"{name} in {precision}": digest for name, digest in session.recipes.model_weights(run).items()}
        found |= {**self.model.files, **code_of(entry.methods, [*self.settings.reward, *self.settings.judges])}
        judges = {f"judge {name}": judge for name, judge in self._judges.items()}
        for name, scorer in {"reward": self._reward, **judges}.items():
            found |= {} if scorer is None else digests(name, scorer)
        return found

    def packs(self, entry: Entry, tasks: Sequence[Task]) -> list[list[Task]]:
        """Return the tasks as an entry samples them together."""
        by_id = {task.prompt.id: task for task in tasks}
        packs = self.session(entry).packs([task.prompt for task in tasks])
        return [[by_id[prompt.id] for prompt in pack] for pack in packs]

    def fills(self, entry: Entry, task: Task) -> bool:
        """Whether an entry's particles for one prompt fill whole batches, so that nothing is padded."""
        run = self.session(entry).run([task.prompt])
        return all(rows % run.chunks.size == 0 for rows in (run.particles, run.finalists or run.particles))

    def trial(self, entry: Entry, tasks: Sequence[Task]) -> Spent:
        """Sample some tasks and return the cost per prompt."""
        rows = [measured.row for measured in self.rows(entry, tasks, scored=False)]
        return Spent(float(np.mean([row["nfe"] for row in rows])), float(np.mean([row["seconds"] for row in rows])))

    def rows(self, entry: Entry, tasks: Sequence[Task], *, scored: bool = True) -> Iterator[Measured]:
        """Sample tasks, yielding each as soon as its pack is done.

        The clock excludes loading weights, encoding texts, judges and embeddings. A prompt's cost is its part of its
        pack's.
        """
        session = self.session(entry)
        by_id = {task.prompt.id: task for task in tasks}
        for pack in session.packs([task.prompt for task in tasks]):
            run = session.run(pack)
            run.load_weights()
            with torch.no_grad():
                run.encode()
            self._memory.start()
            began = self._clock()
            items = session.items(run)
            seconds, memory = (self._clock() - began) / len(items), self._memory.megabytes()
            booked = {name: value for name, value in run.cost.as_dict().items() if name not in ("nfe", "seconds")}
            cost = {name: value / len(items) for name, value in booked.items()}
            for index, item in enumerate(items):
                row = _address(by_id[item.prompt.id], item)
                if scored:
                    row |= self._scores(item, session.choose)
                row |= {**cost, "nfe": exact(float(run.spent[index])), "seconds": seconds, "memory_mb": memory}
                value = item.samples[item.chosen[0]].value
                yield Measured({**row, **item.medium.facts(value)}, item.medium.picture(value))

    def _scores(self, item: Item, choose: str) -> Row:
        samples = item.medium.samples([sample.value for sample in item.samples], self.model.backbone.device)
        chosen = list(item.chosen)
        judges = {name: _scored(judge, samples, item) for name, judge in self._judges.items()}
        rewards = [sample.reward for sample in item.samples if sample.reward is not None]
        if not rewards and self._reward is not None:
            rewards = _scored(self._reward, samples, item)
        row: Row = {
            "choose": choose,
            "judge": {name: _mean(values, chosen) for name, values in judges.items()},
            "judges": judges,
            "reward": _mean(rewards, chosen) if rewards else None,
            "rewards": rewards or None,
            "chosen": chosen,
            "ancestors": item.trace["unique_ancestors"],
        }
        if self.settings.embedding is not None and item.medium.pictured:
            found = self.settings.embedding(item.medium.stills(samples))
            row["spread"] = spread(found)
            row["embedding"] = [round(float(value), 5) for value in found[chosen[0]]]
        return row


def _address(task: Task, item: Item) -> Row:
    return {
        "id": item.prompt.id,
        "index": task.index,
        "replicate": task.replicate,
        "prompt": str(item.prompt),
        "category": item.prompt.category,
        "seed": item.seed,
    }


def _scored(reward: WeightedSum, samples: Any, item: Item, batch: int = 16) -> list[float]:
    scores: list[float] = []
    with torch.no_grad():
        for start in range(0, len(samples), batch):
            part = samples[start : start + batch]
            scores += reward(part, [item.prompt] * len(part)).tolist()
    return scores


def _mean(values: Sequence[float], rows: Sequence[int]) -> float:
    return float(np.mean([values[row] for row in rows]))
