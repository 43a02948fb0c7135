"""``Session``: methods, rewards and settings of one call, made once; it turns packs of prompts into items."""

import itertools
import time
from collections import deque
from collections.abc import Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from typing import Any

import torch

from steer.errors import SteerError
from steer.models.load import Model
from steer.prompts.prompt import Prompt, check_seed, text_id
from steer.registry.plugins import Plugins
from steer.results.cost import Cost
from steer.results.items import Item, Sample
from steer.rewards.by_name import (
    OptionValues,
    RewardSpec,
    check_judges,
    check_modalities,
    make_judges,
    make_reward,
    reward_list,
)
from steer.rewards.combinations import parts_of
from steer.rewards.isolation import undisturbed
from steer.rewards.reward import RewardFunction
from steer.sampling.checks import check_memory, warn_of_shared_noise
from steer.sampling.chosen_particles import CHOICES, chosen_of
from steer.sampling.chunks import Halved
from steer.sampling.hooks import make_run
from steer.sampling.methods_by_name import MethodSpec, check_owners, make_methods, method_list
from steer.sampling.packs import PACK_ROWS, Group, group_alike, pack_size
from steer.sampling.recipes import Recipes
from steer.sampling.run import Run
from steer.sampling.shared_memory import SharedMemory
from steer.sampling.state import State
from steer.sampling.trace import trace_of

WAVE = 64
"""Most packs whose texts are encoded before the first of them is sampled, if encoders and denoiser take turns."""


