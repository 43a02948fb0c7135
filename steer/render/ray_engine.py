"""``RayEngine``: renders on many GPUs and machines by Ray actors that pull packs."""

from __future__ import annotations

import logging
import os
import socket
import sys
import warnings
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from threading import Event
from typing import Any

from steer.errors import SteerError
from steer.prompts.prompt import Prompt
from steer.registry.local_files import LOCAL
from steer.render.engine import Engine, Pack, PlannedGroup
from steer.render.outcomes import Failed, Outcome, Rendered
from steer.render.spec import Spec
from steer.sampling.packs import halves

AHEAD = 2
"""Packs per worker: the current one and the next, so that it does not wait for the driver."""

TRIES = 3
"""Deaths of workers by one pack before it is split, or before it fails if it is one prompt."""

CPU_WORKERS = 2
"""Default number of workers without a GPU."""

STORE_BYTES = 512 * 2**20
"""Size of Ray's object store on this machine, which holds finished packs on their way to the driver."""


@dataclass(frozen=True)
class _Mistake:
    """A user's mistake that a worker found; an exception would arrive with a traceback around it."""

    text: str


class Worker:
    """The content of an actor: a local engine, and threads that encode."""

    def __init__(self, spec: Spec, folder: str, threads: int | None) -> None:
        """Args: spec: what is rendered; folder: the driver's, for local files; threads: of torch on the CPU."""
        self._spec, self._folder, self._threads = spec, folder, threads
        self._engine: Any = None

    def load(self) -> _Mistake | None:
        """Load the model and the rewards."""
        if Path(self._folder).is_dir():
            os.chdir(self._folder)
        if self._threads is not None:
            import torch

            torch.set_num_threads(self._threads)
        from steer.render.local import LocalEngine

        try:
            self._engine = LocalEngine(self._spec, small_packs=True)
        except SteerError as error:
            return _Mistake(str(error))
        return None

    def plan(self, prompts: Sequence[Prompt]) -> _Mistake | tuple[list[PlannedGroup], str, bool]:
        """Plan; return the groups, the dtype and whether a method searches."""
        try:
            groups = self._engine.plan(prompts)
        except SteerError as error:
            return _Mistake(str(error))
        return groups, self._engine.dtype, self._engine.searching

    def render(self, pack: Pack) -> _Mistake | list[Rendered | Failed]:
        """Render a pack; finished items are encoded while the others are computed."""
        if self._engine is None:  # this machine may lack files that the others have
            mistake = self.load()
            if mistake:
                return _Mistake(f"{mistake.text} (on {socket.gethostname()})")
        with ThreadPoolExecutor(4) as pool:
            waiting = [
                outcome if isinstance(outcome, Failed) else pool.submit(outcome)
                for outcome in self._engine.outcomes([pack], Event())
            ]
            return [outcome if isinstance(outcome, Failed) else outcome.result() for outcome in waiting]


@dataclass
class _Pull:
    """A pack in the queue or in work, and how many workers died of it."""

    pack: Pack
    deaths: int = 0


