"""How well an image compresses (Black et al. 2023, DDPO, arXiv 2305.13301): minus its JPEG size."""

import io
from collections.abc import Sequence

import torch
from PIL import Image
from torch import Tensor

from steer import Field, Options, Prompt, Reward


class JpegOptions(Options):
    """Options of ``jpeg``."""

    quality: int = Field(95, ge=1, le=95, description="JPEG quality; the paper uses 95.")


class Jpeg(Reward):
    """Minus the JPEG size in kB (1000 bytes), below 0; the size grows with the image's area. Ignores the prompt."""

    needs_prompt = False
    Options = JpegOptions
    options: JpegOptions

    def __call__(self, samples: Tensor, prompts: Sequence[Prompt | str]) -> Tensor:
        """Score images ``[N, 3, H, W]`` in [0, 1]."""
        pixels = (samples.detach().float() * 255).round().clamp(0, 255).to("cpu", torch.uint8).permute(0, 2, 3, 1)
        sizes = [_size(Image.fromarray(image.numpy()), self.options.quality) for image in pixels]
        return -torch.tensor(sizes, dtype=torch.float32, device=samples.device) / 1000


def _size(image: Image.Image, quality: int) -> int:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=quality)
    return buffer.tell()
