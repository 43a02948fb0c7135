"""The symmetric flow as a noise process: the image half loses noise while the semantics half gains it."""

import torch
from torch import Tensor

from steer import SteerError
from steer.plugin import Streams, Transition, kernel_mean, kernel_sd, taking, transition_ends
from steer_symmflow import flow


class SymmetricFlow:
    """From (noise, semantics) at t=0 to (image, noise) at t=1, as a :class:`steer.processes.Process`.

    One count of the process is one evaluation of the network: a midpoint step has two, an RK4 step four. Particles may
    be resampled only if ``whole`` says that a step begins.

    With η > 0 the image half uses the stochastic kernel of its own Gaussian path, x = t·x0 + (1−(1−σ)·t)·noise. Given
    the other half, its marginals are those of the flow. The semantics half follows its velocity. A kernel may be an ODE
    over several evaluations (GLASS, arXiv 2509.25170).
    """

    def __init__(
        self, steps: int, solver: str, eta: float | None, transitions: int | None = None, shift: float = 1.0
    ) -> None:
        """Set the schedule.

        Args:
            steps: steps from t=0 to t=1.
            solver: one of :data:`steer_symmflow.flow.SOLVERS`.
            eta: stochasticity in [0, 1]; above 0 only with Euler; by default 1 with transitions, else 0.
            transitions: stochastic transitions that share the steps; by default one per step.
            shift: see :func:`steer_symmflow.flow.grid`.
        """
        if transitions is not None and eta == 0:
            raise SteerError(f"transitions={transitions} draw noise, and eta=0 allows none; leave eta out")
        eta = eta if eta is not None else 0.0 if transitions is None else 1.0
        if eta > 0 and solver != "euler":
            raise SteerError(f"eta={eta:g} needs --scheduler euler, got {solver}, which has no stochastic steps")
        self.solver, self.eta, self.stochastic = solver, eta, eta > 0
        self._grid, self._lengths = flow.grid(steps, shift)
        begins = zip(self._grid[:-1], self._lengths, strict=True)
        times = [t for begin, length in begins for t in flow.stages(solver, begin, length)]
        self._times = torch.tensor(times, dtype=torch.float32)
        self._floats = times
        self.index, self.length = 0, len(times)
        self._base: Tensor | None = None
        self._known: list[Tensor] = []
        self.transitions = transitions
        self._ends = transition_ends(0, self.length, transitions or self.length)
        self._under_way: Transition | None = None

    @property
    def _step(self) -> int:
        """The number of the step that is under way or comes next."""
        return self.index // len(flow.SOLVERS[self.solver])

    @property
    def done(self) -> bool:
        return self.index >= self.length

    @property
    def whole(self) -> bool:
        """Whether x is at the beginning of a step or transition, not within one."""
        return not self._known and self._under_way is None

    @property
    def time(self) -> float:
        """t of the next evaluation; 1 at the end."""
        return 1.0 if self.done else self._floats[self.index]

    @property
    def timestep(self) -> Tensor:
        return self._times[min(self.index, self.length - 1)]

    @property
    def level(self) -> tuple[float, float]:
        return _level(self.time)

    def prior(self, noise: Tensor) -> Tensor:
        return noise

    def model_input(self, x: Tensor) -> Tensor:
        return x

    def estimate(self, x: Tensor, prediction: Tensor) -> Tensor:
        return flow.estimate(x, prediction, self.time, 1.0)

    def step(self, x: Tensor, prediction: Tensor, streams: Streams) -> Tensor:
        if self.eta > 0:
            out = self._stochastic_step(x, prediction, streams)
        else:
            if self._base is None:
                self._base = x
            self._known.append(prediction)
            out = flow.combine(self._base, self._known, self.solver, self._lengths[self._step])
            if len(self._known) == len(flow.SOLVERS[self.solver]):
                self._base, self._known = None, []
        self.index += 1
        return out

    def select(self, rows: Tensor, count: int) -> None:
        take = taking(rows)
        self._base = None if self._base is None else take(self._base)
        self._known = [take(value) for value in self._known]
        if self._under_way is not None:
            self._under_way.select(take)

    def _stochastic_step(self, x: Tensor, prediction: Tensor, streams: Streams) -> Tensor:
        image, semantics = flow.split(x)
        expected, _ = flow.split(self.estimate(x, prediction))
        length = self._lengths[self._step]
        here, there = self.level, _level(self.time + length)
        end = next(end for end in self._ends if end > self.index)
        if self._under_way is None:
            noise = streams.normal(image.shape[1:], image.device)
            if end == self.index + 1:
                sd = kernel_sd(here, there, self.eta)
                image = kernel_mean(image, expected, here, there, sd) + sd * noise
            else:
                self._under_way = Transition(image, here, _level(self._grid[end]), self.eta)
                image = self._under_way.look(expected, there, noise)
        elif self.index + 1 < end:
            image = self._under_way.look(expected, there)
        else:
            image, self._under_way = self._under_way.end(expected), None
        _, v_m = flow.split(prediction)
        return flow.join(image, semantics + length * v_m)


def _level(t: float) -> tuple[float, float]:
    return t, 1 - (1 - flow.SIGMA) * t
