"""Answers about images from any image-text-to-text model of transformers, by the probability of their first token.

It counts among all tokens, as VQAScore and Soft-TIFA define it for such models.
"""

import inspect
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from steer import SteerError
from steer.plugin import pictures, pretrained
from steer_rewards.clip_flant5 import ANSWER, QUESTION

log = logging.getLogger(__name__)

_PROBE = 64
"""Side in pixels of the image that tests whether a processor passes gradients."""


QUESTIONS = 4096
"""Questions whose form in the chat template is kept."""
PAIRS = 16
"""Pairs of image and question per forward pass, at most."""


class ImageText:
    """A model with its processor: images and questions in, probabilities of answers out.

    Attributes:
        differentiable: whether the model's own processor passes gradients; tested when the model is loaded.
    """

    def __init__(self, folder: Path, device: torch.device, dtype: torch.dtype) -> None:
        """Load from a folder in transformers' format; code in the repository is not run.

        Raises:
            SteerError: naming the folder, if transformers cannot load it, or its tokenizer has no "Yes".
        """
        self.folder, self.device = folder, device
        self.processor, self.model = _load(folder, device, dtype)
        self.dtype = dtype
        (self._yes,) = self.first_tokens([ANSWER])
        self._prompts: dict[str, str] = {}
        self.differentiable = True
        self.differentiable = self._passes_gradients()

    def score(self, samples: Tensor, texts: Sequence[str]) -> Tensor:
        """Return P("Yes") ``[N]`` that images ``[N, 3, H, W]`` in [0, 1] show texts."""
        return self._chances(samples, [QUESTION.format(text) for text in texts])[:, self._yes]

    def answers(self, samples: Tensor, rows: Sequence[int], questions: Sequence[str]) -> Tensor:
        """Return the probabilities ``[P, V]`` of the first token of each answer.

        Args:
            samples: images ``[N, 3, H, W]`` in [0, 1].
            rows: the image of each of the P questions.
            questions: P texts.
        """
        parts = []
        for start in range(0, len(rows), PAIRS):
            which = torch.tensor(rows[start : start + PAIRS], device=samples.device)
            parts.append(self._chances(samples[which], questions[start : start + PAIRS]))
        return torch.cat(parts)

    def first_tokens(self, spellings: Sequence[str]) -> list[int]:
        """Return the numbers of the first tokens of an answer's spellings, each once; unknown ones are left out.

        Raises:
            SteerError: if the tokenizer knows none.
        """
        tokenizer = self.processor.tokenizer
        ids = [tokenizer.encode(text, add_special_tokens=False)[:1] for text in spellings]
        found = sorted({int(token) for first in ids for token in first} - {tokenizer.unk_token_id})
        if not found:
            raise SteerError(f"the tokenizer in {self.folder} has no {spellings[0]!r}; copy all files of the model")
        return found

    def _chances(self, samples: Tensor, questions: Sequence[str]) -> Tensor:
        inputs = self._inputs(samples.to(self.device, torch.float32), questions)
        logits = self._encoded(inputs) if self.model.config.is_encoder_decoder else self._continued(inputs)
        return logits.float().softmax(dim=1)

    def _encoded(self, inputs: dict[str, Any]) -> Tensor:
        """Return the logits ``[N, V]`` of a decoder's first token."""
        start = torch.full((len(inputs["input_ids"]), 1), self._decoder_start(), device=self.device)
        logits: Tensor = self.model(**inputs, decoder_input_ids=start).logits
        return logits[:, 0]

    def _continued(self, inputs: dict[str, Any]) -> Tensor:
        """Return the logits ``[N, V]`` of the token after the question.

        Texts are padded on the right, where causal attention never looks, so no row depends on the others' lengths.
        """
        ids = inputs["input_ids"]
        last = inputs.get("attention_mask", torch.ones_like(ids)).sum(dim=1) - 1
        rows = torch.arange(len(ids), device=self.device)
        if "logits_to_keep" not in inspect.signature(self.model.forward).parameters:
            return torch.as_tensor(self.model(**inputs).logits[rows, last])
        kept, which = last.unique(return_inverse=True)  # logits of all positions would take gigabytes
        return torch.as_tensor(self.model(**inputs, logits_to_keep=kept).logits[rows, which])

    def _inputs(self, images: Tensor, questions: Sequence[str]) -> dict[str, Any]:
        found = self.processor(
            images=[[image] for image in (images if self.differentiable else pictures(images))],
            text=[self._prompt(question) for question in questions],
            images_kwargs={"do_rescale": False} if self.differentiable else {},
            text_kwargs={"padding": True, "padding_side": "right"}, common_kwargs={"return_tensors": "pt"},
        )  # fmt: skip
        return {
            name: value.to(self.device, self.dtype if value.is_floating_point() else None)
            if isinstance(value, Tensor)
            else value
            for name, value in found.items()
            if name != "labels"  # labels are for training; a loss over all tokens is not needed
        }

    def _prompt(self, question: str) -> str:
        """Return a question with its image, in the model's chat template if it has one."""
        if question not in self._prompts:
            if len(self._prompts) >= QUESTIONS:
                self._prompts.clear()
            if getattr(self.processor, "chat_template", None):
                content = [{"type": "image"}, {"type": "text", "text": question}]
                turn = [{"role": "user", "content": content}]
                how = {"add_generation_prompt": True, "enable_thinking": False}  # the first word is the answer
                self._prompts[question] = str(self.processor.apply_chat_template(turn, **how))
            else:
                self._prompts[question] = f"{getattr(self.processor, 'image_token', '') or ''}{question}"
        return self._prompts[question]

    def _decoder_start(self) -> int:
        for config in (self.model.generation_config, self.model.config, self.model.config.get_text_config()):
            start = getattr(config, "decoder_start_token_id", None)
            if start is not None:
                return int(start)
        raise SteerError(
            f"the model in {self.folder} has no decoder_start_token_id, so it cannot answer; use another model"
        )

    def _passes_gradients(self) -> bool:
        """Whether the processor computes on tensors; other processors get 8-bit pictures."""
        probe = torch.rand(1, 3, _PROBE, _PROBE, generator=torch.Generator().manual_seed(0)).to(self.device)
        try:
            with torch.enable_grad():
                inputs = self._inputs(probe.requires_grad_(), ["a probe"])
        except Exception:  # each processor raises its own; one that also rejects pictures raises at the first score
            log.debug("the processor in %s takes no tensors", self.folder, exc_info=True)
            return False
        return any(isinstance(value, Tensor) and value.requires_grad for value in inputs.values())


def _load(folder: Path, device: torch.device, dtype: torch.dtype) -> tuple[Any, Any]:
    model, processor = pretrained(
        "AutoModelForImageTextToText", "AutoProcessor", folder, "an image-text-to-text model",
        device=device, dtype=dtype,
    )  # fmt: skip
    if not hasattr(processor, "tokenizer"):
        raise SteerError(f"{folder} has no processor of images and texts; copy all files of the model")
    return processor, model
