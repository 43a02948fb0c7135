"""Block-wise refinement (LLaDA2): block after block, tokens are fixed once the model is confident of them."""

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
class _Row:
    """One particle: its block, its tail, its steps there with and without masks, and whether it is done."""

    block: int
    tail: Tensor
    step: int = 0
    edits: int = 0
    done: bool = False


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
        self._rows: list[_Row] = []

    @property
    def stochastic(self) -> bool:
        return bool(self.plan.keywords.get("temperature"))

    def prior(self, noise: Tensor) -> Tensor:
        """Return only masks; the noise has no effect."""
        tail = torch.full((self.plan.tail,), self.plan.mask, dtype=torch.int64, device=noise.device)
        self._rows = [_Row(self.plan.first, tail) for _ in noise]
        return torch.full(noise.shape, self.plan.mask, dtype=torch.int64, device=noise.device)

    def model_input(self, x: Tensor) -> Tensor:
        heads = torch.tensor([[block, self.plan.length] for block in self._blocks], device=x.device)
        return torch.cat([heads, x, torch.stack([row.tail for row in self._rows])], dim=1)

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
        out = x.clone()
        for number, row in enumerate(self._rows):
            if not row.done:  # one by one, with its own stream and as many steps as in a batch of one
                whole = torch.cat([self.plan.prompt.cpu(), out[number].cpu(), row.tail.cpu()])[None]
                self._step_row(row, whole, prediction[number : number + 1].cpu(), streams.generators[number])
                written = whole[0, len(self.plan.prompt) :].to(x.device)
                out[number], row.tail = written[: self.plan.length], written[self.plan.length :]
        self.index += 1
        return out

    @property
    def _blocks(self) -> list[int]:
        """Each particle's current block; the last block if it is done."""
        return [min(row.block, self.plan.blocks - 1) for row in self._rows]

    def _filled(self, x: Tensor, tokens: Tensor) -> Tensor:
        """Return x with the masks of each particle's block replaced by tokens ``[N, block]``."""
        out = x.clone()
        for number, block in enumerate(self._blocks):
            if not self._rows[number].done:
                begin = block * self.plan.block - len(self.plan.prompt)
                part = out[number, max(0, begin) : begin + self.plan.block]
                offset = max(0, -begin)
                new = tokens[number, offset : offset + len(part)]
                part.copy_(torch.where(part == self.plan.mask, new, part))
        return out

    def _step_row(self, row: _Row, whole: Tensor, logits: Tensor, generator: torch.Generator) -> None:
        """Take one particle's step in ``whole`` (prompt, text and tail, ``[1, blocks·block]`` on the CPU), like the
        pipeline's loop with a batch of one."""
        plan = self.plan
        begin = row.block * plan.block
        end = begin + plan.block
        tokens = whole[:, begin:end].clone()
        masked = bool((tokens == plan.mask).any())
        row.edits += not masked
        given = torch.arange(begin, end) < len(plan.prompt)
        result = self._scheduler.step(
            model_output=logits, timestep=row.step, sample=tokens, mask_token_id=plan.mask,
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
        row.step += masked
        goes_on = self._scheduler.check_block_should_continue(
            step_idx=row.step, masks_remaining=masked, editing_enabled=plan.editing,
            editing_transfer_index=result.editing_transfer_index, post_steps=row.edits,
            max_post_steps=plan.most_edits, finished=finished,
        )  # fmt: skip
        if not goes_on:
            row.block += 1
            row.step = row.edits = 0
            row.done = bool(finished) or row.block >= plan.blocks
