"""A population's calls of a pipeline: one call per so many rows, all paused at the same step."""

from __future__ import annotations

import copy
import functools
import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any

import torch
from torch import Tensor

from steer.errors import SteerError, message_of
from steer.models.device import out_of_memory
from steer.models.media.media import joined
from steer.models.stock.draws import Draws, Layout, drawn, size_of
from steer.models.stock.networks import Watched, skipped
from steer.models.stock.paused import Paused, ask
from steer.models.stock.signature import FILES, CallSignature
from steer.models.stock.stand_in import Step, result, stand_in
from steer.processes.noise import Streams


class Stopped(BaseException):
    """Unwinds a call whose rest is not wanted."""


class PausedCalls:
    """The calls ``pipe(**arguments)`` of a population of one prompt.

    Attributes:
        evaluations: see :class:`steer.models.stock.process.Calls`.
    """

    def __init__(
        self,
        pipe: Any,
        arguments: Callable[[Sequence[torch.Generator]], Mapping[str, Any]],
        samples: Callable[[Any], Any],
        most: int,
        shared: dict[Any, Any],
    ) -> None:
        """Take note of the call.

        Args:
            pipe: the pipeline; each call works on a shallow copy, because pipelines keep data of a call in themselves.
            arguments: returns the call's arguments for rows with the given generators.
            samples: turns the call's result into samples ``[B, …]``.
            most: rows that one call can have.
            shared: what is known of such calls from earlier ones, by its kind; added to.
        """
        self._pipe, self._arguments, self._samples, self._most, self._shared = pipe, arguments, samples, most, shared
        self.evaluations = 1
        self._size, self._count = 1, 0
        self._calls: list[Paused] = []
        self._seeds: list[int] = []
        self._encoded: dict[str, Any] = {}  # copies of this share it: all populations have one prompt

    @property
    def padding(self) -> int:
        """Rows that fill up the calls."""
        return len(self._calls) * self._size - self._count

    # ---- a population's way ----------------------------------------------------------------------------------

    def begin(self, scheduler: Any, streams: Streams, noise: Tensor | None, at_once: int) -> Step:
        """Begin the calls, the last filled up with copies of its last row."""
        generators = streams.generators
        self._size, self._count = min(at_once, self._most), len(generators)
        self._seeds = [generator.initial_seed() for generator in generators]
        self._scheduler = copy.deepcopy(scheduler)
        stand_in(scheduler, ask)
        self._calls, steps = [], []
        for begin in range(0, self._count, self._size):
            rows = range(begin, begin + self._size)
            own = [generators[row] if row < self._count else _copy(generators[-1]) for row in rows]
            part = None if noise is None else noise[torch.tensor(rows).clamp(max=self._count - 1).to(noise.device)]
            call = Paused(self._call(scheduler, own))
            self._calls.append(call)
            with Draws(own, part) as draws:
                try:
                    steps.append(self._step_of(call))
                except (ValueError, TypeError, AttributeError, RuntimeError) as error:
                    if out_of_memory(error):
                        raise
                    raise self._refused(error) from error
            self._shared.setdefault("layout", draws.layouts[0])
            if noise is not None and size_of(draws.layouts[0]) != noise.shape[1]:
                raise SteerError(
                    f"noise has {noise.shape[1]} numbers per row, and {type(self._pipe).__name__} draws "
                    f"{size_of(draws.layouts[0])}"
                )
        return Step.joined(steps).rows(torch.arange(self._count))

    def go_on(self, outcome: Any) -> Step:
        """Go on with every call."""
        return Step.joined([self._step_of(call, part) for call, part in self._parts(outcome)]).rows(
            torch.arange(self._count)
        )

    def act(self, step: Callable[[], Any]) -> Any:
        """Take the scheduler's step."""
        return step()

    def end(self, outcome: Any) -> Any | None:
        """Let every call finish; ``None`` if they have."""
        if not self._calls:
            return None
        results = []
        for call, part in self._parts(outcome):
            made = call.resume(part)
            if not call.over:
                raise SteerError(
                    f"{type(self._pipe).__name__} takes more steps than its schedule has; it cannot be steered"
                )
            results.append(self._samples(made))
        self._calls = []
        samples: Any = joined(results)[: self._count]
        return samples

    def select(self, rows: Tensor, count: int) -> None:
        """Follow the rows: copies stay in their calls; of calls whose rows left, as many end as are not needed."""
        if len(rows) > self._count:
            raise SteerError(
                f"a method added particles, and calls of {type(self._pipe).__name__} cannot; use a model family that "
                "steer predicts with"
            )
        if len(rows) < self._count:
            needed = math.ceil(len(rows) / self._size)
            # a call of one row is that row's; in larger ones rows move together
            keep = _own_places(rows.tolist(), self._count) if self._size == 1 else range(needed)
            kept = [self._calls[index] for index in keep] if self._calls else []
            for call in self._calls:
                if call not in kept:
                    call.close()
            self._calls, self._count = kept, len(rows)
            self._seeds = [self._seeds[row] for row in rows.tolist()]

    # ---- beside it -------------------------------------------------------------------------------------------

    def decode(self, x: Tensor, rows: Tensor) -> Any:
        """Call the pipeline again, without its networks, to have ``x`` decoded as it does."""
        size, made = self._size, []
        answers = self._shared[size]
        for begin in range(0, len(x), size):
            part = torch.arange(begin, begin + size).clamp(max=len(x) - 1)
            seeds = [self._seeds[min(int(rows[row]), len(self._seeds) - 1)] for row in part.tolist()]
            own = [torch.Generator().manual_seed(seed) for seed in seeds]
            latents = x[part.to(x.device)]

            def always(step: Step, latents: Tensor = latents) -> Any:
                return result(step.others, latents.to(step.sample))

            scheduler = stand_in(copy.deepcopy(self._scheduler), always)
            with skipped(self._pipe, answers):
                made.append(self._samples(self._call(scheduler, own)()))
        return joined(made)[: len(x)]

    def noise(self, scheduler: Any, streams: Streams) -> Tensor:
        """Draw what the rows' calls would, as a first call tells that is stopped before it denoises."""
        if "layout" not in self._shared:
            self._shared["layout"] = self._layout(scheduler)
        return drawn(self._shared["layout"], streams.generators).to(self._pipe._execution_device)

    def _layout(self, scheduler: Any) -> Layout:
        generator = torch.Generator().manual_seed(0)

        def stop(_: Step) -> Any:
            raise Stopped

        with Draws([generator]) as draws, suppress(Stopped):
            self._call(stand_in(scheduler, stop), [generator])()
        layout: Layout = draws.layouts[0]
        return layout

    def _refused(self, error: Exception) -> SteerError:
        """Return the error for a call that ended before its first step: mostly an input that is missing or unfit."""
        signature = CallSignature(type(self._pipe))
        files = [name for name, argument in signature.inputs.items() if argument.kind in FILES]
        takes = f"; it takes {', '.join(files)} (--input {files[0]}=FILE), which must fit each other" if files else ""
        arguments = self._arguments([torch.Generator()])
        names = [name for name in ("width", "height", *signature.inputs) if name in arguments and name not in files]
        got = f"; it got {', '.join(f'{name}={arguments[name]}' for name in names)}" if names else ""
        advice = "; change --size or --input" if names and not files else ""
        said = f"{type(error).__name__}: {message_of(error)}"
        return SteerError(f"{signature.name} cannot be called so: {said}{got}{takes or advice}")

    # ---- inside ----------------------------------------------------------------------------------------------

    def _call(self, scheduler: Any, generators: Sequence[torch.Generator]) -> Callable[[], Any]:
        view = with_scheduler(self._pipe, scheduler)
        if callable(getattr(view, "encode_prompt", None)):
            vars(view)["encode_prompt"] = remembering(view.encode_prompt, self._encoded)
        arguments = self._arguments(generators)
        return lambda: view(**arguments)

    def _step_of(self, call: Paused, answer: Any = None) -> Step:
        """Go on with a call to its next step, and count what it evaluates on the way."""
        watched = Watched(self._pipe)
        with watched():
            step: Step = call.resume(answer)
        if call.over:
            raise SteerError(
                f"{type(self._pipe).__name__} took no step of pipe.scheduler where one was expected: its loop cannot "
                "be steered"
            )
        if len(step.sample) != self._size:
            raise SteerError(
                f"{type(self._pipe).__name__} works on {len(step.sample)} latents for {self._size} particles: its loop "
                "cannot be steered"
            )
        self.evaluations = max(1, round(watched.rows / self._size))
        self._shared["evaluations"] = self.evaluations
        self._shared.setdefault(self._size, watched.answers)
        return step

    def _parts(self, outcome: Any) -> list[tuple[Paused, Any]]:
        """Return each call with its rows of a step's outcome."""
        parts = []
        for number, call in enumerate(self._calls):
            rows = torch.arange(number * self._size, (number + 1) * self._size).clamp(max=self._count - 1)
            parts.append((call, _rows_of(outcome, rows)))
        return parts


