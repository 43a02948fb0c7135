"""Block-wise refinement (LLaDA2): block after block, tokens are fixed once the model is confident of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from steer.plugin import Streams
from steer_text.process import OwnPace, drawn


@dataclass(frozen=True)
class Refinement:
    """Settings of the refinement; fields as in diffusers' ``LLaDA2Pipeline.__call__``.

    Attributes:
        prompt: int64 ``[P]``, the prompt's tokens, which do not change.
        length: tokens to write.
        block: tokens per block.
        steps: refinement steps per block until all its tokens are fixed.
        mask: the mask token's number.
        end: the end token's number; ``None`` writes the whole length.
        editing: whether fixed tokens may change.
        most_edits: refinement steps of a block after all its tokens are fixed.
        keywords: for the scheduler's ``step``.
    """

    prompt: Tensor
    length: int
    block: int
    steps: int
    mask: int
    end: int | None
    editing: bool
    most_edits: int
    keywords: Mapping[str, Any] = field(default_factory=dict)

    @property
    def blocks(self) -> int:
        """Number of blocks, including the prompt's."""
        return -(-(len(self.prompt) + self.length) // self.block)

    @property
    def first(self) -> int:
        """The first block with a token to write."""
        return len(self.prompt) // self.block

    @property
    def tail(self) -> int:
        """Tokens after the text that fill its last block and are not read."""
        return self.blocks * self.block - len(self.prompt) - self.length


@dataclass
class _Rows:
    """State of each particle: its block, its steps there with and without masks, whether it is done, its tail."""

    block: Tensor
    step: Tensor
    edits: Tensor
    done: Tensor
    tail: Tensor

    def take(self, rows: Tensor) -> _Rows:
        tail = self.tail[rows.to(self.tail.device)]
        return _Rows(self.block[rows], self.step[rows], self.edits[rows], self.done[rows], tail)


class BlockRefinement(OwnPace):
    """Diffusers' block-refinement scheduler as a :class:`steer.processes.Process`, for particles of one prompt.

    States are the tokens to write, int64 ``[N, length]``. Each particle goes through its blocks at its own pace, as in
    a batch of one. The model's input is ``[N, 2 + length + tail]``: the number of its block, the length, then the
    tokens. Predictions are logits of that block, ``[N, block, V]``. ``length`` is the number of steps if
    confidence saves none.
    """

    def __init__(self, scheduler: Any, plan: Refinement) -> None:
        """Args: scheduler: a fresh ``BlockRefinementScheduler`` with steps set; plan: settings."""
        self._scheduler, self.plan = scheduler, plan
        self.most = plan.steps * (plan.blocks - plan.first)
        self._rows: _Rows | None = None

    @property
    def done(self) -> bool:
        return self._rows is not None and bool(self._rows.done.all())

    @property
    def stochastic(self) -> bool:
        return bool(self.plan.keywords.get("temperature"))

    def prior(self, noise: Tensor) -> Tensor:
        """Return only masks; the noise has no effect."""
        count = len(noise)
        zeros = torch.zeros(count, dtype=torch.int64)
        done = torch.zeros(count, dtype=torch.bool)
        tail = torch.full((count, self.plan.tail), self.plan.mask, dtype=torch.int64, device=noise.device)
        self._rows = _Rows(zeros + self.plan.first, zeros.clone(), zeros.clone(), done, tail)
        return torch.full(noise.shape, self.plan.mask, dtype=torch.int64, device=noise.device)

    def model_input(self, x: Tensor) -> Tensor:
        length = torch.full((len(x), 1), self.plan.length, dtype=torch.int64, device=x.device)
        return torch.cat([self._block.to(x.device)[:, None], length, x, self._standing.tail], dim=1)

    def estimate(self, x: Tensor, prediction: Tensor) -> Tensor:
        """Return x with the likeliest tokens for the masks of each particle's block; later blocks stay masked."""
        return self._filled(x, prediction.argmax(dim=-1))

    def draw_x0(self, x: Tensor, prediction: Tensor, uniform: Tensor) -> Tensor:
        """Draw the masked tokens of each particle's block; later blocks stay masked."""
        heat = self.plan.keywords.get("temperature") or 0.0
        if heat == 0:
            return self.estimate(x, prediction).unsqueeze(1).expand(-1, uniform.shape[1], -1)
        return torch.stack([self._filled(x, tokens) for tokens in drawn(prediction, heat, uniform)], dim=1)

    def step(self, x: Tensor, prediction: Tensor, streams: Streams) -> Tensor:
        rows, out = self._standing, x.clone()
        for row in (~rows.done).nonzero().flatten().tolist():
            # one by one, with its own stream and as many steps as in a batch of one
            whole = self._whole(out[row], rows.tail[row])
            self._step_row(row, rows, whole, prediction[row : row + 1].cpu(), streams.generators[row])
            written = whole[0, len(self.plan.prompt) :].to(x.device)
            out[row], rows.tail[row] = written[: self.plan.length], written[self.plan.length :]
        self.index += 1
        return out

    def select(self, rows: Tensor, count: int) -> None:
        self._rows = self._standing.take(rows)

    @property
    def _standing(self) -> _Rows:
        if self._rows is None:
            raise RuntimeError("prior() makes the population first")
        return self._rows

    @property
    def _block(self) -> Tensor:
        """Each particle's current block; the last block if it is done."""
        return self._standing.block.clamp(max=self.plan.blocks - 1)

    def _whole(self, written: Tensor, tail: Tensor) -> Tensor:
        """Return prompt, text and tail of one particle, ``[1, blocks·block]`` on the CPU."""
        return torch.cat([self.plan.prompt.cpu(), written.cpu(), tail.cpu()])[None]

    def _filled(self, x: Tensor, tokens: Tensor) -> Tensor:
        """Return x with the masks of each particle's block replaced by tokens ``[N, block]``."""
        out = x.clone()
        for row, block in enumerate(self._block.tolist()):
            begin = block * self.plan.block - len(self.plan.prompt)
            part = out[row, max(0, begin) : begin + self.plan.block]
            offset = max(0, -begin)
            new = tokens[row, offset : offset + len(part)]
            part.copy_(torch.where((part == self.plan.mask) & ~self._standing.done[row], new, part))
        return out

    def _step_row(self, row: int, rows: _Rows, whole: Tensor, logits: Tensor, generator: torch.Generator) -> None:
        """Take one particle's step in ``whole``, like the pipeline's loop with a batch of one."""
        plan = self.plan
        begin = int(rows.block[row]) * plan.block
        end = begin + plan.block
        tokens = whole[:, begin:end].clone()
        masked = bool((tokens == plan.mask).any())
        rows.edits[row] += not masked
        given = torch.arange(begin, end) < len(plan.prompt)
        result = self._scheduler.step(
            model_output=logits, timestep=int(rows.step[row]), sample=tokens, mask_token_id=plan.mask,
            prompt_mask=given, generator=generator, **plan.keywords,
        )  # fmt: skip
        changed = result.transfer_index | result.editing_transfer_index
        whole[:, begin:end] = torch.where(changed, result.prev_sample, tokens)
        finished = torch.zeros(1, dtype=torch.bool)
        if plan.end is not None:
            finished = self._scheduler.check_eos_finished(
                cur_x=whole[:, :end], sampled_tokens=result.sampled_tokens, final_transfer=changed,
                finished=finished, eos_token_id=plan.end, mask_token_id=plan.mask, prompt_length=len(plan.prompt),
            )  # fmt: skip
        rows.step[row] += masked
        goes_on = self._scheduler.check_block_should_continue(
            step_idx=int(rows.step[row]), masks_remaining=masked, editing_enabled=plan.editing,
            editing_transfer_index=result.editing_transfer_index, post_steps=int(rows.edits[row]),
            max_post_steps=plan.most_edits, finished=finished,
        )  # fmt: skip
        if not goes_on:
            rows.block[row] += 1
            rows.step[row] = rows.edits[row] = 0
            rows.done[row] = bool(finished) or int(rows.block[row]) >= plan.blocks
