"""Block diffusion by canvases (DiffusionGemma): a canvas of random tokens is denoised, appended, and the next begun."""

from __future__ import annotations

import copy
import inspect
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from steer.plugin import Streams

UNWRITTEN = -1
"""Stands in ``x`` for tokens of canvases that are yet to begin."""


@dataclass(frozen=True)
class Plan:
    """How canvases are denoised; as in diffusers' ``DiffusionGemmaPipeline.__call__``.

    Attributes:
        canvas: tokens of a canvas.
        canvases: how many.
        steps: denoising steps a canvas, at most.
        words: tokens there are.
        end: the end token's number: a canvas with it is the last. ``None`` writes them all.
        temperature: of the draws, for schedulers that take one.
        stable: steps that the likeliest tokens must stay the same, for a canvas to be done early.
        confident: mean entropy a token, in nats, below which it is; ``None`` takes all steps.
    """

    canvas: int
    canvases: int
    steps: int
    words: int
    end: int | None
    temperature: float
    stable: int
    confident: float | None


@dataclass
class _Row:
    """One particle: its canvas, its step there, its scheduler, what was predicted before, and whether it is done."""

    scheduler: Any
    history: Tensor
    canvas: int = 0
    step: int = 0
    before: Tensor | None = None
    done: bool = False


class CanvasDiffusion:
    """Canvases one after another as a :class:`steer.processes.Process`, for particles of one prompt.

    States are int64 ``[N, canvases·canvas]``, :data:`UNWRITTEN` where no canvas has begun. Each particle goes at its
    own pace, as it would alone, with a scheduler of its own. The model conditions on its last prediction: its input is
    fp32 ``[N, 2 + canvases·canvas + canvas·words]``, the number of the canvas, whether there is a last prediction, the
    tokens, and that prediction. Predictions are logits of the canvas, ``[N, canvas, words]``.
    """

    def __init__(self, scheduler: Any, plan: Plan, device: torch.device | str = "cpu") -> None:
        """Args: scheduler: a fresh one whose steps are set; plan: how; device: of tokens."""
        self._prototype, self.plan, self._device = scheduler, plan, device
        self._keywords = set(inspect.signature(scheduler.step).parameters)
        self._index = 0
        self._rows: list[_Row] = []

    @property
    def index(self) -> int:
        return self._index

    @property
    def length(self) -> int:
        return max(self._index, self.plan.steps * self.plan.canvases)

    @property
    def done(self) -> bool:
        return bool(self._rows) and all(row.done for row in self._rows)

    @property
    def whole(self) -> bool:
        return True

    @property
    def timestep(self) -> Tensor:
        return torch.tensor(float(self.length - self._index), device=self._device)

    @property
    def level(self) -> tuple[float, float]:
        share = self._index / self.length
        return share, 1 - share

    @property
    def stochastic(self) -> bool:
        return True  # canvases begin with random tokens, and are renoised on the way

    def prior(self, noise: Tensor) -> Tensor:
        """Return the first canvas, drawn by the backbone, and nothing of the others."""
        history = torch.full((max(1, self.plan.stable), self.plan.canvas), -1, dtype=torch.int64)
        self._rows = [_Row(copy.deepcopy(self._prototype), history.clone()) for _ in noise]
        return noise.long()

    def model_input(self, x: Tensor) -> Tensor:
        heads = torch.tensor([[row.canvas, row.before is not None] for row in self._rows], dtype=torch.float32)
        blank = torch.zeros(self.plan.canvas * self.plan.words)
        before = torch.stack([blank if row.before is None else row.before.flatten() for row in self._rows])
        return torch.cat([heads.to(x.device), x.float(), before.to(x.device)], dim=1)

    def estimate(self, x: Tensor, prediction: Tensor) -> Tensor:
        return self._filled(x, prediction.argmax(dim=-1))

    def draw_x0(self, x: Tensor, prediction: Tensor, uniform: Tensor) -> Tensor:
        levels = torch.softmax(prediction.double() / (self.plan.temperature or 1.0), dim=-1).cumsum(dim=-1)
        draws = []
        for number in range(uniform.shape[1]):
            target = uniform[:, number, : self.plan.canvas, None] * levels[..., -1:]
            found = torch.searchsorted(levels, target.contiguous(), right=True).squeeze(-1)
            draws.append(self._filled(x, found.clamp(max=self.plan.words - 1)))
        return torch.stack(draws, dim=1)

    def step(self, x: Tensor, prediction: Tensor, streams: Streams) -> Tensor:
        out = x.clone()
        for number, row in enumerate(self._rows):
            if not row.done:
                logits = prediction[number : number + 1].cpu()
                self._step_row(row, out[number], logits, streams.generators[number])
        self._index += 1
        return out

    def select(self, rows: Tensor, count: int) -> None:
        self._rows = [copy.deepcopy(self._rows[row]) for row in rows.tolist()]

    def _place(self, row: _Row) -> slice:
        begin = row.canvas * self.plan.canvas
        return slice(begin, begin + self.plan.canvas)

    def _filled(self, x: Tensor, tokens: Tensor) -> Tensor:
        out = x.clone()
        for number, row in enumerate(self._rows):
            if not row.done:
                out[number, self._place(row)] = tokens[number]
        return out

    def _step_row(self, row: _Row, written: Tensor, logits: Tensor, generator: torch.Generator) -> None:
        """Take one particle's step, as the pipeline's loop takes it for a batch of one."""
        plan, place = self.plan, self._place(row)
        options = {"mask_token_id": None, "temperature": plan.temperature, "generator": generator}
        result = row.scheduler.step(
            model_output=logits, timestep=row.step, sample=written[place].cpu()[None], return_dict=True,
            **{name: value for name, value in options.items() if name in self._keywords},
        )  # fmt: skip
        canvas, shaped = result.prev_sample[0], result.pred_logits
        row.before, row.step = shaped[0], row.step + 1
        ready = row.step >= plan.steps
        if plan.confident is not None:
            likeliest = shaped[0].argmax(dim=-1)
            stable = bool((row.history == likeliest).all())
            row.history = torch.cat([row.history[1:], likeliest[None]])
            entropy = torch.distributions.Categorical(logits=shaped[0].float()).entropy().mean()
            if stable and bool(entropy < plan.confident):
                canvas, ready = likeliest, True
        written[place] = canvas.to(written.device)
        if ready:
            ended = plan.end is not None and bool((canvas == plan.end).any())
            row.done = ended or row.canvas + 1 >= plan.canvases
            if not row.done:
                row.canvas += 1
                fresh = torch.randint(0, plan.words, (1, plan.canvas), generator=generator)[0]
                written[self._place(row)] = fresh.to(written.device)
                row.step, row.before = 0, None
                row.history = torch.full_like(row.history, -1)
