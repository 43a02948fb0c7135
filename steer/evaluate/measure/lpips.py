"""LPIPS (Zhang et al. 2018, arXiv 1801.03924), version 0.1 with AlexNet: how different two images look."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from steer.errors import SteerError
from steer.evaluate.measure.weights import file_of
from steer.models.downloads.checkpoints import read_tensors
from steer.registry.declarations import Weights

ALEXNET = Weights(
    "torchvision", "alexnet-owt-7be5be79.pth", size=244_408_000, license="BSD-3-Clause",
    url="https://download.pytorch.org/models/alexnet-owt-7be5be79.pth",
)  # fmt: skip
HEADS = Weights(
    "richzhang/PerceptualSimilarity", "alex.pth", size=6_009, license="BSD-2-Clause",
    url="https://raw.githubusercontent.com/richzhang/PerceptualSimilarity/082bb24f84c091ea94de2867d34c4544f68e0963/"
    "lpips/weights/v0.1/alex.pth",
    sha256="df73285e35b22355a2df87cdb6b70b343713b667eddbda73e1977e0c860835c0",
)  # fmt: skip
ENDS = (1, 4, 7, 9, 11)
"""Layers of AlexNet after which features are compared: its five rectifiers."""
CHANNELS = (64, 192, 384, 256, 256)
SHIFT, SPREAD = (-0.030, -0.088, -0.188), (0.458, 0.448, 0.450)
"""Of the channels of images in [-1, 1]."""


class Lpips(nn.Module):
    """Compares images in features of AlexNet, each channel weighted by how much it matters to people."""

    def __init__(self) -> None:
        super().__init__()
        from torchvision.models import alexnet

        with torch.device("meta"):  # its classifier, which is most of it, is not needed
            self.net = alexnet(weights=None).features
        self.heads = nn.ParameterList([nn.Parameter(torch.zeros(1, size, 1, 1)) for size in CHANNELS])

    def forward(self, first: Tensor, second: Tensor) -> Tensor:
        """Return the distances ``[N]`` of images ``[N, 3, H, W]`` in [0, 1]."""
        total = torch.zeros(len(first), device=first.device)
        for head, a, b in zip(self.heads, self._features(first), self._features(second), strict=True):
            total = total + ((a - b).square() * head).sum(dim=1).mean(dim=(1, 2))
        return total

    def _features(self, images: Tensor) -> list[Tensor]:
        shift, spread = (torch.tensor(values, device=images.device).view(1, 3, 1, 1) for values in (SHIFT, SPREAD))
        x, found = (2 * images - 1 - shift) / spread, []
        for number, layer in enumerate(self.net):
            x = layer(x)
            if number in ENDS:
                found.append(x / (x.square().sum(dim=1, keepdim=True).sqrt() + 1e-10))
        return found


def load_lpips(net: str | None, heads: str | None, device: torch.device) -> Lpips:
    """Return the measure with its weights.

    Args:
        net: the user's file of AlexNet, as torchvision publishes it.
        heads: the user's file of the weights of channels.
        device: to compute on.

    Raises:
        SteerError: if weights cannot be read or do not fit.
    """
    made = Lpips()
    files = [
        file_of(needed, given, measure="lpips", option=option)
        for needed, given, option in ((ALEXNET, net, "--net"), (HEADS, heads, "--heads"))
    ]
    state: dict[str, Any] = {
        name.replace("features.", "net."): tensor
        for name, tensor in read_tensors(files[0]).items()
        if name.startswith("features.")
    }
    for name, tensor in read_tensors(files[1]).items():  # lin0.model.1.weight
        state[f"heads.{name[3:4]}"] = tensor
    try:
        made.load_state_dict(state, assign=True)
    except RuntimeError as error:
        reason = " ".join(str(error).split())[:160]
        raise SteerError(f"the weights in {files[0]} and {files[1]} are not those of LPIPS: {reason}") from None
    return made.to(device).eval().requires_grad_(False)
