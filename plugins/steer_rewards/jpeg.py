"""How well an image compresses (Black et al. 2023, DDPO, arXiv 2305.13301): minus its JPEG size."""

from collections.abc import Sequence

import torch
from torch import Tensor

from steer import Field, Options, Prompt, Reward
from steer.plugin import image_bytes, pictures


class JpegOptions(Options):
    """Options of ``jpeg``."""

    quality: int = Field(95, ge=1, le=95, description="JPEG quality; the paper uses 95.")


class Jpeg(Reward):
    """Minus the JPEG size in kB (1000 bytes), below 0; the size grows with the image's area. Ignores the prompt."""

    needs_prompt = False
    Options = JpegOptions
    options: JpegOptions

    def __call__(self, samples: Tensor, prompts: Sequence[Prompt | str]) -> Tensor:
        quality = self.options.quality
        sizes = [len(image_bytes(picture, "JPEG", quality=quality)) for picture in pictures(samples.float())]
        return -torch.tensor(sizes, dtype=torch.float32, device=samples.device) / 1000
