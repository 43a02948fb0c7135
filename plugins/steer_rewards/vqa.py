"""VQAScore (Lin et al. 2024, arXiv 2404.01291): P("Yes") to "Does this figure show …?".

The answer comes from CLIP-FlanT5, which the paper trained for this, or any image-text-to-text model of transformers.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from steer import Field, Options, Prompt, Reward, SteerError
from steer.plugin import locate
from steer_rewards import catalog
from steer_rewards.clip_flant5 import ClipFlanT5, is_clip_flant5
from steer_rewards.image_text import ImageText

TOKENIZER = "tokenizer.json"


class VqaOptions(Options):
    """Options of ``vqa``."""

    model: str = Field(
        "xl",
        description="Model to use if the reward names none: xl or xxl of CLIP-FlanT5, ORG/MODEL of the hub, or a "
        "folder with either kind of model.",
    )
    weights: str | None = Field(None, description="Local folder with the model's files.")
    tokenizer: str | None = Field(
        None,
        description="Local tokenizer.json of Flan-T5, for CLIP-FlanT5 only; by default the one beside the weights.",
    )
    dtype: Literal["auto", "fp32", "bf16"] = Field(
        "auto",
        description="Precision of the model; auto is fp32 on the CPU, else bf16 as published. T5 overflows in fp16.",
    )


class Vqa(Reward):
    """P("Yes") that the image shows the prompt; 0…1, higher is better.

    Differentiable with CLIP-FlanT5, and with another model if its processor passes gradients.
    """

    differentiable = True
    Options = VqaOptions
    options: VqaOptions

    def prepare(self) -> None:
        """Load the model that ``argument`` or the option ``model`` names."""
        if self.dtype == torch.float16:
            raise SteerError("vqa cannot run in fp16, because T5 overflows; expected bf16 or fp32")
        precision = self.dtype or _precision(self.options.dtype, self.device)
        name = self.argument if self.argument is not None else self.options.model
        owner = f"vqa:{name}"
        folder = Path(name).expanduser()
        if name in catalog.CLIP_FLANT5 or not folder.is_dir():
            folder = locate(catalog.vqa(name)[0], owner=owner, given=self.options.weights)
        elif self.options.weights is not None:
            raise SteerError(f"got both {owner} and -o vqa.weights={self.options.weights}; give one of the two")
        self.backend: ClipFlanT5 | ImageText
        if is_clip_flant5(folder):
            tokenizer = folder / TOKENIZER
            if self.options.tokenizer is not None or not tokenizer.is_file():
                tokenizer = locate(catalog.flan_t5(name), owner=owner, given=self.options.tokenizer)
            self.backend = ClipFlanT5(folder, tokenizer, self.device, precision)
        else:
            if self.options.tokenizer is not None:
                raise SteerError(f"vqa.tokenizer is for CLIP-FlanT5, but {folder} has its own; remove the option")
            self.backend = ImageText(folder, self.device, precision)
        self.model, self.differentiable = self.backend.model, self.backend.differentiable

    def __call__(self, samples: Tensor, prompts: Sequence[Prompt | str]) -> Tensor:
        return self.backend.score(samples, [str(prompt) for prompt in prompts]).to(samples.device)


def _precision(name: str, device: torch.device) -> torch.dtype:
    if name == "auto":
        return torch.float32 if device.type == "cpu" else torch.bfloat16
    return torch.float32 if name == "fp32" else torch.bfloat16
