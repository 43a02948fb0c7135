"""``Spec`` and ``Task``: a render's settings and its prompts, as plain data that travel to workers."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from steer.errors import SteerError
from steer.prompts.prompt import Prompt, check_seed

if TYPE_CHECKING:  # pages are built without torch
    from steer.sampling.request import SamplingRequest

LAYOUTS = ("images", "geneval")

MAX_REPLICATES = 65_536

FORMAT = 2
"""Format of ``run.toml``. In format 1, the default chunk was at most 4 particles of a prompt on a CPU, else 16."""


@dataclass(frozen=True)
class Spec:
    """Everything that decides the images, except the prompts.

    Attributes:
        request: model, methods and settings.
        replicates: independent samples per prompt.
        previews: number of steps at which previews of x0 are kept for the page.
        run_format: of the ``run.toml`` that it resumes from (:data:`FORMAT`).
    """

    request: SamplingRequest
    replicates: int = 1
    previews: int = 0
    run_format: int = FORMAT


@dataclass(frozen=True)
class Task:
    """One prompt to render.

    Attributes:
        prompt: with the id that names its files and its line in the journal.
        index: number of its row among all rows, from 0.
        replicate: number of its sample of that row, from 0.
    """

    prompt: Prompt
    index: int
    replicate: int


def tasks_of(prompts: Iterable[tuple[int, Prompt]], *, seed: int | None = None, replicates: int = 1) -> list[Task]:
    """Return the tasks of prompts: one per replicate.

    Args:
        prompts: each with its row's number.
        seed: of prompts that have none of their own.
        replicates: independent samples per prompt.

    The first replicate is the sample that the prompt has alone. The others have hashed seeds, because the particles of
    seeds s and s + 1 are the same except one.

    Raises:
        SteerError: for a seed or a number of replicates out of range.
    """
    from steer.processes.noise import hashed_seed

    if seed is not None:
        check_seed(seed, "seed")
    if not 1 <= replicates <= MAX_REPLICATES:
        raise SteerError(f"replicates={str(replicates)[:60]}: expected 1..{MAX_REPLICATES}")
    tasks = []
    for index, prompt in prompts:
        first = prompt if prompt.seed is not None or seed is None else prompt.having(seed=seed)
        tasks.append(Task(first, index, 0))
        for number in range(1, replicates):
            own = None if first.seed is None else hashed_seed("replicate", first.seed, prompt.id, number)
            tasks.append(Task(prompt.having(id=f"{prompt.id}.r{number + 1}", seed=own), index, number))
    return tasks
