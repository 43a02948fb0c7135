"""The GAN on images: a network that tells decoded samples from real images, and whether they show their captions."""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from steer_dmd2.train import losses

GRID = 16
"""Most cells along the shorter side at which images are judged."""
WIDTH, MOST = 24, 192
"""Channels after the first convolution, which double with every further one that halves the side, and their limit."""
BLOCKS = 4
PENALTY = 1.2e-5
"""Weight of the gradient penalty by the number of pixels, as StyleGAN2-ADA chooses it (arXiv 2006.06676, app. C)."""
PENALIZED = 4
"""The gradient penalty is taken in every so many updates (StyleGAN2, arXiv 1912.04958, app. B)."""


class Discriminator(nn.Module):
    """Images and their captions' tokens to two kinds of logits.

    *Local* ones say for each place whether its surroundings look real. *Global* ones say whether the image as a whole
    is real and shows its caption: cells attend to the tokens, then to each other.
    """

    def __init__(self, size: tuple[int, int], text_width: int, trunk: nn.Module | None = None) -> None:
        """Make the network.

        Args:
            size: width and height of the images.
            text_width: D of the tokens.
            trunk: maps images in [0, 1] to features ``[B, C, h, w]``, with C a multiple of 4, and is trained on; by
                default convolutions that know nothing yet.
        """
        super().__init__()
        self.trunk = nn.Sequential(trunk or _convolutions(size), nn.SiLU())
        with torch.no_grad():
            _, width, *grid = self.trunk(torch.zeros(1, 3, size[1], size[0])).shape
        deep = 2 * width
        self.local = nn.Sequential(nn.Conv2d(width, width, 3, padding=1), nn.SiLU(), nn.Conv2d(width, 1, 1))
        self.halve = nn.Sequential(nn.Conv2d(width, deep, 4, 2, 1), nn.GroupNorm(8, deep), nn.SiLU())
        self.place = nn.Parameter(torch.randn(1, math.prod(side // 2 for side in grid), deep) * 0.02)
        self.to_text = nn.MultiheadAttention(deep, 4, kdim=text_width, vdim=text_width, batch_first=True)
        self.to_cells = nn.MultiheadAttention(deep, 4, batch_first=True)
        self.mix = nn.Sequential(nn.Linear(deep, 2 * deep), nn.SiLU(), nn.Linear(2 * deep, deep))
        self.norms = nn.ModuleList(nn.LayerNorm(deep) for _ in range(3))
        self.out = nn.Linear(deep, 1)

    def forward(self, images: Tensor, text: Tensor) -> tuple[Tensor, Tensor]:
        """Return local logits ``[B, cells]`` and global ones ``[B]``.

        Args:
            images: ``[B, 3, H, W]`` in [0, 1].
            text: tokens of the captions, ``[B, N, D]``.
        """
        features = self.trunk(images)
        local = self.local(features).flatten(1)
        cells = self.halve(features).flatten(2).transpose(1, 2) + self.place
        with sdpa_kernel(SDPBackend.MATH):  # the others' gradients have none, which the penalty needs
            cells = cells + self.to_text(self.norms[0](cells), text, text, need_weights=False)[0]
            normed = self.norms[1](cells)
            cells = cells + self.to_cells(normed, normed, normed, need_weights=False)[0]
        cells = cells + self.mix(self.norms[2](cells))
        return local, self.out(F.silu(cells.mean(1))).flatten()


def _convolutions(size: tuple[int, int]) -> nn.Sequential:
    """Return convolutions that halve the image's side until it has :data:`GRID` cells, and blocks at that size."""
    halvings = max(0, math.ceil(math.log2(min(size) / GRID)))
    layers: list[nn.Module] = [nn.Conv2d(3, WIDTH, 4, 2, 1) if halvings else nn.Conv2d(3, WIDTH, 3, padding=1)]
    width = WIDTH
    for _ in range(halvings - 1):
        layers += [nn.SiLU(), nn.Conv2d(width, min(2 * width, MOST), 4, 2, 1)]
        width = min(2 * width, MOST)
    return nn.Sequential(_Centered(), *layers, *(_Block(width) for _ in range(BLOCKS)))


class _Centered(nn.Module):
    def forward(self, images: Tensor) -> Tensor:
        """Return images of [0, 1] in [-1, 1]."""
        return 2 * images - 1


class _Block(nn.Module):
    """Two convolutions with a residual connection; the second is dilated by 2."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.GroupNorm(8, width), nn.SiLU(), nn.Conv2d(width, width, 3, padding=1),
            nn.GroupNorm(8, width), nn.SiLU(), nn.Conv2d(width, width, 3, padding=2, dilation=2),
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        """``[B, width, h, w]`` to the same shape."""
        out: Tensor = x + self.layers(x)
        return out


def fool(
    discriminator: Discriminator, latents: Tensor, text: Tensor, decode: Callable[[Tensor], Tensor], at_once: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the student's loss on its decoded samples, its gradient by the samples, and the images.

    Gradients reach no weight, and no graph is left.

    Args:
        latents: the samples, ``[B, …]``.
        text: tokens of their captions, ``[B, N, D]``.
        decode: latents to images in [0, 1].
        at_once: samples to decode together.
    """
    values, gradients, images = [], [], []
    with frozen(discriminator.parameters()):
        for part, tokens in zip(latents.detach().float().split(at_once), text.split(at_once), strict=True):
            part.requires_grad_()
            shown = decode(part)
            local, whole = discriminator(shown, tokens)
            value = losses.adversarial_student(local) + losses.adversarial_student(whole)
            value = value * len(part) / len(latents)
            gradients.append(torch.autograd.grad(value, part)[0])
            values.append(value.detach())
            images.append(shown.detach())
    return torch.stack(values).sum(), torch.cat(gradients), torch.cat(images)


@dataclass(frozen=True)
class Captioned:
    """Images and their captions.

    Attributes:
        images: ``[B, 3, H, W]`` in [0, 1].
        captions: B texts.
        tokens: of the captions, ``[B, N, D]``.
    """

    images: Tensor
    captions: Sequence[str]
    tokens: Tensor


def tell_apart(discriminator: Discriminator, real: Captioned, fake: Captioned, *, penalized: bool) -> dict[str, Tensor]:
    """Return the discriminator's losses on real images, the student's, and real ones with the next one's caption.

    Args:
        penalized: whether the gradient penalty is added, weighted for all of :data:`PENALIZED` updates.
    """
    images = real.images.detach().requires_grad_(penalized)
    local, whole = discriminator(images, real.tokens)
    fake_local, fake_whole = discriminator(fake.images, fake.tokens)
    fakes = [fake_whole]
    following = [*real.captions[1:], *real.captions[:1]]
    untrue = [row for row, (own, other) in enumerate(zip(real.captions, following, strict=True)) if own != other]
    if untrue:
        fakes.append(discriminator(images.detach()[untrue], real.tokens.roll(-1, 0)[untrue])[1])
    loss = losses.adversarial_critic(local, fake_local) + losses.adversarial_critic(whole, *fakes)
    found = {"discriminator": loss, "told_apart": ((whole > 0).float().mean() + (fake_whole < 0).float().mean()) / 2}
    if penalized:
        loss = loss + PENALIZED * gradient_penalty(local, whole, images)
    return {"loss": loss, **found}


def gradient_penalty(local: Tensor, whole: Tensor, images: Tensor) -> Tensor:
    """Return R1 (arXiv 1801.04406, eq. 9): half the squared gradient of real images' logits by their pixels, weighted.

    Args:
        local, whole: logits of :class:`Discriminator`.
        images: ``[B, 3, H, W]``, with gradient.
    """
    (gradient,) = torch.autograd.grad(local.mean(1).sum() + whole.sum(), images, create_graph=True)
    pixels = images.shape[-2] * images.shape[-1]
    return 0.5 * PENALTY * pixels * gradient.square().flatten(1).sum(1).mean()


def scale_of(weight: float, main: Tensor, added: Tensor) -> Tensor:
    """Return the factor that makes one gradient ``weight`` times as long as another (arXiv 2012.09841, eq. 7)."""
    scale: Tensor = weight * main.float().norm() / added.float().norm().clamp(min=1e-12)
    return scale


@contextmanager
def frozen(parameters: Iterable[nn.Parameter]) -> Iterator[None]:
    """Compute no gradients of parameters; they still flow through the parameters' outputs."""
    trained = [parameter for parameter in parameters if parameter.requires_grad]
    for parameter in trained:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in trained:
            parameter.requires_grad_(True)