class RayEngine(Engine):
    """One actor per GPU, or a few CPU workers. A worker that dies is replaced, and its packs are rendered again."""

    def __init__(self, spec: Spec, *, address: str | None = None, workers: int | None = None) -> None:
        """Start Ray, or connect to a cluster, and load the model in every worker.

        Args:
            spec: what is rendered; files that it names must be on every machine under the same path.
            address: of a running cluster (``"auto"``, ``"host:port"``, ``"ray://…"``); by default this machine.
            workers: how many; by default one per GPU, or :data:`CPU_WORKERS`.

        Raises:
            SteerError: if Ray is not installed or cannot be reached, or the model cannot be loaded.
        """
        if not isinstance(spec.request.model, (str, Path)):
            raise SteerError("ray loads the model in every worker: give it by name or folder, not in memory")
        self._ray = _import_ray()
        self._mine = not self._ray.is_initialized()
        if self._mine:
            _start(self._ray, address, workers)
        send_local_files(self._ray)
        resources = self._ray.cluster_resources()
        gpus = 0 if spec.request.device == "cpu" else int(resources.get("GPU", 0))
        count = worker_count(workers, gpus, int(resources.get("CPU", 1)))
        threads = None if gpus else max(1, int(resources.get("CPU", 1)) // count)
        # Ray must not replace a worker: only this class knows its packs
        options = {"num_gpus": 1 if gpus else 0, "num_cpus": 1, "max_restarts": 0, "max_task_retries": 0}
        actor = self._ray.remote(Worker)
        self._make = lambda: actor.options(**options).remote(spec, str(Path.cwd()), threads)
        self._workers = [self._make() for _ in range(count)]
        self._loading = [worker.load.remote() for worker in self._workers]
        self.dtype, self.searching = spec.request.dtype or "", False

    def plan(self, prompts: Sequence[Prompt]) -> list[PlannedGroup]:
        try:
            (first,), _ = self._ray.wait(self._loading, num_returns=1)
            self._answer(first)
            worker = self._workers[self._loading.index(first)]
            groups, self.dtype, self.searching = self._answer(worker.plan.remote(list(prompts)))
        except self._ray.exceptions.RayError as error:
            raise SteerError(f"a Ray worker died while it loaded the model: {_first_line(error)}") from error
        return list(groups)

    def outcomes(self, packs: Sequence[Pack], stop: Event) -> Iterator[Outcome]:
        waiting = deque(_Pull(pack) for pack in packs)
        running: dict[Any, tuple[int, _Pull]] = {}
        while running or (waiting and not stop.is_set()):
            if not stop.is_set():
                self._feed(waiting, running)
            ready, _ = self._ray.wait(list(running) or self._loading, timeout=0.5)
            for reference in ready:
                if reference not in running:
                    continue
                place, pull = running.pop(reference)
                try:
                    results = self._ray.get(reference)
                except self._ray.exceptions.RayTaskError:
                    raise
                except self._ray.exceptions.RayError as error:
                    warnings.warn(f"a Ray worker died ({_first_line(error)}); another takes its place", stacklevel=2)
                    yield from self._replace(place, pull, waiting, running)
                    continue
                if isinstance(results, _Mistake):
                    raise SteerError(results.text)
                for result in results:
                    yield result if isinstance(result, Failed) else _given(result)

    def close(self) -> None:
        for worker in self._workers:
            self._ray.kill(worker)
        if self._mine:
            self._ray.shutdown()

    def _feed(self, waiting: deque[_Pull], running: dict[Any, tuple[int, _Pull]]) -> None:
        """Give every worker that has loaded its next packs, those with the fewest first."""
        loaded, _ = self._ray.wait(self._loading, num_returns=len(self._loading), timeout=0)
        loads = {place: 0 for place, loading in enumerate(self._loading) if loading in loaded}
        for place, _ in running.values():
            loads[place] = loads.get(place, 0) + 1
        while waiting and loads and min(loads.values()) < AHEAD:
            place = min(loads, key=lambda place: loads[place])
            pull = waiting.popleft()
            running[self._workers[place].render.remote(pull.pack)] = (place, pull)
            loads[place] += 1

    def _replace(
        self, place: int, died: _Pull, waiting: deque[_Pull], running: dict[Any, tuple[int, _Pull]]
    ) -> Iterator[Failed]:
        """Start another worker in a dead one's place; its packs go back to the front of the queue."""
        for reference in [reference for reference, (other, _) in running.items() if other == place]:
            waiting.appendleft(running.pop(reference)[1])
        died.deaths += 1
        if died.deaths < TRIES:
            waiting.appendleft(died)
        elif len(died.pack) > 1:
            waiting.extendleft(_Pull(half) for half in halves(died.pack))
        else:
            yield Failed(died.pack[0].id, f"{TRIES} workers died of it; run it alone with --engine local to see why")
        self._workers[place] = self._make()
        self._loading[place] = self._workers[place].load.remote()

    def _answer(self, reference: Any) -> Any:
        answer = self._ray.get(reference)
        if isinstance(answer, _Mistake):
            raise SteerError(answer.text)
        return answer


def worker_count(asked: int | None, gpus: int, cpus: int) -> int:
    """Return how many workers to start: no more than there are GPUs, or CPUs without them, for the others would wait
    for ever."""
    count = asked or gpus or min(CPU_WORKERS, cpus)
    most, what = (gpus, "GPUs") if gpus else (max(1, cpus), "CPUs")
    if count > most:
        warnings.warn(f"{count} workers were asked for, but Ray has {most} {what}: {most} are started", stacklevel=3)
    return min(count, most)


def _given(result: Rendered) -> Outcome:
    return lambda: result


def send_local_files(ray: Any) -> None:
    """Send objects of local files by value: workers cannot import these files by their names here."""
    for name, module in list(sys.modules.items()):
        if name.startswith(LOCAL):
            ray.cloudpickle.register_pickle_by_value(module)


def _import_ray() -> Any:
    # read when Ray is imported or started: no usage data are sent, and workers, which are the machine's main load,
    # run at normal priority
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_worker_niceness", "0")
    os.environ.setdefault("RAY_raylet_start_wait_time_s", "300")  # a busy machine takes longer to start
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    try:
        import ray
    except ImportError:
        raise SteerError("--engine ray needs Ray; pip install 'steer-diffusion[ray]'") from None
    return ray


def _start(ray: Any, address: str | None, workers: int | None) -> None:
    quiet = {"log_to_driver": False, "logging_level": logging.ERROR}
    try:
        if address is not None:
            ray.init(address=address, **quiet)
            return
        # as many CPUs as workers: they wait for the device, or the user chose their number
        cpus = max(os.cpu_count() or 1, workers or 1)
        ray.init(address="local", include_dashboard=False, num_cpus=cpus, object_store_memory=STORE_BYTES, **quiet)
    except Exception as error:  # Ray may raise anything, bare Exception too
        where = f"the Ray cluster at {address}" if address else "Ray on this machine"
        raise SteerError(f"{where} cannot be reached: {_first_line(error)}") from error


def _first_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines[0] if lines else type(error).__name__)[:200]
