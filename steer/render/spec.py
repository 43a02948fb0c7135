"""What is rendered and how, as plain data that travels to workers."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from steer.errors import SteerError
from steer.prompts.prompt import Prompt, check_seed

if TYPE_CHECKING:  # pages are built without torch
    from steer.sampling.request import SamplingRequest

LAYOUTS = ("images", "geneval")

FORMAT = 2
"""Of ``run.toml``. In format 1 a forward without a chunk had at most 4 particles of a prompt on a CPU, else 16."""


@dataclass(frozen=True)
class Spec:
    """Everything that decides the images, besides the prompts.

    Attributes:
        request: what is asked of the sampler.
        replicates: independent samples per prompt.
        previews: at how many steps previews of x0 are kept for the page.
        run_format: of the ``run.toml`` that it goes on from (:data:`FORMAT`).
    """

    request: SamplingRequest
    replicates: int = 1
    previews: int = 0
    run_format: int = FORMAT


@dataclass(frozen=True)
class Task:
    """One prompt to render.

    Attributes:
        prompt: with the id that its files and its line in the journal go by.
        index: the place of its row among all rows, from 0.
        replicate: which drawing of that row it is, from 0.
    """

    prompt: Prompt
    index: int
    replicate: int


def tasks_of(prompts: Iterable[tuple[int, Prompt]], *, seed: int | None = None, replicates: int = 1) -> list[Task]:
    """Return the tasks that prompts stand for.

    Args:
        prompts: each with its place among all rows.
        seed: of prompts that have none of their own.
        replicates: how often each is drawn.

    The first drawing of a prompt is the one that it would have alone. The others have hashed seeds: the particles of
    seed s + 1 are those of seed s but one.

    Raises:
        SteerError: for a seed out of range, or fewer than one drawing.
    """
    from steer.processes.noise import hashed_seed

    if seed is not None:
        check_seed(seed, "seed")
    if replicates < 1:
        raise SteerError(f"replicates={replicates}: expected 1 or more")
    tasks = []
    for index, prompt in prompts:
        first = prompt if prompt.seed is not None or seed is None else prompt.having(seed=seed)
        tasks.append(Task(first, index, 0))
        for number in range(1, replicates):
            own = None if first.seed is None else hashed_seed("replicate", first.seed, prompt.id, number)
            tasks.append(Task(prompt.having(id=f"{prompt.id}.r{number + 1}", seed=own), index, number))
    return tasks
