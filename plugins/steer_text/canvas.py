"""Block diffusion by canvases (DiffusionGemma): denoise a canvas of random tokens, append it, and begin the next."""

import copy
import inspect
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from steer.plugin import Streams
from steer_text.process import OwnPace, drawn

UNWRITTEN = -1
"""Value in ``x`` for tokens of canvases that have not begun."""


@dataclass(frozen=True)
class Plan:
    """Settings of the denoising; as in diffusers' ``DiffusionGemmaPipeline.__call__``.

    Attributes:
        canvas: tokens per canvas.
        canvases: number of canvases.
        steps: most denoising steps per canvas.
        words: size of the vocabulary.
        end: the end token's number; a canvas that has it is the last. ``None`` writes all canvases.
        temperature: of the draws, for schedulers that take one.
        stable: steps for which the likeliest tokens must not change before a canvas can end early.
        confident: mean entropy per token, in nats, below which a canvas can end early; ``None`` takes all steps.
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
    """One particle: its canvas, its step there, its scheduler, its last prediction, and whether it is done."""

    scheduler: Any
    history: Tensor
    canvas: int = 0
    step: int = 0
    before: Tensor | None = None
    done: bool = False


class CanvasDiffusion(OwnPace):
    """Canvases one after another as a :class:`steer.processes.Process`, for particles of one prompt.

    States are int64 ``[N, canvases·canvas]``, :data:`UNWRITTEN` for canvases that have not begun. Each particle goes at
    its own pace, as in a batch of one, with its own scheduler. The model conditions on its last prediction. Its input
    is fp32 ``[N, 2 + canvases·canvas + canvas·words]``: the number of the canvas, whether there is a last prediction,
    the tokens, and that prediction. Predictions are logits of the canvas, ``[N, canvas, words]``.
    """

    stochastic = True  # canvases begin with random tokens and are noised again at each step

    def __init__(self, scheduler: Any, plan: Plan) -> None:
        """Args: scheduler: a fresh one whose steps are set; plan: the settings."""
        self._prototype, self.plan = scheduler, plan
        self.most = plan.steps * plan.canvases
        self._keywords = set(inspect.signature(scheduler.step).parameters)
        self._rows: list[_Row] = []

    def prior(self, noise: Tensor) -> Tensor:
        """Return the first canvas, drawn by the backbone; the others are unwritten."""
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
        tokens = drawn(prediction, self.plan.temperature or 1.0, uniform)
        return torch.stack([self._filled(x, draw) for draw in tokens], dim=1)

    def step(self, x: Tensor, prediction: Tensor, streams: Streams) -> Tensor:
        out = x.clone()
        for number, row in enumerate(self._rows):
            if not row.done:
                logits = prediction[number : number + 1].cpu()
                self._step_row(row, out[number], logits, streams.generators[number])
        self.index += 1
        return out

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
        """Take one particle's step, like the pipeline's loop with a batch of one."""
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
