"""HPS, the human preference score (Wu et al. 2023, arXiv 2306.09341; v2.1 is the same model trained on more data).

A CLIP ViT-H-14 fine-tuned on choices between images for one prompt; the score is the cosine of image and text. Images
are scaled by their longest side and padded with black to a square; a CLIP would crop them. Scores of v2.1 (``hps``) and
v2.0 (``hps:v2.0``) are not comparable.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from steer import Field, Options, Prompt, Reward, SteerError
from steer.plugin import locate, read_object
from steer_rewards import catalog, checkpoints
from steer_rewards.clip import CONFIG, embedder
from steer_rewards.embedding import PRECISION, Precision, precision

MODEL = "ViT-H-14"


class HpsOptions(Options):
    """Options of ``hps``."""

    weights: str | None = Field(
        None,
        description=f"Local file with the weights, or the folder that holds it; for a model other than {MODEL}, put "
        f"its {CONFIG} beside the file.",
    )
    dtype: Precision = Field("auto", description=PRECISION)


class Hps(Reward):
    """cos(image, text) of a CLIP trained on preferences; about 0.15–0.35, higher is better. Differentiable."""

    differentiable = True
    Options = HpsOptions
    options: HpsOptions

    def prepare(self) -> None:
        """Load the version that ``argument`` names: ``"v2.1"``, the default, or ``"v2.0"``.

        Raises:
            SteerError: for an unknown version, or if its weights are not available or do not fit.
        """
        (needed,) = catalog.hps(self.argument)
        owner = "hps" if self.argument is None else f"hps:{self.argument}"
        file = locate(needed, owner=owner, given=self.options.weights)
        dtype = self.dtype or precision(self.options.dtype, self.device)
        self.model, tokenizer = load(file, self.device, dtype)
        self.embedder = embedder("hps", self.model, tokenizer, self.device, dtype)

    def __call__(self, samples: Tensor, prompts: Sequence[Prompt | str]) -> Tensor:
        return self.embedder.cosine(samples, prompts)


def load(file: Path, device: torch.device, dtype: torch.dtype) -> tuple[Any, Any]:
    """Return model and tokenizer; the CLIP's weights before fine-tuning are not needed.

    Raises:
        SteerError: naming the file, if it is damaged or does not fit the model.
    """
    import open_clip

    config = _config(file.with_name(CONFIG))
    with checkpoints.described(file.with_name(CONFIG)), checkpoints.empty():
        model = open_clip.CLIP(**config)
    checkpoints.fill(model, file, key="state_dict", dtype=dtype, device=device)
    model.visual.preprocess_cfg = {
        "mean": open_clip.OPENAI_DATASET_MEAN,
        "std": open_clip.OPENAI_DATASET_STD,
        "resize_mode": "longest",
    }
    return model, open_clip.get_tokenizer(MODEL, context_length=model.context_length)


def _config(beside: Path) -> dict[str, Any]:
    import open_clip

    if not beside.is_file():
        return dict(open_clip.get_model_config(MODEL))
    config = read_object(beside, "config").get("model_cfg")
    if not isinstance(config, dict):
        raise SteerError(f"{beside} has no model_cfg; expected an open_clip configuration")
    return config
