"""LLaDA2 as a backbone: diffusers' ``LLaDA2Pipeline``, with the pipeline's own samples if no method is used."""

import copy
import inspect
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor

from steer import Prompt, SteerError
from steer.plugin import Conditioning, Encoded, Process, Texts
from steer_text.backbone import TextBackbone
from steer_text.block import BlockRefinement, Refinement

SHORT = 256
"""Default of ``length``, in tokens; the pipeline's own default of 2048 would surprise."""


class LLaDA2(TextBackbone):
    """Prompts go through the tokenizer's chat template, if it has one; ``length`` counts the answer.

    Thresholds and similar settings are the defaults of the pipeline's call; the block length is the scheduler's.
    """

    default_steps = 32
    packs_prompts: ClassVar[bool] = False
    """The start of the blocks depends on the prompt, and the number of steps on confidence."""

    def __init__(self, pipe: Any) -> None:
        super().__init__(pipe, pipe.model)
        self.tokenizer = pipe.tokenizer
        if pipe.mask_token_id is None:
            raise SteerError("the pipeline's tokenizer has no mask token: it cannot write by masked diffusion")
        self.mask: int = pipe.mask_token_id
        self._defaults = {
            name: parameter.default for name, parameter in inspect.signature(type(pipe).__call__).parameters.items()
        }

    def encode_one(self, prompt: Prompt, negative: str | None) -> Encoded:
        ids, real = self.pipe._prepare_input_ids(
            prompt=str(prompt), messages=None, input_ids=None, use_chat_template=True, add_generation_prompt=True,
            chat_template_kwargs=None,
        )  # fmt: skip
        return {"prompt": ids.to(self.device), "prompt_mask": real.to(self.device)}, None

    def shape(self, settings: Mapping[str, Any]) -> tuple[int, ...]:
        return (settings["length"] or SHORT,)

    def process(self, settings: Mapping[str, Any], shape: tuple[int, ...]) -> Process:
        raise TypeError("the process depends on the prompt: process_for() makes it")

    def process_for(self, settings: Mapping[str, Any], shape: tuple[int, ...], prompts: Sequence[Prompt]) -> Process:
        if settings["scheduler"] is not None:
            raise SteerError(f"scheduler {settings['scheduler']!r}: LLaDA2 has its own; leave it out")
        defaults, scheduler = self._defaults, copy.deepcopy(self.scheduler)
        block = int(scheduler.config.block_length)
        steps = min(settings["steps"], shape[0] // defaults["minimal_topk"])
        scheduler.set_timesteps(steps, device="cpu", block_length=block)
        heat = defaults["temperature"] if settings["temperature"] is None else float(settings["temperature"])
        names = ("top_p", "top_k", "sampling_method", "threshold", "editing_threshold", "minimal_topk")
        editing = defaults["editing_threshold"]
        plan = Refinement(
            prompt=self._encode_cached(prompts[0], None)[0]["prompt"][0], length=shape[0], block=block, steps=steps,
            mask=self.mask, end=self.pipe.eos_token_id,
            editing=editing is not None and editing > 0, most_edits=defaults["max_post_steps"],
            keywords={**{name: defaults[name] for name in names}, "temperature": heat},
        )  # fmt: skip
        return BlockRefinement(scheduler, plan)

    def predict(self, denoiser: str, x: Tensor, timestep: Tensor, conditioning: Conditioning) -> Tensor:
        """Return the logits ``[B, block, V]`` of each row's current block, from a window that ends with it."""
        network: Any = self.denoisers[denoiser]
        prompt, real = conditioning.cond["prompt"], conditioning.cond["prompt_mask"]
        blocks, length, block = x[:, 0], int(x[0, 1]), int(self.scheduler.config.block_length)
        tokens = torch.cat([prompt, x[:, 2:]], dim=1)
        seen = torch.zeros_like(tokens)
        seen[:, : prompt.shape[1]] = real
        seen[:, prompt.shape[1] : prompt.shape[1] + length] = 1
        places = torch.arange(tokens.shape[1], device=x.device).expand(len(x), -1)
        out: list[Tensor | None] = [None] * len(x)
        for number in blocks.unique().tolist():
            rows = (blocks == number).nonzero().flatten()
            end = (number + 1) * block
            window = {"attention_mask": seen[rows, :end], "position_ids": places[rows, :end]}
            logits = network(tokens[rows, :end], **window).logits[:, -block:].float()
            for place, row in enumerate(rows.tolist()):
                out[row] = logits[place]
        return torch.stack([row for row in out if row is not None])

    def decode(self, x: Tensor) -> Texts:
        rows = [[token for token in self._until_end(row) if token != self.mask] for row in x.tolist()]
        return Texts(self.tokenizer.batch_decode(rows, skip_special_tokens=True))

    def pieces(self, x: Tensor) -> list[list[str | None]]:
        return [
            [None if token == self.mask else str(self.tokenizer.decode([token])) for token in self._until_end(row)]
            for row in x.tolist()
        ]

    def _until_end(self, row: list[int]) -> list[int]:
        end = self.pipe.eos_token_id
        return row[: row.index(end)] if end in row else row