class Session:
    """Methods, reward, judges, options and settings, ready for any number of packs.

    Attributes:
        cost: of its packs so far.
        recipes: writes the recipes of its items.
    """

    def __init__(
        self,
        model: Model,
        plugins: Plugins,
        *,
        methods: Sequence[MethodSpec] | MethodSpec = (),
        reward: Sequence[RewardSpec] | RewardSpec | None = None,
        judge: Sequence[RewardSpec] | RewardSpec | None = None,
        options: OptionValues | None = None,
        particles: int | None = None,
        run_seed: int = 0,
        choose: str | None = None,
        observers: Iterable[object] = (),
        shared: dict[str, RewardFunction] | None = None,
        **settings: Any,
    ) -> None:
        """Make the rewards; weights that are not on this machine yet are fetched when the first pack begins.

        Args:
            plugins: the plugins to look up names in.
            methods: see :meth:`steer.sampling.sampler.Sampler.stream`, as for all others.
            shared: rewards by their labels, to take from and to add to; see :attr:`Sampler.rewards`.

        Raises:
            SteerError: if the arguments contradict each other for any prompt.
        """
        self.methods, self.reward, self.judge = method_list(methods), reward_list(reward), reward_list(judge)
        check_judges(self.reward, self.judge)
        if choose is not None and choose not in CHOICES:
            raise SteerError(f"choose={choose!r}: expected {', '.join(CHOICES)}")
        if choose == "best" and not self.reward:
            raise SteerError("choose='best' needs a reward; name one with --reward")
        check_seed(run_seed, "run_seed")
        self.model, self.backbone, self.plugins = model, model.backbone, plugins
        self.run_seed, self.observers = run_seed, tuple(observers)
        self.options = dict(options or {})
        self.settings = {**settings, "particles": particles}
        device = self.backbone.device
        check_modalities([*self.reward, *self.judge], self.backbone.modality, self.options, plugins)
        # planning fetches nothing
        self._scorer = make_reward(self.reward, self.options, plugins, device, shared, fetch=False)
        self._judges = make_judges(self.judge, self.options, plugins, device, shared, fetch=False)
        scorers = (self._scorer, *self._judges.values())
        found = itertools.chain.from_iterable(parts_of(scorer) for scorer in scorers if scorer is not None)
        self._rewards = list(dict.fromkeys(found))
        self._memory = SharedMemory(self.backbone, self._rewards)
        self._memory.settle()
        self.choose = choose or ("best" if self._scorer else "all")
        self.recipes = Recipes(
            model,
            methods=self.methods,
            reward=self.reward,
            judge=self.judge,
            scorer=self._scorer,
            choose=self.choose,
            run_seed=run_seed,
        )
        self.cost = Cost()
        self._ahead: Future[None] | None = None
        self._most_rows: int | None = None

    # ---- packs -----------------------------------------------------------------------------------------

    def run(self, pack: Sequence[Prompt]) -> Run:
        """Return a run over a pack of prompts with equal settings of their own."""
        first = pack[0]
        active = make_methods(self.methods, self.options_of(first), self.plugins)
        check_owners(self.options, active, [*self.reward, *self.judge])
        # a reward is loaded once, for all prompts
        check_owners(first.options, active, [])
        for scorer in (self._scorer, *self._judges.values()):
            if scorer is not None:
                pack = [scorer.completed(prompt) for prompt in pack]
        return make_run(
            self.backbone,
            pack,
            settings={**self.settings, **first.settings},
            defaults=self.model.defaults,
            methods=active,
            observers=[*self.observers, *self.backbone.observers()],
            reward=self._scorer,
            run_seed=self.run_seed,
            choose=self.choose,
            preview=self.model.preview,
        )

    def options_of(self, prompt: Prompt) -> dict[str, dict[str, Any]]:
        """Return a prompt's options: its own override those of the call."""
        merged = {owner: dict(table) for owner, table in self.options.items()}
        for owner, table in prompt.options.items():
            merged.setdefault(owner, {}).update(table)
        return merged

    def groups(self, prompts: Iterable[Prompt]) -> list[tuple[Group, Run]]:
        """Group prompts with equal settings; each group comes with a checked run that computes nothing.

        Raises:
            SteerError: for every mistake in the settings, before anything is computed; names the prompt if the
                setting is its own.
        """
        checked = []
        for group in group_alike(prompts):
            try:
                probe = self.run(group.prompts)
                probe.process()
                check_memory(probe)
            except SteerError as error:
                if group.settings or group.options:
                    prompt = group.prompts[0]
                    # the user's file does not have an id that was hashed from the text
                    name = str(prompt) if prompt.id.startswith(text_id(prompt)) else prompt.id
                    raise SteerError(f"prompt {name[:80]!r}: {error}") from error
                raise
            checked.append((group, probe))
        for _, probe in checked:
            warn_of_shared_noise(probe)
        return checked

    def packs(self, prompts: Iterable[Prompt]) -> list[tuple[Prompt, ...]]:
        """Split prompts into packs; raises as :meth:`groups` does."""
        return [pack for group, probe in self.groups(prompts) for pack in group.packs(pack_size_of(probe))]

    def stream(self, prompts: Iterable[Prompt]) -> Generator[Item, None, None]:
        """Yield each prompt's item as soon as its pack is done."""
        packs = self.packs(prompts)
        for run in self.encoded_ahead(map(self.run, packs)):
            yield from self.items(run)

    def encoded_ahead(self, runs: Iterable[Run]) -> Iterator[Run]:
        """Yield runs with their weights loaded; a thread encodes the texts of one while the device works on the one
        before."""
        runs = map(self._with_weights, runs)
        if self.backbone.offloaded:  # parts move between devices as they are called
            yield from runs
            return
        ahead = deque(itertools.islice(runs, 1))
        with ThreadPoolExecutor(1, "steer-text") as thread:
            while ahead and not self.backbone.crowded:
                ahead.extend(itertools.islice(runs, 1))  # its weights may crowd the device
                if len(ahead) > 1 and not self.backbone.crowded:
                    self._ahead = thread.submit(_encode, ahead[1])
                yield ahead.popleft()
                self._ahead = None
        while ahead:
            self._encode_wave(ahead, runs)
            while ahead:
                yield ahead.popleft()
            ahead.extend(itertools.islice(runs, 1))

    def _encode_wave(self, wave: deque[Run], runs: Iterator[Run]) -> None:
        """Encode the texts of a run and of as many others as the model keeps, so that its encoders come to the device
        once for all."""
        kept = self.backbone.encodings
        most = kept.encoded + kept.limit // 2
        _encode(wave[0])
        while len(wave) < WAVE and kept.encoded < most and (run := next(runs, None)) is not None:
            wave.append(run)
            _encode(run)

    def _with_weights(self, run: Run) -> Run:
        run.load_weights()
        self._memory.settle()
        for reward in self._rewards:
            if not reward.is_ready:
                reward.ready()
                self._memory.settle()
        return run

    def _relieve(self) -> bool:
        """Make room on the device; return whether there is more."""
        if self._ahead is not None:
            wait([self._ahead])
        return self._memory.relieve()

    # ---- one pack --------------------------------------------------------------------------------------

    def items(self, run: Run) -> list[Item]:
        """Sample a pack; one item per prompt, in order."""
        run.chunks.restarts, run.chunks.relieve, run.memory = True, self._relieve, self._memory
        if self._most_rows is not None:
            run.chunks.size = min(run.chunks.size, self._most_rows)
        try:
            with undisturbed(), self.backbone.inference(), _timed(run.cost):
                items = self._items(run, run.search())
        except Halved:
            # the packs to come need not find that out again, and this one is made by one size, as its recipe says
            self._most_rows = run.chunks.size
            items = None
        finally:
            if self._ahead is not None:  # nothing is at work while the caller looks at the items
                wait([self._ahead])
        self.cost = self.cost + run.cost
        if items is None:
            again = self._with_weights(self.run([job.prompt for job in run.jobs]))
            items = self.items(again)
            run.book(again)
        return items

    def _items(self, run: Run, state: State) -> list[Item]:
        with torch.no_grad():
            values = run.backbone.medium.values(state.samples)
            rewards = state.rewards() if run.reward is not None else None
            verdicts = {
                name: run.forwards.judge(judge, state.samples, state.prompts) for name, judge in self._judges.items()
            }
        items = []
        for index, job in enumerate(state.jobs):
            rows = state.rows_of(index)
            rows = rows[torch.argsort(state.slot[rows])]
            particles = tuple(
                Sample(
                    values[row],
                    int(state.slot[row]),
                    None if rewards is None else float(rewards[row]),
                    float(state.log_weight[row]),
                    {name: float(scores[row]) for name, scores in verdicts.items()},
                )
                for row in rows.tolist()
            )
            recipe = self.recipes.of(run, index, self.options_of(job.prompt), run.backbone.medium.size(values[0]))
            chosen = chosen_of(particles, self.choose, job)
            trace, modality = trace_of(state, index), run.backbone.modality
            items.append(Item(job.prompt, job.seed, particles, chosen, trace, recipe, modality))
        return items


def pack_size_of(run: Run, *, small: bool = False) -> int:
    """Return the number of prompts per pack for prompts like a run's; ``small`` packs just fill a chunk."""
    if not run.backbone.packs_prompts:
        return 1
    width, height = image_size(run)
    return pack_size(
        run.finalists or run.particles, run.chunks.size, width * height, run.chunks.size if small else PACK_ROWS
    )


def image_size(run: Run) -> tuple[int, int]:
    """Return width and height in pixels of the images that a run will make."""
    width, height = run.backbone.pixels(run.latent_shape)
    return run.get("width") or width, run.get("height") or height


def _encode(run: Run) -> None:
    """Encode a run's prompts into the backbone's memory; an error shows again when the run encodes them."""
    try:
        with torch.no_grad():
            run.encode()
    except Exception:
        return


@contextmanager
def _timed(cost: Cost) -> Iterator[None]:
    start = time.perf_counter()
    try:
        yield
    finally:
        cost.seconds += time.perf_counter() - start