def with_scheduler(pipe: Any, scheduler: Any) -> Any:
    """Return a shallow copy of a pipeline with another scheduler, in pipelines within it too."""
    view = copy.copy(pipe)
    own = pipe.scheduler
    for name, part in list(vars(view).items()):
        if part is own:
            vars(view)[name] = scheduler
        elif getattr(part, "scheduler", None) is own and callable(part):
            vars(view)[name] = with_scheduler(part, scheduler)
    view._progress_bar_config = {"disable": True}
    return view


def remembering(function: Callable[..., Any], known: dict[str, Any]) -> Callable[..., Any]:
    """Return a function whose results are kept and given again for equal arguments, if those are plain data."""

    @functools.wraps(function)
    def call(*arguments: Any, **keywords: Any) -> Any:
        if not all(map(_is_plain, (*arguments, *keywords.values()))):
            return function(*arguments, **keywords)
        key = repr((arguments, sorted(keywords.items())))
        if key not in known:
            known[key] = function(*arguments, **keywords)
        return _cloned(known[key])

    return call


def _is_plain(value: Any) -> bool:
    if isinstance(value, list | tuple):
        return all(map(_is_plain, value))
    return value is None or isinstance(value, str | int | float | torch.device | torch.dtype)


def _cloned(value: Any) -> Any:
    """Return a copy of tensors: a pipeline may change its own in place."""
    if isinstance(value, list | tuple):
        return type(value)(map(_cloned, value))
    return value.clone() if isinstance(value, Tensor) else value


def _rows_of(outcome: Any, rows: Tensor) -> Any:
    def take(value: Any) -> Any:
        return value[rows.to(value.device)] if isinstance(value, Tensor) else value

    if isinstance(outcome, tuple):
        return tuple(map(take, outcome))
    return type(outcome)(**{name: take(value) for name, value in outcome.items()})


def _copy(generator: torch.Generator) -> torch.Generator:
    other = torch.Generator()
    other.set_state(generator.get_state())
    return other


def _own_places(sources: Sequence[int], count: int) -> list[int]:
    """Return distinct places, of ``count``, for rows that come from ``sources``; the first of copies has its own."""
    free = (place for place in range(count) if place not in sources)
    return [place if place not in sources[:index] else next(free) for index, place in enumerate(sources)]
