"""DiffusionGemma as a backbone: diffusers' ``DiffusionGemmaPipeline``. Without methods, its samples are the same."""

import copy
import inspect
from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor

from steer import Prompt, SteerError
from steer.plugin import Conditioning, Encoded, Process, Streams, Texts
from steer_text.backbone import TextBackbone
from steer_text.canvas import UNWRITTEN, CanvasDiffusion, Plan


class DiffusionGemma(TextBackbone):
    """Prompts go through the processor's chat template; ``length`` counts the answer, in whole canvases.

    The context is encoded in every forward pass, not cached, so resampling particles moves no caches.
    """

    default_steps = 48
    packs_prompts: ClassVar[bool] = False
    """The number of steps depends on confidence."""

    def __init__(self, pipe: Any) -> None:
        super().__init__(pipe, pipe.model)
        self.tokenizer = getattr(pipe.processor, "tokenizer", pipe.processor)
        self.canvas = int(pipe.model.config.canvas_length)
        self.words = int(pipe.model.config.get_text_config(decoder=True).vocab_size)
        parameters = inspect.signature(type(pipe).__call__).parameters
        self._defaults = {name: parameter.default for name, parameter in parameters.items()}
        if getattr(pipe.scheduler.config, "corrector_steps", 0):
            raise SteerError(
                "DiffusionGemma with corrector steps is not supported; set the scheduler's corrector_steps=0"
            )

    def encode_one(self, prompt: Prompt, negative: str | None) -> Encoded:
        ids, _, _ = self.pipe._prepare_inputs(
            prompt=str(prompt), messages=None, image=None, add_generation_prompt=True
        )  # fmt: skip
        return {"prompt": ids.to(self.device)}, None

    def shape(self, settings: Mapping[str, Any]) -> tuple[int, ...]:
        return (-(-(settings["length"] or self._defaults["gen_length"]) // self.canvas) * self.canvas,)

    def noise(self, streams: Streams, shape: tuple[int, ...]) -> Tensor:
        """Return the tokens of the first canvas; the others are unwritten."""
        rows = torch.full((len(streams), *shape), float(UNWRITTEN))
        for number, generator in enumerate(streams.generators):
            rows[number, : self.canvas] = torch.randint(0, self.words, (1, self.canvas), generator=generator)[0].float()
        return rows.to(self.device)

    def process(self, settings: Mapping[str, Any], shape: tuple[int, ...]) -> Process:
        if settings["scheduler"] is not None:
            raise SteerError(f"scheduler {settings['scheduler']!r}: DiffusionGemma has its own; leave it out")
        scheduler, defaults = copy.deepcopy(self.scheduler), self._defaults
        takes_block = "block_length" in inspect.signature(scheduler.set_timesteps).parameters
        scheduler.set_timesteps(
            settings["steps"], device="cpu", **({"block_length": self.canvas} if takes_block else {})
        )
        heat = defaults["temperature"] if settings["temperature"] is None else float(settings["temperature"])
        plan = Plan(
            canvas=self.canvas, canvases=shape[0] // self.canvas, steps=settings["steps"], words=self.words,
            end=self.pipe.eos_token_id, temperature=heat, stable=defaults["stability_threshold"],
            confident=defaults["confidence_threshold"],
        )  # fmt: skip
        return CanvasDiffusion(scheduler, plan)

    def predict(self, denoiser: str, x: Tensor, timestep: Tensor, conditioning: Conditioning) -> Tensor:
        prompt = conditioning.cond["prompt"]
        heads, size = x[:, :2].long(), self.canvas * self.words
        tokens, before = x[:, 2:-size].long(), x[:, -size:].view(-1, self.canvas, self.words)
        out: list[Tensor | None] = [None] * len(x)
        for number, conditioned in heads.unique(dim=0).tolist():
            rows = (heads == torch.tensor([number, conditioned], device=x.device)).all(dim=1).nonzero().flatten()
            begin = number * self.canvas
            context = torch.cat([prompt[rows], tokens[rows, :begin]], dim=1)
            canvas = tokens[rows, begin : begin + self.canvas]
            logits = self._forward(denoiser, context, canvas, before[rows] if conditioned else None)
            for place, row in enumerate(rows.tolist()):
                out[row] = logits[place]
        return torch.stack([row for row in out if row is not None])

    def decode(self, x: Tensor) -> Texts:
        rows = [self._until_end(row) for row in x.tolist()]
        return Texts(self.pipe.processor.batch_decode(rows, skip_special_tokens=True))

    def pieces(self, x: Tensor) -> list[list[str | None]]:
        return [[str(self.tokenizer.decode([token])) for token in self._until_end(row)] for row in x.tolist()]

    def _forward(self, denoiser: str, context: Tensor, canvas: Tensor, before: Tensor | None) -> Tensor:
        from transformers import DynamicCache

        network: Any = self.denoisers[denoiser]
        count, length = context.shape
        cache = DynamicCache(config=network.config.get_text_config(decoder=True))
        places = torch.arange(length + self.canvas, device=context.device).unsqueeze(0)
        seen = torch.ones_like(context)
        network.model.encoder(
            input_ids=context, attention_mask=seen, past_key_values=cache, position_ids=places[:, :length]
        )
        visible = torch.ones(count, length + self.canvas, dtype=torch.bool, device=context.device)
        mask = network.model.decoder.create_diffusion_decoder_attention_mask(
            config=network.config, inputs_embeds=torch.empty((count, self.canvas, 0), device=context.device),
            past_key_values=cache, decoder_attention_mask=visible,
        )  # fmt: skip
        logits: Tensor = network(
            decoder_input_ids=canvas, past_key_values=cache, self_conditioning_logits=before,
            decoder_attention_mask=mask, decoder_position_ids=places[:, length:],
        ).logits.float()  # fmt: skip
        return logits

    def _until_end(self, row: list[int]) -> list[int]:
        """Cut a row at its first end token or first unwritten token."""
        stops = [row.index(token) for token in (self.pipe.eos_token_id, UNWRITTEN) if token in row]
        return row[: min(stops)] if stops else row
