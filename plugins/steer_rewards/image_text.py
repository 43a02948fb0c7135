"""P("Yes") from any image-text-to-text model of transformers, asked whether the image fits the prompt.

It is the probability of the answer's first token among all tokens, as VQAScore defines it for such models.
"""

import inspect
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from steer import SteerError
from steer.plugin import message_of, pictures
from steer_rewards.clip_flant5 import ANSWER, QUESTION

log = logging.getLogger(__name__)

_PROBE = 64
"""Side in pixels of the image that tests whether a processor passes gradients."""


class ImageText:
    """A model with its processor: images and texts in, P("Yes") out.

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
        self._yes = self._first_token()
        self._prompts: dict[str, str] = {}
        self.differentiable = True
        self.differentiable = self._passes_gradients()

    def score(self, samples: Tensor, texts: Sequence[str]) -> Tensor:
        """Return ``[N]`` for images ``[N, 3, H, W]`` in [0, 1]."""
        inputs = self._inputs(samples.to(self.device, torch.float32), texts)
        logits = self._encoded(inputs) if self.model.config.is_encoder_decoder else self._continued(inputs)
        return logits.float().softmax(dim=1)[:, self._yes]

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

    def _inputs(self, images: Tensor, texts: Sequence[str]) -> dict[str, Any]:
        found = self.processor(
            images=[[image] for image in (images if self.differentiable else pictures(images))],
            text=[self._prompt(text) for text in texts],
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

    def _prompt(self, text: str) -> str:
        """Return the question, in the model's chat template if it has one."""
        if text not in self._prompts:
            question = QUESTION.format(text)
            if getattr(self.processor, "chat_template", None):
                content = [{"type": "image"}, {"type": "text", "text": question}]
                turn = [{"role": "user", "content": content}]
                self._prompts[text] = str(self.processor.apply_chat_template(turn, add_generation_prompt=True))
            else:
                self._prompts[text] = f"{getattr(self.processor, 'image_token', '') or ''}{question}"
        return self._prompts[text]

    def _first_token(self) -> int:
        tokenizer = self.processor.tokenizer
        ids = tokenizer.encode(ANSWER, add_special_tokens=False)
        if not ids or ids[0] == tokenizer.unk_token_id:
            raise SteerError(f"the tokenizer in {self.folder} has no {ANSWER!r}; copy all files of the model")
        return int(ids[0])

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
    from transformers import AutoModelForImageTextToText, AutoProcessor

    try:
        processor = AutoProcessor.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
        model, report = AutoModelForImageTextToText.from_pretrained(
            folder, dtype=dtype, local_files_only=True, trust_remote_code=False, output_loading_info=True
        )
    except Exception as error:  # transformers raises errors of many classes
        reason = message_of(error, 200)
        raise SteerError(
            f"{folder} is not an image-text-to-text model that transformers can load ({type(error).__name__}: {reason})"
        ) from error
    problems = [
        f"{len(report[kind])} {what}: {', '.join(sorted(map(str, report[kind]))[:3])}"
        for kind, what in (("missing_keys", "missing"), ("mismatched_keys", "of another shape"))
        if report.get(kind)
    ]
    if problems:
        raise SteerError(f"the weights in {folder} do not fit the model: {'; '.join(problems)}")
    if not hasattr(processor, "tokenizer"):
        raise SteerError(f"{folder} has no processor of images and texts; copy all files of the model")
    return processor, model.to(device).eval().requires_grad_(False)
