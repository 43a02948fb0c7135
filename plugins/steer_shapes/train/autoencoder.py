"""Stage 1: a KL autoencoder, 64x64x3 to 16x16x4."""

from contextlib import AbstractContextManager
from pathlib import Path

import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL
from torch import Tensor, nn

from steer.training import Draw

from .data import draw_images, save_sheet
from .stage import Recipe, Stage

RECIPE = Recipe(steps=1400, batch=24, rate=2e-3, warmup=50, ema=0.995)
KL_WEIGHT = 1e-4
PLAIN_SHARE = 0.45
"""Textures are the hardest part of an image, so the autoencoder trains on many of them."""


def build() -> nn.ModuleDict:
    """Return the untrained autoencoder; its parts are named as in diffusers."""
    vae = AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        block_out_channels=(32, 48, 64),
        layers_per_block=1,
        latent_channels=4,
        norm_num_groups=16,
        sample_size=64,
        scaling_factor=1.0,
        mid_block_add_attention=False,
    )
    return nn.ModuleDict({"vae": vae}).to(memory_format=torch.channels_last)


class AutoencoderStage(Stage):
    """Reconstruction (L1 + MSE, foreground weighted) with a small KL term."""

    name = "autoencoder"
    split = ("vae.encoder", "vae.decoder", "vae.quant_conv", "vae.post_quant_conv")
    build = staticmethod(build)

    def losses(self, draw: Draw) -> dict[str, Tensor]:
        """Return the loss, the plain squared error and the KL term of a batch of scenes."""
        images = draw_images(draw.rng, self.recipe.batch, PLAIN_SHARE).to(self.machine.device)
        vae: AutoencoderKL = self.modules["vae"]
        with self.machine.autocast():
            posterior = vae.encode(images).latent_dist
            latents = posterior.sample(draw.noise)
            output = vae.decode(latents).sample
        loss, squared = reconstruction(output.float(), images)
        divergence = posterior.kl().mean() / latents[0].numel()
        return {"loss": loss + KL_WEIGHT * divergence, "mse": squared, "kl": divergence}

    def sheet(self, path: Path) -> dict[str, float]:
        """Write a sheet of scenes and their reconstructions; return the squared error."""
        images = draw_images(Draw(self.recipe.seed, "autoencoder-sheet", 0).rng, 64, PLAIN_SHARE)
        vae: AutoencoderKL = self.averaged()["vae"]
        output = vae.decode(vae.encode(images).latent_dist.mean).sample
        save_sheet(torch.cat([images[:32], output[:32]]) / 2 + 0.5, path)
        return {"sheet_mse": float((output - images).square().mean())}


def reconstruction(output: Tensor, images: Tensor) -> tuple[Tensor, Tensor]:
    """Return the loss of a reconstruction ``[N, 3, 64, 64]`` in [-1, 1], L1 + MSE, and its plain squared error.

    Most of an image is background, which is easy to learn, so objects and their rims count more.
    """
    error = output - images
    near = F.max_pool2d((images.amax(1, keepdim=True) > -0.5).float(), 5, 1, 2)
    weight = (1 + 3 * near) / (1 + 3 * near).mean()
    return (weight * error.abs()).mean() + (weight * error.square()).mean(), error.square().mean()


@torch.no_grad()
def normalize(vae: AutoencoderKL, images: Tensor) -> AutoencoderKL:
    """Fold a per-channel affine into the 1x1 convolutions beside the latents.

    Afterwards the latents of ``images`` ([N, 3, 64, 64] in [-1, 1]) have mean 0 and standard
    deviation 1 in every channel, and reconstructions are unchanged. A pipeline then needs no
    latent statistics, and its scaling factor is 1.
    """
    posterior = vae.encode(images).latent_dist
    samples = posterior.mean + posterior.std * torch.randn(
        posterior.mean.shape, generator=torch.Generator().manual_seed(0)
    )
    mean, std = samples.mean((0, 2, 3)), samples.std((0, 2, 3))
    encode, decode = vae.quant_conv, vae.post_quant_conv
    channels = len(mean)
    encode.weight[:channels] /= std[:, None, None, None]
    encode.bias[:channels] = (encode.bias[:channels] - mean) / std
    encode.bias[channels:] -= 2 * std.log()
    decode.bias += (decode.weight[:, :, 0, 0] * mean).sum(1)
    decode.weight *= std[None, :, None, None]
    return vae


@torch.no_grad()
def reconstruct(vae: AutoencoderKL, images: Tensor, draw: Draw, autocast: AbstractContextManager[object]) -> Tensor:
    """Return images ``[N, 3, 64, 64]`` in [0, 1] decoded from noisy latents, like early estimates of clean images."""
    with autocast:
        latents = vae.encode(images.to(vae.device) * 2 - 1).latent_dist.mean
        latents = latents + float(draw.rng.uniform(0.0, 0.5)) * draw.normal(*latents.shape).to(vae.device)
        output: Tensor = vae.decode(latents).sample.float()
    return (output / 2 + 0.5).clamp(0, 1).to(images.device)
